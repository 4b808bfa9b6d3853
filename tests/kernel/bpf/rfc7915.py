# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The oracle of the MAP-T translator: what a CE and a BR make of a packet, by RFC 7915, RFC 7599 and what they cite.

A packet is bytes from its IP header on; what lies behind its own length is padding and left away. The answer is the packet that
leaves, or the reason why none does. Of several reasons it is the first in this order: the IP header (tiny, untranslatable), the
upper-layer header, and in an ICMP error the quoted packet's headers; addresses and ports, those of the near side first; what else
cannot be translated; the datagram's other fragments.

Checksums are those of the whole packet before and after, never of a difference: a sum that was right is right, a wrong one stays
wrong by as much. Nothing is reassembled, cut or answered.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from icmp_errors import TIME_EXCEEDED6, UNREACHABLE6, error_to_ipv4, error_to_ipv6, found, join_extensions, split_extensions
from ip_headers import ICMP, ICMPV6, Header, across, has_source_route, ones, read_ipv4, read_ipv6, upper_of, write_ipv4, write_ipv6
from rfc7597 import DefaultRule, Dropped, Rule, Rules, is_martian

TCP, UDP, DCCP, UDPLITE = 6, 17, 33, 136
PORTS = (TCP, UDP)
CHECKSUM_AT = {TCP: 16, UDP: 6, DCCP: 6, UDPLITE: 6, ICMP: 2, ICMPV6: 2}
ECHO = {ICMP: {8: 128, 0: 129}, ICMPV6: {128: 8, 129: 0}}  # type -> that of the other version
ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
NO_PORTS, LOST_PORTS, NOT_CHECKED = ("no_port", "no_port"), ("lost_fragment", "lost_fragment"), (None, None)
UNSUMMED_LIMIT = 16384  # bytes behind the IP header for which the sum of an IPv4 UDP packet without one is computed
ROUTER = 0xC0000008  # 192.0.0.8, for routers without an IPv4 address (RFC 7600), as RFC 6791 wants one


def check_upper(protocol: int, upper: bytes) -> None:
    """A packet that is not a later fragment has to have its ports and its checksum."""
    if protocol in CHECKSUM_AT and len(upper) < max(8, CHECKSUM_AT[protocol] + 2):
        raise Dropped("tiny")


def ports_of(protocol: int, upper: bytes) -> tuple[int | str, int | str]:
    """Source and destination port, an echo's identifier being both (RFC 7599 section 9); or the reason why there are none."""
    if len(upper) >= 8 and protocol in PORTS:
        return struct.unpack_from("!HH", upper)
    if len(upper) >= 8 and protocol in ECHO and upper[0] in ECHO[protocol]:
        return struct.unpack_from("!H", upper, 4) * 2
    return NO_PORTS


def resum(old: bytes, new: bytes, protocol: int, before: int, after: int) -> bytes:
    """An upper-layer packet with the checksum that makes it as right as it was.

    old, new: the packet and what it becomes, of whose old checksum nothing is left; before, after: sums of their pseudo-headers.
    """
    at = CHECKSUM_AT[protocol]
    head, tail = new[:at], new[at + 2:]
    value = (before + ones(old) - after - ones(head + b"\0\0" + tail)) % 0xFFFF
    if protocol in (UDP, UDPLITE) and not value:  # zero says that there is none (RFC 768, RFC 3828 section 3.1)
        value = 0xFFFF
    return head + struct.pack("!H", value) + tail


def translate_upper(old: Header, new: Header, upper: bytes, datagram_length: int | None) -> bytes:
    """What is behind the header of a packet that is no ICMP error (RFC 7915 sections 4.2, 4.5, 5.2 and 5.5).

    datagram_length: upper-layer bytes of the datagram that a first fragment begins, if that is known.
    """
    if old.offset or new.protocol not in CHECKSUM_AT:
        return upper
    length, result = len(upper), upper
    if new.protocol == UDP and upper[6:8] == b"\0\0":
        if len(new.addresses) == 8:
            return upper
        if old.more or length > UNSUMMED_LIMIT:
            raise Dropped("untranslatable")
        return resum(b"", upper, UDP, 0, new.pseudo_sum(length))
    if new.protocol in ECHO:
        result = bytes([ECHO[old.protocol][upper[0]]]) + upper[1:]
        if old.more:
            if datagram_length is None:
                raise Dropped("lost_length")
            length = datagram_length
    return resum(upper, result, new.protocol, old.pseudo_sum(length), new.pseudo_sum(length))


