# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning answers of HB46PP: what becomes of each value, the order of the methods, and the place of what is refused."""

from __future__ import annotations

import copy
import gc
import ipaddress
import json
import random
import re
from unittest import mock

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.softwire.map.plugins.filter.from_hb46pp import from_hb46pp
from ansible_collections.softwire.map.plugins.module_utils.mapping.calculator import ce
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError, MapErrors
from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp import (
    LONGEST_ANSWER, Choice, domain_of, no_choice, read_answer)

RULE = {"ipv6": "2001:db8:40::/42", "ipv4": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}
MAP_E = {"version": 0, "mesh": True, "br": "2001:db8:ffff::1", "rules": [RULE]}
MAP_T = {"dmr": "64:ff9b::/96", "rules": [RULE]}
TUNNEL = {"ipv6_local": "2001:db8:7:100::7", "ipv6_remote": "2001:db8:7::1", "ipv4": "203.0.113.0/29"}
ALL = ("map_e", "map_t", "ipip")
ANSWER = {
    "enabler_name": "Example VNE", "service_name": "v4 over v6", "isp_name": "例のプロバイダ　光", "ttl": 86400, "token": "0123456789abcdef" * 4,
    "auth": "ok", "order": ["464xlat", "map_e", "dslite", "map_t", "ipip", "lw4o6"],
    "map_e": MAP_E, "map_t": MAP_T, "ipip": [TUNNEL], "dslite": {"aftr": "aftr.example.net"}, "464xlat": {"nat64prefix": "2001:db8:6::/96"},
    "lw4o6": {"lwaftr": "lwaftr.example.net", "ipv6": "2001:db8:3:100::/56", "ipv4": "203.0.113.16", "psid": 3, "psid_length": 8, "psid_offset": 6},
}
DOMAIN = {
    "transport": "map-e", "interface_id": "draft03", "br_address": ["2001:db8:ffff::1"], "dmr": None,
    "rules": [{"ipv6_prefix": "2001:db8:40::/42", "ipv4_prefix": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6, "psid_length": 6,
               "psid": None, "fmr": True}],
}


def map_e(**changed):
    """An answer with MAP-E alone; None takes a key away."""
    return {"order": ["map_e"], "map_e": {key: value for key, value in {**MAP_E, **changed}.items() if value is not None}}


def map_t(**changed):
    return {"order": ["map_t"], "map_t": {key: value for key, value in {**MAP_T, **changed}.items() if value is not None}}


def rule(**changed):
    return {key: value for key, value in {**RULE, **changed}.items() if value is not None}


def many(count):
    """Rules that do not overlap, in each of which a customer edge has an address of its own."""
    networks = zip(ipaddress.ip_network("2001:db8::/32").subnets(new_prefix=44), ipaddress.ip_network("10.0.0.0/8").subnets(new_prefix=24))
    return [{"ipv6": str(ipv6), "ipv4": str(ipv4), "ea_length": 8, "psid_offset": 4} for (ipv6, ipv4), _index in zip(networks, range(count))]


def refusal(answer, able=("map_e", "map_t")):
    with pytest.raises(MapError) as caught:
        read_answer(answer, able)
    return str(caught.value)


def warnings(answer):
    warned = []
    domain_of(answer, warned.append)
    return warned


def test_an_answer_in_full():
    answer = read_answer(json.dumps(ANSWER), ALL)
    assert answer[:7] == ("Example VNE", "v4 over v6", "例のプロバイダ　光", 86400, ANSWER["token"], "ok", ANSWER["order"])
    assert answer.choices == [
        Choice("map_e", DOMAIN, []),
        Choice("map_t", {**DOMAIN, "transport": "map-t", "interface_id": "rfc7597", "br_address": None, "dmr": "64:ff9b::/96",
                         "rules": [{**DOMAIN["rules"][0], "fmr": False}]}, []),
        Choice("ipip", None, [TUNNEL])]


def test_an_answer_with_the_least():
    assert read_answer({"order": []}) == (None, None, None, None, None, None, [], [])
    assert read_answer({**{key: None for key in ANSWER}, "order": ["dslite"]}) == (None, None, None, None, None, None, ["dslite"], [])


