"""The network forwards: every claim is made of packets, from all clients at once and from one source port."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodes import (CLIENTS, EDGE_OF, JOOL, RELAYS, SERVER, SERVER_NODE, address, background, captures, gateway, lines_of, mac, python, udp_to)

IPV4_MTU = {"bpf": 1472, "jool_siit": 1480, "jool_mapt": 1480, "ip6_tunnel": 1460, "ip6_tunnel_mesh": 1460}  # on a WAN of 1500
SERVER_IN_DMR = "64:ff9b::cb00:7138"


def of(traffic, client, check):
    result = traffic["results"][client][check]
    assert not (isinstance(result, str) and result.startswith("failed")), result
    return result


def assert_peer(peer, edges, client):
    """The server saw the client with its public address and a port of its port set."""
    seen, port = peer.rsplit(":", 1)
    assert seen == edges.public(client)
    assert edges.has(client, int(port)), f"{peer} is outside {edges[client]['port_ranges']}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_megabyte_comes_and_goes_unharmed(traffic, edges, megabyte, client):
    result = of(traffic, client, "download_and_upload")
    assert (result["length"], result["sha256"]) == (1_000_000, megabyte)
    assert result["put"][1:] == ["1000000", megabyte]
    assert_peer(result["peer"], edges, client)


@pytest.mark.parametrize("client", CLIENTS)
def test_udp(traffic, edges, client):
    result = of(traffic, client, "udp_small")
    assert result["intact"]
    assert_peer(result["peer"], edges, client)


@pytest.mark.parametrize("client", CLIENTS)
def test_udp_in_fragments(traffic, edges, client):
    result = of(traffic, client, "udp_fragments")
    assert result["intact"]
    assert_peer(result["peer"], edges, client)


@pytest.mark.parametrize("client", CLIENTS)
def test_ping(traffic, client):
    assert of(traffic, client, "ping") == 3


@pytest.mark.parametrize("client", CLIENTS)
def test_ping_in_fragments(traffic, carriers, fails_where, client):
    fails_where("jool_siit" in {carriers[host] for host in (EDGE_OF[client], *RELAYS)}, "a ping in fragments")
    assert of(traffic, client, "ping_in_fragments") == 3


@pytest.mark.parametrize("client", CLIENTS)
def test_port_unreachable_comes_back(traffic, client):
    assert of(traffic, client, "port_unreachable") == "ConnectionRefusedError"


@pytest.mark.parametrize("client, host", EDGE_OF.items())
def test_time_exceeded_comes_back(traffic, inventory, carriers, client, host):
    """The NAPT, the softwire where it is in another namespace, and the border relay, whose address IPv4 may not know.

    Jool in a namespace of its own hands the packet back to the main one, which is a hop more.
    """
    hops = of(traffic, client, "traceroute")
    expected = 4 if inventory[host]["namespace"] else 5 if carriers[host] in JOOL else 3
    assert hops[0] == gateway(client)
    assert len(hops) == expected and "*" not in hops, hops
    assert hops[-1] == SERVER


@pytest.mark.parametrize("client", CLIENTS)
def test_path_mtu_discovery(traffic, carriers, client):
    assert of(traffic, client, "path_mtu") == {"refused_with_mtu": IPV4_MTU[carriers[EDGE_OF[client]]], "what_fits": True}


@pytest.mark.parametrize("client", CLIENTS)
def test_native_ipv6_is_kept(traffic, client):
    assert of(traffic, client, "native_ipv6") is True


def test_the_server_sees_only_ports_and_ids_of_the_port_sets(traffic, edges):
    seen = {"port": 0, "id": 0}
    for line in lines_of(traffic["at_server"]):
        port = re.match(r"IP (\d+\.\d+\.\d+\.\d+)\.(\d+) > ", line)
        identifier = re.match(r"IP (\d+\.\d+\.\d+\.\d+) > \S+ ICMP echo request, id (\d+)", line)
        found = port or identifier
        if found:
            seen["port" if port else "id"] += 1
            assert edges.owner(found.group(1), int(found.group(2))), line
    assert seen["port"] > 300 and seen["id"] >= 9, seen


def test_clients_on_one_address_use_their_own_ports(traffic, edges):
    one, two = (of(traffic, client, "udp_small")["peer"] for client in edges.pair)
    assert one.split(":")[0] == two.split(":")[0]
    assert one != two


def test_between_edge_and_relay_there_is_only_the_softwire(traffic, edges, transport):
    """On the IPv6 side every packet of a client is IPv6 between its own MAP address and the DMR or the border relay."""
    far_ends = {SERVER_IN_DMR} if transport == "map-t" else {edge["br_address"] for edge in edges.values()}
    ours = {edge["map_address"]: client for client, edge in edges.items()}
    lines = lines_of(traffic["at_relays"])
    softwire = 0
    for line in lines:
        pair = re.search(r"(\S+?)(?:\.(\d+))? > (\S+?)(?:\.(\d+))?: ", line)
        if pair is None or not far_ends.intersection(pair.group(1, 3)):
            continue  # native IPv6, or the rest of a packet that takes two lines
        softwire += 1
        outgoing = pair.group(3) in far_ends
        assert pair.group(1 if outgoing else 3) in ours, line
        port = pair.group(2 if outgoing else 4)
        assert port is None or edges.has(ours[pair.group(1 if outgoing else 3)], int(port)), line
    assert softwire > 600
    assert not [line for line in lines if re.match(r"IP \(", line)], "IPv4 on the IPv6-only side"
    wrong = [line for line in lines if "bad udp cksum" in line or "(incorrect" in line or "bad icmp6 cksum" in line]
    assert wrong == [], "wrong checksums"


MARK = 0xb9  # the TOS byte: DSCP EF, and ECT(1) of ECN
MARKED_PORT = 5354
# Answers each of a number of datagrams twice: without marks by which TOS byte it has come, and with the same byte as was sent.
ECHO_MARKED = """
import socket, sys
port, mark, asked = map(int, sys.argv[1:])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", port))
udp.settimeout(60)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
print("ready", flush=True)
for _number in range(asked):
    _data, ((_level, _type, tos),), _flags, peer = udp.recvmsg(100, 100)
    for own in (0, mark):
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, own)
        udp.sendto(tos, peer)
