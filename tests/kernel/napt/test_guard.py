# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The border of a whole customer edge with packets, in each layout: what gets in, what gets out, and which counter says why not.

host (the LAN) -- lan [ router ] isp -- isp (the WAN); "tunnel" is the far end of the softwire, "guest" another network of the router.
The tunnel is a bridge here and Jool a script, so nothing is translated or encapsulated: the rules judge packets made by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

import role_variables
import packets
import pytest

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86DD
ROUTER = """
for name in host isp guest tunnel; do ip netns add $name; done
ip link add isp type veth peer name peer netns isp address 02:00:00:00:00:01
ip link add lan type veth peer name peer netns host address 02:00:00:00:00:02
ip link add guest type veth peer name peer netns guest address 02:00:00:00:00:03
ip link add port type veth peer name peer netns tunnel address 02:00:00:00:00:04
for name in host isp guest tunnel; do ip -n $name link set peer up; done
for name in isp lan guest; do ip link set $name up; done
ip addr add 2001:db8:6::2/64 dev isp
ip addr add 192.168.0.1/24 dev lan
ip addr add 2001:db8:12:3400::1/64 dev lan
ip addr add 192.168.77.1/24 dev guest
ip -6 route add default via 2001:db8:6::1 dev isp
ip -6 neigh add 2001:db8:6::1 lladdr 02:00:00:00:00:01 dev isp
# A tunnel has no multicast, but a bridge joins a group.
nft 'add table ip quiet; add chain ip quiet out { type filter hook postrouting priority -400; }; add rule ip quiet out meta l4proto 2 drop'
"""
# A route that someone made by hand, and the tunnel's far end.
AFTERWARDS = """
ip rule add pref 100 iif guest to 203.0.113.0/24 lookup 7598
test ! -e /sys/class/net/ce-tun || {
    # A tunnel of IPv4 has no neighbours and groups of IPv6, but a bridge has.
    sysctl -qw net.ipv6.conf.ce-tun.disable_ipv6=1 net.ipv6.conf.port.disable_ipv6=1
    ip netns exec tunnel sysctl -qw net.ipv6.conf.all.disable_ipv6=1
    ip link set port master ce-tun up
}
"""
BR, OTHER_CE, ELSEWHERE = "2001:db8:ffff::1", "2001:db8:34:5600:0:c000:234:56", "2a00::1"
HOST, HOST6, SERVER = "192.168.0.10", "2001:db8:12:3400::10", "203.0.113.5"
MAP, OWN = "2001:db8:12:3400:0:c000:212:34", "192.0.2.18"
MAPE = {"mape_napt_namespace": "napt", "mape_main": ""}
MESH = {"mesh_napt_namespace": "napt", "mesh_main": ""}
MAPT = {f"{translator}_{layout}": (translator, napt) for translator in ("jool_siit", "jool_mapt")
        for layout, napt in role_variables.LAYOUTS.items()}


