# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A reload of the runner leaves what a restart leaves, and the flows; in a machine of its own, with real packets.

Jool is a script, and a bridge takes the place of a tunnel, as in sandbox.py.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import time

import role_variables
import pytest
from ansible_collections.softwire.map.plugins.module_utils.softwire import drift

ROUTER = """
ip -batch - <<END
link add isp type veth peer name isp-peer
link add lan type veth peer name lan-peer
link add inet type veth peer name inet-peer
link set isp-peer up
link set isp up
link set lan-peer up
link set lan up
link set inet-peer up
link set inet up
addr add 2001:db8:6::2/64 dev isp
addr add 192.168.0.1/24 dev lan
addr add 203.0.113.2/24 dev inet
END
for link in isp lan inet; do until ip -6 route show table local | grep -q "^local fe80::.* $link"; do sleep 0.02; done; done
"""
STATE = """
echo "== $1"
ip -d addr | sed 's/ \\(qdisc\\|state\\) [^ ]*//g'
for family in -4 -6; do
    ip $family route show table all; ip $family rule; ip $family neigh show proxy; ip $family neigh show nud permanent
done
nft list ruleset
tc qdisc show; for link in $(ls /sys/class/net); do tc filter show dev $link ingress; tc filter show dev $link egress; done 2>&1
cd /proc/sys/net; grep . ipv[46]/conf/*/accept_r[ae]* ipv[46]/conf/*/forwarding ipv4/conf/*/rp_filter ipv6/conf/*/proxy_ndp
grep . ipv4/ipfrag_high_thresh ipv4/ipfrag_time ipv6/ip6frag_high_thresh ipv6/ip6frag_time
"""
CHANGING = re.compile(
    r"^\d+: (?=[\w-]+[@:])|@\w+|link/ether \S+ brd \S+|link-netnsid \d+|designated_root \S+|bridge_id \S+"
    r"|\b(index|handle|id|tag|jited|expires|packets|bytes|\w+_timer|preferred_lft|valid_lft) +\S+")
