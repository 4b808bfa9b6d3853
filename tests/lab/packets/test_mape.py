"""What is MAP-E's own: outer headers, whole port sets, from customer edge to customer edge, IPv4 prefixes, two border relays."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import select
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from network import CLIENTS, EDGE_OF, LAB, NODES, NEXT_HEADER_IPV4, RELAYS, SERVER, SERVER_NODE, address, captures, mac

pytestmark = pytest.mark.skipif(LAB.topology.name != "mape", reason="the network is one of MAP-T")

ETHERNET, IPV6_HEADER = 14, 40
ICMP, TCP, UDP = 1, 6, 17
PYTHON = ["python3", "-"]


def python(lab, node, script, *arguments, timeout=90):
    """Runs a script in a node; what it printed, from JSON."""
    done = lab.exec(node, [*PYTHON, *map(str, arguments)], input=script, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- the outer header -------------------------------------------------------------------------------------------------


def inner_end(packet, incoming):
    """The client's address, and its port or identifier where the inner packet has one: (text, int or None)."""
    start = 16 if incoming else 12
    text = str(ipaddress.ip_address(packet[start:start + 4]))
    fragment = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    transport = packet[(packet[0] & 15) * 4:]
    if fragment == 0 and packet[9] in (TCP, UDP):
        return text, struct.unpack_from("!H", transport, 2 if incoming else 0)[0]
    if fragment == 0 and packet[9] == ICMP and transport[0] in (0, 8):
        return text, struct.unpack_from("!H", transport, 4)[0]
    return text, None


def test_the_outer_header_is_what_rfc_7597_demands(traffic, edges):
    """Up: from the MAP address to the border relay; down: from the border relay to the MAP address; IPv4 follows at once."""
    maps = {edge["map_address"]: client for client, edge in edges.items()}
    relays = {edge["br_address"] for edge in edges.values()}
    passed = {(client, way): 0 for client in CLIENTS for way in ("up", "down")}
    for captured in traffic["at_relays"].values():
        for frame in captured.frames:
            ethertype, = struct.unpack_from("!H", frame, 12)
            assert ethertype == 0x86DD, frame.hex()
            header, packet = frame[ETHERNET:ETHERNET + IPV6_HEADER], frame[ETHERNET + IPV6_HEADER:]
            length, next_header, hop_limit = struct.unpack_from("!HBB", header, 4)
            source, destination = (str(ipaddress.ip_address(header[at:at + 16])) for at in (8, 24))
            if not {source, destination} & (relays | set(maps)) or next_header == 58:
                continue  # native IPv6, and neighbour discovery for MAP addresses
            incoming = source in relays
            client = maps[destination if incoming else source]
            edge = edges[client]
            assert (source, destination) == ((edge["br_address"], edge["map_address"]) if incoming
                                             else (edge["map_address"], edge["br_address"])), frame.hex()
            assert next_header == NEXT_HEADER_IPV4 and packet[0] >> 4 == 4, frame.hex()
            assert struct.unpack_from("!H", packet, 2)[0] == length, frame.hex()
            assert hop_limit == 64, frame.hex()
            inner, number = inner_end(packet, incoming)
            assert ipaddress.ip_address(inner) in edges.network(client), frame.hex()
            assert number is None or edges.has(client, number), frame.hex()
            passed[client, "down" if incoming else "up"] += 1
    assert min(passed.values()) > 100, passed


# ---- every port of the set --------------------------------------------------------------------------------------------

COLLECT = """
import json, socket, sys, time
port, clients = int(sys.argv[1]), sys.argv[2].split(",")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 4 << 20)
udp.bind(("0.0.0.0", port))
udp.settimeout(80)
seen, ended = {client: {} for client in clients}, set()
while ended != set(clients):
    data, peer = udp.recvfrom(100)
    client, flow = data.decode().split()
    if flow == "end":
        ended.add(client)
    else:
        seen[client].setdefault("%s %d" % peer, [])
        if flow not in seen[client]["%s %d" % peer]:
            seen[client]["%s %d" % peer].append(flow)
        udp.sendto(data, peer)
print(json.dumps(seen))
"""

