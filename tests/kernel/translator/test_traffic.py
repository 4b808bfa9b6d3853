# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people do passes the translators unharmed, in both layouts: TCP, UDP, ping, services behind forwards, the router's own connections."""

from __future__ import annotations

import os
import socket

import packets
import pytest
from network import (
    EDGES, HOST, IP_RECVTOS, SERVER, SERVICE, SO_NO_CHECK, SOL_UDP, UDP_SEGMENT, WITHOUT_DF, exchange)

MEGABYTE = 1 << 20
WITHOUT_CHECKSUM = (socket.SOL_SOCKET, SO_NO_CHECK, 1)
EACH_EDGE = pytest.mark.parametrize("number", ["1", "2", "3"])


@EACH_EDGE
def test_a_megabyte_of_tcp_goes_both_ways(network, number):
    """Segments of GSO, whose checksums nobody has computed yet."""
    data = os.urandom(MEGABYTE)
    with network.tcp("c" + number) as (client, server):
        address, port = server.getpeername()
        assert address == EDGES[number].address and port in EDGES[number].ports
        assert exchange(client, server, data) == [data, data]


@pytest.fixture
def plain_lan(network, request):
    """The LAN of a customer edge without offloads: segments and checksums as on a wire."""
    ends = (("c" + request.param, "lan"), (network.napt(request.param), "lan"))
    for state in ("off", "on"):
        for place, device in ends:
            network.run(place, "ethtool", "-K", device, *(word for name in ("tx", "rx", "tso", "gso", "gro") for word in (name, state)))
        if state == "off":
            yield request.param


@pytest.mark.parametrize("plain_lan", ["1", "2"], indirect=True)
def test_a_megabyte_of_tcp_goes_both_ways_without_offloads(network, plain_lan):
    data = os.urandom(MEGABYTE)
    with network.tcp("c" + plain_lan) as (client, server):
        assert exchange(client, server, data) == [data, data]


@EACH_EDGE
@pytest.mark.parametrize("size", [0, 1, 56, 1472, 3000, 8000])
def test_datagrams_go_both_ways(network, number, size):
    """The long ones in fragments."""
    data = os.urandom(size)
    with network.udp("c" + number, options=[WITHOUT_DF]) as (client, server):
        address, port = server.getpeername()
        assert address == EDGES[number].address and port in EDGES[number].ports
        client.send(data)
        assert server.recv(65535) == data
        server.send(data)
        assert client.recv(65535) == data


@pytest.mark.parametrize("place", ["c1", "c2", "c3", "ce1", "ce1/napt", "ce2"])
@pytest.mark.parametrize("size", [56, 1400, 3000])
def test_ping(network, place, size):
    with network.socket(place, socket.SOCK_RAW, socket.IPPROTO_ICMP, peer=(SERVER, 0)) as client:
        payload = os.urandom(size)
        client.send(packets.echo(HOST, SERVER, 777, data=payload)[packets.IPV4_HEADER:])
        reply = client.recv(65535)
        assert reply[packets.IPV4_HEADER:][:1] == bytes([packets.ICMP_ECHO_REPLY]) and reply.endswith(payload)
        assert len(reply) == packets.IPV4_HEADER + 8 + size


@EACH_EDGE
def test_datagrams_without_a_checksum_get_one(network, number):
    """IPv6 does not do without (RFC 7915 section 4.5)."""
    edge = EDGES[number]
    with network.udp("c" + number, options=[WITHOUT_CHECKSUM]) as (client, server), network.capture("ce" + number, "isp") as wire:
        client.send(b"from the client")
        assert server.recv(65535) == b"from the client"
        server.send(b"from the server")
        assert client.recv(65535) == b"from the server"
        for text, source in ((b"from the client", edge.map_address), (b"from the server", None)):
            packet = wire.wait_for(lambda packet, text=text: packet.endswith(text))
            assert packet[packets.IPV6_HEADER + 6:][:2] != b"\0\0" and packets.has_valid_checksum(packet)
            assert source is None or packets.source_of(packet) == source


def test_fragments_without_a_checksum_are_dropped_and_counted(network):
    """Nobody has all of their bytes at once (RFC 7915 section 4.5)."""
    with network.udp("c1", options=[WITHOUT_CHECKSUM, WITHOUT_DF]) as (client, server), network.counted("ce1") as edge, network.counted("br") as relay:
        for sender, receiver in ((client, server), (server, client)):
            sender.send(bytes(3000))
            sender.send(b"behind them")
            assert receiver.recv(65535) == b"behind them"
    assert edge["out_dropped_untranslatable"] == relay["out_dropped_untranslatable"] == 1