def translate_quoted(old: Header, new: Header, upper: bytes) -> bytes:
    """What is behind the header of a quoted packet, which may be cut off."""
    if old.offset or new.protocol not in CHECKSUM_AT or len(upper) < 8:
        return upper
    result, at = upper, CHECKSUM_AT[new.protocol]
    if new.protocol in ECHO:
        result = bytes([found(ECHO[old.protocol], upper[0])]) + upper[1:]
        if old.is_part:  # of the pseudo-header's length nothing is known
            return result
    elif len(upper) < at + 2 or (new.protocol == UDP and upper[6:8] == b"\0\0"):
        return upper
    before, after = old.pseudo_sum(old.length), new.pseudo_sum(old.length)
    return resum(upper, result, new.protocol, before, after)


def quoted_in(old: Header, upper: bytes, read: Callable[[bytes], Header]) -> tuple[Header, tuple[int | str, int | str], int]:
    """The header of the packet that an ICMP error quotes, its ports, and how many bytes tell both."""
    if upper[0] not in ERRORS[old.protocol] or old.is_part:
        raise Dropped("untranslatable")
    quoted = read(upper[8:])
    behind = b"" if quoted.offset else upper[8 + quoted.size:]
    if old.destination != quoted.source:
        raise Dropped("wrong_quote")
    return quoted, ports_of(quoted.protocol, behind), quoted.size + 8 * (len(behind) >= 8)


