# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The oracle of the MAP-T translator against the RFCs' examples and tables, and the packets of its fuzz."""

from __future__ import annotations

import json
import random
import struct
import sys
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import packets
import pytest
from packets import echo, error, icmp, ipv4, ipv6, tcp, udp

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "kernel" / "bpf"))

from fuzz import Fuzz  # noqa: E402
from random_networks import Network  # noqa: E402
from rfc7597 import DefaultRule, Dropped, Rule  # noqa: E402
from rfc7915 import Edge, Relay  # noqa: E402

VECTORS = json.loads((TESTS / "unit" / "vectors" / "ce.json").read_text(encoding="utf-8"))
KINDS = (udp, tcp, echo)

# RFC 7599 appendix A: a CE with 192.0.2.18 and PSID 0x34, and a server
SHARED = Rule.of({"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16, "psid_offset": 6, "psid_length": 8, "psid": None})
DMR = "2001:db8:ffff::/64"
CE, CE6, PORT = "192.0.2.18", "2001:db8:12:3400:0:c000:212:34", 1232
NEIGHBOUR6, NEIGHBOUR_PORT = "2001:db8:12:3500:0:c000:212:35", 1236
SERVER, SERVER6 = "10.2.3.4", "2001:db8:ffff:0:a:203:400:0"
ROUTER6, DUMMY = "2001:db8:aaaa::1", "192.0.0.8"
# the same without PSIDs: the CE has 198.51.100.18 for itself
WHOLE = Rule.of({"ipv6_prefix": "2001:db8:100::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 8, "psid_offset": 6, "psid_length": 0, "psid": None})
ALONE, ALONE6 = "198.51.100.18", "2001:db8:112::c633:6412:0"
# and a CE with 203.0.113.16/28
PREFIX = Rule.of({"ipv6_prefix": "2001:db8:200::/40", "ipv4_prefix": "203.0.113.0/24", "ea_length": 4, "psid_offset": 6, "psid_length": 0, "psid": None})
HOST, HOST6 = "203.0.113.21", "2001:db8:210::cb00:7115:0"
RULES = (SHARED, WHOLE, PREFIX)


@pytest.fixture
def edge():
    return Edge(SHARED, 0x1234, DMR, RULES)


@pytest.fixture
def alone():
    return Edge(WHOLE, 0x12, DMR, (SHARED,))


@pytest.fixture
def relay():
    return Relay(RULES, DMR)


def no_bytes(value):
    """Packets are no names for tests."""
    return "packet" if isinstance(value, bytes) else None


def number(address):
    return int((IPv6Address if ":" in address else IPv4Address)(address))


def lowered(packet):
    """As it leaves the stack behind the translator, which lowers TTL or hop limit; a reason stays one."""
    if isinstance(packet, str):
        return packet
    at = 8 if packet[0] >> 4 == 4 else 7
    packet = packet[:at] + bytes([packet[at] - 1]) + packet[at + 1:]
    if at == 7:
        return packet
    return packet[:10] + struct.pack("!H", packets.checksum(packet[:10] + bytes(2) + packet[12:20])) + packet[12:]


def four(packet, identification=0x1234, fragment=0):
    """An IPv4 packet as the builders make it, with these fields."""
    return ipv4(packets.source_of(packet), packets.destination_of(packet), packet[9], packet[20:], packet[1], b"", fragment, identification)


# ---- addresses ----

@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_map_addresses_and_port_sets(vector):
    expected = vector["expect"]
    rule = Rule.of({"psid": None, **vector["rule"], "psid_length": expected["psid_length"]}, vector["interface_id"])
    prefix = int(IPv6Network(vector["end_user_prefix"]).network_address)
    ce = Edge(rule, prefix >> (128 - rule.n - rule.o) & (1 << rule.o) - 1, DMR)
    assert (ce.ipv4, ce.psid) == (number(expected["ipv4_address"]), expected["psid"] or 0)
    assert ce.near_to_ipv6(ce.ipv4, None) == number(expected["map_address"])
    assert ce.near_to_ipv4(number(expected["map_address"]), None) == ce.ipv4

    def is_own(port):
        try:
            ce.check_port(port)
        except Dropped as dropped:
            assert dropped.reason in ("not_own_port", "excluded_port", "port_zero")
            return False
        return True

    owned = [port for port in range(65536) if is_own(port)]
    assert owned == [port for low, high in expected["port_ranges"] for port in range(low, high + 1) if port or not rule.k]


@pytest.mark.parametrize("prefix, address", [
    ("2001:db8::/32", "2001:db8:c000:221::"), ("2001:db8:100::/40", "2001:db8:1c0:2:21::"), ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"), ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"), ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
])
def test_the_addresses_of_rfc_6052_section_2_4(prefix, address):
    dmr = DefaultRule(prefix)
    assert dmr.embed(number("192.0.2.33")) == number(address)
    assert dmr.extract(number(address)) == number("192.0.2.33") and dmr.holds(number(address))
    assert not dmr.holds(number(address) ^ 1 << 128 - dmr.length)


# ---- packets ----

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"odd", bytes(range(200))])
@pytest.mark.parametrize("end, end6, port", [(CE, CE6, PORT), (ALONE, ALONE6, 7), (HOST, HOST6, 0)])
def test_a_packet_at_the_br(relay, kind, data, end, end6, port):
    there = kind(SERVER, end, 9, port, data, tos=0xB9), kind(SERVER6, end6, 9, port, data, traffic_class=0xB9)
    back = kind(end6, SERVER6, port, 9, data, traffic_class=0xB9), kind(end, SERVER, port, 9, data, tos=0xB9)
    assert lowered(relay.to_ipv6(there[0])) == there[1]
    assert lowered(relay.to_ipv4(back[0], identification=0x1234)) == back[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_at_the_ce(edge, kind):
    assert lowered(edge.to_ipv6(kind(CE, SERVER, PORT, 9))) == kind(CE6, SERVER6, PORT, 9)
    assert lowered(edge.to_ipv4(kind(SERVER6, CE6, 9, PORT), identification=0x1234)) == kind(SERVER, CE, 9, PORT)
    # the last CE's port is in another port set: an echo's identifier is not
    assert lowered(edge.to_ipv6(udp(CE, CE, PORT, NEIGHBOUR_PORT))) == udp(CE6, NEIGHBOUR6, PORT, NEIGHBOUR_PORT)
    assert lowered(edge.to_ipv4(tcp(NEIGHBOUR6, CE6, NEIGHBOUR_PORT, PORT), identification=0x1234)) == tcp(CE, CE, NEIGHBOUR_PORT, PORT)
    assert lowered(edge.to_ipv6(kind(CE, HOST, PORT, 9))) == kind(CE6, HOST6, PORT, 9)


@pytest.mark.parametrize("protocol, at", [(33, 6), (136, 6), (47, None), (132, None)])
def test_other_protocols(alone, relay, protocol, at):
    """DCCP's and UDP-Lite's checksums cover the pseudo-header (RFC 4340, RFC 3828); the others go as they are. None has a port."""
    def upper(source, destination):
        made = bytes(range(32))
        if at is None:
            return made
        value = packets.checksum(packets.pseudo_header(IPv6Address(source).packed + IPv6Address(destination).packed, 32, protocol)
                                 + made[:at] + bytes(2) + made[at + 2:])
        return made[:at] + struct.pack("!H", value) + made[at + 2:]

    packet6 = ipv6(SERVER6, ALONE6, protocol, upper(SERVER6, ALONE6))
    packet4 = alone.to_ipv4(packet6, identification=7)
    assert packet4[9] == protocol and (packets.has_valid_checksum(packet4) or at is None)
    assert lowered(lowered(relay.to_ipv6(packet4))) == packet6
    assert relay.to_ipv4(ipv6(CE6, SERVER6, protocol, upper(CE6, SERVER6))) == "no_port"


def test_wrong_checksums_stay_wrong(relay):
    for at, kind in ((26, udp), (36, tcp), (22, echo)):
        packet = bytearray(kind(SERVER, CE, 9, PORT))
        right = relay.to_ipv6(bytes(packet))
        packet[at] ^= 0x40
        wrong = relay.to_ipv6(bytes(packet))
        assert wrong != right and not packets.has_valid_checksum(wrong)
        assert [index for index in range(len(right)) if right[index] != wrong[index]][0] >= at + 20


def test_udp_without_a_checksum(relay):
    packet = udp(SERVER, CE, 9, PORT, bytes(16376))
    unsummed = packet[:26] + bytes(2) + packet[28:]
    assert lowered(relay.to_ipv6(unsummed)) == udp(SERVER6, CE6, 9, PORT, bytes(16376))
    longer = udp(SERVER, CE, 9, PORT, bytes(16377))
    assert relay.to_ipv6(longer[:26] + bytes(2) + longer[28:]) == "untranslatable"
    assert relay.to_ipv6(packets.fragments(unsummed, [8000])[0]) == "untranslatable"
    packet = udp(CE6, SERVER6, PORT, 9)
    assert relay.to_ipv4(packet[:46] + bytes(2) + packet[48:])[26:28] == bytes(2)


def test_a_udp_checksum_of_zero_is_all_ones(relay):
    bare = udp(SERVER, CE, 9, PORT, bytes(2))
    filled = udp(SERVER, CE, 9, PORT, relay.to_ipv6(bare)[46:48])
    assert relay.to_ipv6(filled)[46:48] == b"\xff\xff"


@pytest.mark.parametrize("length, fields", [(1260, (0x4321, 0)), (1261, (0, 0x4000))])
def test_packets_of_more_than_1260_bytes_are_not_to_be_fragmented(relay, length, fields):
    made = relay.to_ipv4(udp(CE6, SERVER6, PORT, 9, bytes(length - 28)), identification=0x4321)
    assert struct.unpack_from("!HHH", made, 2) == (length, *fields)
    assert packets.has_valid_checksum(made)


def test_a_header_checksum_of_zero(relay):
    other, = struct.unpack_from("!H", lowered(relay.to_ipv4(udp(CE6, SERVER6, PORT, 9), identification=0)), 10)
    expected = udp(CE, SERVER, PORT, 9, identification=other)
    assert expected[10:12] == bytes(2)
    assert lowered(relay.to_ipv4(udp(CE6, SERVER6, PORT, 9), identification=other)) == expected
    raised = udp(CE, SERVER, PORT, 9, identification=other - 0x100, ttl=65)
    assert raised[10:12] == bytes(2) and relay.to_ipv4(udp(CE6, SERVER6, PORT, 9), identification=other - 0x100) == raised


@pytest.mark.parametrize("ttl, written", [(1, 2), (254, 255), (255, 255)])
def test_the_hop_of_the_stack_behind_is_given_back(relay, ttl, written):
    assert relay.to_ipv6(udp(SERVER, CE, 9, PORT, ttl=ttl))[7] == written
    assert relay.to_ipv4(udp(CE6, SERVER6, PORT, 9, hop_limit=ttl))[8] == written


# ---- fragments ----

@pytest.mark.parametrize("kind", KINDS)
def test_fragments(relay, kind):
    six, back = kind(SERVER6, CE6, 9, PORT, bytes(200)), kind(CE6, SERVER6, PORT, 9, bytes(200))
    pieces = packets.fragments(kind(SERVER, CE, 9, PORT, bytes(200)), [64, 72], 0xFFFE)
    assert relay.to_ipv6(pieces[2], 0) == "lost_fragment"
    length = len(six) - 40
    assert [lowered(relay.to_ipv6(piece, length)) for piece in pieces] == packets.fragments(six, [64, 72], 0xFFFE)
    assert [lowered(relay.to_ipv4(piece, length)) for piece in packets.fragments(back, [64, 72], 0x5432FFFE)] == \
        packets.fragments(kind(CE, SERVER, PORT, 9, bytes(200)), [64, 72], 0xFFFE)


def test_the_first_fragment_of_an_echo_needs_the_length(relay):
    assert relay.to_ipv6(packets.fragments(echo(SERVER, CE, 9, PORT, bytes(64)), [64])[0]) == "lost_length"
    assert relay.to_ipv4(packets.fragments(echo(CE6, SERVER6, PORT, 9, bytes(64)), [64])[0]) == "lost_length"


def test_who_needs_no_port_needs_no_first_fragment(relay, alone):
    later = packets.fragments(udp(SERVER, ALONE, 9, 9, bytes(64)), [64])[1]
    assert lowered(relay.to_ipv6(later)) == packets.fragments(udp(SERVER6, ALONE6, 9, 9, bytes(64)), [64], 0x5678)[1]
    own = ipv4(ALONE, SERVER, 17, bytes(8), fragment=8)
    assert alone.to_ipv6(own)[8:40] == IPv6Address(ALONE6).packed + IPv6Address(SERVER6).packed
    assert alone.to_ipv6(ipv4(ALONE, CE, 17, bytes(8), fragment=8)) == "lost_fragment"


def test_a_datagram_is_one_ces(relay, edge):
    def later(source, psid_of):
        return packets.fragments(udp(source, psid_of, NEIGHBOUR_PORT, 9, bytes(64)), [64], 0x70007)[1]

    for node, destination in ((relay, SERVER6), (edge, CE6)):
        first, own = packets.fragments(udp(NEIGHBOUR6, destination, NEIGHBOUR_PORT, PORT, bytes(64)), [64], 7)
        assert isinstance(node.to_ipv4(own), bytes) and isinstance(node.to_ipv4(first), bytes)
        assert node.to_ipv4(later("2001:db8:12:3600:0:c000:212:36", destination)) == "mixed_fragment"
        assert node.to_ipv4(later("2001:db8:12:3600:0:c000:212:35", destination)) == "spoofed"


def test_an_atomic_fragment_is_a_whole_packet(relay):
    whole = udp(CE6, SERVER6, PORT, 9, bytes(1300))
    atomic = ipv6(CE6, SERVER6, 44, struct.pack("!BBHI", 17, 0, 0, 0x5432FFFE) + whole[40:])
    assert lowered(relay.to_ipv4(atomic)) == four(udp(CE, SERVER, PORT, 9, bytes(1300)), 0xFFFE)


# ---- options and extension headers ----

def extended(packet, *headers):
    """An IPv6 packet with extension headers in front: (number, bytes, segments left)."""
    protocol, upper = packet[6], packet[40:]
    for kind, size, left in reversed(headers):
        protocol, upper = kind, bytes([protocol, size // 8 - 1, 0, left]) + bytes(size - 4) + upper
    return ipv6(packets.source_of(packet), packets.destination_of(packet), protocol, upper)


@pytest.mark.parametrize("headers, reason", [
    ([(0, 8, 0)], None), ([(0, 16, 0), (43, 24, 0), (60, 8, 0), (60, 208, 0)], None), ([(60, 256, 0)], None), ([(60, 264, 0)], "untranslatable"),
    ([(0, 8, 0)] * 5, "untranslatable"), ([(43, 24, 1)], "untranslatable"), ([(0, 8, 0)] * 4 + [(44, 8, 0)], "untranslatable"),
])
@pytest.mark.parametrize("is_quoted", [False, True])
def test_extension_headers(relay, headers, reason, is_quoted):
    plain, expected = udp(CE6, SERVER6, PORT, 9), udp(CE, SERVER, PORT, 9)
    packet = extended(plain, *headers)
    if is_quoted:
        packet, expected = error(CE6, SERVER6, extended(udp(SERVER6, CE6, 9, PORT), *headers)), \
            error(CE, SERVER, four(udp(SERVER, CE, 9, PORT), 0), code=1)
    assert lowered(relay.to_ipv4(packet, identification=0x1234)) == (reason or expected)


@pytest.mark.parametrize("packet", [
    ipv6(CE6, SERVER6, 44, struct.pack("!BBHI", 60, 0, 0, 7) + bytes([17, 0] + [0] * 6) + bytes(8)),
    ipv6(CE6, SERVER6, 1, bytes(8)), *(ipv4(SERVER, CE, protocol, bytes(16)) for protocol in (0, 43, 44, 58, 60)),
], ids=no_bytes)
def test_protocols_of_the_other_version(relay, packet):
    assert (relay.to_ipv4 if packet[0] >> 4 == 6 else relay.to_ipv6)(packet) == "untranslatable"


@pytest.mark.parametrize("options, is_translated", [
    (b"\x01\x01\x01\x00", True), (b"\x94\x04\0\0", True), (b"\x83\x07\x08" + bytes(5), True), (b"\x83\x07\x07" + bytes(5), False),
    (b"\x01\x89\x07\x04" + bytes(4), False), (b"\x07\x03\x04\x83\x07\x04\0\0", False), (b"\x01\x01\x83\x07", False),  # cut off
    (b"\0\x83\x07\x04" + bytes(4), True), (b"\x07\0\x83\x07", True), (b"\x07\x05\0\0", True),
], ids=no_bytes)
def test_ipv4_options(relay, options, is_translated):
    """They go, but for a source route with hops left; nobody follows that of a quoted packet."""
    expected = udp(SERVER6, CE6, 9, PORT) if is_translated else "untranslatable"
    assert lowered(relay.to_ipv6(udp(SERVER, CE, 9, PORT, options=options))) == expected
    expected = error(SERVER6, CE6, udp(CE6, SERVER6, PORT, 9), code=4)
    assert lowered(relay.to_ipv6(error(SERVER, CE, udp(CE, SERVER, PORT, 9, options=options), code=3))) == expected


# ---- ICMP errors ----

PROBLEM = 12
TO_IPV6 = {
    **{(3, code, 0): (1, 0, 0) for code in (0, 1, 5, 6, 7, 8, 11, 12)}, **{(3, code, 0): (1, 1, 0) for code in (9, 10, 13, 15)},
    (3, 2, 0): (4, 1, 6), (3, 3, 0): (1, 4, 0), (11, 0, 0): (3, 0, 0), (11, 1, 0): (3, 1, 0),
    **{(3, 4, mtu): (2, 0, max(1280, mtu + 20)) for mtu in (1, 1259, 1260, 1261, 1480)}, (3, 4, 1481): (2, 0, 1500), (3, 4, 0xABCD0578): (2, 0, 1420),
    **{(PROBLEM, code, old << 24): (4, 0, new) for code in (0, 2) for new, olds in
       {0: [0], 1: [1], 4: [2, 3], 7: [8], 6: [9], 8: range(12, 16), 24: range(16, 20)}.items() for old in olds},
}
TO_IPV4 = {
    **{(1, code, 0): (3, 1, 0) for code in (0, 2, 3)}, (1, 1, 0): (3, 10, 0), (1, 4, 0): (3, 3, 0), (3, 0, 0): (11, 0, 0), (3, 1, 0): (11, 1, 0),
    **{(2, 0, mtu): (3, 4, 1260) for mtu in (0, 19, 1279, 1280)}, (2, 0, 1281): (3, 4, 1261), (2, 0, 1500): (3, 4, 1480),
    (2, 0, 0xFFFFFFFF): (3, 4, 1480), (4, 1, 40): (3, 2, 0),
    **{(4, 0, old): (PROBLEM, 0, new << 24) for new, olds in
       {0: [0], 1: [1], 2: [4, 5], 9: [6], 8: [7], 12: range(8, 24), 16: range(24, 40)}.items() for old in olds},
}


def test_the_errors_of_rfc_7915_section_4_2(relay):
    def tried(kind, code, word):
        made = relay.to_ipv6(error(SERVER, CE, udp(CE, SERVER, PORT, 9), kind, word, code))
        return made if isinstance(made, str) else (made[40], made[41], struct.unpack_from("!I", made, 44)[0])

    assert {key: tried(*key) for key in TO_IPV6} == TO_IPV6
    others = {(kind, 0, 0) for kind in range(256) if kind not in (0, 8)} | {(kind, code, 0) for kind in (3, PROBLEM) for code in range(256)}
    others |= {(PROBLEM, 0, pointer << 24) for pointer in range(1, 256)}
    assert {tried(*key) for key in others - set(TO_IPV6) - {(3, 4, 0)}} == {"untranslatable"}


def test_the_errors_of_rfc_7915_section_5_2(relay):
    def tried(kind, code, word):
        made = relay.to_ipv4(error(CE6, SERVER6, udp(SERVER6, CE6, 9, PORT), kind, word, code))
        return made if isinstance(made, str) else (made[20], made[21], struct.unpack_from("!I", made, 24)[0])

    assert {key: tried(*key) for key in TO_IPV4} == TO_IPV4
    others = {(kind, 0, 0) for kind in range(256) if kind not in (128, 129)} | {(kind, code, 0) for kind in (1, 4) for code in range(256)}
    others |= {(4, 0, pointer) for pointer in (2, 3, 40, 41, 256, 0x06000000)}
    assert {tried(*key) for key in others - set(TO_IPV4) - {(4, 1, 0)}} == {"untranslatable"}


@pytest.mark.parametrize("length, mtu", [(65535, 32020), (32000, 17934), (1493, 1512), (1492, 1280), (2002, 1512), (0x64, 1280)])
def test_the_plateaus_of_rfc_1191(length, mtu):
    quoted = bytearray(udp(CE, SERVER, PORT, 9))
    quoted[2:4] = struct.pack("!H", length)
    made = Relay(RULES, DMR, 65535).to_ipv6(error(SERVER, CE, bytes(quoted), 3, 0, 4))
    assert struct.unpack_from("!I", made, 44)[0] == mtu


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [8, 17, 18, 40, 500])
def test_what_an_error_quotes(relay, edge, kind, size):
    """Its checksum stays right, where it is quoted: the error's own is right, and so is all of it."""
    data = bytes(range(200)) * 2
    six = kind(CE6, SERVER6, PORT, 9, data, hop_limit=9, traffic_class=0xB9)
    there = four(kind(CE, SERVER, PORT, 9, data, tos=0xB9), 0)
    there = there[:8] + b"\x09" + there[9:10] + struct.pack("!H", packets.checksum(there[:8] + b"\x09" + there[9:10] + bytes(2) + there[12:20])) + there[12:]
    if kind is tcp and size == 17:  # half of a checksum cannot be mended
        six = six[:56] + there[36:37] + six[57:]
    assert lowered(relay.to_ipv6(error(SERVER, CE, there[:20 + size], code=3))) == error(SERVER6, CE6, six[:40 + size], code=4)
    assert lowered(edge.to_ipv4(error(SERVER6, CE6, six[:40 + size], code=4), identification=0x1234)) == error(SERVER, CE, there[:20 + size], code=3)


@pytest.mark.parametrize("size", [0, 4, 7])
def test_who_needs_no_port_needs_no_quoted_one(relay, size):
    quoted4, quoted6 = echo(ALONE, SERVER, 7, 9)[:20 + size], echo(ALONE6, SERVER6, 7, 9)[:40 + size]
    quoted6 = quoted6[:40] + quoted4[20:]  # even the type is as it was
    assert lowered(relay.to_ipv6(error(SERVER, ALONE, quoted4))) == error(SERVER6, ALONE6, quoted6)


def test_a_long_quoted_packet_was_not_to_be_fragmented(edge):
    made = edge.to_ipv4(error(SERVER6, CE6, udp(CE6, SERVER6, PORT, 9, bytes(1300))[:80]))
    assert made[28:28 + 20] == four(udp(CE, SERVER, PORT, 9, bytes(1300)), 0, 0x4000)[:20]


def test_quoted_fragments(relay, alone):
    first4, later4 = packets.fragments(udp(CE, SERVER, PORT, 9, bytes(64)), [64], 7)
    first6, later6 = packets.fragments(udp(CE6, SERVER6, PORT, 9, bytes(64)), [64], 7)
    assert lowered(relay.to_ipv6(error(SERVER, CE, first4))) == error(SERVER6, CE6, first6)
    assert relay.to_ipv6(error(SERVER, CE, later4)) == "no_port"
    _first, later4 = packets.fragments(udp(ALONE, SERVER, PORT, 9, bytes(64)), [64], 7)
    _first, later6 = packets.fragments(udp(ALONE6, SERVER6, PORT, 9, bytes(64)), [64], 7)
    assert lowered(relay.to_ipv6(error(SERVER, ALONE, later4))) == error(SERVER6, ALONE6, later6)
    assert lowered(alone.to_ipv4(error(SERVER6, ALONE6, later6), identification=0x1234)) == error(SERVER, ALONE, later4, code=1)
    # an atomic fragment is a whole packet (RFC 6946), of an echo too
    whole4, whole6 = echo(CE, SERVER, PORT, 9), echo(CE6, SERVER6, PORT, 9)
    atomic = ipv6(CE6, SERVER6, 44, struct.pack("!BBHI", 58, 0, 0, 7) + whole6[40:])
    made = Edge(SHARED, 0x1234, DMR).to_ipv4(error(SERVER6, CE6, atomic), identification=0x1234)
    assert lowered(made) == error(SERVER, CE, four(whole4, 7), code=1)
    # of a first fragment only the type changes: its length is not known
    first4, first6 = (packets.fragments(echo(one, other, PORT, 9, bytes(64)), [64], 7)[0] for one, other in ((CE, SERVER), (CE6, SERVER6)))
    first6 = first6[:50] + first4[22:24] + first6[52:]
    assert lowered(relay.to_ipv6(error(SERVER, CE, first4))) == error(SERVER6, CE6, first6)


@pytest.mark.parametrize("node, packet, source", [
    ("edge", error(SERVER6, CE6, udp(CE6, SERVER6, PORT, 9)), SERVER),
    ("edge", error("2001:db8:ffff:0:c0:5:600:0", CE6, udp(CE6, SERVER6, PORT, 9)), "192.0.5.6"),
    ("edge", error(ROUTER6, CE6, udp(CE6, SERVER6, PORT, 9)), DUMMY),
    ("edge", error(NEIGHBOUR6, CE6, udp(CE6, NEIGHBOUR6, PORT, NEIGHBOUR_PORT)), CE),
    ("edge", error(NEIGHBOUR6, CE6, udp(CE6, SERVER6, PORT, 9)), "wrong_quote"),
    ("edge", error(SERVER6, CE6, udp(NEIGHBOUR6, SERVER6, NEIGHBOUR_PORT, 9)), "wrong_quote"),
    ("edge", error(SERVER6, CE6, udp(CE6, SERVER6, NEIGHBOUR_PORT, 9)), "not_own_port"),
    ("edge", error(SERVER6, CE6, udp(CE6, ROUTER6, PORT, 9)), "outside_domain"),
    ("edge", error("2001:db8:ffff:0:7f:1:200:0", CE6, udp(CE6, SERVER6, PORT, 9)), "martian"),
    ("relay", error(CE6, SERVER6, udp(SERVER6, CE6, 9, PORT)), CE),
    ("relay", error(ROUTER6, SERVER6, udp(SERVER6, CE6, 9, PORT)), DUMMY),
    ("relay", error(SERVER6, SERVER6, udp(SERVER6, CE6, 9, PORT)), DUMMY),
    ("relay", error(NEIGHBOUR6, SERVER6, udp(SERVER6, CE6, 9, PORT)), "wrong_quote"),
    ("relay", error(ROUTER6, SERVER6, udp(SERVER6, CE6, 9, NEIGHBOUR_PORT)), "spoofed"),
    ("relay", error(ROUTER6, SERVER6, udp(SERVER6, ROUTER6, 9, PORT)), "no_rule"),
    ("relay", error(CE6, ROUTER6, udp(ROUTER6, CE6, 9, PORT)), "not_own_address"),
], ids=no_bytes)
def test_from_whom_an_error_is(request, node, packet, source):
    made = request.getfixturevalue(node).to_ipv4(packet)
    assert source == (made if isinstance(made, str) else packets.source_of(made))


@pytest.mark.parametrize("node, packet, reason", [
    ("edge", error(SERVER, SERVER, udp(SERVER, CE, 9, PORT)), "not_own_address"),
    ("edge", error(CE, SERVER, udp(SERVER, "192.0.2.19", 9, PORT)), "not_own_address"),
    ("edge", error(CE, SERVER, udp("10.2.3.5", CE, 9, PORT)), "wrong_quote"),
    ("edge", error(CE, SERVER, udp(SERVER, CE, 9, NEIGHBOUR_PORT)), "not_own_port"),
    ("edge", error(CE, SERVER, udp(SERVER, CE, 9, PORT)[:27]), "no_port"),
    ("edge", error(CE, SERVER, icmp(SERVER, CE, 13, word=PORT << 16)), "no_port"),
    ("edge", error(CE, SERVER, error(SERVER, CE, udp(CE, SERVER, PORT, 9))), "no_port"),
    ("alone", error(ALONE, SERVER, error(SERVER, ALONE, udp(ALONE, SERVER, PORT, 9))), "untranslatable"),
    ("relay", error("127.0.0.1", CE, udp(CE, SERVER, PORT, 9)), "martian"),
    ("relay", error(SERVER, "192.5.6.7", udp("192.5.6.7", SERVER, PORT, 9)), "no_rule"),
    ("relay", packets.fragments(error(SERVER, CE, udp(CE, SERVER, PORT, 9)), [24])[0], "untranslatable"),
    ("edge", error(CE, SERVER, udp(SERVER, CE, 9, PORT)[:19]), "tiny"),
], ids=no_bytes)
def test_errors_into_the_softwire_that_are_dropped(request, node, packet, reason):
    assert request.getfixturevalue(node).to_ipv6(packet) == reason


# ---- extensions of errors (RFC 4884) ----

OBJECTS = b"\x20\0\0\0\0\x08\x01\x01\x12\x34\x51\x01"


def quoted_with(quote, least, objects):
    return quote + bytes(least - len(quote)) + objects


def test_extensions_move_with_what_is_quoted(relay, edge):
    four_quote, six_quote = four(udp(CE, SERVER, PORT, 9, bytes(92)), 0), udp(CE6, SERVER6, PORT, 9, bytes(92))
    assert len(four_quote) == 120
    six = error(SERVER6, CE6, quoted_with(six_quote, 152, OBJECTS), 3, 19 << 24)
    assert lowered(relay.to_ipv6(error(SERVER, CE, quoted_with(four_quote, 128, OBJECTS), 11, 32 << 16))) == six
    # it has shrunk to 132 bytes, 120 and the padding
    expected = error(SERVER, CE, quoted_with(four_quote, 132, OBJECTS), 11, 33 << 16)
    assert lowered(edge.to_ipv4(six, identification=0x1234)) == expected


@pytest.mark.parametrize("has_fragment_header", [False, True])
def test_what_is_quoted_is_padded_to_128_bytes_for_ipv4(edge, has_fragment_header):
    quoted6, quoted4 = udp(CE6, SERVER6, PORT, 9, bytes(80)), four(udp(CE, SERVER, PORT, 9, bytes(80)), 0)
    if has_fragment_header:
        quoted6 = ipv6(CE6, SERVER6, 44, struct.pack("!BBHI", 17, 0, 1, 7) + quoted6[40:])
        quoted4 = four(quoted4, 7, 0x2000)
    short, expected = quoted_with(quoted6, 136, OBJECTS), quoted_with(quoted4, 128, OBJECTS)
    assert lowered(edge.to_ipv4(error(SERVER6, CE6, short, 1, 17 << 24), identification=0x1234)) == error(SERVER, CE, expected, 3, 32 << 16, 1)


@pytest.mark.parametrize("length, objects", [
    (4, OBJECTS), (40, OBJECTS), (32, OBJECTS + bytes(245)), (6, OBJECTS), (255, bytes(256)), (32, b""),
])
def test_a_length_that_cannot_be_true_becomes_zero(relay, length, objects):
    four_quote, six_quote = four(udp(CE, SERVER, PORT, 9), 0), udp(CE6, SERVER6, PORT, 9)
    made = relay.to_ipv6(error(SERVER, CE, quoted_with(four_quote, 128, objects), 3, length << 16))
    assert lowered(made) == error(SERVER6, CE6, quoted_with(six_quote, 148, objects))


def test_a_checksum_behind_what_is_quoted_is_none(relay):
    four_quote, six_quote = four(tcp(CE, SERVER, PORT, 9), 0)[:36], tcp(CE6, SERVER6, PORT, 9)[:56]
    made = relay.to_ipv6(error(SERVER, CE, four_quote + OBJECTS, 11, 9 << 16))
    assert lowered(made) == error(SERVER6, CE6, six_quote + OBJECTS, 3, 7 << 24)


@pytest.mark.parametrize("kind, code, new_kind, new_code, word", [(3, 4, 2, 0, 1420), (3, 2, 4, 1, 6), (12, 0, 4, 0, 0)])
def test_errors_without_a_length_keep_the_bytes(relay, kind, code, new_kind, new_code, word):
    four_quote, six_quote = four(udp(CE, SERVER, PORT, 9), 0), udp(CE6, SERVER6, PORT, 9)
    made = relay.to_ipv6(error(SERVER, CE, quoted_with(four_quote, 128, OBJECTS), kind, 32 << 16 | (1400 if code == 4 else 0), code))
    assert lowered(made) == error(SERVER6, CE6, quoted_with(six_quote, 148, OBJECTS), new_kind, word, new_code)


def test_a_length_that_ipv4_cannot_tell_becomes_zero(edge):
    six_quote, four_quote = udp(CE6, SERVER6, PORT, 9, bytes(1400)), four(udp(CE, SERVER, PORT, 9, bytes(1400)), 0, 0x4000)
    made = edge.to_ipv4(error(SERVER6, CE6, six_quote + OBJECTS, 3, 181 << 24), identification=0x1234)
    assert lowered(made) == four(error(SERVER, CE, four_quote + OBJECTS, 11), 0, 0x4000)


# ---- who is refused ----

@pytest.mark.parametrize("node, packet, reason", [
    ("edge", udp(SERVER, SERVER, PORT, 9), "not_own_address"), ("edge", udp(CE, SERVER, NEIGHBOUR_PORT, 9), "not_own_port"),
    ("edge", udp(CE, SERVER, 0, 9), "port_zero"), ("edge", udp(CE, SERVER, 1023, 9), "excluded_port"), ("edge", ipv4(CE, SERVER, 47, bytes(8)), "no_port"),
    ("edge", udp(CE, CE, PORT, 0), "port_zero"), ("edge", udp(CE, CE, PORT, 1), "excluded_port"), ("edge", icmp(CE, SERVER, 13), "untranslatable"),
    ("alone", ipv4(ALONE, CE, 47, bytes(8)), "no_port"), ("alone", udp(ALONE, CE, 9, 0), "port_zero"),
    ("edge", ipv4(CE, SERVER, 17, bytes(7)), "tiny"), ("edge", ipv4(CE, SERVER, 6, bytes(17)), "tiny"), ("edge", b"", "tiny"),
    ("edge", udp(CE, SERVER, PORT, 9)[:-1], "tiny"), ("edge", ipv4(CE, SERVER, 17, bytes(20), length=19), "tiny"), ("edge", bytes(40), "tiny"),
    ("relay", udp("127.0.0.1", CE, 9, PORT), "martian"), ("relay", udp("224.0.0.1", CE, 9, PORT), "martian"),
    ("relay", udp(SERVER, "192.5.6.7", 9, PORT), "no_rule"), ("relay", udp(SERVER, CE, 9, 1023), "excluded_port"),
    ("relay", ipv4(SERVER, CE, 47, bytes(8)), "no_port"),
], ids=no_bytes)
def test_what_is_refused_into_the_softwire(request, node, packet, reason):
    assert request.getfixturevalue(node).to_ipv6(packet) == reason


@pytest.mark.parametrize("node, packet, reason", [
    ("edge", udp(SERVER6, NEIGHBOUR6, 9, PORT), "not_own_address"), ("edge", udp(SERVER6, CE6, 9, NEIGHBOUR_PORT), "not_own_port"),
    ("edge", udp(SERVER6, CE6[:-1] + "5", 9, PORT), "not_own_address"), ("edge", udp(SERVER6, CE6, 9, 1), "excluded_port"),
    ("edge", ipv6(SERVER6, CE6, 47, bytes(8)), "no_port"), ("edge", udp(ROUTER6, CE6, 9, PORT), "outside_domain"),
    ("edge", udp(NEIGHBOUR6, CE6, PORT, PORT), "spoofed"), ("edge", udp(NEIGHBOUR6, CE6, 0, PORT), "port_zero"),
    ("edge", udp("2001:db8:ffff:0:e0::", CE6, 9, PORT), "martian"), ("alone", udp("2001:db8:ffff:0:c6:3364:1200:0", ALONE6, 9, 9), "martian"),
    ("alone", udp(CE6, ALONE6, 1024, 9), "spoofed"), ("edge", icmp(SERVER6, CE6, 135, data=bytes(16)), "untranslatable"),
    ("relay", udp(CE6, ROUTER6, PORT, 9), "not_own_address"), ("relay", udp(CE6, "2001:db8:ffff:0:7f:1::", PORT, 9), "martian"),
    ("relay", udp(ROUTER6, SERVER6, PORT, 9), "no_rule"), ("relay", udp(CE6, SERVER6, NEIGHBOUR_PORT, 9), "spoofed"),
    ("relay", udp("2001:db8:12:3401:0:c000:212:34", SERVER6, PORT, 9), "spoofed"), ("relay", ipv6(CE6, SERVER6, 47, bytes(8)), "no_port"),
    ("relay", udp(HOST6.replace("210", "220"), SERVER6, 9, 9), "spoofed"), ("relay", udp(CE6, SERVER6, 0, 9), "port_zero"),
    ("relay", udp(CE6, SERVER6, PORT, 9)[:-1], "tiny"), ("relay", ipv6(CE6, SERVER6, 6, bytes(17)), "tiny"), ("relay", bytes(60), "tiny"),
    ("relay", ipv6(CE6, SERVER6, 44, bytes(7)), "tiny"), ("relay", ipv6(CE6, SERVER6, 60, b"\x11\1" + bytes(6)), "untranslatable"),
    ("relay", b"\x50" + udp(CE6, SERVER6, PORT, 9)[1:], "tiny"), ("relay", ipv6(CE6, SERVER6, 60, bytes(3)), "tiny"),
    ("relay", udp("2001:dc8:12:3400:0:c000:212:34", SERVER6, PORT, 9), "no_rule"),
], ids=no_bytes)
def test_what_is_refused_out_of_the_softwire(request, node, packet, reason):
    assert request.getfixturevalue(node).to_ipv4(packet) == reason


def test_explicit_psids_share_an_address():
    rules = [Rule.of({"ipv6_prefix": f"2001:db8:{number}::/64", "ipv4_prefix": "192.0.2.1/32", "ea_length": 0, "psid_offset": 6, "psid_length": 8,
                      "psid": psid}) for number, psid in ((1, 0x34), (2, 0), (3, 0xFF))]
    relay = Relay(rules, DMR)
    for port, address in ((1232, "2001:db8:1::c000:201:34"), (1024, "2001:db8:2::c000:201:0"), (65535, "2001:db8:3::c000:201:ff")):
        assert lowered(relay.to_ipv6(udp(SERVER, "192.0.2.1", 9, port))) == udp(SERVER6, address, 9, port)
        assert lowered(relay.to_ipv4(udp(address, SERVER6, port, 9), identification=0x1234)) == udp("192.0.2.1", SERVER, port, 9)
    assert relay.to_ipv6(udp(SERVER, "192.0.2.1", 9, 1236)) == "other_psid"
    assert relay.to_ipv4(udp("2001:db8:3::c000:201:0", SERVER6, 1024, 9)) == "spoofed"
    edge = Edge(rules[0], 0, DMR)
    assert lowered(edge.to_ipv6(udp("192.0.2.1", SERVER, 1232, 9))) == udp("2001:db8:1::c000:201:34", SERVER6, 1232, 9)
    assert edge.to_ipv6(udp("192.0.2.1", SERVER, 1236, 9)) == "not_own_port"


def test_the_longest_match_is_the_rule():
    fields = {"ipv6_prefix": "2001:db8:300::/40", "ipv4_prefix": "192.0.2.16/28", "ea_length": 4, "psid_offset": 6, "psid_length": 0, "psid": None}
    relay = Relay([SHARED, Rule.of(fields)], DMR)
    assert lowered(relay.to_ipv6(udp(SERVER, CE, 9, 9))) == udp(SERVER6, "2001:db8:320::c000:212:0", 9, 9)
    assert relay.to_ipv4(udp(CE6, SERVER6, PORT, 9)) == "no_rule"


def test_a_quoted_length_that_is_less_than_its_headers(relay):
    quoted = ipv6(SERVER6, CE6, 60, bytes([17, 0]) + bytes(6) + udp(SERVER6, CE6, 9, PORT)[40:])
    assert relay.to_ipv4(error(CE6, SERVER6, quoted[:4] + b"\0\7" + quoted[6:])) == "tiny"
    assert relay.to_ipv4(error(CE6, SERVER6, quoted[:4] + b"\0\x08" + quoted[6:]))[30:32] == b"\0\x14"
    quoted = udp(CE, SERVER, PORT, 9)
    assert relay.to_ipv6(error(SERVER, CE, quoted[:2] + b"\0\x13" + quoted[4:])) == "tiny"


def test_a_packet_that_grows_too_long(relay):
    assert relay.to_ipv4(udp(CE6, SERVER6, PORT, 9, bytes(65508))) == "untranslatable"
    assert len(relay.to_ipv4(udp(CE6, SERVER6, PORT, 9, bytes(65507)))) == 65535
    assert relay.to_ipv6(error(SERVER, CE, four(udp(CE, SERVER, PORT, 9, bytes(65472)), 0, 0x2000))) == "untranslatable"


# ---- the fuzz ----

REASONS = {
    "no_rule", "no_port", "tiny", "port_zero", "excluded_port", "other_psid", "spoofed", "wrong_quote", "mixed_fragment", "lost_fragment", "martian",
    "not_own_address", "not_own_port", "outside_domain", "untranslatable", "lost_length",
}


def run(seed, count):
    """The cases of a seed with what becomes of them."""
    dice = random.Random(seed)
    network = Network(dice)
    oracle = network.oracle()
    for case in Fuzz(network, dice).cases(count):
        yield case, (oracle.to_ipv6 if case.into_softwire else oracle.to_ipv4)(case.packet, case.datagram_length)


def test_the_fuzz_is_made_of_all_sorts():
    """Half and more passes, every reason occurs, a seed gives the same packets again, and what was right is right."""
    outcomes, sums = Counter(), Counter()
    for seed in range(40):
        for case, made in run(seed, 200):
            outcomes[made if isinstance(made, str) else "passed"] += 1
            protocols = {case.packet[9:10], made[6:7]} if case.into_softwire else {case.packet[6:7]}
            if isinstance(made, bytes) and not case.is_mutated and protocols <= {b"\x01", b"\x06", b"\x11", b"\x3a"}:
                if packets.has_valid_checksum(case.packet) and not case.packet[6] & 0x3F * case.into_softwire:
                    sums[packets.has_valid_checksum(made)] += 1
    assert outcomes["passed"] > sum(outcomes.values()) / 2
    assert set(outcomes) == {"passed", *REASONS}
    assert sums[True] > 1000 and not sums[False]
    assert list(run(1, 50)) == list(run(1, 50))


def test_a_ce_and_its_br_undo_each_other():
    dice = random.Random(7599)
    for _number in range(300):
        network = Network(dice)
        edge, relay = Edge(network.bmr, network.ea_bits, network.dmr), Relay([network.bmr], network.dmr)
        network.is_edge, network.translator = True, edge
        server, customer = network.server(), network.near()
        kind, data = dice.choice(KINDS), dice.randbytes(dice.randrange(1200))
        far = 9 if kind is echo else server.port
        ends = IPv4Address(customer.ipv4), IPv4Address(server.ipv4)
        packet = kind(*ends, customer.port, far, data)
        assert lowered(lowered(relay.to_ipv4(edge.to_ipv6(packet), identification=0x1234))) == packet
        packet = kind(*reversed(ends), far, customer.port, data)
        assert lowered(lowered(edge.to_ipv4(relay.to_ipv6(packet), identification=0x1234))) == packet
        packet = error(*reversed(ends), four(kind(*ends, customer.port, far, data), 0), code=3)
        there = relay.to_ipv6(packet)
        assert lowered(lowered(edge.to_ipv4(there, identification=0x1234))) == four(packet, *((0, 0x4000) if len(packet) > 1260 else ()))
