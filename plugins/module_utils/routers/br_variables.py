# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role map_br is told: every variable read, checked by itself and beside the others, into one record."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from ..mapping import checks
from ..mapping.domain import parse_domains
from ..mapping.errors import Faults, MapError
from . import instance as instances
from .variables import Variables

FAST_PATH = {"auto": None, "true": True, "false": False}
FILE = re.compile(r"[^\x00-\x1f]+")
MSS = (536, 1460)  # bytes: what every IPv4 host takes (RFC 9293 section 3.7.1), and what Ethernet has room for
DSCP = (0, 63)  # RFC 2474
MEMORY = (4, 4096)  # MiB; Linux's own limit of 4 has a lower one beside it, below which it must not be
SECONDS = (1, 30)  # the programs know for 30 s whose datagram in fragments it is


@dataclass(frozen=True)
class BorderRelay:
    """The checked variables of a border relay. domains: of one transport, and with MAP-T of one DMR."""

    instance: str
    domains: list[dict[str, Any]]
    carriers: tuple[str, ...]
    ipv4_interface: str
    ipv6_interface: str
    ipv6_mtu: int
    internal_prefix: IPv6Network | None  # of MAP-T
    bpf_object: str
    fast_path: bool | None  # None: where nothing on the router has to see the packets; never with Jool
    mss: int | str  # bytes, "auto" (what fits the softwire) or "off"
    dscp: int | None  # of IPv6 headers towards the customer edges; None: that of IPv4
    reassembly_memory: int  # MiB, of each IP version; not with Jool
    reassembly_time: int  # seconds
    icmp_source: IPv4Address | None  # of errors; None: what the router chooses, and RFC 7600's dummy for those of IPv6 routers


def read(variables: Variables, instance: str | None, warn: Callable[[str], None] | None = None) -> BorderRelay:
    """The record of these variables. Raises MapError, with all faults at once.

    instance: its checked name. warn: gets a text for each thing that is legal but odd.
    """
    faults = variables.faults
    before = len(faults.found)
    domains = domains_of(variables.raw("domains"), faults, warn)
    if len(faults.found) > before:
        domains = []
    wanted = variables.get("translator", checks.choice, ("auto", *instances.TRANSLATORS))
    carriers: tuple[str, ...] = ()
    if domains and wanted:
        explicit = any(rule["psid"] is not None for domain in domains for rule in domain["rules"])
        carriers = faults.check(instances.carriers, "br", domains[0]["transport"], wanted, explicit)
    dscp = variables.get("dscp", _word_or_integer, ("copy",), *DSCP)
    if isinstance(dscp, int) and carriers:
        carriers = tuple(carrier for carrier in carriers if carrier not in instances.JOOL)
        if not carriers:
            variables.fault("dscp", dscp, "cannot be set with Jool, which loses DSCP; use map_br_translator: bpf, or copy")
    bpf_object = variables.optional("bpf_object", checks.text, FILE, "the path of a file on the controller") or ""
    if bpf_object and len(carriers) > 1:
        variables.fault("bpf_object", bpf_object, "has the programs of one translator; say which with map_br_translator")
    internal = variables.raw("internal_prefix")
    if domains and domains[0]["transport"] == "map-t":
        internal = _internal_prefix(variables, domains)
    record = BorderRelay(
        instance=instance,
        domains=domains,
        carriers=carriers,
        ipv4_interface=variables.required("ipv4_interface", checks.interface),
        ipv6_interface=variables.required("ipv6_interface", checks.interface),
        ipv6_mtu=variables.get("ipv6_mtu", checks.integer, 1280, 65535),
        internal_prefix=internal if isinstance(internal, IPv6Network) else None,
        bpf_object=bpf_object,
        fast_path=_fast_path(variables),
        mss=variables.get("mss", _word_or_integer, ("auto", "off"), *MSS),
        dscp=dscp if isinstance(dscp, int) else None,
        reassembly_memory=variables.get("reassembly_memory", checks.integer, *MEMORY),
        reassembly_time=variables.get("reassembly_time", checks.integer, *SECONDS),
        icmp_source=_icmp_source(variables, domains),
    )
    variables.refuse_unknown()
    faults.refuse()
    return record


