# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flows through a customer edge that reloads: those whose port is still ours live on, the others are forgotten.

A host of the LAN, the router and a server, with a bridge in the place of the tunnel; the server talks to its other end.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import flows

MAPE = {**role_variables.MAPE_CASES["shared"], "lan_addresses": ["192.168.0.1/24"], "wan_gateway": ""}
OFFSET_4 = copy.deepcopy(MAPE["domain"])
OFFSET_4["rules"][0]["psid_offset"] = 4
WEB = {"port": 1232, "to_address": "192.168.0.10", "to_port": 80}
ROUTER = """
ip link add isp type veth peer name isp-peer
ip link set isp-peer up; ip link set isp up
ip netns add host; ip netns add server
ip link add lan type veth peer name eth0 netns host
ip addr add 192.168.0.1/24 dev lan
ip link set lan up
ip -n host addr add 192.168.0.10/24 dev eth0
ip -n host link set eth0 up
ip -n host route add default via 192.168.0.1
ip -n server link set lo up
"""
# Once the instance is up: the other end of its "tunnel".
TUNNEL = """
ip link add tun-port type veth peer name eth0 netns server
ip link set tun-port master ce-tun up
ip -n server addr add 198.51.100.1/24 dev eth0
ip -n server link set eth0 up
ip -n server route add 192.0.2.18 dev eth0
ip -n server neigh add 192.0.2.18 lladdr $(cat /sys/class/net/ce-tun/address) dev eth0
ip neigh add 198.51.100.1 lladdr $(ip netns exec server cat /sys/class/net/eth0/address) dev ce-tun
"""
# Echoes TCP and UDP, and says who spoke.
SERVER = """
import socket, threading
def tcp():
    listener = socket.create_server(("198.51.100.1", 7))
    print("ready", flush=True)
    while True:
        connection, peer = listener.accept()
        print("tcp", peer, flush=True)
        while True:
            data = connection.recv(100)
            if not data:
                break
            connection.sendall(data)
threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("198.51.100.1", 7))
seen = set()
while True:
    data, peer = udp.recvfrom(100)
    if peer not in seen:
        print("udp", peer, flush=True)
    seen.add(peer)
    udp.sendto(data, peer)
"""
# One TCP connection and one UDP socket that speak all the time, until the standard input ends; then what was lost.
CLIENT = """
import json, select, socket, sys
tcp = socket.create_connection(("198.51.100.1", 7), timeout=5)
tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(2)
udp.connect(("198.51.100.1", 7))
sent = lost = 0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    sent += 1
    word = b"%099d;" % sent
    udp.send(word)
    tcp.sendall(word)
    got = b""
    while len(got) < len(word):
        got += tcp.recv(100)
    assert got == word
    try:
        while udp.recv(100) != word:
            pass
    except TimeoutError:
        lost += 1
    if sent == 1:
        print("flowing", flush=True)
print(json.dumps({"sent": sent, "lost": lost}))
"""


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER)
    return sandbox


