# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files of a MAP-E customer edge say."""

from __future__ import annotations

import json
import re

import examples
import pytest
import yaml
from examples import after, ip_lines

from ansible_collections.softwire.map.plugins.plugin_utils import customer_edge
from ansible_collections.softwire.map.plugins.plugin_utils.isp import isp_domain

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


@pytest.fixture(params=examples.MAPE_CASES)
def case(request):
    return request.param


@pytest.fixture(params=examples.MAPE_LAYOUTS)
def layout(request):
    return request.param


def made(case, layout):
    return examples.ce_generations(napt_namespace=examples.MAPE_LAYOUTS[layout], **examples.MAPE_CASES[case])["ip6_tunnel"]


@pytest.fixture
def files(case, layout):
    return made(case, layout)


@pytest.fixture
def parameters(files):
    return json.loads(files["parameters.json"])


def test_one_kernel_module_and_no_translator(case, layout):
    generations = examples.ce_generations(napt_namespace=examples.MAPE_LAYOUTS[layout], **examples.MAPE_CASES[case])
    assert list(generations) == ["ip6_tunnel"]
    settings = json.loads(generations["ip6_tunnel"]["instance.json"])
    assert (settings["kernel_modules"], settings["jool"]) == (["ip6_tunnel"], None)
    assert settings["commands"] == ["ip", "nft", "sysctl", "modprobe"]
    text = "".join(text for path, text in generations["ip6_tunnel"].items() if path.endswith(("ip", "sysctl", "nft")))
    assert "None" not in text and "jool" not in text and "proxy" not in text


def test_every_file_is_made(files, layout):
    common = {"instance.json", "parameters.json", "softwire.py", "main/ip", "main/sysctl", "main/guard.nft"}
    if layout == "main":
        assert set(files) == common | {"main/napt.nft"}
        assert json.loads(files["instance.json"])["namespaces"] == []
        assert not re.search("netns|veth", files["main/ip"] + files["main/sysctl"])
    else:
        assert set(files) == common | {"napt/ip", "napt/sysctl", "napt/napt.nft"}
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
    assert ["link", "set", "dev", "ce-tun", "mtu", mtu, "up"] in ip_lines(files, "main/ip")
    assert ["net/ipv4/conf/ce-tun/rp_filter", "=", "2"] in ip_lines(files, "main/sysctl")


def test_tcp_segments_fit(case, files, layout):
    napt = files["napt/napt.nft" if layout == "napt_namespace" else "main/napt.nft"]
    sizes = re.findall(r'(\w+) "([\w-]+)" tcp flags .* maxseg size set (\d+)\n', napt)
    device = "ce-main" if layout == "napt_namespace" else "ce-tun"
    size = "1412" if case == "no_gateway" else "1420"
    assert sizes == [("iifname", device, size), ("oifname", device, size)]


def test_the_lan_takes_the_tunnel(files, parameters, layout):
    routing = [line for line in ip_lines(files, "main/ip") if line[0] == "rule" or "7598" in line or "7597" in line]
    own = parameters["ce"]["ipv4_address"] or parameters["ce"]["ipv4_prefix"]
    tunnel = ["route", "add", "default", "dev", "ce-tun", "table", "7598"]
    if layout == "main":
        assert routing == [
            tunnel, ["rule", "add", "pref", "30000", "iif", "ce-tun", "to", own, "blackhole"],
            *(["rule", "add", "pref", *words] for name in parameters["lan"]["interfaces"] for words in (
                ["31000", "iif", name, "lookup", "main", "suppress_prefixlength", "0"], ["31001", "iif", name, "lookup", "7598"])),
            ["rule", "add", "pref", "40000", "iif", "lo", "lookup", "7598"]]
        return
    assert routing == [
        ["route", "add", "default", "via", "192.0.0.2", "dev", "ce-veth", "table", "7597"],
        ["rule", "add", "pref", "40000", "iif", "lo", "lookup", "7597"],
        tunnel, ["rule", "add", "pref", "31001", "iif", "ce-veth", "lookup", "7598"]]
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
    assert [after(line, "unreachable") for line in ends] == [parameters["ce"]["end_user_prefix"]]