class Edge:
    """A customer edge that is up, with sockets at the ends of its links; more: variables beside those of its layout."""

    def __init__(self, sandbox, layout, **more):
        self.sandbox, self.layout = sandbox, layout
        self.napt = "napt" if layout.endswith("napt_namespace") else "main"
        sandbox.sh(ROUTER)
        if layout in {**MAPE, **MESH}:
            variables = {**role_variables.MAPE_CASES["shared"], "napt_namespace": {**MAPE, **MESH}[layout], "mesh": layout in MESH}
        else:
            translator, napt_namespace = MAPT[layout]
            domain = {**role_variables.rule_domain(ea_length=16, fmr=True), "dmr": "64:ff9b::/96"}
            variables = {"domain": domain, "end_user_prefix": "2001:db8:12:3400::/56", "napt_namespace": napt_namespace,
                         "translator": translator, "lan_addresses": ["192.168.0.1/24", "2001:db8:12:3400::1/64"]}
        (files,) = role_variables.ce_generations(**variables, **more).values()
        self.generation = sandbox.install(files)
        assert sandbox.softwire(self.generation, "up").stderr == ""
        sandbox.sh(AFTERWARDS)
        self.sockets = {name: self._socket(name) for name in ("host", "isp", "guest", "tunnel")}
        lan = ["ip", "netns", "exec", self.napt] if self.napt != "main" else []
        sandbox.run(*lan, "ip", "neigh", "add", HOST6, "lladdr", "02:00:00:00:00:02", "dev", "lan")
        self.router = {name: self._address(command, device) for name, command, device in (
            ("host", lan, "lan"), ("isp", [], "isp"), ("guest", [], "guest"))}
        if layout in MAPE:
            self.router["tunnel"] = self._address([], "ce-tun")
        time.sleep(0.1)

    def close(self):
        for opened in self.sockets.values():
            opened.close()

    def _address(self, command, device):
        return self.sandbox.run(*command, "cat", f"/sys/class/net/{device}/address").stdout.strip()

    def _socket(self, namespace):
        with self.sandbox.inside(namespace):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            made.bind(("peer", ETH_P_ALL))
            made.setblocking(False)
            return made

    def counters(self):
        """{table.counter: packets} of the tables, and of the programs what they drop."""
        found = {f"program.{name}": count for name, count in self.sandbox.program_counters(self.generation).items() if "dropped" in name}
        firewall = [("main", "ip6 softwire_ce_ipv6_firewall")] if (self.generation / "main" / "ipv6_firewall.nft").exists() else []
        for namespace, table in (("main", "inet softwire_ce_guard"), (self.napt, "ip softwire_ce_napt"), *firewall):
            command = ["ip", "netns", "exec", namespace] if namespace != "main" else []
            listed = json.loads(self.sandbox.run(*command, "nft", "-j", "list", "counters", "table", *table.split()).stdout)
            for entry in listed["nftables"]:
                if "counter" in entry:
                    found[f"{table.split('_', 2)[2]}.{entry['counter']['name']}"] = entry["counter"]["packets"]
        return found

    def send(self, source, packet):
        """Sends one packet; returns the counters that moved, and whether the packet came out somewhere."""
        before = self.counters()
        for opened in self.sockets.values():
            self._received(opened)
        kind = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
        address = bytes.fromhex(self.router[source].replace(":", ""))
        self.sockets[source].sendto(packet, ("peer", kind, 0, 0, address))
        time.sleep(0.05)
        after = self.counters()
        moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        out = [name for name, opened in self.sockets.items() if any(data[-8:] == packet[-8:] and len(data) == len(packet) for data in self._received(opened))]
        return moved, out

    @staticmethod
    def _received(opened):
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (_device, _protocol, kind, _type, _mac) = opened.recvfrom(65535)
                if kind != socket.PACKET_OUTGOING:
                    packets.append(data)
        return packets


# Each packet ends in eight bytes by which it is known where it comes out.
def ip4(src, dst, sport=1111, dport=80):
    return packets.udp(src, dst, sport, dport, os.urandom(8))


def ip6(src, dst):
    return packets.udp(src, dst, 1111, 80, os.urandom(8))


def tunnelled(src, dst, protocol=packets.IPIP):
    return packets.ipv6(src, dst, protocol, ip4(HOST, SERVER))


def error(router, sender):
    """What a router says of a packet of the sender."""
    return packets.error(router, sender, ip6(sender, router))


@pytest.fixture
def edge(request, sandbox):
    made = Edge(sandbox, request.param)
    yield made
    made.close()


def check(edge, cases):
    """Each case: where a packet comes from, the packet, the one counter that moves, where it comes out."""
    wrong = []
    for what, (source, packet, counter, out) in cases.items():
        moved, came = edge.send(source, packet)
        if moved != ({counter: 1} if counter else {}) or came != out:
            wrong.append(f"{what}: {moved} {came}, not {counter} {out}")
    assert "\n".join(wrong) == ""


def for_all(edge):
    """What is the same with both transports."""
    inner = "napt.inner_address" if edge.napt != "main" else "guard.inner_address"
    return {
        "LAN from the MAP address": ("host", ip6(MAP, ELSEWHERE), "guard.map_address_spoofed", []),
        "WAN from the MAP address": ("isp", ip6(MAP, HOST6), "guard.map_address_spoofed", []),
        # behind a NAPT namespace the address counts as one of the LAN's own network, where nobody has it
        "LAN to the MAP address": ("host", ip6(HOST6, MAP), "guard.not_by_wan" if edge.napt == "main" else None, []),
        "WAN to the MAP address": ("isp", ip6(ELSEWHERE, MAP), "guard.outside_domain", []),
        "WAN, an error about what we sent": ("isp", error(ELSEWHERE, MAP), None, []),
        "LAN, native IPv6": ("host", ip6(HOST6, ELSEWHERE), None, ["isp"]),
        "WAN, IPv4 to our address": ("isp", ip4(SERVER, OWN), "guard.untranslated", []),
        **{f"{name}, IPv4 to {address}": (name, ip4(source, address), counter, []) for name, source, counter in (
            ("host", HOST, inner), ("isp", SERVER, "guard.inner_address"), ("guest", "192.168.77.9", "guard.inner_address"))
            for address in ("192.0.0.1", "192.0.0.2")},
        "LAN from an inner address": ("host", ip4("192.0.0.1", SERVER), inner, []),
    }


