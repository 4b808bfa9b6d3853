# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of ICMP find the one who sent the packet, whichever router or host has them to say, and quote that packet."""

from __future__ import annotations

import socket
import struct

import packets
import pytest
from network import BR_IPV4, EDGES, HOST, ROUTER, SERVER, SERVER_IN_DMR, SERVICE, WITHOUT_DF

CLOSED = 33434
NO_IPV4 = "192.0.0.8"  # of a router that has no IPv4 address (RFC 7600)
EACH_EDGE = pytest.mark.parametrize("number", ["1", "2", "3"])
TIME_EXCEEDED, PORT_UNREACHABLE = (packets.ICMP_TIME_EXCEEDED, 0), (packets.ICMP_UNREACHABLE, 3)


def route(network, place, source, to, port, size):
    """[(who answers, (type, code))] for datagrams with a TTL of 1, 2 ... until a host answers; each answer quotes the beginning of its datagram."""
    found = []
    with network.socket(place, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ears, \
            network.socket(place, bind=(source, 0), options=[WITHOUT_DF]) as sender:
        for ttl in range(1, 9):
            text = (b"with a TTL of %d" % ttl).ljust(size)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sender.sendto(text, (to, port))
            answer, (router, _port) = ears.recvfrom(2000)
            quoted = answer[packets.IPV4_HEADER + 8:]
            assert packets.has_valid_checksum(answer) and packets.checksum(quoted[:packets.IPV4_HEADER]) == 0
            assert text.startswith(quoted[packets.IPV4_HEADER + 8:]) and len(answer) >= min(size, 500)
            assert (packets.source_of(quoted), packets.destination_of(quoted)) == (source, to)
            assert struct.unpack("!HH", quoted[packets.IPV4_HEADER:][:4]) == (sender.getsockname()[1], port)
            found.append((router, tuple(answer[packets.IPV4_HEADER:][:2])))
            if found[-1][1] == PORT_UNREACHABLE:
                return found
    raise AssertionError(f"no host after {found}")


@EACH_EDGE
@pytest.mark.parametrize("size", [56, 3000])
def test_each_router_takes_one_from_the_ttl_and_answers_when_it_ends(network, number, size):
    """Three routers with a NAPT namespace: it, the main namespace and the border relay; else two."""
    edge = EDGES[number]
    without_ipv4 = [(NO_IPV4, TIME_EXCEEDED)] * (2 if edge.napt_namespace else 1)
    assert route(network, "c" + number, HOST, SERVER, CLOSED, size) == [(ROUTER, TIME_EXCEEDED), *without_ipv4, (SERVER, PORT_UNREACHABLE)]
    assert route(network, "s", SERVER, edge.address, edge.ports[0], size) == [
        (BR_IPV4, TIME_EXCEEDED), *without_ipv4, (edge.address, PORT_UNREACHABLE)]


@EACH_EDGE
def test_a_closed_port_refuses_in_both_directions(network, number):
    edge = EDGES[number]
    for place, peer in (("c" + number, (SERVER, CLOSED)), ("s", (edge.address, edge.ports[0]))):
        with network.socket(place, peer=peer) as caller:
            caller.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                caller.recv(1)


@pytest.mark.parametrize("place", ["ce1", "ce1/napt", "ce2"])
def test_a_closed_port_refuses_the_router_itself(network, place):
    with network.socket(place, peer=(SERVER, CLOSED)) as caller:
        caller.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            caller.recv(1)


@EACH_EDGE
@pytest.mark.parametrize("error, arrives", [
    ((packets.ICMPV6_UNREACHABLE, 0), (packets.ICMP_UNREACHABLE, 1)),
    ((packets.ICMPV6_UNREACHABLE, 1), (packets.ICMP_UNREACHABLE, 10)),
    ((packets.ICMPV6_TIME_EXCEEDED, 0), (packets.ICMP_TIME_EXCEEDED, 0)),
])
def test_an_error_of_a_router_without_ipv4(network, number, error, arrives):
    """On the way to the border relay; RFC 6791, RFC 7915 section 5.2."""
    edge = EDGES[number]
    with network.udp("c" + number) as (client, _server), network.capture("br", "isp") as wire, \
            network.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ears:
        client.send(b"to be quoted")
        quoted = wire.wait_for(lambda packet: packet.endswith(b"to be quoted"))
        network.inject("br", "isp", packets.error("2001:db8:99::1", edge.map_address, quoted, error[0], code=error[1]), ("ce" + number, "isp"))
        answer, (router, _port) = ears.recvfrom(1000)
        assert (router, tuple(answer[packets.IPV4_HEADER:][:2])) == (NO_IPV4, arrives)
        assert packets.has_valid_checksum(answer) and answer.endswith(b"to be quoted")


@EACH_EDGE
def test_an_error_of_a_router_of_the_internet(network, number):
    """As the border relay has translated it: from the DMR."""
    edge, router = EDGES[number], "198.51.100.99"
    with network.udp("c" + number) as (client, _server), network.capture("br", "isp") as wire, \
            network.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ears:
        client.send(b"to be quoted")
        quoted = wire.wait_for(lambda packet: packet.endswith(b"to be quoted"))
        assert packets.destination_of(quoted) == SERVER_IN_DMR
        network.inject("br", "isp", packets.error("64:ff9b::" + router, edge.map_address, quoted), ("ce" + number, "isp"))
        assert ears.recvfrom(1000)[1][0] == router


@pytest.mark.parametrize("number", ["1", "2"])
def test_an_error_of_the_lan_about_tcp_arrives(network, number):
    """A host that goes away in the middle of a connection."""
    edge = EDGES[number]
    with network.tcp("s", "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as (caller, _host), \
            network.socket("s", socket.SOCK_RAW, socket.IPPROTO_ICMP) as ears, network.capture("c" + number, "lan") as lan:
        caller.send(b"to be quoted")
        segment = lan.wait_for(lambda packet: packet.endswith(b"to be quoted"))
        with network.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMP) as host:
            host.sendto(packets.error(HOST, SERVER, segment, code=1)[packets.IPV4_HEADER:], (SERVER, 0))
        answer, (sender, _port) = ears.recvfrom(1000)
        quoted = answer[packets.IPV4_HEADER + 8:]
        assert (sender, tuple(answer[packets.IPV4_HEADER:][:2])) == (edge.address, (packets.ICMP_UNREACHABLE, 1))
        assert struct.unpack("!HH", quoted[packets.IPV4_HEADER:][:4]) == (caller.getsockname()[1], edge.ports[0])
        assert packets.has_valid_checksum(answer)
