# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the variables of the role map_ce to a generation: every refusal with its text, and what the files say."""

from __future__ import annotations

import ipaddress
import json
import re

import role_variables
import pytest
import yaml
from role_variables import after, ip_lines

from ansible_collections.softwire.map.plugins.module_utils.routers import customer_edge
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError, MapErrors

SHARED = role_variables.CE_CASES["offset_6_with_forwards"]
FORWARD = {"port": 1232, "to_address": "192.168.0.10"}


IPV6_FORWARD = {"address": "2001:db8:ce:11a::10", "port": 443}


def stateful(*forwards):
    return {"ipv6_firewall": "stateful", "ipv6_forwards": list(forwards)}


def shared(**changes):
    return {**SHARED, "port_forwards": [], "reserved_ports": [], **changes}


# variables -> path, value and a part of the reason
REFUSALS = {
    "no domain": ({"domain": None}, "map_ce_domain", "not set", "is required"),
    "no domain in the inventory": ({"domain": {}}, "map_ce_domain", "{}", "is required"),
    "wrong domain": ({"domain": {**role_variables.TUTORIAL, "rules": []}}, "map_ce_domain.rules", "[]", "at least one rule"),
    "no prefix": ({"end_user_prefix": ""}, "map_ce_end_user_prefix", "''", "is required"),
    "prefix of no rule": ({"end_user_prefix": "2001:db9::/64"}, "map_ce_end_user_prefix", "'2001:db9::/64", "outside every rule"),
    "translator": ({"translator": "jool"}, "map_ce_translator", "'jool", "must be one of auto, bpf, jool_mapt, jool_siit"),
    "explicit PSID": (
        {**role_variables.CE_CASES["explicit_psid"], "translator": "jool_mapt"}, "map_ce_translator", "'jool_mapt", "use bpf or jool_siit"),
    "instance with capitals": ({"instance": "Home"}, "map_ce_instance", "'Home", "at most 10 characters of a-z"),
    "instance too long": ({"instance": "a2345678901"}, "map_ce_instance", "'a2345678901", "at most 10 characters"),
    "instance not text": ({"instance": 5}, "map_ce_instance", "5", "starting with a letter"),
    "mtu too small": ({"wan_mtu": 1279}, "map_ce_wan_mtu", "1279", "must be an integer between 1280 and 65535"),
    "mtu no number": ({"wan_mtu": "1500 bytes"}, "map_ce_wan_mtu", "'1500 bytes", "must be an integer"),
    "mtu superscript": ({"wan_mtu": "150\u00b2"}, "map_ce_wan_mtu", "'150\u00b2", "must be an integer"),
    "mtu true": ({"wan_mtu": True}, "map_ce_wan_mtu", "True", "must be an integer"),
    "no wan": ({"wan_interface": ""}, "map_ce_wan_interface", "''", "is required"),
    "wan name": ({"wan_interface": "a name"}, "map_ce_wan_interface", "'a name", "the name of a network interface"),
    "wan name too long": ({"wan_interface": "enp0s31f6.10.100"}, "map_ce_wan_interface", "'enp0s31f6.10.100", "at most 15 characters"),
    "wan name with a wildcard": ({"wan_interface": "eth*"}, "map_ce_wan_interface", "'eth*", "the name of a network interface"),
    "gateway IPv4": ({"wan_gateway": "192.0.2.1"}, "map_ce_wan_gateway", "'192.0.2.1", "must be an IPv6 address"),
    "gateway with a zone": ({"wan_gateway": "fe80::1%isp"}, "map_ce_wan_gateway", "'fe80::1%isp", "must be an IPv6 address"),
    "gateway with length": ({"wan_gateway": "2001:db8::1/64"}, "map_ce_wan_gateway", "'2001:db8::1/64", "must be an IPv6 address"),
    "main as namespace": ({"napt_namespace": "main"}, "map_ce_napt_namespace", "'main", "choose another name"),
    "namespace name": ({"napt_namespace": "a/b"}, "map_ce_napt_namespace", "'a/b", "letters, digits, _ . and -"),
    "no translator namespace": (
        {"napt_namespace": "", "translator_namespace": ""}, "map_ce_translator_namespace", "''", "the name of a network namespace"),
    "main as translator namespace": (
        {"napt_namespace": "", "translator_namespace": "main"}, "map_ce_translator_namespace", "'main", "choose another name"),
    "no lan": ({"lan_interfaces": []}, "map_ce_lan_interfaces", "[]", "is required"),
    "lan not a list": ({"lan_interfaces": "lan"}, "map_ce_lan_interfaces", "'lan", "must be a list"),
    "lan name": ({"lan_interfaces": ["lan", "a:b"]}, "map_ce_lan_interfaces[1]", "'a:b", "the name of a network interface"),
    "isp unknown": ({"isp": "acme", "domain": {}}, "map_ce_isp", "'acme", "ocn"),
    "isp and prefix": ({"isp": "ocn", "domain": {}}, "map_ce_end_user_prefix", "'2001:db8:ce:11a::/64", "is outside every known rule of ocn"),
    "isp and domain": ({"isp": "ocn"}, "map_ce_isp", "'ocn", "map_ce_domain (by default map_domain) is set, too"),
    "backend": ({"network_backend": "netplan"}, "map_ce_network_backend", "'netplan", "must be one of service, networkd"),
    "networkd and MAP-T": (
        {"network_backend": "networkd", "napt_namespace": ""}, "map_ce_network_backend", "'networkd", "is for MAP-E only"),
    "networkd and a namespace": (
        {**role_variables.MAPE_CASES["shared"], "network_backend": "networkd"}, "map_ce_network_backend", "'networkd",
        'set map_ce_napt_namespace to ""'),
    "DNS without networkd": ({"dns_servers": ["2001:db8::53"]}, "map_ce_dns_servers", "['2001:db8::53']", "is for map_ce_network_backend"),
    "DNS server": (
        {**role_variables.MAPE_CASES["shared"], "napt_namespace": "", "network_backend": "networkd", "dns_servers": ["2001:db8::53", "dns"]},
        "map_ce_dns_servers[1]", "'dns", "must be an IP address"),
    "loopback as LAN": ({"lan_interfaces": ["lo"]}, "map_ce_lan_interfaces[0]", "'lo'", "is no network interface of its own"),
    "a name of ip's": ({"wan_interface": "eth0.100@eth0"}, "map_ce_wan_interface", "'eth0.100@eth0'", "its name is eth0.100"),
    "an option as WAN": ({"wan_interface": "-6"}, "map_ce_wan_interface", "'-6'", "the name of a network interface"),
    "lan twice": ({"lan_interfaces": ["lan", "lan"]}, "map_ce_lan_interfaces[1]", "'lan", "twice"),
    "lan is wan": ({"lan_interfaces": ["lan", "isp"]}, "map_ce_lan_interfaces", "'isp", "is map_ce_wan_interface too"),
    "lan address without length": (
        {"lan_addresses": ["192.168.0.1"]}, "map_ce_lan_addresses[0]", "'192.168.0.1", "with its prefix length"),
    "lan address with a zone": (
        {"lan_addresses": ["192.168.0.1/24", "fe80::1%lan/64"]}, "map_ce_lan_addresses[1]", "'fe80::1%lan/64", "with its prefix length"),
    "lan address wrong": (
        {"lan_addresses": [{"address": "192.168.0.300/24", "interface": "lan"}]},
        "map_ce_lan_addresses[0].address", "'192.168.0.300/24", "with its prefix length"),
    "lan address elsewhere": (
        {"lan_addresses": [{"address": "192.168.0.1/24", "interface": "guest"}]},
        "map_ce_lan_addresses[0].interface", "'guest", "must be one of lan"),
    "lan address key": (
        {"lan_addresses": [{"addr": "192.168.0.1/24", "interface": "lan"}]},
        "map_ce_lan_addresses[0].addr", "'192.168.0.1/24", "is not a key of an address, did you mean address?"),
    "lan address no key": ({"lan_addresses": [{"interface": "lan"}]}, "map_ce_lan_addresses[0].address", "not set", "is required"),
    "lan address is its network": (
        {"lan_addresses": ["192.168.0.0/24"]}, "map_ce_lan_addresses[0]", "'192.168.0.0/24'", "the router's own, such as 192.168.0.1/24"),
    "lan address is broadcast": (
        {"lan_addresses": ["192.168.0.255/24"]}, "map_ce_lan_addresses[0]", "'192.168.0.255/24'", "the broadcast address of 192.168.0.0/24"),
    "no lan address": ({"lan_addresses": []}, "map_ce_lan_addresses", "[]", "moves into map_ce_napt_namespace"),
    "no lan address IPv4": (
        {"lan_addresses": ["2001:db8::1/64"]}, "map_ce_lan_addresses", "['2001:db8::1/64']", "needs an IPv4 address"),
    "nothing to translate": (
        {"lan_addresses": [], "napt_namespace": ""}, "map_ce_nat_sources (or map_ce_lan_addresses)", "[]", "is required"),
    "nat source IPv6": ({"nat_sources": ["2001:db8::/64"]}, "map_ce_nat_sources[0]", "'2001:db8::/64", "must be an IPv4 prefix"),
    "nat source host bits": (
        {"nat_sources": ["10.0.0.0/8", "10.0.0.1/8"]}, "map_ce_nat_sources[1]", "'10.0.0.1/8", "has bits set after its first 8: write 10.0.0.0/8"),
    "nat source our own": ({"nat_sources": ["192.0.2.0/28"]}, "map_ce_nat_sources", "'192.0.2.0/28", "overlaps this CE's own 192.0.2.8"),
    "lan our own": ({"lan_addresses": ["192.0.2.1/24"]}, "map_ce_nat_sources", "'192.0.2.0/24", "overlaps this CE's own"),
    "veth IPv6": ({"veth_network": "fd00::/64"}, "map_ce_veth_network", "'fd00::/64", "must be an IPv4 prefix"),
    "veth small": ({"veth_network": "192.0.0.0/31"}, "map_ce_veth_network", "'192.0.0.0/31", "a /30 or shorter"),
    "veth is the LAN": ({"veth_network": "192.168.0.0/29"}, "map_ce_veth_network", "'192.168.0.0/29", "overlaps 192.168.0.0/24"),
    "veth is our own": ({"veth_network": "192.0.2.0/24"}, "map_ce_veth_network", "'192.0.2.0/24", "overlaps 192.0.2.8"),
    "table": ({"route_table": 0}, "map_ce_route_table", "0", "between 1 and 2147483646"),
    "next to the main table": ({"route_table": 253}, "map_ce_route_table", "253", "must not be 253 to 255, the kernel's own tables"),
    "forward key": (
        shared(port_forwards=[{**FORWARD, "dport": 80}]), "map_ce_port_forwards[0].dport", "80", "is not a key of a port forward, did you mean port?"),
    "forward no dict": (shared(port_forwards=[1232]), "map_ce_port_forwards[0]", "1232", "must be a port forward, a dict with some of the keys port"),
    "forward no host": (shared(port_forwards=[{"port": 1232}]), "map_ce_port_forwards[0].to_address", "not set", "is required"),
    "forward host": (
        shared(port_forwards=[FORWARD, {"port": 1233, "to_address": "web"}]),
        "map_ce_port_forwards[1].to_address", "'web", "must be an IPv4 address"),
    "forward to nowhere": (
        shared(port_forwards=[{**FORWARD, "to_address": "192.168.1.10"}]), "map_ce_port_forwards[0].to_address", "'192.168.1.10'",
        "lies in no network of the LAN (192.168.0.0/24); correct it, or add its network to map_ce_nat_sources"),
    "forward protocol": (
        shared(port_forwards=[{**FORWARD, "protocol": "sctp"}]), "map_ce_port_forwards[0].protocol", "'sctp", "tcp, udp, tcp_udp"),
    "forward to port": (
        shared(port_forwards=[{**FORWARD, "to_port": 65536}]), "map_ce_port_forwards[0].to_port", "65536", "between 1 and 65535"),
    "forward outside the set": (
        shared(port_forwards=[{**FORWARD, "port": 1240}]), "map_ce_port_forwards[0].port", "1240",
        "the nearest free ports of the set are 1235, 1234, 1233, 1232 (RFC 7597 section 5.1)"),
    "forward outside the set, next to one": (
        shared(port_forwards=[{**FORWARD, "port": 1235}, {**FORWARD, "port": 1240}]), "map_ce_port_forwards[1].port", "1240",
        "the nearest free ports of the set are 1234, 1233, 1232, 2256"),
    "forward twice": (
        shared(port_forwards=[FORWARD, {**FORWARD, "protocol": "udp"}]), "map_ce_port_forwards[1].port", "1232",
        "is forwarded by map_ce_port_forwards[0] already (udp)"),
    "forward comment": (
        shared(port_forwards=[{**FORWARD, "comment": 'the "web"'}]), "map_ce_port_forwards[0].comment", "'the \"web\"", "without quotation marks"),
    "forward comment of two lines": (
        shared(port_forwards=[{**FORWARD, "comment": "a\nb"}]), "map_ce_port_forwards[0].comment", "'a\\nb", "printable"),
    "forward comment too long": (
        shared(port_forwards=[{**FORWARD, "comment": "a" * 101}]), "map_ce_port_forwards[0].comment", "'" + "a" * 75, "at most 100"),
    "reserved outside the set": (
        shared(reserved_ports=[1232, 22]), "map_ce_reserved_ports[1]", "22", "the nearest free ports of the set are 1232"),
    "limit of a client": (shared(max_ports_per_client=-1), "map_ce_max_ports_per_client", "-1", "an integer between 0 and 65535"),
    "time-outs no dict": (shared(conntrack_timeouts=60), "map_ce_conntrack_timeouts", "60", "must be the time-outs, a dict with some of the keys tcp_est"),
    "unknown time-out": (
        shared(conntrack_timeouts={"sctp": 60}), "map_ce_conntrack_timeouts.sctp", "60",
        "is not a key of the time-outs; there are tcp_established, tcp_transitory, tcp_time_wait, udp, dns, icmp"),
    "time-out of nothing": (
        shared(conntrack_timeouts={"udp": 0}), "map_ce_conntrack_timeouts.udp", "0", "an integer between 1 and 432000"),
    "size of the table": (shared(conntrack_max="many"), "map_ce_conntrack_max", "'many", "an integer between 0 and"),
    "firewall": ({"ipv6_firewall": "on"}, "map_ce_ipv6_firewall", "'on", "none, stateful"),
    "IPv6 forward of nothing": (
        {"ipv6_forwards": [IPV6_FORWARD]}, "map_ce_ipv6_forwards", "[{'address'", "is for map_ce_ipv6_firewall: stateful"),
    "IPv6 forward key": (
        stateful({**IPV6_FORWARD, "to_address": "::1"}), "map_ce_ipv6_forwards[0].to_address", "'::1", "is not a key of an IPv6 forward"),
    "IPv6 forward no dict": (stateful(443), "map_ce_ipv6_forwards[0]", "443", "must be an IPv6 forward, a dict with some of the keys address"),
    "IPv6 forward no host": (stateful({"port": 443}), "map_ce_ipv6_forwards[0].address", "not set", "is required"),
    "IPv6 forward host": (
        stateful(IPV6_FORWARD, {**IPV6_FORWARD, "address": "192.168.0.10"}), "map_ce_ipv6_forwards[1].address", "'192.168.0.10", "a unicast IPv6 address"),
    "IPv6 forward no port": (stateful({"address": "2001:db8::1"}), "map_ce_ipv6_forwards[0].port", "not set", "is required"),
    "IPv6 forward port": (stateful({**IPV6_FORWARD, "port": 65536}), "map_ce_ipv6_forwards[0].port", "65536", "between 1 and 65535"),
    "IPv6 forward protocol": (stateful({**IPV6_FORWARD, "protocol": "esp"}), "map_ce_ipv6_forwards[0].protocol", "'esp", "tcp, udp, tcp_udp"),
    "reserved not a list": (shared(reserved_ports=1232), "map_ce_reserved_ports", "1232", "must be a list"),
    "unknown": ({"prot_forwards": []}, "map_ce_prot_forwards", "unknown", "did you mean map_ce_port_forwards?"),
    "unknown and far from any": ({"xyzzy": []}, "map_ce_xyzzy", "unknown", "there is no such variable"),
    "port 0 alone": (
        {"domain": role_variables.rule_domain(ipv4_prefix="192.0.2.18/32", ea_length=16, psid_offset=0), "end_user_prefix": "2001:db8::/56"},
        "map_ce_end_user_prefix", "'2001:db8::/56'", "the port set is port 0 alone, which no NAPT uses: no port is left"),
    "all ports reserved": (
        {"domain": role_variables.rule_domain(ea_length=18, psid_offset=6), "end_user_prefix": "2001:db8:12:3400::/58",
         "lan_addresses": ["192.168.0.1/24"], "reserved_ports": [port + 208 for port in range(1024, 65536, 1024)]},
        "map_ce_port_forwards and map_ce_reserved_ports", "[1232, 2256", "no port is left for the LAN"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    variables, path, value, reason = REFUSALS[name]
    with pytest.raises(MapError) as caught:
        role_variables.ce_alternatives(role_variables.ce(**variables))
    # A key that is written wrong is missing as well.
    fault, *_others = caught.value.faults if name == "lan address key" else [caught.value]
    assert not isinstance(fault, MapErrors) and str(fault).startswith(f"{path}: {value}"), str(caught.value)
    assert reason in str(caught.value)


def test_all_faults_come_at_once():
    wrong = {"wan_mtu": 0, "wan_interface": "lo", "lan_addresses": ["192.168.0.0/24"], "translator": "jool", "prot_forwards": [],
             "reserved_ports": [1, 2], "conntrack_timeouts": {"udp": 0}, "domain": {**role_variables.TUTORIAL, "dmr": "64:ff9b::/97"}}
    with pytest.raises(MapErrors) as caught:
        role_variables.ce_alternatives(role_variables.ce(**wrong))
    assert [fault.path for fault in caught.value.faults] == [
        "map_ce_domain.dmr", "map_ce_wan_mtu", "map_ce_wan_interface", "map_ce_lan_addresses[0]", "map_ce_translator",
        "map_ce_conntrack_timeouts.udp", "map_ce_prot_forwards"]


def test_a_number_that_yaml_makes_of_a_time_is_a_warning():
    warned = []
    assert role_variables.ce_alternatives(role_variables.ce(wan_mtu=1440), warned.append)
    assert warned == ["map_ce_wan_mtu: 1440: YAML also reads 24:00 as this number; if an address was meant, quote it"]
    assert yaml.safe_load("24:00") == 1440
    assert role_variables.ce_alternatives(role_variables.ce(wan_mtu=1492), warned.append) and len(warned) == 1


def test_a_forward_to_a_network_behind_the_lan():
    forward = {**FORWARD, "to_address": "10.1.2.3"}
    assert role_variables.ce_alternatives(role_variables.ce(**shared(port_forwards=[forward], nat_sources=["192.168.0.0/24", "10.0.0.0/8"])))


@pytest.mark.parametrize("variable", sorted(role_variables.ce()))
@pytest.mark.parametrize("value", [None, 5, "\u00b2", [None], {"a": 1}, ["x"], [{}]], ids=str)
def test_no_value_ends_in_a_traceback(variable, value, monkeypatch):
    monkeypatch.setattr(customer_edge.render, "generation", lambda *_arguments: {})
    try:
        role_variables.ce_alternatives(role_variables.ce(**{variable: value}))
    except MapError as exc:
        assert "map_ce_" in exc.path


@pytest.fixture(params=role_variables.CE_CASES)
def case(request):
    return request.param


@pytest.fixture(params=role_variables.LAYOUTS)
def layout(request):
    return request.param


def made(case, layout):
    return role_variables.ce_generations(napt_namespace=role_variables.LAYOUTS[layout], **role_variables.CE_CASES[case])


@pytest.fixture
def generations(case, layout):
    return made(case, layout)


@pytest.fixture
def files(generations):
    return generations["jool_siit"]


@pytest.fixture
def parameters(files):
    return json.loads(files["parameters.json"])


def test_every_file_is_made(files, layout):
    other, napt, translator = ("napt", "napt", "main") if layout == "napt_namespace" else ("xlat", "main", "xlat")
    assert set(files) == {
        "instance.json", "parameters.json", *role_variables.PROGRAMS, "main/ip", "main/sysctl", "main/guard.nft",
        f"{other}/ip", f"{other}/sysctl", f"{napt}/napt.nft", f"{napt}/flows", f"{translator}/jool.json",
        f"{napt}/bpftool", f"{napt}/tc", f"{napt}/napt.bpf.o"}


def test_translators_share_all_but_what_is_theirs(case, generations):
    if case == "explicit_psid":
        assert list(generations) == ["bpf", "jool_siit"]
        return
    assert list(generations) == ["bpf", "jool_mapt", "jool_siit"]
    mapt, siit = generations["jool_mapt"], generations["jool_siit"]
    differ = {path.split("/")[-1] for path in siit if mapt[path] != siit[path]}
    assert {"instance.json", "jool.json", "parameters.json"} <= differ <= {"instance.json", "jool.json", "parameters.json", "guard.nft"}
    for name, files in list(generations.items())[1:]:
        settings = json.loads(files["instance.json"])
        assert settings["kernel_modules"] == [name] and settings["jool"] == name and name in settings["commands"]


def test_the_own_address_is_routed_both_ways(files, parameters, layout):
    """One route towards the NAPT, one rule that ends a loop, in the namespace of the NAPT."""
    own = parameters["ce"]["ipv4_address"] or parameters["ce"]["ipv4_prefix"]
    other = "napt" if layout == "napt_namespace" else "xlat"
    towards, ends = ("main/ip", f"{other}/ip") if layout == "napt_namespace" else (f"{other}/ip", "main/ip")
    assert [after(line, "via") for line in ip_lines(files, towards) if own in line] == [parameters["veth"]["other" if other == "napt" else "main"]["ipv4"]]
    assert [line for line in ip_lines(files, ends) if own in line] == [
        ["rule", "add", "pref", "30000", "iif", parameters["napt"]["device"], "to", own, "blackhole"]]


def test_the_default_route_has_the_mtu_of_the_softwire(files, parameters, layout):
    path = "napt/ip" if layout == "napt_namespace" else "main/ip"
    mtus = {after(line, "mtu") for line in ip_lines(files, path) if line[:3] == ["route", "add", "default"] and "mtu" in line}
    assert mtus == {str(parameters["wan"]["mtu"] - 20)}
    assert f"maxseg size set {parameters['wan']['mtu'] - 60}" in files["napt/napt.nft" if path == "napt/ip" else "main/napt.nft"]


def test_the_way_to_the_border_relay(files, parameters):
    ways = [line for line in ip_lines(files, "main/ip") if parameters["ce"]["dmr"] in line]
    gateway = parameters["wan"]["gateway"]
    assert ways == ([["route", "add", parameters["ce"]["dmr"], "via", gateway, "dev", "isp"]] if gateway else [])
    assert ("net/ipv6/conf/isp/accept_ra = 2" in files["main/sysctl"]) is (gateway is None)


def test_the_map_address_answers_on_the_wan(files, parameters):
    proxies = [line for line in ip_lines(files, "main/ip") if "proxy" in line]
    ce = parameters["ce"]
    assert proxies == ([["neigh", "add", "proxy", ce["map_address"], "dev", "isp"]] if ce["ipv4_address"] else [])
    assert ("net/ipv6/conf/isp/proxy_ndp = 1" in files["main/sysctl"]) is bool(ce["ipv4_address"])


def test_what_nobody_uses_of_the_prefix_is_unreachable(files, parameters):
    ends = [line for line in ip_lines(files, "main/ip") if "unreachable" in line]
    assert [after(line, "unreachable") for line in ends] == [parameters["ce"]["end_user_prefix"]]
    assert after(ends[0], "metric") == str(2**32 - 2)  # after every other route of the same prefix


def test_jool_maps_as_rfc_7757_says(files, parameters, layout):
    jool = json.loads(files["main/jool.json" if layout == "napt_namespace" else "xlat/jool.json"])
    entry, = jool["eamt"]
    ipv4, ipv6 = ipaddress.ip_network(entry["ipv4 prefix"]), ipaddress.ip_network(entry["ipv6 prefix"])
    assert 32 - ipv4.prefixlen == 128 - ipv6.prefixlen or parameters["ce"]["ipv4_prefix"]
    assert jool["global"]["pool6"] == parameters["ce"]["dmr"]
    assert jool["global"]["lowest-ipv6-mtu"] == parameters["wan"]["mtu"]
    assert ipaddress.ip_address(parameters["ce"]["map_address"]) in ipv6


@pytest.mark.parametrize("name, address, prefix", [
    # The tutorial's table, computed by hand: 192.0.2.8 with PSID 26 and 27, 192.0.2.59 with PSID 20.
    ("tutorial_11a", "192.0.2.8", "2001:db8:ce:11a:0:c000:208:1a/128"),
    ("tutorial_11b", "192.0.2.8", "2001:db8:ce:11b:0:c000:208:1b/128"),
    ("tutorial_774", "192.0.2.59", "2001:db8:ce:774:0:c000:23b:14/128"),
    ("full_address", "192.0.2.18", "2001:db8:12::c000:212:0/128"),
    ("ipv4_prefix", "192.0.2.16/28", "2001:db8:10::c000:210:0/108"),
    ("draft03", "192.0.2.18", "2001:db8:12:3400:c0:2:1200:3400/128"),
    ("draft03_ipv4_prefix", "192.0.2.16/28", "2001:db8:10:0:c0:2:1000:0/100"),
    ("explicit_psid", "192.0.2.18", "2001:db8:12:3400:0:c000:212:34/128"),
])
def test_addresses(name, address, prefix, layout):
    files = made(name, layout)["jool_siit"]
    parameters = json.loads(files["parameters.json"])
    assert (parameters["ce"]["ipv4_address"] or parameters["ce"]["ipv4_prefix"]) == address
    assert parameters["map_prefix"] == prefix
    if layout == "translator_namespace":
        assert after([line for line in ip_lines(files, "main/ip") if "fe80::2" in line and "via" in line][0], "add") == prefix
    guard = files["main/guard.nft"]
    assert f"ip6 daddr {prefix.replace('/128', '')} goto softwire_in" in guard
    assert f"ip6 saddr {parameters['ce']['dmr']} counter name \"from_dmr\" accept" in guard


def test_the_namespace_layout_moves_the_lan(files, parameters, layout):
    moved = [line[3] for line in ip_lines(files, "main/ip") if line[:3] == ["link", "set", "dev"] and "netns" in line]
    settings = json.loads(files["instance.json"])
    lan = parameters["lan"]
    if layout == "translator_namespace":
        assert moved == []
        assert settings["namespaces"] == ["xlat"] and "move" not in settings["interfaces"]["lan"]
        rules = [after(line, "iif") for line in ip_lines(files, "main/ip") if line[0] == "rule"]
        assert rules == ["ce-veth"] + [name for interface in lan["interfaces"] for name in (interface, interface)] + ["lo"]
        return
    assert moved == lan["interfaces"]
    given = {(line[2], after(line, "dev")) for line in ip_lines(files, "napt/ip") if line[0] == "addr" and after(line, "dev") != "ce-main"}
    assert given == {(entry["address"], entry["interface"]) for entry in lan["addresses"]}
    assert {line[3] for line in ip_lines(files, "napt/ip") if line[:3] == ["link", "set", "dev"]} == {"lo", "ce-main", *lan["interfaces"]}
    inner = {after(line, "add") for line in ip_lines(files, "main/ip") if line[0] == "route" and "fe80::2" in line}
    assert inner == {entry["network"] for entry in lan["addresses"] if entry["version"] == 6}
    for name in lan["interfaces"]:
        assert settings["interfaces"][name]["move"] == "napt"
        assert settings["interfaces"][name]["addresses"] == [entry["address"] for entry in lan["addresses"] if entry["interface"] == name]


def test_settings_name_the_variables(files, parameters):
    settings = json.loads(files["instance.json"])
    assert settings["interfaces"]["isp"] == {
        "variable": "map_ce_wan_interface", "mtu": parameters["wan"]["mtu"], "mtu_variable": "map_ce_wan_mtu"}
    assert settings["interfaces"]["lan"]["variable"] == "map_ce_lan_interfaces[0]"
    assert list(settings["namespace_variables"]) == settings["namespaces"]


def test_sources_are_merged():
    """An nftables set refuses ranges that overlap."""
    parameters = json.loads(role_variables.ce_generations(nat_sources=["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24"])["jool_siit"]["parameters.json"])
    assert parameters["napt"]["sources"] == ["10.0.0.0/8", "192.168.0.0/24", parameters["veth"]["network"]]


@pytest.mark.parametrize("layout", role_variables.LAYOUTS)
def test_time_outs(layout):
    def made(**variables):
        files = role_variables.ce_generations(napt_namespace=role_variables.LAYOUTS[layout], **variables)["jool_siit"]
        home = "napt" if role_variables.LAYOUTS[layout] else "main"
        napt = files[f"{home}/napt.nft"]
        policies = {name: dict(re.findall(r"(\w+) : (\d+)", text)) for name, text in re.findall(
            r"ct timeout idle_([a-z]+)_\w+ \{\n(.*?)\n    \}", napt, re.DOTALL)}
        return policies, files[f"{home}/sysctl"], files["main/sysctl"]

    policies, sysctl, main = made()
    # RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2, RFC 7857 section 2.2; TIME_WAIT and well-known UDP ports are left to us.
    transitory = {state: "240" for state in ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "close")}
    assert policies == {
        "tcp": {**transitory, **dict.fromkeys(("established", "unack", "retrans"), "7440"), "time_wait": "30"},
        "udp": {"unreplied": "120", "replied": "120"}, "dns": {"unreplied": "10", "replied": "10"}}
    assert "nf_conntrack_icmp_timeout = 60\n" in sysctl and "nf_conntrack_max" not in main

    policies, sysctl, main = made(conntrack_timeouts={"udp": 300, "icmp": 77}, conntrack_max=5000)
    assert policies["udp"] == {"unreplied": "300", "replied": "300"} and policies["tcp"]["established"] == "7440"
    assert "nf_conntrack_icmp_timeout = 77\n" in sysctl
    assert "\n-net/netfilter/nf_conntrack_max = 5000\n" in main


@pytest.mark.parametrize("layout", role_variables.LAYOUTS)
@pytest.mark.parametrize("case, own", [("tutorial_11a", "2001:db8:ce:11a:0:c000:208:1a"), ("ipv4_prefix", "2001:db8:10::c000:210:0/108")])
def test_the_firewall_of_the_lan_s_ipv6(case, own, layout):
    """In each layout the main namespace filters, and what is the softwire's own passes before anything is dropped."""
    variables = {"napt_namespace": role_variables.LAYOUTS[layout], **role_variables.CE_CASES[case]}
    assert not any("ipv6_firewall.nft" in path for files in role_variables.ce_generations(**variables).values() for path in files)
    variables.update(stateful({**IPV6_FORWARD, "protocol": "udp"}), conntrack_timeouts={"udp": 300})
    for files in role_variables.ce_generations(**variables).values():
        rules = files["main/ipv6_firewall.nft"]
        forward = re.search(r"chain forward \{\n(.*?)\n    \}", rules, re.DOTALL)[1].splitlines()
        assert [line.strip() for line in forward if "#" not in line] == [
            "type filter hook forward priority filter; policy accept;", f"ip6 daddr {own} accept",
            'iifname "isp" goto inbound', 'oifname "isp" goto outbound']
        assert '        ip6 daddr 2001:db8:ce:11a::10 meta l4proto udp th dport 443 counter name "let_in" accept\n' in rules
        assert "policy = { unreplied : 300, replied : 300 }" in rules
        assert ("ip6 saddr { 2001:db8:ce:11a::/64 }" in rules) is (case == "tutorial_11a")


def test_only_jool_mapt_lets_fmrs_in():
    generations = role_variables.ce_generations(**role_variables.CE_CASES["with_fmr"])
    accept = 'ip6 saddr { 2001:db8:ce::/51 } counter name "from_rule" accept'
    assert accept in generations["jool_mapt"]["main/guard.nft"]
    assert accept not in generations["jool_siit"]["main/guard.nft"]
    fmrt = json.loads(generations["jool_mapt"]["main/jool.json"])["fmrt"]
    assert fmrt == [{"ipv6 prefix": "2001:db8:ce::/51", "ipv4 prefix": "192.0.2.0/24", "ea-bits length": 13, "a": 0}]


def test_jool_mapt_cuts_up_what_came_in_fragments():
    """Its least IPv6 MTU is the least of all, whatever the WAN's: a larger one loses datagrams whose fragments are smaller than it."""
    for wan_mtu in (1280, 1500, 9000):
        jool = json.loads(role_variables.ce_generations(wan_mtu=wan_mtu)["jool_mapt"]["main/jool.json"])
        assert jool["global"]["lowest-ipv6-mtu"] == 1280


@pytest.mark.parametrize("translator, names", [
    ("auto", ["bpf", "jool_mapt", "jool_siit"]), ("bpf", ["bpf"]), ("jool_mapt", ["jool_mapt"]), ("jool_siit", ["jool_siit"])])
def test_translators_in_order(translator, names):
    assert list(role_variables.ce_generations(translator=translator)) == names


def test_rules_that_the_programs_cannot_serve_leave_it_to_jool():
    rules = [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16},
             {"ipv6_prefix": "2001:db8:ff00::/56", "ipv4_prefix": "198.51.100.0/24", "ea_length": 12, "fmr": True}]
    variables = {"domain": {**role_variables.TUTORIAL, "rules": rules}, "end_user_prefix": "2001:db8:12:3400::/56",
                 "lan_addresses": ["192.168.0.1/24"]}
    assert list(role_variables.ce_generations(**variables)) == ["jool_mapt", "jool_siit"]
    with pytest.raises(MapError, match="^map_ce_translator: 'bpf': serves forwarding mapping rules .* at most /64"):
        role_variables.ce_alternatives(role_variables.ce(**variables, translator="bpf"))


def test_numbers_may_be_text():
    """Templating makes text of numbers where the playbook is not native."""
    as_text = shared(wan_mtu="1492", route_table="7597", reserved_ports=["1233"], port_forwards=[{**FORWARD, "port": "1232", "to_port": "80"}])
    as_numbers = shared(wan_mtu=1492, route_table=7597, reserved_ports=[1233], port_forwards=[{**FORWARD, "port": 1232, "to_port": 80}])
    assert role_variables.ce_generations(**as_text) == role_variables.ce_generations(**as_numbers)


def test_the_same_variables_give_the_same_bytes():
    first, second = (role_variables.ce_alternatives(role_variables.ce()) for _time in range(2))
    assert first == second
