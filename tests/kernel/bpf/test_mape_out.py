# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mape_out: what goes into the tunnel gets the outer addresses that its destination and port give."""

from __future__ import annotations

import pytest
from domains import (
    BR, CE, CE_PORT, EXAMPLE_CE, FAR, NEIGHBOUR, NEIGHBOUR_PORT, SHARED, TUNNEL, TUNNEL_EXAMPLE, ce_of, rule, tunnel_domain,
)
from kernel import PASS
from packets import ICMP_PARAMETER_PROBLEM, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, echo, error, fragments, ipv4, tcp, udp

KINDS = (udp, tcp, echo)


def goes_to(tunnel, packet, address, br=BR, tos=0, counter="out_passed"):
    assert tunnel.run_out(packet) == (br, address, tos, 64)
    assert tunnel.counted() == {counter: 1}


def drops(tunnel, packet, counter, ethertype=b"\x08\x00"):
    assert tunnel.run_out(packet, ethertype) is None
    assert tunnel.counted() == {counter: 1}


def near(kind):
    """The port of the far end: an echo reply has but one."""
    return 9 if kind is echo else 53


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address, port", [(CE, CE_PORT), (CE, 57343), (NEIGHBOUR, NEIGHBOUR_PORT)])
@pytest.mark.parametrize("options", [b"", bytes([1, 1, 1, 0]) * 10])
def test_the_outer_destination_is_the_map_address_of_the_port(tunnel, kind, address, port, options):
    tunnel.configure(TUNNEL)
    goes_to(tunnel, kind(FAR, SHARED, near(kind), port, options=options), address)


def test_an_echo_request_goes_to_the_ce_of_its_identifier(tunnel):
    tunnel.configure(TUNNEL)
    goes_to(tunnel, echo(FAR, SHARED, CE_PORT, 9), CE)


def test_the_traffic_class_is_the_inner_one(tunnel):
    tunnel.configure(TUNNEL)
    goes_to(tunnel, udp(FAR, SHARED, 53, CE_PORT, tos=0xB8), CE, tos=0xB8)


def test_the_outer_source_is_the_first_br_address_of_the_domain(tunnel):
    tunnel.configure(TUNNEL, tunnel_domain(rule("2001:db8::/40", "198.51.100.0/24", 16, 6), br=["2001:db8:ffff::2", BR]))
    goes_to(tunnel, udp(FAR, "198.51.100.18", 53, 1232), "2001:db8:12:3400:0:c633:6412:34", br="2001:db8:ffff::2")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("icmp_type", [ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM])
def test_an_error_goes_to_the_ce_whose_packet_it_quotes(tunnel, kind, icmp_type):
    tunnel.configure(TUNNEL_EXAMPLE)
    goes_to(tunnel, error("198.51.100.77", "192.0.2.18", kind("192.0.2.18", FAR, 1232, 9), icmp_type), EXAMPLE_CE)


@pytest.mark.parametrize("packet, counter", [
    (udp(FAR, "198.51.100.1", 53, CE_PORT), "out_dropped_no_rule"),
    (ipv4(FAR, SHARED, 47, bytes(20)), "out_dropped_no_port"),
    (udp(FAR, SHARED, 53, 0), "out_dropped_port_zero"),
    (ipv4(FAR, SHARED, 17, bytes(4)), "out_dropped_tiny"),
    (error(FAR, SHARED, udp("192.0.2.9", FAR, CE_PORT, 53)), "out_dropped_wrong_quote"),
    (error(FAR, SHARED, fragments(udp(SHARED, FAR, CE_PORT, 53, bytes(40)), [24])[1]), "out_dropped_no_port"),
])
def test_what_belongs_to_no_ce_is_dropped(tunnel, packet, counter):
    tunnel.configure(TUNNEL)
    drops(tunnel, packet, counter)


def test_a_port_of_the_block_a_0_is_dropped(tunnel):
    tunnel.configure(TUNNEL_EXAMPLE)
    drops(tunnel, udp(FAR, "192.0.2.18", 53, 1023), "out_dropped_excluded_port")


def test_ipv6_stays_out_of_the_tunnel(tunnel):
    tunnel.configure(TUNNEL)
    drops(tunnel, bytes([6 << 4]) + bytes(59), "out_dropped_not_ipv4", b"\x86\xdd")


# ---- fragments ----

DATA = bytes(range(100))


@pytest.mark.parametrize("kind", [*KINDS, lambda a, b, p, q, data: error(a, b, udp(b, a, q, p, data))])
def test_fragments_go_where_their_first_went(tunnel, kind):
    tunnel.configure(TUNNEL)
    for packet in fragments(kind(FAR, SHARED, near(kind), CE_PORT, DATA), [40, 40]):
        assert tunnel.run_out(packet) == (BR, CE, 0, 64)
    later = len(fragments(kind(FAR, SHARED, near(kind), CE_PORT, DATA), [40, 40])) - 1
    assert tunnel.counted() == {"out_passed": 1, "out_passed_later_fragment": later}


