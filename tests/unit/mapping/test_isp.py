# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the ISPs are sound, and are found by the names that people write."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.softwire.map.plugins.filter import isp_domain as isp_filter
from ansible_collections.softwire.map.plugins.module_utils.mapping.calculator import ce
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.isp import RULE_KEYS, _plain, isp_domain, isp_domains, not_map, services

VECTORS = {vector["name"]: vector for vector in json.loads((Path(__file__).parents[1] / "vectors" / "ce.json").read_text())}


def test_how_much_is_known():
    assert {name: len(service["rules"]) for name, service in services().items()} == {"v6plus": 4, "ocn": 160, "biglobe": 258, "nuro": 4}
    assert {rule["confidence"] for service in services().values() for rule in service["rules"]} == {"high", "medium"}


@pytest.mark.parametrize("name", sorted(services()))
def test_the_rules_of_an_isp_form_a_valid_domain_without_overlaps(name):
    service = services()[name]
    rules = [{key: rule[key] for key in RULE_KEYS} for rule in service["rules"]]
    parse_domain({"transport": service["transport"], "br_address": "2001:db8::1", "rules": rules})
    networks = sorted(ipaddress.IPv6Network(rule["ipv6_prefix"]) for rule in rules)
    assert not any(one.overlaps(two) for one, two in zip(networks, networks[1:]))


@pytest.mark.parametrize("name", sorted(services()))
def test_every_rule_gives_a_ce_of_a_56_with_the_ports_that_the_isp_states(name):
    service = services()[name]
    for rule in service["rules"]:
        last = int(ipaddress.IPv6Network(rule["ipv6_prefix"]).broadcast_address) >> 64 << 64
        prefix = f"{ipaddress.IPv6Address(last)}/64"
        domain = isp_domain(name, prefix)
        result = ce(domain, prefix)
        assert result["rule"] == {**{key: rule[key] for key in RULE_KEYS}, "psid": None, "fmr": False}
        assert result["end_user_prefix"].endswith("/56")
        assert result["interface_id"] == "draft03"
        assert result["port_count"] == service["port_count"]
        assert result["br_address"] == rule["br_address"]


@pytest.mark.parametrize("name", sorted(services()))
def test_the_domains_of_an_isp_hold_all_its_rules_as_parse_domain_returns_them(name):
    domains = isp_domains(f" {name.upper()} ")
    assert domains == [parse_domain(domain) for domain in domains]
    held = [{**{key: rule[key] for key in RULE_KEYS}, "br_address": domain["br_address"][0]} for domain in domains for rule in domain["rules"]]
    known = [{key: rule[key] for key in (*RULE_KEYS, "br_address")} for rule in services()[name]["rules"]]
    assert sorted(held, key=str) == sorted(known, key=str)
    assert len({domain["br_address"][0] for domain in domains}) == len(domains)
    for domain in domains:
        rule = domain["rules"][-1]
        base, length = rule["ipv6_prefix"].split("/")
        assert isp_domain(name, f"{base}/{int(length) + rule['ea_length']}") == {**domain, "rules": [rule]}


@pytest.mark.parametrize(
    ("isp", "vector"),
    [
        ("v6plus", "jpne-opnsense-4983"),
        ("jpne", "jpne-js-test"),
        ("biglobe", "biglobe-js-test"),
        ("ocn", "ocn-js-test"),
        ("nuro", "nuro-synthetic"),
    ],
)
def test_published_vectors_by_the_name_of_the_isp(isp, vector):
    vector = VECTORS[vector]
    result = ce(isp_domain(isp, vector["end_user_prefix"]), vector["end_user_prefix"])
    assert {key: result[key] for key in vector["expect"]} == vector["expect"]


PREFIXES = {"v6plus": "240b:10::/56", "ocn": "2400:4050::/56", "biglobe": "2404:7a82::/56", "nuro": "240d:f::/56"}


@pytest.mark.parametrize(
    ("service", "names"),
    [
        ("v6plus", ["v6plus", "v6 Plus", "V6-PLUS", "ｖ６プラス", "v6ﾌﾟﾗｽ", "「v6プラス」", "JPNE", " jpne ", "v6プラス (JPNE)", "v6プラス（ＪＰＮＥ）",
                    "@nifty v6プラス", "So-net v6プラス", "GMOとくとくBB v6plus", "enひかり v6plus", "So-net光 (v6プラス)"]),
        ("ocn", ["ocn", "OCN光", "ＯＣＮ光", "ドコモ光 OCN", "OCN for ドコモ光", "OCN for docomo hikari", "OCN Virtual Connect", "OCN バーチャルコネクト",
                 "OCNバーチャルコネクト (MAP-E)", "OCN インターネット", "ぷらら光", "plala"]),
        ("biglobe", ["BIGLOBE", "BIGLOBE光", "ビッグローブ光", "BIGLOBE IPv6 option", "BIGLOBE「IPv6オプション」"]),
        ("nuro", ["NURO", "NURO 光", "nuro hikari"]),
    ],
)
def test_names_as_people_write_them(service, names):
    first = isp_domain(service, PREFIXES[service])
    assert [name for name in names if isp_domain(name, PREFIXES[service]) != first] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("transix", "transix is DS-Lite, not MAP: set up a DS-Lite tunnel"),
        ("v6 Connect", "v6 Connect is DS-Lite, not MAP: "),
        ("v6コネクト", "v6 Connect is DS-Lite, not MAP: "),
        ("xpass", "Cross Pass (xpass) is DS-Lite, not MAP: "),
        ("楽天ひかり (クロスパス)", "Cross Pass (xpass) is DS-Lite, not MAP: "),
        ("SoftBank光", "SoftBank Hikari is IPIP by a scheme of the ISP's own, not MAP: keep the ISP's router"),
        ("ソフトバンク光", "SoftBank Hikari is IPIP"),
        ("v6プラス 固定IP", "v6 Plus with a fixed IPv4 address is IPIP, not MAP: "),
        ("ocm", "is not the name of a known service: did you mean ocn? Otherwise use one of v6plus ("),
        ("v6puls", "is not the name of a known service: did you mean v6plus or "),
        ("tranzix", "is not the name of a known service: did you mean transix? Otherwise "),
        # Who sells the line, not what it is.
        ("ドコモ光", "does not tell which service the line has: use one of v6plus ("),
        ("So-net", "does not tell which service the line has: use one of v6plus ("),
        ("@nifty光", "does not tell which service the line has: use one of v6plus ("),
        ("sky", "is not the name of a known service: use one of v6plus (v6 Plus), ocn (OCN Virtual Connect), biglobe (BIGLOBE IPv6 option), "
                "nuro (NURO Hikari), or write a domain with the ISP's rules"),
        ("光", "does not tell which service the line has: "),
        ("", "is not the name of a known service: use one of v6plus ("),
        (None, "is not the name of a known service: use one of v6plus ("),
        (["ocn"], "is not the name of a known service: use one of v6plus ("),
    ],
)
def test_names_that_are_refused(name, text):
    fault = refused(name, "240b:10::/56")
    assert fault.path == "isp" and fault.reason.startswith(text)


