"""The network under test, as its topology file has it; scripts and tcpdump in its nodes."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shlex
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from labkit import Lab  # noqa: E402

LAB = Lab()
NODES = LAB.topology.nodes
RELAYS = [node.name for node in NODES.values() if node.group == "map_br"]
SERVER_NODE = next(node.name for node in NODES.values() if node.server)
NEXT_HEADER_IPV4 = 4
JOOL = {"jool_siit", "jool_mapt"}


def address(node, interface, version):
    """The (first) address of a node's interface."""
    found = next(item for item in NODES[node].interfaces if item.name == interface)
    addresses = [ipaddress.ip_interface(text).ip for text in found.addresses]
    return str(next(item for item in addresses if item.version == version))


def mac(node, interface):
    return next(item.mac for item in NODES[node].interfaces if item.name == interface)


# Each client and the host of its customer edge.
EDGE_OF = LAB.topology.edges
CLIENTS = tuple(EDGE_OF)
SERVER, SERVER6 = (address(SERVER_NODE, "inet", version) for version in (4, 6))


def gateway(client):
    """The client's IPv4 router."""
    routes = [route.split() for route in NODES[client].routes]
    return next(route[2] for route in routes if "." in route[2])


class Edges(dict):
    """The ce dict of each customer edge by the name of its client."""

    def network(self, client):
        """The IPv4 address or prefix of its customer edge."""
        return ipaddress.ip_network(self[client]["ipv4_prefix"] or self[client]["ipv4_address"])

    def public(self, client):
        """The address by which the internet knows the client: the shared one, or its own."""
        return self[client]["ipv4_address"] or address(client, "lan", 4)

    @property
    def shared(self):
        """The clients behind a shared address."""
        return [client for client in self if self[client]["psid"] is not None]

    @property
    def pair(self):
        """Two clients behind one shared address."""
        return next((one, two) for one in self.shared for two in self.shared
                    if one < two and self[one]["ipv4_address"] == self[two]["ipv4_address"])

    def has(self, client, number):
        """Whether a port or identifier is in the port set of the client's customer edge."""
        return any(low <= number <= high for low, high in self[client]["port_ranges"])

    def owner(self, text, number=None):
        """The client that has this IPv4 address and port (None: unknown), or None; without a port one of those that may."""
        for client in self:
            if ipaddress.ip_address(text) in self.network(client) and (number is None or self.has(client, number)):
                return client
        return None


def python(lab, node, script, *arguments, timeout=300):
    """Runs a script in a node; what it printed, from JSON."""
    done = lab.exec(node, ["python3", "-", *map(str, arguments)], input=script, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def background(lab, node, script, *arguments):
    """Runs a script in a node beside the block, from the moment it says "ready"; it has to end by itself."""
    argv = lab.exec_argv(node, ["python3", "-u", "-c", script, *map(str, arguments)])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield process
            assert process.wait(timeout=120) == 0, process.stderr.read()
        finally:
            process.kill()


class Captured:
    """What tcpdump saw: `lines` as it prints them, `frames` as they are."""

    def __init__(self, lab, node, file, options):
        self.lines = lab.exec(node, ["sh", "-c", f"tcpdump -n -t {options} -r {file} 2>/dev/null"], timeout=300).stdout.splitlines()
        self._read = lambda: lab.exec(node, ["cat", file], input=b"", timeout=300).stdout

    @property
    def frames(self):
        data, offset = self._read(), 24
        while offset < len(data):
            length = struct.unpack_from("<8xI4x", data, offset)[0]
            yield data[offset + 16:offset + 16 + length]
            offset += 16 + length


@contextlib.contextmanager
def captures(lab, wanted, options=""):
    """Captures while the block runs; wanted: {(node, interface): expression}.

    Gives a dict that afterwards has what each place saw.
    """
    seen = {}

    def start(place):
        file = file_of(place)
        # Not a unit of systemd's: that takes seconds on an emulated CPU.
        tcpdump = f"tcpdump -U -n -i {place[1]} -w {file} {shlex.quote(wanted[place])}"
        return place[0], ["sh", "-c", (
            f"setsid {tcpdump} > {file}.log 2>&1 < /dev/null & echo $! > {file}.pid; "
            f"for i in $(seq 600); do grep -q listening {file}.log && exit; sleep 0.1; done; cat {file}.log; exit 1")]

    def stop(place):
        pid = f"$(cat {file_of(place)}.pid)"
        return place[0], ["sh", "-c", f"kill -INT {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done"]

    done = lab.exec_all([start(place) for place in wanted])
    assert not [run for run in done if run.returncode], [run.stdout for run in done]
    try:
        yield seen
        time.sleep(1)
    finally:
        lab.exec_all([stop(place) for place in wanted])
    with ThreadPoolExecutor(len(wanted)) as pool:
        results = pool.map(lambda place: Captured(lab, place[0], file_of(place), options), wanted)
        seen.update(zip(wanted, results))


def file_of(place):
    return f"/run/capture-{place[1]}.pcap"


def lines_of(seen):
    return [line for captured in seen.values() for line in captured.lines]


def udp_to(*ports):
    """A capture filter: UDP to one of these ports, in the outer or, encapsulated, in the inner IPv4 header."""
    each = " or ".join(f"udp dst port {port} or (ip6[6] == {NEXT_HEADER_IPV4} and ip6[49] == 17 and ip6[62:2] == {port})" for port in ports)
    return f"ip6 and ({each})"
