# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what people write in an inventory to a valid domain; the form of one is in arithmetic.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from . import conflicts
from .arithmetic import psid_length_of
from .checks import boolean, choice, integer, is_list, mapping, prefix, unicast_ipv6
from .errors import Faults, MapError, join_path

DEFAULT_PSID_OFFSET = {"rfc7597": 6, "draft03": 4}
DMR_LENGTHS = (32, 40, 48, 56, 64, 96)

DOMAIN_KEYS = ("transport", "interface_id", "br_address", "dmr", "rules")
RULE_KEYS = ("ipv6_prefix", "ipv4_prefix", "ea_length", "psid_offset", "psid_length", "psid", "fmr")

ALGORITHM = "RFC 7597 section 5"
PORTS = "RFC 7597 section 5.1"
BMR = "RFC 7597 section 5.2"
BR_ADDRESS = "RFC 7597 section 5.4"
DMR = "RFC 7599 section 5.1"
IPV4_EMBEDDED = "RFC 6052 section 2.2"
EXPLICIT_PSID = "RFC 7598 section 4.5"
# Addresses that no customer can have, by RFC 6890 and RFC 4291.
SPECIAL = {
    ip_network(text): what for text, what in (
        ("0.0.0.0/8", "this network"), ("127.0.0.0/8", "loopback"), ("169.254.0.0/16", "link-local"), ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"), ("::/8", "reserved"), ("fe80::/10", "link-local"), ("ff00::/8", "multicast"))}


def parse_domain(value: Any, path: str = "", warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The domain a person wrote, checked, with every default filled in and addresses in canonical form.

    path: where the domain stands, such as "map_domain"; it precedes the paths in errors.
    warn: gets a text for each thing that is legal but odd.
    Keys that are null count as not set, so a result of this function passes through it unchanged.
    Raises MapError; MapErrors with all of them where there are several faults.
    """
    faults = Faults()
    domain, = parse_domains([(path, value)], faults, warn)
    faults.refuse()
    return domain


def parse_domains(written: list[tuple[str, Any]], faults: Faults, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Like parse_domain, for all domains that one border relay serves; written: [(path, value)].

    Collects the faults. Only where there is none, each domain in the result is whole.
    """
    domains = [_domain(value, path, faults) for path, value in written]
    rules = []
    for (path, _value), domain in zip(written, domains):
        own = [(f"{join_path(path, 'rules')}[{index}]", rule) for index, rule in enumerate(domain["rules"]) if rule]
        if domain["dmr"]:
            conflicts.find_in_dmr(domain["dmr"], join_path(path, "dmr"), own, faults)
        rules += own
    conflicts.find(rules, faults)
    if warn and not faults.found:
        for (path, _value), domain in zip(written, domains):
            for text in conflicts.oddities(domain, path):
                warn(text)
    return domains


def _domain(value: Any, path: str, faults: Faults) -> dict[str, Any]:
    """A domain, each of its rules checked by itself. What is wrong is collected, and None in the result."""
    domain = {"transport": None, "interface_id": None, "br_address": None, "dmr": None, "rules": []}
    if isinstance(value, Mapping) and value.get("transport") == "lw4o6":
        reason = "lightweight 4over6 is not MAP: it has a binding for each customer edge, no rules; use map-e or map-t"
        faults.add(join_path(path, "transport"), "lw4o6", reason, "RFC 7596")
        return domain
    fields = mapping(value, path, DOMAIN_KEYS, "a MAP domain", faults)
    if fields is None:
        return domain
    domain["transport"] = faults.check(choice, fields.get("transport"), join_path(path, "transport"), ("map-e", "map-t"))
    domain["interface_id"] = faults.check(interface_id_of, fields, path)
    if domain["transport"] == "map-e":
        domain["br_address"] = faults.check(br_addresses, fields, path)
    elif domain["transport"] == "map-t":
        domain["dmr"] = faults.check(_dmr, fields, path)
    rules_path = join_path(path, "rules")
    written = fields.get("rules")
    if not is_list(written) or not written:
        faults.add(rules_path, written, "must be a list of at least one rule", ALGORITHM)
        return domain
    # With a wrong interface_id the default is unknown; 0 is no fault with any PSID length.
    offset = DEFAULT_PSID_OFFSET.get(domain["interface_id"], 0)
    domain["rules"] = [_rule(rule, f"{rules_path}[{index}]", offset, faults) for index, rule in enumerate(written)]
    return domain


def interface_id_of(fields: Mapping[str, Any], path: str = "") -> str:
    """The layout of the interface identifier, rfc7597 unless it is set. Raises MapError."""
    return choice(fields.get("interface_id", "rfc7597"), join_path(path, "interface_id"), tuple(DEFAULT_PSID_OFFSET))


def refuse_no_port(psid_offset: int, psid_length: int, path: str) -> None:
    """Raises MapError where a PSID offset and a PSID length (bits) leave no bit to a port; path: of the offset (RFC 7597 section 5.1)."""
    if psid_offset + psid_length > 16:
        reason = f"leaves no port: with the PSID length {psid_length} it must be at most {16 - psid_length}"
        raise MapError(path, psid_offset, reason, PORTS)


def br_addresses(fields: Mapping[str, Any], path: str) -> list[str]:
    """The BR addresses of a MAP-E or lightweight 4over6 domain; people write one as a string or several as a list."""
    if "dmr" in fields:
        reason = "is for transport map-t only: remove it, or set transport to map-t"
        raise MapError(join_path(path, "dmr"), fields["dmr"], reason, DMR)
    path = join_path(path, "br_address")
    written = fields.get("br_address")
    if not written:
        raise MapError(path, written, f"is required for transport {fields['transport']}: the IPv6 address of the BR", BR_ADDRESS)
    if not is_list(written):
        return [str(unicast_ipv6(written, path, BR_ADDRESS))]
    addresses = [str(unicast_ipv6(item, f"{path}[{index}]", BR_ADDRESS)) for index, item in enumerate(written)]
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise MapError(f"{path}[{index}]", address, f"is the same address as {path}[{addresses.index(address)}]")
    return addresses


def _dmr(fields: Mapping[str, Any], path: str) -> str:
    """The DMR prefix of a MAP-T domain."""
    if "br_address" in fields:
        reason = "is for transport map-e only: a MAP-T domain reaches its BR through dmr"
        raise MapError(join_path(path, "br_address"), fields["br_address"], reason, DMR)
    path = join_path(path, "dmr")
    written = fields.get("dmr")
    if written is None:
        raise MapError(path, written, "is required for transport map-t: the IPv6 prefix of the BR", DMR)
    dmr = prefix(written, path, 6, DMR)
    if dmr.prefixlen not in DMR_LENGTHS:
        lengths = ", ".join(str(length) for length in DMR_LENGTHS)
        raise MapError(path, written, f"must have one of the lengths {lengths}", IPV4_EMBEDDED)
    if dmr.network_address.packed[8]:
        raise MapError(path, written, "must have zero in its bits 64 to 71 (the ninth byte)", IPV4_EMBEDDED)
    return str(dmr)


def _rule(value: Any, path: str, default_psid_offset: int, faults: Faults) -> dict[str, Any] | None:
    """One rule, checked by itself; None where it has a fault."""
    before = len(faults.found)
    fields = mapping(value, path, RULE_KEYS, "a rule", faults)
    if fields is None:
        return None
    ipv6 = faults.check(_rule_prefix, fields.get("ipv6_prefix"), f"{path}.ipv6_prefix", 6)
    ipv4 = faults.check(_rule_prefix, fields.get("ipv4_prefix"), f"{path}.ipv4_prefix", 4)
    ea_length = faults.check(integer, fields.get("ea_length"), f"{path}.ea_length", 0, 48, ALGORITHM)
    psid_offset = faults.check(integer, fields.get("psid_offset", default_psid_offset), f"{path}.psid_offset", 0, 15, PORTS)
    fmr = faults.check(boolean, fields.get("fmr", False), f"{path}.fmr")
    if ipv6 is not None and ea_length is not None and ipv6.prefixlen + ea_length > 128:
        reason = f"is more than {ipv6} leaves: prefix length and EA bits are at most 128 together"
        faults.add(f"{path}.ea_length", fields["ea_length"], reason, ALGORITHM)
    psid_length, psid = None, None
    if ipv4 is not None and ea_length is not None:
        psid_length, psid = faults.check(_psid, fields, path, ea_length, ipv4) or (None, None)
        if psid_length is not None and psid_offset is not None:
            faults.check(refuse_no_port, psid_offset, psid_length, f"{path}.psid_offset")
    if len(faults.found) > before:
        return None
    return {
        "ipv6_prefix": str(ipv6),
        "ipv4_prefix": str(ipv4),
        "ea_length": ea_length,
        "psid_offset": psid_offset,
        "psid_length": psid_length,
        "psid": psid,
        "fmr": fmr,
    }


def _rule_prefix(value: Any, path: str, version: int) -> IPv4Network | IPv6Network:
    """The prefix of a rule: addresses that customers can have."""
    network = prefix(value, path, version, ALGORITHM)
    for special, what in SPECIAL.items():
        if special.version == version and network.subnet_of(special):
            raise MapError(path, value, f"lies in {special} ({what}), where no customer has addresses", "RFC 6890")
    return network


def _psid(fields: Mapping[str, Any], path: str, ea_length: int, ipv4: IPv4Network) -> tuple[int, int | None]:
    """The PSID length of a rule, and its PSID where that is explicit."""
    implied = psid_length_of(ea_length, ipv4.prefixlen)
    written = fields.get("psid_length")
    if implied > 16:
        reason = f"gives a PSID of {implied} bits with {ipv4}; a port has 16: at most {48 - ipv4.prefixlen} EA bits"
        raise MapError(f"{path}.ea_length", fields["ea_length"], reason, PORTS)
    length = None if written is None else integer(written, f"{path}.psid_length", 0, 16, PORTS)
    if "psid" not in fields:
        if ea_length == 0 and length:
            reason = "is required with a psid_length and no EA bits: the explicit PSID of the CE"
            raise MapError(f"{path}.psid", None, reason, EXPLICIT_PSID)
        if length not in (None, implied):
            reason = f"contradicts the EA bits: {ea_length} with {ipv4} give {implied}; remove it or correct ea_length"
            raise MapError(f"{path}.psid_length", written, reason, BMR)
        return implied, None
    if ea_length or ipv4.prefixlen != 32:
        reason = f"an explicit PSID needs ea_length 0 and an IPv4 prefix of /32, not {ea_length} and {ipv4}"
        raise MapError(f"{path}.psid", fields["psid"], reason, EXPLICIT_PSID)
    if length == 0:
        reason = "has psid_length 0, which says that the address is not shared: remove psid"
        raise MapError(f"{path}.psid", fields["psid"], reason, EXPLICIT_PSID)
    if length is None:
        reason = "an explicit PSID needs its length, an integer between 1 and 16"
        raise MapError(f"{path}.psid_length", written, reason, EXPLICIT_PSID)
    psid = integer(fields["psid"], f"{path}.psid", 0, 65535, EXPLICIT_PSID)
    if psid >> length:
        reason = f"is wider than its psid_length of {length}: at most {(1 << length) - 1}"
        raise MapError(f"{path}.psid", fields["psid"], reason, EXPLICIT_PSID)
    return length, psid
