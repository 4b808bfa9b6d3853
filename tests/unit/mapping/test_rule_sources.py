# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules in the forms that are not DHCPv6 options: OpenWrt's strings, a rule server's answer."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.softwire.map.plugins.filter.from_dhcpv6_options import from_dhcpv6_options
from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.rule_sources import domain_of

MAP_T = "type=map-t,ealen=12,prefix4len=23,prefix6len=48,ipv4prefix=198.51.100.0,ipv6prefix=2001:db8:30::,offset=0,dmr=2001:db8:ffff::/64"
MAP_E = "type=map-e,ealen=16,prefix4len=24,prefix6len=40,ipv4prefix=192.0.2.0,ipv6prefix=2001:db8::,br=2001:db8:ffff::1"
RULE_T = {"ipv6_prefix": "2001:db8:30::/48", "ipv4_prefix": "198.51.100.0/23", "ea_length": 12, "psid_offset": 0}
RULE_E = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
DOMAIN_T = parse_domain({"transport": "map-t", "dmr": "2001:db8:ffff::/64", "rules": [RULE_T]})
DOMAIN_E = parse_domain({"transport": "map-e", "br_address": "2001:db8:ffff::1", "rules": [RULE_E]})


def decoded(source, end_user_prefix=None):
    """The domain and the warnings."""
    warned = []
    return domain_of(source, None, end_user_prefix, warned.append), warned


def refusal(source, **named):
    with pytest.raises(MapError) as caught:
        domain_of(source, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        (MAP_T, DOMAIN_T),
        (MAP_E, DOMAIN_E),
        # As odhcp6c writes its variables: a comma and a blank after each rule, the port parameters that came.
        (f"MAPT={MAP_T}, ", DOMAIN_T),
        (f"MAPE='{MAP_E},offset=6,psidlen=0,psid=0, '", DOMAIN_E),
        (f"fmr,{MAP_E}", {**DOMAIN_E, "rules": [{**DOMAIN_E["rules"][0], "fmr": True}]}),
        (f"{MAP_E},br=2001:db8:ffff::2,br=2001:db8:ffff::1", {**DOMAIN_E, "br_address": ["2001:db8:ffff::1", "2001:db8:ffff::2"]}),
        # mapcalc's default for one address.
        (MAP_E.replace("prefix4len=24,", "").replace("ealen=16", "ealen=0"),
         parse_domain({**DOMAIN_E, "rules": [{**RULE_E, "ipv4_prefix": "192.0.2.0/32", "ea_length": 0}]})),
        # An explicit PSID stands at the left of 16 bits, and in hex with 0x before it.
        (f"{MAP_E},psidlen=8,psid=0x3400".replace("ealen=16,prefix4len=24", "ealen=0,prefix4len=32"),
         parse_domain({**DOMAIN_E, "rules": [{**RULE_E, "ipv4_prefix": "192.0.2.0/32", "ea_length": 0, "psid_length": 8, "psid": 0x34}]})),
    ],
)
def test_rule_strings(text, domain):
    assert decoded(text) == (domain, [])


def test_rule_strings_of_several_rules():
    other = MAP_E.replace("2001:db8::,", "2001:db8:100::,").replace("192.0.2.0", "198.51.100.9")
    domain, warned = decoded(f"fmr,{MAP_E},offset=4 {other}\nfmr,{other}")
    assert domain == parse_domain({**DOMAIN_E, "rules": [
        {**RULE_E, "psid_offset": 4, "fmr": True}, {**RULE_E, "ipv6_prefix": "2001:db8:100::/40", "ipv4_prefix": "198.51.100.0/24", "fmr": True}]})
    ignored = "'198.51.100.9': the provider sends other bits than zero after the first 24; they are ignored (RFC 7598 section 4.1)"
    assert warned == [f"rules[1].ipv4prefix: {ignored}", f"rules[2].ipv4prefix: {ignored}",
                      "rules[2].ipv6prefix: '2001:db8:100::/40': is the rule of rules[1] again: they are one, forwarding (fmr) as one of them is"]


