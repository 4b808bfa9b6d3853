# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain from what a provider sends: DHCPv6 options, OpenWrt's rule strings made of them, or the JSON of a Japanese rule server.

The strings are those of odhcp6c (MAPE, MAPT) and of the program mapcalc in OpenWrt's package map. The JSON is that of OCN's server,
basicMapRules, as home routers read it; nobody has published a specification.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Dict, NamedTuple

from . import dhcpv6, received
from .arithmetic import split_prefix
from .checks import address, choice, integer, is_list, unicast_ipv6
from .domain import ALGORITHM, BR_ADDRESS, EXPLICIT_PSID, PORTS
from .errors import Faults, MapError, did_you_mean

LONGEST_TEXT = 262144  # characters: the hex of the largest message, and 256 rules in JSON
LONGEST_STRING = 1024  # characters of one rule
MOST_RULES = 256
DEEPEST = 8  # levels of lists and dicts in an answer; its rules are on the third
# The script that a server puts around JSON for its query parameter `callback`.
SCRIPT = re.compile(r"[\w.$?]*\((.*)\)\s*;?", re.DOTALL)
HEXADECIMAL = re.compile("0[xX][0-9A-Fa-f]{1,4}")
RULE_VALUE = re.compile(r"rules\[([0-9]+)\](?:\.(\w+))?")


class Form(NamedTuple):
    """How a source names what a rule has: the path of its list, and {key of a domain, rule or prefix length: its own key}."""

    rules: str
    keys: Dict[str, str]

    def place(self, path: str) -> str:
        """The path in the source for one in a domain. What a domain has once stands in every rule of the source."""
        found = RULE_VALUE.match(path)
        index, key = (found[1], found[2]) if found else ("0", path.partition("[")[0])
        return f"{self.rules}[{index}].{self.keys.get(key, key)}" if key else f"{self.rules}[{index}]"


STRINGS = Form("rules", {
    "ipv6_prefix": "ipv6prefix", "ipv6_length": "prefix6len", "ipv4_prefix": "ipv4prefix", "ipv4_length": "prefix4len", "ea_length": "ealen",
    "psid_offset": "offset", "psid_length": "psidlen", "psid": "psid", "transport": "type", "br_address": "br", "dmr": "dmr"})
ANSWER = Form("basicMapRules", {
    "ipv6_prefix": "ipv6Prefix", "ipv6_length": "ipv6PrefixLength", "ipv4_prefix": "ipv4Prefix", "ipv4_length": "ipv4PrefixLength",
    "ea_length": "eaBitLength", "psid_offset": "psIdOffset", "psid_length": "eaBitLength", "psid": "psId", "br_address": "brIpv6Address"})


