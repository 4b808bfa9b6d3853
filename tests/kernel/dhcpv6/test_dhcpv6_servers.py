# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configurations of docs/docsite/rst/dhcpv6.rst: a real server hands the option to a real client, which decodes it.

Root is needed, and the servers: `make kernel` installs them.
"""

from __future__ import annotations

import json
import re

import pytest
import doc_samples
import yaml
from ansible_collections.softwire.map.plugins.filter.ce import ce
from ansible_collections.softwire.map.plugins.filter.dhcpv6_options import dhcpv6_options
from ansible_collections.softwire.map.plugins.filter.from_dhcpv6_options import from_dhcpv6_options
from dhcpv6_lab import Lab

DOMAIN = next(yaml.safe_load(text) for text in doc_samples.texts("dhcpv6", "yaml") if text.startswith("map_domain:"))["map_domain"]
(KEA,) = doc_samples.texts("dhcpv6", "json")
(DNSMASQ,) = doc_samples.texts("dhcpv6", "text")

DOMAINS = {
    "map-e": DOMAIN,
    "map-e, two rules": {
        "transport": "map-e", "br_address": ["2001:db8:ffff::1", "2001:db8:ffff::2"],
        "rules": [{**DOMAIN["rules"][0], "fmr": True, "psid_offset": 4},
                  {"ipv6_prefix": "2001:db8:ff00::/41", "ipv4_prefix": "198.51.100.0/23", "ea_length": 11}],
    },
    "map-t": {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [{**DOMAIN["rules"][0], "psid_offset": 0, "fmr": True}]},
    "explicit PSID": {
        "transport": "map-t", "dmr": "2001:db8:ffff::/64",
        "rules": [{"ipv6_prefix": "2001:db8::/56", "ipv4_prefix": "192.0.2.18/32", "ea_length": 0, "psid_length": 8, "psid": 52}],
    },
    "lw4o6": {
        "transport": "lw4o6", "br_address": "2001:db8:ffff::1",
        "binding": {"ipv4_address": "192.0.2.18", "ipv6_prefix": "2001:db8::/56", "psid_length": 6, "psid": 52},
    },
}
VARIABLE = "new_dhcp6_softwire"


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()


def colons(data):
    return ":".join(re.findall("..", data))


@pytest.mark.parametrize("name", DOMAINS)
def test_kea_delegates_a_prefix_and_the_rules_that_map_it(lab, name):
    option = dhcpv6_options(DOMAINS[name])[0]
    configuration = json.loads(KEA)
    configuration["Dhcp6"]["subnet6"][0]["option-data"] = [{"code": option["code"], "csv-format": False, "data": option["data"]}]
    lab.serve_kea(json.dumps(configuration))
    received = lab.ask(option["code"], "-P", "BOUND6")
    domain = from_dhcpv6_options(received[VARIABLE], option["code"])
    assert domain == from_dhcpv6_options(option["option"])
    if domain["transport"] != "lw4o6":
        prefix = received["new_ip6_prefix"]
        assert ce(domain, prefix) == ce(DOMAINS[name], prefix)


@pytest.mark.parametrize("name", DOMAINS)
def test_dnsmasq_hands_out_the_rules(lab, name):
    option = dhcpv6_options(DOMAINS[name])[0]
    lab.serve_dnsmasq(re.sub("option6:.*", f"option6:{option['code']},{colons(option['data'])}", DNSMASQ))
    received = lab.ask(option["code"], "-S", "RENEW6")
    assert from_dhcpv6_options(received[VARIABLE], option["code"]) == from_dhcpv6_options(option["option"])


def test_the_page_has_the_option_of_its_domain():
    option = dhcpv6_options(DOMAIN)[0]
    assert json.loads(KEA)["Dhcp6"]["subnet6"][0]["option-data"] == [{"code": 94, "csv-format": False, "data": option["data"]}]
    assert f"option6:94,{colons(option['data'])}\n" in DNSMASQ
    assert f"option: {option['option'][:16]}..." in "".join(doc_samples.texts("dhcpv6", "yaml"))
