# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mape.bpf.c on real links: the device's tunnel keys, and the fast path beside it.

Three network namespaces: `br` with the tunnel device map0, `access` with the next hop of the CEs, `far` with an IPv4
host. map0 is VXLAN-GPE, which like `ip6tnl external` carries bare IPv4 packets between addresses of a tunnel key and,
unlike it, is in every kernel: a packet that mape_fast_out sends is told from one of map0 by its outer header. What mape_fast_in
does not take goes no further here.
"""

from __future__ import annotations

import os
import struct

import packets
import pytest
from domains import BR, CE, CE_PORT, FAR, NEIGHBOUR, SHARED, TUNNEL
from kernel import Tunnel, command
from packets import tcp, udp
from test_mapt_links import EVERYTHING, NEEDS_CSUM, Link

GPE_PORT = 4790
GPE = bytes.fromhex("0c000001 00000000")  # instance and protocol valid; IPv4
GSO_TCPV4 = 1
NEXT_HOP = "2001:db8:f::2"
MACS = {"up0": "02:00:00:00:00:20", "down0": "02:00:00:00:00:21", "eth0": "02:00:00:00:00:30", "far0": "02:00:00:00:00:31"}


class Network:
    def __init__(self, directory):
        self.relay = Tunnel(directory)
        self.names = {name: f"mape-{name}-{os.getpid()}" for name in ("br", "access", "far")}
        self.links = {}

    def ip(self, namespace, *words):
        command("ip", "-n", self.names[namespace], *words, package="iproute2")

    def tc(self, *words):
        command("tc", "-n", self.names["br"], *words, package="iproute2")

    def attach(self, device, direction, program):
        self.tc("filter", "replace", "dev", device, direction, "pref", "7597", "handle", "1", "bpf", "da",
                "object-pinned", f"{self.relay.directory}/programs/{program}")

    def up(self):
        for name in self.names.values():
            command("ip", "netns", "add", name, package="iproute2")
        for near, far, namespace in (("up0", "down0", "access"), ("eth0", "far0", "far")):
            self.ip("br", "link", "add", near, "address", MACS[near], "type", "veth",
                    "peer", "name", far, "address", MACS[far], "netns", self.names[namespace])
        settings = ["net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.up0.accept_dad=0",
                    "net.ipv6.conf.map0.disable_ipv6=1"]
        self.ip("br", "link", "add", "map0", "type", "vxlan", "external", "gpe", "dstport", str(GPE_PORT))
        command("ip", "netns", "exec", self.names["br"], "sysctl", "-q", "-w", *settings, package="procps")
        self.ip("br", "link", "set", "map0", "mtu", "1430")
        for namespace, interface in (("br", "up0"), ("access", "down0")):
            self.ip(namespace, "link", "set", interface, "mtu", "1560")  # so that what is too big for eth0 arrives
        for device in ("map0", "eth0", "up0"):
            self.tc("qdisc", "add", "dev", device, "clsact")
        self.attach("map0", "ingress", "mape_in")
        self.attach("map0", "egress", "mape_out")
        for namespace, interface in (("br", "lo"), ("br", "up0"), ("br", "eth0"), ("br", "map0"), ("access", "down0"), ("far", "far0")):
            self.ip(namespace, "link", "set", interface, "up")
        self.ip("br", "addr", "add", "2001:db8:f::1/64", "dev", "up0", "nodad")
        self.ip("br", "addr", "add", f"{BR}/128", "dev", "lo")
        self.ip("br", "addr", "add", "203.0.113.254/24", "dev", "eth0")
        self.ip("br", "neigh", "add", NEXT_HOP, "lladdr", MACS["down0"], "dev", "up0")
        self.ip("br", "neigh", "add", FAR, "lladdr", MACS["far0"], "dev", "eth0")
        self.ip("br", "route", "add", "192.0.2.0/24", "dev", "map0")
        self.links = {name: Link(self.names[namespace], name, EVERYTHING) for name, namespace in (("down0", "access"), ("far0", "far"))}

    def down(self):
        for link in self.links.values():
            link.socket.close()
        for name in self.names.values():
            if os.path.exists(f"/run/netns/{name}"):
                command("ip", "netns", "del", name, package="iproute2")

    def route(self, *options):
        self.ip("br", "-6", "route", "replace", "2001:db8:ce::/51", "via", NEXT_HOP, "dev", "up0", *options)

    def send(self, link, packet, to, offloads=(0, 0, 0, 0, 0, 0)):
        """Sends an IPv4 or IPv6 packet in a frame to a MAC of the border relay."""
        ethertype = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
        macs = bytes.fromhex((MACS[to] + MACS[link]).replace(":", ""))
        self.links[link].socket.send(struct.pack("=BBHHHH", *offloads) + macs + ethertype + packet)

    def in_tunnel(self, wanted=lambda _packet: True):
        """The next packet for a CE: (outer IPv6 header, inner packet, whether map0 has sent it), or None."""
        packet = self.links["down0"].receive(lambda each: is_tunnelled(each) and wanted(each), seconds=0.5)
        if packet is None:
            return None
        by_device = packet[6] == packets.UDP
        return packet[:40], packet[56 if by_device else 40 :], by_device


def is_tunnelled(packet):
    return packet[0] >> 4 == 6 and (packet[6] == 4 or packet[6] == packets.UDP and packet[42:44] == struct.pack("!H", GPE_PORT))


def forwarded(packet, hops=1):
    """An IPv4 packet after these hops."""
    header = packet[:8] + bytes([packet[8] - hops]) + packet[9:10] + b"\0\0" + packet[12:20]
    return header[:10] + struct.pack("!H", packets.checksum(header)) + header[12:] + packet[20:]


def outer_header(packet, address, tos=0):
    return packets.ipv6(BR, address, packets.IPIP, packet, traffic_class=tos)[:packets.IPV6_HEADER]


@pytest.fixture(scope="module")
def built(pinned_mape):
    network = Network(pinned_mape)
    try:
        network.up()
        yield network
    finally:
        network.down()


@pytest.fixture
def network(built):
    built.relay.configure(TUNNEL)
    built.route()
    for device in ("eth0", "up0"):
        built.tc("filter", "del", "dev", device, "ingress")
    for link in built.links.values():
        while link.receive(lambda _packet: True, seconds=0):
            pass
    return built


@pytest.fixture
def fast(network):
    """The network with the fast path, after a packet that has shown it the tunnel device."""
    network.send("far0", udp(FAR, SHARED, 53, CE_PORT, b"first"), "eth0")
    assert network.in_tunnel()[2]
    network.attach("eth0", "ingress", "mape_fast_out")
    network.attach("up0", "ingress", "mape_fast_in")
    network.relay.configure(TUNNEL)
    return network


# ---- the tunnel device ----

@pytest.mark.parametrize("tos", [0, 0xB8])
def test_the_device_takes_its_addresses_from_mape_out(network, tos):
    packet = udp(FAR, SHARED, 53, CE_PORT, tos=tos)
    network.send("far0", packet, "eth0")
    outer, inner, by_device = network.in_tunnel()
    assert by_device and inner == forwarded(packet)
    assert (packets.source_of(outer), packets.destination_of(outer), outer[7]) == (BR, CE, 64)
    assert struct.unpack("!I", outer[:4])[0] >> 20 & 0xFF == tos
    assert network.relay.counted() == {"out_passed": 1}


def test_what_the_device_takes_apart_is_checked(network):
    packet = udp(SHARED, FAR, CE_PORT, 53)
    for source in (NEIGHBOUR, CE):
        network.send("down0", packets.udp(source, BR, 4791, GPE_PORT, GPE + packet), "up0")
    network.send("down0", packets.udp(CE, "2001:db8:f::1", 4791, GPE_PORT, GPE + packet), "up0")
    assert network.links["far0"].receive(lambda each: each[20:] == packet[20:]) == forwarded(packet)
    assert network.links["far0"].receive(lambda each: each[20:] == packet[20:], seconds=0.2) is None
    assert network.relay.counted() == {"in_passed": 1, "in_dropped_spoofed": 1, "in_dropped_other_br": 1}


def test_what_belongs_to_no_ce_does_not_leave(network):
    network.send("far0", udp(FAR, SHARED, 53, 0), "eth0")
    assert network.in_tunnel() is None
    assert network.relay.counted() == {"out_dropped_port_zero": 1}


def test_without_its_program_the_device_sends_nothing(network):
    network.tc("filter", "del", "dev", "map0", "egress")
    try:
        network.send("far0", udp(FAR, SHARED, 53, CE_PORT), "eth0")
        assert network.in_tunnel() is None
    finally:
        network.attach("map0", "egress", "mape_out")


# ---- the fast path, to the CEs ----

def far_packet(**fields):
    return udp(FAR, SHARED, 53, CE_PORT, **fields)


def class_of(outer):
    return struct.unpack("!I", outer[:4])[0] >> 20 & 0xFF


@pytest.mark.parametrize("tos", [1, 2, 3, 0xBB])
def test_the_outer_header_has_the_congestion_of_the_inner_one(fast, tos):
    """RFC 6040 section 4.1; the device writes ECT(0) for it, which the role's guard mends (test_relay_treatment.py)."""
    packet = far_packet(tos=tos)
    fast.send("far0", packet, "eth0")
    assert fast.in_tunnel() == (outer_header(packet, CE, tos), forwarded(packet), False)


