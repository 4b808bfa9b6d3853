# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of the NAPT makes of random packets what an oracle expects, for random port sets, and never lets out what is foreign.

The oracle has a table of indexes and ports, made by counting through all ports, and builds each packet anew with the other port:
it mends no checksum. SOFTWIRE_FUZZ_NETWORKS=500 tries more port sets than usual, SOFTWIRE_FUZZ_SEED=17 others.
"""

from __future__ import annotations

import os
import random
import struct
from ipaddress import IPv4Address

import packets
import pytest
from kernel import IPV4, MACS, PASS, SHOT, Relay

from ansible_collections.softwire.map.plugins.module_utils.mapping.port_index import port_index
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule

NETWORKS = int(os.environ.get("SOFTWIRE_FUZZ_NETWORKS", "25"))
FIRST_SEED = int(os.environ.get("SOFTWIRE_FUZZ_SEED", "0"))
PACKETS = 400  # of a port set
OWN, FAR, STRANGER, ROUTER = "192.0.2.18", "203.0.113.5", "198.51.100.7", "192.0.0.1"
GRE, REDIRECT = 47, 5
OPTIONS = (b"", b"\x94\x04\0\0", b"\x07\x27\x04" + bytes(37))
BITS = [format(port, "016b") for port in range(65536)]
SUMS = {packets.TCP: 16, packets.UDP: 6, packets.ICMP: 2}


class Napt(Relay):
    """napt.bpf.c"""

    sizes = {"config": (4, 24), "counters": (4, 8), "first_fragments": (12, 1), "index_to_port": (2, 2), "port_to_index": (2, 2)}

    def configure(self, ce, index):
        for each in ("first_fragments", "index_to_port", "port_to_index"):
            self.maps[each].clear()
        for name, entry in bpf_rule.napt_exceptions(ce, index):
            self.add(name, entry)
        self.maps["config"].update(bytes(4), bytes.fromhex(bpf_rule.napt_config(ce, index, "192.0.0.0/29", True)))
        self.last = self.counters()

    def counters(self):
        raw = [self.maps["counters"].lookup(struct.pack("=I", number), self.cpus) for number in range(len(bpf_rule.NAPT_COUNTERS))]
        return {name: sum(struct.unpack(f"={self.cpus}Q", each)) for name, each in zip(bpf_rule.NAPT_COUNTERS, raw)}

    def run(self, is_out, packet):
        """What is left of a packet, or None; and the one counter that grew."""
        before = self.last
        verdict, after = self.run_frame("napt_out" if is_out else "napt_in", MACS + IPV4 + packet)
        assert verdict in (PASS, SHOT)
        self.last = self.counters()
        (counter,) = (name for name, value in self.last.items() if value != before[name])
        assert counter.startswith("out_napt_" if is_out else "in_napt_") and ("_passed" in counter) == (verdict == PASS)
        return after if verdict == PASS else None, counter.split("_napt_")[1]


def arithmetic(dice):
    """A random (PSID offset, PSID length, PSID); no length: the address is not shared."""
    if not dice.randrange(6):
        return 0, 0, 0
    a = dice.choice((0, 0, 1, 4, 6, dice.randrange(11)))
    k = dice.randrange(1, min(12, 16 - a) + 1)
    return a, k, dice.choice((0, 2 ** k - 1, dice.randrange(2 ** k)))


class Set:
    """A customer edge with a random port set; ports: {index: port}, as the NAPT's rules have them."""

    def __init__(self, dice, psid=None):
        """psid: which the port set is to have."""
        self.dice = dice
        usable = []
        while not usable:
            a, k, self.psid = arithmetic(dice)
            if psid not in (None, self.psid):
                continue
            self.is_shared = k > 0
            mine = [port for port, text in enumerate(BITS) if not k or (text[a:a + k] == format(self.psid, f"0{k}b") and (not a or "1" in text[:a]))]
            usable = [port for port in mine if port]
        ranges = []
        for port in mine:
            if ranges and port == ranges[-1][1] + 1:
                ranges[-1][1] = port
            else:
                ranges.append([port, port])
        static = dice.sample(usable, min(dice.choice((0, 0, 1, 3)), len(usable) - 1)) if self.is_shared else []
        try:
            self.index = port_index(ranges, static)
        except ValueError:  # no room for the indexes beside these static ports
            self.index = port_index(ranges)
        self.prefix = "192.0.2.16/28" if not self.is_shared and dice.randrange(2) else None
        self.ce = {"ipv4_address": None if self.prefix else OWN, "ipv4_prefix": self.prefix, "port_ranges": ranges,
                   "psid": self.psid if self.is_shared else None, "psid_length": k, "psid_offset": a}
        self.owned = set(usable)
        first, last = self.index["pool"]
        table = {index + more: port + more for index, port, length in self.index["ranges"] for more in range(length)}
        self.ports = {**(table or {port: port for port in range(first, last + 1)}), **{port: port for port in self.index["static"]}}
        self.indexes = {port: index for index, port in self.ports.items()}
        self.pairs = list(self.ports.items())

    def number(self, is_out):
        """A port of the packet's, and what takes its place, or None: (index, port) on the way out, else (port, index)."""
        table = self.ports if is_out else self.indexes
        if not self.is_shared:
            chosen = self.dice.choice((0, self.dice.randrange(1, 65536), self.dice.randrange(1, 65536)))
            return chosen, chosen or None
        if self.dice.randrange(4):
            index, port = self.dice.choice(self.pairs)
            return (index, port) if is_out else (port, index)
        near = self.dice.choice((0, 1, 65535, *self.index["pool"], min(self.owned), max(self.owned), self.dice.randrange(65536)))
        chosen = max(0, min(65535, near + self.dice.randrange(-2, 3)))
        return chosen, table.get(chosen)