@pytest.mark.parametrize("given", [
    ANSWER, json.dumps(ANSWER), json.dumps(ANSWER).encode(), json.dumps(ANSWER, ensure_ascii=False).encode(),
    b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(), f" {json.dumps(ANSWER)}\r\n",
])
def test_an_answer_comes_as_bytes_text_or_dict(given):
    assert read_answer(given, ALL) == read_answer(ANSWER, ALL)
    if not isinstance(given, bytes):
        assert from_hb46pp(given) == DOMAIN


@pytest.mark.parametrize(("changed", "interface_id", "fmr"), [
    ({"version": None, "mesh": None}, "draft03", False),
    ({"version": 0, "mesh": 0}, "draft03", False),
    ({"version": 1, "mesh": False}, "rfc7597", False),
    ({"version": 1, "mesh": 1}, "rfc7597", True),
    ({"version": "1", "mesh": True}, "rfc7597", True),
])
def test_version_and_mesh(changed, interface_id, fmr):
    domain = domain_of(map_e(**changed, rules=many(3)))
    assert (domain["interface_id"], {one["fmr"] for one in domain["rules"]}) == (interface_id, {fmr})


def test_what_a_customer_edge_has_of_an_answer():
    """Worked out by hand: EA bits 0x1234 of 14 after the /42, 8 of them the address, 6 the PSID."""
    one = ce(domain_of(ANSWER), "2001:db8:52:3400::/56")
    assert (one["ipv4_address"], one["psid"], one["psid_length"], one["port_ranges"][0]) == ("198.51.100.72", 0x34, 6, [1856, 1871])
    assert one["map_address"] == "2001:db8:52:3400:c6:3364:4800:3400"


@pytest.mark.parametrize(("order", "able", "methods"), [
    (["map_t", "map_e"], ALL, ["map_t", "map_e"]),
    (["ipip", "map_e"], ("map_e", "map_t"), ["map_e"]),
    (["map_e", "map_t"], ("map_t",), ["map_t"]),
    (["map_e", "map_e", "vxlan", "map_e"], ALL, ["map_e"]),
    (["vxlan", "dslite"], ALL, []),
])
def test_the_order_decides(order, able, methods):
    assert [choice.method for choice in read_answer({**ANSWER, "order": order}, able).choices] == methods


def test_what_is_not_used_is_not_looked_at():
    """Other methods, those that the order does not name, and keys that nobody knows."""
    odd = {**map_e(), "dslite": 5, "ipip": "x", "map_t": [], "new": {"a": [None]}}
    odd["order"] += ["dslite", "ipip"]
    odd["map_e"] = {**odd["map_e"], "new": 1, "dmr": "x", "rules": [{**RULE, "psid": 99, "comment": "x"}]}
    assert domain_of(odd) == DOMAIN


def test_as_many_rules_as_the_standard_wants():
    """Also as JSON for people; one rule more is refused."""
    answer = {"order": ["map_e", "map_t"], "map_e": {**MAP_E, "rules": many(256)}, "map_t": {**MAP_T, "rules": many(200)}}
    text = json.dumps(answer, indent=4)
    assert len(text) < LONGEST_ANSWER / 2
    first, second = read_answer(text).choices
    assert (len(first.domain["rules"]), len(second.domain["rules"])) == (256, 200)
    for method, most in (("map_e", 256), ("map_t", 200)):
        one_more = {"order": [method], method: {**answer[method], "rules": many(most + 1)}}
        assert refusal(one_more) == f"{method}.rules: {most + 1}: is their number; an answer has at most {most} (HB46PP section 3.4)"


@pytest.mark.parametrize(("ipv4", "prefix"), [("203.0.113.5", "203.0.113.5/32"), ("203.0.113.0/29", "203.0.113.0/29"), ("203.0.113.5/32", "203.0.113.5/32")])
def test_a_fixed_address(ipv4, prefix):
    answer = read_answer({"order": ["ipip"], "ipip": [TUNNEL, {**TUNNEL, "ipv6_local": "2001:DB8:7:100::8", "ipv4": ipv4}]}, ("ipip",))
    assert answer.choices == [Choice("ipip", None, [TUNNEL, {**TUNNEL, "ipv6_local": "2001:db8:7:100::8", "ipv4": prefix}])]


