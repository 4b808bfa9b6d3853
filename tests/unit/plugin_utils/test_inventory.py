# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of an inventory are together, and the pairs of customer edges that are one."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible.errors import AnsibleUndefinedVariable

from ansible_collections.softwire.map.plugins.plugin_utils.inventory import BR_DEFAULTS, CE_DEFAULTS, Network

ROLES = Path(__file__).resolve().parents[3] / "roles"
MAP_T = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
    {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}]}
OTHER = {**MAP_T, "dmr": "64:ff9b:1::/96"}


def host(prefix, **variables):
    return {"map_domain": MAP_T, "map_ce_end_user_prefix": prefix, **variables}


def network(border_relays=(), **hosts):
    return Network(hosts, [name for name in hosts if name not in border_relays], border_relays)


def pairs(**hosts):
    return [pair[:2] for members in network(**hosts).domains for pair in members.coinciding()]


def test_the_defaults_are_those_of_the_roles():
    for role, defaults in (("map_ce", CE_DEFAULTS), ("map_br", BR_DEFAULTS)):
        real = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
        for name, value in defaults.items():
            assert "map_domain" in str(real[name]) if value is None else real[name] == value


def test_hosts_by_domain():
    made = network(
        ["r1", "r2", "r3"],
        r1={"map_domain": MAP_T}, r2={"map_br_domains": [OTHER]}, r3={"map_domain": MAP_T, "map_br_state": "absent"},
        a=host("2001:db8::/56"),
        b=host("2001:db8:0:100::/56", map_ce_domain=OTHER),
        # The same domain in other words.
        c=host("2001:db8:0:200::/56", map_ce_domain={**MAP_T, "rules": [{**MAP_T["rules"][0], "psid_offset": 6, "fmr": False}]}),
        d=host("2001:db8:0:300::/56", map_ce_state="absent"),
        e={"map_ce_isp": "ocn", "map_ce_end_user_prefix": "2400:4050:1200::/56"},
    )
    assert made.unusable == []
    assert [(members.domain.fields["dmr"], members.border_relays, [name for name, _ce in members.customer_edges])
            for members in made.domains] == [("64:ff9b::/96", ["r1"], ["a", "c"]), ("64:ff9b:1::/96", ["r2"], ["b"]), (None, [], ["e"])]
    assert made.domains[0].customer_edges[0][1]["map_address"] == "2001:db8::c000:200:0"


def test_a_host_with_a_fault_is_no_obstacle():
    class Undefined(dict):
        def __getitem__(self, key):
            raise AnsibleUndefinedVariable(f"{key} is undefined")

    made = network(
        ["r"], r={"map_br_domains": []}, a=host("2001:db9::/56"), b={"map_domain": MAP_T}, c={"map_ce_end_user_prefix": "2001:db8::/56"},
        d=Undefined(map_ce_end_user_prefix="{{ x }}"), e=host("2001:db8::/56", map_domain={"transport": "map-e"}), f=host("2001:db8::/56"))
    assert [(name, text.partition(":")[0]) for name, text in made.unusable] == [
        ("r", "map_br_domains"), ("a", "map_ce_end_user_prefix"), ("b", "map_ce_end_user_prefix"), ("c", "map_ce_domain"),
        ("d", "map_ce_end_user_prefix"), ("e", "2 faults")]
    assert [name for name, _ce in made.domains[0].customer_edges] == ["f"]


def test_two_hosts_that_are_one_customer_edge():
    assert pairs(a=host("2001:db8::/56"), b=host("2001:db8:0:10::/60"), c=host("2001:db8:0:100::/56")) == [("b", "a")]
    assert pairs(a=host("2001:db8::/56"), b=host("2001:db8::/56", map_domain=OTHER)) == []
    assert pairs(a=host("2001:db8::/56"), b=host("2001:db8::/56", map_ce_state="absent")) == []


def test_a_prefix_inside_that_of_another_host():
    nested = {**MAP_T, "rules": [*MAP_T["rules"], {"ipv6_prefix": "2001:db8:0:10::/60", "ipv4_prefix": "198.51.100.0/32", "ea_length": 4}]}
    assert pairs(a=host("2001:db8:0:12::/64", map_domain=nested), b=host("2001:db8::/56", map_domain=nested)) == [("a", "b")]
    assert pairs(a=host("2001:db8:0:12::/64", map_domain=nested), b=host("2001:db8:0:100::/56", map_domain=nested)) == []
