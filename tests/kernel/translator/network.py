# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A MAP-T network on this machine's kernel: real generations of the roles, brought up by their own runner, and real sockets.

c1 - ce1 (NAPT namespace)  -+
c2 - ce2 (main namespace)  -+- isp - br - inet - s        ce1 and ce3 share an IPv4 address
c3 - ce3 (NAPT namespace)  -+

Each machine is a sandbox; no kernel module is needed. isp is a bridge of the border relay's, which also routes IPv6 between
the customer edges.
"""

from __future__ import annotations

import subprocess
import sys

import role_variables
from sandbox import SYSTEM_PATH, Sandbox

EDGES = {"1": "11b", "2": "774", "3": "11a"}  # number: the subnet of its end-user prefix
LAYOUTS = {"1": "napt", "2": "", "3": "napt"}
SERVER = "203.0.113.56"
HOST = "192.168.0.4"


class Network:
    """domain: of all; mesh: whether its rule is a forwarding one."""

    def __init__(self, directory, mesh=False, wan_mtu=1500):
        self.machines = {}
        rule = {**role_variables.TUTORIAL["rules"][0], "fmr": mesh}
        self.domain = {**role_variables.TUTORIAL, "rules": [rule]}
        self.wan_mtu = wan_mtu
        try:
            for name in ("br", "s", *(kind + number for number in EDGES for kind in ("ce", "c"))):
                path = directory / name
                path.mkdir()
                self.machines[name] = Sandbox(path)
            self._wire()
            self.generations = {}
            self.install("br", role_variables.br_alternatives(role_variables.br(
                domains=[self.domain], translator="bpf", ipv6_mtu=wan_mtu)))
            for number in EDGES:
                self.deploy(number)
        except BaseException:
            self.close()
            raise

    def close(self):
        for machine in self.machines.values():
            machine.close()

    def deploy(self, number, **changes):
        """Brings a customer edge up, with these variables beside those it needs."""
        subnet = EDGES[number]
        variables = role_variables.ce(
            domain=self.domain, end_user_prefix=f"2001:db8:ce:{subnet}::/64", translator="bpf", napt_namespace=LAYOUTS[number],
            lan_addresses=["192.168.0.1/24", f"2001:db8:ce:{subnet}::1/64"], wan_mtu=self.wan_mtu, **changes)
        self.install("ce" + number, role_variables.ce_alternatives(variables))

    def install(self, name, alternatives):
        (_carrier, files), = alternatives
        machine = self.machines[name]
        self.generations[name] = machine.install(files)
        machine.softwire(self.generations[name], "up")

    def _wire(self):
        self._batch("br", "link add isp type bridge mcast_snooping 0\nlink set isp up mtu 1500\naddr add 2001:db8:6::1/64 dev isp nodad")
        self._link("br", "inet", "s", "inet")
        self._batch("br", "addr add 203.0.113.1/24 dev inet")
        self._batch("s", f"addr add {SERVER}/24 dev inet\nroute add default via 203.0.113.1")
        for number, subnet in EDGES.items():
            edge, client = "ce" + number, "c" + number
            self._link("br", "port" + number, edge, "isp")
            self._link(edge, "lan", client, "lan")
            self._batch("br", f"link set port{number} master isp\nroute add 2001:db8:ce:{subnet}::/64 via 2001:db8:6::{subnet}")
            self._batch(edge, f"addr add 2001:db8:6::{subnet}/64 dev isp nodad")
            if not LAYOUTS[number]:
                self._batch(edge, f"addr add 192.168.0.1/24 dev lan\naddr add 2001:db8:ce:{subnet}::1/64 dev lan nodad")
            self._batch(client, f"addr add {HOST}/24 dev lan\nroute add default via 192.168.0.1\n"
                                f"addr add 2001:db8:ce:{subnet}::4/64 dev lan nodad\nroute add default via 2001:db8:ce:{subnet}::1")

    def _batch(self, name, lines):
        self.machines[name].run("sh", "-ec", f"ip -batch - <<END\n{lines}\nEND")

    def _link(self, one, name, other, peer):
        here, there = self.machines[one], self.machines[other]
        # From outside, where the other's number is known: process numbers inside are others.
        subprocess.run(["nsenter", "-t", here.process, "-n", "ip", "link", "add", name, "type", "veth",
                        "peer", "name", peer, "netns", there.process], check=True)
        here.run("ip", "link", "set", name, "up")
        there.run("ip", "link", "set", peer, "up")

    def run(self, name, *command, check=True):
        return self.machines[name].run(*command, check=check)

    def start(self, name, *command):
        """Starts a program on a machine; it runs until the caller ends it."""
        return subprocess.Popen(
            ["nsenter", "-t", self.machines[name].process, "-n", "-m", "-p", *map(str, command)], text=True, env={"PATH": SYSTEM_PATH},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def python(self, name, script, *arguments, check=True):
        return self.run(name, sys.executable, "-c", script, *arguments, check=check)

    def counters(self, name):
        """What the programs of a machine have counted, without zeros."""
        instance = "br" if name == "br" else "ce"
        from ansible_collections.softwire.map.plugins.module_utils.softwire import info  # its programs() runs bpftool here
        del info
        return self.machines[name].run("bpftool", "-j", "map", "dump", "pinned", f"/run/softwire/{instance}/bpf/maps/counters").stdout
