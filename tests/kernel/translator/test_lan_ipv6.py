# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The LAN's native IPv6 behind its firewall, and the softwire beside it, with real sockets: switched on by a reload while both have connections."""

from __future__ import annotations

import os
import socket
import time

import packets
import pytest
from network import BR_IPV6, EDGES, HOST, PATIENCE, SERVICE, exchange, running
from test_surroundings import check_traffic

EACH_EDGE = pytest.mark.parametrize("number", ["1", "2"])
IPV6_MTU = 24  # <linux/in6.h>


def native(network, listens, address, port, calls):
    """A connection of IPv6: the sockets of the caller and of the called."""
    with network.socket(listens, socket.SOCK_STREAM, bind=(address, port), family=socket.AF_INET6) as listener:
        listener.listen()
        near = network.socket(calls, socket.SOCK_STREAM, peer=(address, listener.getsockname()[1]), family=socket.AF_INET6)
        far, _peer = listener.accept()
    return near, far


@pytest.fixture(scope="module", params=["map-t", "map-e"])
def firewalled(request, tmp_path_factory):
    """A mesh whose first two customer edges have the firewall: switched on by a reload, while a server out there was about to say something."""
    with running(tmp_path_factory.mktemp("network"), edges="12", mesh=True, transport=request.param) as network:
        for number in "12":
            ends = [native(network, "br", BR_IPV6, 0, "c" + number)]
            with network.tcp("c" + number) as ipv4:
                links = network.run("ce" + number, "ip", "link").stdout
                network.deploy(number, "reload", ipv6_firewall="stateful")
                assert network.run("ce" + number, "ip", "link").stdout == links  # a restart makes others
                for client, server in (*ends, ipv4):
                    server.sendall(b"still there?")
                    assert client.recv(100) == b"still there?"
                    client.sendall(b"yes")
                    assert server.recv(100) == b"yes"
            for opened in ends[0]:
                opened.close()
        yield network


@EACH_EDGE
def test_the_softwire_works_as_before(firewalled, number):
    check_traffic(firewalled, number)


@pytest.mark.parametrize("caller, called", ["12", "21"])
def test_so_does_the_way_to_another_customer_edge(firewalled, caller, called):
    edge, data = EDGES[called], os.urandom(1 << 18)
    with firewalled.tcp("c" + caller, "c" + called, edge.address, edge.ports[0], HOST, SERVICE) as ends:
        assert exchange(*ends, data) == [data, data]


@EACH_EDGE
def test_the_lan_calls_out(firewalled, number):
    data = os.urandom(1 << 18)
    near, far = native(firewalled, "br", BR_IPV6, 0, "c" + number)
    with near, far:
        assert exchange(near, far, data) == [data, data]
    with firewalled.socket("c" + number, socket.SOCK_RAW, socket.IPPROTO_ICMPV6, peer=(BR_IPV6, 0), family=socket.AF_INET6) as client:
        client.send(packets.echo(EDGES[number].prefix + "4", BR_IPV6, 777)[packets.IPV6_HEADER:])
        answer = client.recv(100)
        while answer[0] != packets.ICMPV6_ECHO_REPLY:  # neighbours ask as well
            answer = client.recv(100)


@EACH_EDGE
def test_nobody_calls_in(firewalled, number):
    host = EDGES[number].prefix + "4"
    with firewalled.counted("ce" + number) as moved, \
            firewalled.socket("c" + number, bind=(host, 7), family=socket.AF_INET6) as called, \
            firewalled.socket("br", peer=(host, 7), family=socket.AF_INET6) as caller:
        caller.send(b"hello")
        called.settimeout(0.5)
        with pytest.raises(TimeoutError):
            called.recv(100)
    assert moved["ipv6_firewall.unsolicited"] == 1


@EACH_EDGE
def test_what_the_path_takes_is_learned(firewalled, number):
    """The far end's network takes less than the LAN's: its router says so (RFC 8201)."""
    host = EDGES[number].prefix + "4"
    with firewalled.counted("ce" + number) as moved, \
            firewalled.socket("c" + number, peer=(BR_IPV6, 9), family=socket.AF_INET6) as client:
        client.send(b"x" * 1400)
        quoted = packets.udp(host, BR_IPV6, client.getsockname()[1], 9, b"x" * 1400)
        firewalled.inject("br", "isp", packets.error(BR_IPV6, host, quoted[:1200], packets.ICMPV6_TOO_BIG, 1280), ("ce" + number, "isp"))
        end = time.monotonic() + PATIENCE
        while client.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU) != 1280 and time.monotonic() < end:
            time.sleep(0.01)
        assert client.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU) == 1280
    assert not moved["ipv6_firewall.unrelated"]