class Fuzz:
    """Packets and what is to become of them: (direction, packet, packet after or None, result)."""

    def __init__(self, own_set, dice):
        self.set, self.dice = own_set, dice

    def case(self):
        dice, is_out = self.dice, self.dice.randrange(2)
        self.own, self.far = OWN, FAR
        fault = dice.choice((None, None, None, None, "address", "router", "protocol", "tiny"))
        number, other = self.set.number(is_out)
        if fault == "address":
            self.own = STRANGER
        elif fault == "router":
            self.own, self.far = STRANGER, ROUTER
        elif fault == "protocol":
            packet = self.whole(is_out, GRE, number)
            return is_out, packet, *((None, "dropped_no_port") if self.set.is_shared else (packet, "passed"))
        protocol = dice.choice(list(SUMS))
        kind, fields, options = dice.choice(("plain", "plain", "error", "fragments")), dice.getrandbits(32), dice.choice(OPTIONS)
        if kind == "error":
            return is_out, *self.error(is_out, protocol, number, other, fields, options)
        packet, after = (self.whole(is_out, protocol, each, fields, options) for each in (number, other or 0))
        if fault == "address":
            return is_out, packet, None, "dropped_not_own_address"
        if fault == "router":
            return is_out, packet, packet, "passed_router"
        if not self.set.is_shared and protocol == packets.ICMP:
            other, after = other or 1, packet
        if fault == "tiny":
            header = 4 * (packet[0] & 15)
            cut = packets.ipv4(*self.ends(is_out), protocol, packet[header:header + dice.randrange(8)], options=options)
            return is_out, cut, None, "dropped_tiny"
        verdict = (after, "passed") if other is not None else (None, "dropped_not_own_port")
        if kind == "fragments":
            first = 0x2000 | dice.choice((0, 0x4000))  # more fragments
            packet, after = (
                packets.ipv4(*self.ends(is_out), protocol, each[4 * (each[0] & 15):], options=options, fragment=first, identification=fields & 0xFFFF)
                for each in (packet, after))
            verdict = (after if verdict[0] else None, verdict[1])
        return is_out, packet, *verdict

    def ends(self, is_out):
        return (self.own, self.far) if is_out else (self.far, self.own)

    def whole(self, is_out, protocol, number, fields=0, options=b""):
        """A packet with our port; fields: random bits for the rest of it."""
        source, destination = self.ends(is_out)
        dice = random.Random(fields)
        far, data = dice.randrange(65536), dice.randbytes(dice.randrange(64))
        ports = (number, far) if is_out else (far, number)
        if protocol == packets.TCP:
            return packets.tcp(source, destination, *ports, data, options=options)
        if protocol == packets.UDP:
            made = packets.udp(source, destination, *ports, data, options=options)
            at = 4 * (made[0] & 15) + SUMS[packets.UDP]
            return made if dice.randrange(4) else made[:at] + b"\0\0" + made[at + 2:]
        if protocol == packets.ICMP:
            kind = dice.choice((packets.ICMP_ECHO_REQUEST, packets.ICMP_ECHO_REPLY))
            return packets.icmp(source, destination, kind, 0, number << 16 | 1, data, options=options)
        return packets.ipv4(source, destination, protocol, b"\0\0\x08\0pass" + data, options=options)

    def error(self, is_out, protocol, number, other, fields, options):
        """An error about a packet that went the other way."""
        dice = self.dice
        self.own = OWN
        kind = dice.choice((3, 11, 12, REDIRECT)) if dice.randrange(5) == 0 else dice.choice((3, 11, 12))
        fault = dice.choice((None, None, None, "quoted address", "quoted protocol", "later"))
        length, size = dice.choice(((0, 8), (0, 20), (0, 64), (0, 128), (32, 128)))
        word = length << 16 | (dice.randrange(256) << 24 if kind == 12 else 0)
        made = []
        for each in (number, other or 0):
            quoted = self.whole(not is_out, GRE if fault == "quoted protocol" else protocol, each, fields, options)
            if fault == "quoted address":
                at = 16 if is_out else 12
                quoted = quoted[:at] + IPv4Address(STRANGER).packed + quoted[at + 4:]
            if fault == "later":
                quoted = quoted[:6] + b"\0\x10" + quoted[8:]
            header = 4 * (quoted[0] & 15)
            quoted = quoted[:header + size] if not length else quoted.ljust(128, b"\0")[:128] + b"\x20\0\0\0\0\x08\x01\x01mpls"
            made.append(packets.error(*self.ends(is_out), quoted, kind, word, 1))
        packet, after = made
        if not self.set.is_shared:
            return packet, packet, "passed"
        if kind == REDIRECT:
            return packet, None, "dropped_no_port"
        if fault == "quoted address":
            return packet, None, "dropped_wrong_quote"
        if fault:
            return packet, None, "dropped_no_port"
        return (packet, after, "passed") if other is not None else (packet, None, "dropped_not_own_port")


