# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IP headers for the oracle of the translator, read and written: RFC 791, RFC 8200, RFC 7915 sections 4.1 and 5.1."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rfc7597 import Dropped

HOP_BY_HOP, ICMP, ROUTING, FRAGMENT, ICMPV6, DESTINATION_OPTIONS = 0, 1, 43, 44, 58, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS)
EXTENSIONS_LIMIT = (4, 256)  # headers, and bytes of those before a Fragment header
OTHER = {ICMP: ICMPV6, ICMPV6: ICMP}  # protocol -> that of the other version
END_OF_OPTIONS, NO_OPERATION, LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE = 0, 1, 131, 137  # RFC 791 section 3.1
DONT_FRAGMENT = 0x4000
LARGEST = 0xFFFF  # what a length of 16 bits can say


def ones(data: bytes) -> int:
    """The one's complement sum of 16-bit words (RFC 1071), 0 to 0xfffe."""
    return int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF


@dataclass
class Header:
    """An IP header, with options or extension headers."""

    tos: int  # or traffic class
    ttl: int  # or hop limit
    protocol: int  # or the upper layer's next header
    addresses: bytes  # source and destination
    length: int  # bytes behind it, as it says
    size: int = 0  # bytes, where it is read
    offset: int = 0  # bytes of the datagram before this fragment
    more: int = 0  # 1: fragments follow
    identification: int | None = None  # None: without a Fragment header; an IPv4 packet that is no fragment has none

    @property
    def source(self) -> int:
        return int.from_bytes(self.addresses[:len(self.addresses) // 2], "big")

    @property
    def destination(self) -> int:
        return int.from_bytes(self.addresses[len(self.addresses) // 2:], "big")

    @property
    def is_part(self) -> bool:
        """Whether the packet is not the whole datagram."""
        return bool(self.offset or self.more)

    def pseudo_sum(self, length: int) -> int:
        """The sum of the pseudo-header (RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1); ICMPv4 has none."""
        return 0 if self.protocol == ICMP else ones(self.addresses) + self.protocol + length


def read_ipv4(data: bytes) -> Header:
    """The header of an IPv4 packet (RFC 791 section 3.1); Dropped if it is not all there or cannot be translated."""
    if len(data) < 20 or data[0] >> 4 != 4:
        raise Dropped("tiny")
    size = 4 * (data[0] & 15)
    tos, total, identification, fragment, ttl, protocol = struct.unpack_from("!xBHHHBB", data)
    if size < 20 or size > len(data) or size > total:
        raise Dropped("tiny")
    if protocol in (*EXTENSIONS, ICMPV6):
        raise Dropped("untranslatable")
    header = Header(tos, ttl, protocol, data[12:20], total - size, size)
    if fragment & 0x3FFF:
        header.offset, header.more, header.identification = 8 * (fragment & 0x1FFF), fragment >> 13 & 1, identification
    return header


def has_source_route(options: bytes) -> bool:
    """Whether a source route still has hops (RFC 7915 section 4.1); one that is cut off has."""
    at = 0
    while at < len(options) and options[at] != END_OF_OPTIONS:
        length, pointer = (1, 0) if options[at] == NO_OPERATION else (options + bytes(2))[at + 1:at + 3]
        if not length:  # what follows cannot be read
            break
        if options[at] in (LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE) and pointer <= length:
            return True
        at += length
    return False


def read_ipv6(data: bytes) -> Header:
    """The header of an IPv6 packet and its extension headers (RFC 8200 section 4, RFC 7915 section 5.1); Dropped as by read_ipv4."""
    if len(data) < 40 or data[0] >> 4 != 6:
        raise Dropped("tiny")
    first, payload, protocol, hop_limit = struct.unpack_from("!IHBB", data)
    at, count = 40, 0
    while protocol in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        if at + 8 > len(data):
            raise Dropped("tiny")
        size, count = 8 * (data[at + 1] + 1), count + 1
        if protocol == ROUTING and data[at + 3] or count > EXTENSIONS_LIMIT[0] or at + size > min(len(data), 40 + EXTENSIONS_LIMIT[1]):
            raise Dropped("untranslatable")
        protocol, at = data[at], at + size
    header = Header(first >> 20 & 0xFF, hop_limit, protocol, data[8:40], 0, at)
    if protocol == FRAGMENT:
        if count == EXTENSIONS_LIMIT[0]:
            raise Dropped("untranslatable")
        if at + 8 > len(data):
            raise Dropped("tiny")
        header.protocol, offset, header.identification = struct.unpack_from("!BxHI", data, at)
        header.offset, header.more, header.size = offset & 0xFFF8, offset & 1, at + 8
    if header.protocol in EXTENSIONS or header.protocol == ICMP:
        raise Dropped("untranslatable")
    header.length = 40 + payload - header.size
    if header.size > len(data) or header.length < 0:
        raise Dropped("tiny")
    return header


def upper_of(packet: bytes, header: Header) -> bytes:
    """What is behind the header of a packet that has to be complete."""
    upper = packet[header.size:header.size + header.length]
    if len(upper) < header.length:
        raise Dropped("tiny")
    return upper


def across(old: Header, source: int, destination: int, length: int, ttl: int) -> Header:
    """The header of the other version: between these addresses, with `length` bytes behind it."""
    size = 16 if len(old.addresses) == 8 else 4
    addresses = source.to_bytes(size, "big") + destination.to_bytes(size, "big")
    return Header(old.tos, ttl, OTHER.get(old.protocol, old.protocol), addresses, length, 0, old.offset, old.more, old.identification)


def write_ipv6(header: Header) -> bytes:
    """The IPv6 header (RFC 7915 section 4.1), with a Fragment header where there is an identification."""
    length, protocol, fragment = header.length, header.protocol, b""
    if header.identification is not None:
        fragment = struct.pack("!BBHI", protocol, 0, header.offset | header.more, header.identification)
        length, protocol = length + len(fragment), FRAGMENT
    if length > LARGEST:
        raise Dropped("untranslatable")
    return struct.pack("!IHBB", 6 << 28 | header.tos << 20, length, protocol, header.ttl) + header.addresses + fragment


def write_ipv4(header: Header, identification: int) -> bytes:
    """The IPv4 header (RFC 7915 section 5.1); identification: of a packet that may be fragmented and comes without one."""
    total = 20 + header.length
    if total > LARGEST:
        raise Dropped("untranslatable")
    if header.identification is not None:
        identification, fragment = header.identification & 0xFFFF, header.more << 13 | header.offset >> 3
    elif total > 1260:
        identification, fragment = 0, DONT_FRAGMENT
    else:
        fragment = 0
    first = struct.pack("!BBHHHBB", 0x45, header.tos, total, identification, fragment, header.ttl, header.protocol)
    return first + struct.pack("!H", -ones(first + header.addresses) % 0xFFFF) + header.addresses
