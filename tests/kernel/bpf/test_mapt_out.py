# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mapt_out: what the translator sends to an internal address goes to the MAP address of its port."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import packets
import pytest
from domains import (
    CE, CE_PORT, EXAMPLE, EXAMPLE_CE, INTERNAL_CE, NEIGHBOUR, NEIGHBOUR_PORT, SERVER, TUTORIAL, ce_of, domain, internal, rule,
)
from kernel import PASS, SHOT
from packets import echo, error, ipv6, tcp, udp

KINDS = (udp, tcp, echo)
STACK = {"out_passed": 1, "out_passed_to_stack": 1}  # the test run has no route: test_loop.py has


def becomes(relay, packet, expected):
    assert relay.run("mapt_out", packet) == (PASS, expected)
    assert relay.counted() == STACK


def drops(relay, packet, counter):
    assert relay.run("mapt_out", packet) == (SHOT, packet)
    assert relay.counted() == {counter: 1}


def near(kind):
    """The port of the far end: an echo reply has but one."""
    return 9 if kind is echo else 53


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address, port", [(CE, CE_PORT), (CE, 57343), (NEIGHBOUR, NEIGHBOUR_PORT)])
def test_the_destination_becomes_the_map_address_of_its_port(relay, kind, address, port):
    relay.configure(TUTORIAL)
    becomes(relay, kind(SERVER, INTERNAL_CE, near(kind), port), kind(SERVER, address, near(kind), port))


def test_an_echo_request_goes_to_the_ce_of_its_identifier(relay):
    relay.configure(TUTORIAL)
    becomes(relay, echo(SERVER, INTERNAL_CE, CE_PORT, 9), echo(SERVER, CE, CE_PORT, 9))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_goes_to_the_ce_whose_packet_it_quotes(relay, kind):
    relay.configure(EXAMPLE)
    inside = internal("192.0.2.18")
    becomes(relay, error(SERVER, inside, kind(inside, SERVER, 1232, 9), packets.ICMPV6_TOO_BIG, 1280),
            error(SERVER, EXAMPLE_CE, kind(EXAMPLE_CE, SERVER, 1232, 9), packets.ICMPV6_TOO_BIG, 1280))


def test_an_error_without_the_quoted_checksum(relay):
    relay.configure(TUTORIAL)
    becomes(relay, error(SERVER, INTERNAL_CE, tcp(INTERNAL_CE, SERVER, CE_PORT, 53)[:48]),
            error(SERVER, CE, tcp(CE, SERVER, CE_PORT, 53)[:48]))


@pytest.mark.parametrize("packet, counter", [
    (udp(SERVER, internal("198.51.100.1"), 53, CE_PORT), "out_dropped_no_rule"),
    (ipv6(SERVER, INTERNAL_CE, 47, bytes(20)), "out_dropped_no_port"),
    (udp(SERVER, INTERNAL_CE, 53, 0), "out_dropped_port_zero"),
    (ipv6(SERVER, INTERNAL_CE, 17, struct.pack("!HH", 53, CE_PORT)), "out_dropped_tiny"),
    (error(SERVER, INTERNAL_CE, udp(internal("192.0.2.9"), SERVER, CE_PORT, 53)), "out_dropped_wrong_quote"),
])
def test_what_belongs_to_no_ce_is_dropped(relay, packet, counter):
    relay.configure(TUTORIAL)
    drops(relay, packet, counter)


def test_a_port_of_the_block_a_0_is_dropped(relay):
    relay.configure(EXAMPLE)
    drops(relay, udp(SERVER, internal("192.0.2.18"), 53, 1023), "out_dropped_excluded_port")


@pytest.mark.parametrize("packet", [
    packets.icmp("fe80::1", "fe80::99", 135, data=bytes(16)),
    udp(SERVER, "2001:db8:1::1", 53, 53),
])
def test_what_is_not_for_an_internal_address_is_left_alone(relay, packet):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_out", packet) == (PASS, packet)
    assert relay.counted() == {}


def test_a_hairpin_goes_back_in(relay):
    """The translator gives a packet between two CEs the sender's address inside the DMR."""
    relay.configure(TUTORIAL)
    sender = "64:ff9b::c000:23b"
    becomes(relay, udp(sender, INTERNAL_CE, 40960, CE_PORT), udp(sender, CE, 40960, CE_PORT))


# ---- explicit PSID rules: the PSID is not in the prefix, and several rules share an address ----

EXPLICIT = domain(*(rule(f"2001:db8:{number}::/64", "192.0.2.1/32", 0, 6, (8, psid)) for number, psid in ((1, 0x34), (2, 0), (3, 0xFF))))
EXPLICIT_CES = [("2001:db8:1::c000:201:34", 1232), ("2001:db8:2::c000:201:0", 1024), ("2001:db8:3::c000:201:ff", 65535)]