def domain_of(source: Any, code: Any = None, end_user_prefix: Any = None, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The domain in what a provider has sent, as parse_domain returns it, or parse_lw4o6 for lightweight 4over6 in DHCPv6.

    source: hex or bytes as dhcpv6.domain_of takes them, rule strings, or an answer with basicMapRules, as JSON or as a dict.
    code: of the DHCPv6 container that is wanted.
    end_user_prefix: of this line. Explicit PSIDs are compared with its EA bits, and of an answer with several BRs it takes one.
    warn: gets a text for each thing that is ignored, or that the provider does in another way than the RFCs.
    Raises MapError.
    """
    if isinstance(source, str) and len(source) > LONGEST_TEXT:
        raise MapError("option", source, f"has {len(source)} characters; what a line gets has at most {LONGEST_TEXT}")
    text = source.strip() if isinstance(source, str) else ""
    script = SCRIPT.fullmatch(text)
    is_answer = isinstance(source, Mapping) or script or text.startswith("{")
    if not is_answer and "=" not in text:
        return dhcpv6.domain_of(source, code, warn, end_user_prefix)
    if code is not None:
        raise MapError("code", code, "is for DHCPv6 options in hex, and this is none; leave it out")

    def tell(error: MapError) -> None:
        if warn:
            warn(str(error))

    if not is_answer:
        return _rule_strings(text, end_user_prefix, tell)
    answer = source if isinstance(source, Mapping) else _json(script[1] if script else text)
    return _basic_map_rules(answer, end_user_prefix, tell)


def _json(text: str) -> Any:
    answer = None
    try:
        # A number of 200,000 digits takes seconds; as text it is refused.
        answer = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 16 else digits)
        deep = _is_deeper(answer, DEEPEST)
    except RecursionError:
        deep = True
    except ValueError as exc:
        raise MapError("option", text, f"begins as JSON and is none: {exc}") from None
    if deep:
        raise MapError("option", text, f"is no answer of a rule server, whose lists and dicts are at most {DEEPEST} levels deep")
    return answer


def _is_deeper(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not levels or any(_is_deeper(inner, levels - 1) for inner in inside)


def _rule_strings(text: str, end_user_prefix: Any, tell: Callable[[MapError], None]) -> dict[str, Any]:
    """Rules with blanks between them; each is key=value with commas between, and the word fmr where it is a forwarding one."""
    strings = re.sub("^MAP[ET]=", "", text).strip("'\"").split()
    _refuse_more(strings, STRINGS.rules)
    faults = Faults()
    written = [_pairs(string, f"rules[{index}]", faults) for index, string in enumerate(strings)]
    faults.refuse()
    fields: dict[str, Any] = {"transport": faults.check(_transport, written[0].get("type"), "rules[0].type")}
    for key in ("br_address", "dmr"):
        if STRINGS.keys[key] in written[0]:
            fields[key] = written[0][STRINGS.keys[key]]
    for key in ("transport", "br_address", "dmr"):
        name = STRINGS.keys[key]
        for index, values in enumerate(written):
            if values.get(name) != written[0].get(name):
                faults.add(f"rules[{index}].{name}", values.get(name), f"differs from rules[0], where it is {written[0].get(name)}: a domain has one")
    fields["rules"] = [_string_rule(values, f"rules[{index}]", faults, tell) for index, values in enumerate(written)]
    faults.refuse()
    return received.domain_of(fields, STRINGS.place, end_user_prefix, tell)


def _pairs(string: str, path: str, faults: Faults) -> dict[str, Any]:
    """The values of a rule string by their keys, all of br in a list; fmr is true where the rule has that word. What is wrong first is a fault."""
    values: dict[str, Any] = {"fmr": False}
    if len(string) > LONGEST_STRING:
        faults.add(path, string, f"has {len(string)} characters; a rule has at most {LONGEST_STRING}")
        return values
    for item in filter(None, string.split(",")):
        name, equals, value = item.partition("=")
        if item == "fmr":
            values["fmr"] = True
        elif not equals or name not in STRINGS.keys.values():
            advice = did_you_mean(name, STRINGS.keys.values()) or f"; there are fmr, {', '.join(STRINGS.keys.values())}"
            faults.add(f"{path}.{name}", value, f"is not a value of a rule{advice}")
            break
        elif name == "br":
            values["br"] = list(dict.fromkeys([*values.get("br", []), value]))
        else:
            values[name] = value
    return values


def _transport(value: Any, path: str) -> str:
    if value == "lw4o6":
        raise MapError(path, value, "lightweight 4over6 is not MAP: it has a binding for each customer edge, no rules", "RFC 7596")
    return choice(value, path, ("map-e", "map-t"))


def _string_rule(values: dict[str, Any], path: str, faults: Faults, tell: Callable[[MapError], None]) -> dict[str, Any]:
    rule = {**_rule({"prefix4len": "32", **values}, path, STRINGS, faults, tell), "fmr": values["fmr"]}
    length = faults.check(integer, values.get("psidlen", 0), f"{path}.psidlen", 0, 16, EXPLICIT_PSID)
    written = values.get("psid")
    if not length or written is None:
        return rule
    given = int(written, 16) if HEXADECIMAL.fullmatch(written) else written
    psid = faults.check(integer, given, f"{path}.psid", 0, 65535, EXPLICIT_PSID) or 0
    # As on the wire, it stands at the left of 16 bits.
    return {**rule, "psid_length": length, "psid": psid >> (16 - length)}


def _basic_map_rules(answer: Any, end_user_prefix: Any, tell: Callable[[MapError], None]) -> dict[str, Any]:
    """The answer of a rule server, whose customers build the interface identifiers of draft03.

    It has no word of forwarding, and a BR address in every rule.
    """
    written = answer.get(ANSWER.rules) if isinstance(answer, Mapping) else None
    if not is_list(written) or not written:
        raise MapError(ANSWER.rules, written, "must be a list of at least one rule, as a rule server answers")
    _refuse_more(written, ANSWER.rules)
    faults = Faults()
    rules, relays = [], []
    for index, entry in enumerate(written):
        path = f"{ANSWER.rules}[{index}]"
        if not isinstance(entry, Mapping):
            faults.add(path, entry, "must be a rule, a dict")
            continue
        relays.append(str(faults.check(unicast_ipv6, entry.get("brIpv6Address"), f"{path}.brIpv6Address", BR_ADDRESS)))
        rules.append(_answered_rule(entry, path, faults, tell))
    faults.refuse()
    relay = relays[0] if len(set(relays)) == 1 else _relay_of(rules, relays, end_user_prefix)
    fields = {"transport": "map-e", "interface_id": "draft03", "br_address": relay}
    taken = [index for index, other in enumerate(relays) if other == relay]

    def place(path: str) -> str:
        return ANSWER.place(re.sub(r"^rules\[([0-9]+)\]", lambda found: f"rules[{taken[int(found[1])]}]", path))

    return received.domain_of({**fields, "rules": [rules[index] for index in taken]}, place, end_user_prefix, tell)


def _answered_rule(entry: Mapping[str, Any], path: str, faults: Faults, tell: Callable[[MapError], None]) -> dict[str, Any]:
    before = len(faults.found)
    rule = {**_rule(entry, path, ANSWER, faults, tell), "fmr": False}
    psid = faults.check(integer, entry.get("psId") or 0, f"{path}.psId", 0, 65535, EXPLICIT_PSID)
    if entry.get("psId") is None or len(faults.found) > before:
        return rule
    length = max(0, rule["ea_length"] + IPv4Network(rule["ipv4_prefix"]).prefixlen - 32)
    return {**rule, "psid_length": length, "psid": psid} if psid or length else rule


def _relay_of(rules: list[dict[str, Any]], relays: list[str], end_user_prefix: Any) -> str:
    """The BR of the rule with the longest match on the line's prefix, since a domain has one."""
    path = f"{ANSWER.rules}[{next(index for index, relay in enumerate(relays) if relay != relays[0])}].brIpv6Address"
    reason = f"is not {relays[0]} as in {ANSWER.rules}[0], and a domain has one: "
    other = next(relay for relay in relays if relay != relays[0])
    if end_user_prefix is None:
        raise MapError(path, other, f"{reason}give end_user_prefix, the prefix of the line, which tells which of them is its own", BR_ADDRESS)
    prefix, length = split_prefix(end_user_prefix, "end_user_prefix")
    best = max(range(len(rules)), key=lambda index: _match(rules[index], prefix, length))
    if _match(rules[best], prefix, length) < 0:
        raise MapError("end_user_prefix", end_user_prefix, f"is outside every rule of the {len(rules)} in {ANSWER.rules}", "RFC 7597 section 5.2")
    return relays[best]


def _match(rule: dict[str, Any], prefix: int, length: int) -> int:
    """The length of a rule's IPv6 prefix where it holds another one (int, length in bits), else -1."""
    base, bits = split_prefix(rule["ipv6_prefix"], "ipv6_prefix")
    return bits if bits <= length and (prefix ^ base) >> (128 - bits) == 0 else -1


def _rule(entry: Mapping[str, Any], path: str, form: Form, faults: Faults, tell: Callable[[MapError], None]) -> dict[str, Any]:
    """What both forms have of a rule: the prefixes, whose lengths stand apart, the EA bits and the PSID offset."""

    def value(key: str) -> tuple[Any, str]:
        return entry.get(form.keys[key]), f"{path}.{form.keys[key]}"

    rule: dict[str, Any] = {"ea_length": faults.check(integer, *value("ea_length"), 0, 48, ALGORITHM)}
    if value("psid_offset")[0] is not None:
        rule["psid_offset"] = faults.check(integer, *value("psid_offset"), 0, 15, PORTS)
    for version, bits, make in ((6, 128, IPv6Network), (4, 32, IPv4Network)):
        base = faults.check(address, *value(f"ipv{version}_prefix"), version, ALGORITHM)
        length = faults.check(integer, *value(f"ipv{version}_length"), 0, bits, ALGORITHM)
        if base is None or length is None:
            continue
        network = make((int(base), length), strict=False)
        rule[f"ipv{version}_prefix"] = str(network)
        if network.network_address != base:
            # Receivers of the option that rules come in ignore these bits.
            reason = f"the provider sends other bits than zero after the first {length}; they are ignored"
            tell(MapError(value(f"ipv{version}_prefix")[1], str(base), reason, "RFC 7598 section 4.1"))
    return rule


def _refuse_more(rules: list[Any], path: str) -> None:
    if len(rules) > MOST_RULES:
        raise MapError(path, len(rules), f"are more rules than the {MOST_RULES} that a line gets at most")