@pytest.fixture(scope="module")
def napt(pinned_napt):
    return Napt(pinned_napt)


def is_same(one, two):
    """Whether two packets are the same, where 0 and 0xffff are one number, as they are in a checksum."""
    return one is two or (one is not None and two is not None and len(one) == len(two) and all(
        one[at:at + 2] == two[at:at + 2] or {one[at:at + 2], two[at:at + 2]} == {b"\0\0", b"\xff\xff"} for at in range(0, len(one), 2)))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_the_programs_do_what_the_oracle_says(napt, seed):
    dice = random.Random(seed)
    own_set = Set(dice)
    napt.configure(own_set.ce, own_set.index)
    fuzz = Fuzz(own_set, dice)
    for _packet in range(PACKETS):
        is_out, packet, expected, result = fuzz.case()
        made = napt.run(is_out, packet)
        assert is_same(made[0], expected) and made[1] == result, (
            f"{'out' if is_out else 'in'}, {own_set.ce}, static {own_set.index['static']}, pool {own_set.index['pool']}\n{packet.hex(' ', 4)}\n"
            f"{expected and expected.hex(' ', 4)} {result}\n{made[0] and made[0].hex(' ', 4)} {made[1]}")


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_whatever_the_packet_and_the_maps_hold_nothing_foreign_leaves(napt, seed):
    """Packets with bits flipped and ends cut off, and exceptions that are torn, missing or of another port set."""
    dice = random.Random(seed)
    own_set, other_set = Set(dice), Set(dice)
    napt.configure(own_set.ce, own_set.index)
    for name, entry in bpf_rule.napt_exceptions(other_set.ce, other_set.index):
        if dice.randrange(2):
            napt.add(name, entry)
    for name in ("index_to_port", "port_to_index"):
        for index in dice.sample(sorted(own_set.ports), min(5, len(own_set.ports))):
            napt.maps[name].update(struct.pack("!H", index), struct.pack("!H", dice.randrange(65536)))
    fuzz, left = Fuzz(own_set, dice), 0
    for _packet in range(PACKETS):
        _is_out, packet, _expected, _result = fuzz.case()
        flipped = bytearray(packet[:dice.randrange(20, len(packet) + 1)] if dice.randrange(3) == 0 else packet)
        for _bit in range(dice.randrange(4)):
            flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        made, result = napt.run(True, bytes(flipped))
        if made is None or result == "passed_router":
            continue
        left += 1
        source = packets.source_of(made)
        assert source == OWN or (own_set.prefix and source.startswith("192.0.2."))
        if own_set.is_shared and result != "passed_later_fragment":
            port = own_port(made)
            assert port in own_set.owned, f"{flipped.hex(' ', 4)}\n{made.hex(' ', 4)}"
    assert left


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_nothing_foreign_leaves_by_a_config_that_is_half_overwritten(napt, seed):
    """Any bytes of the old and of the new one, which have the same address and PSID: what leaves is of the old port set or of the new."""
    dice = random.Random(seed)
    first = Set(dice)
    second = Set(dice, first.psid)
    while second.prefix != first.prefix:
        second = Set(dice, first.psid)
    napt.configure(second.ce, second.index)
    configs = [bytes.fromhex(bpf_rule.napt_config(each.ce, each.index, "192.0.0.0/29", True)) for each in (first, second)]
    left = 0
    for _packet in range(PACKETS):
        napt.maps["config"].update(bytes(4), bytes(map(dice.choice, zip(*configs))))
        _is_out, packet, _expected, _result = Fuzz(dice.choice((first, second)), dice).case()
        made, result = napt.run(True, packet)
        if made is None or result == "passed_router":
            continue
        left += 1
        assert packets.source_of(made) == OWN
        if first.is_shared and second.is_shared and result != "passed_later_fragment":
            assert own_port(made) in first.owned | second.owned
    assert left