@pytest.mark.parametrize(("ttl", "taken", "warned"), [
    (600, 600, []), (604800, 604800, []),
    (0, 600, ["ttl: 0: is taken as 600: an answer is good for 600 to 604800 seconds (HB46PP section 3.4)"]),
    (2592000, 604800, ["ttl: 2592000: is taken as 604800: an answer is good for 600 to 604800 seconds (HB46PP section 3.4)"]),
])
def test_a_ttl_is_kept_within_its_bounds(ttl, taken, warned):
    said = []
    assert read_answer({**ANSWER, "ttl": ttl}, warn=said.append).ttl == taken
    assert said == warned
    assert read_answer({**ANSWER, "ttl": ttl}).ttl == taken


@pytest.mark.parametrize(("answer", "start"), [
    # No answer at all.
    (None, "answer: not set: must be an object of JSON"),
    ([ANSWER], "answer: [{'enabler_name': "),
    ("[]", "answer: '[]': must be an object of JSON, with order and the methods that it names (HB46PP section 3.4)"),
    ("", "answer: '': is no JSON: Expecting value: line 1 column 1 (char 0); give the body of the answer as it came"),
    ("<!DOCTYPE html>", "answer: '<!DOCTYPE html>': is no JSON: "),
    (b'{"order": ["\xff"]}', "answer: b'{\"order\": [\"\\xff\"]}': is no JSON: 'utf-8'"),
    (json.dumps(ANSWER)[:-1], "answer: "),
    ('{"ttl": NaN}', "answer: '{\"ttl\": NaN}': is no JSON: NaN is no number"),
    ('{"ttl": %s}' % ("9" * 21), "answer: '{\"ttl\": 999999999999999999999}': is no JSON: a number of 21 digits"),
    ("[" * LONGEST_ANSWER, "answer: '[[["),
    ('{"a":' * 17 + "0" + "}" * 17, "answer: has more than 16 objects or lists inside each other"),
    (" " * LONGEST_ANSWER + "{}", "answer: 262146: is its length; an answer has at most 262144 bytes"),
    # What is beside the methods.
    ({}, "order: not set: must be a list of at most 16 methods, such as map_e; empty where there is none for this line"),
    ({"order": "map_e"}, "order: 'map_e': must be a list"),
    ({"order": ["map_e"] * 17}, "order: ['map_e', "),
    ({"order": [5]}, "order[0]: 5: must be the name of a method, such as map_e"),
    ({"order": ["dslite", "\x1b[2J"]}, "order[1]: '\\x1b[2J': must be the name of a method"),
    ({**ANSWER, "ttl": -1}, "ttl: -1: must be an integer between 0 and 2147483647 (HB46PP section 3.4)"),
    ({**ANSWER, "ttl": 86400.5}, "ttl: 86400.5: must be an integer"),
    ({**ANSWER, "token": "secret"}, "token: must be 64 hexadecimal digits (HB46PP section 3.4)"),
    ({**ANSWER, "token": ["secret"]}, "token: must be 64 hexadecimal digits"),
    ({**ANSWER, "auth": "maybe"}, "auth: 'maybe': must be one of req, bad, ok"),
    ({**ANSWER, "enabler_name": "a\x1b[2J"}, "enabler_name: 'a\\x1b[2J': must be text without control characters"),
    ({**ANSWER, "isp_name": "\ud800"}, "isp_name: '\\ud800': must be text without control characters"),
    ({**ANSWER, "service_name": "光" * 85}, "service_name: '光光"),
    ({**ANSWER, "service_name": 5}, "service_name: 5: must be text"),
    # MAP-E.
    ({"order": ["map_e"]}, "map_e: not set: must be an object with the parameters of this method, since order names it (HB46PP section 3.4)"),
    ({"order": ["map_e"], "map_e": [MAP_E]}, "map_e: [{'version'"),
    (map_e(version=2), "map_e.version: 2: must be an integer between 0 and 1 (HB46PP section 3.4)"),
    (map_e(version=False), "map_e.version: False: must be an integer between 0 and 1"),
    (map_e(version=""), "map_e.version: '': must be an integer between 0 and 1"),
    (map_e(mesh=2), "map_e.mesh: 2: must be 1 or true where customer edges send to each other directly, else 0 or false"),
    (map_e(mesh="yes"), "map_e.mesh: 'yes': must be 1 or true"),
    (map_e(br=None), "map_e.br: not set: must be a unicast IPv6 address without length, such as 2001:db8:ffff::1 (RFC 7597 section 5.4)"),
    (map_e(br="ff02::1"), "map_e.br: 'ff02::1': must be a unicast IPv6 address"),
    (map_e(br=["2001:db8::1"]), "map_e.br: ['2001:db8::1']: must be a unicast IPv6 address"),
    (map_e(rules=None), "map_e.rules: not set: must be a list of at least one rule (RFC 7597 section 5)"),
    (map_e(rules=[]), "map_e.rules: []: must be a list of at least one rule"),
    (map_e(rules={"0": RULE}), "map_e.rules: {'0': "),
    (map_e(rules=[RULE, "x"]), "map_e.rules[1]: 'x': must be a rule, an object with ipv6, ipv4, ea_length and psid_offset"),
    (map_e(rules=[RULE, None]), "map_e.rules[1]: not set: must be a rule, an object with ipv6, ipv4, ea_length and psid_offset (HB46PP section 3.4)"),
    (map_e(rules=[*many(3), rule(ea_length=49)]), "map_e.rules[3].ea_length: 49: must be an integer between 0 and 48 (RFC 7597 section 5)"),
    (map_e(rules=[rule(ea_length=None)]), "map_e.rules[0].ea_length: not set: must be an integer between 0 and 48"),
    (map_e(rules=[rule(ea_length=25)]), "map_e.rules[0].ea_length: 25: gives a PSID of 17 bits"),
    (map_e(rules=[rule(psid_offset=None)]), "map_e.rules[0].psid_offset: not set: must be an integer between 0 and 15: an answer has no default for it"),
    (map_e(rules=[rule(psid_offset=11)]), "map_e.rules[0].psid_offset: 11: leaves no port: with the PSID length 6 it must be at most 10"),
    (map_e(rules=[rule(ipv6=None)]), "map_e.rules[0].ipv6: not set: must be an IPv6 prefix with its length"),
    (map_e(rules=[rule(ipv6="2001:db8:41::/42")]), "map_e.rules[0].ipv6: '2001:db8:41::/42': has bits set after its first 42"),
    (map_e(rules=[rule(ipv4="198.51.100.0")]), "map_e.rules[0].ipv4: '198.51.100.0': must be an IPv4 prefix with its length"),
    (map_e(rules=[rule(ipv4="127.0.0.0/24")]), "map_e.rules[0].ipv4: '127.0.0.0/24': lies in 127.0.0.0/8 (loopback)"),
    (map_e(rules=[RULE, rule(ipv6="2001:db8:80::/42")]), "map_e.rules[1].ipv4: '198.51.100.0/24': overlaps 198.51.100.0/24 of map_e.rules[0]"),
    (map_e(rules=[RULE, rule(ipv4="203.0.113.0/24")]), "map_e.rules[1].ipv6: '2001:db8:40::/42': is the prefix of map_e.rules[0] too"),
    # MAP-T.
    ({"order": ["map_t"], "map_t": None}, "map_t: not set: must be an object"),
    (map_t(dmr=None), "map_t.dmr: not set: is required for transport map-t: the IPv6 prefix of the BR"),
    (map_t(dmr="64:ff9b::/95"), "map_t.dmr: '64:ff9b::/95': must have one of the lengths 32, 40, 48, 56, 64, 96"),
    (map_t(dmr="2001:db8:40::/64"), "map_t.dmr: '2001:db8:40::/64': overlaps 2001:db8:40::/42 of map_t.rules[0]"),
])
def test_refused(answer, start):
    assert refusal(answer).startswith(start)