def test_a_fragment_without_its_first_goes_nowhere(tunnel):
    tunnel.configure(TUNNEL)
    drops(tunnel, fragments(udp(FAR, SHARED, 53, CE_PORT, DATA), [40])[1], "out_dropped_lost_fragment")


@pytest.mark.parametrize("far, options", [(FAR, {"identification": 7}), ("203.0.113.2", {})])
def test_the_first_fragment_of_another_datagram_does_not_help(tunnel, far, options):
    tunnel.configure(TUNNEL)
    assert tunnel.run_out(fragments(udp(FAR, SHARED, 53, CE_PORT, DATA), [40])[0])
    assert tunnel.run_out(fragments(udp(far, SHARED, 53, CE_PORT, DATA), [40], **options)[1]) is None
    assert tunnel.counted()["out_dropped_lost_fragment"] == 1


def test_a_reused_identification_goes_to_its_new_ce(tunnel):
    tunnel.configure(TUNNEL)
    assert tunnel.run_out(fragments(udp(FAR, SHARED, 53, CE_PORT, DATA), [40])[0])[1] == CE
    for packet in fragments(udp(FAR, SHARED, 53, NEIGHBOUR_PORT, DATA), [40, 40]):
        assert tunnel.run_out(packet)[1] == NEIGHBOUR


# ---- explicit PSID rules, addresses that are not shared ----

EXPLICIT = tunnel_domain(*(rule(f"2001:db8:{number}::/64", "192.0.2.1/32", 0, 6, (8, psid)) for number, psid in ((1, 0x34), (2, 0), (3, 0xFF))))


@pytest.mark.parametrize("address, port", [("2001:db8:1::c000:201:34", 1232), ("2001:db8:2::c000:201:0", 1024), ("2001:db8:3::c000:201:ff", 65535)])
def test_rules_with_an_explicit_psid_share_an_address(tunnel, address, port):
    tunnel.configure(EXPLICIT)
    assert tunnel.run_out(udp(FAR, "192.0.2.1", 53, port)) == (BR, address, 0, 64)
    assert tunnel.run_in(address, BR, udp("192.0.2.1", FAR, port, 53)) == PASS
    assert tunnel.counted() == {"out_passed": 1, "in_passed": 1}


def test_a_psid_of_no_explicit_rule_is_dropped(tunnel):
    tunnel.configure(EXPLICIT)
    drops(tunnel, udp(FAR, "192.0.2.1", 53, 1236), "out_dropped_other_psid")


@pytest.mark.parametrize("form", ["rfc7597", "draft03"])
@pytest.mark.parametrize("packet", [
    lambda a, b: udp(a, b, 7, 7), lambda a, b: tcp(a, b, 0, 0), lambda a, b: echo(a, b, 0, 0), lambda a, b: ipv4(a, b, 47, bytes(20)),
    lambda a, b: ipv4(a, b, 99, b""), lambda a, b: error(a, b, ipv4(b, a, 47, bytes(20))),
])
@pytest.mark.parametrize("fields, ea_bits, address", [
    (rule("2001:db8::/40", "192.0.2.0/24", 8, 6), 18, "192.0.2.18"),  # a full address
    (rule("2001:db8:12:3400::/56", "192.0.2.18/32", 0, 6), 0, "192.0.2.18"),
    (rule("2001:db8::/40", "192.0.2.0/24", 4, 6), 2, "192.0.2.37"),  # a host in a /28: one MAP address, of 192.0.2.32
    (rule("2001:db8::/40", "192.0.2.0/24", 0, 6), 0, "192.0.2.37"),  # the whole /24 is one CE's
    (rule("2001:d00::/24", "0.0.0.0/0", 32, 6), 0xC0000212, "192.0.2.18"),
])
def test_a_whole_address_has_every_port_and_protocol(tunnel, form, packet, fields, ea_bits, address):
    domain = tunnel_domain(fields, interface_id=form)
    ce = ce_of(domain, ea_bits)["map_address"]
    tunnel.configure(domain)
    assert tunnel.run_in(ce, BR, packet(address, FAR)) == PASS
    assert tunnel.run_out(packet(FAR, address)) == (BR, ce, 0, 64)
    assert tunnel.counted() == {"in_passed": 1, "out_passed": 1}


def test_the_example_of_a_prefix():
    """RFC 7597 section 6: the IPv4 prefix is right-padded with zeros."""
    assert ce_of(tunnel_domain(rule("2001:db8::/40", "192.0.2.0/24", 4, 6)), 2)["map_address"] == "2001:db8:20::c000:220:0"
