# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where somebody takes away the rules or the programs of a router, nothing leaves that is not its own."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
import time

import packets
import pytest
from network import BR_IPV4, BR_IPV6, EDGES, HOST, PATIENCE, SERVER, SERVER_IN_DMR, running

DMR = ipaddress.ip_network("64:ff9b::/96")
HOSTS = 20  # sockets of each kind


@pytest.fixture(scope="module")
def breakable(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), edges="12") as network:
        yield network


class Traffic(threading.Thread):
    """Datagrams, echos and segments of a client, without end, from ports that the customer edge may use, too."""

    def __init__(self, network, number):
        super().__init__(daemon=True)
        self.rounds, self.stopping = 0, False
        self.opened = contextlib.ExitStack()
        self.server = self.opened.enter_context(network.socket("s", bind=(SERVER, 0)))
        self.ports = EDGES[number].ports[100:100 + HOSTS]
        self.datagrams = [
            self.opened.enter_context(network.socket("c" + number, bind=(HOST, port), peer=self.server.getsockname())) for port in self.ports]
        self.echos = self.opened.enter_context(network.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self.segments, _server = self.opened.enter_context(network.tcp("c" + number))
        self.segments.setblocking(False)

    def run(self):
        while not self.stopping:
            with contextlib.suppress(OSError):
                self.segments.send(bytes(1000))
            for client, port in zip(self.datagrams, self.ports):
                with contextlib.suppress(OSError):
                    client.send(b"datagram")
                with contextlib.suppress(OSError):
                    self.echos.sendto(packets.echo(HOST, SERVER, port)[packets.IPV4_HEADER:], (SERVER, 0))
            self.rounds += 1

    def go_on(self, rounds):
        """Waits for so many rounds more."""
        wanted, end = self.rounds + rounds, time.monotonic() + PATIENCE
        while self.rounds < wanted:
            assert time.monotonic() < end, "the traffic has stopped"
            time.sleep(0.005)


@pytest.fixture
def traffic(breakable, request):
    made = Traffic(breakable, request.param)
    made.start()
    yield made
    made.stopping = True
    made.join()
    made.opened.close()
    breakable.deploy(request.param)


def is_to_the_dmr(packet):
    return packet[0] >> 4 == 6 and ipaddress.ip_address(packets.destination_of(packet)) in DMR


def is_foreign(packet, edge):
    """Whether a packet on the WAN should not have left the customer edge."""
    if not is_to_the_dmr(packet):
        return packet[0] >> 4 == 4 or packets.source_of(packet) == edge.map_address
    upper = packet[packets.IPV6_HEADER:]
    port, = struct.unpack("!H", upper[4:6] if packet[6] == packets.ICMPV6 else upper[:2])
    return packets.source_of(packet) != edge.map_address or port not in edge.ports


@pytest.mark.parametrize("traffic, place", [("1", "ce1/napt"), ("1", "ce1"), ("2", "ce2")], indirect=["traffic"])
def test_without_rules_a_customer_edge_sends_nothing_foreign(breakable, traffic, place):
    number = place[2]
    with breakable.capture("ce" + number, "isp", sent_only=True) as wan:
        traffic.go_on(10)
        breakable.run(place, "nft", "flush", "ruleset")
        traffic.go_on(5)  # whatever was on its way
        before = len(wan.packets())
        traffic.go_on(50)
        sent = wan.packets()
    assert [packet.hex(" ", 4) for packet in sent if is_foreign(packet, EDGES[number])] == []
    assert len([packet for packet in sent[:before] if is_to_the_dmr(packet)]) > 10 * HOSTS
    # What has not been through the NAPT does not leave, even from a port that is right; with the NAPT's rules all goes on.
    after = len([packet for packet in sent[before:] if is_to_the_dmr(packet)])
    assert after > 50 * HOSTS if place == "ce1" else after == 0


@pytest.mark.parametrize("traffic", ["1", "2"], indirect=True)
def test_without_programs_a_customer_edge_sends_nothing(breakable, traffic, request):
    number = request.node.callspec.params["traffic"]
    breakable.run(breakable.napt(number), "tc", "qdisc", "del", "dev", "ce-map", "clsact")
    with breakable.capture("ce" + number, "isp", sent_only=True) as wan:
        traffic.go_on(50)
        assert [packet.hex(" ", 4) for packet in wan.packets() if packet[0] >> 4 == 4 or is_to_the_dmr(packet)] == []


def test_without_programs_a_border_relay_sends_nothing(breakable):
    """Neither to the internet nor to the customer edges."""
    edge, relay = EDGES["1"], breakable.generations["br"]
    to_edge = packets.udp(SERVER, edge.address, 9, edge.ports[0], b"lost")
    to_server = packets.udp(edge.map_address, SERVER_IN_DMR, edge.ports[0], 9, b"lost")
    breakable.run("br", "tc", "qdisc", "del", "dev", "br-map", "clsact")
    try:
        with breakable.capture("br", "isp", sent_only=True) as inside, breakable.capture("br", "inet", sent_only=True) as outside:
            for _time in range(10):
                breakable.inject("s", "inet", to_edge, ("br", "inet"))
                breakable.inject("ce1", "isp", to_server, ("br", "isp"))
            # Behind them, by the same devices, what needs no translation.
            breakable.inject("s", "inet", packets.echo(SERVER, BR_IPV4, 777, data=b"alive"), ("br", "inet"))
            breakable.inject("ce1", "isp", packets.echo(edge.wan, BR_IPV6, 777, data=b"alive"), ("br", "isp"))
            for wire in (inside, outside):
                wire.wait_for(lambda packet: packet.endswith(b"alive"))
                assert [packet.hex(" ", 4) for packet in wire.packets() if packet.endswith(b"lost")] == []
    finally:
        breakable.machines["br"].softwire(relay, "up")