@pytest.mark.parametrize(("tunnels", "start"), [
    (None, "ipip: not set: must be a list of 1 to 16 tunnels, since order names it (HB46PP section 3.4)"),
    ([], "ipip: []: must be a list of 1 to 16 tunnels"),
    (TUNNEL, "ipip: {'ipv6_local'"),
    ([TUNNEL] * 17, "ipip: [{'ipv6_local'"),
    ([TUNNEL, "x"], "ipip[1]: 'x': must be a tunnel, an object with ipv6_local, ipv6_remote and ipv4"),
    ([{**TUNNEL, "ipv6_remote": "192.0.2.1"}], "ipip[0].ipv6_remote: '192.0.2.1': must be a unicast IPv6 address"),
    ([{**TUNNEL, "ipv6_local": None}], "ipip[0].ipv6_local: not set: must be a unicast IPv6 address"),
    ([{**TUNNEL, "ipv4": "203.0.113.1/29"}], "ipip[0].ipv4: '203.0.113.1/29': has bits set after its first 29"),
    ([{**TUNNEL, "ipv4": "2001:db8::1"}], "ipip[0].ipv4: '2001:db8::1': must be an IPv4 address"),
    ([{**TUNNEL, "ipv4": None}], "ipip[0].ipv4: not set: must be an IPv4 prefix"),
])
def test_refused_tunnels(tunnels, start):
    assert refusal({"order": ["ipip"], "ipip": tunnels}, ALL).startswith(start)


