# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""translate.bpf.c on the real links of a border relay: with the fast path the same leaves as without, byte for byte, whatever comes.

Three network namespaces: `br` with the translator's device map0, `access` with the next hop of the CEs, `far` with an IPv4 host.
"""

from __future__ import annotations

import os
import struct
import subprocess
import time

import packets
import pytest
from domains import CE, CE_PORT, DMR, FAR, NEIGHBOUR, OTHER, SERVER, SHARED, TUTORIAL
from kernel import Translator, command
from packets import tcp, udp
from test_fast_fuzz import lowered, with_identification
from test_mapt_links import EVERYTHING, Link
from test_mapt_links import offloaded as offloaded6
from test_mape_links import offloaded as offloaded4

MTU = 1500
NEXT_HOP = "2001:db8:f::2"
MACS = {"up0": "02:00:00:00:00:20", "down0": "02:00:00:00:00:21", "eth0": "02:00:00:00:00:30", "far0": "02:00:00:00:00:31"}
SETTINGS = ["net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv4.conf.all.send_redirects=0",
            # every error is sent, in both runs
            "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0"]
LEADS = (
    "link add map0 mtu 1500 type veth peer name end0", "link set dev map0 arp off addrgenmode none", "link set dev end0 arp off addrgenmode none",
    "link set end0 up", "link set map0 up", "addr add fe80::1/64 dev map0 nodad", f"route add {DMR} dev map0",
    "route add 192.0.2.0/24 via 192.0.0.8 dev map0 onlink mtu lock 1472",
)
REASSEMBLY = "".join(
    f"table {family} reassembly {{\nchain c {{\ntype filter hook prerouting priority -405;\n{family} daddr {address} udp dport 1 tproxy to {target}:1\n}}\n}}\n"
    for family, address, target in (("ip", "0.0.0.1", "127.0.0.1"), ("ip6", "::2", "[::1]")))
LAST = b"the last one"


class Network:
    def __init__(self, directory):
        self.relay = Translator(directory)
        self.names = {name: f"translate-{name}-{os.getpid()}" for name in ("br", "access", "far")}
        self.links = {}

    def ip(self, namespace, *words):
        command("ip", "-n", self.names[namespace], *words, package="iproute2")

    def tc(self, *words):
        command("tc", "-n", self.names["br"], *words, package="iproute2")

    def sysctl(self, *settings):
        command("ip", "netns", "exec", self.names["br"], "sysctl", "-q", "-w", *settings, package="procps")

    def attach(self, device, direction, preference, program):
        self.tc("filter", "add", "dev", device, direction, "pref", str(preference), "bpf", "da", "object-pinned", f"{self.relay.directory}/programs/{program}")

    def up(self):
        for name in self.names.values():
            command("ip", "netns", "add", name, package="iproute2")
        for near, far, namespace in (("up0", "down0", "access"), ("eth0", "far0", "far")):
            self.ip("br", "link", "add", near, "address", MACS[near], "type", "veth",
                    "peer", "name", far, "address", MACS[far], "netns", self.names[namespace])
        self.sysctl(*SETTINGS)
        for namespace, interface, mtu in (("br", "lo", 65536), ("br", "up0", 1600), ("br", "eth0", 1600), ("access", "down0", 1600), ("far", "far0", 1600)):
            self.ip(namespace, "link", "set", interface, "mtu", str(mtu), "up")
        for words in LEADS:
            self.ip("br", *words.split())
        self.ip("br", "addr", "add", "2001:db8:f::1/64", "dev", "up0", "nodad")
        self.ip("br", "addr", "add", "203.0.113.254/24", "dev", "eth0")
        self.ip("br", "neigh", "add", NEXT_HOP, "lladdr", MACS["down0"], "dev", "up0")
        self.ip("br", "neigh", "add", FAR, "lladdr", MACS["far0"], "dev", "eth0")
        self.ip("br", "route", "add", "2001:db8:ce::/51", "via", NEXT_HOP, "dev", "up0", "mtu", "lock", str(MTU))
        self.ip("br", "link", "set", "eth0", "mtu", str(MTU))
        subprocess.run(["ip", "netns", "exec", self.names["br"], "nft", "-f", "-"], input=REASSEMBLY, text=True, check=True)
        for device in ("map0", "up0", "eth0"):
            self.tc("qdisc", "add", "dev", device, "clsact")
        self.attach("map0", "egress", 7599, "br_out")
        self.attach("map0", "egress", 7600, "br_in")
        self.links = {name: Link(self.names[namespace], name, EVERYTHING) for name, namespace in (("down0", "access"), ("far0", "far"))}

    def down(self):
        for link in self.links.values():
            link.socket.close()
        for name in self.names.values():
            if os.path.exists(f"/run/netns/{name}"):
                command("ip", "netns", "del", name, package="iproute2")

    def take(self, is_fast):
        """Puts the fast path in, or takes it away."""
        for device in ("eth0", "up0"):
            self.tc("filter", "del", "dev", device, "ingress")
        if is_fast:
            self.attach("eth0", "ingress", 7593, "br_fast_out")
            self.attach("up0", "ingress", 7594, "br_fast_in")

    def send(self, packet, offloads=(0, 0, 0, 0, 0, 0)):
        """Sends a packet to the relay, of IPv4 from the internet, of IPv6 from the CEs."""
        link, to, ethertype = ("far0", "eth0", b"\x08\x00") if packet[0] >> 4 == 4 else ("down0", "up0", b"\x86\xdd")
        macs = bytes.fromhex((MACS[to] + MACS[link]).replace(":", ""))
        self.links[link].socket.send(struct.pack("=BBHHHH", *offloads) + macs + ethertype + packet)

    def leaving(self, *sent):
        """What leaves by either interface for these frames: {link: [packet]}."""
        for each in sent:
            self.send(*(each if isinstance(each, tuple) else (each,)))
        self.send(udp(FAR, SHARED, 53, CE_PORT, LAST))
        self.send(udp(CE, SERVER, CE_PORT, 53, LAST))
        found = {"down0": [], "far0": []}
        for name, left in found.items():
            while True:
                packet = self.links[name].receive(is_telling)
                assert packet, f"nothing comes out at {name}"
                if packet.endswith(LAST):
                    break
                left.append(packet)
        return found


def is_telling(packet):
    """Not what interfaces say by themselves: ARP, neighbour and listener discovery."""
    return packet[0] >> 4 == 4 or packet[0] >> 4 == 6 and not (packet[6] == packets.ICMPV6 and 130 <= packet[40] <= 143) and packet[6] != 0


def without_chance(packet):
    """A packet without the identification that the translator or the stack has chosen."""
    if packet[0] >> 4 == 4 and not packet[6] & 0x40:
        return with_identification(packet, bytes(2))
    return packet[:44] + bytes(4) + packet[48:] if packet[6] == packets.FRAGMENT else packet


@pytest.fixture(scope="module")
def built(pinned_translate):
    network = Network(pinned_translate)
    try:
        network.up()
        network.relay.configure_relay(TUTORIAL, ipv6_mtu=MTU)
        network.leaving()
        yield network
    finally:
        network.down()


@pytest.fixture
def network(built):
    built.relay.configure_relay(TUTORIAL, ipv6_mtu=MTU)
    built.relay.maps["dmr_route"].update(bytes(4), bytes(8 * built.relay.cpus), built.relay.cpus)
    for link in built.links.values():
        while link.receive(lambda _packet: True, seconds=0):
            pass
    return built


def both_ways(network, *sent):
    """What leaves without and with the fast path, and how much of `sent` that has taken."""
    left = []
    for is_fast in (False, True):
        network.take(is_fast)
        network.relay.configure_relay(TUTORIAL, ipv6_mtu=MTU)
        left.append({name: [without_chance(packet) for packet in found] for name, found in network.leaving(*sent).items()})
    counted = network.relay.counted()
    return *left, counted.get("in_fast", 0) + counted.get("out_fast", 0) - 2


def out(**fields):
    return udp(FAR, SHARED, 53, CE_PORT, **fields)


def into(**fields):
    return udp(CE, SERVER, CE_PORT, 53, **fields)


def unsummed(packet):
    return packet[:26] + bytes(2) + packet[28:]


def with_hops(packet, hops):
    while packet[8 if packet[0] >> 4 == 4 else 7] > hops:
        packet = lowered(packet)
    return packet


ACKNOWLEDGEMENT = tcp(FAR, SHARED, 53, CE_PORT, b"", packets.ACK)
ROUTED_HEADER = packets.ipv6(CE, SERVER, 60, bytes([packets.UDP, 0, 1, 4, 0, 0, 0, 0]) + into()[40:])
PLAIN = {
    "UDP out": out(), "UDP in": into(), "nothing in it out": out(data=b""), "nothing in it in": into(data=b""),
    "TCP out": tcp(FAR, SHARED, 53, CE_PORT), "TCP in": tcp(CE, SERVER, CE_PORT, 53),
    "echo request out": packets.echo(FAR, SHARED, CE_PORT), "echo reply out": packets.echo(FAR, SHARED, packets.DISCARD, CE_PORT),
    "echo request in": packets.echo(CE, SERVER, CE_PORT), "echo reply in": packets.echo(CE, SERVER, packets.DISCARD, CE_PORT),
    "an acknowledgement with padding": ACKNOWLEDGEMENT + bytes(6), "padding in": into() + bytes(9),
    "class out": out(tos=0xBB), "class in": into(traffic_class=0xBB),
    "two hops out": with_hops(out(), 2), "two hops in": with_hops(into(), 2), "largest out": out(data=bytes(1472 - 28)),
    "largest in": into(data=bytes(1500 - 48)), "DF in": into(data=bytes(1241 - 8)), "no DF in": into(data=bytes(1240 - 8)),
    "DF out": out(fragment=0x4000), "another CE in": udp(OTHER, SERVER, 20 << 11, 53),
}
OTHERWISE = {
    "last hop out": with_hops(out(), 1), "last hop in": with_hops(into(), 1), "too big out": out(data=bytes(1473 - 28), fragment=0x4000),
    "to be cut out": out(data=bytes(1473 - 28)), "too big in": into(data=bytes(1501 - 48)), "options": out(options=bytes([1, 1, 1, 0])),
    "extension header": ROUTED_HEADER, "unsummed": unsummed(out()), "wrong header checksum": out()[:10] + b"\x12\x34" + out()[12:],
    "error out": packets.error(FAR, SHARED, udp(SHARED, FAR, CE_PORT, 53)), "error in": packets.error(CE, SERVER, udp(SERVER, CE, 53, CE_PORT)),
    "spoofed": udp(NEIGHBOUR, SERVER, CE_PORT, 53), "not a MAP address": udp("2001:db8:ce:11b::1", SERVER, CE_PORT, 53), "port 0 in": udp(CE, SERVER, 0, 53),
    "port 0 out": udp(FAR, SHARED, 53, 0), "own prefix from outside": udp("192.0.2.77", SHARED, 53, CE_PORT),
    "martian out": udp("127.0.0.1", SHARED, 53, CE_PORT),
    "from CE to CE": udp(CE, "64:ff9b::c000:23b", CE_PORT, 20 << 11), "martian in": udp(CE, "64:ff9b::7f00:1", CE_PORT, 53),
    "to the relay itself": udp(CE, "64:ff9b::cb00:71fe", CE_PORT, 53), "GRE out": packets.ipv4(FAR, SHARED, 47, bytes(20)),
    "ICMP in IPv6": packets.ipv6(CE, SERVER, packets.ICMP, into()[40:]), "cut off": out()[:-1], "tiny": tcp(FAR, SHARED, 53, CE_PORT, length=37),
}


@pytest.mark.parametrize("packet", PLAIN.values(), ids=PLAIN)
def test_what_is_plain_is_taken_and_the_same(network, packet):
    general, fast, taken = both_ways(network, packet)
    assert fast == general and sum(map(len, fast.values())) == 1
    assert taken == 1
    assert not any(name for name in network.relay.counted() if "dropped" in name)


@pytest.mark.parametrize("packet", OTHERWISE.values(), ids=OTHERWISE)
def test_what_is_not_goes_the_general_way(network, packet):
    general, fast, taken = both_ways(network, packet)
    assert fast == general
    assert taken == 0


@pytest.mark.parametrize("packet", [out(data=bytes(2000)), into(data=bytes(2000))], ids=["out", "in"])
def test_fragments_go_the_general_way(network, packet):
    general, fast, taken = both_ways(network, *packets.fragments(packet, [1400]))
    assert fast == general and sum(map(len, fast.values())) == 2
    assert taken == 0


@pytest.mark.parametrize("size, is_taken", [(1432, True), (1433, False)])
def test_a_large_packet_to_a_ce_counts_as_its_segments(network, size, is_taken):
    general, fast, taken = both_ways(network, offloaded4(tcp(FAR, SHARED, 53, CE_PORT, bytes(4000)), size))
    assert fast == general and taken == is_taken
    # without DF in its header the stack cuts up what does not fit
    assert len(fast["down0"]) == 1 or not is_taken


@pytest.mark.parametrize("size, is_taken", [(1440, True), (1441, False)])
def test_a_large_packet_from_a_ce_counts_as_its_segments(network, size, is_taken):
    general, fast, taken = both_ways(network, offloaded6(tcp(CE, SERVER, CE_PORT, 53, bytes(4000)), size))
    assert fast == general and taken == is_taken
    assert len(fast["far0"]) == is_taken


ROUTES = {
    "a blackhole in IPv4 out": (["route", "add", "blackhole", "192.0.2.59/32"], ["route", "del", "blackhole", "192.0.2.59/32"],
                                udp(FAR, "192.0.2.59", 53, 20 << 11)),
    "a blackhole in IPv4 in": (["route", "add", "blackhole", "198.51.100.7/32"], ["route", "del", "blackhole", "198.51.100.7/32"],
                               udp(CE, "64:ff9b::c633:6407", CE_PORT, 53)),
    "a blackhole in IPv6": (["route", "add", "blackhole", "2001:db8:ce:774::/64"], ["route", "del", "blackhole", "2001:db8:ce:774::/64"],
                            udp(FAR, "192.0.2.59", 53, 20 << 11)),
    "a prohibition": (["route", "add", "prohibit", "198.51.100.7/32"], ["route", "del", "prohibit", "198.51.100.7/32"],
                      udp(CE, "64:ff9b::c633:6407", CE_PORT, 53)),
}


@pytest.mark.parametrize("make, undo, packet", ROUTES.values(), ids=ROUTES)
def test_the_routes_stay_in_force(network, make, undo, packet):
    network.ip("br", *make)
    try:
        general, fast, taken = both_ways(network, packet)
    finally:
        network.ip("br", *undo)
    assert (fast, taken) == (general, 0)


@pytest.mark.parametrize("setting, packet", [("ipv4.conf.eth0", out()), ("ipv4.conf.map0", into()), ("ipv6.conf.map0", out()), ("ipv6.conf.up0", into())])
def test_without_forwarding_nothing_is_taken(network, setting, packet):
    network.take(True)
    network.sysctl(f"net.{setting}.forwarding=0")
    try:
        network.send(packet)
        time.sleep(0.1)
        assert not any("fast" in name for name in network.relay.counted())
    finally:
        network.sysctl(f"net.{setting}.forwarding=1")


def test_without_a_way_to_the_dmr_nothing_is_taken(network):
    """Which is asked once in a while only."""
    network.take(True)
    network.leaving()
    network.ip("br", "route", "add", "blackhole", f"{SERVER}/128")
    try:
        deadline = time.monotonic() + 5
        while network.relay.counted().get("in_fast") and time.monotonic() < deadline:
            network.relay.configure_relay(TUTORIAL, ipv6_mtu=MTU)
            network.send(into())
            time.sleep(0.2)
        assert "in_fast" not in network.relay.counted()
    finally:
        network.ip("br", "route", "del", "blackhole", f"{SERVER}/128")


def test_a_neighbour_that_is_not_known_is_asked_for_by_the_stack(network):
    network.take(True)
    for words, packet in ((("neigh", "del", NEXT_HOP, "dev", "up0"), out()), (("neigh", "del", FAR, "dev", "eth0"), into())):
        network.ip("br", *words)
        network.send(packet)
    time.sleep(0.1)
    counted = network.relay.counted()
    network.ip("br", "neigh", "replace", NEXT_HOP, "lladdr", MACS["down0"], "dev", "up0")
    network.ip("br", "neigh", "replace", FAR, "lladdr", MACS["far0"], "dev", "eth0")
    assert counted == {"in_passed": 1, "out_passed": 1}


def test_nothing_is_taken_before_the_translators_device_is_known(network):
    network.take(True)
    network.relay.maps["softwire_device"].update(bytes(4), bytes(4))
    network.leaving(out(), into())
    assert network.relay.counted() == {"in_passed": 2, "in_fast": 2, "out_passed": 2, "out_fast": 1}
