# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The map entries of the BPF programs, as bpftool takes them, and the names of their counters.

The bytes are those of struct rule_key, struct rule (plugins/module_utils/routers/bpf/map.h), struct treatment (fast.h), struct config (one each in
mapt.bpf.c, translate.bpf.c, mape.bpf.c and napt.bpf.c) and struct br_alias (mape.bpf.c), for a little-endian router.
"""

from __future__ import annotations

import ipaddress
import struct

DUMMY_ADDRESS = "192.0.0.8"  # RFC 7600: the source of errors from routers that have no IPv4 address (RFC 6791)
# enum rule_flag
DRAFT03 = 1
FULL_ADDRESS = 2
EXPLICIT_PSID = 4

# enum counter, in its order and without the MAP_
REASONS = (
    "passed",
    "passed_later_fragment",
    "passed_router_error",
    "passed_to_stack",
    "dropped_no_rule",
    "dropped_no_port",
    "dropped_tiny",
    "dropped_port_zero",
    "dropped_excluded_port",
    "dropped_other_psid",
    "dropped_spoofed",
    "dropped_wrong_quote",
    "dropped_internal",
    "dropped_mixed_fragment",
    "dropped_lost_fragment",
    "dropped_failed",
    "dropped_not_ipv4",
    "dropped_martian",
    "dropped_other_br",
    "dropped_not_own_address",
    "dropped_not_own_port",
    "dropped_outside_domain",
    "dropped_untranslatable",
    "dropped_lost_length",
    "dropped_itself",
    "fast",
)
# enum counter of napt.bpf.c, in its order and without the NAPT_
NAPT_REASONS = (
    "passed",
    "passed_later_fragment",
    "passed_router",
    "dropped_not_own_address",
    "dropped_not_own_port",
    "dropped_no_port",
    "dropped_tiny",
    "dropped_wrong_quote",
    "dropped_lost_fragment",
    "dropped_failed",
)
# enum flag of napt.bpf.c
NAPT_EXCHANGE = 1
NAPT_STATIC = 2
NAPT_ROUTER = 4
NAPT_SHARED = 8
NAPT_ETHERNET = 16


def counter_names(reasons: tuple[str, ...], infix: str = "") -> list[str]:
    """The names in a map `counters` by their index; "in" is out of the softwire, "out" into it."""
    return [f"{direction}_{infix}{reason}" for direction in ("in", "out") for reason in reasons]


COUNTERS = counter_names(REASONS)
NAPT_COUNTERS = counter_names(NAPT_REASONS, "napt_")


LONGEST_PREFIX = 64  # of an end-user prefix: the programs compute one half of an address


def is_too_long(rule: dict) -> bool:
    """Whether the programs cannot serve a rule, for the length of its end-user prefixes."""
    return ipaddress.IPv6Network(rule["ipv6_prefix"]).prefixlen + rule["ea_length"] > LONGEST_PREFIX


def rule_entry(rule: dict, domain: dict, internal_prefix: str | None = None) -> dict[str, str]:
    """The entry of the map `rules` for one rule of a checked domain.

    rule: one of domain["rules"]; ipv6_prefix and ea_length together at most 64 bits.
    internal_prefix: MAP-T with Jool: the /96 that stands for the CEs' IPv4 addresses between the programs and the translator.
    MAP-E needs none: the BR's side is the domain's first BR address. translate.bpf.c needs none either.
    Several explicit PSID rules may share an IPv4 address: the first has the address as its key, the others
    the address and their PSID.
    Returns key and value, each hexadecimal bytes with spaces, and a comment for people.
    Raises ValueError for a rule that the programs cannot serve.
    """
    ipv6 = ipaddress.IPv6Network(rule["ipv6_prefix"])
    ipv4 = ipaddress.IPv4Network(rule["ipv4_prefix"])
    ea_length, explicit = rule["ea_length"], rule["psid"] is not None
    if is_too_long(rule):
        raise ValueError(
            f"the rule's IPv6 prefix ({ipv6.prefixlen} bits) and its {ea_length} EA bits make end-user prefixes of "
            f"/{ipv6.prefixlen + ea_length}: this border relay serves prefixes of at most /64; "
            "use a shorter prefix or fewer EA bits (RFC 7597 section 5.2)"
        )
    if domain["transport"] == "map-e":
        peer = ipaddress.IPv6Address(domain["br_address"][0])
    else:
        peer = ipaddress.IPv6Network(internal_prefix or "::/96").network_address
    flags = DRAFT03 if domain["interface_id"] == "draft03" else 0
    if domain["transport"] == "map-t" and ea_length + ipv4.prefixlen < 32:
        flags |= FULL_ADDRESS
    key_length, key_psid, psid = ipv4.prefixlen, 0, 0
    if explicit:
        flags |= EXPLICIT_PSID
        psid = rule["psid"]
        first = next(other for other in domain["rules"] if other["ipv4_prefix"] == rule["ipv4_prefix"])
        if first["psid"] != psid:
            key_length, key_psid = 48, psid
    key = struct.pack("<I", key_length) + struct.pack(">4sHH", ipv4.network_address.packed, key_psid, 0)
    value = struct.pack(
        ">8s16s6BH",
        ipv6.network_address.packed[:8],
        peer.packed,
        ipv6.prefixlen,
        ipv4.prefixlen,
        ea_length,
        rule["psid_offset"],
        rule["psid_length"],
        flags,
        psid,
    )
    shared = f", PSID {'' if not explicit else f'{psid} '}of {rule['psid_length']} bits, offset {rule['psid_offset']}"
    comment = f"{ipv4} at {ipv6}, {ea_length} EA bits{shared if rule['psid_length'] else ''}, {domain['interface_id']}"
    return {"key": key.hex(" "), "value": value.hex(" "), "comment": comment}


def treatment(dscp: int | None, lowers_mss: bool) -> str:
    """The only entry (key 00 00 00 00) of the map `treatment` of a border relay's programs, as hexadecimal bytes with spaces.

    dscp: of IPv6 headers towards the customer edges, 0 to 63; None: that of IPv4. lowers_mss: whether netfilter has to see each SYN of TCP.
    """
    return bytes([dscp is not None, (dscp or 0) << 2, lowers_mss, 0]).hex(" ")


def translator_config(dmr: str, ipv6_mtu: int, ce: dict | None = None, icmp_source: str = DUMMY_ADDRESS) -> str:
    """The only entry (key 00 00 00 00) of the map `config` of translate.bpf.c, as hexadecimal bytes with spaces.

    dmr: an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits (RFC 6052 section 2.2). ipv6_mtu: of the IPv6 domain, bytes.
    ce: the dict of the filter softwire.map.ce, for a customer edge. icmp_source: of errors from routers without an IPv4 address.
    """
    prefix = ipaddress.IPv6Network(dmr)
    own, address, ipv4 = bytes(32), bytes(16), ipaddress.IPv4Network("0.0.0.0/0")
    if ce:
        flags = DRAFT03 if ce["interface_id"] == "draft03" else 0
        own = bytes(27) + struct.pack(">BBBH", ce["psid_offset"], ce["psid_length"], flags, ce["psid"] or 0)
        address = ipaddress.IPv6Address(ce["map_address"]).packed
        ipv4 = ipaddress.IPv4Network(ce["ipv4_prefix"] or ce["ipv4_address"])
    value = (
        own + address + prefix.network_address.packed + bytes([prefix.prefixlen, 0, 0, 0]) + ipv4.network_address.packed
        + ipv4.netmask.packed + ipaddress.IPv4Address(icmp_source).packed + struct.pack("<II", ipv6_mtu, 0)
    )
    return value.hex(" ")


def mesh_config(ce: dict, br_address: str, sends: bool) -> str:
    """The only entry (key 00 00 00 00) of the map `config` of mape.bpf.c, as hexadecimal bytes with spaces.

    ce: the dict of the filter softwire.map.ce. br_address: the BR that it sends to. sends: whether it sends to other CEs directly.
    """
    flags = DRAFT03 if ce["interface_id"] == "draft03" else 0
    own = bytes(8) + ipaddress.IPv6Address(br_address).packed
    own += bytes(3) + struct.pack(">BBBH", ce["psid_offset"], ce["psid_length"], flags, ce["psid"] or 0)
    ipv4 = ipaddress.IPv4Network(ce["ipv4_prefix"] or ce["ipv4_address"])
    value = (
        own + ipaddress.IPv6Address(ce["map_address"]).packed + ipv4.network_address.packed + ipv4.netmask.packed
        + struct.pack("<II", sends, 0)
    )
    return value.hex(" ")


def napt_config(ce: dict, index: dict, router_network: str | None, has_ethernet: bool) -> str:
    """The only entry (key 00 00 00 00) of the map `config` of napt.bpf.c, as hexadecimal bytes with spaces.

    ce: the dict of the filter softwire.map.ce; index: what mapping.port_index makes of its ports.
    router_network: an IPv4 network of the router's own behind the interface of the program, or None.
    has_ethernet: whether that interface has Ethernet's headers; else it has none.
    """
    own = ipaddress.IPv4Network(ce["ipv4_prefix"] or ce["ipv4_address"])
    router = ipaddress.IPv4Network(router_network or "0.0.0.0/0")
    offset, length = ce["psid_offset"], ce["psid_length"]
    flags = (
        NAPT_EXCHANGE * index["rewrite"] | NAPT_STATIC * has_exceptions(index) | NAPT_ROUTER * bool(router_network)
        | NAPT_SHARED * bool(length) | NAPT_ETHERNET * has_ethernet)
    bits = offset << 4 | 16 - offset - length if length else 0
    return struct.pack(
        ">4s4s4sHHHBBBxxx", own.network_address.packed, router.network_address.packed, router.netmask.packed,
        ce["psid"] or 0, *index["pool"], 32 - own.prefixlen, bits, flags).hex(" ")


def has_exceptions(index: dict) -> bool:
    """Whether some ports of a NAPT are not where the arithmetic would have them; index: of mapping.port_index."""
    return index["rewrite"] and bool(index["static"])


def napt_exceptions(ce: dict, index: dict) -> list[tuple[str, dict[str, str]]]:
    """(map, entry) for each entry of the maps `index_to_port` and `port_to_index`: ports that are not where the arithmetic has them.

    ce, index: as napt_config takes them. An entry is a dict of key, value and comment, as rule_entry returns.
    """
    if not has_exceptions(index):
        return []
    natural = [port for low, high in ce["port_ranges"] for port in range(low, high + 1) if port]
    first = index["pool"][0]
    moved = [
        (number + offset, port + offset) for number, port, length in index["ranges"] for offset in range(length)
        if natural[number - first + offset] != port + offset]
    made = []
    for number, port in [(port, port) for port in index["static"]] + moved:
        comment = f"Port {port} is forwarded or reserved, and its own index." if number == port else f"Port {port} has index {number}."
        key, value = (struct.pack(">H", each).hex(" ") for each in (number, port))
        made += [("index_to_port", {"key": key, "value": value, "comment": comment}), ("port_to_index", {"key": value, "value": key, "comment": ""})]
    return made


def config_value(dmr: str, internal_prefix: str, check_only: bool) -> str:
    """The only entry (key 00 00 00 00) of the map `config`, as hexadecimal bytes with spaces.

    dmr: an IPv6 prefix of 32 to 96 bits (RFC 6052 section 2.2); internal_prefix: a /96.
    check_only: the programs check sources and change nothing; internal_prefix is then not looked at.
    """
    network = ipaddress.IPv6Network(dmr)
    internal = ipaddress.IPv6Network(internal_prefix).network_address.packed[:12]
    return (network.network_address.packed + network.netmask.packed + internal + bytes([check_only, 0, 0, 0])).hex(" ")


def br_alias_entries(domain: dict) -> list[dict[str, str]]:
    """The entries of the map `br_aliases` for a checked MAP-E domain: its BR addresses after the first.

    CEs may send to any BR address of their domain; what they receive comes from the first.
    Returns key, value and a comment each, as rule_entry does.
    """
    first, *others = map(ipaddress.IPv6Address, domain["br_address"])
    return [
        {"key": (other.packed + first.packed).hex(" "), "value": "01", "comment": f"{other} is a BR address as {first} is"}
        for other in others
    ]