def test_all_faults_come_at_once():
    answer = {
        "order": ["map_t", "map_e", "ipip"], "ttl": "x", "token": 5, "map_t": MAP_T["rules"],
        "map_e": {"version": 7, "mesh": "x", "br": "x", "rules": [RULE, 5, rule(ea_length=99), rule(ipv6="x", psid_offset=None)]}, "ipip": [{}]}
    with pytest.raises(MapErrors) as caught:
        read_answer(answer, ALL)
    assert [fault.path for fault in caught.value.faults] == [
        "ttl", "token", "map_t", "map_e.version", "map_e.mesh", "map_e.rules[1]", "map_e.rules[3].psid_offset", "map_e.br", "map_e.rules[2].ea_length",
        "map_e.rules[3].ipv6", "ipip[0].ipv6_local", "ipip[0].ipv6_remote", "ipip[0].ipv4"]


@pytest.mark.parametrize(("answer", "text"), [
    ({"order": []}, "order: []: the provider has no method for this line: ask it over the line itself, with map_e and map_t in capability"),
    ({"order": [], "auth": "req"}, "in capability; it wants the user and pass of the line (HB46PP section 3.4)"),
    ({"order": [], "auth": "bad"}, "in capability; it refused the user and pass (HB46PP section 3.4)"),
    ({"order": ["dslite", "464xlat"]},
     "order: ['dslite', '464xlat']: has no method that is MAP: DS-Lite (RFC 6333) needs a tunnel to the AFTR in dslite.aftr, 464XLAT (RFC 6877) needs a "
     "CLAT with the prefix in 464xlat.nat64prefix; set up one of these by other means, or ask the provider for MAP (HB46PP section 3.4)"),
    ({"order": ["lw4o6"]}, "has no method that is MAP: lightweight 4over6 (RFC 7596) needs a router that does it; "),
    ({"order": ["ipip"]}, "IPIP with a fixed IPv4 address (RFC 2473) needs an ip6tnl tunnel with the addresses in ipip; "),
    ({"order": ["vxlan"]}, "has no method that is MAP: vxlan is not known here; "),
])
def test_an_answer_without_map(answer, text):
    with pytest.raises(AnsibleFilterError) as caught:
        from_hb46pp(answer)
    assert str(caught.value).startswith("softwire.map.from_hb46pp: order: ") and text in str(caught.value)
    assert str(caught.value) == f"softwire.map.from_hb46pp: {no_choice(read_answer(answer))}"


def test_what_is_legal_but_odd():
    assert warnings({**ANSWER, "order": ["dslite", "map_e", "ipip"]}) == []
    (fixed,) = warnings({**ANSWER, "order": ["dslite", "ipip", "map_e"]})
    assert fixed.startswith("order: ['dslite', 'ipip', 'map_e']: the provider prefers ipip, the fixed IPv4 address of this line, and map_e is used: IPIP ")
    (inside,) = warnings(map_e(br="2001:db8:41::1"))
    assert inside == ("map_e.br: '2001:db8:41::1': lies in 2001:db8:40::/42 of map_e.rules[0]: never delegate the end-user prefix around it")
    (nested,) = warnings(map_e(rules=[RULE, rule(ipv6="2001:db8:40::/44", ipv4="203.0.113.0/24")]))
    assert nested.startswith("map_e.rules[1].ipv6: '2001:db8:40::/44': lies in 2001:db8:40::/42 of map_e.rules[0]")


