# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the rules that a provider sent, in whatever form, to a checked domain: explicit PSIDs are settled, the same rule twice becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from .arithmetic import split_prefix
from .domain import DEFAULT_PSID_OFFSET, EXPLICIT_PSID, RULE_KEYS, interface_id_of, parse_domain
from .errors import Faults, MapError

PORT_KEYS = ("psid_offset", "psid_length", "psid")
RULE_PATH = re.compile(r"rules\[([0-9]+)\]")


def domain_of(fields: dict[str, Any], place: Callable[[str], str], end_user_prefix: Any, tell: Callable[[MapError], None]) -> dict[str, Any]:
    """The domain, as parse_domain returns it.

    fields: as people write a domain. Its rules have the keys of RULE_KEYS, integers and prefixes of the right type, and a psid
    only where it is explicit.
    place: from the path of a value in fields to the path that a person can look for.
    end_user_prefix: the line's own, or None where it is not known; it tells what the EA bits of this CE are.
    tell: gets what the provider does in another way than the RFCs, as an error that is not raised.
    Raises MapError.
    """
    line = None if end_user_prefix is None else split_prefix(end_user_prefix, "end_user_prefix")
    default_offset = DEFAULT_PSID_OFFSET[interface_id_of(fields)]
    rules: list[dict[str, Any]] = []
    came: list[int] = []  # the place of each rule in fields
    same: dict[tuple[Any, ...], int] = {}
    for index, received in enumerate(fields["rules"]):
        path = f"rules[{index}]"
        rule = _settled(received, path, place, line, tell)
        first = same.setdefault(tuple(rule.get(key, default_offset if key == "psid_offset" else None) for key in RULE_KEYS if key != "fmr"), len(rules))
        if first == len(rules):
            rules.append(rule)
            came.append(index)
            continue
        rules[first]["fmr"] |= rule["fmr"]
        flag = "forwarding (fmr) as one of them is" if rules[first]["fmr"] else "not forwarding (fmr)"
        tell(MapError(place(f"{path}.ipv6_prefix"), rule["ipv6_prefix"], f"is the rule of {place(f'rules[{came[first]}]')} again: they are one, {flag}"))

    def as_it_came(text: str) -> str:
        return RULE_PATH.sub(lambda found: f"rules[{came[int(found[1])]}]", text)

    faults, placed = Faults(), Faults()
    domain = faults.check(parse_domain, {**fields, "rules": rules})
    for fault in faults.found:
        placed.add(place(as_it_came(fault.path)), fault.value, as_it_came(fault.reason), fault.reference)
    placed.refuse()
    return domain


def _settled(
    rule: dict[str, Any], path: str, place: Callable[[str], str], line: tuple[int, int] | None, tell: Callable[[MapError], None]
) -> dict[str, Any]:
    """The rule with an explicit PSID only where a domain has it, in the rule of one CE; what is not used is told (RFC 7598 section 4.5)."""
    rule = {key: rule[key] for key in RULE_KEYS if rule.get(key) is not None}
    psid, length, ea_length = rule.get("psid"), rule.get("psid_length"), rule["ea_length"]
    ipv4, ipv6 = IPv4Network(rule["ipv4_prefix"], strict=False), IPv6Network(rule["ipv6_prefix"], strict=False)
    implied = ea_length + ipv4.prefixlen - 32
    if psid is None or not ea_length and ipv4.prefixlen == 32:
        return rule

    def say(reason: str) -> None:
        tell(MapError(place(f"{path}.psid"), psid, reason, EXPLICIT_PSID))

    if implied < 0:
        say("is ignored with all port parameters: a customer edge of this rule has an IPv4 prefix, whose ports are all its own")
        return {key: value for key, value in rule.items() if key not in PORT_KEYS}
    without = {key: value for key, value in rule.items() if key != "psid"}
    if implied and length != implied or ipv6.prefixlen + ea_length > 128:
        return without  # whose check says what is wrong
    ea_bits = _ea_bits(line, ipv6, ea_length)
    own = None if ea_bits is None else ea_bits & ((1 << implied) - 1)
    if implied and ipv4.prefixlen < 32:
        # An explicit PSID would give all CEs of this rule the same one, and the BR finds them by their EA bits.
        if line is None:
            say("is not used: each customer edge takes its PSID from its EA bits")
        elif own not in (None, psid):
            say(f"is not {own}, which the EA bits of the end-user prefix give, and is not used: the border relay goes by the EA bits")
        return without
    if ea_bits is None and not implied:
        reason = "is explicit, while the EA bits give each customer edge an IPv4 address: give end_user_prefix, the prefix of the line that is one of them"
        raise MapError(place(f"{path}.psid"), psid, reason, EXPLICIT_PSID)
    if ea_bits is None:
        ea_bits = psid & ((1 << implied) - 1)
        if line is None:
            say("is explicit beside EA bits: this is the rule of the one customer edge whose EA bits are the same; give end_user_prefix where they are not")
    elif implied and own != psid:
        say(f"is used, though the EA bits of the end-user prefix give {own}")
    return {**rule, **_rule_of_one(ipv6, ipv4, ea_length, ea_bits, implied)}


def _ea_bits(line: tuple[int, int] | None, ipv6: IPv6Network, ea_length: int) -> int | None:
    """The EA bits of the line, or None where its prefix is not known, too short or of another rule."""
    if line is None:
        return None
    prefix, length = line
    own_length = ipv6.prefixlen + ea_length
    if length < own_length or (prefix ^ int(ipv6.network_address)) & int(ipv6.netmask):
        return None
    return prefix >> (128 - own_length) & ((1 << ea_length) - 1)


def _rule_of_one(ipv6: IPv6Network, ipv4: IPv4Network, ea_length: int, ea_bits: int, psid_bits: int) -> dict[str, Any]:
    """Prefixes and EA length of the rule that only the CE with these EA bits has; the last psid_bits of them are a PSID."""
    length = ipv6.prefixlen + ea_length
    return {
        "ipv6_prefix": str(IPv6Network((int(ipv6.network_address) | ea_bits << (128 - length), length))),
        "ipv4_prefix": str(IPv4Network((int(ipv4.network_address) | ea_bits >> psid_bits, 32))),
        "ea_length": 0,
    }
