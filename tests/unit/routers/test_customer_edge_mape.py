# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files of a MAP-E customer edge say."""

from __future__ import annotations

import json
import re

import role_variables
import pytest
import yaml
from role_variables import after, ip_lines

from ansible_collections.softwire.map.plugins.module_utils.mapping.isp import isp_domain

BR = "2001:db8:ffff::1"
# By hand (RFC 7597 section 5.2 and 6): the IPv4 address or prefix, PSID, MAP address.
ADDRESSES = {
    "shared": ("192.0.2.18", 52, "2001:db8:12:3400:0:c000:212:34"),
    "forwards": ("192.0.2.18", 52, "2001:db8:12:3400:0:c000:212:34"),
    "draft03": ("192.0.2.72", 52, "2001:db8:12:3400:c0:2:4800:3400"),
    "no_gateway": ("192.0.2.18", 52, "2001:db8:12:3400:c0:2:1200:3400"),
    "full_address": ("192.0.2.18", None, "2001:db8:12::c000:212:0"),
    "ipv4_prefix": ("192.0.2.16/28", None, "2001:db8:10::c000:210:0"),
    "two_brs": ("192.0.2.18", 52, "2001:db8:12:3400:0:c000:212:34"),
    "two_lans": ("192.0.2.18", 52, "2001:db8:12:3400:0:c000:212:34"),
}


@pytest.fixture(params=role_variables.MAPE_CASES)
def case(request):
    return request.param


@pytest.fixture(params=role_variables.MAPE_LAYOUTS)
def layout(request):
    return request.param


def made(case, layout):
    return role_variables.ce_generations(napt_namespace=role_variables.MAPE_LAYOUTS[layout], **role_variables.MAPE_CASES[case])["ip6_tunnel"]


@pytest.fixture
def files(case, layout):
    return made(case, layout)


@pytest.fixture
def parameters(files):
    return json.loads(files["parameters.json"])


def test_one_kernel_module_and_no_translator(case, layout):
    generations = role_variables.ce_generations(napt_namespace=role_variables.MAPE_LAYOUTS[layout], **role_variables.MAPE_CASES[case])
    assert list(generations) == (["ip6_tunnel_mesh"] if case == "two_brs" else []) + ["ip6_tunnel"]
    settings = json.loads(generations["ip6_tunnel"]["instance.json"])
    assert (settings["kernel_modules"], settings["jool"]) == (["ip6_tunnel"], None)
    assert settings["commands"] == ["ip", "nft", "conntrack", "sysctl", "tc", "bpftool", "modprobe"]
    text = "".join(text for path, text in generations["ip6_tunnel"].items() if path.endswith(("ip", "sysctl", "nft")))
    assert "None" not in text and "jool" not in text and "proxy" not in text


def test_every_file_is_made(files, layout):
    common = {"instance.json", "parameters.json", *role_variables.PROGRAMS, "main/ip", "main/ip-late",
              "main/sysctl", "main/guard.nft", "main/bpftool", "main/tc", "main/napt.bpf.o"}
    if layout == "main":
        assert set(files) == common | {"main/napt.nft", "main/flows"}
        assert json.loads(files["instance.json"])["namespaces"] == []
        assert not re.search("netns|veth", files["main/ip"] + files["main/sysctl"])
    else:
        assert set(files) == common | {"napt/ip", "napt/sysctl", "napt/napt.nft", "napt/flows"}
        assert json.loads(files["instance.json"])["namespaces"] == ["napt"]


def test_addresses(case, parameters):
    ipv4, psid, map_address = ADDRESSES[case]
    ce = parameters["ce"]
    assert (ce["ipv4_address"] or ce["ipv4_prefix"], ce["psid"], ce["map_address"]) == (ipv4, psid, map_address)


def test_the_map_address_is_on_the_wan_and_no_source_for_others(case, files):
    added = [line for line in ip_lines(files, "main/ip") if line[:2] == ["addr", "add"] and "isp" in line]
    assert added == [["addr", "add", f"{ADDRESSES[case][2]}/128", "dev", "isp", "nodad", "preferred_lft", "0"]]


def test_the_tunnel(case, files, parameters):
    made, = (line for line in ip_lines(files, "main/ip") if "ip6tnl" in line)
    assert made == ["link", "add", "ce-tun", "type", "ip6tnl", "mode", "ipip6", "local", ADDRESSES[case][2], "remote", BR,
                    "encaplimit", "none", "hoplimit", "64"]
    mtu = str(parameters["wan"]["mtu"] - 40)
    assert ["link", "set", "dev", "ce-tun", "mtu", mtu] in ip_lines(files, "main/ip")
    assert ip_lines(files, "main/ip-late")[0] == ["link", "set", "dev", "ce-tun", "up"]
    assert ["net/ipv4/conf/ce-tun/rp_filter", "=", "2"] in ip_lines(files, "main/sysctl")


