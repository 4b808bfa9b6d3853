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
from ansible_collections.softwire.map.plugins.module_utils.mapping.isp import RULE_KEYS, isp_domain, services

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


@pytest.mark.parametrize("isp", ["v6plus", "v6 Plus", "V6-PLUS", "ｖ６プラス", "v6プラス", "JPNE", " jpne "])
def test_names(isp):
    assert isp_domain(isp, "240b:10::/56")["rules"][0]["ipv6_prefix"] == "240b:10::/31"


def test_biglobe_has_a_br_in_the_east_and_one_in_the_west():
    assert isp_domain("biglobe", "2404:7a82::/56")["br_address"] == ["2001:260:700:1::1:275"]
    assert isp_domain("biglobe", "2404:7a86::/56")["br_address"] == ["2001:260:700:1::1:276"]


@pytest.mark.parametrize(
    ("isp", "prefix", "text"),
    [
        ("sky", "240b:10::/56", "isp: 'sky': is not a known ISP: write a domain with its rules, or one of these names: v6plus (v6 Plus, "),
        (None, "240b:10::/56", "isp: not set: is not a known ISP"),
        ("ocn", "2001:db8::/56",
         "end_user_prefix: '2001:db8::/56': is outside every known rule of ocn: ask for the rule and write a domain; known are 2400:4050::/31, "),
        ("v6plus", "2001:db8::/56",
         "end_user_prefix: '2001:db8::/56': is outside every known rule of v6plus: ask for the rule and write a domain; known are 240b:10::/30, 240b:250::/30"),
        ("ocn", "240b:10::/56", "end_user_prefix: '240b:10::/56': is outside every known rule of ocn: it is one of v6plus; known are "),
        ("ocn", "2400:4050::1/64", "end_user_prefix: '2400:4050::1/64': has bits set after its first 64: write 2400:4050::/64"),
    ],
)
def test_refused(isp, prefix, text):
    with pytest.raises(MapError) as caught:
        isp_domain(isp, prefix)
    assert str(caught.value).startswith(text)
    with pytest.raises(AnsibleFilterError) as caught:
        isp_filter.isp_domain(isp, prefix)
    assert str(caught.value).startswith(f"softwire.map.isp_domain: {text}")
