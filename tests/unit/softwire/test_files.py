# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines and their inverse, and which changes a reload can carry."""

from __future__ import annotations

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire.files import (
    changed_lines, inverse, is_move, objects, reload_suffices, split_lines, table_of, tables,
)

RULE = "map update pinned /run/maps/rules key hex 20 c0 value hex 01 02"


@pytest.mark.parametrize("line, expected", [
    ("link add ce-veth type veth peer name ce-main netns napt", "link del ce-veth"),
    ("addr add fe80::1/64 dev ce-veth nodad", "addr del fe80::1/64 dev ce-veth nodad"),
    ("route add unreachable 2001:db8::/64 metric 5", "route del unreachable 2001:db8::/64 metric 5"),
    ("neigh add proxy 2001:db8::1 dev isp", "neigh del proxy 2001:db8::1 dev isp"),
    ("rule add pref 40000 iif lo lookup 7597", "rule del pref 40000 iif lo lookup 7597"),
    ("qdisc add dev isp clsact", "qdisc del dev isp clsact"),
    ("filter add dev isp ingress pref 7599 bpf da object-pinned x", "filter del dev isp ingress pref 7599"),
    (RULE, "map delete pinned /run/maps/rules key hex 20 c0"),
])
def test_inverse(line, expected):
    assert inverse(line.split()) == expected.split()


def test_moves():
    assert is_move("link set dev lan netns napt".split())
    assert not is_move("link set dev netns up".split())


def test_tables_of_an_nft_file():
    text = b"# table ip no {\ntable ip one\ndelete table ip one\ntable ip one {\n}\ntable inet two {\n"
    assert tables(text) == [("ip", "one"), ("inet", "two")]


def test_objects_of_an_nft_file():
    text = b"""table ip one {
    chain old { }; chain gone { }
    set s { type ipv4_addr; flags dynamic; }
    ct timeout idle_9 {
        protocol udp
    }
}
delete chain ip one gone
delete table inet two
table inet two {
    counter c { comment "a; chain no {" } # map no { }
    chain c {
        type filter hook input priority 0; policy accept;
        ip protocol udp ct timeout set "idle_9" counter name "c" drop
    }
}
add element ip one m { 1 : 2, }
"""
    one = [("table", "ip", "one"), ("chain", "ip", "one", "old"), ("set", "ip", "one", "s"), ("ct", "timeout", "ip", "one", "idle_9")]
    two = [("table", "inet", "two"), ("counter", "inet", "two", "c"), ("chain", "inet", "two", "c")]
    assert objects(text) == one + two
    # loaded over itself, it makes the second table anew
    assert sorted(objects(text + text)) == sorted(one + two)
    assert [table_of(entry) for entry in one[::3] + two[2:]] == [("ip", "one"), ("ip", "one"), ("inet", "two")]


def test_lines_have_comments_and_quotes():
    assert split_lines(b'# all\n\nlink set dev "a b" up # here\n') == [["link", "set", "dev", "a b", "up"]]
    assert split_lines(b"") == []


def test_changed_lines():
    before = f"# one\nroute add a\nroute add b\n{RULE}\n{RULE.replace('c0', 'c1')}\n".encode()
    after = f"route add c\nroute add a # kept\n{RULE.replace('01 02', '03 04')}\n".encode()
    gone, new = changed_lines(before, after)
    # the entry c0 gets another value, which takes the place of the old one
    assert [" ".join(line) for line in gone] == ["route add b", RULE.replace("c0", "c1")]
    assert [" ".join(line) for line in new] == ["route add c", RULE.replace("01 02", "03 04")]
    assert changed_lines(before, before) == ([], [])


FILES = {
    "instance.json": b"{}", "parameters.json": b"{}", "softwire/runner.py": b"", "main/guard.nft": b"", "napt/napt.nft": b"", "main/jool.json": b"{}",
    "napt/flows": b"address 192.0.2.1\nports 1 1 9\n", "main/mapt.bpf.o": b"\x7fELF", "main/tc": b"qdisc add dev isp clsact\n",
    "main/sysctl": b"a/b = 1\n", "main/bpftool": f"prog loadall x y\n{RULE}\n".encode(),
    "main/ip": b"link add x type veth\naddr add 10.0.0.1/24 dev x\naddr add 2001:db8::1/128 dev lo\nroute add 10.1.0.0/16 dev x\n",
}