def test_tcp_segments_fit(case, files, layout):
    napt = files["napt/napt.nft" if layout == "napt_namespace" else "main/napt.nft"]
    size = "1412" if case == "no_gateway" else "1420"
    device = "ce-main" if layout == "napt_namespace" else "ce-tun"
    for way in ("iifname", "oifname"):
        assert f'{way} "{device}" tcp option maxseg size set {size}\n' in napt


def test_the_lan_takes_the_tunnel(files, parameters, layout):
    routing = [line for line in ip_lines(files, "main/ip") if line[0] == "rule" or "7598" in line or "7597" in line]
    own = parameters["ce"]["ipv4_address"] or parameters["ce"]["ipv4_prefix"]
    assert [line for line in ip_lines(files, "main/ip-late") if line[0] != "link"] == [
        *([["addr", "add", "192.0.0.2/32", "dev", "ce-tun"]] if layout == "main" else []), ["route", "add", "default", "dev", "ce-tun", "table", "7598"]]
    no_other_way = ["route", "add", "unreachable", "default", "table", "7598", "metric", "4294967294"]
    if layout == "main":
        assert routing == [
            ["rule", "add", "pref", "30000", "iif", "ce-tun", "to", own, "blackhole"], no_other_way,
            *(["rule", "add", "pref", *words] for name in parameters["lan"]["interfaces"] for words in (
                ["31000", "iif", name, "lookup", "main", "suppress_prefixlength", "0"], ["31001", "iif", name, "lookup", "7598"])),
            ["rule", "add", "pref", "40000", "iif", "lo", "lookup", "7598"]]
        return
    assert routing == [
        ["route", "add", "default", "via", "192.0.0.2", "dev", "ce-veth", "table", "7597"],
        ["rule", "add", "pref", "40000", "iif", "lo", "lookup", "7597"],
        no_other_way, ["rule", "add", "pref", "31001", "iif", "ce-veth", "lookup", "7598"]]
    assert ["route", "add", own, "via", "192.0.0.2", "dev", "ce-veth"] in ip_lines(files, "main/ip")
    inside = ip_lines(files, "napt/ip")
    mtu = str(parameters["wan"]["mtu"] - 40)
    assert ["route", "add", "default", "via", "192.0.0.1", "dev", "ce-main", "mtu", mtu] in inside
    assert ["rule", "add", "pref", "30000", "iif", "ce-main", "to", own, "blackhole"] in inside


def test_the_namespace_layout_moves_the_lan(files, parameters, layout):
    moved = [line[3] for line in ip_lines(files, "main/ip") if line[:3] == ["link", "set", "dev"] and "netns" in line]
    assert moved == (parameters["lan"]["interfaces"] if layout == "napt_namespace" else [])
    assert ("move" in json.loads(files["instance.json"])["interfaces"]["lan"]) is (layout == "napt_namespace")


def test_the_way_to_the_border_relay(files, parameters):
    ways = [line for line in ip_lines(files, "main/ip") if line[0] == "route" and BR in line]
    gateway = parameters["wan"]["gateway"]
    assert ways == ([["route", "add", BR, "via", gateway, "dev", "isp"]] if gateway else [])
    assert ("net/ipv6/conf/isp/accept_ra = 2" in files["main/sysctl"]) is (gateway is None)
    ends = [line for line in ip_lines(files, "main/ip") if "unreachable" in line]
    assert [after(line, "unreachable") for line in ends] == ["default", parameters["ce"]["end_user_prefix"]]


def guard_chain(files, name):
    text = re.search(r"chain %s \{\n(.*?)\n    \}" % name, files["main/guard.nft"], re.DOTALL)[1]
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_guard_lets_in_the_border_relay_alone(case, files, parameters):
    address = ADDRESSES[case][2] if parameters["ce"]["ipv4_address"] else parameters["map_prefix"]
    assert f"ip6 daddr {address} goto softwire_in" in guard_chain(files, "prerouting")
    rules = guard_chain(files, "softwire_in")
    assert rules[0] == 'iifname "lo" accept'
    assert rules[1] == 'iifname != "isp" counter name "not_by_wan" drop'
    assert rules[2] == f'ip6 saddr {{ {BR} }} counter name "from_relay" accept'
    assert rules[3].startswith("icmpv6 type { destination-unreachable") and rules[3].endswith("} accept")
    assert rules[4] == "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    assert rules[5:] == ['counter name "outside_domain" drop']


