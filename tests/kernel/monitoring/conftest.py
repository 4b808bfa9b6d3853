# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What routers write for Prometheus when they are well and when they are not: their own program's text, with real packets and programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import role_variables
from sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "softwire"))

from test_flows import MAPE, ROUTER as EDGE, TUNNEL  # noqa: E402
from test_info import JOOL, ROUTER as RELAY  # noqa: E402

ETC = "mkdir {0}/etc; cp -a /etc/. {0}/etc; mount --bind {0}/etc /etc; mkdir -p /etc/softwire; ln -s {0}/{1} /etc/softwire/{1}"
TALK = "ip netns exec host ping -q -c {count} -i 0.005 -W 1 198.51.100.1 || true"
# A port for each of so many sockets, all open at once.
PORTS = """
import socket
held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _number in range(%d)]
for each in held:
    each.sendto(b"x", ("198.51.100.1", 9))
"""
DEAF = "ip -n server addr del 198.51.100.1/24 dev eth0"
HEARS = "ip -n server addr add 198.51.100.1/24 dev eth0; ip -n server route replace 192.0.2.18 dev eth0"
# What the keeper, a deployment and its rollback write down.
REPAIRS = "keeper.Keeper(instance)._record(repairs={0}, failures={1}, in_a_row={2})"
ROLLED_BACK = "audit.Trail(instance).add('rollback', reason='unhealthy', result='good', detail='')"
UNCONFIRMED = "rollback.Transaction(instance)._write({'generation': 'x', 'previous': None, 'active': True, 'deadline': 0})"
CONFIRMED = "rollback.Transaction(instance).end()"
RELAY_WAYS = """
ip -n wan addr add {address}/128 dev wan0 nodad
ip -n wan route add 64:ff9b::/96 via fe80::1 dev wan0
ip -n wan neigh add fe80::1 lladdr $(cat /sys/class/net/isp/address) dev wan0
ip route add 2001:db8:ce::/51 via fe80::2 dev isp
ip neigh add fe80::2 lladdr $(ip netns exec wan cat /sys/class/net/wan0/address) dev isp
ip addr add 203.0.113.2/24 dev inet
ip -n inet addr add 203.0.113.9/24 dev inet0
ip -n inet route add 192.0.2.0/24 via 203.0.113.2
"""
SEND = """
import socket
made = socket.socket(socket.%s, socket.SOCK_DGRAM)
made.bind((%r, %d))
for _time in range(%d):
    made.sendto(b"x", (%r, %d))
"""


class Shown(NamedTuple):
    """Texts of metrics: before something happened, and after it."""

    before: str
    after: str


class Watched:
    """A router in a machine of its own, and what it writes for Prometheus."""

    def __init__(self, directory, name, setup):
        directory.mkdir()
        self.router, self.name = Sandbox(directory), name
        self.router.sh(setup + ETC.format(directory, name))
        self.generation, self.last = None, ""

    def up(self, files, after=""):
        self.generation = self.router.install(files, self.name)
        assert self.router.softwire(self.generation, "up").stderr == ""
        self.router.sh(after)
        self.last = self.text()

    def text(self):
        """What node exporter would read now."""
        file = self.router.directory / "softwire.prom"
        self.router.run("env", "-C", self.generation, "python3", "-BE", "-m", "softwire", "metrics", file)
        return file.read_text()

    def inside(self, statement):
        """Runs a statement of Python with the program of the generation."""
        setup = f"from softwire import audit, keeper, paths, rollback; instance = paths.Paths({self.name!r}); "
        self.router.run("env", "-C", self.generation, "python3", "-B", "-c", setup + statement)

    def shown(self):
        """The text before what happened since the last call, and after it."""
        before, self.last = self.last, self.text()
        return Shown(before, self.last)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """{what happens on a router: Shown}; "well ..." is a router on which nothing is wrong."""
    directory = tmp_path_factory.mktemp("watched")
    found = {}
    for name, setup, watch in (("ce", EDGE, edge), ("br", RELAY, relay), ("jool", RELAY, edge_with_jool)):
        watched = Watched(directory / name, "br" if name == "br" else "ce", setup)
        try:
            found.update(watch(watched))
        finally:
            watched.router.close()
    return found


def edge(watched):
    """What a customer edge for MAP-E shows."""
    router = watched.router
    files, = role_variables.ce_generations(**{**MAPE, "napt_namespace": ""}).values()
    watched.up(files, TUNNEL)
    router.sh(TALK.format(count=20))
    router.run("ip", "netns", "exec", "server", "python3", "-c", SEND % ("AF_INET", "198.51.100.1", 53, 5, "192.0.2.18", 1233))  # nobody asked for it
    yield "well ce", watched.shown()
    router.run("ip", "netns", "exec", "host", "python3", "-c", PORTS % 240)
    yield "ports", watched.shown()
    router.sh("conntrack -F 2>&1")
    watched.shown()
    router.sh(f"{DEAF}; {TALK.format(count=100)}; {HEARS}")
    yield "nothing comes back", watched.shown()
    for what, make, undo in (
        ("repairs", REPAIRS.format(6, 1, 5), REPAIRS.format(6, 1, 0)),
        ("a rollback", ROLLED_BACK, "None"),
        ("unconfirmed", UNCONFIRMED, CONFIRMED),
    ):
        watched.inside(make)
        yield what, watched.shown()
        watched.inside(undo)
        watched.shown()
    router.sh("ip addr del 192.0.0.2/32 dev ce-tun")
    yield "a change", watched.shown()
    router.softwire(watched.generation, "reload")
    watched.shown()
    router.sh("rm -r /run/softwire/ce/bpf/napt")
    yield "no programs", watched.shown()


def relay(watched):
    """What a border relay for MAP-T shows."""
    router = watched.router
    watched.up(role_variables.br_generations()["bpf"])
    ce = json.loads(role_variables.ce_generations()["bpf"]["parameters.json"])["ce"]
    router.sh(RELAY_WAYS.format(address=ce["map_address"]))
    low, high = ce["port_ranges"][0]

    def send(times, port=low):
        """From a customer edge, by a port of its set or by one of another."""
        router.run("ip", "netns", "exec", "wan", "python3", "-c", SEND % ("AF_INET6", ce["map_address"], port, times, "64:ff9b::cb00:7109", 53))

    def answer(times):
        router.run("ip", "netns", "exec", "inet", "python3", "-c", SEND % ("AF_INET", "203.0.113.9", 53, times, ce["ipv4_address"], low))

    watched.shown()
    send(100)
    answer(100)
    yield "well br", watched.shown()
    router.sh(f"ip -n wan addr del {ce['map_address']}/128 dev wan0")  # not even an error comes from there
    answer(100)
    yield "no customers", watched.shown()
    router.sh(f"ip -n wan addr add {ce['map_address']}/128 dev wan0 nodad")
    send(1000, high + 1)
    yield "spoofed", watched.shown()


def edge_with_jool(watched):
    """What a customer edge for MAP-T with Jool shows."""
    (watched.router.directory / "fakes" / "jool_siit").write_text(JOOL.replace("DIRECTORY", str(watched.router.directory)))
    watched.up(role_variables.ce_generations(napt_namespace="", wan_gateway="")["jool_siit"])
    yield "well jool", watched.shown()