@pytest.mark.parametrize("dscp, tos, traffic_class", [(0, 0xB9, 0x01), (46, 0, 0xB8), (46, 2, 0xBA), (63, 0x28, 0xFC)])
def test_the_outer_header_gets_the_dscp_that_is_wanted(fast, dscp, tos, traffic_class):
    fast.relay.treat(dscp=dscp)
    packet = far_packet(tos=tos)
    fast.send("far0", packet, "eth0")
    assert fast.in_tunnel() == (outer_header(packet, CE, traffic_class), forwarded(packet), False)
    fast.tc("filter", "del", "dev", "eth0", "ingress")
    fast.send("far0", packet, "eth0")
    outer, inner, by_device = fast.in_tunnel()
    assert by_device and inner == forwarded(packet) and class_of(outer) == traffic_class


@pytest.mark.parametrize("packet", [
    far_packet(), far_packet(data=b""), far_packet(tos=0xB8), far_packet(identification=0xFFFF), far_packet(data=bytes(1402)), tcp(FAR, SHARED, 53, CE_PORT),
    forwarded(far_packet(), 62), packets.echo(FAR, SHARED, CE_PORT, 9),
])
@pytest.mark.parametrize("padding", [b"", bytes(6)], ids=["", "padded"])
def test_whole_packets_are_encapsulated_in_place(fast, packet, padding):
    fast.send("far0", packet + padding, "eth0")
    inner = forwarded(packet)
    assert fast.in_tunnel() == (outer_header(inner, CE, packet[1]), inner, False)
    assert fast.relay.counted() == {"out_passed": 1, "out_fast": 1}