@EACH_EDGE
def test_the_traffic_class_arrives(network, number):
    """DSCP 46 and ECN 1, as a whole byte."""
    marked = [(socket.IPPROTO_IP, socket.IP_TOS, 0xB9), (socket.IPPROTO_IP, IP_RECVTOS, 1)]
    with network.udp("c" + number, options=marked) as ends:
        for sender, receiver in (ends, reversed(ends)):
            sender.send(b"marked")
            data, [(_level, _kind, tos)], _flags, _peer = receiver.recvmsg(100, 100)
            assert (data, tos) == (b"marked", b"\xb9")


@EACH_EDGE
def test_a_forward_from_outside(network, number):
    edge, data = EDGES[number], os.urandom(MEGABYTE)
    with network.tcp("s", "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as (caller, host):
        assert host.getpeername()[0] == SERVER
        assert exchange(caller, host, data) == [data, data]
    with network.socket("c" + number, bind=(HOST, SERVICE), options=[WITHOUT_DF]) as host, \
            network.socket("s", peer=(edge.address, edge.ports[0]), options=[WITHOUT_DF]) as caller:
        for size in (56, 1472, 3000):
            caller.send(data[:size])
            received, peer = host.recvfrom(65535)
            assert (received, peer[0]) == (data[:size], SERVER)
            host.sendto(received, peer)
            assert caller.recv(65535) == data[:size]


@EACH_EDGE
def test_a_reserved_port_leads_to_the_router_and_from_it(network, number):
    edge = EDGES[number]
    with network.tcp("s", network.napt(number), edge.address, edge.ports[1], "0.0.0.0", edge.ports[1]) as ends:
        assert exchange(*ends, b"service" * 1000) == [b"service" * 1000] * 2
    with network.socket(network.napt(number), bind=("0.0.0.0", edge.ports[1])) as service, \
            network.socket("s", peer=(edge.address, edge.ports[1])) as caller:
        caller.send(b"question")
        question, peer = service.recvfrom(100)
        service.sendto(b"answer", peer)
        assert (question, caller.recv(100)) == (b"question", b"answer")
        with network.socket("s", bind=(SERVER, 0)) as called:
            service.sendto(b"I call", called.getsockname())
            assert called.recvfrom(100) == (b"I call", (edge.address, edge.ports[1]))


@pytest.mark.parametrize("place", ["ce1", "ce1/napt", "ce2", "ce3"])
def test_the_routers_own_connections(network, place):
    edge, data = EDGES[place[2]], os.urandom(MEGABYTE)
    with network.tcp(place) as (router, server):
        address, port = server.getpeername()
        assert address == edge.address and port in edge.ports
        assert exchange(router, server, data) == [data, data]
    with network.udp(place, options=[WITHOUT_DF]) as (router, server):
        router.send(data[:3000])
        assert server.recv(65535) == data[:3000]
        server.send(data[:3000])
        assert router.recv(65535) == data[:3000]


@pytest.mark.parametrize("place", ["c1", "c2"])
def test_native_ipv6_of_the_lan_is_kept(network, place):
    address = EDGES[place[1]].prefix + "4"
    with network.socket(place, socket.SOCK_RAW, socket.IPPROTO_ICMPV6, family=socket.AF_INET6) as client:
        client.sendto(packets.echo(address, "2001:db8:6::1", 777)[packets.IPV6_HEADER:], ("2001:db8:6::1", 0))
        reply, peer = client.recvfrom(1000)
        while reply[0] != packets.ICMPV6_ECHO_REPLY:
            reply, peer = client.recvfrom(1000)
        assert peer[0] == "2001:db8:6::1"


@pytest.mark.parametrize("place, size", [
    ("c1", 1000), ("c1", 1472), ("ce1", 1000), ("ce1", 1472), ("ce1/napt", 1000), ("c2", 1000), ("c2", 1472), ("ce2", 1000)])
def test_gso_of_udp(network, place, size):
    """One long packet stands for several datagrams, whose fragments the longer ones become."""
    data = os.urandom(3 * size)
    with network.udp(place, options=[WITHOUT_DF, (SOL_UDP, UDP_SEGMENT, size)]) as (client, server):
        client.send(data)
        assert [server.recv(65535) for _time in range(3)] == [data[:size], data[size:-size], data[-size:]]
