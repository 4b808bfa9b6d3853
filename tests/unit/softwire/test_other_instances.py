# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What two instances on one router cannot both have."""

from __future__ import annotations

import copy

import loose_files
import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import decoded, encoded
from ansible_collections.softwire.map.plugins.module_utils.softwire.instances import conflicts

OTHER = {"instance": "two", "lan_interfaces": ["guest"], "lan_addresses": ["192.168.1.1/24"], "route_table": 7700, "veth_network": "192.0.0.8/29",
         "end_user_prefix": "2001:db8:13:3500::/56", "napt_namespace": "second"}
OTHER_RULE = {"ipv6_prefix": "2001:db8:5000::/40", "ipv4_prefix": "100.64.0.0/24", "ea_length": 16}
SAME_ROUTER = "instance one of this router"


def edge(**changes):
    files, = role_variables.ce_generations(**{**role_variables.MAPE_CASES["shared"], **changes}).values()
    return decoded(encoded(files))


def relay(carrier, translator="auto", dmr="64:ff9b::/96", rule=None, **changes):
    domain = {"transport": "map-t", "dmr": dmr, "rules": [rule or OTHER_RULE]}
    return decoded(encoded(role_variables.br_generations(**{"domains": [domain], "translator": translator, **changes})[carrier]))


def tunnel_relay(br_address="2001:db8:ffff::2", rule=role_variables.TUTORIAL["rules"][0], **changes):
    return relay("ip6_tunnel", domains=[{"transport": "map-e", "br_address": br_address, "rules": [rule]}], **changes)


def timeouts(icmp):
    values = copy.deepcopy(role_variables.defaults("map_ce")["conntrack_timeouts"])
    return {"napt_namespace": "", "conntrack_timeouts": {**values, "icmp": icmp}}


@pytest.mark.parametrize("first, second, said", [
    (edge(), edge(**{**OTHER, "lan_interfaces": ["lan"]}), f"map_ce_lan_interfaces[0]: lan: {SAME_ROUTER} has this interface in namespace napt; "
     "give each of them its own"),
    (edge(), edge(**{**OTHER, "napt_namespace": "", "wan_interface": "lan", "wan_gateway": ""}),
     f"map_ce_wan_interface: lan: {SAME_ROUTER} has this interface in namespace napt; give each of them its own"),
    (edge(napt_namespace=""), edge(**{**OTHER, "lan_interfaces": ["isp"], "wan_interface": "wan", "wan_gateway": ""}),
     f"map_ce_lan_interfaces[0]: isp: {SAME_ROUTER} has this interface; give each of them its own"),
    (edge(napt_namespace=""), edge(**{**OTHER, "napt_namespace": "", "lan_interfaces": ["lan"]}),
     f"map_ce_lan_interfaces[0]: lan: {SAME_ROUTER} has this interface; give each of them its own"),
    (edge(), edge(**{**OTHER, "napt_namespace": "napt"}), f"map_ce_napt_namespace: napt: {SAME_ROUTER} has a network namespace of this name; choose another"),
    (edge(**timeouts(60)), edge(**{**OTHER, **timeouts(70)}), f"main/sysctl: net/netfilter/nf_conntrack_icmp_timeout = 70: {SAME_ROUTER} needs 60; "
     "give both the same value"),
    (edge(), edge(**{**OTHER, "veth_network": "192.0.0.0/28"}), f"map_ce_veth_network: 192.0.0.0/28: overlaps 192.0.0.0/29 of {SAME_ROUTER}; choose another"),
    (edge(), edge(**{**OTHER, "route_table": 7598}), f"main/ip: route add default via 192.0.0.10 dev two-veth table 7598: {SAME_ROUTER} has "
     "route add default dev ce-tun table 7598; choose another map_ce_route_table where it has a table, else leave the destination to "
     "one of them"),
    (edge(), edge(**{**OTHER, "wan_gateway": "2001:db8:6::9"}), f"main/ip: route add 2001:db8:ffff::1 via 2001:db8:6::9 dev isp: {SAME_ROUTER} has "
     "route add 2001:db8:ffff::1 via 2001:db8:6::1 dev isp; choose another map_ce_route_table where it has a table, else leave the destination to "
     "one of them"),
    (relay("jool_siit", "jool_siit"), relay("jool_mapt", "jool_mapt", instance="two", dmr="2001:db8:ffff::/64", rule=role_variables.TUTORIAL["rules"][0]),
     "main/tc: filter add dev isp ingress pref 7599 bpf da object-pinned /run/softwire/two/bpf/mapt/programs/mapt_in: "
     f"{SAME_ROUTER} has filter add dev isp ingress pref 7599 bpf da object-pinned /run/softwire/br/bpf/mapt/programs/mapt_in; "
     "give them different interfaces"),
    (tunnel_relay(), tunnel_relay("2001:db8:ffff::3", OTHER_RULE, instance="two"),
     f"main/ip: link add two-tun type ip6tnl external mode ipip6: {SAME_ROUTER} has link add br-tun type ip6tnl external mode ipip6; "
     "a network namespace has room for one such device, so set map_ce_mesh: false, or serve all domains by one border relay"),
])
def test_what_cannot_be_shared_is_refused(first, second, said):
    assert conflicts(second, {"one": first}) == [said]


def test_an_address_is_of_one_instance():
    assert conflicts(tunnel_relay(instance="two", rule=OTHER_RULE), {"one": tunnel_relay()})[0] == (
        f"main/ip: addr add 2001:db8:ffff::2/128 dev lo: {SAME_ROUTER} has addr add 2001:db8:ffff::2/128 dev lo; an address belongs to one of them")


@pytest.mark.parametrize("first, second", [
    (edge(), edge(**OTHER)), (edge(napt_namespace=""), edge(**OTHER)), (edge(wan_gateway=""), tunnel_relay(instance="two")),
    (relay("bpf"), tunnel_relay(instance="two")),
    (relay("jool_siit", "jool_siit"), tunnel_relay(instance="two", fast_path=True)),
    (decoded(encoded(loose_files.generation("mape_main"))), edge(**OTHER)),
])
def test_all_else_is_shared(first, second):
    assert conflicts(second, {"one": first}) == conflicts(first, {"two": second}) == []


def test_every_other_instance_is_looked_at_but_those_without_a_generation():
    second = edge(**{**OTHER, "napt_namespace": "napt"})
    assert len(conflicts(second, {"one": edge(), "three": edge(instance="three"), "none": {}})) > 1
