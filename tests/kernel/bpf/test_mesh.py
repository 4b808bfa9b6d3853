# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mesh_out and mesh_in: a MAP-E customer edge sends to others directly, and takes from them what the FMR's arithmetic gives, no more."""

from __future__ import annotations

import struct

import pytest
from domains import BR, CE, CE_PORT, FAR, NEIGHBOUR, NEIGHBOUR_PORT, OTHER, SHARED, TUNNEL, ce_of, rule, tunnel_domain
from kernel import PASS, SHOT
from packets import echo, error, fragments, ipv4, tcp, udp

SECOND_BR = "2001:db8:ffff::2"
OTHER_ADDRESS, OTHER_PORT = "192.0.2.59", 20 << 11
DATA = bytes(range(100))


def become(tunnel, sends=True, rules=tuple(TUNNEL["rules"])):
    """The CE of the tutorial with FMRs."""
    tunnel.configure_edge(ce_of(TUNNEL, 0x11B), list(rules), [BR, SECOND_BR], sends)


@pytest.fixture
def edge(tunnel):
    become(tunnel)
    return tunnel


def goes_to(edge, packet, address):
    return edge.run_out(packet) == (CE, address, packet[1], 64)


@pytest.mark.parametrize("kind", [udp, tcp])
@pytest.mark.parametrize("destination, port, address", [
    (FAR, 53, BR), (SHARED, NEIGHBOUR_PORT, NEIGHBOUR), (OTHER_ADDRESS, OTHER_PORT, OTHER), ("192.0.3.1", OTHER_PORT, BR)])
def test_the_destination_says_who_gets_it(edge, kind, destination, port, address):
    assert goes_to(edge, kind(SHARED, destination, CE_PORT, port, tos=0xB8), address)
    assert edge.counted() == {"out_passed": 1}


def test_an_echo_goes_by_its_one_identifier(edge):
    """Which is the sender's: so the port that the receiver should have, too."""
    assert goes_to(edge, echo(SHARED, OTHER_ADDRESS, CE_PORT), "2001:db8:ce:77b:0:c000:23b:1b") and goes_to(edge, echo(SHARED, FAR, CE_PORT), BR)
    assert edge.run_out(echo(SHARED, SHARED, CE_PORT)) is None
    assert edge.counted() == {"out_passed": 2, "out_dropped_itself": 1}
    assert edge.run_in("2001:db8:ce:77b:0:c000:23b:1b", CE, echo(OTHER_ADDRESS, SHARED, 9, CE_PORT)) == PASS


def test_an_error_goes_to_the_sender_of_what_it_quotes(edge):
    quoted = udp(OTHER_ADDRESS, SHARED, OTHER_PORT, CE_PORT)
    assert goes_to(edge, error(SHARED, OTHER_ADDRESS, quoted), OTHER)
    assert goes_to(edge, error(SHARED, FAR, udp(FAR, SHARED, 53, CE_PORT)), BR)
    assert edge.run_out(error(SHARED, OTHER_ADDRESS, udp(OTHER_ADDRESS, SHARED, OTHER_PORT, NEIGHBOUR_PORT))) is None
    assert edge.counted() == {"out_passed": 2, "out_dropped_not_own_port": 1}


def test_a_customer_edge_that_only_takes_sends_all_to_the_relay(tunnel):
    become(tunnel, sends=False)
    assert goes_to(tunnel, udp(SHARED, OTHER_ADDRESS, CE_PORT, OTHER_PORT), BR)
    assert tunnel.run_in(OTHER, CE, udp(OTHER_ADDRESS, SHARED, OTHER_PORT, CE_PORT)) == PASS


@pytest.mark.parametrize("packet, counter", [
    (udp("192.0.2.9", FAR, CE_PORT, 53), "not_own_address"),
    (udp(SHARED, FAR, NEIGHBOUR_PORT, 53), "not_own_port"),
    (udp(SHARED, FAR, 0, 53), "port_zero"),
    (ipv4(SHARED, FAR, 47, bytes(20)), "no_port"),
    (ipv4(SHARED, FAR, 17, bytes(4)), "tiny"),
    (udp(SHARED, OTHER_ADDRESS, CE_PORT, 0), "port_zero"),
    (udp(SHARED, SHARED, CE_PORT, CE_PORT + 1), "itself"),
])
def test_what_is_not_the_customer_edges_does_not_leave(edge, packet, counter):
    assert edge.run_out(packet) is None
    assert edge.counted() == {f"out_dropped_{counter}": 1}


