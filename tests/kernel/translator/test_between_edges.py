# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From one customer edge to another: by the border relay, or directly where the rules are forwarding ones (RFC 7597 section 5, RFC 7599 section 8.2)."""

from __future__ import annotations

import os
import socket

import packets
import pytest
from network import EDGES, HOST, SERVICE, WITHOUT_DF, exchange, running

# 1 and 3 have the same address, and NAPT namespaces; 2 has neither.
PAIRS = pytest.mark.parametrize("caller, called", ["13", "31", "12", "21"])


@pytest.fixture(scope="module")
def mesh_network(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), mesh=True) as network:
        yield network


@pytest.fixture(scope="module")
def tunnel_network(tmp_path_factory):
    """The same with MAP-E."""
    with running(tmp_path_factory.mktemp("network"), mesh=True, transport="map-e") as network:
        yield network


@pytest.fixture(params=["network", "mesh_network", "tunnel_network"])
def either(request):
    """A network whose border relay translates whatever passes between customer edges, or nothing at all."""
    network = request.getfixturevalue(request.param)
    with network.counted("br") as relay:
        yield network
    translated = {name for name in relay if not name.startswith("guard.")}
    assert translated >= {"in_passed", "out_passed"} if request.param == "network" else not translated
    assert not [name for name in relay if "dropped" in name]


@PAIRS
@pytest.mark.parametrize("size", [0, 56, 1444, 1472, 3000])
def test_datagrams(either, caller, called, size):
    edge, data = EDGES[called], os.urandom(size)
    with either.socket("c" + called, bind=(HOST, SERVICE), options=[WITHOUT_DF]) as host, \
            either.socket("c" + caller, peer=(edge.address, edge.ports[0]), options=[WITHOUT_DF]) as client:
        client.send(data)
        received, peer = host.recvfrom(65535)
        assert received == data
        assert peer[0] == EDGES[caller].address and peer[1] in EDGES[caller].ports
        host.sendto(data, peer)
        assert client.recv(65535) == data


@PAIRS
def test_a_connection(either, caller, called):
    edge, data = EDGES[called], os.urandom(1 << 20)
    with either.tcp("c" + caller, "c" + called, edge.address, edge.ports[0], HOST, SERVICE) as (client, host):
        assert host.getpeername()[0] == EDGES[caller].address and host.getpeername()[1] in EDGES[caller].ports
        assert exchange(client, host, data) == [data, data]


@PAIRS
def test_a_closed_port(either, caller, called):
    edge = EDGES[called]
    with either.socket("c" + caller, peer=(edge.address, edge.ports[0])) as client:
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


@pytest.mark.parametrize("either", ["network", "mesh_network"], indirect=True)
@pytest.mark.parametrize("caller, called", ["12", "21"])
def test_an_echo_reaches_nobody(either, caller, called):
    """Its identifier is the port of both sides, and here no port set of the called address has those of the caller.

    With MAP-E the answer is ip6tnl's own, which is not here.
    """
    with either.socket("c" + caller, socket.SOCK_RAW, socket.IPPROTO_ICMP) as client:
        request = packets.echo(HOST, EDGES[called].address, 777)[packets.IPV4_HEADER:]
        client.sendto(request, (EDGES[called].address, 0))
        answer = client.recv(1000)
        assert tuple(answer[packets.IPV4_HEADER:][:2]) == (packets.ICMP_UNREACHABLE, 1)


@pytest.mark.parametrize("number", ["1", "2"])
@pytest.mark.parametrize("name", ["network", "mesh_network", "tunnel_network"])
def test_what_goes_to_the_own_address_goes_round_once(request, name, number):
    """Not to a forwarded port: to one of the other customer edges, for all that the sender knows, but it is the edge's own."""
    network, edge = request.getfixturevalue(name), EDGES[number]
    seen, sent = {
        "network": ("napt.unsolicited", 2),
        "mesh_network": (f"{'translator' if edge.napt_namespace else 'guard'}.not_by_wan", 2),
        "tunnel_network": ("out_dropped_itself", 1),
    }[name]
    with network.socket("c" + number, peer=(edge.address, edge.ports[7])) as client, network.udp("c" + number) as (later, server), \
            network.counted("ce" + number) as counted:
        client.send(b"to myself")
        later.send(b"behind it")
        assert server.recv(100) == b"behind it"
    assert counted[seen] == 1 and counted["out_passed"] == sent


@pytest.mark.parametrize("place", ["c1", "ce1", "ce1/napt", "c2", "ce2"])
def test_a_forward_of_ones_own_needs_no_softwire(network, place):
    """From the LAN, and from the router itself."""
    number, data = place.split("/")[0][-1], os.urandom(1 << 16)
    edge = EDGES[number]
    with network.counted("ce" + number) as counted, \
            network.tcp(place, "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as (client, host):
        assert exchange(client, host, data) == [data, data]
    assert not counted


@pytest.mark.parametrize("place", ["c1", "ce1", "ce1/napt", "c2", "ce2"])
def test_a_reserved_port_from_inside(network, place):
    number, data = place.split("/")[0][-1], os.urandom(1 << 16)
    edge = EDGES[number]
    with network.tcp(place, network.napt(number), edge.address, edge.ports[1], "0.0.0.0", edge.ports[1]) as (client, service):
        assert exchange(client, service, data) == [data, data]