# What the kernel makes of a carrier, a moment later, and of a hardware address, which each veth and bridge has by chance.
BY_CHANCE = re.compile(r"fe80::(\w+:)?\w*ff:fe|ff02::1:ff|fe80::/64 dev|anycast fe80::|multicast ff00::|^$")
MAPE = role_variables.MAPE_CASES["shared"]
OFFSET_4 = copy.deepcopy(MAPE["domain"])
OFFSET_4["rules"][0]["psid_offset"] = 4
WEB = {"port": 1232, "to_address": "192.168.0.10", "to_port": 80, "protocol": "tcp"}
HTTPS = {"address": "2001:db8:12:3400::10", "port": 443}
ONE_RANGE = copy.deepcopy(MAPE["domain"])
ONE_RANGE["rules"][0]["psid_offset"] = 0
GAME = {"port": 2257, "to_address": "192.168.0.11"}
WITH_FMR = {"domain": {**role_variables.TUTORIAL, "rules": [{**role_variables.TUTORIAL["rules"][0], "fmr": True}]}}
MAPT_RULES = [*role_variables.TUTORIAL["rules"], {"ipv6_prefix": "2001:db8:4000::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16}]
MORE_EA_BITS = {**MAPT_RULES[1], "ea_length": 14}


def mape_br(*rules, br_address="2001:db8:ffff::1"):
    return {"domains": [{"transport": "map-e", "br_address": br_address, "rules": list(rules)}]}


def mapt_br(*rules, translator="auto"):
    return {"domains": [{"transport": "map-t", "dmr": "64:ff9b::/96", "rules": list(rules)}], "translator": translator}


TREATED = {"mss": 1300, "icmp_source": "203.0.113.66"}
MORE_RULES = copy.deepcopy(MAPE["domain"])
MORE_RULES["rules"].append(MAPT_RULES[1])
# What is changed into what; both ways are tried.
CUSTOMER_EDGES = {
    "a forward": ({}, {"port_forwards": [WEB]}),
    "another forward, a reserved port": ({"port_forwards": [WEB]}, {"port_forwards": [{**WEB, "to_port": 81}, GAME], "reserved_ports": [1233]}),
    "port sets": ({}, {"domain": OFFSET_4}),
    "a set of one range": ({}, {"domain": ONE_RANGE}),
    "a limit of clients": ({}, {"max_ports_per_client": 100}),
    "time-outs": ({}, {"conntrack_timeouts": {"dns": 20, "tcp_established": 8000}}),
    "a firewall of IPv6": ({}, {"ipv6_firewall": "stateful", "ipv6_forwards": [HTTPS]}),
    "another IPv6 forward": ({"ipv6_firewall": "stateful"}, {"ipv6_firewall": "stateful", "ipv6_forwards": [HTTPS], "conntrack_timeouts": {"udp": 300}}),
    "another gateway": ({}, {"wan_gateway": "2001:db8:6::9"}),
    "a rule of a mesh": ({"mesh": True}, {"mesh": True, "domain": MORE_RULES}),
}
BORDER_RELAYS = {
    "a rule of MAP-T": (mapt_br(MAPT_RULES[0]), mapt_br(*MAPT_RULES)),
    "a rule of jool_mapt": (mapt_br(MAPT_RULES[0], translator="jool_mapt"), mapt_br(*MAPT_RULES, translator="jool_mapt")),
    "another rule of MAP-T": (mapt_br(*MAPT_RULES), mapt_br(MAPT_RULES[0], MORE_EA_BITS)),
    "a rule of MAP-E": (mape_br(MAPT_RULES[0]), mape_br(*MAPT_RULES)),
    "another rule of MAP-E": (mape_br(*MAPT_RULES), mape_br(MORE_EA_BITS)),
    "what MAP-T does to packets": (mapt_br(MAPT_RULES[0]), {**mapt_br(MAPT_RULES[0]), **TREATED}),
    "what MAP-E does to packets": (mape_br(MAPT_RULES[0]), {**mape_br(MAPT_RULES[0]), **TREATED, "mss": "off", "dscp": 46}),
    "an address of MAP-E": (mape_br(MAPT_RULES[0]), mape_br(MAPT_RULES[0], br_address=["2001:db8:ffff::1", "2001:db8:ffff::2"])),
}


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER)
    return sandbox


def ce_files(**changes):
    files, = role_variables.ce_generations(**changes).values()
    return files


def state(router):
    """Links, addresses, routes, rules, neighbours, nft, tc, sysctl and BPF maps of every namespace."""
    lines = []
    for namespace in ["main", *router.run("ip", "netns").stdout.split("\n")]:
        if namespace:
            inside = [] if namespace == "main" else ["ip", "netns", "exec", namespace.split()[0]]
            lines += router.run(*inside, "sh", "-c", STATE, "sh", namespace.split()[0]).stdout.splitlines()
    for path in router.sh("ls /run/softwire/*/bpf/*/maps/* 2>&1 || true").split("\n"):
        if path.startswith("/run") and path.rsplit("/", 1)[1] in drift.BPF_MAPS:
            entries = json.loads(router.run("bpftool", "-j", "map", "dump", "pinned", path).stdout)
            lines += [f"{path} {entry['key']} {entry['value']}" for entry in entries]
    return sorted(CHANGING.sub("", line).rstrip() for line in lines if not BY_CHANCE.search(line))


def settled(router):
    """The state once the kernel has noticed every carrier."""
    before, now = None, state(router)
    while before != now:
        time.sleep(0.3)
        before, now = now, state(router)
    return now


def translators(router, calls):
    """What Jool was given last since a number of calls: its namespace's name and the configuration."""
    handled = [words[3] for _where, words in router.calls()[calls:] if words[1:3] == ["file", "handle"]]
    return [(path.split("/")[-2], router.sh(f"cat {path}")) for path in handled[-1:]]


def journal(router):
    return sorted(router.sh("cat /run/softwire/*/journal").splitlines())


def links(router):
    return re.findall(r"^(\d+: [\w-]+)", router.sh("ip link"), re.MULTILINE)


def reload_equals_restart(router, *generations):
    """Goes through the generations (files) by reloads; after each, a restart changes nothing."""
    router.softwire(router.install(generations[0]), "up")
    for files in generations[1:]:
        before, generation, calls = links(router), router.install(files), len(router.calls())
        assert router.softwire(generation, "reload").stderr == ""
        assert links(router) == before
        reloaded, journalled = settled(router), journal(router)
        given, calls = translators(router, calls), len(router.calls())
        assert router.softwire(generation, "up").stderr == ""
        same(reloaded, settled(router))
        assert translators(router, calls) == given
        assert journal(router) == journalled


def same(before, after):
    assert "\n".join(difflib.unified_diff(before, after, "before", "after", n=0, lineterm="")) == ""


def comes_and_goes(router, first, second):
    before = settled(router)
    reload_equals_restart(router, first, second, first)
    generation = router.install(second)
    assert router.softwire(generation, "reload").stderr == ""
    assert router.softwire(generation, "down").stderr == ""
    same(before, settled(router))
    assert router.sh("ls -A /run/softwire/*") in ("", "bpf\n")


@pytest.mark.parametrize("change", CUSTOMER_EDGES)
@pytest.mark.parametrize("napt_namespace", ["napt", ""])
def test_a_customer_edge_reloaded_is_one_restarted(change, napt_namespace, router):
    first, second = (ce_files(**{**MAPE, **changes, "napt_namespace": napt_namespace}) for changes in CUSTOMER_EDGES[change])
    comes_and_goes(router, first, second)


@pytest.mark.parametrize("napt_namespace", ["napt", ""])
def test_a_translating_customer_edge_reloaded_is_one_restarted(napt_namespace, router):
    first, second = (role_variables.ce_generations(napt_namespace=napt_namespace, **changes)["jool_mapt"] for changes in ({}, WITH_FMR))
    assert first != second
    comes_and_goes(router, first, second)


@pytest.mark.parametrize("change", BORDER_RELAYS)
def test_a_border_relay_reloaded_is_one_restarted(change, router):
    first, second = (role_variables.br_generations(**changes) for changes in BORDER_RELAYS[change])
    for name in first:
        comes_and_goes(router, first[name], second[name])


@pytest.mark.parametrize("change", [{"wan_gateway": ""}, {"wan_mtu": 1492}, {"end_user_prefix": "2001:db8:13:3500::/56"}, {"mesh": True}])
@pytest.mark.parametrize("napt_namespace", ["napt", ""])
def test_a_change_of_topology_restarts(change, napt_namespace, router):
    before = settled(router)
    first, second = (ce_files(**{**MAPE, **changes, "napt_namespace": napt_namespace}) for changes in ({}, change))
    router.softwire(router.install(first), "up")
    up = links(router)
    generation = router.install(second)
    assert router.softwire(generation, "reload").stderr == ""
    assert links(router) != up
    reloaded = settled(router)
    assert router.softwire(generation, "up").stderr == ""
    same(reloaded, settled(router))
    assert router.softwire(generation, "down").stderr == ""
    same(before, settled(router))


@pytest.mark.parametrize("napt_namespace", ["napt", ""])
def test_after_a_renumbering_nothing_of_the_old_address_is_left(napt_namespace, router):
    variables = {**MAPE, "napt_namespace": napt_namespace, "lan_addresses": ["192.168.0.1/24"]}
    router.softwire(router.install(ce_files(**variables)), "up")
    remembered = ["-p", "udp", "--sport", "1000", "--dport", "53", "--timeout", "100"]
    for source, destination in (("192.0.2.18", "198.51.100.1"), ("198.51.100.1", "192.0.2.18"),
                                ("2001:db8:12:3400:0:c000:212:34", "2001:db8:ffff::1"), ("192.168.0.9", "192.0.2.19")):
        router.run("conntrack", "-I", "-s", source, "-d", destination, *remembered)
    generation = router.install(ce_files(**{**variables, "end_user_prefix": "2001:db8:13:3500::/56"}))
    assert router.softwire(generation, "reload").stderr == ""
    everything = "\n".join(state(router)) + router.sh("conntrack -L; conntrack -L -f ipv6; ip netns exec napt conntrack -L || true")
    assert "192.0.2.18" not in everything and "2001:db8:12:" not in everything
    assert "192.0.2.19" in everything and "src=192.168.0.9" in everything


@pytest.mark.parametrize("kind", ["edge", "relay"])
def test_a_reload_that_was_interrupted_is_finished_by_the_next_as_a_restart(kind, router):
    before = settled(router)
    if kind == "edge":
        first, second = (ce_files(**{**MAPE, **changes}) for changes in ({}, {"port_forwards": [WEB], "wan_gateway": "2001:db8:6::9"}))
    else:
        first, second = (role_variables.br_generations(**mapt_br(*rules))["jool_siit"] for rules in (MAPT_RULES[:1], MAPT_RULES))
    router.softwire(router.install(first), "up")
    generation = router.install(second)
    router.softwire(generation, "reload", fault="none")
    expected, steps = settled(router), len(router.steps())
    assert steps > 3
    for at in (1, steps // 2, steps - 1):
        for fault in ("kill", "fail"):
            router.softwire(router.install(first), "up")
            generation = router.install(second)
            assert router.softwire(generation, "reload", check=False, fault=fault, at=at).returncode in (-9, 1, 0), at
            router.softwire(generation, "reload")
            same(expected, settled(router))
            assert router.softwire(generation, "reload").stderr == ""
    router.softwire(router.install(first), "up")
    router.softwire(router.install(second), "reload", check=False, fault="kill", at=steps // 2)
    router.softwire(generation, "down")
    same(before, settled(router))


def test_a_reload_with_nothing_applied_is_a_start(router):
    generation = router.install(ce_files(**MAPE))
    assert router.softwire(generation, "reload").stderr == ""
    started = settled(router)
    router.softwire(generation, "up")
    same(settled(router), started)


def test_what_is_gone_already_stops_no_reload(router):
    """An interface that was down for a moment has lost its IPv6 routes; a restart brings all of them back."""
    router.softwire(router.install(ce_files(**MAPE)), "up")
    router.sh("ip route del 2001:db8:ffff::1 via 2001:db8:6::1 dev isp; ip route del unreachable 2001:db8:12:3400::/56 metric 4294967294")
    done = router.softwire(router.install(ce_files(**{**MAPE, "wan_gateway": "2001:db8:6::9"})), "reload")
    assert "No such process" in done.stderr and "unreachable 2001:db8:12:3400::/56" in router.sh("ip -6 route")
    assert "2001:db8:ffff::1 via 2001:db8:6::9" in router.sh("ip -6 route")
    assert not any("2001:db8:6::1" in line for line in journal(router))


def test_nothing_passes_unguarded(router):
    """A rule's routes and map entries go before the guard forgets its prefix, and come once it knows the prefix."""
    first, second = (files for changes in BORDER_RELAYS["a rule of MAP-E"] for files in role_variables.br_generations(**changes).values())
    router.softwire(router.install(second), "up")
    for files, expected in ((first, ["ip -force", "bpftool map delete", "nft"]), (second, ["nft", "bpftool map update", "ip -batch"])):
        router.softwire(router.install(files), "reload", fault="none")
        words = [re.match(r"nft|ip -\w+|bpftool map \w+", step)[0] for step in router.steps()]
        assert words == expected