EXPLICIT = [rule(f"2001:db8:{number}::/64", "198.51.100.1/32", 0, 6, (8, psid)) for number, psid in ((1, 0x34), (2, 0))]


@pytest.mark.parametrize("port, address", [(1232, "2001:db8:1::c633:6401:34"), (1024, "2001:db8:2::c633:6401:0"), (1236, BR)])
def test_an_explicit_psid_that_is_in_no_fmr_is_the_relays(tunnel, port, address):
    become(tunnel, rules=EXPLICIT)
    for packet in (udp(SHARED, "198.51.100.1", CE_PORT, port), *fragments(udp(SHARED, "198.51.100.1", CE_PORT, port, DATA), [40, 40])):
        assert goes_to(tunnel, packet, address)


@pytest.mark.parametrize("destination, port, address", [(FAR, 53, BR), (OTHER_ADDRESS, OTHER_PORT, OTHER), (SHARED, NEIGHBOUR_PORT, NEIGHBOUR)])
def test_fragments_go_where_their_first_went(edge, destination, port, address):
    for packet in fragments(udp(SHARED, destination, CE_PORT, port, DATA), [40, 40]):
        assert goes_to(edge, packet, address)


def test_a_later_fragment_alone_goes_to_no_customer_edge(edge):
    assert edge.run_out(fragments(udp(SHARED, OTHER_ADDRESS, CE_PORT, OTHER_PORT, DATA), [40])[1]) is None
    assert edge.counted() == {"out_dropped_lost_fragment": 1}


@pytest.mark.parametrize("kind", [udp, tcp])
@pytest.mark.parametrize("source, far, port", [
    (BR, FAR, 53), (SECOND_BR, FAR, 53), (BR, SHARED, NEIGHBOUR_PORT), (BR, OTHER_ADDRESS, 5), (NEIGHBOUR, SHARED, NEIGHBOUR_PORT),
    (OTHER, OTHER_ADDRESS, OTHER_PORT)])
def test_from_the_relay_anything_comes_and_from_others_what_is_theirs(edge, kind, source, far, port):
    assert edge.run_in(source, CE, kind(far, SHARED, port, CE_PORT)) == PASS
    assert edge.counted() == {"in_passed": 1}


MINE = udp(OTHER_ADDRESS, SHARED, OTHER_PORT, CE_PORT)


@pytest.mark.parametrize("source, destination, packet, counter", [
    (OTHER, "2001:db8:ce:11b::1", MINE, "not_own_address"),
    (OTHER, NEIGHBOUR, MINE, "not_own_address"),
    (BR, "2001:db8:ce:11b::1", MINE, "not_own_address"),
    (NEIGHBOUR, CE, MINE, "spoofed"),
    ("2001:db8:ce:774:0:c000:23b:15", CE, MINE, "spoofed"),  # another PSID in the interface id
    ("2001:db8:ce:774:0:c000:23a:14", CE, MINE, "spoofed"),
    ("2001:db8:ce:774:1:c000:23b:14", CE, MINE, "spoofed"),
    ("2001:db8:ce:774::1", CE, MINE, "spoofed"), ("2001:db8:9::1", CE, MINE, "spoofed"), ("2001:db8:ffff::3", CE, MINE, "spoofed"),
    (OTHER, CE, udp(OTHER_ADDRESS, SHARED, NEIGHBOUR_PORT, CE_PORT), "spoofed"),
    (OTHER, CE, udp(OTHER_ADDRESS, SHARED, 0, CE_PORT), "port_zero"),
    (OTHER, CE, udp(FAR, SHARED, OTHER_PORT, CE_PORT), "no_rule"),
    (OTHER, CE, udp(OTHER_ADDRESS, SHARED, OTHER_PORT, NEIGHBOUR_PORT), "not_own_port"),
    (BR, CE, udp(FAR, SHARED, 53, NEIGHBOUR_PORT), "not_own_port"),
    (BR, CE, udp(FAR, "192.0.2.9", 53, CE_PORT), "not_own_address"),
    (OTHER, CE, udp(OTHER_ADDRESS, "192.168.0.4", OTHER_PORT, CE_PORT), "not_own_address"),
    (BR, CE, udp(SHARED, SHARED, CE_PORT + 1, CE_PORT), "itself"),
    (CE, CE, udp(SHARED, SHARED, CE_PORT + 1, CE_PORT), "itself"),
    (OTHER, CE, ipv4(OTHER_ADDRESS, SHARED, 47, bytes(20)), "no_port"),
    (OTHER, CE, error(OTHER_ADDRESS, SHARED, udp(SHARED, OTHER_ADDRESS, CE_PORT, NEIGHBOUR_PORT)), "spoofed"),
    (OTHER, CE, error(OTHER_ADDRESS, SHARED, udp(SHARED, FAR, CE_PORT, OTHER_PORT)), "wrong_quote"),
    (OTHER, CE, error(OTHER_ADDRESS, SHARED, udp("192.0.2.9", OTHER_ADDRESS, CE_PORT, OTHER_PORT)), "wrong_quote"),
    (BR, CE, udp("127.0.0.1", SHARED, 53, CE_PORT), "martian"),
    (OTHER, CE, udp(OTHER_ADDRESS, "224.0.0.1", OTHER_PORT, CE_PORT), "martian"),
    (OTHER, CE, bytes([6 << 4]) + bytes(59), "not_ipv4"),
])
def test_what_is_forged_is_dropped(edge, source, destination, packet, counter):
    assert edge.run_in(source, destination, packet) == SHOT
    assert edge.counted() == {f"in_dropped_{counter}": 1}