@pytest.mark.parametrize(("changed", "methods", "ignored"), [
    ({"map_t": {**MAP_T, "dmr": "x", "rules": [rule(ea_length=99)]}}, ["map_e", "ipip"], "map_t is ignored: map_t.dmr: 'x': must be "),
    ({"map_e": None}, ["map_t", "ipip"], "map_e is ignored: map_e: not set: must be an object with the parameters of this method, since order names it"),
    ({"ipip": [{}, TUNNEL]}, ["map_t", "map_e"], "ipip is ignored: ipip[0].ipv6_local: not set: must be a unicast IPv6 address"),
])
def test_a_method_that_is_wrong_costs_no_other(changed, methods, ignored):
    """One warning for it, with its first fault; what else is odd about it does not matter."""
    said = []
    answer = read_answer({**ANSWER, "order": ["map_t", "map_e", "ipip"], **changed}, ALL, said.append)
    assert [choice.method for choice in answer.choices] == methods and answer.order == ["map_t", "map_e", "ipip"]
    (warned,) = said
    assert warned.startswith(ignored)


def test_what_is_wrong_beside_the_methods_costs_the_answer():
    assert refusal({**ANSWER, "ttl": "x", "map_t": None}).startswith("ttl: 'x': must be an integer")


def test_the_filter_warns():
    with mock.patch.object(Display, "warning") as warning:
        assert from_hb46pp({**ANSWER, "ttl": 0}) == DOMAIN
    (text,), _named = warning.call_args
    assert text.startswith("softwire.map: ttl: 0: is taken as 600")


# What a server, or somebody on the way, may put in the place of a value.
ODD = (
    None, True, False, 0, 1, -1, 7, 48, 128, 2**31, 10**19, 1.5, "", "x", "0", "1", "::", "::/0", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "192.0.2.0/24",
    "192.0.2.1", "ff02::1", "fe80::/10", "map_e", "map_t", "ipip", "\x00", "\ud800", "光" * 300, "9" * 400, "1:" * 200, "/" * 50, [], {}, [[]], [None],
    [{}], {"rules": []}, [RULE], RULE, MAP_E, MAP_T, [TUNNEL])


def places(value):
    """Each (container, key or index) below a value."""
    inside = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _inner in inside] + [place for _key, inner in inside for place in places(inner)]


def mutated(dice, text):
    """An answer's text with one to three changes, of values or of bytes."""
    if dice.random() < 0.5:
        answer = json.loads(text)
        for _change in range(dice.randint(1, 3)):
            container, key = dice.choice(places(answer) or [({}, "order")])
            kind = dice.random()
            if kind < 0.7:
                container[key] = copy.deepcopy(dice.choice(ODD))
            elif kind < 0.85:
                del container[key]
            elif isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            else:
                container[dice.choice(["order", "map_e", "rules", "br", "new"])] = container[key]
        return json.dumps(answer).encode()
    octets = bytearray(text.encode())
    for _change in range(dice.randint(1, 3)):
        start = dice.randrange(len(octets))
        end = start + dice.choice([0, 1, 1, 1, 40])
        octets[start:end] = dice.choice([bytes([dice.randrange(256)]), b'"', b"9" * 30, b"[" * 3000, b"null", b"", bytes(octets[end:end + 40])])
    return bytes(octets)


def test_mutated_answers_are_refused_or_read_and_nothing_else():
    """20,000 of them: a MapError that can be shown, or domains as people write them; and nothing stays in memory."""
    dice = random.Random(46)
    text = json.dumps(ANSWER)
    read, refused, reached, ignored, objects = 0, 0, set(), set(), None

    def warn(said):
        if " is ignored: " in said:
            ignored.add(re.match(r"(\w+) is ignored: \1", said)[1])

    for count in range(20000):
        if count == 2000:
            gc.collect()
            objects = len(gc.get_objects())
        try:
            answer = read_answer(mutated(dice, text), ALL, warn)
        except MapError as exc:
            refused += 1
            assert len(str(exc)) < 8000
            reached.add(exc.path.partition("[")[0])
            continue
        read += 1
        assert answer.ttl is None or 600 <= answer.ttl <= 604800
        if count % 20 == 0:
            for choice in answer.choices:
                assert (choice.domain is None) == bool(choice.tunnels)
                assert choice.domain is None or parse_domain(choice.domain) == choice.domain
    gc.collect()
    assert len(gc.get_objects()) - objects < 500
    assert read > 2000 and refused > 10000, (read, refused)
    assert {"answer", "order", "ttl", "token", "map_e", "map_e.rules", "map_e.br"} <= reached and ignored == set(ALL)
