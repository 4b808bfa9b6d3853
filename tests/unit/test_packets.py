# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packets that the tests build are what scapy takes them for, checksums included."""

from __future__ import annotations

import packets
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

FOUR, SIX = ("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "64:ff9b::cb00:7101")
ODD = b"an odd number of bytes."
ICMPV4_ECHO = ICMP(type=8, id=1232, seq=1) / Raw(ODD)


@pytest.mark.parametrize("made, theirs", [
    (packets.udp(*FOUR, 1232, 53, ODD, ttl=9), IP(src=FOUR[0], dst=FOUR[1], id=0x1234, ttl=9) / UDP(sport=1232, dport=53) / Raw(ODD)),
    (packets.udp(*SIX, 1232, 53, ODD, hop_limit=9), IPv6(src=SIX[0], dst=SIX[1], hlim=9) / UDP(sport=1232, dport=53) / Raw(ODD)),
    (packets.tcp(*FOUR, 1232, 80, ODD),
     IP(src=FOUR[0], dst=FOUR[1], id=0x1234) / TCP(sport=1232, dport=80, seq=1, ack=2, flags="PA", window=1000) / Raw(ODD)),
    (packets.tcp(*SIX, 1232, 80, b"", packets.SYN), IPv6(src=SIX[0], dst=SIX[1]) / TCP(sport=1232, dport=80, seq=1, ack=2, flags="S", window=1000)),
    (packets.echo(*FOUR, 1232, 9, ODD), IP(src=FOUR[0], dst=FOUR[1], id=0x1234) / ICMPV4_ECHO),
    (packets.echo(*FOUR, 9, 1232, ODD), IP(src=FOUR[0], dst=FOUR[1], id=0x1234) / ICMP(type=0, id=1232, seq=1) / Raw(ODD)),
    (packets.echo(*SIX, 1232, 9, ODD), IPv6(src=SIX[0], dst=SIX[1]) / ICMPv6EchoRequest(id=1232, seq=1, data=ODD)),
    (packets.echo(*SIX, 9, 1232, ODD), IPv6(src=SIX[0], dst=SIX[1]) / ICMPv6EchoReply(id=1232, seq=1, data=ODD)),
    (packets.error(*FOUR, ODD, code=4, word=1300), IP(src=FOUR[0], dst=FOUR[1], id=0x1234) / ICMP(type=3, code=4, nexthopmtu=1300) / Raw(ODD)),
    (packets.error(*SIX, ODD, packets.ICMPV6_TOO_BIG, 1280), IPv6(src=SIX[0], dst=SIX[1]) / ICMPv6PacketTooBig(mtu=1280) / Raw(ODD)),
    (packets.ipv4(*FOUR, 47, ODD, tos=4, options=b"\x94\x04\0\0", fragment=0x2003),
     IP(src=FOUR[0], dst=FOUR[1], id=0x1234, tos=4, proto=47, flags="MF", frag=3, options=b"\x94\x04\0\0") / Raw(ODD)),
])
def test_equals_scapys(made, theirs):
    assert made == bytes(theirs)


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("kind", [packets.udp, packets.tcp, packets.echo])
def test_a_wrong_byte_is_a_wrong_checksum(kind, ends):
    packet = kind(*ends, 1232, 53, ODD)
    assert packets.has_valid_checksum(packet)
    assert not packets.has_valid_checksum(packet[:-1] + bytes([packet[-1] ^ 1]))
    assert (packets.source_of(packet), packets.destination_of(packet)) == ends


def test_a_udp_checksum_is_never_zero():
    """Zero says that there is none (RFC 768)."""
    for ends, at in ((FOUR, packets.IPV4_HEADER + 6), (SIX, packets.IPV6_HEADER + 6)):
        complement = packets.udp(*ends, 1232, 53, b"\0\0")[at:at + 2]
        packet = packets.udp(*ends, 1232, 53, complement)
        assert packet[at:at + 2] == b"\xff\xff" and packets.has_valid_checksum(packet)


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_fragments_join_to_the_packet(ends):
    packet = packets.udp(*ends, 1232, 53, bytes(range(100)))
    pieces = packets.fragments(packet, [24, 40])
    if ends is FOUR:
        parsed = [IP(piece) for piece in pieces]
        found = [(item.frag * 8, "M" in str(item.flags), bytes(item.payload)) for item in parsed]
        header = packets.IPV4_HEADER
    else:
        parsed = [IPv6(piece)[IPv6ExtHdrFragment] for piece in pieces]
        found = [(item.offset * 8, item.m == 1, bytes(item.payload)) for item in parsed]
        header = packets.IPV6_HEADER
    assert [item[:2] for item in found] == [(0, True), (24, True), (64, False)]
    assert b"".join(item[2] for item in found) == packet[header:]
    assert len({item.id for item in parsed}) == 1