@pytest.mark.parametrize("path, change, suffices", [
    ("main/guard.nft", b"new", True), ("napt/napt.nft", b"new", True), ("main/jool.json", b"new", True), ("napt/new.nft", b"new", True),
    ("main/guard.nft", None, True), ("parameters.json", b"new", True), ("softwire/runner.py", b"new", True), ("softwire/new.py", b"new", True),
    ("main/ip", b"# said otherwise\n" + FILES["main/ip"], True),
    ("main/ip", FILES["main/ip"] + b"rule add pref 5 iif x blackhole\nneigh add fe80::9 lladdr 02:00:00:00:00:01 dev x\n", True),
    ("main/ip", FILES["main/ip"].replace(b"10.1.0.0", b"10.2.0.0").replace(b"addr add 2001:db8::1/128 dev lo\n", b""), True),
    ("main/ip-late", b"route add 10.3.0.0/16 dev x\n", True),
    ("main/bpftool", FILES["main/bpftool"] + RULE.replace("c0", "c1").encode(), True),
    ("napt/flows", b"address 192.0.2.1\nports 1 2 9\n", True),
    ("napt/flows", b"address 192.0.2.2\nports 1 1 9\n", False), ("napt/flows", None, False),
    ("main/ip", FILES["main/ip"].replace(b"10.0.0.1", b"10.0.0.2"), False),
    ("main/ip", FILES["main/ip"].replace(b"link add x", b"link add y"), False),
    ("main/ip", FILES["main/ip"] + b"link set dev x up\n", False),
    ("main/bpftool", FILES["main/bpftool"].replace(b"loadall", b"load"), False),
    ("main/sysctl", b"a/b = 2\n", False), ("main/tc", b"", False), ("main/jool.json", None, False),
    ("main/mapt.bpf.o", b"new", False), ("instance.json", b"new", False), ("other/thing", b"new", False),
])
def test_what_a_reload_is_enough_for(path, change, suffices):
    after = {key: value for key, value in {**FILES, path: change}.items() if value is not None}
    assert reload_suffices(FILES, after) is suffices
    assert reload_suffices(after, FILES) is suffices
    assert reload_suffices(FILES, FILES)
    assert not reload_suffices({}, FILES)


def encoded(files):
    return {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}


FORWARD = [{"port": 1232, "to_address": "192.168.0.10"}]
SECOND_RULE = {"ipv6_prefix": "2001:db8:4000::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16}


@pytest.mark.parametrize("case", ["shared", "full_address", "ipv4_prefix"])
@pytest.mark.parametrize("napt_namespace", ["napt", ""])
@pytest.mark.parametrize("change, suffices", [
    ({"port_forwards": FORWARD}, True), ({"reserved_ports": [1233]}, True), ({"nat_sources": ["10.0.0.0/8"]}, True),
    ({"wan_gateway": "2001:db8:6::9"}, True),
    ({"wan_mtu": 1492}, False), ({"veth_network": "192.0.0.8/29"}, False), ({"lan_interfaces": ["guest"]}, False),
    ({"interface_id": "draft03"}, False),
])
def test_what_a_reload_is_enough_for_on_a_customer_edge(case, napt_namespace, change, suffices):
    variables = {**role_variables.MAPE_CASES[case], "napt_namespace": napt_namespace}
    before, = role_variables.ce_generations(**variables).values()
    if "interface_id" in change:  # another MAP address
        change = {"domain": {**variables["domain"], **change}}
    after, = role_variables.ce_generations(**{**variables, **change}).values()
    if (napt_namespace, list(change)) == ("", ["veth_network"]):
        suffices = True  # there is none
    assert reload_suffices(encoded(before), encoded(after)) is suffices


@pytest.mark.parametrize("transport, translator", [("map-t", "auto"), ("map-t", "jool_mapt"), ("map-e", "auto")])
def test_rules_of_a_border_relay_come_and_go_by_reload(transport, translator):
    way = {"transport": "map-t", "dmr": "64:ff9b::/96"} if transport == "map-t" else {"transport": "map-e", "br_address": "2001:db8:ffff::1"}
    one = {**way, "rules": role_variables.TUTORIAL["rules"]}
    two = {**way, "rules": [*role_variables.TUTORIAL["rules"], SECOND_RULE]}
    for name, files in role_variables.br_generations(domains=[one], translator=translator).items():
        with_rule = role_variables.br_generations(domains=[two], translator=translator)[name]
        assert reload_suffices(encoded(files), encoded(with_rule)), name
        assert reload_suffices(encoded(with_rule), encoded(files)), name
