"""What the tests of faults take for a leak on a customer edge's WAN."""
from __future__ import annotations

import struct
import sys
from pathlib import Path

import packets
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab" / "faults"))

import leaks  # noqa: E402

EDGES = [
    {"end_user_prefix": "2001:db8::/64", "map_address": "2001:db8::1", "ipv4_address": "192.0.2.18", "port_ranges": [[1232, 1235], [2256, 2259]]},
    {"end_user_prefix": "2001:db8::/64", "map_address": "2001:db8::2", "ipv4_address": "192.0.2.19", "port_ranges": [[1368, 1371]]},
]
RELAY, DMR = "2001:db8:ffff::1", "64:ff9b::cb00:7138"
UDP, ECHO = struct.pack("!HHHH", 1233, 53, 8, 0), struct.pack("!BBHHH", 8, 0, 0, 2256, 1)

NO_ROUTE = b"\x01" + bytes(7)


def ipv6(source, target, protocol, payload):
    return bytes(12) + b"\x86\xdd" + packets.ipv6(source, target, protocol, payload)


def ipv4(source, protocol, payload, fragment=0):
    return packets.ipv4(source, "203.0.113.56", protocol, payload, fragment=fragment)


def tunnelled(source, inner):
    return ipv6(source, RELAY, leaks.IPIP, inner)


@pytest.mark.parametrize("frame", [
    tunnelled("2001:db8::1", ipv4("192.0.2.18", leaks.UDP, UDP)),
    tunnelled("2001:db8::1", ipv4("192.0.2.18", leaks.ICMP, ECHO)),
    tunnelled("2001:db8::1", ipv4("192.0.2.18", leaks.UDP, b"not a port", fragment=185)),
    ipv6("2001:db8::1", DMR, leaks.UDP, UDP),
    ipv6("2001:db8::1", DMR, leaks.ICMPV6, b"\x80" + ECHO[1:]),
    ipv6("2001:db8::1", DMR, leaks.FRAGMENT, struct.pack("!BBHI", leaks.UDP, 0, 185 << 3, 7) + b"not a port"),
])
def test_what_a_softwire_sends(frame):
    assert leaks.fault(frame, EDGES) is None


@pytest.mark.parametrize("frame, text", [
    (bytes(12) + b"\x08\x00" + ipv4("192.0.2.18", leaks.UDP, UDP), "bare IPv4"),
    (tunnelled("2001:db8::1", ipv4("192.168.0.4", leaks.UDP, UDP)), "192.168.0.4 with port or identifier 1233"),
    (tunnelled("2001:db8::2", ipv4("192.0.2.19", leaks.UDP, UDP)), "192.0.2.19 with port or identifier 1233"),
    (tunnelled("2001:db8::2", ipv4("192.0.2.18", leaks.UDP, UDP)), "192.0.2.18, 1233 from 2001:db8::2"),
    (ipv6("2001:db8::2", DMR, leaks.UDP, UDP), "translated, from 2001:db8::2 with port or identifier 1233"),
    (ipv6("2001:db8::9", DMR, leaks.UDP, UDP), "translated, from 2001:db8::9"),
    (ipv6("2001:db8::9", DMR, leaks.ICMPV6, NO_ROUTE), "translated, from 2001:db8::9"),
    (ipv6("2001:db8:600::11", DMR, leaks.ICMPV6, b"\x80" + ECHO[1:]), "translated, from 2001:db8:600::11"),
])
def test_what_must_not_leave(frame, text):
    assert leaks.fault(frame, EDGES).startswith(text)


def test_what_is_not_ipv4_at_all():
    assert leaks.fault(ipv6("fe80::1", "ff02::1", leaks.ICMPV6, bytes(8)), EDGES) == ""
    assert leaks.fault(bytes(12) + b"\x08\x06" + bytes(28), EDGES) == ""
    assert leaks.fault(ipv6("2001:db8:600::11", DMR, leaks.ICMPV6, NO_ROUTE), EDGES) == ""