@pytest.fixture
def started(router):
    """Starts Python programs in namespaces, and ends them."""
    programs = []

    def start(namespace, text):
        program = subprocess.Popen(
            ["nsenter", "-t", router.process, "-n", "-m", "ip", "netns", "exec", namespace, "python3", "-c", text],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def install(router, **changes):
    files, = role_variables.ce_generations(**{**MAPE, **changes}).values()
    return router.install(files)


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
@pytest.mark.parametrize("moving", [False, True], ids=["they stay", "they move"])
def test_established_flows_survive_reloads(moving, napt_namespace, router, started):
    layout = {"napt_namespace": napt_namespace}
    router.softwire(install(router, **layout), "up")
    router.sh(TUNNEL)
    server = started("server", SERVER)
    assert server.stdout.readline() == "ready\n"
    # What is forwarded or reserved below, and the last ports, whose indexes take the places of those.
    moved = {1232, 1233, 2256, 2257, 2258, 64720, 64721, 64722, 64723}
    used, client = moved, None
    while set(used) & moved:
        if client:
            client.communicate("\n", timeout=10)
        client = started("host", CLIENT)
        assert client.stdout.readline() == "flowing\n", client.stderr.read()
        used = [int(server.stdout.readline().rstrip(")\n").split()[-1]) for _flow in ("tcp", "udp")]
    first, second = used if moving else (1232, 1233)
    reloads = 20 if moving else 50
    for number in range(reloads):
        forwards = [{**WEB, "port": first, "protocol": "tcp"}, {**WEB, "port": 2256 + number % 3}][: number % 3]
        generation = install(router, port_forwards=forwards, reserved_ports=[second][: number % 2], **layout)
        assert router.softwire(generation, "reload").stderr == ""
    out, err = client.communicate("\n", timeout=10)
    assert err == ""
    counted = json.loads(out)
    assert counted["sent"] > reloads
    # What moves is held for the time of a reload.
    assert counted["lost"] <= (reloads if moving else 0)
    server.kill()
    assert server.stdout.read() == ""  # nobody came from another port


def remember_ping(router, where, index):
    """A ping of the router itself on an index."""
    key = ["--icmp-type", "8", "--icmp-code", "0", "--icmp-id", index]
    router.run(*where, "conntrack", "-I", "-p", "icmp", "-s", "192.0.2.18", "-d", "198.51.100.1", *key, "--timeout", "100")


def remember(router, where, *, source=("192.168.0.10", 5000), index=None, protocol="udp", dnat=None):
    """An entry of conntrack as the NAPT makes it: a flow from inside on an index, or one from outside to a forwarded port."""
    if dnat:
        flow = ["-s", "198.51.100.1", "--sport", source[1], "-d", "192.0.2.18", "--dport", dnat[0],
                "-r", dnat[1], "--reply-port-src", dnat[2], "-q", "198.51.100.1", "--reply-port-dst", source[1]]
    else:
        flow = ["-s", source[0], "--sport", source[1], "-d", "198.51.100.1", "--dport", "53",
                "-r", "198.51.100.1", "--reply-port-src", "53", "-q", "192.0.2.18", "--reply-port-dst", index]
    state = ["--state", "ESTABLISHED"] if protocol == "tcp" else []
    router.run(*where, "conntrack", "-I", "-p", protocol, *flow, "--timeout", "1000", *state, "-u", "SEEN_REPLY,ASSURED")


def remembered(router, where):
    """{source port (or identifier): what the NAPT gave it} of the flows there are."""
    listing = router.run(*where, "conntrack", "-L", "-f", "ipv4").stdout.splitlines()
    # Not the kernel's own multicast memberships.
    found = (re.findall(r"(?:sport| id)=(\d+).* (?:dport|id)=(\d+)", line) for line in listing)
    return {int(source): int(index) for [(source, index)] in filter(None, found)}


def index_of(port, **changes):
    files, = role_variables.ce_generations(**{**MAPE, **changes}).values()
    ports, _services = flows.ports_and_services(files["main/flows" if changes.get("napt_namespace") == "" else "napt/flows"].encode())
    return {port: index for index, port in ports.items()}[port]


def indexes(ports, **changes):
    return {source: index_of(port, **changes) for source, port in ports.items()}


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_flows_follow_their_ports(napt_namespace, router):
    where = ["ip", "netns", "exec", "napt"] if napt_namespace else []
    layout = {"napt_namespace": napt_namespace}
    router.softwire(install(router, **layout), "up")
    last = 63 * 1024 + 52 * 4 + 3
    ports = dict(enumerate((1232, 1233, 30928, last - 1, last), 5000))
    for source, port in ports.items():
        remember(router, where, source=("192.168.0.10", source), index=index_of(port, **layout), protocol=("tcp", "udp")[source % 2])
    ports[index_of(last, **layout)] = last
    remember_ping(router, where, index_of(last, **layout))
    assert remembered(router, where) == indexes(ports, **layout)
    # 1232 and 1233 are forwarded now, and the last ports take the places that they had among the indexes.
    for forwards in ([WEB], [WEB, {**WEB, "port": 1233}], [{**WEB, "port": last}], []):
        assert router.softwire(install(router, port_forwards=forwards, **layout), "reload").stderr == ""
        assert remembered(router, where) == indexes(ports, port_forwards=forwards, **layout)


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_connections_from_outside_end_with_their_forward(napt_namespace, router):
    where = ["ip", "netns", "exec", "napt"] if napt_namespace else []
    layout = {"napt_namespace": napt_namespace}
    router.softwire(install(router, port_forwards=[WEB], **layout), "up")
    for number, forward in enumerate(((1232, "192.168.0.10", 80), (1232, "192.168.0.10", 80)), 7000):
        remember(router, where, source=("198.51.100.1", number), dnat=forward, protocol=("tcp", "udp")[number % 2])
    # another forward moves no established one
    more = [WEB, {"port": 2256, "to_address": "192.168.0.11", "to_port": 22, "protocol": "tcp"}]
    assert router.softwire(install(router, port_forwards=more, **layout), "reload").stderr == ""
    assert set(remembered(router, where)) == {7000, 7001}
    # TCP of the first one leads elsewhere now
    other = [{**WEB, "protocol": "udp"}, {**WEB, "protocol": "tcp", "to_port": 81}, more[1]]
    assert router.softwire(install(router, port_forwards=other, **layout), "reload").stderr == ""
    assert set(remembered(router, where)) == {7001}
    assert router.softwire(install(router, **layout), "reload").stderr == ""
    assert remembered(router, where) == {}


def test_another_port_set_forgets_all_of_this_address_and_no_other(router):
    router.softwire(install(router, napt_namespace=""), "up")
    remember(router, [], source=("192.168.0.10", 5000), index=index_of(1233, napt_namespace=""))
    router.run("conntrack", "-I", "-p", "udp", "-s", "192.168.0.10", "-d", "192.168.0.1", "--sport", "6000", "--dport", "53", "--timeout", "100")
    assert router.softwire(install(router, napt_namespace="", domain=OFFSET_4), "reload").stderr == ""
    assert set(remembered(router, [])) == {6000}


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_a_full_address_keeps_its_flows_when_forwards_come_and_go(napt_namespace, router):
    where = ["ip", "netns", "exec", "napt"] if napt_namespace else []
    full = {**role_variables.MAPE_CASES["full_address"], "napt_namespace": napt_namespace}
    router.softwire(install(router, **full), "up")
    remember(router, where, index=1232)
    assert router.softwire(install(router, **full, port_forwards=[WEB]), "reload").stderr == ""
    remember(router, where, source=("198.51.100.1", 7000), dnat=(1232, "192.168.0.10", 80))
    assert router.softwire(install(router, **full), "reload").stderr == ""
    assert remembered(router, where) == {5000: 1232}