def test_the_guard_knows_what_may_be_in_the_tunnel(files, parameters):
    ce = parameters["ce"]
    own = ce["ipv4_address"] or ce["ipv4_prefix"]
    assert 'iifname "ce-tun" goto tunnel_in' in guard_chain(files, "prerouting")
    rules = [rule.split(" counter ")[0] for rule in guard_chain(files, "tunnel_in")]
    # A shared address is the source of other customer edges, too.
    assert rules == ["ip saddr 192.0.0.0/29"] + ([] if ce["psid"] is not None else [f"ip saddr {own}"])


def test_a_port_forward(layout):
    text = made("forwards", layout)["napt/napt.nft" if layout == "napt_namespace" else "main/napt.nft"]
    assert re.search(r"ip daddr 192\.0\.2\.18 meta l4proto tcp th dport 1232 \\\n\s+dnat to 192\.168\.0\.10:80\n", text)


@pytest.mark.parametrize("changes", [{"translator": "jool_mapt"}, {"translator_namespace": ""}], ids=str)
def test_variables_of_the_translator_do_not_matter(changes, layout):
    variables = {"napt_namespace": role_variables.MAPE_LAYOUTS[layout], **role_variables.MAPE_CASES["shared"]}
    assert role_variables.ce_generations(**variables, **changes) == role_variables.ce_generations(**variables)


def test_a_line_by_the_name_of_its_isp():
    prefix = "240b:10:2a40:9600::/64"
    variables = role_variables.ce(domain=isp_domain("v6 Plus", prefix), end_user_prefix=prefix, lan_addresses=["192.168.0.1/24"])
    (_name, files), = role_variables.ce_alternatives(variables)
    made, = (line for line in ip_lines(files, "main/ip") if "ip6tnl" in line)
    # 106.72.42.64 with PSID 0x96; the identifier of the draft: zero, address, PSID, zero.
    assert (after(made, "local"), after(made, "remote")) == ("240b:10:2a40:9600:6a:482a:4000:9600", "2404:9200:225:100::64")


def test_the_line_of_the_readme():
    readme = (role_variables.ROLES / "map_ce" / "README.md").read_text(encoding="utf-8")
    play = re.search(r"```yaml\n(- hosts[^`]*map_ce_isp[^`]*)```", readme)[1]
    given = yaml.safe_load(play)[0]["roles"][0]["vars"]
    variables = {name[len("map_ce_"):]: value for name, value in given.items()}
    alternatives = dict(role_variables.ce_alternatives({**role_variables.defaults("map_ce"), **variables}))
    assert list(alternatives) == ["ip6_tunnel_mesh", "ip6_tunnel"]
    for files in alternatives.values():
        parameters = json.loads(files["parameters.json"])
        assert (parameters["ce"]["port_count"], parameters["napt"]["mss"]) == (1008, 1420)


NETWORKD = {"napt_namespace": "", "network_backend": "networkd"}


def networkd_files(case, **changes):
    files = role_variables.ce_generations(**{**role_variables.MAPE_CASES[case], **NETWORKD, **changes})["ip6_tunnel"]
    return {path[len("main/networkd/"):]: text for path, text in files.items() if path.startswith("main/networkd/")}


def sections(text):
    """A unit file as [(section, {key: [value, ...]}), ...]."""
    found = []
    for line in text.splitlines():
        if line.startswith("["):
            found.append((line.strip("[]"), {}))
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found[-1][1].setdefault(key, []).append(value)
    return found


