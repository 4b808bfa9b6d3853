# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""From IPv4 pools, subscribers and an IPv6 prefix to a domain."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, summarize_address_range
from typing import Any

from .arithmetic import ipv6_text, port_ranges
from .checks import integer, is_list, mapping, prefix
from .domain import DEFAULT_PSID_OFFSET, PORTS, interface_id_of, parse_domain
from .errors import Faults, MapError

KEYS = (
    "ipv4_pools", "ipv6_prefix", "subscribers", "ports_per_subscriber", "psid_offset", "end_user_prefix_length",
    "transport", "interface_id", "br_address", "dmr", "fmr",
)
# The lengths that networks delegate, the largest prefix first.
USUAL_LENGTHS = (56, 60, 64)
WELL_KNOWN_PREFIX = "64:ff9b::/96"
EMBEDDING = "RFC 7597 section 5.2"


def plan_domain(requirements: Any, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """A domain for these requirements, with what it offers and what is left over. Raises MapError where there is none.

    Every pool becomes a rule; all of them have one PSID length and one length of end-user prefixes, so that each subscriber
    gets as many ports and as large a prefix as any other. The largest pools come first in the IPv6 prefix, so no gap
    is left between the rules.
    """
    faults = Faults()
    fields = mapping(requirements, "", KEYS, "the requirements", faults)
    faults.refuse()
    pools = _pools(fields.get("ipv4_pools"))
    ipv6 = prefix(fields.get("ipv6_prefix"), "ipv6_prefix", 6)
    default_offset = DEFAULT_PSID_OFFSET[interface_id_of(fields)]
    psid_offset = integer(fields.get("psid_offset", default_offset), "psid_offset", 0, 15, PORTS)
    addresses = sum(pool.num_addresses for pool in pools)
    psid_length = _psid_length(fields, addresses, psid_offset)
    capacity = addresses << psid_length
    length = _end_user_prefix_length(fields, ipv6, capacity)
    rules = [
        {"ipv4_prefix": str(pool), "ea_length": 32 - pool.prefixlen + psid_length, "psid_offset": psid_offset,
         "fmr": fields.get("fmr", False)}
        for pool in pools
    ]
    start = int(ipv6.network_address)
    for rule in sorted(rules, key=lambda rule: -rule["ea_length"]):
        rule["ipv6_prefix"] = f"{ipv6_text(start)}/{length - rule['ea_length']}"
        start += 1 << (128 - length + rule["ea_length"])
    transport = fields.get("transport", "map-t")
    written = {key: fields[key] for key in ("interface_id", "br_address", "dmr") if key in fields}
    if transport == "map-t":
        written.setdefault("dmr", WELL_KNOWN_PREFIX)
    ports = ports_of(psid_length, psid_offset)
    return {
        "domain": parse_domain({"transport": transport, "rules": rules, **written}, warn=warn),
        "sharing_ratio": 1 << psid_length,
        "psid_length": psid_length,
        "psid_offset": psid_offset,
        "ports_per_subscriber": ports,
        "ea_lengths": [rule["ea_length"] for rule in rules],
        "end_user_prefix_length": length,
        "capacity": capacity,
        "left_over": {
            "subscribers": capacity - int(fields["subscribers"]) if "subscribers" in fields else None,
            "ports_per_address": 65536 - (ports << psid_length),
            "ipv6_prefixes": prefixes_between(start, int(ipv6.broadcast_address)),
        },
    }


def ports_of(psid_length: int, psid_offset: int) -> int:
    """How many ports each PSID of a length stands for (RFC 7597 section 5.1)."""
    return sum(high - low + 1 for low, high in port_ranges(0, psid_length, psid_offset))


def prefixes_between(first: int, last: int) -> list[str]:
    """The fewest IPv6 prefixes that hold the addresses (int) from first to last; none where last is before first."""
    if first > last:
        return []
    return [str(network) for network in summarize_address_range(IPv6Address(first), IPv6Address(last))]


def _pools(written: Any) -> list[IPv4Network]:
    path = "ipv4_pools"
    if written and not is_list(written):
        return [prefix(written, path, 4)]
    if not written:
        raise MapError(path, written, "is required: an IPv4 prefix, or a list of them")
    pools = [prefix(pool, f"{path}[{index}]", 4) for index, pool in enumerate(written)]
    for index, pool in enumerate(pools):
        for number, other in enumerate(pools[:index]):
            if pool.overlaps(other):
                raise MapError(f"{path}[{index}]", str(pool), f"overlaps {other} of {path}[{number}]: leave one of them out")
    return pools


def _psid_length(fields: dict[str, Any], addresses: int, psid_offset: int) -> int:
    """The PSID length: the shortest for the subscribers, or with ports_per_subscriber alone the longest for the ports."""
    if "subscribers" not in fields and "ports_per_subscriber" not in fields:
        raise MapError("subscribers", None, "is required, or ports_per_subscriber, or both")
    longest, limit, advice = 16 - psid_offset, f"the PSID offset {psid_offset}", "a smaller PSID offset"
    if "ports_per_subscriber" in fields:
        wanted = integer(fields["ports_per_subscriber"], "ports_per_subscriber", 1, 65536)
        longest = max(length for length in range(longest + 1) if ports_of(length, psid_offset) >= wanted)
        limit, advice = f"{wanted} ports for each subscriber and the PSID offset {psid_offset}", "fewer ports"
    if "subscribers" not in fields:
        return longest
    subscribers = integer(fields["subscribers"], "subscribers", 1, 1 << 48)
    if subscribers > addresses << longest:
        lacking = -(-subscribers >> longest) - addresses
        reason = (
            f"are too many for {addresses} IPv4 addresses: with {limit}, {1 << longest} subscribers share an address, so "
            f"{addresses << longest} fit; add {lacking} addresses, or ask for {advice}"
        )
        raise MapError("subscribers", fields["subscribers"], reason, PORTS)
    return next(length for length in range(longest + 1) if subscribers <= addresses << length)


def _end_user_prefix_length(fields: dict[str, Any], ipv6: IPv6Network, capacity: int) -> int:
    """The length of the end-user prefixes; the IPv6 prefix must hold one for each possible subscriber."""
    path = "end_user_prefix_length"
    needed = (capacity - 1).bit_length()
    shortest = ipv6.prefixlen + needed
    if path in fields:
        length = integer(fields[path], path, 1, 128, EMBEDDING)
    else:
        length = next((usual for usual in USUAL_LENGTHS if usual >= shortest), USUAL_LENGTHS[-1])
    if length >= shortest:
        return length
    room = 1 << (length - ipv6.prefixlen) if length >= ipv6.prefixlen else 0
    reason = f"has room for {room} end-user prefixes of /{length}, the IPv4 pools need {capacity}: "
    if length < needed:
        reason += f"no IPv6 prefix has; use an {path} of {needed} or more"
    else:
        reason += f"use an IPv6 prefix of /{length - needed} or shorter"
        reason += f", or an {path} of {shortest} or more" if path in fields else ""
    raise MapError("ipv6_prefix", str(ipv6), reason, EMBEDDING)