class Translator(ABC):
    """What CE and BR have in common. The near side is the CE's own, or the BR's IPv4; the far side is behind the softwire."""

    def __init__(self, rules: Iterable[Rule], dmr: str, ipv6_mtu: int):
        """dmr: an IPv6 prefix; ipv6_mtu: bytes, of the way into the softwire."""
        self.rules, self.dmr, self.ipv6_mtu = Rules(rules), DefaultRule(dmr), ipv6_mtu
        # (addresses, identification, protocol) -> ports of the first fragment; PSID of the sender, None behind the DMR
        self.first_fragments: dict[tuple, tuple[int | str, int | str]] = {}
        self.bindings: dict[tuple, int | None] = {}

    # What CE and BR decide each in its own way, or Dropped. A port is a number, the reason why it is not known, or None where
    # it is not to be looked at.

    @abstractmethod
    def near_to_ipv6(self, ipv4: int, port: int | str | None, quoted: bool = False) -> int:
        """The IPv6 address of the near side; quoted: in a packet that an ICMP error quotes."""

    @abstractmethod
    def near_to_ipv4(self, address: int, port: int | str | None) -> int:
        """The IPv4 address of the near side."""

    @abstractmethod
    def far_to_ipv6(self, ipv4: int, port: int | str) -> int:
        """The IPv6 address of the far side."""

    @abstractmethod
    def far_to_ipv4(self, address: int, port: int | str | None) -> tuple[int, int | None]:
        """The IPv4 address of the far side, and its PSID; None from behind the DMR."""

    def router_to_ipv4(self, address: int) -> int:
        """The sender of an error that is not the receiver of what it quotes (RFC 6791)."""
        if self.rules.claimed(address):
            raise Dropped("wrong_quote")
        return ROUTER

    def to_ipv6(self, packet: bytes, datagram_length: int | None = None) -> bytes | str:
        """The IPv6 packet of an IPv4 packet into the softwire, or why it is dropped; datagram_length: see translate_upper()."""
        try:
            old = read_ipv4(packet)
            upper = upper_of(packet, old)
            if has_source_route(packet[20:old.size]):
                raise Dropped("untranslatable")
            datagram = (old.addresses, old.identification, old.protocol)
            if not old.offset:
                check_upper(old.protocol, upper)
            ports = self.first_fragments.get(datagram, LOST_PORTS) if old.offset else ports_of(old.protocol, upper)
            if old.protocol == ICMP and ports is NO_PORTS:
                return self.icmpv4_error(old, upper)
            source = self.near_to_ipv6(old.source, ports[0])
            new = across(old, source, self.far_to_ipv6(old.destination, ports[1]), old.length, min(255, old.ttl + 1))
            if old.more and not old.offset:
                self.first_fragments[datagram] = ports
            return write_ipv6(new) + translate_upper(old, new, upper, datagram_length)
        except Dropped as dropped:
            return dropped.reason

    def to_ipv4(self, packet: bytes, datagram_length: int | None = None, identification: int = 0) -> bytes | str:
        """The IPv4 packet of an IPv6 packet out of the softwire, or why it is dropped.

        identification: what the program chose, for packets that may be fragmented and have none.
        """
        try:
            old = read_ipv6(packet)
            upper = upper_of(packet, old)
            if not old.offset:
                check_upper(old.protocol, upper)
            ports = NOT_CHECKED if old.offset else ports_of(old.protocol, upper)
            if old.protocol == ICMPV6 and ports is NO_PORTS:
                return self.icmpv6_error(old, upper, identification)
            destination = self.near_to_ipv4(old.destination, ports[1])
            source, psid = self.far_to_ipv4(old.source, ports[0])
            new = across(old, source, destination, old.length, min(255, old.ttl + 1))
            if old.is_part:  # of equal identifications on the IPv4 side: those of one CE (RFC 7597 section 8.3.3)
                if self.bindings.setdefault((new.addresses, old.identification & 0xFFFF, old.protocol), psid) != psid:
                    raise Dropped("mixed_fragment")
            return write_ipv4(new, identification) + translate_upper(old, new, upper, datagram_length)
        except Dropped as dropped:
            return dropped.reason

    def icmpv4_error(self, old: Header, upper: bytes) -> bytes:
        """An ICMPv4 error about a packet that came out of the softwire (RFC 7915 sections 4.2 and 4.3)."""
        quoted, ports, read = quoted_in(old, upper, read_ipv4)
        kind, code, word = error_to_ipv6(*struct.unpack_from("!BBxxI", upper), quoted.size + quoted.length, self.ipv6_mtu)
        source = self.near_to_ipv6(old.source, None)
        quoted_destination = self.near_to_ipv6(quoted.destination, ports[1], quoted=True)
        destination = self.far_to_ipv6(quoted.source, ports[0])
        inner = across(quoted, destination, quoted_destination, quoted.length, quoted.ttl)
        quote, extensions = split_extensions(upper[8:], 4 * upper[5] if kind in (UNREACHABLE6, TIME_EXCEEDED6) else 0, read)
        quote = write_ipv6(inner) + translate_quoted(quoted, inner, quote[quoted.size:])
        length, behind = join_extensions(quote, extensions, 8, 0)
        message = struct.pack("!BBHI", kind, code, 0, word | length << 24) + behind
        new = across(old, source, destination, len(message), min(255, old.ttl + 1))
        return write_ipv6(new) + resum(upper, message, ICMPV6, 0, new.pseudo_sum(len(message)))

    def icmpv6_error(self, old: Header, upper: bytes, identification: int) -> bytes:
        """An ICMPv6 error about a packet that went into the softwire (RFC 7915 sections 5.2 and 5.3)."""
        quoted, ports, read = quoted_in(old, upper, read_ipv6)
        kind, code, word = error_to_ipv4(*struct.unpack_from("!BBxxI", upper), self.ipv6_mtu)
        destination = self.near_to_ipv4(old.destination, None)
        self.near_to_ipv4(quoted.source, ports[0])
        quoted_destination, _psid = self.far_to_ipv4(quoted.destination, ports[1])
        source = quoted_destination if old.source == quoted.destination else self.router_to_ipv4(old.source)
        inner = across(quoted, destination, quoted_destination, quoted.length, quoted.ttl)
        quote, extensions = split_extensions(upper[8:], 8 * upper[4] if upper[0] in (UNREACHABLE6, TIME_EXCEEDED6) else 0, read)
        quote = write_ipv4(inner, 0) + translate_quoted(quoted, inner, quote[quoted.size:])
        length, behind = join_extensions(quote, extensions, 4, 128)
        message = struct.pack("!BBHI", kind, code, 0, word | length << 16) + behind
        new = across(old, source, destination, len(message), min(255, old.ttl + 1))
        return write_ipv4(new, identification) + resum(upper, message, ICMP, old.pseudo_sum(len(upper)), 0)


