# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The oracle of a MAP-E customer edge that meshes: RFC 7597 sections 5, 6 and 8.1, with no arithmetic of the product."""

from __future__ import annotations

from collections.abc import Iterable

from rfc7597 import Dropped, Rules, TunnelRule, is_martian

ICMP, TCP, UDP = 1, 6, 17
ECHOS, ERRORS = (0, 8), (3, 11, 12)
RELAY = "relay"


class Inner:
    """An IPv4 packet in the tunnel, or on its way into it. Raises Dropped where it is none."""

    def __init__(self, packet: bytes):
        if packet[0] >> 4 != 4 or packet[0] & 15 < 5:
            raise Dropped("not_ipv4")
        self.packet, self.protocol = packet, packet[9]
        header, total = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big")
        self.upper, self.length = packet[header:total], total - header  # what is there, and what there should be: the stack drops what is cut off
        self.source, self.destination = (int.from_bytes(packet[at:at + 4], "big") for at in (12, 16))
        self.is_later = int.from_bytes(packet[6:8], "big") & 0x1FFF > 0
        self.is_part = self.is_later or packet[6] & 0x20 > 0
        self.datagram = (packet[12:20], packet[4:6], self.protocol)

    def port(self, of_source: bool) -> int | None:
        """The port or echo identifier of one end; in an error that of the packet it quotes, where that end is the other one. None: a later fragment."""
        if self.is_later:
            return None
        if len(self.upper) < 8 or self.length < (18 if self.protocol == TCP else 8):
            raise Dropped("tiny")
        if self.protocol != ICMP or self.upper[0] not in ERRORS:
            return port_in(self.protocol, self.upper, of_source)
        quoted = self.upper[8:]
        if len(quoted) < 20:
            raise Dropped("tiny")
        if quoted[16:20] != self.packet[12:16] if of_source else quoted[12:16] != self.packet[16:20]:
            raise Dropped("wrong_quote")
        header = 4 * (quoted[0] & 15)
        if header < 20 or int.from_bytes(quoted[6:8], "big") & 0x1FFF:
            raise Dropped("no_port")
        if len(quoted) < header + 8:
            raise Dropped("tiny")
        return port_in(quoted[9], quoted[header:], not of_source)


def port_in(protocol: int, upper: bytes, of_source: bool) -> int:
    if protocol in (TCP, UDP):
        return int.from_bytes(upper[:2] if of_source else upper[2:4], "big")
    if protocol == ICMP and upper[0] in ECHOS:
        return int.from_bytes(upper[4:6], "big")
    raise Dropped("no_port")


class MeshEdge:
    """A CE: rule is its BMR, relays are the BR addresses, the first of which it sends to."""

    def __init__(self, rule: TunnelRule, ea_bits: int, fmrs: Iterable[TunnelRule], relays: list[int], sends: bool):
        self.rule, self.rules, self.relays, self.sends = rule, Rules(fmrs), relays, sends
        self.ipv4, self.psid, self.free = rule.share(ea_bits)
        self.address = rule.map_address(self.ipv4, self.psid)
        self.begun: dict[tuple, int | str] = {}  # by the first fragment seen, in any order: the sender's PSID
        self.led: dict[tuple, int] = {}  # by the first fragment of the datagram: the receiver's PSID

    def owns(self, ipv4: int) -> bool:
        return ipv4 >> self.free == self.ipv4 >> self.free

    def out(self, packet: bytes) -> int | str:
        """The outer destination of a packet, or the reason why it is dropped."""
        try:
            inner = Inner(packet)
            self._check_own(inner.source, inner, True)
            rule = self.rules.of(inner.destination) if self.sends else None
            return self._direct(rule, inner) if rule else self.relays[0]
        except Dropped as dropped:
            return dropped.reason

    def into(self, source: int, destination: int, packet: bytes) -> str:
        """"passed", or the reason why a packet is dropped that came between these outer addresses."""
        try:
            inner = Inner(packet)
            if destination != self.address:
                raise Dropped("not_own_address")
            if is_martian(inner.source) or is_martian(inner.destination):
                raise Dropped("martian")
            self._check_own(inner.destination, inner, False)
            sender = self._from_relay(inner) if source in self.relays else self._from_edge(source, inner)
            rule = self.rules.of(inner.source)
            if inner.is_part and rule and rule.k and self.begun.setdefault(inner.datagram, sender) != sender:
                raise Dropped("mixed_fragment")
        except Dropped as dropped:
            return dropped.reason
        return "passed"

    def _check_own(self, ipv4: int, inner: Inner, is_source: bool) -> None:
        if not self.owns(ipv4):
            raise Dropped("not_own_address")
        if self.rule.k:
            port = inner.port(is_source)
            if port is not None and self.rule.psid_of(port) != self.psid:
                raise Dropped("not_own_port")

    def _direct(self, rule: TunnelRule, inner: Inner) -> int:
        psid = 0
        if rule.k and inner.is_later:
            if inner.datagram not in self.led:
                raise Dropped("lost_fragment")
            psid = self.led[inner.datagram]
        elif rule.k:
            psid = rule.psid_of(inner.port(False))
            if inner.is_part:
                self.led[inner.datagram] = psid
        try:
            address = self.rules.with_psid(rule, psid).map_address(inner.destination, psid)
        except Dropped:  # the BR may know more rules
            return self.relays[0]
        if address == self.address:
            raise Dropped("itself")
        return address

    def _from_relay(self, inner: Inner) -> str:
        """The BR has checked who sends; but this CE does not send to itself, as far as a port tells."""
        try:
            self._check_own(inner.source, inner, True)
        except Dropped:
            return RELAY
        if self.rule.k and inner.is_later:
            return RELAY
        raise Dropped("itself")

    def _from_edge(self, source: int, inner: Inner) -> int:
        rule, psid = self.rules.of(inner.source), 0
        if not rule:
            raise Dropped("no_rule")
        if rule.k:
            port = inner.port(True)
            psid = rule.psid_in(source) if port is None else rule.psid_of(port)
            rule = self.rules.with_psid(rule, psid)
        if rule.map_address(inner.source, psid) != source:
            raise Dropped("spoofed")
        if source == self.address:
            raise Dropped("itself")
        return psid
