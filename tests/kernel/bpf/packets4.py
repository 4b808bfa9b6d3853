# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPv4 packets with right checksums, as packets.py builds IPv6 ones."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from packets import TCP, UDP, checksum

ICMP = 1
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 8, 11, 12
HEADER = 20


def ipv4(source: str, destination: str, protocol: int, payload: bytes, tos: int = 0, options: bytes = b"", fragment: int = 0,
         identification: int = 0x1234, length: int | None = None) -> bytes:
    """An IPv4 packet around a ready payload; fragment: flags and offset; length: the total length, if it is to be wrong."""
    words = (HEADER + len(options)) // 4
    length = words * 4 + len(payload) if length is None else length
    header = struct.pack("!BBHHHBBH", 4 << 4 | words, tos, length, identification, fragment, 64, protocol, 0)
    header += IPv4Address(source).packed + IPv4Address(destination).packed + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def _summed(source: str, destination: str, protocol: int, upper: bytes, offset: int, **fields) -> bytes:
    pseudo = b"" if protocol == ICMP else IPv4Address(source).packed + IPv4Address(destination).packed + struct.pack("!HH", protocol, len(upper))
    return ipv4(source, destination, protocol, upper[:offset] + struct.pack("!H", checksum(pseudo + upper)) + upper[offset + 2 :], **fields)


def udp(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"datagram", **fields) -> bytes:
    return _summed(source, destination, UDP, struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data, 6, **fields)


def tcp(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"segment", **fields) -> bytes:
    header = struct.pack("!HHIIHHHH", source_port, destination_port, 1, 2, 5 << 12 | 0x18, 1000, 0, 0)
    return _summed(source, destination, TCP, header + data, 16, **fields)


def echo(source: str, destination: str, source_port: int, destination_port: int, data: bytes = b"echo", **fields) -> bytes:
    """An echo request with the identifier `source_port` or, when that is 9, a reply with `destination_port`."""
    kind, identifier = (ECHO_REPLY, destination_port) if source_port == 9 else (ECHO_REQUEST, source_port)
    return _summed(source, destination, ICMP, struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + data, 2, **fields)


def error(source: str, destination: str, quoted: bytes, kind: int = UNREACHABLE, **fields) -> bytes:
    """An ICMP error."""
    return _summed(source, destination, ICMP, struct.pack("!BBHI", kind, 0, 0, 0) + quoted, 2, **fields)


def fragments(packet: bytes, sizes: list[int], identification: int = 0x1234) -> list[bytes]:
    """A packet without options cut into fragments with payloads of these sizes (multiples of 8) and a rest."""
    source, destination = (str(IPv4Address(packet[start : start + 4])) for start in (12, 16))
    payload, pieces, start = packet[HEADER:], [], 0
    for size in [*sizes, len(payload)]:
        piece = payload[start : start + size]
        more = 0x2000 if start + len(piece) < len(payload) else 0
        pieces.append(ipv4(source, destination, packet[9], piece, fragment=more | start // 8, identification=identification))
        start += len(piece)
    return pieces
