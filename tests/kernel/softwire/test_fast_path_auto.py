# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fast path of a border relay goes and comes by itself with what has to see packets, in a machine of its own (see test_repair.py)."""

from __future__ import annotations

import pytest
from test_reload import MAPT_RULES, ROUTER, mape_br, mapt_br, same, settled
from test_repair import faults, relay

RELAYS = {
    "relay of tunnels": ("ip6_tunnel", mape_br(*MAPT_RULES), ["mape_fast_in", "mape_fast_out"]),
    "relay of programs": ("bpf", mapt_br(*MAPT_RULES), ["br_fast_in", "br_fast_out"]),
}
# What somebody does, how it goes, and what is said of it.
OBSTACLES = {
    "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 0; }; add rule inet mine f counter'": (
        "nft delete table inet mine", "nftables chain inet mine f has rules"),
    "nft 'add table ip mine; add chain ip mine f { type filter hook forward priority 0; policy drop; }'": (
        "nft delete table ip mine", "nftables chain ip mine f drops"),
    "nft 'add table netdev mine; add chain netdev mine f { type filter hook ingress device isp priority 0; }; add rule netdev mine f counter'": (
        "nft delete table netdev mine", "nftables chain netdev mine f has rules"),
    "sysctl -qw net.ipv4.conf.inet.rp_filter=1": ("sysctl -qw net.ipv4.conf.inet.rp_filter=0", "rp_filter of inet is strict (1)"),
    "tc filter add dev isp ingress pref 49152 protocol ip bpf da bytecode '1,6 0 0 0,'": (
        "tc filter del dev isp ingress pref 49152", "isp has a tc filter of its own on ingress (pref 49152)"),
}


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER + "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/inet/rp_filter\n")
    return sandbox


def attached(router):
    shown = router.sh("for link in isp inet; do tc filter show dev $link ingress; done")
    return sorted({word.strip("[]").split(":")[0] for word in shown.split() if "_fast_" in word})


@pytest.mark.parametrize("kind", RELAYS)
def test_it_goes_and_comes_with_what_has_to_see_packets(router, kind):
    carrier, variables, programs = RELAYS[kind]
    before = settled(router)
    generation = router.install(relay(carrier, **variables)())
    assert "fast_path" not in router.softwire(generation, "up").stdout
    assert attached(router) == programs and faults(router, generation) == []
    whole = settled(router)
    for make, (undo, said) in OBSTACLES.items():
        router.sh(make)
        assert all(fault.endswith(f"attached, and {said}") for fault in faults(router, generation)) and len(faults(router, generation)) == 2, make
        assert f"map_br_fast_path: auto: off, for {said}\n" in router.softwire(generation, "reload").stdout
        assert attached(router) == [] and faults(router, generation) == []
        router.sh(undo)
        assert [fault.split(": ")[1] for fault in faults(router, generation)] == ["missing"] * 2
        router.softwire(generation, "reload")
        same(whole, settled(router))
    router.softwire(generation, "down")
    same(before, settled(router))


def test_a_router_with_rules_comes_up_without_it(router):
    make, (_undo, said) = next(iter(OBSTACLES.items()))
    router.sh(make)
    before = settled(router)
    carrier, variables, _programs = RELAYS["relay of programs"]
    generation = router.install(relay(carrier, **variables)())
    assert router.softwire(generation, "up").stdout == f"map_br_fast_path: auto: off, for {said}\n"
    assert attached(router) == [] and faults(router, generation) == []
    router.softwire(generation, "down")
    same(before, settled(router))


def test_the_variable_decides(router):
    router.sh(next(iter(OBSTACLES)))
    carrier, variables, programs = RELAYS["relay of programs"]
    for fast_path, expected in ((True, programs), (False, [])):
        generation = router.install(relay(carrier, **variables, fast_path=fast_path)())
        router.softwire(generation, "up")
        assert attached(router) == expected and faults(router, generation) == []
        router.softwire(generation, "down")
