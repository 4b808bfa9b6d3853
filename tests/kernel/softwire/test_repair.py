# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody changes a router behind our back: that is seen, and a reload puts it right, in a machine of its own (see test_reload.py)."""

from __future__ import annotations

import role_variables
import pytest
from test_reload import MAPE, MAPT_RULES, ROUTER, WEB, links, mape_br, mapt_br, same, settled

LOOK = """
import pathlib
from softwire import drift, runner
print("\\n".join(drift.differences(runner.Generation(pathlib.Path().resolve()))), end="")
"""


def edge(carrier, **variables):
    return lambda: role_variables.ce_generations(**variables)[carrier]


def relay(carrier, **variables):
    return lambda: role_variables.br_generations(**variables)[carrier]


# Each transport and each role, each layout once.
ROUTERS = {
    "tunnel": edge("ip6_tunnel", **MAPE, napt_namespace="", port_forwards=[WEB]),
    "programs in the NAPT's namespace": edge("bpf", napt_namespace="napt"),
    "Jool in a namespace": edge("jool_siit", napt_namespace=""),
    "relay of tunnels": relay("ip6_tunnel", **mape_br(*MAPT_RULES)),
    "relay of programs": relay("bpf", **mapt_br(*MAPT_RULES)),
}
# What somebody does, in each namespace of the router, and what of it is named there; "" where there may be nothing to break.
DAMAGE = {
    "rules": ("nft flush ruleset", "nftables table inet softwire_"),
    "one chain": ("nft list tables | while read -r _word table; do nft flush chain $table prerouting; done", "nftables table inet softwire_"),
    "addresses": ("ip -6 addr flush scope global deprecated; ip -6 addr flush dev isp scope global", ""),
    "routes of IPv6": ("ip -6 route flush proto boot", ""),
    "routes of all tables": ("ip route flush table all proto boot; ip -6 route flush table all proto boot", ""),
    "policy rules": ("for pref in 29999 30000 31000 31001 40000; do while ip rule del pref $pref; do :; done; done 2>/dev/null", ""),
    "forwarding": ("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0", "sysctl net/ipv4/"),
    "programs": ("for link in $(ls /sys/class/net); do tc qdisc del dev $link clsact; done 2>/dev/null", ""),
    "one program": ("for link in $(ls /sys/class/net); do tc filter del dev $link egress; tc filter del dev $link ingress; done 2>/dev/null", ""),
    "links": ("for link in $(ls /sys/class/net); do case $link in isp*|lan*|inet*|lo) ;; *) ip link set dev $link down ;; esac; done", ""),
    "the WAN": ("ip link set dev isp down; ip link set dev isp up; sleep 0.1", ""),
}
# What is not ours comes back by itself.
SYSTEM = """
ip addr replace 2001:db8:6::2/64 dev isp
ip addr replace 203.0.113.2/24 dev inet
if [ -e /sys/class/net/lan ]; then ip addr replace 192.168.0.1/24 dev lan; fi
"""


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER)
    return sandbox


def faults(router, generation):
    return router.run("env", "-C", generation, "python3", "-B", "-c", LOOK).stdout.splitlines()


def everywhere(router, script):
    for namespace in ["main", *(line.split()[0] for line in router.sh("ip netns").splitlines())]:
        inside = [] if namespace == "main" else ["ip", "netns", "exec", namespace]
        router.run(*inside, "sh", "-c", script, check=False)


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_reload_puts_right_what_somebody_has_changed(router, kind):
    generation = router.install(ROUTERS[kind]())
    router.softwire(generation, "up")
    whole, before = settled(router), links(router)
    assert faults(router, generation) == []
    for what, (script, named) in DAMAGE.items():
        everywhere(router, script)
        router.sh(SYSTEM)
        damaged = settled(router)
        found = faults(router, generation)
        assert bool(found) == (damaged != whole), what
        assert not named or any(named in fault for fault in found), (what, found)
        assert router.softwire(generation, "reload").returncode == 0, what
        same(whole, settled(router))
        assert faults(router, generation) == [], what
    assert links(router) == before, "a repair is no restart"
