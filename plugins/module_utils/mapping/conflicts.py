# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""What the rules of a domain, or of all domains of a border relay, do to each other: faults, and what is legal but odd.

Each rule here is a pair of its path and its dict, as parse_domain has made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Dict, Tuple

from .arithmetic import ipv6_text, split_prefix
from .errors import Faults, MapError, join_path

ALGORITHM = "RFC 7597 section 5"
PORTS = "RFC 7597 section 5.1"
BMR = "RFC 7597 section 5.2"
DMR = "RFC 7599 section 5.1"

PlacedRule = Tuple[str, Dict[str, Any]]


def find(rules: list[PlacedRule], faults: Faults) -> None:
    """Collects a fault for each rule that maps an end-user prefix, or an address and port, that another one maps too."""
    for index, other in _enclosing([ip_network(rule["ipv6_prefix"]) for _path, rule in rules]):
        (path, rule), (other_path, other_rule) = rules[index], rules[other]
        # A longer prefix inside is legal: the longest match decides.
        if rule["ipv6_prefix"] == other_rule["ipv6_prefix"]:
            reason = f"is the prefix of {other_path} too: an end-user prefix below it would match two rules"
            faults.add(f"{path}.ipv6_prefix", rule["ipv6_prefix"], reason, BMR)
    explicit_psids: dict[int, dict[int, str]] = {}
    for index, other in _enclosing([ip_network(rule["ipv4_prefix"]) for _path, rule in rules]):
        (other_path, first), (path, second) = rules[min(index, other)], rules[max(index, other)]
        if first["psid"] is None or second["psid"] is None:
            # Every rule maps all of its IPv4 prefix; only explicit PSIDs divide an address.
            reason = f"overlaps {first['ipv4_prefix']} of {other_path}: one IPv4 address would belong to two rules"
            faults.add(f"{path}.ipv4_prefix", second["ipv4_prefix"], reason, BMR)
            continue
        different = [key for key in ("psid_offset", "psid_length") if first[key] != second[key]]
        for key in different:
            reason = f"differs from {first[key]} in {other_path}: all CEs of {first['ipv4_prefix']} need the same"
            faults.add(f"{path}.{key}", second[key], reason, PORTS)
        taken = explicit_psids.setdefault(other, {first["psid"]: other_path})
        if not different and taken.setdefault(second["psid"], path) != path:
            reason = f"is the PSID of {taken[second['psid']]} too: both would have the same ports of {first['ipv4_prefix']}"
            faults.add(f"{path}.psid", second["psid"], reason, PORTS)


def find_in_dmr(dmr: str, path: str, rules: list[PlacedRule], faults: Faults) -> None:
    """Collects a fault for each rule whose IPv6 prefix overlaps the DMR."""
    for rule_path, rule in rules:
        if ip_network(dmr).overlaps(ip_network(rule["ipv6_prefix"])):
            reason = f"overlaps {rule['ipv6_prefix']} of {rule_path}: an IPv6 address would stand for a CE and for the rest of the internet"
            faults.add(path, dmr, reason, DMR)


def oddities(domain: dict[str, Any], path: str) -> Iterator[str]:
    """What is legal in a checked domain but seldom meant, one text for each."""
    rules = [(f"{join_path(path, 'rules')}[{index}]", rule) for index, rule in enumerate(domain["rules"])]
    networks = [ip_network(rule["ipv6_prefix"]) for _path, rule in rules]
    for address in domain["br_address"] or ():
        for (rule_path, rule), network in zip(rules, networks):
            if ip_address(address) in network:
                reason = f"lies in {rule['ipv6_prefix']} of {rule_path}: never delegate the end-user prefix around it"
                yield str(MapError(join_path(path, "br_address"), address, reason))
    for index, other in _enclosing(networks):
        (rule_path, rule), (other_path, other_rule) = rules[index], rules[other]
        reason = (f"lies in {other_rule['ipv6_prefix']} of {other_path}: end-user prefixes below it follow this rule, so "
                  f"some addresses or ports of {other_rule['ipv4_prefix']} have no CE")
        yield str(MapError(f"{rule_path}.ipv6_prefix", rule["ipv6_prefix"], reason))
    shared = [(rule_path, rule) for rule_path, rule in rules if rule["psid_length"]]
    for rule_path, rule in shared[1:]:
        first_path, first = shared[0]
        if rule["psid_offset"] != first["psid_offset"]:
            reason = f"differs from {first['psid_offset']} in {first_path}; a domain usually has one"
            yield str(MapError(f"{rule_path}.psid_offset", rule["psid_offset"], reason))


def coinciding(ces: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[int, int, MapError]]:
    """The CEs of one domain that are another CE, or lie in its end-user prefix: (index, index of the other one, the fault).

    ces: [(path of the prefix, `ce` dict)]. Takes time as len(ces), whatever their order.
    """
    first: dict[str, int] = {}
    for index, (path, ce) in enumerate(ces):
        other = first.setdefault(ce["end_user_prefix"], index)
        if other != index:
            other_path, other_ce = ces[other]
            yield index, other, MapError(
                path, ce["delegated_prefix"],
                f"gives the same CE as {other_path} ({other_ce['delegated_prefix']}): both are "
                f"{ce['end_user_prefix']} after rule and EA bits; a CE is listed once, and two CEs "
                "differ within these bits", ALGORITHM)
    lengths = sorted({int(prefix.partition("/")[2]) for prefix in first})
    for prefix, index in first.items() if len(lengths) > 1 else ():
        path, ce = ces[index]
        base, length = split_prefix(prefix, path)
        for shorter in lengths[:lengths.index(length)]:
            other = first.get(f"{ipv6_text(base >> (128 - shorter) << (128 - shorter))}/{shorter}")
            if other is not None:
                other_path, other_ce = ces[other]
                yield index, other, MapError(
                    path, ce["delegated_prefix"],
                    f"lies in {other_ce['end_user_prefix']}, the end-user prefix of {other_path}: a prefix belongs to one CE, "
                    "so one of the two needs another one", ALGORITHM)


def _enclosing(networks: list[IPv4Network] | list[IPv6Network]) -> list[tuple[int, int]]:
    """[(index, index of the smallest other network that holds it)], ascending; of equal networks the first holds the others."""
    order = sorted(range(len(networks)), key=lambda index: (networks[index].network_address, networks[index].prefixlen, index))
    around: list[int] = []
    found = []
    for index in order:
        while around and networks[around[-1]].broadcast_address < networks[index].network_address:
            around.pop()
        if around:
            found.append((index, around[-1]))
        if not around or networks[around[-1]] != networks[index]:
            around.append(index)
    return sorted(found)
