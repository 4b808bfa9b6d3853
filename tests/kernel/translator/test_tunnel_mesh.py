# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A MAP-E network whose customer edges mesh: what people do passes, past the border relay where it can, and forged packets arrive nowhere."""

from __future__ import annotations

import os
import socket

import packets
import pytest
from network import BR_ADDRESS, EDGES, GPE_HEADERS, GPE_PORT, HOST, SERVER, SERVICE, WITH_DF, WITHOUT_DF, exchange, running, tunnelled
from test_forgeries import ELSEWHERE, GRE, check, other, send_to_edge, udp, watched
from test_path_mtu import forget, path_mtu

IPV4_MTU = 1460
GPE_IPV6 = bytes.fromhex("0c000002 00000000")
EACH_EDGE = pytest.mark.parametrize("number", ["1", "2", "3"])
FOREIGN = [{"ipv6_prefix": f"2001:db8:1{number:03x}::/48", "ipv4_prefix": f"10.{number}.0.0/16", "ea_length": 16, "psid_offset": 6, "fmr": True}
           for number in range(254)]


@pytest.fixture(scope="module")
def tunnel_network(tmp_path_factory):
    """256 rules: as many as an answer of HB46PP may have."""
    with running(tmp_path_factory.mktemp("network"), mesh=True, transport="map-e", more_rules=FOREIGN) as network:
        yield network


@EACH_EDGE
def test_tcp_to_a_server_and_from_it(tunnel_network, number):
    edge, data = EDGES[number], os.urandom(1 << 20)
    with tunnel_network.tcp("c" + number) as (client, server):
        assert server.getpeername()[0] == edge.address and server.getpeername()[1] in edge.ports
        assert exchange(client, server, data) == [data, data]
    with tunnel_network.tcp("s", "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as (client, host):
        assert exchange(client, host, data) == [data, data]


@EACH_EDGE
@pytest.mark.parametrize("size", [0, 1432, 1472, 3000, 8000])
def test_datagrams_and_their_fragments(tunnel_network, number, size):
    data = os.urandom(size)
    with tunnel_network.udp("c" + number, options=[WITHOUT_DF]) as (client, server):
        client.send(data)
        assert server.recv(65535) == data
        server.send(data)
        assert client.recv(65535) == data


@EACH_EDGE
@pytest.mark.parametrize("size", [56, 1400, 3000])
def test_ping(tunnel_network, number, size):
    with tunnel_network.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMP, peer=(SERVER, 0), options=[WITHOUT_DF]) as client:
        data = os.urandom(size)
        client.send(packets.echo(HOST, SERVER, 777, data=data)[packets.IPV4_HEADER:])
        assert client.recv(65535)[packets.IPV4_HEADER + 8:] == data


@pytest.mark.parametrize("place", ["ce1", "ce1/napt", "ce2"])
def test_the_router_itself(tunnel_network, place):
    data = os.urandom(1 << 16)
    with tunnel_network.tcp(place) as (router, server):
        assert exchange(router, server, data) == [data, data]


@EACH_EDGE
def test_a_closed_port_refuses_in_both_directions(tunnel_network, number):
    edge = EDGES[number]
    for place, peer in (("c" + number, (SERVER, 33434)), ("s", (edge.address, edge.ports[0]))):
        with tunnel_network.socket(place, peer=peer) as caller:
            caller.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                caller.recv(1)


@pytest.mark.parametrize("caller, called", ["13", "12"])
def test_the_mtu_of_the_softwire_is_learned(tunnel_network, caller, called):
    """Towards a server, and towards another customer edge."""
    edge = EDGES[called]
    with tunnel_network.udp("c" + caller, options=[WITH_DF]) as (client, server):
        assert path_mtu(client, server) == path_mtu(server, client) == IPV4_MTU
    forget(tunnel_network)
    with tunnel_network.socket("c" + called, bind=(HOST, SERVICE), options=[WITH_DF]) as host, \
            tunnel_network.socket("c" + caller, peer=(edge.address, edge.ports[0]), options=[WITH_DF]) as client:
        assert path_mtu(client, host) == IPV4_MTU
    forget(tunnel_network)


