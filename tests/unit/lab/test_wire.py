"""What the tests of faults take for a leak on a customer edge's WAN."""
from __future__ import annotations

import ipaddress
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab" / "faults"))

import wire  # noqa: E402

EDGES = [
    {"end_user_prefix": "2001:db8::/64", "map_address": "2001:db8::1", "ipv4_address": "192.0.2.18", "port_ranges": [[1232, 1235], [2256, 2259]]},
    {"end_user_prefix": "2001:db8::/64", "map_address": "2001:db8::2", "ipv4_address": "192.0.2.19", "port_ranges": [[1368, 1371]]},
]
RELAY, DMR = "2001:db8:ffff::1", "64:ff9b::cb00:7138"
UDP, ECHO = struct.pack("!HHHH", 1233, 53, 8, 0), struct.pack("!BBHHH", 8, 0, 0, 2256, 1)

NO_ROUTE = b"\x01" + bytes(7)


def ipv6(source, target, protocol, payload):
    addresses = b"".join(ipaddress.ip_address(text).packed for text in (source, target))
    return bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload


def ipv4(source, protocol, payload, fragment=0):
    addresses = b"".join(ipaddress.ip_address(text).packed for text in (source, "203.0.113.56"))
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, protocol, 0) + addresses + payload


def tunnelled(source, inner):
    return ipv6(source, RELAY, wire.IPIP, inner)


@pytest.mark.parametrize("frame", [
    tunnelled("2001:db8::1", ipv4("192.0.2.18", wire.UDP, UDP)),
    tunnelled("2001:db8::1", ipv4("192.0.2.18", wire.ICMP, ECHO)),
    tunnelled("2001:db8::1", ipv4("192.0.2.18", wire.UDP, b"not a port", fragment=185)),
    ipv6("2001:db8::1", DMR, wire.UDP, UDP),
    ipv6("2001:db8::1", DMR, wire.ICMPV6, b"\x80" + ECHO[1:]),
    ipv6("2001:db8::1", DMR, wire.FRAGMENT, struct.pack("!BBHI", wire.UDP, 0, 185 << 3, 7) + b"not a port"),
])
def test_what_a_softwire_sends(frame):
    assert wire.fault(frame, EDGES) is None


@pytest.mark.parametrize("frame, text", [
    (bytes(12) + b"\x08\x00" + ipv4("192.0.2.18", wire.UDP, UDP), "bare IPv4"),
    (tunnelled("2001:db8::1", ipv4("192.168.0.4", wire.UDP, UDP)), "192.168.0.4 with port or identifier 1233"),
    (tunnelled("2001:db8::2", ipv4("192.0.2.19", wire.UDP, UDP)), "192.0.2.19 with port or identifier 1233"),
    (tunnelled("2001:db8::2", ipv4("192.0.2.18", wire.UDP, UDP)), "192.0.2.18, 1233 from 2001:db8::2"),
    (ipv6("2001:db8::2", DMR, wire.UDP, UDP), "translated, from 2001:db8::2 with port or identifier 1233"),
    (ipv6("2001:db8::9", DMR, wire.UDP, UDP), "translated, from 2001:db8::9"),
    (ipv6("2001:db8::9", DMR, wire.ICMPV6, NO_ROUTE), "translated, from 2001:db8::9"),
    (ipv6("2001:db8:600::11", DMR, wire.ICMPV6, b"\x80" + ECHO[1:]), "translated, from 2001:db8:600::11"),
])
def test_what_must_not_leave(frame, text):
    assert wire.fault(frame, EDGES).startswith(text)


def test_what_is_not_ipv4_at_all():
    assert wire.fault(ipv6("fe80::1", "ff02::1", wire.ICMPV6, bytes(8)), EDGES) == ""
    assert wire.fault(bytes(12) + b"\x08\x06" + bytes(28), EDGES) == ""
    assert wire.fault(ipv6("2001:db8:600::11", DMR, wire.ICMPV6, NO_ROUTE), EDGES) == ""