"""
ASK_MARKED = """
import json, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((sys.argv[1], int(sys.argv[2])))
udp.settimeout(20)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, int(sys.argv[3]))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
udp.send(b"marked")
seen = [udp.recv(100)[0]]
try:
    _data, ((_level, _type, tos),), _flags, _peer = udp.recvmsg(100, 100)
    seen.append(tos[0])
except TimeoutError:
    seen.append(None)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def marks(lab):
    """By client: the TOS byte of what arrived at the server, and of what came from there, or None where it was lost."""
    with background(lab, SERVER_NODE, ECHO_MARKED, MARKED_PORT, MARK, len(CLIENTS)), ThreadPoolExecutor(len(CLIENTS)) as pool:
        return dict(zip(CLIENTS, pool.map(lambda client: python(lab, client, ASK_MARKED, SERVER, MARKED_PORT, MARK), CLIENTS)))


@pytest.mark.parametrize("client", CLIENTS)
def test_dscp_and_ecn_reach_the_server(marks, carriers, fails_where, client):
    fails_where(JOOL & {carriers[relay] for relay in RELAYS}, "DSCP and ECN")
    assert marks[client][0] == MARK


@pytest.mark.parametrize("client", CLIENTS)
def test_dscp_and_ecn_reach_the_client(marks, carriers, fails_where, client):
    assert marks[client][1] is not None, "lost on the way"
    fails_where(carriers[EDGE_OF[client]] in JOOL, "DSCP and ECN")
    assert marks[client][1] == MARK


SERVE = """
import socket
s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('', %d)); s.listen(); s.settimeout(120)
c, peer = s.accept(); c.sendall(('welcome %%s' %% peer[0]).encode()); c.close()
"""


def test_a_forwarded_port_is_reached_across_the_relay(lab, edges, forwarded):
    """A client on another address connects to the port of the customer edge that leads to its client."""
    client, port, own_port = forwarded
    asker = next(other for other in CLIENTS if edges.public(other) != edges.public(client))
    ask = f"import socket; print(socket.create_connection(('{edges.public(client)}', {port}), 60).recv(100).decode())"
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(lab.exec, client, ["python3", "-c", SERVE % own_port], timeout=180)
        deadline = time.monotonic() + 60
        while str(own_port) not in lab.exec(client, ["ss", "-Hltn"]).stdout and time.monotonic() < deadline:
            time.sleep(0.5)
        done = lab.exec(asker, ["python3", "-c", ask])
        assert server.result().returncode == 0, server.result().stderr
    assert done.stdout.strip() == f"welcome {edges.public(asker)}", done.stderr