@pytest.mark.parametrize(
    ("end_user_prefix", "said"),
    [
        (None, ["rules[0].psid: 127: is not used: each customer edge takes its PSID from its EA bits (RFC 7598 section 4.5)"]),
        ("2001:db8:12:7f00::/56", []),
        ("2001:db8:12:3400::/56", ["rules[0].psid: 127: is not 52, which the EA bits of the end-user prefix give, and is not used: the border relay goes by "
                                   "the EA bits (RFC 7598 section 4.5)"]),
    ],
)
def test_a_psid_in_a_rule_string(end_user_prefix, said):
    assert decoded(f"{MAP_E},psidlen=8,psid=32512", end_user_prefix) == (DOMAIN_E, said)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (MAP_E.replace("map-e", "map-x"), "rules[0].type: 'map-x': must be one of map-e, map-t"),
        (MAP_E.replace("type=map-e,", ""), "rules[0].type: not set: must be one of map-e, map-t"),
        (MAP_E.replace("map-e", "lw4o6"), "rules[0].type: 'lw4o6': lightweight 4over6 is not MAP"),
        (MAP_E.replace("ealen=16", "ealen=49"), "rules[0].ealen: '49': must be an integer between 0 and 48"),
        (MAP_E.replace("ealen=16", "ealen=25"), "rules[0].ealen: 25: gives a PSID of 17 bits"),
        (MAP_E.replace("ealen=16,", ""), "rules[0].ealen: not set: must be an integer between 0 and 48"),
        (MAP_E.replace("ealen", "ealenn"), "rules[0].ealenn: '16': is not a value of a rule, did you mean ealen?"),
        (f"{MAP_E},legacy", "rules[0].legacy: '': is not a value of a rule; there are fmr, ipv6prefix"),
        (MAP_E.replace("192.0.2.0", "192.0.2"), "rules[0].ipv4prefix: '192.0.2': must be an IPv4 address"),
        (MAP_E.replace("br=2001:db8:ffff::1", "br=ff02::1"), "rules[0].br: 'ff02::1': must be a unicast IPv6 address"),
        (MAP_E.replace(",br=2001:db8:ffff::1", ""), "rules[0].br: not set: is required for transport map-e"),
        (MAP_T.replace("/64", "/65"), "rules[0].dmr: '2001:db8:ffff::/65': must have one of the lengths"),
        (f"{MAP_E},dmr=64:ff9b::/96", "rules[0].dmr: '64:ff9b::/96': is for transport map-t only"),
        (f"{MAP_E},offset=9", "rules[0].offset: 9: leaves no port"),
        (f"{MAP_E},psidlen=17,psid=0", "rules[0].psidlen: '17': must be an integer between 0 and 16"),
        (f"{MAP_E},psidlen=7,psid=0", "rules[0].psidlen: 7: contradicts the EA bits"),
        (f"{MAP_E},psidlen=8,psid=65536", "rules[0].psid: '65536': must be an integer between 0 and 65535"),
        (f"{MAP_E} {MAP_T}", "3 faults:\n- rules[1].type: 'map-t': differs from rules[0], where it is map-e: a domain has one"),
        (f"{MAP_E} {MAP_E.replace('192', '193')}", "rules[1].ipv6prefix: '2001:db8::/40': is the prefix of rules[0] too"),
        ("=", "rules[0].: '': is not a value of a rule"),
        (" ".join([MAP_E] * 257), "rules: 257: are more rules than the 256"),
        (f"{MAP_E},{'br=::1,' * 200}", "rules[0]: 'type=map-e,ealen=16,prefix4len=24,prefix6len=40,ipv4prefix=192.0.2.0,ipv6pr...': has 1511 ch"),
    ],
)
def test_refused_rule_strings(text, start):
    refused = refusal(text)
    assert refused.startswith(start), refused


def entry(**changed):
    """A rule as the server writes it, every value as text."""
    return {"brIpv6Address": "2001:db8:ffff::1", "ipv6Prefix": "2001:db8:40::", "ipv6PrefixLength": "42", "ipv4Prefix": "198.51.100.0",
            "ipv4PrefixLength": "24", "eaBitLength": "14", "psIdOffset": "6", **changed}


ANSWER = {"hostName": "", "basicMapRules": [entry()]}
DOMAIN = parse_domain({
    "transport": "map-e", "interface_id": "draft03", "br_address": "2001:db8:ffff::1",
    "rules": [{"ipv6_prefix": "2001:db8:40::/42", "ipv4_prefix": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}]})
# One fixed address of which the line has the ports of one PSID.
FIXED = entry(ipv6Prefix="2001:db8::", ipv6PrefixLength=32, ipv4Prefix="198.51.100.177", ipv4PrefixLength=32, eaBitLength=8, psIdOffset=4, psId=24,
              hostName="ce-198-51-100-177.example.net")