# What finds no free port within the kernel's few hundred attempts is lost: once more, as applications do.
OPEN = """
import json, resource, select, socket, sys, time
server, port, name, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
poll, flows = select.epoll(), {}
for number in range(count):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect((server, port))
    udp.setblocking(False)
    poll.register(udp, select.EPOLLIN)
    flows[udp.fileno()] = (number, udp)
waiting, deadline, rounds = set(flows), time.monotonic() + 70, 0
while waiting and time.monotonic() < deadline:
    rounds += 1
    for index, fd in enumerate(sorted(waiting)):
        number, udp = flows[fd]
        udp.send(b"%s %d" % (name.encode(), number))
        if index % 20 == 19:
            time.sleep(0.02)
    until = time.monotonic() + 1
    while waiting and time.monotonic() < until:
        for fd, _event in poll.poll(0.1):
            flows[fd][1].recv(100)
            waiting.discard(fd)
for _again in range(3):
    next(iter(flows.values()))[1].send(name.encode() + b" end")
    time.sleep(0.1)
print(json.dumps({"unanswered": len(waiting), "rounds": rounds}))
"""


def test_every_port_of_all_63_ranges_gets_used(lab, edges, inventory):
    """As many flows to one destination as a set has ports; a flow has one port, a port one flow, forwarded ports none."""
    wanted = {}
    for client in edges.shared:
        edge, forwards = edges[client], inventory[EDGE_OF[client]]["port_forwards"]
        assert len(edge["port_ranges"]) == 63
        ports = {port for low, high in edge["port_ranges"] for port in range(low, high + 1)}
        wanted[client] = ports - {forward["port"] for forward in forwards}
    assert len(wanted["c1"]) == 1008
    port = 20000 + int(time.time()) % 20000  # no flow to it is remembered
    in_napt = {client: (["ip", "netns", "exec", name] if (name := inventory[EDGE_OF[client]]["namespace"]) else []) for client in wanted}
    setting = "net.netfilter.nf_conntrack_udp_timeout"  # 30 s is short for an emulated CPU
    for client in wanted:
        assert lab.exec(EDGE_OF[client], [*in_napt[client], "sysctl", "-qw", f"{setting}=120"]).returncode == 0
    with ThreadPoolExecutor() as pool:
        collected = pool.submit(python, lab, SERVER_NODE, COLLECT, port, ",".join(wanted), timeout=100)
        time.sleep(2)
        opened = [pool.submit(python, lab, client, OPEN, SERVER, port, client, len(ports)) for client, ports in wanted.items()]
        results = {client: job.result() for client, job in zip(wanted, opened)}
        seen = collected.result()
    for client in wanted:
        lab.exec(EDGE_OF[client], [*in_napt[client], "sysctl", "-qw", f"{setting}=30"])
    print(results)
    assert not any(result["unanswered"] for result in results.values()), results
    for client, ports in wanted.items():
        assert {key.split()[0] for key in seen[client]} == {edges[client]["ipv4_address"]}
        assert {int(key.split()[1]) for key in seen[client]} == ports
        assert all(len(flows) == 1 for flows in seen[client].values())


# ---- from customer edge to customer edge, and an IPv4 prefix ----------------------------------------------------------

# Tells everybody whom it sees, TCP and UDP on the given ports, until the number of them has asked.
SERVE = """
import select, socket, sys
asked, ports = int(sys.argv[1]), [int(port) for port in sys.argv[2:]]
listening = []
for port in ports:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            one.listen()
        listening.append(one)
print("ready", flush=True)
while asked:
    ready = select.select(listening, [], [], 60)[0]
    assert ready, "nobody asked"
    for one in ready:
        if one.type == socket.SOCK_STREAM:
            connection, peer = one.accept()
            connection.sendall(b"%s %d" % (peer[0].encode(), peer[1]))
            connection.close()
        else:
            data, peer = one.recvfrom(100)
            one.sendto(b"%s %d" % (peer[0].encode(), peer[1]), peer)
        asked -= 1
"""

# Asks TCP and UDP servers: a JSON list of [address, port, own port or 0].
ASK = """
import json, socket, sys
said = []
for host, port, own in json.loads(sys.argv[1]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.settimeout(15)
        one.bind(("0.0.0.0", own))
        one.connect((host, port))
        if kind == socket.SOCK_DGRAM:
            one.send(b"who am I?")
        said.append(one.recv(100).decode().split())
print(json.dumps(said))
"""


@contextlib.contextmanager
def serving(lab, node, asked, *ports):
    """TCP and UDP servers in a node, for this many questions."""
    argv = lab.exec_argv(node, ["python3", "-u", "-c", SERVE, str(asked), *map(str, ports)])
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n", server.stderr.read()
            yield
            assert server.wait(timeout=30) == 0, server.stderr.read()
        finally:
            server.kill()


