# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic against published vectors and worked examples."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping import arithmetic
from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain, MapError, map_address, port_ranges

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ce.json").read_text())


def rule(ipv6_prefix="2001:db8::/40", ipv4_prefix="192.0.2.0/24", ea_length=16, **other):
    fields = {
        "ipv6_prefix": ipv6_prefix,
        "ipv4_prefix": ipv4_prefix,
        "ea_length": ea_length,
        "psid_offset": 6,
        "psid_length": arithmetic.psid_length_of(ea_length, int(ipv4_prefix.split("/")[1])),
        "psid": None,
        "fmr": False,
    }
    fields.update(other)
    return fields


def ce(end_user_prefix, *rules, interface_id="rfc7597"):
    domain = {
        "transport": "map-e",
        "interface_id": interface_id,
        "br_address": ["2001:db8:ffff::1", "2001:db8:ffff::2"],
        "dmr": None,
        "rules": list(rules),
    }
    return Domain(domain).ce(end_user_prefix)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_published_vector(vector):
    result = ce(vector["end_user_prefix"], rule(**vector["rule"]), interface_id=vector["interface_id"])
    assert {key: result[key] for key in vector["expect"]} == vector["expect"]


def test_the_whole_ce():
    basic = rule(ea_length=13, ipv6_prefix="2001:db8:ce::/51", psid_offset=0)
    mesh = rule(ipv6_prefix="2001:db8:8000::/40", ipv4_prefix="198.51.100.0/24", fmr=True)
    assert ce("2001:DB8:ce:11b::/64", basic, mesh) == {
        "delegated_prefix": "2001:DB8:ce:11b::/64",
        "end_user_prefix": "2001:db8:ce:11b::/64",
        "rule": basic,
        "fmrs": [mesh],
        "transport": "map-e",
        "interface_id": "rfc7597",
        "ipv4_address": "192.0.2.8",
        "ipv4_prefix": None,
        "psid": 27,
        "psid_length": 5,
        "psid_offset": 0,
        "port_ranges": [[55296, 57343]],
        "port_count": 2048,
        "sharing_ratio": 32,
        "map_address": "2001:db8:ce:11b:0:c000:208:1b",
        "br_address": "2001:db8:ffff::1",
        "dmr": None,
    }


def test_a_bmr_that_is_an_fmr_comes_out_as_two_dicts():
    result = ce("2001:db8:12:3400::/56", rule(fmr=True))
    assert result["fmrs"] == [result["rule"]]
    assert result["fmrs"][0] is not result["rule"]


