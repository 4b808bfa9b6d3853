# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mapt_in: what CEs send is checked and gets the internal address; nothing else passes."""

from __future__ import annotations

import struct

import packets
import pytest
from domains import (
    CE, CE_PORT, DMR, EXAMPLE, EXAMPLE_CE, INTERNAL_CE, NEIGHBOUR, NEIGHBOUR_PORT, OTHER, SERVER, TUTORIAL,
    ce_of, domain, internal, rule,
)
from kernel import PASS, SHOT
from packets import echo, error, ipv6, tcp, udp

ROUTER = "2001:db8:9::1"
KINDS = (udp, tcp, echo)


def passes(relay, packet, expected, counter="in_passed", padding=b""):
    assert relay.run("mapt_in", packet, padding) == (PASS, expected + padding)
    assert relay.counted() == {counter: 1}


def drops(relay, packet, counter, padding=b""):
    verdict, after = relay.run("mapt_in", packet, padding)
    assert verdict == SHOT
    assert after == packet + padding
    assert relay.counted() == {counter: 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("port", [CE_PORT, 56000, 57343])
def test_the_source_becomes_the_internal_address(relay, kind, port):
    relay.configure(TUTORIAL)
    packet, expected = kind(CE, SERVER, port, 53), kind(INTERNAL_CE, SERVER, port, 53)
    assert packets.has_valid_checksum(expected)
    passes(relay, packet, expected)


def test_an_echo_reply_is_a_ces_by_its_identifier(relay):
    relay.configure(TUTORIAL)
    passes(relay, echo(CE, SERVER, 9, CE_PORT), echo(INTERNAL_CE, SERVER, 9, CE_PORT))


def test_a_udp_checksum_of_zero_stays_zero(relay):
    relay.configure(TUTORIAL)
    packet, expected = (udp(source, SERVER, CE_PORT, 53) for source in (CE, INTERNAL_CE))
    passes(relay, packet[:46] + b"\0\0" + packet[48:], expected[:46] + b"\0\0" + expected[48:])


def test_a_udp_checksum_that_becomes_zero_is_written_as_ffff(relay):
    relay.configure(TUTORIAL)
    for word in range(65536):
        expected = udp(INTERNAL_CE, SERVER, CE_PORT, 53, struct.pack("!H", word))
        if expected[46:48] == b"\xff\xff":
            break
    passes(relay, udp(CE, SERVER, CE_PORT, 53, struct.pack("!H", word)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", [
    NEIGHBOUR, OTHER,
    "2001:db8:ce:11b:0:c000:208:1a",  # another CE's PSID in the interface id
    "2001:db8:ce:11b:0:c000:209:1b",  # another IPv4 address in the interface id
    "2001:db8:ce:11b:1:c000:208:1b",  # the first bytes of the interface id are zero
    "2001:db8:ce:111b:0:c000:208:1b",  # subnet bits
])
def test_a_source_that_is_not_the_map_address_of_its_port_is_dropped(relay, kind, source):
    relay.configure(TUTORIAL)
    drops(relay, kind(source, SERVER, CE_PORT, 53), "in_dropped_spoofed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_port_is_dropped(relay, kind):
    relay.configure(TUTORIAL)
    drops(relay, kind(CE, SERVER, NEIGHBOUR_PORT, 53), "in_dropped_spoofed")


@pytest.mark.parametrize("source", [
    "2001:db8:ce:11b::1",  # zero interface id
    "2001:db8:cf:11b:0:c000:208:1b",  # outside the rule's prefix
    "2001:db8:ce:11b:0:c633:6408:1b",  # an IPv4 address in no rule
    "2001:db8:ce:11b:c0:2:81b:0",  # near the other form
    "2001:db8:ce:11b:c0:2:800:1b00",
])
def test_a_source_in_no_rule_is_dropped(relay, source):
    relay.configure(TUTORIAL)
    drops(relay, udp(source, SERVER, CE_PORT, 53), "in_dropped_no_rule")


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_of_the_block_a_0_is_dropped(relay, kind):
    relay.configure(EXAMPLE)
    drops(relay, kind(EXAMPLE_CE, SERVER, 0x34 << 2, 53), "in_dropped_excluded_port")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields, ea_bits", [(TUTORIAL, 8 << 5), (EXAMPLE, 18 << 8)])
def test_port_zero_is_dropped(relay, kind, fields, ea_bits):
    relay.configure(fields)
    drops(relay, kind(ce_of(fields, ea_bits)["map_address"], SERVER, 0, 53), "in_dropped_port_zero")


@pytest.mark.parametrize("packet", [
    ipv6(CE, SERVER, 47, bytes(20)),  # GRE
    packets.icmp(CE, SERVER, 135, data=bytes(16)),
    error(CE, SERVER, ipv6(SERVER, CE, 47, bytes(20))),
    error(CE, SERVER, packets.fragments(udp(SERVER, CE, 53, CE_PORT, bytes(40)), [24])[1]),
    packets.fragments(error(CE, SERVER, udp(SERVER, CE, 53, CE_PORT, bytes(40))), [64])[0],
    ipv6(CE, SERVER, 0, bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp(CE, SERVER, CE_PORT, 53)[40:]),  # hop-by-hop options
])
def test_without_a_port_a_shared_address_cannot_be_checked(relay, packet):
    relay.configure(TUTORIAL)
    drops(relay, packet, "in_dropped_no_port")


@pytest.mark.parametrize("protocol, length", [(17, 0), (17, 7), (6, 8), (6, 16), (58, 4)])
def test_padding_behind_the_packet_is_not_read(relay, protocol, length):
    relay.configure(TUTORIAL)
    upper = {17: udp, 6: tcp, 58: echo}[protocol](CE, SERVER, CE_PORT, 53)[40:]
    drops(relay, ipv6(CE, SERVER, protocol, upper[:length]), "in_dropped_tiny", padding=upper[length:])


@pytest.mark.parametrize("source, destination", [
    (INTERNAL_CE, SERVER), (CE, INTERNAL_CE), (INTERNAL_CE, "2001:db8:1::1"), (internal("198.51.100.1"), SERVER),
])
def test_internal_addresses_do_not_come_from_the_wire(relay, source, destination):
    relay.configure(TUTORIAL)
    drops(relay, udp(source, destination, CE_PORT, 53), "in_dropped_internal")


@pytest.mark.parametrize("packet", [
    udp("::", "ff02::1:ff00:1", 1, 2), udp(CE, "2001:db8:1::1", 1, 2), udp(CE, "64:ff9b::1:0:0", 1, 2), ipv6(CE, "2001:db8::1", 99, b""),
])
def test_what_is_not_for_the_dmr_is_left_alone(relay, packet):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", packet) == (PASS, packet)
    assert relay.counted() == {}


@pytest.mark.parametrize("dmr, inside, outside", [
    ("2001:db8::/32", "2001:db8:cb00:7101::", "2001:db9:cb00:7101::"),
    ("2001:db8:100::/40", "2001:db8:1cb:71:1::", "2001:db8:2cb:71:1::"),
    ("2001:db8:122::/48", "2001:db8:122:cb00:71:100::", "2001:db8:123:cb00:71:100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3cb:0:7101::", "2001:db8:122:4cb:0:7101::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:cb:71:100:0", "2001:db8:122:345:cb:71:100:0"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::cb00:7101", "2001:db8:122:344::1:cb00:7101"),
])
def test_the_dmr_may_have_every_length_of_rfc_6052(relay, dmr, inside, outside):
    fields = domain(rule("3fff:ce::/51", "192.0.2.0/24", 13, 0), dmr=dmr)
    source = ce_of(fields, 8 << 5 | 27)["map_address"]
    relay.configure(fields)
    assert relay.run("mapt_in", udp(source, outside, CE_PORT, 53)) == (PASS, udp(source, outside, CE_PORT, 53))
    assert relay.counted() == {}
    passes(relay, udp(source, inside, CE_PORT, 53), udp(INTERNAL_CE, inside, CE_PORT, 53))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("icmp_type", [packets.ICMPV6_UNREACHABLE, packets.ICMPV6_TOO_BIG, packets.ICMPV6_TIME_EXCEEDED, 4])
def test_an_error_of_a_ce_is_checked_by_what_it_quotes(relay, kind, icmp_type):
    relay.configure(TUTORIAL)
    far_port = 9 if kind is echo else 53
    passes(relay, error(CE, SERVER, kind(SERVER, CE, far_port, CE_PORT), icmp_type, 1280),
           error(INTERNAL_CE, SERVER, kind(SERVER, INTERNAL_CE, far_port, CE_PORT), icmp_type, 1280))


@pytest.mark.parametrize("kind, kept", [(udp, 8), (tcp, 8), (tcp, 16), (tcp, 18), (echo, 8)])
def test_an_error_may_quote_the_beginning_only(relay, kind, kept):
    relay.configure(TUTORIAL)
    far_port = 9 if kind is echo else 53
    expected = error(INTERNAL_CE, SERVER, kind(SERVER, INTERNAL_CE, far_port, CE_PORT)[:40 + kept])
    assert packets.has_valid_checksum(expected)
    # behind it there is what the network card left there
    passes(relay, error(CE, SERVER, kind(SERVER, CE, far_port, CE_PORT)[:40 + kept]), expected, padding=b"padding and so on")


def test_a_quoted_udp_checksum_of_zero_stays_zero(relay):
    relay.configure(TUTORIAL)
    quoted = [udp(SERVER, address, 53, CE_PORT) for address in (CE, INTERNAL_CE)]
    quoted = [packet[:46] + b"\0\0" + packet[48:] for packet in quoted]
    passes(relay, error(CE, SERVER, quoted[0]), error(INTERNAL_CE, SERVER, quoted[1]))


def test_an_error_may_quote_a_first_fragment(relay):
    relay.configure(TUTORIAL)
    first, internal_first = (packets.fragments(udp(SERVER, address, 53, CE_PORT, bytes(40)), [24])[0] for address in (CE, INTERNAL_CE))
    passes(relay, error(CE, SERVER, first), error(INTERNAL_CE, SERVER, internal_first))


def test_an_error_cut_before_the_quoted_ports_is_dropped(relay):
    relay.configure(TUTORIAL)
    quoted = udp(SERVER, CE, 53, CE_PORT)
    drops(relay, error(CE, SERVER, quoted[:46]), "in_dropped_tiny", padding=quoted[46:])


@pytest.mark.parametrize("source, quoted, counter", [
    (CE, udp(SERVER, NEIGHBOUR, 53, CE_PORT), "in_dropped_wrong_quote"),
    (CE, udp(SERVER, NEIGHBOUR, 53, NEIGHBOUR_PORT), "in_dropped_spoofed"),
    (CE, udp(SERVER, CE, 53, NEIGHBOUR_PORT), "in_dropped_spoofed"),
    (CE, udp(SERVER, ROUTER, 53, CE_PORT), "in_dropped_wrong_quote"),
    (ROUTER, udp(SERVER, NEIGHBOUR, 53, CE_PORT), "in_dropped_wrong_quote"),
    (ROUTER, udp(SERVER, CE, 53, NEIGHBOUR_PORT), "in_dropped_wrong_quote"),
    (ROUTER, udp(SERVER, ROUTER, 53, CE_PORT), "in_dropped_no_rule"),
    (ROUTER, udp(SERVER, CE, 53, 0), "in_dropped_port_zero"),
])
def test_an_error_about_the_packet_of_somebody_else_is_dropped(relay, source, quoted, counter):
    relay.configure(TUTORIAL)
    drops(relay, error(source, SERVER, quoted), counter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("router", [ROUTER, "2001:db8:ce:11b::1"])
def test_a_router_between_br_and_ce_may_report_about_a_packet_to_the_ce(relay, kind, router):
    relay.configure(TUTORIAL)
    far_port = 9 if kind is echo else 53
    passes(relay, error(router, SERVER, kind(SERVER, CE, far_port, CE_PORT), packets.ICMPV6_TOO_BIG, 1280),
           error(router, SERVER, kind(SERVER, INTERNAL_CE, far_port, CE_PORT), packets.ICMPV6_TOO_BIG, 1280), "in_passed_router_error")


@pytest.mark.parametrize("packet, counter", [
    (udp(CE, SERVER, CE_PORT, 53), "in_passed"),
    (error(CE, SERVER, udp(SERVER, CE, 53, CE_PORT)), "in_passed"),
    (error(ROUTER, SERVER, udp(SERVER, CE, 53, CE_PORT)), "in_passed_router_error"),
])
def test_check_only_changes_nothing(relay, packet, counter):
    relay.configure(TUTORIAL, check_only=True)
    passes(relay, packet, packet, counter)


def test_check_only_drops_what_is_spoofed(relay):
    relay.configure(TUTORIAL, check_only=True)
    drops(relay, udp(CE, SERVER, NEIGHBOUR_PORT, 53), "in_dropped_spoofed")


def test_check_only_knows_no_internal_addresses(relay):
    relay.configure(TUTORIAL, check_only=True)
    packet = udp(INTERNAL_CE, "2001:db8:1::1", 1, 2)
    assert relay.run("mapt_in", packet) == (PASS, packet)


def test_a_longer_rule_wins(relay):
    fields = domain(rule("2001:db8:1::/48", "192.0.2.0/24", 16, 6), rule("2001:db8:2::/48", "192.0.2.128/25", 15, 6))
    relay.configure(fields)
    ce = ce_of(fields, 5 << 8 | 0x34, index=1)
    assert ce["ipv4_address"] == "192.0.2.133"
    passes(relay, udp(ce["map_address"], SERVER, 1232, 53), udp(internal("192.0.2.133"), SERVER, 1232, 53))


def test_two_forms_of_interface_id_side_by_side(relay):
    other = domain(rule("2001:db8:8000::/40", "198.51.100.0/24", 16, 6), interface_id="draft03", dmr=DMR)
    relay.configure(EXAMPLE, other)
    ce = ce_of(other, 0x1234)
    passes(relay, udp(ce["map_address"], SERVER, 1232, 53), udp(internal("198.51.100.18"), SERVER, 1232, 53))
    relay.configure(EXAMPLE, other)
    passes(relay, udp(EXAMPLE_CE, SERVER, 1232, 53), udp(internal("192.0.2.18"), SERVER, 1232, 53))