def pinged(lab, node, target):
    done = lab.exec(node, ["ping", "-c", "2", "-i", "0.3", "-W", "3", target])
    return " 2 received" in done.stdout


def test_two_customer_edges_of_one_address_reach_each_other_through_the_relay(lab, edges, forwarded):
    """TCP, UDP and an ICMP error. A ping cannot: the identifier that the NAPT chooses leads back to the edge that sends it."""
    asker, (client, port, own_port) = edges.pair[0], forwarded
    shared = edges[client]["ipv4_address"]
    assert {asker, client} == set(edges.pair)
    with captures(lab, {(relay, "isp"): "ip6 proto 4" for relay in RELAYS}) as seen, serving(lab, client, 2, own_port):
        said = python(lab, asker, ASK, json.dumps([[shared, port, 0]]))
    assert len(said) == 2
    for host, number in said:
        assert host == shared and edges.has(asker, int(number)), said
    up, down = (f"{edges[asker]['map_address']} > {edges[asker]['br_address']}", f"{edges[asker]['br_address']} > {edges[client]['map_address']}")
    lines = [line for captured in seen.values() for line in captured.lines]
    assert any(up in line for line in lines) and any(down in line for line in lines), lines
    closed = ("import json, socket; u = socket.socket(2, 2); u.settimeout(15); u.connect(('%s', %d)); u.send(b'x')\n"
              "try: u.recv(1)\nexcept OSError as exc: print(json.dumps(type(exc).__name__))" % (shared, port))
    assert python(lab, asker, closed) == "ConnectionRefusedError"


@pytest.fixture(scope="module")
def routed(edges):
    """The client with a public address of its own."""
    return next(client for client in CLIENTS if edges[client]["ipv4_prefix"])


def test_between_domains(lab, edges, forwarded, routed):
    """From the other domain to a forwarded port and to a public address, through the relay that serves both."""
    client, port, own_port = forwarded
    asker = next(other for other in edges.shared if edges[other]["br_address"] != edges[client]["br_address"])
    with serving(lab, client, 2, own_port), serving(lab, routed, 2, 8080):
        said = python(lab, asker, ASK, json.dumps([[edges.public(client), port, 0], [edges.public(routed), 8080, 0]]))
    assert len(said) == 4
    for host, number in said:
        assert host == edges.public(asker) and edges.has(asker, int(number)), said
    assert pinged(lab, asker, edges.public(routed))


def test_an_ipv4_prefix_is_routed_without_nat(lab, edges, routed):
    """Both ways, on any port, with both ends' own addresses and ports."""
    own, ports = edges.public(routed), (1, 8080, 65535)
    with serving(lab, routed, 2 * len(ports), *ports):
        said = python(lab, SERVER_NODE, ASK, json.dumps([[own, port, 30000 + port % 1000] for port in ports]))
    assert said == [[SERVER, str(30000 + port % 1000)] for port in ports for _kind in range(2)]
    with serving(lab, SERVER_NODE, 2 * len(ports), 7597):
        said = python(lab, routed, ASK, json.dumps([[SERVER, 7597, port] for port in ports]))
    assert said == [[own, str(port)] for port in ports for _kind in range(2)]
    assert pinged(lab, SERVER_NODE, own)


# ---- the link between relays and customer edges -----------------------------------------------------------------------


def test_a_map_address_on_the_link_is_found_by_neighbour_discovery(lab, edges):
    """Where the end-user prefix is on the link the border relays ask for the MAP address; c1's is routed, as a control."""
    on_link = {client: f"{edges[client]['map_address']} dev isp" for client in ("c1", "c3")}
    for relay in RELAYS:
        shown = {client: lab.exec(relay, ["ip", "-6", "route", "get", edges[client]["map_address"]]).stdout for client in on_link}
        assert " via " in shown["c1"] and " via " not in shown["c3"], shown
    lab.exec_all([(relay, ["ip", "-6", "neigh", "flush", "dev", "isp"]) for relay in RELAYS])
    ask = f"import json, urllib.request; print(json.dumps(urllib.request.urlopen('http://{SERVER}/', timeout=20).status))"
    assert python(lab, "c3", ask) == 200
    known = "".join(lab.exec(relay, ["ip", "-6", "neigh", "show", "dev", "isp"]).stdout for relay in RELAYS)
    assert f"{edges['c3']['map_address']} lladdr {mac(EDGE_OF['c3'], 'isp')}" in known, known