@pytest.mark.parametrize(
    "source",
    [ANSWER, json.dumps(ANSWER), json.dumps(ANSWER, indent=4), f"v6plus({json.dumps(ANSWER)});", f" ?({json.dumps(ANSWER)})\n",
     {"basicMapRules": [entry(ipv6PrefixLength=42, ipv4PrefixLength=24, eaBitLength=14, psIdOffset=6)]},
     {"basicMapRules": [entry(ipv6Prefix="2001:0db8:0040::", hostName=None, psId=None, anything=[1])]}],
)
def test_an_answer(source):
    assert decoded(source) == (DOMAIN, [])


def test_an_answer_gives_the_customer_edge_of_its_line():
    """Its interface identifier is that of draft03, with the IPv4 address one byte further left."""
    ce = calculator.ce(domain_of(ANSWER), "2001:db8:52:3400::/56")
    assert (ce["ipv4_address"], ce["psid"], ce["port_count"], ce["map_address"]) == ("198.51.100.72", 52, 1008, "2001:db8:52:3400:c6:3364:4800:3400")


@pytest.mark.parametrize(
    ("end_user_prefix", "ipv6_prefix", "said"),
    [
        ("2001:db8:1800::/56", "2001:db8:1800::/40", []),
        ("2001:db8:1900::/56", "2001:db8:1900::/40", ["is used, though the EA bits of the end-user prefix give 25"]),
        (None, "2001:db8:1800::/40", ["is explicit beside EA bits: this is the rule of the one customer edge"]),
    ],
)
def test_a_fixed_address(end_user_prefix, ipv6_prefix, said):
    domain, warned = decoded({"basicMapRules": [FIXED]}, end_user_prefix)
    assert domain["rules"] == [{"ipv6_prefix": ipv6_prefix, "ipv4_prefix": "198.51.100.177/32", "ea_length": 0, "psid_offset": 4, "psid_length": 8,
                                "psid": 24, "fmr": False}]
    assert len(warned) == len(said) and all(f"basicMapRules[0].psId: 24: {part}" in text for part, text in zip(said, warned))
    ce = calculator.ce(domain, end_user_prefix or "2001:db8:1800::/56")
    assert (ce["ipv4_address"], ce["port_ranges"][0], ce["port_ranges"][-1], ce["port_count"]) == ("198.51.100.177", [4480, 4495], [61824, 61839], 240)


@pytest.mark.parametrize("psid", [0, "0", None])
def test_a_whole_fixed_address(psid):
    domain, warned = decoded({"basicMapRules": [{**FIXED, "ipv6PrefixLength": 56, "eaBitLength": 0, "psId": psid}]})
    assert (domain["rules"][0]["psid_length"], domain["rules"][0]["psid"], warned) == (0, None, [])