@pytest.mark.parametrize("packet", [
    far_packet(options=bytes([1, 1, 1, 0])),
    packets.error(FAR, SHARED, udp(SHARED, FAR, CE_PORT, 53)),
    far_packet(data=bytes(1403)),  # more than the MTU of map0
])
def test_the_rest_takes_the_way_of_the_stack(fast, packet):
    fast.send("far0", packet, "eth0")
    assert fast.in_tunnel()[2]
    assert fast.relay.counted()["out_passed"] == 1


@pytest.mark.parametrize("packet, counted", [
    (forwarded(far_packet(), 63), {}),  # time exceeded
    (far_packet()[:10] + b"\x12\x34" + far_packet()[12:], {}),  # a wrong header checksum
    (far_packet()[:-1], {}),  # cut off
    (udp("127.0.0.1", SHARED, 53, CE_PORT), {}),
    (udp(FAR, SHARED, 53, 0), {"out_dropped_port_zero": 1}),
    (tcp(FAR, SHARED, 53, CE_PORT, length=37), {"out_dropped_tiny": 1}),
])
def test_what_the_stack_drops_is_not_sent_past_it(fast, packet, counted):
    fast.send("far0", packet, "eth0")
    assert fast.in_tunnel() is None
    assert fast.relay.counted() == counted


def test_a_source_of_our_own_is_left_to_the_stack(fast):
    fast.send("far0", udp("192.0.2.77", SHARED, 53, CE_PORT), "eth0")
    answer = fast.in_tunnel()
    assert answer is None or answer[2]


