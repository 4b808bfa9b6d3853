"""The network forwards: every claim is made of packets, from all clients at once and from one source port."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import CLIENTS as EDGE_OF

SERVER = "203.0.113.56"
CLIENTS = tuple(EDGE_OF)
SOURCE_PORT = 40000
MEGABYTE = hashlib.sha256(random.Random(7597).randbytes(1_000_000)).hexdigest()
CLIENT_SCRIPT = (Path(__file__).parent / "client.py").read_text()
IPV4_MTU = {"map-t": 1480, "map-e": 1460}
SERVER_IN_DMR = "64:ff9b::cb00:7138"


class Capture:
    """tcpdump in a node while the block runs; afterwards, the lines it prints."""

    def __init__(self, lab, node, interface, expression, options=""):
        self.lab, self.node, self.lines = lab, node, []
        self.unit = f"capture-{interface}"
        self.options = options
        self.file = f"/run/{self.unit}.pcap"
        self.start = f"tcpdump -U -n -i {interface} -w {self.file} {shlex.quote(expression)}"

    def __enter__(self):
        self._sh(f"systemctl reset-failed {self.unit} 2>/dev/null; systemd-run -q --unit={self.unit} {self.start}; "
                 f"for i in $(seq 50); do journalctl -q -u {self.unit} -o cat -n 5 | grep -q listening && break; sleep 0.2; done")
        return self

    def __exit__(self, *exc):
        time.sleep(1)
        done = self._sh(f"systemctl stop {self.unit}; tcpdump -n -t {self.options} -r {self.file} 2>/dev/null")
        self.lines = done.stdout.splitlines()

    def _sh(self, script):
        return self.lab.exec(self.node, ["sh", "-c", script], timeout=60)


def in_set(port, edge):
    return any(low <= port <= high for low, high in edge["port_ranges"])


@pytest.fixture(scope="module")
def traffic(lab):
    """Every client's battery, all at the same time, with captures at the server and on the border relay's IPv6 side."""
    # Without offload the ends compute and check every checksum, and the capture shows the real ones.
    ends = [(client, "lan") for client in CLIENTS] + [("s", "inet")]
    for done in lab.exec_all([(node, ["ethtool", "-K", device, "tx", "off"]) for node, device in ends]):
        assert done.returncode == 0, done.stderr
    # Two clients are one address to the server: its limit of errors per destination would hit them.
    assert lab.exec("s", ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]).returncode == 0
    with Capture(lab, "s", "inet", "ip src net 192.0.2.0/24") as at_server, \
            Capture(lab, "br", "isp", "tcp or udp or icmp or icmp6 or ip6", "-v") as at_relay:
        start = float(lab.exec("s", ["date", "+%s"]).stdout) + 5

        def battery(client):
            return lab.exec(client, ["python3", "-", SERVER, str(SOURCE_PORT), str(start)], input=CLIENT_SCRIPT, timeout=240)

        with ThreadPoolExecutor(len(CLIENTS)) as pool:
            done = dict(zip(CLIENTS, pool.map(battery, CLIENTS)))
    for client, run in done.items():
        print(client, run.stderr)
        assert run.returncode == 0, run.stderr
    results = {client: json.loads(run.stdout) for client, run in done.items()}
    return {"results": results, "at_server": at_server.lines, "at_relay": at_relay.lines}


@pytest.fixture(scope="module")
def transport(edges):
    return edges["c1"]["transport"]


def of(traffic, client, check):
    result = traffic["results"][client][check]
    assert not (isinstance(result, str) and result.startswith("failed")), result
    return result


def assert_peer(peer, edge):
    address, port = peer.rsplit(":", 1)
    assert address == edge["ipv4_address"]
    assert in_set(int(port), edge), f"{peer} is outside {edge['port_ranges']}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_megabyte_comes_and_goes_unharmed(traffic, edges, client):
    result = of(traffic, client, "download_and_upload")
    assert (result["length"], result["sha256"]) == (1_000_000, MEGABYTE)
    assert result["put"][1:] == ["1000000", MEGABYTE]
    assert_peer(result["peer"], edges[client])


@pytest.mark.parametrize("client", CLIENTS)
def test_udp(traffic, edges, client):
    result = of(traffic, client, "udp_small")
    assert result["intact"]
    assert_peer(result["peer"], edges[client])


@pytest.mark.parametrize("client", CLIENTS)
def test_udp_in_fragments(traffic, edges, client):
    result = of(traffic, client, "udp_fragments")
    assert result["intact"]
    assert_peer(result["peer"], edges[client])


@pytest.mark.parametrize("client", CLIENTS)
def test_ping(traffic, client):
    assert of(traffic, client, "ping") == 3


@pytest.mark.parametrize("client", CLIENTS)
def test_port_unreachable_comes_back(traffic, client):
    assert of(traffic, client, "port_unreachable") == "ConnectionRefusedError"


@pytest.mark.parametrize("client, host", EDGE_OF.items())
def test_time_exceeded_comes_back(traffic, inventory, transport, client, host):
    """The NAPT, the softwire where it is in another namespace, and the border relay, whose address IPv4 may not know.

    A translator in a namespace of its own hands the packet back to the main one, which is a hop more.
    """
    hops = of(traffic, client, "traceroute")
    namespace = bool(inventory[host]["namespace"])
    expected = {("map-t", True): 4, ("map-t", False): 5, ("map-e", True): 4, ("map-e", False): 3}[transport, namespace]
    assert hops[0] == "192.168.0.1"
    assert len(hops) == expected and "*" not in hops, hops
    assert hops[-1] == SERVER


@pytest.mark.parametrize("client", CLIENTS)
def test_path_mtu_discovery(traffic, transport, client):
    assert of(traffic, client, "path_mtu") == {"refused_with_mtu": IPV4_MTU[transport], "what_fits": True}


@pytest.mark.parametrize("client", CLIENTS)
def test_native_ipv6_is_kept(traffic, client):
    assert of(traffic, client, "native_ipv6") is True


def test_the_server_sees_only_ports_and_ids_of_the_port_sets(traffic, edges):
    sets = {}
    for edge in edges.values():
        sets.setdefault(edge["ipv4_address"], []).extend(edge["port_ranges"])
    seen = {"port": 0, "id": 0}
    for line in traffic["at_server"]:
        port = re.match(r"IP (\d+\.\d+\.\d+\.\d+)\.(\d+) > ", line)
        identifier = re.match(r"IP (\d+\.\d+\.\d+\.\d+) > \S+ ICMP echo request, id (\d+)", line)
        found = port or identifier
        if found:
            seen["port" if port else "id"] += 1
            address, number = found.group(1), int(found.group(2))
            assert any(low <= number <= high for low, high in sets[address]), line
    assert seen["port"] > 300 and seen["id"] >= 9, seen


def test_clients_on_one_address_use_their_own_ports(traffic):
    first, third = (of(traffic, client, "udp_small")["peer"] for client in ("c1", "c3"))
    assert first.split(":")[0] == third.split(":")[0]
    assert first != third


def test_between_edge_and_relay_there_is_only_the_softwire(traffic, edges, transport):
    """On the IPv6 side every packet of a client is IPv6 between its own MAP address and the DMR or the border relay."""
    far_end = SERVER_IN_DMR if transport == "map-t" else edges["c1"]["br_address"]
    ours = {edge["map_address"]: edge for edge in edges.values()}
    softwire = [line for line in traffic["at_relay"] if re.search(rf"\b{far_end}\b", line)]
    assert len(softwire) > 600
    for line in softwire:
        pair = re.search(r"(\S+?)(?:\.(\d+))? > (\S+?)(?:\.(\d+))?: ", line)
        if pair is None or far_end not in pair.group(1, 3):
            continue  # the rest of a packet that takes two lines
        outgoing = pair.group(3) == far_end
        assert pair.group(1 if outgoing else 3) in ours, line
        inner = re.search(r"(192\.0\.2\.\d+)\.(\d+) > |> (192\.0\.2\.\d+)\.(\d+): ", line)
        edge = ours[pair.group(1 if outgoing else 3)]
        port = inner and (inner.group(2) or inner.group(4)) or pair.group(2 if outgoing else 4)
        assert port is None or in_set(int(port), edge), line
    assert not [line for line in traffic["at_relay"] if re.match(r"IP \(", line)], "IPv4 on the IPv6-only side"
    wrong = [line for line in softwire if "bad udp cksum" in line or "(incorrect" in line or "bad icmp6 cksum" in line]
    assert wrong == [], "wrong checksums"


def test_a_forwarded_port_is_reached_across_the_relay(lab, edges, inventory):
    """c1 connects to the port of CE 774 that leads to c2."""
    edge = edges["c2"]
    port = inventory["ce774"]["port_forwards"][0]["port"]
    serve = ("import socket; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('', 8080)); s.listen(); s.settimeout(40)\n"
             "c, peer = s.accept(); c.sendall(('welcome %s' % peer[0]).encode()); c.close()")
    ask = f"import socket; print(socket.create_connection(('{edge['ipv4_address']}', {port}), 20).recv(100).decode())"
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(lab.exec, "c2", ["python3", "-c", serve], timeout=60)
        deadline = time.monotonic() + 20
        while "8080" not in lab.exec("c2", ["ss", "-Hltn"]).stdout and time.monotonic() < deadline:
            time.sleep(0.5)
        done = lab.exec("c1", ["python3", "-c", ask])
        assert server.result().returncode == 0, server.result().stderr
    assert done.stdout.strip() == f"welcome {edges['c1']['ipv4_address']}", done.stderr


@pytest.mark.parametrize("client, host", [("c1", "ce11b"), ("c2", "ce774")])
def test_an_unsolicited_packet_is_seen_once(lab, edges, client, host):
    edge = edges[client]
    port = edge["port_ranges"][-1][1]
    send = f"import socket; socket.socket(2, 2).sendto(b'unsolicited', ('{edge['ipv4_address']}', {port}))"
    # The last port of the set's last range, in the outer or, encapsulated, in the inner header.
    on_wire = f"ip6 and (udp dst port {port} or (ip6[6] == 4 and ip6[62:2] == {port}))"
    with Capture(lab, "br", "isp", on_wire) as outside, Capture(lab, host, "any", f"ip and udp dst port {port}") as inside:
        assert lab.exec("s", ["python3", "-c", send]).returncode == 0
        time.sleep(2)
    assert len(outside.lines) == 1, outside.lines
    # Once per link of the edge that it passes; going round, it would be there until its TTL ends.
    assert 1 <= len(inside.lines) <= 3, inside.lines


def test_a_port_outside_every_set_never_reaches_an_edge(lab):
    """PSID 27 of 192.0.2.200: no customer edge has this prefix, the network drops it."""
    with Capture(lab, "ce11b", "isp", "ip6 and udp dst port 55555 and net 64:ff9b::/96") as seen:
        send = "import socket; socket.socket(2, 2).sendto(b'nobody', ('192.0.2.200', 55555))"
        assert lab.exec("s", ["python3", "-c", send]).returncode == 0
        time.sleep(1)
    assert seen.lines == []


FORGE = """
import json, sys
from scapy.all import IP, IPv6, UDP, send, conf
conf.verb = 0
relay = sys.argv[2]
for outer, inner, port in json.loads(sys.argv[1]):
    datagram = UDP(sport=port, dport=5353) / b"forged"
    if relay:
        datagram = IP(src=inner, dst="203.0.113.56") / datagram
    send(IPv6(src=outer, dst=relay or "64:ff9b::cb00:7138") / datagram)
"""


def test_the_relay_drops_forged_sources(lab, edges):
    """From c1's customer edge: foreign ports, another edge's address, zero identifiers; one good packet as the control."""
    mine, other = edges["c1"], edges["c3"]
    outer, inner, port = mine["map_address"], mine["ipv4_address"], mine["port_ranges"][0][0]
    good = (outer, inner, port + 7)
    forged = [
        (outer, inner, other["port_ranges"][0][0] + 7),
        (other["map_address"], inner, port + 8),
        ("2001:db8:ce:11b::", inner, port + 9),
        ("2001:db8:ce:11b:0:c000:209:1b", inner, port + 10),
        ("64:ff9b:1:ffff::c000:208", inner, port + 11),
        (outer, "198.51.100.8", port + 12) if mine["br_address"] else ("2001:db8:6::11b", inner, port + 12),
    ]
    with Capture(lab, "s", "inet", "udp dst port 5353") as seen:
        done = lab.exec("ce11b", ["python3", "-c", FORGE, json.dumps([*forged, good]), mine["br_address"] or ""], timeout=120)
        assert done.returncode == 0, done.stderr
        time.sleep(2)
    assert len(seen.lines) == 1, seen.lines
    assert f"{inner}.{good[2]} > " in seen.lines[0]