def test_several_border_relays():
    """As of a service whose east and west have one each: a domain has one, that of the line's rule with the longest match."""
    east, west = entry(), entry(ipv6Prefix="2001:db8:80::", ipv4Prefix="203.0.113.0", brIpv6Address="2001:db8:ffff::2")
    inside = entry(ipv6Prefix="2001:db8:80:4000::", ipv6PrefixLength="50", ipv4Prefix="192.0.2.0", brIpv6Address="2001:db8:ffff::3")
    source = {"basicMapRules": [east, west, east, inside, {**west, "ipv6Prefix": "2001:db8:c0::", "ipv4Prefix": "192.0.3.0"}]}
    domain, warned = decoded(source, "2001:db8:92:3400::/56")
    assert domain["br_address"] == ["2001:db8:ffff::2"] and warned == []
    assert [rule["ipv6_prefix"] for rule in domain["rules"]] == ["2001:db8:80::/42", "2001:db8:c0::/42"]
    assert decoded(source, "2001:db8:80:4100::/64")[0]["br_address"] == ["2001:db8:ffff::3"]
    domain, warned = decoded(source, "2001:db8:52:3400::/56")
    assert domain == DOMAIN
    assert warned == ["basicMapRules[2].ipv6Prefix: '2001:db8:40::/42': is the rule of basicMapRules[0] again: they are one, not forwarding (fmr)"]
    assert refusal(source).startswith("basicMapRules[1].brIpv6Address: '2001:db8:ffff::2': is not 2001:db8:ffff::1 as in basicMapRules[0], and a domain has "
                                      "one: give end_user_prefix")
    assert refusal(source, end_user_prefix="2001:dba::/56").startswith("end_user_prefix: '2001:dba::/56': is outside every rule of the 5 in basicMapRules")
    # A fault has the place of the rule in the whole answer.
    source["basicMapRules"][4]["psIdOffset"] = "11"
    assert refusal(source, end_user_prefix="2001:db8:92:3400::/56").startswith("basicMapRules[4].psIdOffset: 11: leaves no port")


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ({}, "basicMapRules: not set: must be a list of at least one rule, as a rule server answers"),
        ({"basicMapRules": []}, "basicMapRules: []: must be a list"),
        ({"basicMapRules": {"0": entry()}}, "basicMapRules: {'0': "),
        ("{}", "basicMapRules: not set"),
        ('{"basicMapRules": [', "option: '{\"basicMapRules\": [': begins as JSON and is none: Expecting value"),
        ("v6plus(null)", "basicMapRules: not set"),
        ("v6plus([1])", "basicMapRules: not set"),
        ('{"a":' * 50000, "option: '{\"a\":{\"a\":"),
        ('{"basicMapRules":' + "[" * 8 + "]" * 8 + "}", "option: '{\"basicMapRules\":[[[[[[[[]]]]]]]]}': is no answer of a rule server, whose lists"),
        ('{"basicMapRules":' + "[" * 7 + "]" * 7 + "}", "basicMapRules[0]: [[[[[[]]]]]]: must be a rule, a dict"),
        ('{"basicMapRules":[{"psIdOffset":' + "9" * 99 + "}]}", "7 faults:\n- basicMapRules[0].brIpv6Address: not set"),
        ({"basicMapRules": [entry(), 3]}, "basicMapRules[1]: 3: must be a rule, a dict"),
        ({"basicMapRules": [entry(brIpv6Address=None)]}, "basicMapRules[0].brIpv6Address: not set: must be a unicast IPv6 address"),
        ({"basicMapRules": [entry(ipv6PrefixLength="129")]}, "basicMapRules[0].ipv6PrefixLength: '129': must be an integer between 0 and 128"),
        ({"basicMapRules": [entry(ipv4Prefix=3)]}, "basicMapRules[0].ipv4Prefix: 3: must be an IPv4 address"),
        ({"basicMapRules": [entry(eaBitLength=14.5)]}, "basicMapRules[0].eaBitLength: 14.5: must be an integer between 0 and 48"),
        ({"basicMapRules": [entry(eaBitLength="25")]}, "basicMapRules[0].eaBitLength: 25: gives a PSID of 17 bits"),
        ({"basicMapRules": [entry(psId="x")]}, "basicMapRules[0].psId: 'x': must be an integer between 0 and 65535"),
        ({"basicMapRules": [{**FIXED, "psId": 256}]}, "basicMapRules[0].psId: 256: is wider than its psid_length of 8"),
        ({"basicMapRules": [{**FIXED, "eaBitLength": 0, "psId": 1}]}, "basicMapRules[0].psId: 1: has psid_length 0, which says"),
        ({"basicMapRules": [entry(), entry(ipv4Prefix="203.0.113.0")]}, "basicMapRules[1].ipv6Prefix: '2001:db8:40::/42': is the prefix of"),
        ({"basicMapRules": [entry(ipv4Prefix="240.0.0.0")]}, "basicMapRules[0].ipv4Prefix: '240.0.0.0/24': lies in 240.0.0.0/4"),
        ({"basicMapRules": [entry()] * 257}, "basicMapRules: 257: are more rules than the 256 that a line gets at most"),
        ("0" * 262145, "option: '0000"),
    ],
)
def test_refused_answers(source, start):
    refused = refusal(source)
    assert refused.startswith(start), refused


@pytest.mark.parametrize("source", [MAP_E, ANSWER])
def test_a_code_is_for_options_alone(source):
    assert refusal(source, code=94).startswith("code: 94: is for DHCPv6 options in hex, and this is none; leave it out")


def test_the_filter_takes_all_of_them_and_warns():
    with mock.patch.object(Display, "warning") as warning:
        assert from_dhcpv6_options({"basicMapRules": [FIXED]}, end_user_prefix="2001:db8:1900::/56")["rules"][0]["psid"] == 24
        assert from_dhcpv6_options(MAP_T) == DOMAIN_T
    (text,), _named = warning.call_args
    assert text.startswith("softwire.map: basicMapRules[0].psId: 24: is used, though")
    with pytest.raises(AnsibleFilterError, match=r"^softwire\.map\.from_dhcpv6_options: rules\[0\]\.type: 'map-x'"):
        from_dhcpv6_options(MAP_E.replace("map-e", "map-x"))