class Edge(Translator):
    """A CE (RFC 7599 sections 8.1 and 8.2)."""

    def __init__(self, rule: Rule, ea_bits: int, dmr: str, fmrs: Iterable[Rule] = (), ipv6_mtu: int = 1500):
        """rule: the BMR; ea_bits: of the end-user prefix."""
        super().__init__(fmrs, dmr, ipv6_mtu)
        self.rule = rule
        self.ipv4, self.psid, self.free = rule.share(ea_bits)

    def owns(self, ipv4: int) -> bool:
        return ipv4 >> self.free == self.ipv4 >> self.free

    def check_port(self, port: int | str | None) -> None:
        if self.rule.k and port is not None and self.rule.psid_of(port) != self.psid:
            raise Dropped("not_own_port")

    def near_to_ipv6(self, ipv4, port, quoted=False):
        if not self.owns(ipv4):
            raise Dropped("not_own_address")
        self.check_port(port)
        return self.rule.map_address(ipv4, self.psid)

    def near_to_ipv4(self, address, port):
        ipv4 = self.rule.ipv4_in(address)
        if not self.owns(ipv4) or self.rule.map_address(ipv4, self.psid) != address:
            raise Dropped("not_own_address")
        self.check_port(port)
        return ipv4

    def far_to_ipv6(self, ipv4, port):
        rule = self.rules.of(ipv4)
        return self.rules.map_address(rule, ipv4, port) if rule else self.dmr.embed(ipv4)

    def far_to_ipv4(self, address, port):
        psid = None
        if self.dmr.holds(address):
            ipv4 = self.dmr.extract(address)
            if is_martian(ipv4):
                raise Dropped("martian")
        else:
            rule = self.rules.claimed(address)
            if not rule:
                raise Dropped("outside_domain")
            ipv4, psid = self.rules.sender(rule, address, port)
        if not self.rule.k and self.owns(ipv4):
            raise Dropped("martian")
        return ipv4, psid

    def router_to_ipv4(self, address):
        return self.far_to_ipv4(address, None)[0] if self.dmr.holds(address) else super().router_to_ipv4(address)


class Relay(Translator):
    """A BR (RFC 7599 sections 8.3 and 8.4)."""

    def __init__(self, rules: Iterable[Rule], dmr: str, ipv6_mtu: int = 1500):
        super().__init__(rules, dmr, ipv6_mtu)

    def near_to_ipv6(self, ipv4, port, quoted=False):
        if is_martian(ipv4) and not quoted:
            raise Dropped("martian")
        return self.dmr.embed(ipv4)

    def near_to_ipv4(self, address, port):
        if not self.dmr.holds(address):
            raise Dropped("not_own_address")
        ipv4 = self.dmr.extract(address)
        if is_martian(ipv4):
            raise Dropped("martian")
        return ipv4

    def far_to_ipv6(self, ipv4, port):
        rule = self.rules.of(ipv4)
        if not rule:
            raise Dropped("no_rule")
        return self.rules.map_address(rule, ipv4, port)

    def far_to_ipv4(self, address, port):
        rule = self.rules.claimed(address)
        if not rule:
            raise Dropped("no_rule")
        return self.rules.sender(rule, address, port)
