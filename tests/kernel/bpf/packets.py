# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPv6 packets with right checksums, built here from nothing so that nobody's arithmetic checks itself."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

TCP, UDP, FRAGMENT, ICMPV6 = 6, 17, 44, 58
UNREACHABLE, TOO_BIG, TIME_EXCEEDED, ECHO_REQUEST, ECHO_REPLY = 1, 2, 3, 128, 129
ETHERNET = bytes.fromhex("020000000001 020000000002 86dd")
HEADER = 40


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(source: str, destination: str, length: int, protocol: int) -> bytes:
    return IPv6Address(source).packed + IPv6Address(destination).packed + struct.pack("!II", length, protocol)


def ipv6(source: str, destination: str, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    """An IPv6 packet around a ready payload."""
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
    return header + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def summed(source: str, destination: str, protocol: int, upper: bytes, offset: int) -> bytes:
    """An IPv6 packet around an upper-layer packet whose checksum, at `offset`, is filled in."""
    value = checksum(pseudo_header(source, destination, len(upper), protocol) + upper)
    if protocol == UDP and not value:
        value = 0xFFFF
    return ipv6(source, destination, protocol, upper[:offset] + struct.pack("!H", value) + upper[offset + 2 :])


def udp(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"datagram") -> bytes:
    return summed(source, destination, UDP, struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data, 6)


def tcp(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"segment") -> bytes:
    header = struct.pack("!HHIIHHHH", source_port, destination_port, 1, 2, 5 << 12 | 0x18, 1000, 0, 0)
    return summed(source, destination, TCP, header + data, 16)


def echo(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"echo") -> bytes:
    """An echo request with the identifier `source_port` or, when that is 9, a reply with `destination_port`."""
    kind, identifier = (ECHO_REPLY, destination_port) if source_port == 9 else (ECHO_REQUEST, source_port)
    return summed(source, destination, ICMPV6, struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + data, 2)


def error(source: str, destination: str, quoted: bytes, kind: int = UNREACHABLE, word: int = 0) -> bytes:
    """An ICMPv6 error; word: the second four bytes, the MTU of TOO_BIG."""
    return summed(source, destination, ICMPV6, struct.pack("!BBHI", kind, 0, 0, word) + quoted, 2)


def fragments(packet: bytes, sizes: list[int], identification: int = 0x12345678) -> list[bytes]:
    """A packet cut into fragments with payloads of these sizes (multiples of 8) and a rest."""
    protocol, payload = packet[6], packet[HEADER:]
    source, destination = str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40]))
    pieces, start = [], 0
    for size in [*sizes, len(payload)]:
        piece = payload[start : start + size]
        more = start + len(piece) < len(payload)
        header = struct.pack("!BBHI", protocol, 0, start | more, identification)
        pieces.append(ipv6(source, destination, FRAGMENT, header + piece))
        start += len(piece)
    return pieces


def has_valid_checksum(packet: bytes) -> bool:
    """Whether the upper-layer checksum of a whole packet is right."""
    upper, protocol = packet[HEADER:], packet[6]
    pseudo = packet[8:40] + struct.pack("!II", len(upper), protocol)
    return checksum(pseudo + upper) == 0


def source_of(packet: bytes) -> str:
    return str(IPv6Address(packet[8:24]))


def destination_of(packet: bytes) -> str:
    return str(IPv6Address(packet[24:40]))