def test_networkd_has_what_the_service_would_do(case):
    """Each address, route and rule of the service's batch file is in the files for systemd-networkd, and nothing else is."""
    service = made(case, "main")
    parameters = json.loads(service["parameters.json"])
    files = networkd_files(case)
    assert sorted(files) == ["40-ce-tun.netdev", "40-ce-tun.network", "wan.conf"]
    netdev = dict(sections(files["40-ce-tun.netdev"]))
    assert netdev["Tunnel"] == {
        "Independent": ["yes"], "Mode": ["ipip6"], "Local": [ADDRESSES[case][2]], "Remote": [BR], "EncapsulationLimit": ["none"],
        "TTL": ["64"]}
    tunnel, wan = sections(files["40-ce-tun.network"]), sections(files["wan.conf"])
    assert dict(tunnel)["Link"]["MTUBytes"] == [str(parameters["ipv4_mtu"])]
    words = []
    for kind, keys in tunnel + wan:
        keys = {key: value[0] for key, value in keys.items()}
        if kind == "RoutingPolicyRule":
            target = keys["To"].removesuffix("/32") if "To" in keys else None
            words.append(["rule", "add", "pref", keys["Priority"], "iif", keys["IncomingInterface"],
                          *(["to", target] if target else []), *(["blackhole"] if "Type" in keys else ["lookup", keys["Table"]]),
                          *(["suppress_prefixlength", "0"] if "SuppressPrefixLength" in keys else [])])
        elif kind == "Address" and "PreferredLifetime" not in keys:
            words.append(["addr", "add", keys["Address"], "dev", "ce-tun"])
        elif kind == "Address":
            words.append(["addr", "add", keys["Address"], "dev", "isp", "nodad", "preferred_lft", keys["PreferredLifetime"]])
        elif kind == "Route" and keys["Destination"] == "0.0.0.0/0":
            way = ["unreachable", "default"] if "Type" in keys else ["default", "dev", "ce-tun"]
            words.append(["route", "add", *way, "table", keys["Table"], *(["metric", keys["Metric"]] if "Metric" in keys else [])])
        elif kind == "Route" and "Type" in keys:
            words.append(["route", "add", keys["Type"], keys["Destination"], "metric", keys["Metric"]])
        elif kind == "Route":
            words.append(["route", "add", keys["Destination"].removesuffix("/128"), "via", keys["Gateway"], "dev", "isp"])
    assert sorted(words) == sorted(line for path in ("main/ip", "main/ip-late") for line in ip_lines(service, path) if line[0] != "link")


def test_networkd_makes_the_links_and_the_unit_the_rest():
    files = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"], **NETWORKD)["ip6_tunnel"]
    assert not {"main/ip", "main/ip-late"} & set(files) and {"main/napt.nft", "main/guard.nft", "main/sysctl"} <= set(files)
    assert json.loads(files["instance.json"])["networkd"] == {"wan": "isp", "address": ADDRESSES["shared"][2], "device": "ce-tun"}


def test_dns_servers_are_the_wans():
    files = networkd_files("shared", dns_servers=["2001:DB8::53", "192.168.0.53"])
    assert dict(sections(files["wan.conf"]))["Network"] == {"DNS": ["2001:db8::53", "192.168.0.53"]}
    assert "Network" not in dict(sections(networkd_files("shared")["wan.conf"]))


def test_public_addresses_of_the_own_prefix_need_no_nat(layout):
    """192.0.2.16/28 is the CE's; half of it is a network of the LAN."""
    variables = {**role_variables.MAPE_CASES["ipv4_prefix"], "lan_addresses": ["192.168.0.1/24", "192.0.2.25/29"],
                 "napt_namespace": role_variables.MAPE_LAYOUTS[layout]}
    files = role_variables.ce_generations(**variables)["ip6_tunnel"]
    where = "napt" if layout == "napt_namespace" else "main"
    device = "ce-main" if layout == "napt_namespace" else "ce-tun"
    rules = [line for line in ip_lines(files, f"{where}/ip") if line[0] == "rule" and "to" in line]
    assert rules == [["rule", "add", "pref", "29999", "iif", device, "to", "192.0.2.24/29", "lookup", "main"],
                     ["rule", "add", "pref", "30000", "iif", device, "to", "192.0.2.16/28", "blackhole"]]
    sources = json.loads(files["parameters.json"])["napt"]["sources"]
    assert sources == ["192.168.0.0/24", "192.0.0.0/29"]
    assert 'ip saddr 192.0.2.16/28 accept comment "needs no translation"' in files[f"{where}/napt.nft"]
    assert f'iifname "{device}" ip daddr {{ 192.0.2.24/29 }} accept\n' in files[f"{where}/napt.nft"]


def test_a_lan_of_public_addresses_alone():
    variables = {**role_variables.MAPE_CASES["ipv4_prefix"], "lan_addresses": ["192.0.2.25/29"], "napt_namespace": ""}
    files = role_variables.ce_generations(**variables)["ip6_tunnel"]
    assert json.loads(files["parameters.json"])["napt"]["sources"] == ["192.0.0.0/29"]
    assert re.findall(r"ip saddr (\S+) goto translate", files["main/napt.nft"]) == ["192.0.0.0/29", "192.0.2.16/28"]