@pytest.mark.parametrize("caller, called", ["13", "31", "12", "23"])
@pytest.mark.parametrize("size", [100, 3000])
def test_on_the_wire_are_the_two_map_addresses(tunnel_network, caller, called, size):
    """Of whole packets and of fragments, and not those of the border relay."""
    edge, data = EDGES[called], os.urandom(size)
    with tunnel_network.capture("ce" + caller, "isp") as wire, \
            tunnel_network.socket("c" + called, bind=(HOST, SERVICE)) as host, \
            tunnel_network.socket("c" + caller, peer=(edge.address, edge.ports[0]), options=[WITHOUT_DF]) as client:
        client.send(data)
        received, peer = host.recvfrom(65535)
        assert received == data
        host.sendto(b"back", peer)
        assert client.recv(10) == b"back"
        ends = [(packets.source_of(packet), packets.destination_of(packet)) for packet in wire.packets() if packet[6] == packets.UDP]
    out, back = (EDGES[caller].map_address, edge.map_address), (edge.map_address, EDGES[caller].map_address)
    assert ends == [out] * (1 if size < IPV4_MTU else 3) + [back]
    assert max(map(len, wire.seen)) <= 1500 + GPE_HEADERS


def test_to_the_server_goes_what_is_no_customer_edges(tunnel_network):
    with tunnel_network.capture("ce1", "isp") as wire, tunnel_network.udp("c1") as (client, server):
        client.send(b"to the server")
        server.recv(100)
        sent = wire.wait_for(lambda packet: packet.endswith(b"to the server"))
    assert packets.destination_of(sent) == BR_ADDRESS


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_provider_and_neighbours_deceive_a_customer_edge(tunnel_network, number):
    edge, peer, third = EDGES[number], EDGES["2" if number == "1" else "1"], EDGES["3"]
    mine, theirs, spoofed, outside = edge.ports[0], peer.ports[7], "in_dropped_spoofed", "guard.outside_domain"

    def near(source=peer.map_address, inner=None, destination=edge.map_address):
        return tunnelled(source, destination, inner or udp(peer.address, edge.address, theirs, mine))

    def far(inner):
        return tunnelled(BR_ADDRESS, edge.map_address, inner)

    check(tunnel_network, "ce" + number, {
        # another customer edge, by a rule
        "a port of another's": (near(inner=udp(peer.address, edge.address, third.ports[7], mine)), spoofed),
        "another PSID in the interface identifier": (near(other(peer.map_address, 0)), spoofed),
        "another's IPv4 address in the interface identifier": (near(other(peer.map_address, 17)), spoofed),
        "a bit before the IPv4 address": (near(other(peer.map_address, 48)), spoofed),
        "no interface identifier": (near(peer.prefix), spoofed),
        "another customer edge's address": (near(third.map_address), spoofed),
        "a source of no rule": (near(inner=udp("203.0.113.9", edge.address, theirs, mine)), "in_dropped_no_rule"),
        "a source of another rule": (near(inner=udp("10.1.2.3", edge.address, theirs, mine)), spoofed),
        "no port": (near(inner=packets.ipv4(peer.address, edge.address, GRE, b"\0\0\x08\0forged")), "in_dropped_no_port"),
        "for another's port": (near(inner=udp(peer.address, edge.address, theirs, third.ports[7])), "in_dropped_not_own_port"),
        "for another's address": (near(inner=udp(peer.address, "192.0.2.77", theirs, mine)), "in_dropped_not_own_address"),
        "for a host of the LAN": (near(inner=udp(peer.address, HOST, theirs, mine)), "in_dropped_not_own_address"),
        "from the customer edge itself": (far(udp(edge.address, edge.address, edge.ports[9], mine)), "in_dropped_itself"),
        "from its MAP address": (near(edge.map_address, udp(edge.address, edge.address, edge.ports[9], mine)), "guard.map_address_spoofed"),
        "an error about another's packet": (near(inner=packets.error(
            peer.address, edge.address, packets.udp(edge.address, peer.address, mine, third.ports[7], b"forged"))), spoofed),
        "an error of somebody else": (near(inner=packets.error(
            peer.address, edge.address, packets.udp(edge.address, SERVER, mine, theirs, b"forged"))), "in_dropped_wrong_quote"),
        "a later fragment of another's address": (near(third.map_address, packets.fragments(
            packets.udp(peer.address, edge.address, theirs, mine, bytes(24) + b"forged"), [24])[1]), spoofed if number == "1" else None),
        "from an address that nobody may have": (near(inner=udp("127.0.0.1", edge.address, theirs, mine)), "in_dropped_martian"),
        "IPv6 in the tunnel": (packets.udp(peer.map_address, edge.map_address, GPE_PORT, GPE_PORT, GPE_IPV6 + udp(
            peer.prefix + "4", edge.prefix + "4", 9, mine)), "in_dropped_not_ipv4"),
        "other packets of a neighbour": (udp(peer.map_address, edge.map_address, 9, mine), outside),
        # others
        "from elsewhere": (near(ELSEWHERE), outside),
        "for another address of the prefix": (near(destination=edge.prefix + "1" if edge.napt == "main" else edge.wan), "in_dropped_not_own_address"),
        # by the border relay
        "the relay, for another's port": (far(udp(SERVER, edge.address, 9, third.ports[7])), "in_dropped_not_own_port"),
        "the relay, nobody asked": (far(udp(SERVER, edge.address, 9, edge.ports[7])), "napt.unsolicited"),
        "the relay, from 127.0.0.1": (far(udp("127.0.0.1", edge.address, 9, mine)), "in_dropped_martian"),
        "the relay, from an address inside the router": (far(udp("192.0.0.1", edge.address, 9, mine)), "guard.our_address_spoofed"),
        "IPv4 on the WAN": (udp(SERVER, edge.address, 9, mine), "guard.untranslated"),
    }, send_to_edge(tunnel_network, number),
        near(inner=packets.udp(peer.address, edge.address, theirs, mine, b"honest")), watched(tunnel_network, number))


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_lan_does_not_get_into_the_mesh(tunnel_network, number):
    edge, peer = EDGES[number], EDGES["3"]
    host6, inner = edge.prefix + "4", udp(edge.address, peer.address, edge.ports[7], peer.ports[0])
    bypassed = "guard.softwire_bypassed"
    check(tunnel_network, "ce" + number, {
        "to another customer edge": (tunnelled(host6, peer.map_address, inner), bypassed),
        "to the border relay": (tunnelled(host6, BR_ADDRESS, inner), bypassed),
        "into a rule of others": (tunnelled(host6, "2001:db8:1001:1234::1", inner), bypassed),
        "from the MAP address": (tunnelled(edge.map_address, peer.map_address, inner), "guard.map_address_spoofed"),
        "IPv4 from the edge's own address": (inner, "napt.forward_source"),
    }, lambda packet: tunnel_network.inject("c" + number, "lan", packet, (tunnel_network.napt(number), "lan")),
        packets.udp(host6, "2001:db8:6::1", 9, 9, b"honest"), [("br", "isp"), ("s", "inet"), ("c3", "lan")])


def test_fragments_in_any_order_from_a_neighbour(tunnel_network):
    """Of the same address and of another one; the later ones have no port."""
    edge, data = EDGES["1"], bytes(range(256)) * 8
    with tunnel_network.socket("c1", bind=(HOST, SERVICE)) as host:
        for peer in (EDGES["2"], EDGES["3"]):
            for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
                pieces = packets.fragments(packets.udp(peer.address, edge.address, peer.ports[7], edge.ports[0], data), [800, 800])
                for place in order:
                    tunnel_network.inject("br", "isp", tunnelled(peer.map_address, edge.map_address, pieces[place]), ("ce1", "isp"))
                assert host.recv(65535) == data
