# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A port set of 63 ranges, all of it in use at once."""

from __future__ import annotations

import contextlib
import os

import pytest
from network import EDGES, SERVER, exchange, running

EDGE = EDGES["4"]


@pytest.fixture(scope="module")
def many_ranges(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), edges="4") as network:
        yield network


def test_all_ports_are_used_at_once(many_ranges):
    """But one that is forwarded and one that is the router's."""
    wanted = set(EDGE.ports[2:])
    assert len(wanted) == 250
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(many_ranges.socket("s", bind=(SERVER, 0)))
        clients = [stack.enter_context(many_ranges.socket("c4", peer=server.getsockname())) for _time in range(len(wanted) + 5)]
        served = {}
        # The kernel looks for the last free ports at random, and not at all of them.
        for _round in range(20):
            for number, client in enumerate(clients):
                if number not in served:
                    client.send(number.to_bytes(2, "big"))
            with contextlib.suppress(TimeoutError):
                server.settimeout(0.3)
                while True:
                    data, peer = server.recvfrom(100)
                    served[int.from_bytes(data, "big")] = peer
            if len(served) >= len(wanted):
                break
        assert {address for address, _port in served.values()} == {EDGE.address}
        assert len(served) == len(wanted) and {port for _address, port in served.values()} == wanted
        for number, peer in served.items():
            server.sendto(b"to %d" % number, peer)
        for number in served:
            assert clients[number].recv(100) == b"to %d" % number


def test_a_megabyte_of_tcp_goes_both_ways(many_ranges):
    data = os.urandom(1 << 20)
    with many_ranges.tcp("c4") as (client, server):
        assert server.getpeername()[1] in EDGE.ports
        assert exchange(client, server, data) == [data, data]
