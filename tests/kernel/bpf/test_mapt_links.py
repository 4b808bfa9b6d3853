# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs on real links: who sends the packet on, with which hop limit, and what a small MTU does.

Two network namespaces: `br` with the loop out0 - in0 and the IPv6 interface up0, `access` with the next hop.
There is no translator: the tests write its packets to out0.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time

import packets
import pytest
from domains import CE, CE_PORT, INTERNAL_CE, OTHER, SERVER, TUTORIAL, domain, internal, rule
from kernel import command, libc
from packets import tcp, udp

SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, GSO_TCPV6 = 1, 4
IPV6, EVERYTHING = 0x86DD, 0x0003
NEXT_HOP = "2001:db8:f::2"
BR = "2001:db8:f::1"
MACS = {"out0": "02:00:00:00:00:10", "in0": "02:00:00:00:00:11", "up0": "02:00:00:00:00:20", "down0": "02:00:00:00:00:21"}
UNROUTED = domain(*TUTORIAL["rules"], rule("2001:db8:dead::/48", "198.51.100.0/24", 8, 6))


class Link:
    """Frames on an interface of a namespace, each with a virtio header, which tells of offloads.

    protocol: IPV6 receives what the tc programs let through, EVERYTHING what is on the link.
    """

    def __init__(self, namespace, interface, protocol):
        thread = threading.Thread(target=self._open, args=(namespace, interface, protocol))
        thread.start()
        thread.join()
        self.interface = interface

    def _open(self, namespace, interface, protocol):
        with open(f"/run/netns/{namespace}", encoding="ascii") as handle:
            assert libc.setns(handle.fileno(), 0) == 0, os.strerror(os.errno)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((interface, protocol))

    def send(self, packet, to, offloads=(0, 0, 0, 0, 0, 0)):
        macs = bytes.fromhex((MACS[to] + MACS[self.interface]).replace(":", ""))
        self.socket.send(struct.pack("=BBHHHH", *offloads) + macs + b"\x86\xdd" + packet)

    def receive(self, wanted, seconds=2.0):
        """The first packet that `wanted` accepts, or None."""
        end = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(0, end - time.monotonic()))[0]:
            packet = self.socket.recv(65600)[10 + 14 :]
            if wanted(packet):
                return packet
        return None


class Network:
    def __init__(self, relay):
        self.relay = relay
        self.names = {name: f"mapt-{name}-{os.getpid()}" for name in ("br", "access")}
        self.links = {}

    def ip(self, namespace, *words):
        command("ip", "-n", self.names[namespace], *words, package="iproute2")

    def tc(self, *words):
        command("tc", "-n", self.names["br"], *words, package="iproute2")

    def up(self):
        for name in self.names.values():
            command("ip", "netns", "add", name, package="iproute2")
        self.ip("br", "link", "add", "out0", "address", MACS["out0"], "type", "veth", "peer", "name", "in0", "address", MACS["in0"])
        self.ip("br", "link", "add", "up0", "address", MACS["up0"], "type", "veth",
                "peer", "name", "down0", "address", MACS["down0"], "netns", self.names["access"])
        # no waiting for duplicate addresses; what the kernel does before it has one is not the matter here
        settings = ["net.ipv6.conf.all.forwarding=1", *(f"net.ipv6.conf.{name}.accept_dad=0" for name in ("up0", "out0", "in0"))]
        command("ip", "netns", "exec", self.names["br"], "sysctl", "-q", "-w", *settings, package="procps")
        for namespace, interface in (("br", "lo"), ("br", "out0"), ("br", "in0"), ("br", "up0"), ("access", "lo"), ("access", "down0")):
            self.ip(namespace, "link", "set", interface, "up")
        self.ip("br", "addr", "add", f"{BR}/64", "dev", "up0", "nodad")
        self.ip("access", "addr", "add", f"{NEXT_HOP}/64", "dev", "down0", "nodad")
        # what the stack answers goes back to the translator, and through its check
        self.ip("br", "-6", "neigh", "add", "fe80::98", "lladdr", MACS["out0"], "dev", "in0")
        self.ip("br", "-6", "route", "add", TUTORIAL["dmr"], "via", "fe80::98", "dev", "in0")
        # the translator takes what comes back; here it ends
        self.ip("br", "-6", "rule", "add", "iif", "out0", "to", TUTORIAL["dmr"], "blackhole")
        for interface, program in (("up0", "mapt_in"), ("in0", "mapt_out"), ("out0", "mapt_in")):
            self.tc("qdisc", "add", "dev", interface, "clsact")
            self.tc("filter", "add", "dev", interface, "ingress", "pref", "7599", "bpf", "da",
                    "object-pinned", f"{self.relay.directory}/programs/{program}")
        self.links = {
            "out0": Link(self.names["br"], "out0", IPV6),
            "out0 wire": Link(self.names["br"], "out0", EVERYTHING),
            "down0": Link(self.names["access"], "down0", IPV6),
        }

    def down(self):
        for link in self.links.values():
            link.socket.close()
        for name in self.names.values():
            if os.path.exists(f"/run/netns/{name}"):
                command("ip", "netns", "del", name, package="iproute2")

    def route(self, *options):
        self.ip("br", "-6", "route", "replace", "2001:db8:ce::/51", "via", NEXT_HOP, "dev", "up0", *options)