@pytest.mark.parametrize("what", [("blackhole", "192.0.2.8/32"), ("192.0.2.8/32", "dev", "eth0")])
def test_the_ipv4_routes_stay_in_force(fast, what):
    fast.ip("br", "route", "add", *what)
    try:
        fast.send("far0", far_packet(), "eth0")
        assert fast.in_tunnel() is None
    finally:
        fast.ip("br", "route", "del", *what)


@pytest.mark.parametrize("size, in_place", [(1400 - 40, True), (1400 - 39, False)])
def test_a_small_mtu_inside_the_ipv6_network_is_the_stacks(fast, size, in_place):
    fast.route("mtu", "lock", "1400")
    fast.send("far0", far_packet(data=bytes(size - 28)), "eth0")
    received = fast.in_tunnel(lambda packet: packet[6] == 4)
    assert (received is not None) == in_place


def offloaded(packet, gso_size):
    """A large TCP packet as the stack hands it on: to be cut up, with half a checksum."""
    partial = packets.checksum(packet[12:20] + struct.pack("!HH", packets.TCP, len(packet) - 20)) ^ 0xFFFF
    return packet[:36] + struct.pack("!H", partial) + packet[38:], (NEEDS_CSUM, GSO_TCPV4, 54, gso_size, 34, 16)


@pytest.mark.parametrize("gso_size, in_place", [(1390, True), (1391, False)])
def test_a_large_packet_counts_as_its_segments(fast, gso_size, in_place):
    given, offloads = offloaded(tcp(FAR, SHARED, 53, CE_PORT, bytes(4000)), gso_size)
    fast.send("far0", given, "eth0", offloads)
    if not in_place:
        assert fast.in_tunnel(lambda packet: packet[6] == 4) is None
        return
    frame = fast.links["down0"].socket.recv(65600)  # with the offloads in front
    assert struct.unpack("=BBHH", frame[:6])[3] == gso_size
    assert frame[10 + 14 + 40 :] == forwarded(given)


def test_nothing_is_taken_before_the_tunnel_device_is_known(network):
    network.relay.maps["softwire_device"].update(bytes(4), bytes(4))
    network.attach("eth0", "ingress", "mape_fast_out")
    for by_device in (True, False):
        network.send("far0", far_packet(), "eth0")
        assert network.in_tunnel()[2] is by_device


# ---- the fast path, from the CEs ----

def near_packet(**fields):
    return udp(SHARED, FAR, CE_PORT, 53, **fields)


def tunnelled(packet, source=CE, destination=BR, **fields):
    return packets.ipv6(source, destination, packets.IPIP, packet, **fields)


def at_far_end(network, packet):
    """What leaves by eth0 with the upper layer of a packet, or None."""
    return network.links["far0"].receive(lambda each: each[0] >> 4 == 4 and each[20:len(packet)] == packet[20:], seconds=0.3)


@pytest.mark.parametrize("packet", [
    near_packet(), near_packet(data=b""), near_packet(tos=0xB8), near_packet(identification=0xFFFF), near_packet(data=bytes(1472)),
    tcp(SHARED, FAR, CE_PORT, 53), forwarded(near_packet(), 62), packets.echo(SHARED, FAR, CE_PORT),
])
@pytest.mark.parametrize("padding", [b"", bytes(6)], ids=["", "padded"])
def test_whole_packets_are_decapsulated_in_place(fast, packet, padding):
    fast.send("down0", tunnelled(packet) + padding, "up0")
    assert at_far_end(fast, packet) == forwarded(packet)
    assert fast.relay.counted() == {"in_passed": 1, "in_fast": 1}


@pytest.mark.parametrize("outer, inner, is_taken", [
    (0, 3, True), (2, 2, True), (2, 0, True), (3, 3, True), (1, 1, True), (1, 2, False), (3, 2, False), (3, 0, False)])
def test_congestion_that_would_be_written_is_the_devices(fast, outer, inner, is_taken):
    packet = near_packet(tos=0xB8 | inner)
    fast.send("down0", tunnelled(packet, traffic_class=outer), "up0")
    assert at_far_end(fast, packet) == (forwarded(packet) if is_taken else None)


