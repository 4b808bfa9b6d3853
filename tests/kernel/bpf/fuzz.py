# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packets for the translator, from a seed: good ones, ones with one fault, and one in three with bits flipped or its end cut off."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import packets
from icmp_errors import POINTER_TO_IPV4, POINTER_TO_IPV6, UNREACHABLE_TO_IPV4, UNREACHABLE_TO_IPV6
from ip_headers import DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, ROUTING
from random_networks import End, Network
from rfc7915 import CHECKSUM_AT, DCCP, TCP, UDP, UDPLITE

GRE, SCTP = 47, 132
ECHO = "echo"
PROTOCOLS = (TCP, TCP, UDP, UDP, UDP, ECHO, ECHO, UDPLITE, DCCP)
PORTLESS = (GRE, SCTP, 50, 4, 41, 51, 59, 253)
MTUS = (0, 68, 576, 1259, 1260, 1261, 1279, 1280, 1300, 1400, 1460, 1480, 1500, 1501, 9000, 65535)
LOOSE_SOURCE_ROUTE = b"\x83\x07\x04" + bytes(4) + b"\x01"
USED_SOURCE_ROUTE = b"\x89\x07\x08" + bytes(4) + b"\x00"
OPTIONS = (b"\x94\x04\0\0", b"\x01\x01\x01\x00", b"\x07\x0b\x04" + bytes(8) + b"\0", USED_SOURCE_ROUTE, b"\x44\x28\x05\0" + bytes(36))
BAD_OPTIONS = (LOOSE_SOURCE_ROUTE, b"\x01" + LOOSE_SOURCE_ROUTE[:7], b"\x07\x00\0\0", b"\x07\x05\0\0")
# what one fault is about; not all of them have an effect on every packet
FAULTS = ("near", "near_port", "far", "far_port", "spoofed", "martian", "protocol", "portless", "tiny", "options", "unsummed", "kind")
ERROR_FAULTS = ("near", "near_port", "far_port", "spoofed", "options", "kind", "quote", "quoted_error", "quoted_fragment", "stranger", "short", "fragment")
FAULTS_OF = {"unsummed": UDP, "kind": ECHO}  # a protocol's own


@dataclass
class Case:
    """A packet, and what a failing test says of it."""

    into_softwire: bool  # IPv4 to IPv6; else IPv6 to IPv4
    packet: bytes
    datagram_length: int | None  # of a first fragment: upper-layer bytes of its datagram
    fault: str | None  # what was made wrong on purpose
    is_mutated: bool = False