@pytest.fixture(scope="module")
def built(loaded):
    network = Network(loaded)
    try:
        network.up()
        yield network
    finally:
        network.down()


@pytest.fixture
def network(built):
    built.relay.configure(UNROUTED)
    built.route()
    built.ip("br", "link", "set", "up0", "mtu", "1500")
    return built


def is_udp_to(address):
    return lambda packet: packet[6] == packets.UDP and packets.destination_of(packet) == address


def is_too_big(packet):
    return packet[6] == packets.ICMPV6 and packet[40] == packets.ICMPV6_TOO_BIG


def test_a_packet_is_sent_on_without_a_second_hop(network):
    for data in (b"before the next hop's address is known", b"after"):
        network.links["out0"].send(udp(SERVER, INTERNAL_CE, 53, CE_PORT, data), "in0")
        assert network.links["down0"].receive(is_udp_to(CE)) == udp(SERVER, CE, 53, CE_PORT, data)
    assert network.relay.counted() == {"out_passed": 2}


def test_without_a_route_the_stack_decides(network):
    network.links["out0"].send(udp(SERVER, internal("198.51.100.1"), 53, 7), "in0")
    unreachable = network.links["out0"].receive(lambda packet: packet[6] == packets.ICMPV6 and packet[40] == packets.ICMPV6_UNREACHABLE)
    assert packets.source_of(unreachable) == BR
    assert network.relay.counted()["out_passed_to_stack"] == 1


@pytest.mark.parametrize("device_mtu, route_mtu", [("1400", None), ("1500", "1400")])
def test_too_big_is_said_in_the_words_of_the_translator(network, device_mtu, route_mtu):
    network.ip("br", "link", "set", "up0", "mtu", device_mtu)
    network.route(*(["mtu", "lock", route_mtu] if route_mtu else []))
    network.links["out0"].send(udp(SERVER, INTERNAL_CE, 53, CE_PORT, bytes(1400 - 48)), "in0")
    network.links["down0"].receive(is_udp_to(CE))
    assert network.relay.counted() == {"out_passed": 1}
    network.links["out0"].send(udp(SERVER, INTERNAL_CE, 53, CE_PORT, bytes(1401 - 48)), "in0")
    answer = network.links["out0"].receive(is_too_big)
    assert (packets.source_of(answer), packets.destination_of(answer)) == (BR, SERVER)
    assert struct.unpack_from("!I", answer, 44) == (1400,)
    # mapt_in has been there: the translator sees a quoted packet to its own address
    assert packets.destination_of(answer[48:]) == INTERNAL_CE
    assert packets.has_valid_checksum(answer)
    assert network.relay.counted() == {"out_passed": 2, "out_passed_to_stack": 1, "in_passed_router_error": 1}


def offloaded(packet, gso_size):
    """A large TCP packet as network cards and the stack hand it on: to be cut up, with half a checksum."""
    partial = packets.checksum(packet[8:40] + struct.pack("!II", len(packet) - 40, packets.TCP)) ^ 0xFFFF
    return packet[:56] + struct.pack("!H", partial) + packet[58:], (NEEDS_CSUM, GSO_TCPV6, 74, gso_size, 54, 16)


@pytest.mark.parametrize("gso_size, counted", [
    (1440, {"out_passed": 1}), (1441, {"out_passed": 1, "out_passed_to_stack": 1}),
])
def test_a_large_packet_counts_as_its_segments(network, gso_size, counted):
    given, offloads = offloaded(tcp(SERVER, INTERNAL_CE, 53, CE_PORT, bytes(4000)), gso_size)
    network.links["out0"].send(given, "in0", offloads)
    received = network.links["down0"].receive(lambda packet: packet[6] == packets.TCP, seconds=0.5)
    if "out_passed_to_stack" in counted:
        assert received is None
        assert network.links["out0"].receive(is_too_big)
        counted = counted | {"in_passed_router_error": 1}
    else:
        assert received == offloaded(tcp(SERVER, CE, 53, CE_PORT, bytes(4000)), gso_size)[0]
    assert network.relay.counted() == counted


def test_what_a_ce_sends_gets_its_internal_address_on_the_way_in(network):
    network.links["down0"].send(udp(OTHER, SERVER, CE_PORT, 53), "up0")
    network.links["down0"].send(udp(CE, SERVER, CE_PORT, 53), "up0")
    # forwarded to in0 for want of a translator, so one hop less
    received = network.links["out0 wire"].receive(lambda packet: packet[6] == packets.UDP and packets.destination_of(packet) == SERVER)
    expected = udp(INTERNAL_CE, SERVER, CE_PORT, 53)
    assert received == expected[:7] + b"\x3f" + expected[8:]
    # and there mapt_in drops what has an internal source
    assert network.relay.counted() == {"in_dropped_spoofed": 1, "in_passed": 1, "in_dropped_internal": 1}


def test_what_a_ce_sends_may_have_half_a_checksum(network):
    given, offloads = offloaded(tcp(CE, SERVER, CE_PORT, 53, bytes(4000)), 1440)
    network.links["down0"].send(given, "up0", offloads)
    expected = offloaded(tcp(INTERNAL_CE, SERVER, CE_PORT, 53, bytes(4000)), 1440)[0]
    received = network.links["out0 wire"].receive(lambda packet: packet[6] == packets.TCP and packets.destination_of(packet) == SERVER)
    assert received == expected[:7] + b"\x3f" + expected[8:]
