"""What is MAP-E's own: outer headers, whole port sets, from customer edge to customer edge, IPv4 prefixes, two border relays."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodes import (
    CLIENTS, EDGE_OF, NODES, NEXT_HEADER_IPV4, RELAYS, SERVER, SERVER_NODE, address, background, captures, lines_of, mac, python)

MESH = "ip6_tunnel_mesh"
ETHERNET, IPV6_HEADER = 14, 40
ICMP, TCP, UDP = 1, 6, 17


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
SO_RCVBUFFORCE = 33
udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
udp.bind(("0.0.0.0", port))
udp.settimeout(200)
print("ready", flush=True)
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
    try:
        next(iter(flows.values()))[1].send(name.encode() + b" end")
    except ConnectionRefusedError:
        break  # the last one to end, and heard
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
    with background(lab, SERVER_NODE, COLLECT, port, ",".join(wanted)) as collector, ThreadPoolExecutor() as pool:
        opened = [pool.submit(python, lab, client, OPEN, SERVER, port, client, len(ports)) for client, ports in wanted.items()]
        results = {client: job.result() for client, job in zip(wanted, opened)}
        seen = json.loads(collector.stdout.readline())
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

# Asks TCP and UDP servers: a JSON list of [address, port, own port or 0], and of how many bytes a datagram is.
ASK = """
import json, socket, sys
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
said, size = [], int((sys.argv + [9])[2])
for host, port, own in json.loads(sys.argv[1]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.settimeout(15)
        one.bind(("0.0.0.0", own))
        one.connect((host, port))
        if kind == socket.SOCK_DGRAM:
            one.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            one.send(b"who am I?".ljust(size))
        said.append(one.recv(100).decode().split())
print(json.dumps(said))
"""


def serving(lab, node, asked, *ports):
    """TCP and UDP servers in a node, for this many questions."""
    return background(lab, node, SERVE, asked, *ports)


def pinged(lab, node, target):
    done = lab.exec(node, ["ping", "-c", "2", "-i", "0.3", "-W", "3", target])
    return " 2 received" in done.stdout


@contextlib.contextmanager
def on_the_way(lab, edges, asker, client, directly):
    """Expects packets between these two customer edges on the wire: from one to the other, or each to and from a border relay."""
    one, other, relay = edges[asker]["map_address"], edges[client]["map_address"], edges[asker]["br_address"]
    with captures(lab, {(host, "isp"): "ip6 proto 4" for host in (EDGE_OF[asker], *RELAYS)}) as seen:
        yield
    lines = lines_of(seen)
    straight = [any(f"{source} > {destination}" in line for line in lines) for source, destination in ((one, other), (other, one))]
    relayed = [any(f"{source} > {destination}" in line for line in lines) for source, destination in ((one, relay), (relay, other))]
    assert (straight, relayed) == ([directly] * 2, [not directly] * 2), lines


def test_two_customer_edges_of_one_address_reach_each_other(lab, edges, carriers, forwarded):
    """TCP, UDP and an ICMP error. A ping cannot: the identifier that the NAPT chooses leads back to the edge that sends it."""
    asker, (client, port, own_port) = edges.pair[0], forwarded
    shared = edges[client]["ipv4_address"]
    assert {asker, client} == set(edges.pair)
    with on_the_way(lab, edges, asker, client, carriers[EDGE_OF[asker]] == MESH), serving(lab, client, 2, own_port):
        said = python(lab, asker, ASK, json.dumps([[shared, port, 0]]))
    assert len(said) == 2
    for host, number in said:
        assert host == shared and edges.has(asker, int(number)), said
    closed = ("import json, socket; u = socket.socket(2, 2); u.settimeout(15); u.connect(('%s', %d)); u.send(b'x')\n"
              "try: u.recv(1)\nexcept OSError as exc: print(json.dumps(type(exc).__name__))" % (shared, port))
    assert python(lab, asker, closed) == "ConnectionRefusedError"


@pytest.fixture(scope="module")
def routed(edges):
    """The client with a public address of its own."""
    return next(client for client in CLIENTS if edges[client]["ipv4_prefix"])


@pytest.mark.parametrize("size", [9, 3000])
def test_a_mesh_of_three_customer_edges_needs_no_relay(lab, edges, carriers, forwarded, routed, size):
    """Between those that share an address and the one with a prefix: TCP, datagrams in one packet and in fragments, a ping."""
    client, port, own_port = forwarded
    assert {carriers[EDGE_OF[each]] for each in (*edges.pair, routed)} == {MESH}
    for asker, host, target, inside in (
            (edges.pair[0], client, (edges.public(client), port), own_port), (edges.pair[0], routed, (edges.public(routed), 8080), 8080),
            (edges.pair[1], routed, (edges.public(routed), 8080), 8080), (routed, client, (edges.public(client), port), own_port)):
        with on_the_way(lab, edges, asker, host, True), serving(lab, host, 2, inside):
            said = python(lab, asker, ASK, json.dumps([[*target, 0]]), size)
        for source, number in said:
            assert source == edges.public(asker) and edges.has(asker, int(number)), said
    assert pinged(lab, edges.pair[0], edges.public(routed))


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


# ---- two relays, and a smaller path -----------------------------------------------------------------------------------


def route_through(lab, *relays):
    """Plays the routing protocol: where the topology has routes with several gateways, only these relays are left."""
    relay_of = {text.split("/")[0]: relay for relay in RELAYS for item in NODES[relay].interfaces for text in item.addresses}
    jobs = []
    for node in NODES.values():
        for destination, *words in (route.split() for route in node.routes if "nexthop" in route):
            gateways = [word for word in words if relay_of.get(word) in relays]
            hops = [word for gateway in gateways for word in ("nexthop", "via", gateway)]
            jobs.append((node.name, ["ip", "route", "replace", destination, *(hops if len(gateways) > 1 else hops[1:])]))
    for done in lab.exec_all(jobs):
        assert done.returncode == 0, done.stderr


# Downloads a megabyte again and again on one connection, 50 kB in a second, until a line comes in.
DOWNLOAD = """
import hashlib, http.client, json, select, socket, sys, time
connection = http.client.HTTPConnection(sys.argv[1])
connection.sock = socket.socket()
connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # or all of it would wait there at once
connection.sock.settimeout(60)
connection.sock.connect((sys.argv[1], 80))
print("ready", flush=True)
done, enough = [], False
while not enough:
    connection.request("GET", "/mb")
    response, body, pause, last = connection.getresponse(), b"", 0.0, time.monotonic()
    while chunk := response.read(10_000):
        pause, last = max(pause, time.monotonic() - last), time.monotonic()
        body += chunk
        enough = enough or bool(select.select([sys.stdin], [], [], 0)[0])
        time.sleep(0 if enough else 0.2)
    done.append({"peer": response.headers["X-Peer"], "socket": "%s:%d" % connection.sock.getsockname(),
                 "sha256": hashlib.sha256(body).hexdigest(), "pause": pause})
print(json.dumps(done))
"""
FETCH = """
import hashlib, json, sys, urllib.request
print(json.dumps(hashlib.sha256(urllib.request.urlopen("http://%s/mb" % sys.argv[1], timeout=60).read()).hexdigest()))
"""


def carrying(lab, edge, relays):
    """Those of the relays that pass packets down to the customer edge; waits for the first, since TCP is silent for a while after a loss."""
    deadline, found = time.monotonic() + 60, []
    while not found and time.monotonic() < deadline:
        with captures(lab, {(relay, "isp"): f"ip6 dst {edge['map_address']} and ip6 proto 4" for relay in relays}) as seen:
            time.sleep(2)
        found = [relay for relay in relays if len(seen[relay, "isp"].lines) > 10]
    return found


def test_killing_a_relay_loses_no_connection(lab, edges, megabyte):
    """Every client downloads; the relay that carries c1's download dies; routes move; all of them go on."""
    with contextlib.ExitStack() as stack:
        downloads = {client: stack.enter_context(background(lab, client, DOWNLOAD, SERVER)) for client in CLIENTS}
        carriers = carrying(lab, edges["c1"], RELAYS)
        assert len(carriers) == 1, carriers
        dead, = carriers
        survivor, = set(RELAYS) - {dead}
        stack.callback(lab.up)
        lab.kill(dead)
        time.sleep(2)
        route_through(lab, survivor)
        assert carrying(lab, edges["c1"], [survivor]) == [survivor]
        for download in downloads.values():
            download.stdin.write("enough\n")
            download.stdin.flush()
        results = {client: json.loads(download.stdout.readline()) for client, download in downloads.items()}
    print(f"{dead} died; the longest pause in s:", {client: round(max(one["pause"] for one in done), 1) for client, done in results.items()})
    for client, done in results.items():
        assert {one["sha256"] for one in done} == {megabyte}
        ends = {(one["peer"], one["socket"]) for one in done}
        assert len(ends) == 1, f"more than one connection: {ends}"
    assert max(one["pause"] for one in results["c1"]) > 2, "nothing was lost: the wrong relay was killed"

    route_through(lab, dead)
    with ThreadPoolExecutor() as pool:
        again = [pool.submit(python, lab, client, FETCH, SERVER) for client in CLIENTS]
        assert [job.result() for job in again] == [megabyte] * len(CLIENTS)
    route_through(lab, *RELAYS)


# Sends a datagram that gets a longer answer until one comes back whole.
LONG_ANSWER = """
import json, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(4)
udp.connect((sys.argv[1], 5353))
for attempt in range(1, 6):
    udp.send(bytes(1400))
    try:
        print(json.dumps([attempt, udp.recv(2000).split(b" ", 1)[1] == bytes(1400)]))
        break
    except TimeoutError:
        pass
"""


def test_a_smaller_mtu_on_the_way_is_learned(lab, edges, megabyte):
    """Another host plays a router between relays and c1's customer edge whose next link takes 1400 bytes.

    Its "packet too big" goes to the anycast address of the relays; either one tells the server what fits inside.
    """
    prefix, edge, router = edges["c1"]["end_user_prefix"], address(EDGE_OF["c1"], "isp", 6), EDGE_OF["c3"]
    asked = ["ip", "route", "get", edges.public("c1"), "from", SERVER]
    forget = [(SERVER_NODE, ["ip", "route", "flush", "cache"])]
    narrow = [(router, ["ip", "-6", "route", "add", prefix, "via", edge, "mtu", "lock", "1400"])]
    widen = [(router, ["ip", "-6", "route", "delete", prefix, "via", edge])] + [(relay, ["ip", "-6", "route", "flush", "cache"]) for relay in RELAYS]

    def via(gateway):
        return [(relay, ["ip", "-6", "route", "replace", prefix, "via", gateway]) for relay in RELAYS]

    for done in lab.exec_all(forget + narrow + via(address(router, "isp", 6))):
        assert done.returncode == 0, done.stderr
    try:
        assert "mtu" not in lab.exec(SERVER_NODE, asked).stdout
        assert python(lab, "c1", FETCH, SERVER) == megabyte
        assert " mtu 1360" in lab.exec(SERVER_NODE, asked).stdout
        lab.exec_all(forget)
        attempts, intact = python(lab, "c1", LONG_ANSWER, SERVER)
        assert intact and attempts > 1, "the first answer should have been too long for the link"
    finally:
        lab.exec_all(via(edge) + widen + forget)