class Fuzz:
    def __init__(self, network: Network, dice: random.Random):
        self.network, self.dice = network, dice
        self.fault: str | None = None

    def cases(self, count: int) -> Iterator[Case]:
        """`count` packets or a few more: the fragments of a datagram come together."""
        while count > 0:
            for case in self.datagram():
                if self.chance(3):
                    case.packet, case.is_mutated = self.mutated(case.packet), True
                count -= 1
                yield case

    def chance(self, one_in: int) -> bool:
        return self.dice.randrange(one_in) == 0

    def datagram(self) -> list[Case]:
        """A packet, or the fragments of one or two datagrams."""
        dice, into_softwire, is_error = self.dice, self.chance(2), self.chance(3)
        self.fault = dice.choice(ERROR_FAULTS if is_error else FAULTS) if self.chance(6) else None
        version = 4 if into_softwire else 6
        near, far = self.ends()
        protocol = self.protocol(version, near, far)
        if protocol == ECHO:
            near, far = self.network.pinging(near, far)
        source, destination = (near, far) if into_softwire else (far, near)
        if is_error:
            made = self.error(version, source, destination, protocol)
        elif self.chance(6):
            identification = dice.choice((dice.getrandbits(3), dice.getrandbits(32)))
            made = self.parts(version, source, destination, protocol, identification)
            if far.is_shared and self.chance(4):  # and somebody with the same address
                far = self.network.customer(far.rule, far.ipv4)
                source, destination = (near, far) if into_softwire else (far, near)
                made += self.parts(version, source, destination, protocol, identification)
        else:
            made = [(self.packet(version, source, destination, *self.upper(version, source, destination, protocol)), None)]
        return [Case(into_softwire, packet, length, self.fault) for packet, length in made]

    def ends(self) -> tuple[End, End]:
        """Who speaks, the near side first; the fault may be one of theirs."""
        dice, network = self.dice, self.network
        near, far = network.near(), network.far()
        if self.fault in ("near", "far"):
            other = network.server()
            near, far = (other, far) if self.fault == "near" else (near, other)
        elif self.fault == "near_port":
            near = near._replace(port=dice.choice((0, dice.getrandbits(10), dice.getrandbits(16))))
        elif self.fault == "far_port":
            far = far._replace(port=dice.choice((0, dice.getrandbits(10), dice.getrandbits(16))))
        elif self.fault == "spoofed":
            far = far._replace(ipv6=far.ipv6 ^ 1 << dice.randrange(128))
        elif self.fault == "martian":
            ipv4 = dice.choice((0, 127, 224, 255)) << 24 | dice.getrandbits(24)
            martian = End(ipv4, network.embedded.embed(ipv4), 80, None)
            near, far = (near, martian) if network.is_edge else (martian, far)
        return near, far

    def addresses(self, version: int, *ends: End) -> list[IPv4Address] | list[IPv6Address]:
        return [IPv4Address(end.ipv4) if version == 4 else IPv6Address(end.ipv6) for end in ends]

    def size(self) -> int:
        """Bytes of data: often few, often around the limits of 1260, 1280 and 1500."""
        dice = self.dice
        return dice.choice((dice.randrange(64), dice.randrange(64), dice.randrange(600), dice.randrange(1180, 1300), dice.randrange(3000)))

    def protocol(self, version: int, near: End, far: End) -> int | str:
        dice = self.dice
        if self.fault == "protocol":
            return dice.choice((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, ICMPV6) if version == 4 else (ICMP,))
        if self.fault in FAULTS_OF:
            return FAULTS_OF[self.fault]
        if self.fault == "portless" or not (near.is_shared or far.is_shared) and self.chance(4):
            return dice.choice(PORTLESS)
        return dice.choice(PROTOCOLS)

    def upper(self, version: int, source: End, destination: End, protocol: int | str) -> tuple[int, bytes]:
        """Protocol and upper-layer packet; the checksum is right."""
        dice = self.dice
        data = dice.randbytes(self.size())
        ports = struct.pack("!HH", source.port, destination.port)
        if protocol == TCP:
            upper = ports + dice.randbytes(8) + bytes([0x50, dice.choice((0x18, 0x18, 0x02, 0x12))]) + dice.randbytes(6) + data
        elif protocol == UDP:
            upper = ports + struct.pack("!HH", 8 + len(data), 0) + data
        elif protocol == UDPLITE:  # the sum covers all of it
            upper = ports + bytes(4) + data
        elif protocol == DCCP:  # 16 bytes of header; the sum covers all of it
            upper = ports + bytes([4, 0]) + bytes(10) + data
        elif protocol == ECHO:
            protocol = ICMP if version == 4 else ICMPV6
            kind = dice.choice((8, 0) if version == 4 else (128, 129))
            if self.fault == "kind":
                kind = dice.getrandbits(8)
            upper = struct.pack("!BBHHH", kind, 0, 0, source.port, dice.getrandbits(16)) + data
        else:
            upper = data
        if self.fault == "tiny":
            upper = upper[:dice.randrange(20)]
        upper = self.summed(version, source, destination, protocol, upper)
        if protocol == UDP and len(upper) >= 8 and (self.fault == "unsummed" or self.chance(8)):
            length = dice.randbytes(2) if self.fault == "unsummed" else upper[4:6]
            upper = upper[:4] + length + bytes(2) + upper[8:]
        return protocol, upper

    def summed(self, version: int, source: End, destination: End, protocol: int, upper: bytes) -> bytes:
        """With a right checksum; one in 30 is chosen so that the translator's is zero, by the first word of the data."""
        at = CHECKSUM_AT.get(protocol)
        if at is None or len(upper) < at + 2:
            return upper

        def sum_of(version: int, protocol: int, upper: bytes) -> int:
            ends = b"".join(address.packed for address in self.addresses(version, source, destination))
            return packets.checksum(packets.pseudo_header(ends, len(upper), protocol) + upper)

        upper = upper[:at] + bytes(2) + upper[at + 2:]
        if protocol in (TCP, UDP, DCCP, UDPLITE) and len(upper) >= 22 and self.chance(30):
            upper = upper[:20] + bytes(2) + upper[22:]
            upper = upper[:20] + struct.pack("!H", sum_of(10 - version, protocol, upper)) + upper[22:]
        value = sum_of(version, protocol, upper)
        return upper[:at] + struct.pack("!H", value or 0xFFFF if protocol in (UDP, UDPLITE) else value) + upper[at + 2:]

    def parts(self, version: int, source: End, destination: End, protocol: int | str, identification: int) -> list[tuple[bytes, int | None]]:
        """The fragments of a datagram: in order, the first one last, or without it; and mostly the length beside first ones."""
        dice = self.dice
        protocol, upper = self.upper(version, source, destination, protocol)
        first = 8 * dice.randrange(3, max(4, len(upper) // 8))
        bounds = sorted({0, first, first + 8 * dice.randrange(max(0, len(upper) - first) // 8 + 1), max(first + 8, len(upper))})
        made = []
        for start, end in zip(bounds, bounds[1:]):
            packet = self.packet(version, source, destination, protocol, upper[start:end], (start, int(end < bounds[-1]), identification))
            made.append((packet, None if start or self.chance(5) else len(upper)))
        if self.chance(4):
            made.append(made.pop(0))
        elif self.chance(4):
            del made[0]
        return made

    def packet(self, version: int, source: End, destination: End, protocol: int, upper: bytes, fragment=None) -> bytes:
        """An IP packet with all that may vary in its header; fragment: offset, more, identification."""
        dice, ends = self.dice, self.addresses(version, source, destination)
        if version == 4:
            options = dice.choice(OPTIONS) if self.chance(8) else b""
            if self.fault == "options":
                options = dice.choice(BAD_OPTIONS)
            start, more, identification = fragment or (0, 0, dice.getrandbits(16))
            flags = more << 13 | start >> 3 if fragment else dice.choice((0, 0x4000))
            return packets.ipv4(*ends, protocol, upper, dice.getrandbits(8), options, flags, identification & 0xFFFF, dice.randint(1, 255))
        if not fragment and self.chance(12):
            fragment = (0, 0, dice.getrandbits(32))
        if fragment:
            protocol, upper = FRAGMENT, struct.pack("!BBHI", protocol, 0, fragment[0] | fragment[1], fragment[2]) + upper
            if self.fault == "options" and self.chance(2):  # behind a Fragment header
                upper = bytes([DESTINATION_OPTIONS]) + upper[1:]
        count = dice.randint(1, 3 if fragment else 4) if self.chance(8) else 0
        if self.fault == "options":
            count = dice.randint(1, 6)
        for _number in range(count):
            if len(upper) > 3000:  # a test run takes no more than a page
                break
            words = dice.choice((0, 0, 1, 5, 40 if self.fault == "options" else 2))
            kind = dice.choice((HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS))
            left = dice.choice((0, 1)) if self.fault == "options" and kind == ROUTING else 0
            protocol, upper = kind, bytes([protocol, words, 0, left]) + bytes(4 + 8 * words) + upper
        made = packets.ipv6(*ends, protocol, upper, dice.randint(1, 255), dice.getrandbits(8))
        return made[:1] + bytes([made[1] & 0xF0 | dice.getrandbits(4)]) + dice.randbytes(2) + made[4:]

    def error(self, version: int, source: End, destination: End, protocol: int | str) -> list[tuple[bytes, int | None]]:
        """An ICMP error about a packet of the other direction."""
        dice, fault = self.dice, self.fault
        quoted_source, quoted_destination = destination, source
        self.fault = fault if fault in ("options", "quoted_error") else None
        protocol, upper = self.upper(version, quoted_source, quoted_destination, protocol)
        if fault == "quoted_error":
            protocol = ICMP if version == 4 else ICMPV6
            upper = bytes([dice.choice((3, 13) if version == 4 else (1, 135))]) + upper[1:]
        fragment = (8 * dice.randint(1, 99), dice.getrandbits(1), dice.getrandbits(32)) if fault == "quoted_fragment" else None
        if fragment is None and self.chance(10):
            fragment = (0, 1, dice.getrandbits(32))
        quote = self.packet(version, quoted_source, quoted_destination, protocol, upper, fragment)
        header = len(quote) - len(upper)
        cut = dice.randrange(header + 8) if fault == "short" else max(header + 8, dice.choice((0, header + dice.randint(8, 60), 128, 548, 1232)))
        quote = quote[:cut]
        kind, code, word = self.error_kind(version, fault == "kind")
        if self.chance(4):
            length, quote = self.extended(version, quote)
            word |= length << 16 if version == 4 else length << 24 if kind in (1, 3) else 0
        source, destination = self.error_ends(version, source, destination, fault)
        upper = struct.pack("!BBHI", kind, code, 0, word & 0xFFFFFFFF) + quote
        upper = self.summed(version, source, destination, ICMP if version == 4 else ICMPV6, upper)
        self.fault = fault
        fragment = (dice.choice((0, 0, 64)), dice.getrandbits(1), dice.getrandbits(32)) if fault == "fragment" else None
        return [(self.packet(version, source, destination, ICMP if version == 4 else ICMPV6, upper, fragment), None)]

    def error_ends(self, version: int, source: End, destination: End, fault: str | None) -> tuple[End, End]:
        """Who sends an error, the receiver of what it quotes or a router on its way; and to whom."""
        network = self.network
        if fault == "quote":
            destination = network.far() if version == 4 else network.near()
        if version == 4 and self.chance(3):
            source = network.near()
        elif version == 6 and (fault == "stranger" or self.chance(3)):
            router = End(0, self.dice.getrandbits(128), 0, None)
            source = network.far() if fault == "stranger" else self.dice.choice((router, network.server() if network.is_edge else router))
        return source, destination

    def error_kind(self, version: int, is_any: bool) -> tuple[int, int, int]:
        """Type, code and second word of an error, of one that can be translated if is_any is not true."""
        dice = self.dice
        if is_any:
            return dice.choice((3, 4, 5, 11, 12) if version == 4 else (1, 2, 3, 4, 5, 100)), dice.randrange(20), dice.getrandbits(8) << dice.choice((0, 24))
        if version == 4:
            return dice.choice((
                (3, dice.choice((2, *UNREACHABLE_TO_IPV6)), 0), (3, 4, dice.choice(MTUS)), (11, dice.getrandbits(1), 0),
                (12, dice.choice((0, 2)), dice.choice(list(POINTER_TO_IPV6)) << 24),
            ))
        return dice.choice((
            (1, dice.choice(list(UNREACHABLE_TO_IPV4)), 0), (2, 0, dice.choice((*MTUS, 0x10000, 0xFFFFFFFF))), (3, dice.getrandbits(1), 0),
            (4, 0, dice.choice(list(POINTER_TO_IPV4))), (4, 1, 40),
        ))

    def extended(self, version: int, quote: bytes) -> tuple[int, bytes]:
        """The length of RFC 4884, now and then a wrong one, and the quoted packet with padding and extensions behind it."""
        dice, unit = self.dice, 4 if version == 4 else 8
        quote += bytes(max(-len(quote) % unit, 128 - len(quote)))
        length = min(255, len(quote) // unit)
        extensions = b"\x20\0" + dice.randbytes(dice.choice((10, 18, 62, 254, 290)))
        if self.chance(6):
            length = dice.choice((1, 4, dice.getrandbits(8), 255))
        return length, quote + (extensions if dice.randrange(5) else b"")

    def mutated(self, packet: bytes) -> bytes:
        """With some bits flipped, mostly in the headers, or without its end."""
        dice = self.dice
        if not packet or self.chance(4):
            return packet[:dice.randrange(len(packet) + 1)]
        changed = bytearray(packet)
        for _number in range(dice.choice((1, 1, 2, 4))):
            changed[dice.randrange(dice.choice((min(len(packet), 56), min(len(packet), 120), len(packet))))] ^= 1 << dice.randrange(8)
        return bytes(changed)