def test_ipv6_in_the_tunnel_is_dropped(edge):
    assert edge.run_in(OTHER, CE, bytes([6 << 4]) + bytes(59), b"\x86\xdd") == SHOT
    assert edge.counted() == {"in_dropped_not_ipv4": 1}


@pytest.mark.parametrize("source, far, port", [(BR, FAR, 53), (NEIGHBOUR, SHARED, NEIGHBOUR_PORT), (BR, SHARED, NEIGHBOUR_PORT)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_fragments_pass_in_every_order(edge, source, far, port, order):
    pieces = fragments(udp(far, SHARED, port, CE_PORT, DATA), [40, 40])
    assert [edge.run_in(source, CE, pieces[index]) for index in order] == [PASS] * 3


PSID_0 = "2001:db8:ce:100:0:c000:208:0"


@pytest.mark.parametrize("first, port, second", [
    (NEIGHBOUR, NEIGHBOUR_PORT, BR), (BR, NEIGHBOUR_PORT, NEIGHBOUR), (PSID_0, 5, BR), (BR, 5, PSID_0), (NEIGHBOUR, NEIGHBOUR_PORT, PSID_0)])
def test_nobody_adds_to_the_datagram_of_another(edge, first, port, second):
    """They share an address; and one of them does not mesh."""
    pieces = fragments(udp(SHARED, SHARED, port, CE_PORT, DATA), [40, 40])
    assert edge.run_in(first, CE, pieces[0]) == PASS
    assert edge.run_in(second, CE, pieces[1]) == SHOT
    assert edge.counted() == {"in_passed": 1, "in_dropped_mixed_fragment": 1}


def test_256_rules_and_more(tunnel):
    """As many as HB46PP's answer may have, beside each other."""
    rules = [rule(f"2001:db8:{number:x}00::/40", f"10.{number}.0.0/16", 24, 6) for number in range(1, 256)] + EXPLICIT
    become(tunnel, rules=rules)
    for number in (1, 99, 255):
        address = f"2001:db8:{number:x}00:1234:0:a{number:02x}:12:34"
        assert goes_to(tunnel, udp(SHARED, f"10.{number}.0.18", CE_PORT, 1232), address)
        assert tunnel.run_in(address, CE, udp(f"10.{number}.0.18", SHARED, 1232, CE_PORT)) == PASS
    assert tunnel.counted() == {"out_passed": 3, "in_passed": 3}


@pytest.mark.parametrize("fields, ea_bits, own", [
    (rule("2001:db8::/40", "198.51.100.0/24", 8, 6), 18, "198.51.100.18"),
    (rule("2001:db8::/40", "198.51.100.0/24", 4, 6), 2, "198.51.100.37"),
])
def test_a_customer_edge_with_a_whole_address_or_a_prefix(tunnel, fields, ea_bits, own):
    """It takes every protocol, and nobody else has its address."""
    ce = ce_of(tunnel_domain(fields), ea_bits)
    tunnel.configure_edge(ce, TUNNEL["rules"], [BR])
    address = ce["map_address"]
    assert tunnel.run_out(ipv4(own, FAR, 47, struct.pack("!Q", 1)))[:2] == (address, BR)
    assert tunnel.run_in(BR, address, ipv4(FAR, own, 47, bytes(20))) == PASS
    assert tunnel.run_in(OTHER, address, udp(OTHER_ADDRESS, own, OTHER_PORT, 7)) == PASS
    assert tunnel.run_in(BR, address, udp(own, own, 5, 7)) == SHOT
    assert tunnel.counted() == {"out_passed": 1, "in_passed": 2, "in_dropped_itself": 1}