def own_port(packet):
    """The port from which a packet has left, or about which an error speaks."""
    upper, protocol = packet[4 * (packet[0] & 15):], packet[9]
    if protocol == packets.ICMP and upper[0] in (3, 11, 12):
        inner = upper[8:]
        protocol, upper = inner[9], inner[4 * (inner[0] & 15):]
        return struct.unpack_from("!H", upper, 4 if protocol == packets.ICMP else 2)[0]
    return struct.unpack_from("!H", upper, 4 if protocol == packets.ICMP else 0)[0]


def test_a_later_fragment_leaves_once_its_first_one_has(napt):
    own_set = next(made for made in (Set(random.Random(seed)) for seed in range(99)) if made.is_shared and made.index["rewrite"])
    napt.configure(own_set.ce, own_set.index)
    index, foreign = own_set.index["pool"][0], next(port for port in range(65536) if port not in own_set.ports)
    good, bad = (packets.fragments(packets.udp(OWN, FAR, port, 9, bytes(100)), [48, 48], number) for number, port in ((1, index), (2, foreign)))
    other_end = packets.fragments(packets.udp(OWN, STRANGER, index, 9, bytes(100)), [48, 48], 1)
    assert napt.run(True, good[1]) == (None, "dropped_lost_fragment")
    assert [napt.run(True, packet)[1] for packet in bad] == ["dropped_not_own_port", "dropped_lost_fragment", "dropped_lost_fragment"]
    assert napt.run(True, good[0])[1] == "passed"
    assert [napt.run(True, packet) for packet in good[1:]] == [(packet, "passed_later_fragment") for packet in good[1:]]
    assert napt.run(True, other_end[1]) == (None, "dropped_lost_fragment")
    into = packets.fragments(packets.udp(FAR, OWN, 9, foreign, bytes(100)), [48, 48])
    assert [napt.run(False, packet)[1] for packet in into] == ["dropped_not_own_port", "passed_later_fragment", "passed_later_fragment"]


def test_without_a_config_nothing_passes(napt):
    napt.maps["config"].update(bytes(4), bytes(24))
    packet = packets.udp(OWN, FAR, 1024, 9)
    assert napt.run(True, packet) == (None, "dropped_failed") and napt.run(False, packet) == (None, "dropped_failed")


def test_other_protocols_than_ipv4_pass_unseen(napt):
    assert napt.run_frame("napt_out", MACS + b"\x86\xdd" + packets.ipv6("2001:db8::1", "2001:db8::2", 17, bytes(8)))[0] == PASS
