# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A MAP network on this machine's kernel: real generations of the roles, brought up by their own runner, and real sockets.

c1 - ce1 (NAPT namespace)  -+
c2 - ce2 (main namespace)  -+- isp - br - inet - s        ce1 and ce3 share an IPv4 address;
c3 - ce3 (NAPT namespace)  -+                             ce4 has 63 port ranges
c4 - ce4 (main namespace)  -+

Each machine is a sandbox; no kernel module is needed: for MAP-E VXLAN-GPE takes the place of ip6tnl, which like it carries bare
IPv4 packets between the addresses that a program says, in a UDP header and one of its own more (RFC 7348). isp is a bridge of the
border relay's, which also routes IPv6 between the customer edges. A place is a machine, or a namespace of one: "c1", "s", "ce1",
"ce1/napt".
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import packets
import role_variables
from sandbox import Sandbox

SERVER, BR_IPV4, BR_IPV6 = "203.0.113.56", "203.0.113.1", "2001:db8:6::1"
ROUTER, HOST = "192.168.0.1", "192.168.0.4"  # of each LAN
SERVER_IN_DMR = "64:ff9b::cb00:7138"
BR_ADDRESS = "2001:db8:ffff::1"  # MAP-E
GPE_PORT, GPE = 4790, bytes.fromhex("0c000001 00000000")  # instance and protocol valid; IPv4
GPE_HEADERS = 8 + len(GPE)  # of UDP and GPE, what the packets on the wire are longer by
SECOND_RULE = {"ipv6_prefix": "2001:db8:c6::/48", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16, "psid_offset": 6}
SERVICE = 8000  # the port of the host to which the first port of each set leads
PATIENCE = 10  # seconds for what has to come
# <linux/in.h>, <linux/udp.h>, <asm-generic/socket.h>, <linux/if_ether.h>, <linux/in6.h>
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_MTU, IP_RECVTOS = 10, 0, 2, 14, 13
SOL_UDP, UDP_SEGMENT, SO_NO_CHECK, SO_RCVBUFFORCE, ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 17, 103, 11, 33, 3, 0x0800, 0x86DD
WITHOUT_DF = (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
WITH_DF = (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
COUNT = """
import json, pathlib
from softwire import info
rules = [counter for path in sorted(pathlib.Path().glob("*/*.nft")) for counter in info.rule_counters(path.parent.name, path)]
counted = {"%(rules)s.%(name)s" % counter: counter["packets"] for counter in rules}
print(json.dumps({**counted, **info.programs(json.loads(pathlib.Path("parameters.json").read_text())["bpf"])}))
"""


@dataclasses.dataclass(frozen=True)
class Edge:
    """A customer edge. What it computes from its prefix is computed by hand here (RFC 7597 section 5)."""

    subnet: str  # of its WAN, and the end of its end-user prefix
    prefix: str  # the end-user prefix, without its length of 64
    napt_namespace: str
    address: str
    map_address: str
    ports: list[int]

    @property
    def napt(self):
        return self.napt_namespace or "main"

    @property
    def wan(self):
        return f"2001:db8:6::{self.subnet}"


EDGES = {
    "1": Edge("11b", "2001:db8:ce:11b::", "napt", "192.0.2.8", "2001:db8:ce:11b:0:c000:208:1b", list(range(27 << 11, 28 << 11))),
    "2": Edge("774", "2001:db8:ce:774::", "", "192.0.2.59", "2001:db8:ce:774:0:c000:23b:14", list(range(20 << 11, 21 << 11))),
    "3": Edge("11a", "2001:db8:ce:11a::", "napt", "192.0.2.8", "2001:db8:ce:11a:0:c000:208:1a", list(range(26 << 11, 27 << 11))),
    "4": Edge("1234", "2001:db8:c6:1234::", "", "198.51.100.18", "2001:db8:c6:1234:0:c633:6412:34",
              [number << 10 | 0x34 << 2 | low for number in range(1, 64) for low in range(4)]),
}


def tunnelled(source, destination, packet):
    """An IPv4 packet in a tunnel between two IPv6 addresses, as it is on the wire of a MAP-E network here."""
    return packets.udp(source, destination, GPE_PORT, GPE_PORT, GPE + packet)


class Network:
    """edges: which of the customer edges it has; mesh: whether the rules are forwarding ones; mtu: of the isp link; more_rules: of the domain."""

    def __init__(self, directory, edges="123", mesh=False, mtu=1500, transport="map-t", more_rules=()):
        self.machines, self.edges, self.mtu, self.transport = {}, edges, mtu, transport
        self.wire_mtu = mtu + (GPE_HEADERS if transport == "map-e" else 0)
        rules = [{**rule, "fmr": mesh} for rule in (*role_variables.TUTORIAL["rules"], SECOND_RULE, *more_rules)]
        self.domain = {**role_variables.TUTORIAL, "rules": rules}
        if transport == "map-e":
            self.domain = {"transport": transport, "br_address": BR_ADDRESS, "rules": rules}
        self.generations, self.forwards = {}, {}
        try:
            for name in ("br", "s", *(kind + number for number in edges for kind in ("ce", "c"))):
                path = directory / name
                path.mkdir()
                self.machines[name] = Sandbox(path, f"vxlan external gpe dstport {GPE_PORT}")
            self._wire()
        except BaseException:
            self.close()
            raise

    def close(self):
        for machine in self.machines.values():
            machine.close()

    # ---- making ----

    def up(self):
        self.install("br", role_variables.br_alternatives(role_variables.br(domains=[self.domain], ipv6_mtu=self.mtu, **self._carrier("br"))))
        for number in self.edges:
            self.deploy(number)

    def deploy(self, number, action="up", **changes):
        """Brings a customer edge up, or reloads it, with these variables beside those it needs."""
        edge = EDGES[number]
        variables = role_variables.ce(**{
            "domain": self.domain, "end_user_prefix": f"{edge.prefix}/64", **self._carrier("ce"), "napt_namespace": edge.napt_namespace,
            "lan_addresses": [f"{ROUTER}/24", f"{edge.prefix}1/64"], "wan_mtu": self.mtu, "reserved_ports": [edge.ports[1]],
            "port_forwards": [{"port": edge.ports[0], "to_address": HOST, "to_port": SERVICE, "protocol": "tcp_udp"}], **changes})
        self.install("ce" + number, role_variables.ce_alternatives(variables), action)
        self._lift_limits(self.napt(number))

    def _carrier(self, role):
        """The variables that leave one alternative, the collection's own programs."""
        if self.transport == "map-t":
            return {"translator": "bpf"}
        return {"mesh": True} if role == "ce" else {}

    def install(self, name, alternatives, action="up"):
        (_carrier, files), = alternatives
        if self.transport == "map-e":  # what the guard knows a tunnel by
            files["main/guard.nft"] = files["main/guard.nft"].replace("meta l4proto 4 ", f"udp dport {GPE_PORT} ")
        machine = self.machines[name]
        self.generations[name] = machine.install(files)
        machine.softwire(self.generations[name], action)

    def _wire(self):
        self.ip("br", "link add isp type bridge mcast_snooping 0", f"link set isp up mtu {self.wire_mtu}", f"addr add {BR_IPV6}/64 dev isp")
        self._link("br", "inet", "s", "inet")
        self.ip("br", f"addr add {BR_IPV4}/24 dev inet")
        self.ip("s", f"addr add {SERVER}/24 dev inet", f"route add default via {BR_IPV4}")
        for number in self.edges:
            edge, ce, client = EDGES[number], "ce" + number, "c" + number
            self._link("br", "port" + number, ce, "isp", self.wire_mtu)
            self._link(ce, "lan", client, "lan")
            self.ip("br", f"link set port{number} master isp", f"route add {edge.prefix}/64 via {edge.wan}")
            self.ip(ce, f"addr add {edge.wan}/64 dev isp", f"route add default via {BR_IPV6}",
                    f"addr add {ROUTER}/24 dev lan", f"addr add {edge.prefix}1/64 dev lan")
            self.ip(client, f"addr add {HOST}/24 dev lan", f"route add default via {ROUTER}",
                    f"addr add {edge.prefix}4/64 dev lan", f"route add default via {edge.prefix}1")
        for name in self.machines:
            self._lift_limits(name)

    def _lift_limits(self, place):
        """Errors are what many tests wait for."""
        self.run(place, "sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")

    def _link(self, one, name, other, peer, mtu=1500):
        here, there = self.machines[one], self.machines[other]
        # From outside, where the other's number is known: process numbers inside are others.
        subprocess.run(["nsenter", "-t", here.process, "-n", "ip", "link", "add", name, "mtu", str(mtu), "type", "veth",
                        "peer", "name", peer, "mtu", str(mtu), "netns", there.process], check=True)
        self.ip(one, f"link set {name} up")
        self.ip(other, f"link set {peer} up")

    # ---- using ----

    def run(self, place, *command, check=True):
        name, _slash, namespace = place.partition("/")
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        return self.machines[name].run(*inside, *command, check=check)

    def ip(self, place, *lines):
        self.run(place, "sh", "-ec", "ip -batch - <<END\n" + "\n".join(lines) + "\nEND")

    def napt(self, number):
        """The place of the LAN and the NAPT of a customer edge."""
        return f"ce{number}/{EDGES[number].napt}" if EDGES[number].napt_namespace else f"ce{number}"

    def socket(self, place, kind=socket.SOCK_DGRAM, protocol=0, bind=None, peer=None, options=(), family=socket.AF_INET):
        """An open socket; options: triples of setsockopt()."""
        name, _slash, namespace = place.partition("/")
        with self.machines[name].inside(namespace or "main"):
            made = socket.socket(family, kind, protocol)
        made.settimeout(PATIENCE)
        if kind == socket.SOCK_STREAM:  # datagram sockets would share a port by chance
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in options:
            made.setsockopt(*option)
        if bind:
            made.bind(bind)
        if peer:
            made.connect(peer)
        return made

    @contextlib.contextmanager
    def udp(self, client, server=SERVER, options=()):
        """A datagram socket of a client and one of the server, which know each other: what the one sends, the other receives."""
        with self.socket("s", bind=(server, 0), options=options) as far, self.socket(client, peer=far.getsockname(), options=options) as near:
            near.send(b"hello")
            _data, peer = far.recvfrom(9)
            far.connect(peer)
            yield near, far

    @contextlib.contextmanager
    def tcp(self, client, server="s", to=SERVER, port=0, at=None, at_port=0):
        """A connection: the socket of the client, and that of the server, which listens elsewhere than at (to, port) where that is forwarded."""
        with self.socket(server, socket.SOCK_STREAM, bind=(at or to, at_port or port)) as listener:
            listener.listen()
            with self.socket(client, socket.SOCK_STREAM, peer=(to, port or listener.getsockname()[1])) as near:
                far, _peer = listener.accept()
                far.settimeout(PATIENCE)
                with far:
                    yield near, far

    def capture(self, place, device, sent_only=False):
        # Without a protocol until it is bound: with one it sees all devices.
        return Capture(self.socket(place, family=socket.AF_PACKET, bind=(device, ETH_P_ALL)), sent_only)

    def inject(self, place, device, packet, to):
        """Puts a packet on a link, for the device of another place: (place, device)."""
        address = bytes.fromhex(self.run(to[0], "cat", f"/sys/class/net/{to[1]}/address").stdout.strip().replace(":", ""))
        with self.socket(place, family=socket.AF_PACKET) as link:
            link.sendto(packet, (device, ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP, 0, 0, address))

    @contextlib.contextmanager
    def counted(self, name):
        """What rules ("guard.dmr_spoofed") and programs ("in_passed") of a router count inside: a Counter, filled at the end."""
        before, moved = self._counters(name), collections.Counter()
        yield moved
        moved.update({counter: value - before[counter] for counter, value in self._counters(name).items() if value != before[counter]})

    def _counters(self, name):
        done = self.machines[name].run("env", "-C", self.generations[name], "python3", "-BESc", "import sys; sys.path.insert(0, '')\n" + COUNT)
        return json.loads(done.stdout)


@contextlib.contextmanager
def running(directory, **options):
    """A network that is up; options: as of Network."""
    network = Network(directory, **options)
    try:
        network.up()
        yield network
    finally:
        network.close()


class Capture:
    """The packets of a device, in both directions or those it sends, from their IP header on."""

    def __init__(self, opened, sent_only):
        self.opened, self.sent_only, self.seen = opened, sent_only, []
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        opened.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.opened.close()

    def packets(self):
        """All so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_device, protocol, kind, *_rest) = self.opened.recvfrom(65535)
                if protocol in (ETH_P_IP, ETH_P_IPV6) and (kind == socket.PACKET_OUTGOING or not self.sent_only):
                    self.seen.append(packet)
        return self.seen

    def wait_for(self, match):
        """The first packet that matches; the test fails without one."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for packet in self.packets():
                if match(packet):
                    return packet
            time.sleep(0.005)
        raise AssertionError(f"not among {len(self.seen)} packets: {[packet[:60].hex(' ', 4) for packet in self.seen[-5:]]}")


def exchange(one, other, data):
    """Sends data from each of two connected stream sockets to the other, at once; what each has received."""
    def receive(end):
        received = b""
        while len(received) < len(data) and (piece := end.recv(1 << 16)):
            received += piece
        return received

    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(end.sendall, data) for end in (one, other)]
        received = [pool.submit(receive, end) for end in (one, other)]
        for task in sent:
            task.result()
        return [task.result() for task in received]
