# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A border relay's fast paths send what the general path sends, byte for byte, and take whatever is plain; of random packets, in domains of every shape.

The general path is its programs between two forwarding stacks, each of which takes one hop. What is plain the oracles say.
SOFTWIRE_FUZZ_NETWORKS and SOFTWIRE_FUZZ_SEED as in test_translate_fuzz.py; a failure names the seed of its network.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from ipaddress import IPv6Address

import packets
import pytest
from fuzz import Fuzz
from kernel import IPV4, IPV6, MACS, PASS, REDIRECT, command
from namespaces import network_namespace
from random_networks import BLOCKS, End, Network
from rfc7597 import Dropped, Rules, TunnelRule, is_martian
from rfc7915 import ports_of
from test_mesh_fuzz import RELAYS, MeshFuzz, ToRelay

NETWORKS = int(os.environ.get("SOFTWIRE_FUZZ_NETWORKS", "25"))
FIRST_SEED = int(os.environ.get("SOFTWIRE_FUZZ_SEED", "0"))
PACKETS = 400
LARGEST = 1500  # MTU of the IPv4 interface
TAKEN = {4: (packets.TCP, packets.UDP, packets.ICMP), 6: (packets.TCP, packets.UDP, packets.ICMPV6)}
LINKS = {"eth0": "inet", "eth1": "core", "map0": "end"}
SETTINGS = ("net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
# Routes by where a packet comes from: to the softwire's device from outside, and from there out of the other interface.
ROUTES = (
    "-4 rule add iif eth0 lookup 101", "-4 rule add iif map0 lookup 102", "-6 rule add iif eth1 lookup 101", "-6 rule add iif map0 lookup 102",
    "-6 rule add iif lo lookup 102", "neigh add 203.0.113.1 lladdr 02:00:00:00:00:02 dev eth0", "neigh add fe80::2 lladdr 02:00:00:00:00:02 dev eth1",
    "-4 route add default via 203.0.113.1 dev eth0 onlink table 102", "-6 route add default dev map0 table 101",
    "-6 route add default via fe80::2 dev eth1 table 102",
)


class Router:
    """A network namespace with the interfaces and the routes of a border relay, in which programs are only tried."""

    def __init__(self):
        self.name = f"fast-{os.getpid()}"
        self.path = f"/run/netns/{self.name}"

    def ip(self, words):
        command("ip", "-n", self.name, *words.split(), package="iproute2")

    def up(self):
        command("ip", "netns", "add", self.name, package="iproute2")
        command("ip", "netns", "exec", self.name, "sysctl", "-q", "-w", *SETTINGS, package="procps")
        self.ip("link set lo up")
        for device, end in LINKS.items():
            self.ip(f"link add {device} address 02:00:00:00:00:01 type veth peer name {end}")
            self.ip(f"link set {end} up")
            self.ip(f"link set {device} up")
        for words in ROUTES:
            self.ip(words)

    def down(self):
        if os.path.exists(self.path):
            command("ip", "netns", "del", self.name, package="iproute2")

    def set_mtu(self, ipv6_mtu, ipv4_mtu):
        self.ip(f"link set eth0 mtu {LARGEST}")
        for device in ("eth1", "map0"):
            self.ip(f"link set {device} mtu {ipv6_mtu}")
        self.ip(f"-4 route replace default via 192.0.0.8 dev map0 onlink table 101 mtu lock {ipv4_mtu}")

    def indices(self):
        with network_namespace(self.path):
            return {device: socket.if_nametoindex(device) for device in LINKS}


@pytest.fixture(scope="module")
def router():
    made = Router()
    try:
        made.up()
        yield made
    finally:
        made.down()


def lowered(packet: bytes) -> bytes:
    """A packet after one hop more."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    header = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + bytes(2) + packet[12:20]
    return header[:10] + struct.pack("!H", packets.checksum(header)) + header[12:] + packet[20:]


def length_of(packet: bytes) -> int:
    return struct.unpack_from("!H", packet, 2)[0] if packet[0] >> 4 == 4 else 40 + struct.unpack_from("!H", packet, 4)[0]


def is_plain(packet: bytes) -> bool:
    """Whether nothing can be said against forwarding a whole IPv4 packet."""
    return (len(packet) >= 28 and packet[0] == 0x45 and packets.checksum(packet[:20]) == 0 and not struct.unpack_from("!H", packet, 6)[0] & 0x3FFF
            and packet[8] > 1 and length_of(packet) <= len(packet) and has_ports(4, packet[9], packet[20:length_of(packet)])
            and not any(is_martian(int.from_bytes(packet[at:at + 4], "big")) for at in (12, 16)))


def has_ports(version: int, protocol: int, upper: bytes) -> bool:
    """Whether an upper-layer packet is one of those that are taken."""
    return protocol in TAKEN[version] and len(upper) >= (18 if protocol == packets.TCP else 8) and isinstance(ports_of(protocol, upper)[0], int)


def is_syn(protocol: int, upper: bytes) -> bool:
    return protocol == packets.TCP and bool(upper[13] & packets.SYN)


class Treatment:
    """What the operator of a border relay wants of its packets, at random."""

    def __init__(self, seed: int):
        dice = random.Random(f"treatment {seed}")
        self.dscp, self.lowers_mss = dice.choice((None, None, 0, 46, 63)), dice.random() < 0.5

    def class_of(self, tos: int) -> int:
        return tos if self.dscp is None else self.dscp << 2 | tos & 3

    def is_for_netfilter(self, protocol: int, upper: bytes) -> bool:
        return self.lowers_mss and is_syn(protocol, upper)


class FastPath:
    """Both paths of a border relay in a router. device: of the softwire, which the fast path has to know."""

    def __init__(self, programs, router, prefix):
        self.programs, self.prefix, self.index = programs, prefix, router.indices()
        self.taken = {"in": 0, "out": 0}

    def run(self, direction: str, packet: bytes, padding: bytes) -> bytes | None:
        """What a frame with this packet leaves as, or None where the fast path does not take it."""
        self.programs.maps["softwire_device"].update(bytes(4), struct.pack("=I", self.index["map0"]))
        frame = MACS + (IPV4 if direction == "out" else IPV6) + packet + padding
        verdict, after = self.programs.run_frame(
            f"{self.prefix}_fast_{direction}", frame, interface=self.index["eth0" if direction == "out" else "eth1"], checks_sum=not padding)
        if verdict == REDIRECT:
            self.taken[direction] += 1
            return after
        assert verdict == PASS
        assert (packet + padding).startswith(after) and len(after) >= min(len(packet), length_of(packet)), "not taken, and changed"
        return None

    def has_counted(self) -> None:
        """Whether the counters tell what was taken; each of these packets went both ways."""
        assert min(self.taken.values()) > 10, "hardly anything was plain"
        counts = {f"{direction}_fast": count for direction, count in self.taken.items()}
        assert self.programs.counted() == counts | {f"{direction}_passed": 2 * count for direction, count in self.taken.items()}


# ---- MAP-E ----

class TunnelNetwork(Network):
    """A MAP-E domain as its border relay sees it, and who speaks through that."""

    def __init__(self, dice: random.Random):
        self.dice, self.is_edge, self.dmr = dice, False, None
        self.fields = {**self.domain(BLOCKS[:3]), "transport": "map-e", "br_address": [str(IPv6Address(relay)) for relay in RELAYS]}
        self.rules = [TunnelRule.of(rule, self.fields["interface_id"]) for rule in self.fields["rules"]]
        self.known = Rules(self.rules)
        self.embedded = ToRelay()

    def itself(self) -> End:
        return self.far()


class TunnelFuzz(MeshFuzz):
    def outer_destination(self, near):
        return self.dice.getrandbits(128) if self.fault == "destination" else self.dice.choice(RELAYS)


class TunnelJudge:
    """Says of a packet whether it has to be taken, and what the general path makes of it."""

    def __init__(self, tunnel, network: TunnelNetwork, mtu: int, treatment: Treatment):
        self.tunnel, self.network, self.mtu, self.treatment = tunnel, network, mtu, treatment

    def _address(self, packet: bytes, at: int, port: int) -> int | None:
        """The MAP address of the customer edge at one end of a packet; None where there is none, or one at the other end, too."""
        near, far = (int.from_bytes(packet[place:place + 4], "big") for place in (28 - at, at))
        rule = self.network.known.of(far)
        try:
            return self.network.known.map_address(rule, far, port) if rule and not self.network.known.of(near) else None
        except Dropped:
            return None

    def out(self, packet: bytes) -> bytes | None:
        if not is_plain(packet) or length_of(packet) > self.mtu or self.treatment.is_for_netfilter(packet[9], packet[20:]):
            return None
        packet = packet[:length_of(packet)]
        address = self._address(packet, 16, ports_of(packet[9], packet[20:])[1])
        if address is None:
            return None
        source, destination, traffic_class, hop_limit = self.tunnel.run_out(lowered(packet))
        assert (int(IPv6Address(destination)), traffic_class) == (address, self.treatment.class_of(packet[1]))
        return packets.ipv6(source, destination, packets.IPIP, lowered(packet), hop_limit, traffic_class)

    def into(self, packet: bytes) -> bytes | None:
        if len(packet) < 68 or packet[6] != packets.IPIP or packet[0] >> 4 != 6:
            return None
        source, destination = (int.from_bytes(packet[at:at + 16], "big") for at in (8, 24))
        inner, ecn = packet[40:], packet[1] >> 4 & 3
        if not is_plain(inner) or length_of(packet) != 40 + length_of(inner) or (ecn & 1 and ecn != inner[1] & 3) or length_of(inner) > LARGEST:
            return None
        inner = inner[:length_of(inner)]
        if self.treatment.is_for_netfilter(inner[9], inner[20:]):
            return None
        if self._address(inner, 12, ports_of(inner[9], inner[20:])[0]) != source or destination not in RELAYS:
            return None
        assert self.tunnel.run_in(str(IPv6Address(source)), str(IPv6Address(destination)), inner) == PASS
        return lowered(inner)


def padding_of(dice: random.Random) -> bytes:
    return bytes(dice.choice((0, 0, 0, 6, 18)))


def tunnel_frames(network: TunnelNetwork, dice: random.Random):
    """(direction, packet) of frames, the inward ones in their outer header."""
    for case in TunnelFuzz(network, dice).tunnelled(PACKETS):
        if len(case.packet) < 20 or len(case.packet) > 3000:
            continue  # the kernel tries no program on it
        if case.into_softwire:
            yield "out", case.packet
        else:
            traffic_class = dice.choice((case.packet[1], case.packet[1] & 0xFC | 2, dice.getrandbits(8)))
            yield "in", packets.ipv6(IPv6Address(case.source), IPv6Address(case.destination), packets.IPIP, case.packet, dice.randint(1, 255), traffic_class)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_tunnelled_packets(tunnel, router, seed):
    dice = random.Random(seed)
    network, ipv6_mtu = TunnelNetwork(dice), dice.choice((1280, 1500, 9000))
    router.set_mtu(ipv6_mtu, ipv6_mtu - 40)
    tunnel.configure(network.fields)
    treatment = Treatment(seed)
    tunnel.treat(treatment.dscp, treatment.lowers_mss)
    path, judge = FastPath(tunnel, router, "mape"), TunnelJudge(tunnel, network, ipv6_mtu - 40, treatment)
    with network_namespace(router.path):
        for direction, packet in tunnel_frames(network, dice):
            check(path, direction, packet, dice, judge.out if direction == "out" else judge.into)
    path.has_counted()


def check(path: FastPath, direction: str, packet: bytes, dice: random.Random, judge) -> None:
    """Whether the fast path does with a packet what it should."""
    padding = padding_of(dice)
    made = path.run(direction, packet, padding)
    expected = judge(packet + padding)
    if made is not None and expected is not None and made[0] >> 4 == 4 and not made[6] & 0x40:
        expected = with_identification(expected, made[4:6])
    assert made == expected, f"{direction} {packet.hex(' ', 4)} padded by {len(padding)}:\n{told(expected)}, not\n{told(made)}"


def with_identification(packet: bytes, identification: bytes) -> bytes:
    """A packet with another identification, which the translator chooses at random."""
    header = packet[:4] + identification + packet[6:10] + bytes(2) + packet[12:20]
    return header[:10] + struct.pack("!H", packets.checksum(header)) + header[12:] + packet[20:]


def told(packet: bytes | None) -> str:
    return packet.hex(" ", 4) if packet else "not taken"


# ---- MAP-T ----

class TranslatorJudge:
    """The same of the translator."""

    def __init__(self, translator, network: Network, interface: int, treatment: Treatment):
        self.translator, self.network, self.interface, self.treatment = translator, network, interface, treatment
        self.oracle = network.oracle()

    def _translated(self, program: str, packet: bytes) -> bytes:
        """What the general path's program makes of a packet that has gone one hop, after another one."""
        frame = MACS + (IPV4 if packet[0] >> 4 == 4 else IPV6) + lowered(packet)
        verdict, after = self.translator.run_frame(program, frame, interface=self.interface)
        assert verdict == REDIRECT
        return lowered(after)

    def out(self, packet: bytes) -> bytes | None:
        if not is_plain(packet) or length_of(packet) > self.network.ipv6_mtu - 28 or self.treatment.is_for_netfilter(packet[9], packet[20:]):
            return None
        packet = packet[:length_of(packet)]
        if packet[9] == packets.UDP and packet[26:28] == bytes(2) or self.oracle.rules.of(int.from_bytes(packet[12:16], "big")):
            return None
        if not isinstance(self.oracle.to_ipv6(packet), bytes):
            return None
        made = self._translated("br_out", packet)
        assert struct.unpack_from("!H", made)[0] >> 4 & 0xFF == self.treatment.class_of(packet[1])
        return made

    def into(self, packet: bytes) -> bytes | None:
        if len(packet) < 48 or packet[0] >> 4 != 6 or packet[7] < 2 or not 48 <= length_of(packet) <= min(len(packet), self.network.ipv6_mtu, LARGEST + 20):
            return None
        packet = packet[:length_of(packet)]
        if not has_ports(6, packet[6], packet[40:]) or self.treatment.is_for_netfilter(packet[6], packet[40:]):
            return None
        made = self.oracle.to_ipv4(packet)
        if not isinstance(made, bytes) or self.oracle.rules.of(int.from_bytes(made[16:20], "big")) or is_martian(int.from_bytes(made[12:16], "big")):
            return None
        return self._translated("br_in", packet)


def relay_network(dice: random.Random) -> Network:
    while True:
        network = Network(dice)
        if not network.is_edge:
            return network


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_translated_packets(translator, router, seed):
    dice = random.Random(seed)
    network = relay_network(dice)
    router.set_mtu(network.ipv6_mtu, network.ipv6_mtu - 28)
    translator.configure_relay(*network.domains, ipv6_mtu=network.ipv6_mtu)
    treatment = Treatment(seed)
    translator.treat(treatment.dscp, treatment.lowers_mss)
    path = FastPath(translator, router, "br")
    judge = TranslatorJudge(translator, network, path.index["map0"], treatment)
    with network_namespace(router.path):
        for case in Fuzz(network, dice).cases(PACKETS):
            if len(case.packet) >= (20 if case.into_softwire else 40):
                check(path, "out" if case.into_softwire else "in", case.packet, dice, judge.out if case.into_softwire else judge.into)
    path.has_counted()