@pytest.mark.parametrize("index, expected", list(enumerate(EXPLICIT_CES)))
def test_rules_with_an_explicit_psid_share_an_address(relay, index, expected):
    address, port = expected
    assert ce_of(EXPLICIT, index=index)["map_address"] == str(IPv6Address(address))
    relay.configure(EXPLICIT)
    becomes(relay, udp(SERVER, internal("192.0.2.1"), 53, port), udp(SERVER, address, 53, port))
    relay.configure(EXPLICIT)
    assert relay.run("mapt_in", udp(address, SERVER, port, 53)) == (PASS, udp(internal("192.0.2.1"), SERVER, port, 53))
    assert relay.counted() == {"in_passed": 1}


@pytest.mark.parametrize("source, counter", [
    ("2001:db8:1::c000:201:35", "in_dropped_other_psid"), ("2001:db8:4::c000:201:35", "in_dropped_other_psid"),
])
def test_a_psid_of_no_explicit_rule_is_dropped(relay, source, counter):
    relay.configure(EXPLICIT)
    assert relay.run("mapt_in", udp(source, SERVER, 1236, 53))[0] == SHOT
    assert relay.counted() == {counter: 1}
    relay.configure(EXPLICIT)
    drops(relay, udp(SERVER, internal("192.0.2.1"), 53, 1236), "out_dropped_other_psid")


@pytest.mark.parametrize("source", ["2001:db8:2::c000:201:34", "2001:db8:1::c000:201:0", "2001:db8:3::c000:201:34"])
def test_an_explicit_psid_with_the_prefix_of_another_is_dropped(relay, source):
    relay.configure(EXPLICIT)
    assert relay.run("mapt_in", udp(source, SERVER, 1232, 53))[0] == SHOT
    assert relay.counted() == {"in_dropped_spoofed": 1}


# ---- addresses that are not shared: every port, every protocol ----

@pytest.mark.parametrize("form", ["rfc7597", "draft03"])
@pytest.mark.parametrize("packet", [
    lambda a, b: udp(a, b, 7, 7), lambda a, b: tcp(a, b, 0, 0), lambda a, b: echo(a, b, 0, 0), lambda a, b: ipv6(a, b, 47, bytes(20)),
    lambda a, b: error(a, b, ipv6(b, a, 47, bytes(20))),
])
@pytest.mark.parametrize("fields, ea_bits, ipv4", [
    (rule("2001:db8::/40", "192.0.2.0/24", 8, 6), 18, "192.0.2.18"),  # a full address
    (rule("2001:db8:12:3400::/56", "192.0.2.18/32", 0, 6), 0, "192.0.2.18"),
    (rule("2001:db8::/40", "192.0.2.0/24", 4, 6), 2, "192.0.2.37"),  # a /28, and a host in it
    (rule("2001:d00::/24", "0.0.0.0/0", 32, 6), 0xC0000212, "192.0.2.18"),
])
def test_a_whole_address_has_every_port_and_protocol(relay, form, packet, fields, ea_bits, ipv4):
    fields = domain(fields, interface_id=form)
    ce = ce_of(fields, ea_bits)
    # a CE with an IPv4 prefix: the base address of the prefix, replaced by the host's (RFC 7599 erratum 5225)
    shift = 24 if form == "draft03" else 16
    base = int(IPv6Address(ce["map_address"])) >> 64 << 64
    address = str(IPv6Address(base | int(IPv6Address(f"::{ipv4}")) << shift))
    if ce["ipv4_address"]:
        assert address == ce["map_address"]
    relay.configure(fields)
    assert relay.run("mapt_in", packet(address, SERVER)) == (PASS, packet(internal(ipv4), SERVER))
    assert relay.run("mapt_out", packet(SERVER, internal(ipv4))) == (PASS, packet(SERVER, address))
    assert relay.counted() == {"in_passed": 1, **STACK}


def test_extension_headers_are_dropped_even_there(relay):
    """They hide the checksum that would have to change, and nothing behind a CE can send them."""
    relay.configure(domain(rule("2001:db8::/40", "192.0.2.0/24", 8, 6)))
    destination_options = bytes([packets.UDP, 0, 1, 4, 0, 0, 0, 0])
    drops(relay, ipv6(SERVER, internal("192.0.2.18"), 60, destination_options + bytes(8)), "out_dropped_no_port")


def test_a_whole_address_is_still_checked(relay):
    relay.configure(domain(rule("2001:db8::/40", "192.0.2.0/24", 4, 6)))
    # host 37 is in the /28 with EA bits 2, not 3
    assert relay.run("mapt_in", udp("2001:db8:30:0:0:c000:225:0", SERVER, 7, 7))[0] == SHOT
    assert relay.counted() == {"in_dropped_spoofed": 1}
