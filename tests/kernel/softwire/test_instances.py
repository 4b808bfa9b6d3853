# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several instances on one router: what happens to one of them changes nothing under the others (the router is that of conftest.py)."""

from __future__ import annotations

import difflib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import role_variables
import pytest
from test_reload import MAPE, MAPT_RULES, mape_br, mapt_br, settled, state
from test_repair import faults

from ansible_collections.softwire.map.plugins.module_utils.softwire import files, instances
from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import Instance
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import Transaction

PATIENCE = 10  # seconds that the kernel may need to notice carriers
FIRST = {"instance": "one", "lan_interfaces": ["lan"], "lan_addresses": ["192.168.0.1/24"], "wan_gateway": "", "napt_namespace": ""}
SECOND = {**FIRST, "instance": "two", "lan_interfaces": ["guest"], "lan_addresses": ["192.168.1.1/24"], "route_table": 7700,
          "veth_network": "192.0.0.8/29"}
GATEWAY = {"wan_gateway": "2001:db8:6::1"}
OTHER_RULE = {"ipv6_prefix": "2001:db8:5000::/40", "ipv4_prefix": "100.64.0.0/24", "ea_length": 16}


def tunnel_edge(**variables):
    return role_variables.ce_generations(**{**MAPE, **variables})["ip6_tunnel"]


def program_edge(**variables):
    return role_variables.ce_generations(translator="bpf", **variables)["bpf"]


def tunnel_relay(**variables):
    return role_variables.br_generations(**{"fast_path": True, **mape_br(MAPT_RULES[1]), **variables})["ip6_tunnel"]


def program_relay(rule=None, carrier="bpf", **variables):
    # Not auto, for which each of two relays waits until the other one is there (test_fast_path_auto.py).
    return role_variables.br_generations(**{"fast_path": True, **mapt_br(rule or OTHER_RULE, translator=carrier), **variables})[carrier]


# Each pair of roles and transports, each layout of a customer edge. Edges of one domain with a gateway share the way to its border relay.
PAIRS = {
    "two edges with tunnels": lambda: (
        tunnel_edge(**{**FIRST, **GATEWAY}), tunnel_edge(**{**SECOND, **GATEWAY, "end_user_prefix": "2001:db8:13:3500::/56"})),
    "two edges with programs": lambda: (
        program_edge(**{**FIRST, **GATEWAY}), program_edge(**{**SECOND, **GATEWAY, "end_user_prefix": "2001:db8:ce:11b::/64"})),
    "edges of both transports": lambda: (tunnel_edge(**FIRST), program_edge(**SECOND)),
    "edges of both layouts": lambda: (tunnel_edge(**{**FIRST, "napt_namespace": "napt"}), program_edge(**{**SECOND, "napt_namespace": "two"})),
    "relays of both transports": lambda: (tunnel_relay(instance="one"), program_relay(instance="two")),
    "two relays with programs": lambda: (
        program_relay(instance="one"),
        role_variables.br_generations(instance="two", translator="bpf", fast_path=False, domains=[
            {"transport": "map-t", "dmr": "2001:db8:ffff::/64", "rules": [MAPT_RULES[1]]}])["bpf"]),
    # Both have programs on the interface, which here are not at the same place.
    "relays with programs on one interface": lambda: (
        tunnel_relay(instance="one", ipv4_interface="isp"), with_preference(7598, program_relay(instance="two", carrier="jool_siit"))),
    "an edge with a tunnel and a relay of tunnels": lambda: (tunnel_edge(**FIRST), tunnel_relay(instance="two")),
    "an edge with a tunnel and a relay of programs": lambda: (tunnel_edge(**FIRST), program_relay(instance="two")),
    "an edge with programs and a relay of tunnels": lambda: (program_edge(**FIRST), tunnel_relay(instance="two")),
    "an edge with programs and a relay of programs": lambda: (
        program_edge(**{**FIRST, "domain": role_variables.rule_domain(ea_length=16), "end_user_prefix": "2001:db8:12:3400::/56"}),
        program_relay(instance="two")),
}