def test_an_unsolicited_packet_is_seen_once(lab, edges):
    """The last port of each set: going round, the packet would be there until its TTL ends."""
    ports = {client: edges[client]["port_ranges"][-1][1] for client in CLIENTS}
    send = f"import socket; u = socket.socket(2, 2); [u.sendto(b'unsolicited', to) for to in {[(edges.public(c), ports[c]) for c in CLIENTS]}]"
    with captures(lab, {(relay, "isp"): udp_to(*ports.values()) for relay in RELAYS}, "-v") as outside, \
            captures(lab, {(EDGE_OF[client], "any"): f"udp dst port {ports[client]}" for client in CLIENTS}) as inside:
        assert lab.exec(SERVER_NODE, ["python3", "-c", send]).returncode == 0
        time.sleep(2)
    for client in CLIENTS:
        once = [line for line in lines_of(outside) if f"> {edges[client]['map_address']}" in line]
        assert len(once) == 1, (client, lines_of(outside))
        # Once per link of the edge's main namespace that it passes.
        assert 1 <= len(inside[EDGE_OF[client], "any"].lines) <= 5, (client, inside[EDGE_OF[client], "any"].lines)


def test_a_port_outside_every_set_never_reaches_an_edge(lab, edges):
    """An address of the first rule that no customer edge has: the network drops it."""
    nobody = str(ipaddress.ip_network(edges["c1"]["rule"]["ipv4_prefix"])[100])
    assert edges.owner(nobody) is None
    with captures(lab, {(host, "isp"): udp_to(55555) for host in EDGE_OF.values()}) as seen:
        send = f"import socket; socket.socket(2, 2).sendto(b'nobody', ('{nobody}', 55555))"
        assert lab.exec(SERVER_NODE, ["python3", "-c", send]).returncode == 0
        time.sleep(1)
    assert lines_of(seen) == []


FORGE = """
import json, sys
from scapy.all import Ether, IP, IPv6, UDP, sendp, conf
conf.verb = 0
relays, far_end, server, packets = json.loads(sys.argv[1])
for mac in relays:
    for outer, inner, port in packets:
        datagram = UDP(sport=port, dport=5353) / b"forged"
        if server:
            datagram = IP(src=inner, dst=server) / datagram
        sendp(Ether(dst=mac) / IPv6(src=outer, dst=far_end) / datagram, iface="isp")
"""


def test_the_relays_drop_forged_sources(lab, edges, transport):
    """From c1's customer edge: foreign ports, another edge's address, wrong identifiers; one good packet as the control."""
    mine, other = (edges[client] for client in edges.pair)
    host = EDGE_OF[edges.pair[0]]
    outer, inner, port = mine["map_address"], mine["ipv4_address"], mine["port_ranges"][0][0]
    good = (outer, inner, port + 7)
    forged = [
        (outer, inner, other["port_ranges"][0][0] + 7),
        (other["map_address"], inner, port + 8),
        (mine["end_user_prefix"].split("/")[0], inner, port + 9),
        (str(ipaddress.ip_address(int(ipaddress.ip_address(outer)) ^ 1)), inner, port + 10),
        ("64:ff9b:1:ffff::c000:208", inner, port + 11),
        (address(host, "isp", 6), inner, port + 12),
    ]
    if transport == "map-e":
        forged += [(outer, str(ipaddress.ip_address(inner) + 1), port + 13), (outer, "203.0.113.8", port + 14)]
    packets = json.dumps([[mac(relay, "isp") for relay in RELAYS], mine["br_address"] or SERVER_IN_DMR,
                          mine["br_address"] and SERVER, [*forged, good]])
    with captures(lab, {(SERVER_NODE, "inet"): "udp dst port 5353"}) as seen:
        done = lab.exec(host, ["python3", "-c", FORGE, packets], timeout=300)
        assert done.returncode == 0, done.stderr
        time.sleep(2)
    assert len(lines_of(seen)) == len(RELAYS), lines_of(seen)
    assert all(f"{inner}.{good[2]} > " in line for line in lines_of(seen))