def guard_chain(files, name):
    text = re.search(r"chain %s \{\n(.*?)\n    \}" % name, files["main/guard.nft"], re.DOTALL)[1]
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_guard_lets_in_the_border_relay_alone(case, files, parameters):
    address = ADDRESSES[case][2] if parameters["ce"]["ipv4_address"] else parameters["map_prefix"]
    assert f"ip6 daddr {address} goto softwire_in" in guard_chain(files, "prerouting")
    rules = guard_chain(files, "softwire_in")
    assert rules[0] == 'iifname "lo" accept'
    assert rules[1] == 'iifname != "isp" counter name "not_by_wan" drop'
    assert rules[2] == f'ip6 saddr {BR} counter name "from_relay" accept'
    assert rules[3].startswith("icmpv6 type { destination-unreachable") and rules[3].endswith("} accept")
    assert rules[4] == "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    assert rules[5:] == ['counter name "outside_domain" drop']


def test_the_guard_knows_what_may_be_in_the_tunnel(files, parameters):
    ce = parameters["ce"]
    own = ce["ipv4_address"] or ce["ipv4_prefix"]
    assert 'iifname "ce-tun" goto tunnel_in' in guard_chain(files, "prerouting")
    rules = [rule.split(" counter ")[0] for rule in guard_chain(files, "tunnel_in")]
    # A shared address is the source of other customer edges, too.
    assert rules == [f"ip daddr != {own}", "ip saddr 192.0.0.0/29"] + ([] if ce["psid"] is not None else [f"ip saddr {own}"])


def test_a_port_forward(layout):
    text = made("forwards", layout)["napt/napt.nft" if layout == "napt_namespace" else "main/napt.nft"]
    assert re.search(r"ip daddr 192\.0\.2\.18 meta l4proto tcp th dport 1232 \\\n\s+dnat to 192\.168\.0\.10:80\n", text)


@pytest.mark.parametrize("changes", [{"translator": "jool_mapt"}, {"translator_namespace": ""}], ids=str)
def test_variables_of_the_translator_do_not_matter(changes, layout):
    variables = {"napt_namespace": examples.MAPE_LAYOUTS[layout], **examples.MAPE_CASES["shared"]}
    assert examples.ce_generations(**variables, **changes) == examples.ce_generations(**variables)


def test_a_line_by_the_name_of_its_isp():
    prefix = "240b:10:2a40:9600::/64"
    variables = examples.ce(domain=isp_domain("v6 Plus", prefix), end_user_prefix=prefix, lan_addresses=["192.168.0.1/24"])
    (_name, files), = customer_edge.alternatives(variables, examples.CE_TEMPLATES)
    made, = (line for line in ip_lines(files, "main/ip") if "ip6tnl" in line)
    # 106.72.42.64 with PSID 0x96; the identifier of the draft: zero, address, PSID, zero.
    assert (after(made, "local"), after(made, "remote")) == ("240b:10:2a40:9600:6a:482a:4000:9600", "2404:9200:225:100::64")


def test_the_line_of_the_readme():
    """Its domain is a template: 'ocn' | softwire.map.isp_domain(map_ce_end_user_prefix)."""
    readme = (examples.ROLES / "map_ce" / "README.md").read_text(encoding="utf-8")
    play = re.search(r"```yaml\n(- hosts[^`]*isp_domain[^`]*)```", readme)[1]
    given = yaml.safe_load(play)[0]["roles"][0]["vars"]
    assert given.pop("map_domain") == "{{ 'ocn' | softwire.map.isp_domain(map_ce_end_user_prefix) }}"
    variables = {name[len("map_ce_"):]: value for name, value in given.items()}
    variables["domain"] = isp_domain("ocn", variables["end_user_prefix"])
    (name, files), = customer_edge.alternatives({**examples.defaults("map_ce"), **variables}, examples.CE_TEMPLATES)
    parameters = json.loads(files["parameters.json"])
    assert (name, parameters["ce"]["port_count"], parameters["napt"]["mss"]) == ("ip6_tunnel", 1008, 1420)