def test_a_name_stands_for_one_service():
    owners = {}
    for key, service in {**services(), **not_map()}.items():
        for name in {_plain(name) for name in (key, service["title"], *service["aliases"])}:
            owners.setdefault(name, []).append(key)
    assert [(name, keys) for name, keys in owners.items() if len(keys) > 1 or not name] == []


def test_a_range_belongs_to_one_service_and_holds_no_rule():
    ranges = [(key, text) for key, service in not_map().items() for text in service["ipv6_prefixes"]]
    ranges += [(key, rule["ipv6_prefix"]) for key, service in services().items() for rule in service["rules"]]
    networks = sorted((ipaddress.IPv6Network(text), key) for key, text in ranges)
    assert [(one, two) for one, two in zip(networks, networks[1:]) if one[0].overlaps(two[0])] == []
    assert {service["confidence"] for service in not_map().values()} == {"medium"} and all(service["evidence"] for service in not_map().values())


def test_biglobe_has_a_br_in_the_east_and_one_in_the_west():
    assert isp_domain("biglobe", "2404:7a82::/56")["br_address"] == ["2001:260:700:1::1:275"]
    assert isp_domain("biglobe", "2404:7a86::/56")["br_address"] == ["2001:260:700:1::1:276"]


def refused(isp, prefix):
    """The fault for a name and a prefix, the same from the filter."""
    with pytest.raises(MapError) as caught:
        isp_domain(isp, prefix)
    with pytest.raises(AnsibleFilterError) as by_filter:
        isp_filter.isp_domain(isp, prefix)
    assert str(by_filter.value) == f"softwire.map.isp_domain: {caught.value}"
    return caught.value


OUTSIDE = "look whether it is the prefix of this line, then ask the ISP for its rule and write a domain; the nearest known are"


@pytest.mark.parametrize(
    ("isp", "prefix", "text"),
    [
        ("ocn", "2400:4052:f000::/56", f"{OUTSIDE} 2400:4052:ec00::/38, 2400:4052:e800::/38, 2400:4052:e400::/38"),
        # The longest common prefix decides, though 2400:4150::/34 is less far away; then the distance.
        ("ocn", "2400:40ff::/56", f"{OUTSIDE} 2400:4053:c000::/34, "),
        ("v6plus", "240b:14::/56", f"{OUTSIDE} 240b:12::/31, 240b:10::/31, 240b:250::/31"),
        ("v6plus", "2001:db8::/56", f"{OUTSIDE} 240b:10::/31, 240b:12::/31, 240b:250::/31"),
        ("ocn", "240b:10::/56", "it belongs to v6plus (v6 Plus), so write v6plus"),
        ("v6plus", "2400:4050::/56", "it belongs to ocn (OCN Virtual Connect), so write ocn"),
        ("ocn", "2404:8e01:1:200::/56", "it looks like a transix line, which is DS-Lite, not MAP: set up a DS-Lite tunnel (RFC 6333) to the AFTR"),
        ("v6plus", "2405:6587:ff00::/56", "it looks like a v6 Connect line, which is DS-Lite, not MAP: "),
        ("v6plus", "2001:f77:1::/64", "it looks like a Cross Pass (xpass) line, which is DS-Lite, not MAP: "),
        ("v6plus", "2400:2410::/56", "it looks like a SoftBank Hikari line, which is IPIP by a scheme of the ISP's own, not MAP: keep the ISP's router"),
        ("v6plus", "2001:f78::/56", OUTSIDE),
    ],
)
def test_a_prefix_outside_the_rules(isp, prefix, text):
    fault = refused(isp, prefix)
    assert (fault.path, fault.value) == ("end_user_prefix", prefix)
    assert fault.reason.startswith(f"is outside every known rule of {isp}: {text}")


def test_a_prefix_that_is_none_is_told_first():
    assert refused("ocn", "2400:4050::1/64").reason.startswith("has bits set after its first 64: write 2400:4050::/64")
