# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others do on a router or beside it: stateful firewalls, strict checks of the way back, a network that asks for the MAP address."""

from __future__ import annotations

import os
import socket

import packets
import pytest
from network import EDGES, HOST, SERVER, SERVICE, WITHOUT_DF, exchange

EACH_EDGE = pytest.mark.parametrize("number", ["1", "2"])
# As people write them: it knows connections, in both families, and drops what belongs to none.
FIREWALL = """
table inet admin {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        ct state new accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        ct state new accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}
"""


def check_traffic(network, number):
    """Each kind of packet that a stateful firewall might not understand."""
    edge, data = EDGES[number], os.urandom(1 << 18)
    with network.tcp("c" + number) as ends:
        assert exchange(*ends, data) == [data, data]
    with network.tcp("s", "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as ends:
        assert exchange(*ends, data) == [data, data]
    with network.udp("c" + number, options=[WITHOUT_DF]) as ends:
        for sender, receiver in (ends, reversed(ends)):
            for size in (56, 3000):
                sender.send(data[:size])
                assert receiver.recv(65535) == data[:size]
    for place in ("c" + number, "ce" + number):
        with network.socket(place, socket.SOCK_RAW, socket.IPPROTO_ICMP, peer=(SERVER, 0), options=[WITHOUT_DF]) as client:
            for size in (56, 3000):
                client.send(packets.echo(HOST, SERVER, 777, data=data[:size])[packets.IPV4_HEADER:])
                assert client.recv(65535)[packets.IPV4_HEADER + 8:] == data[:size]
    for place, peer in (("c" + number, (SERVER, 33434)), ("s", (edge.address, edge.ports[0]))):
        with network.socket(place, peer=peer) as caller:
            caller.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                caller.recv(1)


@pytest.fixture
def firewalls(network):
    for name in ("br", "ce1", "ce2"):
        network.run(name, "sh", "-ec", f"nft -f - <<'END'\n{FIREWALL}\nEND")
    yield
    for name in ("br", "ce1", "ce2"):
        network.run(name, "nft", "delete", "table", "inet", "admin")


@EACH_EDGE
def test_stateful_firewalls(network, firewalls, number):
    check_traffic(network, number)


@pytest.fixture
def strict(network):
    """rp_filter, of which the higher value counts: the interface's or that of all."""
    for value in (1, 0):
        for name in ("br", "ce1", "ce2"):
            network.run(name, "sysctl", "-q", "-w", f"net.ipv4.conf.all.rp_filter={value}")
        if value:
            yield


@EACH_EDGE
def test_strict_checks_of_the_way_back(network, strict, number):
    check_traffic(network, number)


@EACH_EDGE
def test_a_network_that_asks_for_the_map_address(network, number):
    """The end-user prefix is on the link, as where it comes by router advertisements: the router answers for its MAP address (RFC 4861)."""
    edge = EDGES[number]
    network.ip("br", f"route add {edge.map_address} dev isp")
    try:
        with network.udp("c" + number) as (client, server):
            server.send(b"found")
            assert client.recv(100) == b"found"
    finally:
        network.ip("br", f"route del {edge.map_address} dev isp")