@pytest.mark.parametrize("edge", MAPE, indirect=True)
def test_border_with_a_tunnel(edge):
    by_hand = "guard.softwire_bypassed" if edge.napt != "main" else "napt.forward_source"
    check(edge, {
        **for_all(edge),
        "the border relay": ("isp", tunnelled(BR, MAP), "guard.from_relay", []),
        "LAN, tunnelled from the MAP address": ("host", tunnelled(MAP, BR), "guard.map_address_spoofed", []),
        "LAN, tunnelled to the border relay": ("host", tunnelled(HOST6, BR), "guard.softwire_bypassed", []),
        "LAN, tunnelled to a customer edge": ("host", tunnelled(HOST6, OTHER_CE), "guard.softwire_bypassed", []),
        "LAN, tunnelled from anywhere": ("host", tunnelled(ELSEWHERE, BR), "guard.softwire_bypassed", []),
        "LAN, a tunnel of its own": ("host", tunnelled(HOST6, ELSEWHERE), None, ["isp"]),
        "WAN, the LAN's own tunnel": ("isp", tunnelled(ELSEWHERE, MAP), "guard.outside_domain", []),
        "LAN, other packets to the border relay": ("host", ip6(HOST6, BR), None, ["isp"]),
        **{f"tunnel, to {address}": ("tunnel", ip4(SERVER, address), "program.in_napt_dropped_not_own_address", [])
           for address in ("192.0.2.19", "192.0.0.2", HOST)},
        "tunnel, from an inner address": ("tunnel", ip4("192.0.0.2", OWN, dport=1232), "guard.our_address_spoofed", []),
        "tunnel, not our port": ("tunnel", ip4(SERVER, OWN, dport=1240), "program.in_napt_dropped_not_own_port", []),
        "tunnel, unsolicited": ("tunnel", ip4(SERVER, OWN, dport=1232), "napt.unsolicited", []),
        "guest, into the tunnel by hand": ("guest", ip4("192.168.77.9", SERVER), by_hand, []),
        "guest, into the tunnel as if it were ours": ("guest", ip4(OWN, SERVER, sport=1232), by_hand, []),
    })


@pytest.mark.parametrize("edge", MESH, indirect=True)
def test_border_of_a_mesh(edge):
    """What comes from an FMR is the program's to judge; there is no tunnel here to take it apart."""
    check(edge, {
        **for_all(edge),
        "the border relay": ("isp", tunnelled(BR, MAP), "guard.from_relay", []),
        "a customer edge": ("isp", tunnelled(OTHER_CE, MAP), "guard.from_rule", []),
        "a customer edge, IPv6 in IPv6": ("isp", tunnelled(OTHER_CE, MAP, 41), "guard.outside_domain", []),
        "a customer edge, GRE": ("isp", tunnelled(OTHER_CE, MAP, 47), "guard.outside_domain", []),
        "a customer edge, no tunnel": ("isp", ip6(OTHER_CE, MAP), "guard.outside_domain", []),
        "a customer edge, from our MAP address": ("isp", tunnelled(MAP, MAP), "guard.map_address_spoofed", []),
        "WAN, somebody else's tunnel": ("isp", tunnelled(ELSEWHERE, MAP), "guard.outside_domain", []),
        "LAN, tunnelled to the border relay": ("host", tunnelled(HOST6, BR), "guard.softwire_bypassed", []),
        "LAN, tunnelled to a customer edge": ("host", tunnelled(HOST6, OTHER_CE), "guard.softwire_bypassed", []),
    })