def domains_of(written: Any, faults: Faults, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """The domains of one relay, checked; their faults are collected."""
    given = faults.check(checks.required, written, "map_br_domains")
    given = given and faults.check(checks.listed, given, "map_br_domains")
    if not given:
        return []
    placed = [(f"map_br_domains[{index}]", value) for index, value in enumerate(given)]
    empty = [path for path, value in placed if faults.check(checks.required, value, path) is None]
    domains = parse_domains([(path, value) for path, value in placed if path not in empty], faults, warn)
    if domains:
        _find_differences(domains, faults)
    return domains


def _find_differences(domains: list[dict[str, Any]], faults: Faults) -> None:
    """Collects what differs from the first domain and must not; a value of None has a fault of its own."""
    for key, reason in (
        ("transport", "a border relay serves one transport, so use an instance for each"),
        ("dmr", "a translator serves one DMR, so use one border relay for each"),
    ):
        first = domains[0][key]
        for index, domain in enumerate(domains):
            if domain[key] != first and None not in (domain[key], first):
                faults.add(f"map_br_domains[{index}].{key}", domain[key], f"differs from map_br_domains[0].{key}, {first}; {reason}")


def _fast_path(variables: Variables) -> bool | None:
    written = variables.raw("fast_path")
    name = variables.faults.check(checks.choice, str(written).lower() if isinstance(written, bool) else written, "map_br_fast_path", tuple(FAST_PATH))
    return FAST_PATH.get(name)


def _word_or_integer(value: Any, path: str, words: tuple[str, ...], low: int, high: int) -> str | int:
    """One of some words, or an integer from low to high. YAML reads the word off as false."""
    word = "off" if value is False else value
    if word in words:
        return str(word)
    try:
        return checks.integer(value, path, low, high)
    except MapError:
        raise MapError(path, value, f"must be {' or '.join(words)}, or an integer between {low} and {high}") from None


def _icmp_source(variables: Variables, domains: list[Mapping[str, Any]]) -> IPv4Address | None:
    """The source of ICMP errors: an address that a host can have, and no customer edge has."""
    source = variables.optional("icmp_source", checks.address, 4)
    if source is None:
        return None
    if source.packed[0] in (0, 127) or source.packed[0] >= 224:
        variables.fault("icmp_source", str(source), "is no address that a host on the internet can have; give one of the operator's own",
                        "RFC 1812 section 5.3.7")
    for index, domain in enumerate(domains):
        for place, rule in enumerate(domain["rules"]):
            if source in ipaddress.ip_network(rule["ipv4_prefix"]):
                variables.fault("icmp_source", str(source), f"lies in {rule['ipv4_prefix']} of map_br_domains[{index}].rules[{place}], "
                                "whose addresses are the customer edges'; give another one of the operator's own")
    return source


def _internal_prefix(variables: Variables, domains: list[Mapping[str, Any]]) -> IPv6Network | None:
    """The /96 that stands for the CEs between translator and programs; nobody else may use it."""
    internal = variables.get("internal_prefix", checks.prefix, 6)
    if internal is None:
        return None
    if internal.prefixlen != 96 or internal.network_address.packed[8]:
        variables.fault("internal_prefix", str(internal), "must be a /96 with bits 64 to 71 zero", "RFC 6052 section 2.2")
    taken = {f"the DMR {domains[0]['dmr']}": domains[0]["dmr"]}
    taken.update({f"the rule {rule['ipv6_prefix']}": rule["ipv6_prefix"] for domain in domains for rule in domain["rules"]})
    for what, prefix in taken.items():
        if internal.overlaps(ipaddress.ip_network(prefix)):
            variables.fault("internal_prefix", str(internal), f"overlaps {what}; it must be a prefix that nobody uses")
    return internal