def with_preference(preference, made):
    return {**made, "main/tc": made["main/tc"].replace("pref 7599", f"pref {preference}")}


class Router:
    """Two instances of a sandbox."""

    def __init__(self, sandbox, first, second):
        self.sandbox = sandbox
        self.generations = {name: sandbox.install(made, name) for name, made in (("one", first), ("two", second))}

    def files(self, name):
        return files.read(self.generations[name])

    def does(self, name, action, fault=None, at=0):
        done = self.sandbox.softwire(self.generations[name], action, check=not at, fault=fault, at=at)
        # A "down" after a killed one also says what that has undone.
        assert at or action == "down" or done.stderr == "", (name, action)

    def steps(self, name, action):
        self.does(name, action, fault="none")
        return len(self.sandbox.steps())

    def is_whole(self, *names):
        for name in names:
            assert faults(self.sandbox, self.generations[name]) == [], name

    def becomes(self, expected, after):
        """The machine is as expected, as soon as the kernel has noticed every carrier."""
        deadline = time.monotonic() + PATIENCE
        while (now := state(self.sandbox)) != expected and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "\n".join(difflib.unified_diff(expected, now, "expected", after, n=0, lineterm="")) == ""


@pytest.mark.parametrize("pair", PAIRS)
def test_one_instance_comes_and_goes_and_fails_beside_another(pair, router):
    before = state(router)
    both = Router(router, *PAIRS[pair]())
    assert instances.conflicts(both.files("one"), {"two": both.files("two")}) == []
    both.does("two", "up")
    second_alone = settled(router)
    steps = both.steps("one", "up")
    both.does("one", "reload")
    both.does("two", "reload")
    both.is_whole("one", "two")
    both.does("one", "down")
    both.becomes(second_alone, "the first is down")
    both.is_whole("two")
    both.does("one", "up", fault="fail", at=steps - 1)
    both.becomes(second_alone, "the first has failed")
    both.does("one", "up", fault="kill", at=steps // 2)
    both.is_whole("two")
    both.does("one", "up")
    both.does("two", "down", fault="kill", at=2)
    both.is_whole("one")
    both.does("two", "down")
    both.is_whole("one")
    both.does("one", "down")
    both.becomes(before, "both are down")


def test_a_change_of_one_and_its_way_back_leave_what_both_had(router):
    before = state(router)
    both = Router(router, *PAIRS["two edges with tunnels"]())
    both.does("one", "up")
    both.does("two", "up")
    whole, old = settled(router), os.readlink(both.generations["one"])
    router.install(tunnel_edge(**FIRST), "one")
    both.does("one", "reload")
    both.is_whole("one", "two")
    Transaction(Instance("one", router.directory)).switch(os.path.basename(old))
    both.does("one", "reload")
    both.becomes(whole, "the first is what it was")
    both.does("one", "down")
    both.does("two", "down")
    both.becomes(before, "both are down")


def test_it_does_not_matter_who_puts_right_what_both_found_as_it_is(router):
    router.sh("echo 1 > /proc/sys/net/ipv4/conf/all/forwarding; tc qdisc add dev isp clsact")
    both = Router(router, *PAIRS["relays with programs on one interface"]())
    both.does("one", "up")
    both.does("two", "up")
    router.sh("echo 0 > /proc/sys/net/ipv4/conf/all/forwarding; tc qdisc del dev isp clsact")
    both.does("one", "reload")
    both.does("two", "reload")
    both.does("one", "down")
    both.is_whole("two")


def test_both_come_and_go_at_once(router):
    """As at a boot: systemd starts them side by side."""
    before = state(router)
    both = Router(router, *PAIRS["edges of both transports"]())
    for action in ("up", "down"):
        with ThreadPoolExecutor() as pool:
            list(pool.map(both.does, ("one", "two"), (action, action)))
        if action == "up":
            both.is_whole("one", "two")
    both.becomes(before, "both are down")
