# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inventory says to DHCPv6 servers and routing daemons: which prefix is whose, who needs a DUID, what is left out."""

from __future__ import annotations

import json
import random
import re
from ipaddress import ip_network

import pytest
from ansible_collections.softwire.map.plugins.filter.dhcpv6_options import dhcpv6_options
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.plugin_utils import export
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Network

RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
MAP_E = {"transport": "map-e", "br_address": "2001:db8:ffff::1", "rules": [RULE]}
MAP_T = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [RULE]}
DUID = "00:03:00:01:02:00:5e:10:00:01"


def edge(prefix, domain=None, **variables):
    return {"map_domain": domain or MAP_E, "map_ce_end_user_prefix": prefix, **variables}


def made(relays=None, **edges):
    """(files, warnings) of an inventory."""
    hosts = {**edges, **(relays or {})}
    network, told = Network(hosts, list(edges), list(relays or {})), []
    return export.files(network, export.duids_of(network, hosts), told.append), told


def kea(text):
    """What Kea's file says."""
    return json.loads("{%s}" % re.sub("^ *//.*\n", "", text, flags=re.MULTILINE))


def pools(text):
    return {f"{pool['prefix']}/{pool['prefix-len']}": pool["delegated-len"] for pool in kea(text)["pd-pools"]}


def test_one_domain_and_nobody_known():
    files, told = made({"br": {"map_domain": MAP_E}}, a=edge("2001:db8:12:3400::/56"))
    option, = dhcpv6_options(MAP_E)
    assert told == [] and sorted(files) == ["br/bird.conf", "br/frr.conf", "dnsmasq.conf", "kea-subnet6.inc"]
    assert kea(files["kea-subnet6.inc"]) == {"reservations": [], "pd-pools": [
        {"prefix": "2001:db8::", "prefix-len": 40, "delegated-len": 56, "option-data": [{"code": 94, "csv-format": False, "data": option["data"]}]}]}
    assert files["dnsmasq.conf"].count("dhcp-") == 1 and "\ndhcp-option=option6:94,00:59:00:15:00:10" in files["dnsmasq.conf"]


def test_a_customer_edge_of_another_domain_is_told_by_its_duid():
    files, told = made(a=edge("2001:db8:12:3400::/56"), b=edge("2001:db8:12:3500::/56", map_export_duid=DUID.upper()),
                       c=edge("2001:db8:12:3600::/56", MAP_T, map_export_duid=DUID[:-2] + "02"))
    first, second = kea(files["kea-subnet6.inc"])["reservations"]
    assert told == [] and first == {"duid": DUID, "prefixes": ["2001:db8:12:3500::/56"]}
    assert second["prefixes"] == ["2001:db8:12:3600::/56"] and second["option-data"] == [
        {"code": 95, "csv-format": False, "data": dhcpv6_options(MAP_T)[0]["data"]}, {"code": 111, "csv-format": False, "data": "005f"}]
    assert re.findall(r"^dhcp-option=(.*?option6:\d+)", files["dnsmasq.conf"], re.MULTILINE) == ["tag:!softwire2,option6:94", "tag:softwire2,option6:95"]
    assert f"\ndhcp-host=id:{DUID[:-2]}02,set:softwire2  # c\n" in files["dnsmasq.conf"] and files["dnsmasq.conf"].count("dhcp-host") == 1


def test_without_its_duid_a_warning_names_it():
    _files, told = made(a=edge("2001:db8:12:3400::/56"), **{f"b{index}": edge(f"2001:db8:13:{index}00::/56", MAP_T) for index in range(1, 2)})
    assert [text.partition(": only")[0].partition(": no pool")[0] for text in told] == ["export: dnsmasq.conf: b1", "export: kea-subnet6.inc: b1"]
    # Kea tells them by the pool, where each domain has its own.
    apart = {**MAP_T, "rules": [{**RULE, "ipv6_prefix": "2001:db9::/40"}]}
    files, told = made(a=edge("2001:db8::/56"), b=edge("2001:db8:0:100::/56"), c=edge("2001:db9::/56", apart))
    assert [text[:23] for text in told] == ["export: dnsmasq.conf: c"] and pools(files["kea-subnet6.inc"]) == {"2001:db8::/40": 56, "2001:db9::/40": 56}


def test_a_rule_inside_another_one_and_a_border_relay_leave_holes():
    inner = {"ipv6_prefix": "2001:db8:80::/42", "ipv4_prefix": "198.51.100.0/24", "ea_length": 8}
    files, _told = made({"br": {"map_domain": {**MAP_E, "rules": [RULE, inner]}}})
    assert pools(files["kea-subnet6.inc"]) == {"2001:db8::/41": 56, "2001:db8:80::/42": 50, "2001:db8:c0::/42": 56}
    near = {**MAP_E, "br_address": "2001:db8:0:1::1"}
    parts = pools(made({"br": {"map_domain": near}})[0]["kea-subnet6.inc"])
    assert parts == {"2001:db8:0:100::/56": 56, **{f"{ip_network((0x20010db8 << 96 | 1 << 128 - length, length))}": 56 for length in range(41, 56)}}


