# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper in a machine of its own: what the kernel tells it, and what it does; systemd is a script that calls the runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import role_variables
import pytest
from test_reload import MAPE, ROUTER, same, settled

from ansible_collections.softwire.map.plugins.module_utils.softwire.events import Events

SYSTEMCTL = """#!/bin/sh
echo "$*" >> DIRECTORY/systemctl
cd DIRECTORY/test/current
case "$*" in
*ActiveState*) if [ -e DIRECTORY/inactive ]; then echo inactive; else echo active; fi ;;
"reload "*) [ ! -e DIRECTORY/refuse ] && exec python3 -B -m softwire reload ;;
"start "*) rm DIRECTORY/inactive; exec python3 -B -m softwire up ;;
esac
"""
PATIENCE = 20  # seconds for a busy machine
# What the kernel is asked to do, in the main namespace and in the other one, and whether it matters.
CHANGES = {
    "nft add table ip new": True,
    "nft flush ruleset": True,
    "ip link set dev isp down": True,
    "ip link del dev isp": True,
    "ip addr del 192.168.0.1/24 dev lan": True,
    "ip route del 10.0.0.0/8": True,
    "ip -6 rule del pref 100": True,
    "tc filter del dev lan egress": True,
    "tc qdisc del dev lan clsact": True,
    "sysctl -qw net.ipv4.ip_forward=0": True,
    "sysctl -qw net.ipv6.conf.all.forwarding=0": True,
    "ip route add 10.1.0.0/16 dev lan": False,
    "ip neigh add 192.168.0.9 lladdr 02:00:00:00:00:09 dev lan": False,
    "ip addr add 192.168.9.1/24 dev lan": False,
}
PREPARE = """
ip link add isp type veth peer name isp-peer
ip link add lan type veth peer name lan-peer
for link in isp isp-peer lan lan-peer; do ip link set $link up; done
ip addr add 192.168.0.1/24 dev lan
ip route add 10.0.0.0/8 dev lan
ip -6 rule add pref 100 lookup 100
tc qdisc add dev lan clsact
tc filter add dev lan egress pref 1 bpf da bytecode '1,6 0 0 0,'
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft add table ip old
"""


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_kernel_tells(sandbox, change):
    sandbox.sh(PREPARE)
    time.sleep(0.3)
    with sandbox.inside():
        events = Events(["main"])
    try:
        assert events.wait(0.3) is False
        sandbox.sh(change)
        assert events.wait(PATIENCE if CHANGES[change] else 0.3) is CHANGES[change]
        while events.wait(1):  # a link that goes takes some time
            pass
    finally:
        events.close()


@pytest.fixture
def router(sandbox):
    return with_systemctl(sandbox)


def with_systemctl(sandbox):
    """A router whose systemctl does what the keeper asks of it."""
    sandbox.sh(ROUTER)
    script = sandbox.directory / "fakes" / "systemctl"
    script.write_text(SYSTEMCTL.replace("DIRECTORY", str(sandbox.directory)))
    script.chmod(0o755)
    return sandbox


@contextlib.contextmanager
def kept(router, generation):
    """The keeper at work."""
    path = f"{router.directory}/fakes:/usr/sbin:/usr/bin:/sbin:/bin"
    command = ["nsenter", "-t", router.process, "-n", "-m", "-p",
               "env", "-C", str(generation.resolve()), f"PATH={path}", "python3", "-B", "-m", "softwire", "keep"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            os.kill(int(innermost(process.pid)), signal.SIGTERM)  # nsenter waits for it, and hands no signal on
            router.said = process.communicate(timeout=PATIENCE)[1]


def innermost(pid):
    """The process that is at work below one that has only started others."""
    while True:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if not below or Path(f"/proc/{pid}/comm").read_text(encoding="ascii").startswith("python"):
            return pid
        pid = below[0]


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def calls(router, word):
    path = router.directory / "systemctl"
    return [line for line in path.read_text().splitlines() if line.startswith(word)] if path.exists() else []


def recorded(router):
    return json.loads(router.sh("cat /run/softwire/test/repairs"))


EDGES = {
    "tunnel": {**MAPE, "napt_namespace": ""},
    "tunnel, NAPT namespace": {**MAPE, "napt_namespace": "napt"},
}
DAMAGE = ("nft flush ruleset", "ip -6 route flush dev isp proto boot", "ip rule del pref 31001 || ip netns exec napt nft flush ruleset",
          "sysctl -qw net.ipv4.ip_forward=0", "ip netns exec napt ip route flush table main proto boot || ip route flush table 7598")


@pytest.mark.parametrize("edge", EDGES)
def test_it_puts_right_what_somebody_changes(router, edge):
    generation = router.install(role_variables.ce_generations(**EDGES[edge])["ip6_tunnel"])
    router.softwire(generation, "up")
    whole = settled(router)
    with kept(router, generation):
        until(lambda: calls(router, "show"))
        for number, damage in enumerate(DAMAGE, 1):
            router.sh(damage)
            until(lambda number=number: len(calls(router, "reload")) >= number)
            same(whole, settled(router))
    assert len(calls(router, "reload")) == len(DAMAGE) and recorded(router)["repairs"] == len(DAMAGE)
    assert "softwire: reload: nftables table" in router.said


def test_what_does_not_hold_is_tried_less_and_less_often(router):
    generation = router.install(role_variables.ce_generations(**EDGES["tunnel"])["ip6_tunnel"])
    router.softwire(generation, "up")
    (router.directory / "refuse").touch()
    with kept(router, generation):
        until(lambda: calls(router, "show"))
        router.sh("nft flush ruleset")
        time.sleep(10)
        tries = len(calls(router, "reload"))
        assert 2 <= tries <= 4
        assert recorded(router)["failures"] >= 2 and recorded(router)["repairs"] == 0
        (router.directory / "refuse").unlink()
        until(lambda: recorded(router)["repairs"] == 1)
    assert "to no avail" in router.said


def test_an_interface_that_comes_late_brings_the_softwire_up(router):
    generation = router.install(role_variables.ce_generations(**EDGES["tunnel"])["ip6_tunnel"])
    router.sh("ip link del isp")
    (router.directory / "inactive").touch()
    assert router.softwire(generation, "ready", check=False).returncode == 1
    with kept(router, generation):
        time.sleep(2)
        assert not calls(router, "start")
        router.sh("ip link add isp type veth peer name isp-peer; ip link set isp-peer up; ip link set isp up; ip addr add 2001:db8:6::2/64 dev isp")
        until(lambda: not (router.directory / "inactive").exists())
        until(lambda: "softwire_ce_guard" in router.sh("nft list tables"))
    assert router.softwire(generation, "ready").returncode == 0
    assert len(calls(router, "start")) == 1


def test_it_goes_on_as_the_program_of_the_next_generation(router):
    first, second = (role_variables.ce_generations(**{**EDGES["tunnel"], **changes})["ip6_tunnel"] for changes in ({}, {"max_ports_per_client": 9}))
    generation = router.install(first)
    router.softwire(generation, "up")
    with kept(router, generation) as process:
        until(lambda: calls(router, "show"))
        router.softwire(router.install(second), "reload")
        current = router.directory / "test" / "current"
        until(lambda: Path(f"/proc/{innermost(process.pid)}/cwd").resolve() == current.resolve())
        assert process.poll() is None