NOT_TAKEN = {
    "another CE": tunnelled(near_packet(), NEIGHBOUR),
    "another BR address": tunnelled(near_packet(), CE, "2001:db8:f::1"),
    "port 0": tunnelled(udp(SHARED, FAR, 0, 53)),
    "an address outside the rules": tunnelled(udp("198.51.100.1", FAR, CE_PORT, 53)),
    "from CE to CE": tunnelled(udp(SHARED, "192.0.2.77", CE_PORT, 53)),
    "a martian": tunnelled(udp(SHARED, "127.0.0.1", CE_PORT, 53)),
    "the last hop": tunnelled(forwarded(near_packet(), 63)),
    "options": tunnelled(near_packet(options=bytes([1, 1, 1, 0]))),
    "a fragment": tunnelled(packets.fragments(near_packet(data=bytes(64)), [16])[0]),
    "an error": tunnelled(packets.error(SHARED, FAR, udp(FAR, SHARED, 53, CE_PORT))),
    "a wrong header checksum": tunnelled(near_packet()[:10] + b"\x12\x34" + near_packet()[12:]),
    "cut off": tunnelled(near_packet())[:-1],
    "two lengths": tunnelled(near_packet() + b"x"),
    "too big": tunnelled(near_packet(data=bytes(1473))),
    "to the relay itself": tunnelled(udp(SHARED, "203.0.113.254", CE_PORT, 53)),
}


@pytest.mark.parametrize("packet", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_the_rest_is_left_to_the_tunnel_device(fast, packet):
    fast.send("down0", packet, "up0")
    assert fast.links["far0"].receive(lambda each: each[0] >> 4 == 4, seconds=0.2) is None
    assert fast.relay.counted() == {}


UNROUTED = {
    "a blackhole": ("route", "add", "blackhole", f"{FAR}/32"),
    "no neighbour": ("neigh", "del", FAR, "dev", "eth0"),
}


@pytest.mark.parametrize("words", UNROUTED.values(), ids=UNROUTED)
def test_where_the_stack_would_not_send_nothing_is_taken(fast, words):
    fast.ip("br", *words)
    try:
        fast.send("down0", tunnelled(near_packet()), "up0")
        assert fast.relay.counted() == {}
    finally:
        fast.ip("br", "route", "flush", "type", "blackhole")
        fast.ip("br", "neigh", "replace", FAR, "lladdr", MACS["far0"], "dev", "eth0")


@pytest.mark.parametrize("interface, link, packet", [("map0", "down0", tunnelled(near_packet())), ("eth0", "far0", far_packet())])
def test_without_forwarding_nothing_is_taken(fast, interface, link, packet):
    def forwarding(value):
        command("ip", "netns", "exec", fast.names["br"], "sysctl", "-q", "-w", f"net.ipv4.conf.{interface}.forwarding={value}", package="procps")

    forwarding(0)
    try:
        fast.send(link, packet, "up0" if link == "down0" else "eth0")
        assert fast.relay.counted() == {}
    finally:
        forwarding(1)


def test_a_neighbour_that_is_not_known_is_asked_for_by_the_stack(fast):
    fast.ip("br", "neigh", "del", NEXT_HOP, "dev", "up0")
    try:
        fast.send("far0", far_packet(), "eth0")
        assert fast.relay.counted() == {"out_passed": 1}
    finally:
        fast.ip("br", "neigh", "replace", NEXT_HOP, "lladdr", MACS["down0"], "dev", "up0")


def test_a_frame_for_somebody_else_is_not_taken(fast):
    macs = bytes.fromhex("0200000000ff" + MACS["down0"].replace(":", ""))
    fast.links["down0"].socket.send(bytes(10) + macs + b"\x86\xdd" + tunnelled(near_packet()))
    assert fast.relay.counted() == {}


def test_half_a_checksum_stays_half(fast):
    """As a packet comes from a container beside the relay."""
    given, offloads = offloaded(tcp(SHARED, FAR, CE_PORT, 53, bytes(40)), 0)
    fast.send("down0", tunnelled(given), "up0", (NEEDS_CSUM, 0, 0, 0, 14 + 40 + 20, 16))
    frame = fast.links["far0"].socket.recv(65600)
    assert frame[10 + 14:] == forwarded(given) and struct.unpack("=BBHHHH", frame[:10])[4:] == (offloads[4], 16)
