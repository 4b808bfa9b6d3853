# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ICMP errors for the oracle of the translator: their types, codes and second words (RFC 7915 sections 4.2 and 5.2, RFC 792, RFC 4443),
and the extensions behind what they quote (RFC 4884)."""

from __future__ import annotations

from rfc7597 import Dropped

UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM = 3, 11, 12  # RFC 792
UNREACHABLE6, TOO_BIG6, TIME_EXCEEDED6, PARAMETER_PROBLEM6 = 1, 2, 3, 4  # RFC 4443
IPV6_MINIMUM_MTU = 1280  # bytes, RFC 8200 section 5
HEADER_DIFFERENCE = 20  # bytes between an IPv4 and an IPv6 header
PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492)  # bytes, RFC 1191 section 7.1, as far as IPv6 may use them
NEXT_HEADER_AT = 6  # in the IPv6 header
# the code of "destination unreachable" -> that of the other version
UNREACHABLE_TO_IPV6 = {0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 15: 1}
UNREACHABLE_TO_IPV4 = {0: 1, 1: 10, 2: 1, 3: 1, 4: 3}
# the byte that "parameter problem" points to -> that of the other version (RFC 7915 sections 4.2 and 5.2)
POINTER_TO_IPV6 = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, **dict.fromkeys(range(12, 16), 8), **dict.fromkeys(range(16, 20), 24)}
POINTER_TO_IPV4 = {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, **dict.fromkeys(range(8, 24), 12), **dict.fromkeys(range(24, 40), 16)}
EXTENSIONS_LIMIT = 256  # bytes of extensions that are carried over


def found(table: dict[int, int], key: int) -> int:
    """A table's entry; Dropped without one."""
    if key not in table:
        raise Dropped("untranslatable")
    return table[key]


def error_to_ipv6(kind: int, code: int, word: int, quoted_length: int, ipv6_mtu: int) -> tuple[int, int, int]:
    """Type, code and second word of the ICMPv6 error for an ICMPv4 one, without a length of what is quoted.

    quoted_length: total length of the quoted packet, for the MTU where the router told none; ipv6_mtu: of the way into the softwire.
    """
    if kind == UNREACHABLE and code == 2:
        return PARAMETER_PROBLEM6, 1, NEXT_HEADER_AT
    if kind == UNREACHABLE and code == 4:
        mtu = word & 0xFFFF or next((value for value in PLATEAUS if value < quoted_length), 0)
        return TOO_BIG6, 0, max(IPV6_MINIMUM_MTU, min(mtu + HEADER_DIFFERENCE, ipv6_mtu))
    if kind == UNREACHABLE:
        return UNREACHABLE6, found(UNREACHABLE_TO_IPV6, code), 0
    if kind == TIME_EXCEEDED:
        return TIME_EXCEEDED6, code, 0
    if kind == PARAMETER_PROBLEM and code in (0, 2):
        return PARAMETER_PROBLEM6, 0, found(POINTER_TO_IPV6, word >> 24)
    raise Dropped("untranslatable")


def error_to_ipv4(kind: int, code: int, word: int, ipv6_mtu: int) -> tuple[int, int, int]:
    """Type, code and second word of the ICMPv4 error for an ICMPv6 one, without a length of what is quoted."""
    if kind == UNREACHABLE6:
        return UNREACHABLE, found(UNREACHABLE_TO_IPV4, code), 0
    if kind == TOO_BIG6:
        return UNREACHABLE, 4, min(max(word, IPV6_MINIMUM_MTU), ipv6_mtu) - HEADER_DIFFERENCE
    if kind == TIME_EXCEEDED6:
        return TIME_EXCEEDED, code, 0
    if kind == PARAMETER_PROBLEM6 and code == 0:
        return PARAMETER_PROBLEM, 0, found(POINTER_TO_IPV4, word) << 24
    if kind == PARAMETER_PROBLEM6 and code == 1:
        return UNREACHABLE, 2, 0
    raise Dropped("untranslatable")


def split_extensions(data: bytes, size: int, read: int) -> tuple[bytes, bytes]:
    """What an error quotes, with its padding, and the extensions behind it (RFC 4884 section 4).

    size: bytes of the first, as the error says, or 0; read: bytes of it that the translation has looked at.
    There are no extensions where the size cannot be true, or more of them than are carried over.
    """
    if read <= size < len(data) <= size + EXTENSIONS_LIMIT:
        return data[:size], data[size:]
    return data, b""


def join_extensions(quoted: bytes, extensions: bytes, unit: int, least: int) -> tuple[int, bytes]:
    """The length of what is quoted, in units of bytes, and what follows the first eight bytes of an error.

    With extensions it is padded to whole units, and to `least` bytes. The length is 0 without them, and where it cannot be told.
    """
    padded = quoted + bytes(max(-len(quoted) % unit, least - len(quoted)))
    length = len(padded) // unit
    return (length, padded + extensions) if extensions and length <= 0xFF else (0, quoted + extensions)