@pytest.mark.parametrize(
    ("what", "end_user_prefix", "the_rule", "expect"),
    [
        (
            "IPv4 prefix, o + r < 32",
            "2001:db8:34::/48",
            rule(ea_length=8, ipv4_prefix="10.0.0.0/16", ipv6_prefix="2001:db8::/40"),
            {"ipv4_address": None, "ipv4_prefix": "10.0.52.0/24", "psid": None, "psid_length": 0, "sharing_ratio": 1,
             "port_ranges": [[0, 65535]], "port_count": 65536, "map_address": "2001:db8:34::a00:3400:0"},
        ),
        (
            "IPv4 prefix of the rule, o = 0",
            "2001:db8:12:3400::/56",
            rule(ea_length=0, ipv6_prefix="2001:db8:12:3400::/56"),
            {"ipv4_address": None, "ipv4_prefix": "192.0.2.0/24", "map_address": "2001:db8:12:3400:0:c000:200:0"},
        ),
        (
            "full address, o + r = 32",
            "2001:db8:12::/48",
            rule(ea_length=8),
            {"ipv4_address": "192.0.2.18", "ipv4_prefix": None, "psid": None, "port_count": 65536},
        ),
        (
            "r = 0: the whole address is in the EA bits",
            "2001:db8:c000:212::/64",
            rule(ea_length=32, ipv4_prefix="0.0.0.0/0", ipv6_prefix="2001:db8::/32"),
            {"ipv4_address": "192.0.2.18", "psid": None, "map_address": "2001:db8:c000:212:0:c000:212:0"},
        ),
        (
            "r = 0 and 48 EA bits: address and port",
            "2001:c000:212:ffff::/64",
            rule(ea_length=48, ipv4_prefix="0.0.0.0/0", ipv6_prefix="2001::/16", psid_offset=0),
            {"ipv4_address": "192.0.2.18", "psid": 65535, "port_ranges": [[65535, 65535]], "port_count": 1, "sharing_ratio": 65536},
        ),
        (
            "r = 32, o > 0: the EA bits are the PSID",
            "2001:db8:34::/48",
            rule(ea_length=8, ipv4_prefix="192.0.2.18/32"),
            {"ipv4_address": "192.0.2.18", "psid": 0x34, "psid_length": 8, "map_address": "2001:db8:34::c000:212:34"},
        ),
        (
            "explicit PSID",
            "2001:db8:12:3400::/56",
            rule(ea_length=0, ipv4_prefix="192.0.2.18/32", ipv6_prefix="2001:db8:12:3400::/56", psid_length=8, psid=0x34),
            {"psid": 0x34, "psid_length": 8, "port_count": 252, "map_address": "2001:db8:12:3400:0:c000:212:34"},
        ),
        (
            "an end-user prefix of 72 bits overwrites the ninth byte",
            "2001:db8:12:3400:5600::/72",
            rule(ipv6_prefix="2001:db8:12:3400::/56"),
            {"end_user_prefix": "2001:db8:12:3400:5600::/72", "ipv4_address": "192.0.2.0", "psid": 0x56,
             "map_address": "2001:db8:12:3400:5600:c000:200:56"},
        ),
        (
            "an end-user prefix of 88 bits overwrites the first byte of the IPv4 address",
            "2001:db8:12:3400:1:ff00::/88",
            rule(ipv6_prefix="2001:db8:12:3400::/72"),
            {"ipv4_address": "192.0.2.1", "psid": 0xFF, "map_address": "2001:db8:12:3400:1:ff00:201:ff"},
        ),
        (
            "an end-user prefix of 128 bits leaves no interface identifier",
            "2001:db8::1234/128",
            rule(ipv6_prefix="2001:db8::/112"),
            {"ipv4_address": "192.0.2.18", "psid": 0x34, "map_address": "2001:db8::1234"},
        ),
        (
            "OCN's k = 6, a = 6",
            "2400:4050::/64",
            rule(ea_length=18, ipv6_prefix="2400:4050::/38", ipv4_prefix="153.240.0.0/20"),
            {"port_count": 1008, "sharing_ratio": 64},
        ),
        (
            "v6 Plus: k = 8, a = 4",
            "240b:10::/64",
            rule(ea_length=25, ipv6_prefix="240b:10::/31", ipv4_prefix="106.72.0.0/15", psid_offset=4),
            {"port_count": 240, "sharing_ratio": 256},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_cases_of_a_rule(what, end_user_prefix, the_rule, expect):
    result = ce(end_user_prefix, the_rule)
    assert {key: result[key] for key in expect} == expect


def test_longest_match_selects_the_bmr():
    wide = rule()
    narrow = rule(ipv6_prefix="2001:db8:12::/48", ipv4_prefix="198.51.100.0/24", ea_length=8)
    for order in ([wide, narrow], [narrow, wide]):
        assert ce("2001:db8:12:3400::/56", *order)["ipv4_address"] == "198.51.100.52"
        assert ce("2001:db8:13:3400::/56", *order)["ipv4_address"] == "192.0.2.19"


@pytest.mark.parametrize("interface_id", ["rfc7597", "draft03"])
@pytest.mark.parametrize("delegated", ["2001:db8:12:3456::/64", "2001:db8:12:34ff:ffff::/80", "2001:db8:12:3400::1/128"])
def test_a_longer_prefix_is_cut(delegated, interface_id):
    exact = ce("2001:db8:12:3400::/56", rule(), interface_id=interface_id)
    cut = ce(delegated, rule(), interface_id=interface_id)
    assert cut.pop("delegated_prefix") == delegated
    del exact["delegated_prefix"]
    assert cut == exact


@pytest.mark.parametrize(
    ("psid", "psid_length", "psid_offset", "expect"),
    [
        (0, 0, 6, [[0, 65535]]),
        (0, 0, 0, [[0, 65535]]),
        (0, 5, 0, [[0, 2047]]),
        (0x34, 8, 1, [[0x8000 + 0x34 * 128, 0x8000 + 0x34 * 128 + 127]]),
        (2, 2, 14, [[n * 4 + 2] * 2 for n in range(1, 2**14)]),
        (1, 1, 15, [[n * 2 + 1] * 2 for n in range(1, 2**15)]),
        (65535, 16, 0, [[65535, 65535]]),
    ],
)
def test_port_ranges(psid, psid_length, psid_offset, expect):
    assert port_ranges(psid, psid_length, psid_offset) == expect


def test_map_t_puts_the_complete_address_of_a_host_behind_a_prefix_into_its_map_address():
    prefix = int(ipaddress.IPv6Address("2001:db8:34::"))
    base, host = (int(ipaddress.IPv4Address(address)) for address in ("10.0.52.0", "10.0.52.7"))
    assert arithmetic.ipv6_text(map_address(prefix, 48, base, 0, "rfc7597")) == "2001:db8:34::a00:3400:0"
    assert arithmetic.ipv6_text(map_address(prefix, 48, host, 0, "rfc7597")) == "2001:db8:34::a00:3407:0"


@pytest.mark.parametrize(
    ("end_user_prefix", "text"),
    [
        ("2001:db8:12::/48", "is too short for rules[0] (2001:db8::/40 and 16 EA bits): this rule needs a prefix of at least /56 (RFC 7597 section 5.2)"),
        ("2001:db8::/32", "is shorter than the prefix of rules[0] (2001:db8::/40): this rule needs a prefix of at least /56 (RFC 7597 section 5.2)"),
        ("2001:db9::/56", "is outside every rule of the domain (2001:db8::/40): add the rule of this prefix or correct the prefix (RFC 7597 section 5.2)"),
        ("2001:db8:12:3401::/56", "has bits set after its first 56: write 2001:db8:12:3400::/56, or the length that is meant (RFC 4291 section 2.3)"),
        *(
            (text, "must be an IPv6 prefix with its length, such as 2001:db8:12:3400::/56 (RFC 4291 section 2.3)")
            for text in ("2001:db8::", "2001:db8::/", "2001:db8::/129", "2001:db8::/+56", "2001:db8::/5_6", "2001:db8::/\u0665",
                         "2001:db8:::/56", " 2001:db8::/56", "192.0.2.0/24", "fe80::%eth0/64", "2001:db8::/56/56", "x\0/56")
        ),
    ],
)
def test_refused_end_user_prefix(end_user_prefix, text):
    with pytest.raises(MapError) as caught:
        ce(end_user_prefix, rule())
    assert str(caught.value) == f"end_user_prefix: {end_user_prefix!r}: {text}"


@pytest.mark.parametrize(("value", "shown"), [(None, "not set"), (56, "56"), ("", "''"), (["2001:db8::/56"], "['2001:db8::/56']")])
def test_refused_type_of_end_user_prefix(value, shown):
    with pytest.raises(MapError) as caught:
        ce(value, rule())
    assert str(caught.value).startswith(f"end_user_prefix: {shown}: must be an IPv6 prefix")


def test_an_error_names_five_rules_at_most():
    rules = [rule(ipv6_prefix=f"2001:db8:{index}00::/40", ipv4_prefix=f"10.0.{index}.0/24") for index in range(1, 8)]
    with pytest.raises(MapError, match=r"\(2001:db8:100::/40, .*, 2001:db8:500::/40 and 2 more\)"):
        ce("2001:db9::/56", *rules)
