"""Forged packets do not arrive, each is counted by the counter that names the reason, and what looks like them does arrive."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import sys
import time
from collections import Counter
from pathlib import Path

import forge
import pytest
from nodes import CLIENTS, EDGE_OF, RELAYS, SERVER, SERVER6, SERVER_NODE, address, captures, mac
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "collections"))

from ansible_collections.softwire.map.plugins.module_utils.routers.bpf_rule import COUNTERS, NAPT_COUNTERS  # noqa: E402

# Reads "interface frame" lines, the frames as hexadecimal numbers from the Ethernet header on.
SENDER = """
import socket, sys, time
sockets = {}
for number, line in enumerate(sys.stdin):
    interface, frame = line.split()
    if interface not in sockets:
        sockets[interface] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sockets[interface].bind((interface, 0))
    sockets[interface].send(bytes.fromhex(frame))
    if number % 20 == 19:
        time.sleep(0.02)  # a queue of an emulated machine is short
"""
IPV4_TYPE, IPV6_TYPE = b"\x08\x00", b"\x86\xdd"
# What is sent by hand at the server gets no answers of its kernel, and what it gets makes none.
QUIET = "add table inet quiet; add chain inet quiet input { type filter hook prerouting priority -500; policy drop; }"
COUNTERS_OF_RELAY = """
for map in /run/softwire/br/bpf/*/maps/counters; do echo "programs $map"; bpftool -j map dump pinned $map; echo; done
nft -j list counters
grep ^IpExt /proc/net/netstat
"""
COUNTERS_OF_EDGE = """
for map in /run/softwire/ce/bpf/*/maps/counters; do echo "programs $map"; bpftool -j map dump pinned $map; echo; done
nft -j list counters
for ns in $(ls /run/netns 2>/dev/null); do ip netns exec $ns nft -j list counters; done
"""
FUZZ = {forge.EDGE: 5000, forge.INTERNET: 2500, forge.CLIENT: 1500, forge.NEIGHBOUR: 1000}


class Stage:
    """Who plays which part, and how to reach whom."""

    def __init__(self, lab, edges, carriers):
        self.lab = lab
        self.client, mate = edges.pair
        self.edge, self.mate, self.relay = EDGE_OF[self.client], EDGE_OF[mate], RELAYS[0]
        stranger = next(other for other in edges.shared if edges.network(other) != edges.network(self.client))
        other_br = {edges[client]["br_address"] for client in edges} - {edges[self.client]["br_address"]}
        self.actors = forge.Actors(
            edges[self.client], edges[mate], edges[stranger], SERVER, SERVER6, address(self.client, "lan", 6),
            address(self.relay, "inet", 4), address(self.relay, "isp", 6), min(other_br, default=None),
            carriers[self.edge], carriers[self.relay])
        self.transport = forge.transport(self.actors)

    def way(self, sender):
        """(node, interface, destination MAC) of a sender."""
        return {
            forge.EDGE: (self.edge, "isp", mac(self.relay, "isp")),
            forge.INTERNET: (SERVER_NODE, "inet", mac(self.relay, "inet")),
            forge.NEIGHBOUR: (self.mate, "isp", mac(self.edge, "isp")),
            forge.CLIENT: (self.client, "lan", mac(self.edge, "lan")),
        }[sender]

    def send(self, sender, frames):
        node, interface, destination = self.way(sender)
        head = bytes.fromhex((destination + mac(node, interface)).replace(":", ""))
        types = {4: IPV4_TYPE}  # all else poses as IPv6
        lines = [f"{interface} {(head + types.get(frame[0] >> 4, IPV6_TYPE) + frame).hex()}" for frame in frames]
        done = self.lab.exec(node, ["python3", "-c", SENDER], input="\n".join(lines) + "\n", timeout=600)
        assert done.returncode == 0, done.stderr

    def counters(self):
        """{"relay NAME" or "edge NAME": packets}"""
        found = Counter()
        relay = self.lab.exec(self.relay, ["sh", "-c", COUNTERS_OF_RELAY])
        edge = self.lab.exec(self.edge, ["sh", "-c", COUNTERS_OF_EDGE])
        names = program_counters = None
        for place, line in [("relay", line) for line in relay.stdout.splitlines()] + [("edge", line) for line in edge.stdout.splitlines()]:
            if line.startswith("IpExt"):
                words = line.split()[1:]
                if names is None:
                    names = words
                else:
                    found.update({f"{place} IpExt {name}": int(word) for name, word in zip(names, words)})
            elif line.startswith("{"):
                counters = [entry["counter"] for entry in json.loads(line)["nftables"] if "counter" in entry]
                found.update({f"{place} {counter['name']}": counter["packets"] for counter in counters})
            elif line.startswith("programs "):
                program_counters = NAPT_COUNTERS if "/napt/" in line else COUNTERS
            elif line.startswith("["):
                for entry in json.loads(line):
                    index = int.from_bytes(bytes(int(byte, 16) for byte in entry["key"]), "little")
                    values = [int.from_bytes(bytes(int(byte, 16) for byte in cpu["value"]), "little") for cpu in entry["values"]]
                    found[f"{place} {program_counters[index]}"] += sum(values)
        return found

    def from_the_edges(self, frames):
        """The packets whose IPv4 source is a shared one."""
        shared = {ipaddress.ip_address(actor["ipv4_address"]).packed for actor in (self.actors.edge, self.actors.mate, self.actors.stranger)}
        return [IP(frame[14:]) for frame in frames if frame[12:14] == IPV4_TYPE and frame[26:30] in shared]


@contextlib.contextmanager
def watched(lab):
    """Captures at the server and in front of every client; gives {node: frames that the node itself has not sent}."""
    places = {(SERVER_NODE, "inet"): "ip", **{(client, "lan"): "ip or ip6" for client in CLIENTS}}
    packets = {}
    done = lab.exec(SERVER_NODE, ["nft", QUIET])
    assert done.returncode == 0, done.stderr
    try:
        with captures(lab, places) as seen:
            yield packets
            time.sleep(2)
    finally:
        lab.exec(SERVER_NODE, ["nft", "delete table inet quiet"])
    for (node, interface), captured in seen.items():
        own = bytes.fromhex(mac(node, interface).replace(":", ""))
        packets[node] = [frame for frame in captured.frames if frame[6:12] != own]


@pytest.fixture(scope="module")
def stage(lab, edges, carriers):
    return Stage(lab, edges, carriers)


@pytest.fixture(scope="module")
def kinds(stage):
    return list(stage.transport.forged())


@pytest.fixture(scope="module")
def legit(stage):
    """{(name, its text): frames}"""
    count = len(list(stage.transport.legit(b"")))
    chosen = [(b"legit%02d" % index, list(stage.transport.legit(b"legit%02d" % index))[index]) for index in range(count)]
    return {(name, text): frames for text, (name, *frames) in chosen}


@pytest.fixture(scope="module")
def battery(stage, kinds, legit):
    before = stage.counters()
    with watched(stage.lab) as packets:
        for sender in (forge.EDGE, forge.INTERNET, forge.NEIGHBOUR, forge.CLIENT):
            stage.send(sender, [bytes(frame) for kind in kinds if kind.sender == sender for frame in kind.frames])
        stage.send(forge.EDGE, [bytes(frame) for frames in legit.values() for frame in frames])
    counted = stage.counters()
    counted.subtract(before)
    return {"packets": packets, "counted": counted}


def test_the_battery_is_large(kinds, legit):
    assert len({kind.name for kind in kinds}) == len(kinds) >= 40
    assert len(legit) >= 20
    assert {kind.sender for kind in kinds} == set(FUZZ)


def test_no_forged_packet_arrives(stage, battery):
    for node, frames in battery["packets"].items():
        arrived = [Ether(frame).summary() for frame in frames if forge.TAG in frame]
        assert arrived == [], f"forged packets at {node}"
    others = [frame for frame in battery["packets"][SERVER_NODE] if forge.GOOD not in frame]
    assert [packet.summary() for packet in stage.from_the_edges(others)] == []


def test_each_is_counted_by_its_reason(battery, kinds):
    expected = Counter()
    for kind in kinds:
        if kind.counter:
            expected[kind.counter] += kind.counted
    found = {name: count for name, count in battery["counted"].items()
             if count and (name in expected or "_dropped_" in name)}
    assert found == dict(expected)


def test_every_legitimate_packet_arrives(battery, legit):
    arrived = b"\0".join(battery["packets"][SERVER_NODE])
    assert [name for name, text in legit if text not in arrived] == []


def test_random_packets_kill_and_leak_nothing(stage, legit):
    lab, edge = stage.lab, stage.actors.edge
    log = "dmesg | grep -cE 'BUG:|Oops|WARNING: CPU|Call Trace|KASAN|general protection' || true"
    before = lab.exec(stage.relay, ["sh", "-c", log]).stdout
    outward = [bytes(frame) for frames in legit.values() for frame in frames]
    inward = [bytes(frame) for frame in stage.transport.inward()]
    clients = [bytes(frame) for frame in stage.transport.of_a_client()]
    bases = {forge.EDGE: outward, forge.INTERNET: inward, forge.CLIENT: clients, forge.NEIGHBOUR: outward}
    with watched(stage.lab) as packets:
        for seed, (sender, count) in enumerate(FUZZ.items()):
            stage.send(sender, list(forge.mutations(bases[sender], count, seed)))
    leaked = [packet.summary() for packet in stage.from_the_edges(packets[SERVER_NODE]) if not is_of(packet, edge)]
    assert leaked == []
    server = ipaddress.ip_address(SERVER).packed
    reached = [frame.hex() for frame in packets[stage.client] if frame[12:14] == IPV4_TYPE and frame[26:30] == server]
    assert reached == [], "unsolicited, but at the client"
    assert lab.exec(stage.relay, ["sh", "-c", log]).stdout == before, "the kernel complains"
    for node in (stage.relay, stage.edge, stage.mate):
        failed = lab.exec(node, ["systemctl", "is-failed", "softwire@ce", "softwire@br"]).stdout
        assert "failed" not in failed.split(), node
    page = lab.exec(stage.client, ["curl", "-sS", "-m", "60", "-o", "/dev/null", "-w", "%{size_download}", f"http://{SERVER}/mb"], timeout=90)
    assert page.stdout == "1000000", page.stderr


def is_of(packet, edge):
    """Whether an IPv4 packet is one that this customer edge may send."""
    if packet.src != edge["ipv4_address"]:
        return False
    if packet.frag:
        return True  # no port; the relay has bound it to its first fragment
    if UDP in packet or TCP in packet:
        port = packet[UDP if UDP in packet else TCP].sport
    elif ICMP in packet and packet[ICMP].type in (0, 8):
        port = packet[ICMP].id
    elif ICMP in packet:
        return packet[ICMP].type in (3, 11, 12)
    else:
        return False
    return any(low <= port <= high for low, high in edge["port_ranges"])