@pytest.mark.parametrize("edge", MAPT, indirect=True)
def test_border_with_a_translator(edge):
    if edge.napt != "main":
        # Where no Jool takes them, packets for the MAP address look for a host of the LAN, and 3 s later there is an error to report.
        edge.sandbox.run("ip", "-n", edge.napt, "route", "add", "blackhole", MAP)
    dmr, customer = "64:ff9b::cb00:7105", "2001:db8:34:5600::10"
    takes_fmrs = edge.layout.startswith("jool_mapt")
    # jool_siit has its one address, and the translator's namespace gets no other.
    beside = ("guard.beside_map_address", []) if edge.layout == "jool_mapt_napt_namespace" else (None, ["host"])
    check(edge, {
        **for_all(edge),
        "the DMR": ("isp", ip6("64:ff9b::cb00:7105", MAP), "guard.from_dmr", []),
        "an inner address in the DMR": ("isp", ip6("64:ff9b::c000:1", MAP), "guard.inner_address", []),
        "a customer edge": ("isp", ip6(OTHER_CE, MAP), "guard.from_rule" if takes_fmrs else "guard.outside_domain", []),
        "the DMR, to the LAN": ("isp", ip6(dmr, HOST6), *beside),
        "a customer edge, to the LAN": ("isp", ip6(OTHER_CE, HOST6), *beside),
        "native IPv6 of a customer, to the LAN": ("isp", ip6(customer, HOST6), *beside),
        "native IPv6 of a customer, echo to the LAN": ("isp", packets.echo(customer, HOST6, 1111, data=os.urandom(8)), *beside),
        "native IPv6 of a customer, an error to the LAN": ("isp", error(customer, HOST6), *beside),
        "native IPv6 of a customer, ESP to the LAN": ("isp", packets.ipv6(customer, HOST6, 50, os.urandom(16)), None, ["host"]),
        "native IPv6 of the internet, to the LAN": ("isp", ip6(ELSEWHERE, HOST6), None, ["host"]),
        "a neighbour in the end-user prefix": (
            "isp", packets.icmp("2001:db8:12:3400::99", "2001:db8:12:3400::1", 136, data=os.urandom(16)), None, []),
        "LAN to the DMR": ("host", ip6(HOST6, "64:ff9b::cb00:7105"), "guard.softwire_bypassed", []),
        "LAN to the DMR from the MAP address": ("host", ip6(MAP, "64:ff9b::cb00:7105"), "guard.map_address_spoofed", []),
        "LAN to an inner address in the DMR": ("host", ip6(HOST6, "64:ff9b::c000:2"), "guard.softwire_bypassed", []),
        "WAN to the DMR": ("isp", ip6(ELSEWHERE, "64:ff9b::cb00:7105"), "guard.softwire_bypassed", []),
    })


@pytest.mark.parametrize("edge", MAPT, indirect=True)
def test_jool_gets_no_packet_with_ect_1(edge):
    """It would lose them; what says "congestion experienced" must not become something else."""
    edge.sandbox.sh("nft 'table ip6 seen { chain seen { type filter hook prerouting priority -100; }; }'")
    for ecn in range(4):
        edge.sandbox.sh(f"nft 'add counter ip6 seen ecn_{ecn}; add rule ip6 seen seen ip6 daddr {MAP} ip6 ecn {ecn} counter name ecn_{ecn}'")
    for ecn, count in enumerate((1, 2, 4, 8)):
        for _number in range(count):
            edge.send("isp", packets.udp("64:ff9b::cb00:7105", MAP, 1111, 80, os.urandom(8), traffic_class=0xb8 | ecn))
    listed = json.loads(edge.sandbox.run("nft", "-j", "list", "counters", "table", "ip6", "seen").stdout)["nftables"]
    seen = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
    assert seen == {"ecn_0": 1, "ecn_1": 0, "ecn_2": 2 + 4, "ecn_3": 8}


@pytest.mark.parametrize("edge", ["jool_siit_napt_namespace", "jool_mapt_napt_namespace"], indirect=True)
def test_what_is_not_from_the_napt_does_not_leave_translated(edge):
    """As if Jool had translated another network of the router: the result would leave from an address that is not ours."""
    before = edge.counters()["guard.softwire_bypassed"]
    edge.sandbox.run("python3", "-c", "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x' * 8, ('64:ff9b::cb00:7105', 9))",
                     check=False)
    assert edge.counters()["guard.softwire_bypassed"] == before + 1
