"""What is MAP-T's own: from customer edge to customer edge, by the relay or, by a forwarding mapping rule, without it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from nodes import CLIENTS, EDGE_OF, RELAYS, SERVER, address, captures, lines_of, python

# Which address and port a socket with this port of its own has outside; the NAPT keeps both for the same socket.
SEEN_AS = """
import json, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", int(sys.argv[1])))
udp.settimeout(30)
udp.sendto(b"who am I?", (sys.argv[2], 5353))
print(json.dumps(udp.recv(100).split()[0].decode().rsplit(":", 1)))
"""
# Sends to the other one until three of its datagrams have come; the first ones of each open the other's way in.
EXCHANGE = """
import json, socket, sys, time
own, size, host, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
udp.bind(("0.0.0.0", own))
udp.settimeout(0.5)
data, came, deadline = bytes(range(100)) * (size // 100), 0, time.monotonic() + 20
while came < 3 and time.monotonic() < deadline:
    udp.sendto(data, (host, port))
    try:
        came += udp.recv(65535) == data
    except TimeoutError:
        pass
for _again in range(3):
    udp.sendto(data, (host, port))
print(json.dumps(came))
"""


@pytest.mark.parametrize("size", [100, 3000])
@pytest.mark.parametrize("addresses", [1, 2])
def test_customer_edges_reach_each_other(lab, edges, carriers, fails_where, addresses, size):
    """Clients behind one IPv4 address, or two; datagrams in one packet or in fragments."""
    one, other = edges.pair
    if addresses == 2:
        other = next(client for client in edges.shared if edges.network(client) != edges.network(one))
    ends = {carriers[EDGE_OF[client]] for client in (one, other)}
    fails_where(addresses == 1 and "jool_siit" in ends, "two CEs that share an IPv4 address")
    directly = ends in ({"bpf"}, {"jool_mapt"}) and bool(edges[one]["fmrs"])
    fails_where(size == 3000 and "jool_mapt" in {carriers[relay] for relay in RELAYS} and not directly,
                "a datagram in fragments from one CE to another, at the BR")
    own = 40000 + size + addresses
    with ThreadPoolExecutor(2) as pool:
        seen_as = dict(zip((one, other), pool.map(lambda client: python(lab, client, SEEN_AS, own, SERVER), (one, other))))
        ways = [(one, seen_as[other]), (other, seen_as[one])]
        with captures(lab, {(EDGE_OF[one], "isp"): "ip6"}) as seen:
            came = list(pool.map(lambda way: python(lab, way[0], EXCHANGE, own, size, *way[1]), ways))
    assert came == [3, 3]
    between = [line for line in lines_of(seen) if all(edges[client]["map_address"] in line for client in (one, other))]
    assert bool(between) == directly


@pytest.mark.parametrize("client", CLIENTS)
def test_native_ipv6_between_customers(lab, edges, inventory, carriers, fails_where, client):
    other = next(name for name in CLIENTS if name != client)
    fails_where(any(carriers[EDGE_OF[end]] == "jool_mapt" and edges[end]["fmrs"] and inventory[EDGE_OF[end]]["namespace"]
                    for end in (client, other)), "native IPv6 of other customers")
    done = lab.exec(client, ["ping", "-6", "-c", "3", "-i", "0.3", "-W", "10", address(other, "lan", 6)])
    assert " 3 received" in done.stdout
