# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whoever sends what is too long for the softwire learns how long it may be; on a link of 1400 bytes, too, which the routers know of or not."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import packets
import pytest
from network import EDGES, HOST, IP_MTU, SERVER, SERVICE, WITH_DF, WITHOUT_DF, exchange, running

NARROW = 1400
# What an IPv6 packet holds: an IPv4 packet 20 bytes shorter, or its fragment 28 bytes shorter (RFC 7915 section 4).
TRANSLATED, IN_FRAGMENTS = 20, 28
UDP_AND_IPV4 = 28
EACH_EDGE = pytest.mark.parametrize("number", ["1", "2"])


def path_mtu(sender, receiver):
    """The length of the longest packet, from 1500 bytes on, that arrives once errors have told how long it may be."""
    mtu = 1500
    for _time in range(20):
        try:
            sender.send(bytes(mtu - UDP_AND_IPV4))
        except OSError as exc:
            if exc.errno != errno.EMSGSIZE:
                raise
            mtu = sender.getsockopt(socket.IPPROTO_IP, IP_MTU)
            continue
        with contextlib.suppress(TimeoutError):
            receiver.settimeout(0.3)  # an error takes less
            assert len(receiver.recv(65535)) == mtu - UDP_AND_IPV4
            return mtu
    raise AssertionError(f"{mtu} bytes do not arrive")


def forget(network):
    """Hosts and routers forget what they have learned of paths."""
    for machine in network.machines.values():
        machine.sh("ip route flush cache; ip -6 route flush cache; ip tcp_metrics flush")


@pytest.fixture
def forgetful(network):
    yield
    forget(network)


@pytest.fixture
def narrow(network, forgetful):
    """A function that gives the isp link another MTU, of which the generations do not know."""
    links = [("br", name) for name in ("isp", *(f"port{number}" for number in network.edges))] + [(f"ce{number}", "isp") for number in network.edges]

    def set_mtu(mtu):
        for place, device in links:
            network.ip(place, f"link set {device} mtu {mtu}")

    yield set_mtu
    set_mtu(1500)


@EACH_EDGE
def test_both_ends_learn_the_mtu_of_the_softwire(network, forgetful, number):
    with network.udp("c" + number, options=[WITH_DF]) as (client, server):
        assert path_mtu(client, server) == 1500 - IN_FRAGMENTS
        assert path_mtu(server, client) == 1500 - IN_FRAGMENTS


@EACH_EDGE
def test_both_ends_learn_the_mtu_of_a_link_inside(network, narrow, number):
    """ICMPv6 "too big" of this router and of the border relay, about packets that they have translated themselves."""
    narrow(NARROW)
    with network.udp("c" + number, options=[WITH_DF]) as (client, server):
        assert path_mtu(client, server) == NARROW - TRANSLATED
        assert path_mtu(server, client) == NARROW - TRANSLATED


@EACH_EDGE
def test_a_connection_goes_on_over_a_link_that_has_become_narrow(network, narrow, number):
    data = os.urandom(1 << 20)
    with network.tcp("c" + number) as (client, server):
        assert exchange(client, server, data) == [data, data]
        narrow(NARROW)
        assert exchange(client, server, data) == [data, data]


@EACH_EDGE
def test_a_connection_from_outside_begins_over_a_narrow_link(network, narrow, number):
    edge, data = EDGES[number], os.urandom(1 << 20)
    narrow(NARROW)
    with network.tcp("s", "c" + number, edge.address, edge.ports[0], HOST, SERVICE) as (caller, host):
        assert exchange(caller, host, data) == [data, data]


@pytest.fixture(scope="module")
def narrow_network(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), edges="12", mtu=NARROW) as network:
        yield network


@pytest.fixture
def known_as_narrow(narrow_network):
    """A network whose generations know the MTU of the link."""
    yield narrow_network
    forget(narrow_network)


@EACH_EDGE
def test_the_mtu_of_a_link_that_is_known(known_as_narrow, number):
    with known_as_narrow.udp("c" + number, options=[WITH_DF]) as (client, server):
        assert path_mtu(client, server) == NARROW - IN_FRAGMENTS
        assert path_mtu(server, client) == NARROW - IN_FRAGMENTS


@EACH_EDGE
@pytest.mark.parametrize("size", [1340, 1372, 1380, 1472, 3000, 8000])
def test_datagrams_are_cut_for_a_link_that_is_known(known_as_narrow, number, size):
    data = os.urandom(size)
    with known_as_narrow.udp("c" + number, options=[WITHOUT_DF]) as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            sender.send(data)
            assert receiver.recv(65535) == data


@pytest.mark.parametrize("place", ["c1", "ce1", "c2", "ce2"])
@pytest.mark.parametrize("size", [1340, 1372, 3000])
def test_echos_are_cut_for_a_link_that_is_known(known_as_narrow, place, size):
    with known_as_narrow.socket(place, socket.SOCK_RAW, socket.IPPROTO_ICMP, peer=(SERVER, 0), options=[WITHOUT_DF]) as client:
        data = os.urandom(size)
        client.send(packets.echo(HOST, SERVER, 777, data=data)[packets.IPV4_HEADER:])
        assert client.recv(65535)[packets.IPV4_HEADER + 8:] == data


@EACH_EDGE
def test_tcp_fits_a_link_that_is_known(known_as_narrow, number):
    data = os.urandom(1 << 20)
    with known_as_narrow.tcp("c" + number) as (client, server), known_as_narrow.counted("ce" + number) as edge:
        assert exchange(client, server, data) == [data, data]
    assert not [name for name in edge if "dropped" in name]