@pytest.mark.parametrize("seed", range(2))
def test_pools_cover_what_belongs_to_a_rule_once_and_nothing_else(seed):
    """Against every end-user prefix of random rules inside each other."""
    chosen = random.Random(seed)
    networks = set()
    while len(networks) < 6:
        length = chosen.randint(32, 39)
        networks.add(ip_network((0x20010db8 << 96 | chosen.getrandbits(length - 32) << 128 - length, length)))
    rules = [{"ipv6_prefix": str(network), "ipv4_prefix": f"198.51.{index}.0/26", "ea_length": chosen.randint(0, 40 - network.prefixlen)}
             for index, network in enumerate(sorted(networks))]
    files, _told = made({"br": {"map_br_domains": [{**MAP_T, "rules": rules}]}})
    found = {ip_network(prefix): length for prefix, length in pools(files["kea-subnet6.inc"]).items()}
    sized = sorted(found)
    assert all(not one.overlaps(other) for one, other in zip(sized, sized[1:]))
    for prefix in ip_network("2001:db8::/32").subnets(new_prefix=40):
        around = [rule for rule in rules if prefix.subnet_of(ip_network(rule["ipv6_prefix"]))]
        length = {rule["ea_length"] + int(rule["ipv6_prefix"].partition("/")[2]) for rule in around[-1:]}
        inside = {found[pool] for pool in found if prefix.subnet_of(pool)}
        # An end-user prefix that holds a longer rule's prefix is nobody's.
        assert inside <= length, prefix
        if around and not any(other != ip_network(around[-1]["ipv6_prefix"]) and other.subnet_of(prefix.supernet(new_prefix=min(length)))
                              for other in networks):
            assert inside == length, prefix


def test_what_the_options_cannot_say_is_left_out_with_a_warning():
    files, told = made({"br": {"map_domain": {**MAP_E, "interface_id": "draft03"}}}, a=edge("2001:db8::/56", {**MAP_E, "interface_id": "draft03"}))
    assert sorted(files) == ["br/bird.conf", "br/frr.conf"]
    text, = told
    assert text.startswith("export: the files for DHCPv6 servers leave out the domain of a: interface_id: 'draft03': has no place in the options")


def test_a_line_that_dnsmasq_does_not_read_is_left_out_with_a_warning():
    def domain(count):
        return {**MAP_T, "rules": [{**RULE, "ipv6_prefix": f"2001:db8:{index:x}00::/40", "ipv4_prefix": f"198.51.{index}.0/24"} for index in range(count)]}

    for count, lines, warnings in ((12, 1, 0), (13, 0, 1)):
        files, told = made({"br": {"map_domain": domain(count)}})
        assert (files["dnsmasq.conf"].count("\ndhcp-option="), len(told)) == (lines, warnings), count
        assert max(map(len, files["dnsmasq.conf"].splitlines())) <= 1024
    assert "is left out: its option takes a line of 1" in told[0] and len(pools(files["kea-subnet6.inc"])) == 13


def test_what_a_border_relay_announces():
    two = {**MAP_E, "br_address": ["2001:db8:ffff::2", "2001:db8:ffff::1"], "rules": [{**RULE, "ipv6_prefix": "2001:db9::/40", "ipv4_prefix": "10.0.0.0/24"}]}
    files, _told = made({"e": {"map_br_domains": [MAP_E, two]}, "t": {"map_domain": MAP_T, "map_br_instance": "br_t"},
                         "j": {"map_domain": MAP_T, "map_br_translator": "jool_siit"}, "gone": {"map_domain": MAP_T, "map_br_state": "absent"}})
    routes = {host: re.findall(r"route (\S+) (.*);", files[f"{host}/bird.conf"]) for host in "etj"}
    assert routes["e"] == [(prefix, 'via "br-tun"') for prefix in ("10.0.0.0/24", "192.0.2.0/24", "2001:db8:ffff::1/128", "2001:db8:ffff::2/128")]
    assert routes["t"] == [("192.0.2.0/24", 'via "br_t-map"'), ("64:ff9b::/96", 'via "br_t-map"')]
    assert routes["j"] == [("192.0.2.0/24", "blackhole"), ("64:ff9b::/96", "blackhole")]
    for host, instance in (("e", "br"), ("t", "br_t"), ("j", "br")):
        permitted = re.findall(rf"prefix-list softwire-{instance}-ipv[46] seq \d+ permit (\S+)", files[f"{host}/frr.conf"])
        assert permitted == [prefix for prefix, _way in routes[host]]
    assert "gone/bird.conf" not in files and "blackhole" not in files["t/frr.conf"] and "ip route 192.0.2.0/24 blackhole\n" in files["j/frr.conf"]


def test_every_fault_at_once():
    with pytest.raises(MapError) as raised:
        made({"r": {"map_domain": MAP_E, "map_br_instance": "../r"}}, a=edge("2001:db8::/56"), b=edge("2001:db8::/56", map_export_duid="1"),
             c=edge("2001:db8:0:200::/56", map_export_duid=DUID), d=edge("2001:db8:0:300::/56", map_export_duid=DUID), e=edge("2001:dead::/56"))
    said = str(raised.value)
    assert said.startswith("5 faults:")
    for part in ("hostvars['r']: map_br_instance: '../r'", "hostvars['e']: map_ce_end_user_prefix: '2001:dead::/56': is outside every rule",
                 "gives the same CE as hostvars['a']", "hostvars['b'].map_export_duid: '1': must be a DUID, 3 to 130 bytes in hex",
                 f"hostvars['d'].map_export_duid: '{DUID}': is that of c too"):
        assert part in said, said


def test_names_are_text_and_nothing_else():
    files, _told = made(**{"x\ny": edge("2001:db8::/56", map_export_duid=DUID), "z": edge("2001:db8:0:100::/56", MAP_T, map_export_duid=DUID[:-2] + "02")})
    assert "  // x y\n" in files["kea-subnet6.inc"] and len(kea(files["kea-subnet6.inc"])["reservations"]) == 2
