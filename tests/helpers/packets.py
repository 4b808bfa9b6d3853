# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPv4 and IPv6 packets with right checksums: the one builder and the one checksum of the tests.

Built from nothing, so that no arithmetic of the product checks itself, and by the standard library alone: bytes are what the
tests compare, hundreds of thousands of them, and a node of the lab can run this file. scapy takes a second to import and builds
a hundred times slower; the lab forges its odd packets with it.
The addresses, as text or as objects of ipaddress, decide the version.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

ICMP, IPIP, TCP, UDP, FRAGMENT, ICMPV6 = 1, 4, 6, 17, 44, 58
IPV4, IPV6 = 0x0800, 0x86DD  # EtherTypes
IPV4_HEADER, IPV6_HEADER = 20, 40  # bytes, without options
ICMP_ECHO_REPLY, ICMP_UNREACHABLE, ICMP_REDIRECT, ICMP_ECHO_REQUEST, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM = 0, 3, 5, 8, 11, 12
ICMPV6_UNREACHABLE, ICMPV6_TOO_BIG, ICMPV6_TIME_EXCEEDED, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY = 1, 2, 3, 128, 129
SYN, PSH, ACK = 0x02, 0x08, 0x10  # flags of TCP
CHECKSUM_AT = {ICMP: 2, ICMPV6: 2, TCP: 16, UDP: 6}  # where a checksum stands in its header
DISCARD = 9  # the port of RFC 863: of the far end, in the tests


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that holds a right one."""
    total = sum(struct.unpack("!%dH" % ((len(data) + 1) // 2), data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(addresses: bytes, length: int, protocol: int) -> bytes:
    """What a checksum covers besides the upper-layer packet; addresses: source and destination. IPv4's sums up as IPv6's does."""
    return b"" if protocol == ICMP else addresses + struct.pack("!II", length, protocol)


def ipv4(source, destination, protocol: int, payload: bytes, tos: int = 0, options: bytes = b"", fragment: int = 0,
         identification: int = 0x1234, ttl: int = 64, length: int | None = None) -> bytes:
    """An IPv4 packet around a ready payload; fragment: flags and offset; length: the total length, if it is to be wrong."""
    words = (IPV4_HEADER + len(options)) // 4
    length = words * 4 + len(payload) if length is None else length
    header = struct.pack("!BBHHHBBH", 4 << 4 | words, tos, length, identification, fragment, ttl, protocol, 0)
    header += ip_address(source).packed + ip_address(destination).packed + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(source, destination, protocol: int, payload: bytes, hop_limit: int = 64, traffic_class: int = 0) -> bytes:
    """An IPv6 packet around a ready payload."""
    header = struct.pack("!IHBB", 6 << 28 | traffic_class << 20, len(payload), protocol, hop_limit)
    return header + ip_address(source).packed + ip_address(destination).packed + payload


def summed(source, destination, protocol: int, upper: bytes, **fields) -> bytes:
    """A packet around an upper-layer packet whose checksum is filled in; fields: of ipv4() or ipv6()."""
    source, destination, at = ip_address(source), ip_address(destination), CHECKSUM_AT[protocol]
    before, after = upper[:at], upper[at + 2:]
    value = checksum(pseudo_header(source.packed + destination.packed, len(upper), protocol) + before + b"\0\0" + after)
    if protocol == UDP and not value:
        value = 0xFFFF
    build = ipv4 if source.version == 4 else ipv6
    return build(source, destination, protocol, before + struct.pack("!H", value) + after, **fields)


def udp(source, destination, source_port: int, destination_port: int, data: bytes = b"datagram", **fields) -> bytes:
    return summed(source, destination, UDP, struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data, **fields)


def tcp(source, destination, source_port: int, destination_port: int, data: bytes = b"segment", flags: int = PSH | ACK, **fields) -> bytes:
    header = struct.pack("!HHIIHHHH", source_port, destination_port, 1, 2, 5 << 12 | flags, 1000, 0, 0)
    return summed(source, destination, TCP, header + data, **fields)


def icmp(source, destination, kind: int, code: int = 0, word: int = 0, data: bytes = b"", **fields) -> bytes:
    """A message of ICMP or ICMPv6; word: the second four bytes."""
    protocol = ICMP if ip_address(source).version == 4 else ICMPV6
    return summed(source, destination, protocol, struct.pack("!BBHI", kind, code, 0, word) + data, **fields)


def echo(source, destination, source_port: int, destination_port: int = DISCARD, data: bytes = b"echo", **fields) -> bytes:
    """An echo with the ports of udp(): a request has the identifier source_port, a reply (from DISCARD) destination_port."""
    request, reply = (ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY) if ip_address(source).version == 4 else (ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY)
    kind, identifier = (reply, destination_port) if source_port == DISCARD else (request, source_port)
    return icmp(source, destination, kind, 0, identifier << 16 | 1, data, **fields)


def error(source, destination, quoted: bytes, kind: int | None = None, word: int = 0, code: int = 0, **fields) -> bytes:
    """An error of ICMP or ICMPv6, by default "unreachable"; word: the second four bytes, where ICMPv6's MTU is."""
    if kind is None:
        kind = ICMP_UNREACHABLE if ip_address(source).version == 4 else ICMPV6_UNREACHABLE
    return icmp(source, destination, kind, code, word, quoted, **fields)


def fragments(packet: bytes, sizes: list[int], identification: int = 0x12345678) -> list[bytes]:
    """A packet without options cut into fragments with payloads of these sizes (multiples of 8) and a rest."""
    source, destination = source_of(packet), destination_of(packet)
    protocol, payload = (packet[9], packet[IPV4_HEADER:]) if packet[0] >> 4 == 4 else (packet[6], packet[IPV6_HEADER:])
    pieces, start = [], 0
    for size in [*sizes, len(payload)]:
        piece = payload[start:start + size]
        more = start + len(piece) < len(payload)
        if packet[0] >> 4 == 4:
            pieces.append(ipv4(source, destination, protocol, piece, fragment=more << 13 | start // 8, identification=identification & 0xFFFF))
        else:
            header = struct.pack("!BBHI", protocol, 0, start | more, identification)
            pieces.append(ipv6(source, destination, FRAGMENT, header + piece))
        start += len(piece)
    return pieces


def has_valid_checksum(packet: bytes) -> bool:
    """Whether the upper-layer checksum of a whole packet is right, and an IPv4 header's own."""
    if packet[0] >> 4 == 4:
        header = 4 * (packet[0] & 15)
        addresses, protocol, upper, good = packet[12:20], packet[9], packet[header:], checksum(packet[:header]) == 0
    else:
        addresses, protocol, upper, good = packet[8:40], packet[6], packet[IPV6_HEADER:], True
    return good and checksum(pseudo_header(addresses, len(upper), protocol) + upper) == 0


def source_of(packet: bytes) -> str:
    return str(ip_address(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]))


def destination_of(packet: bytes) -> str:
    return str(ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]))
