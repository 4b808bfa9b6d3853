# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mape_in: what comes out of the tunnel is checked against its outer addresses; nothing else passes."""

from __future__ import annotations

import pytest
from domains import (
    BR, CE, CE_PORT, EXAMPLE_CE, FAR, NEIGHBOUR, NEIGHBOUR_PORT, OTHER, SHARED, TUNNEL, TUNNEL_EXAMPLE, ce_of, rule, tunnel_domain,
)
from kernel import PASS, SHOT
from packets import ICMP_PARAMETER_PROBLEM, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, echo, error, fragments, ipv4, tcp, udp

KINDS = (udp, tcp, echo)
OPTIONS = bytes([1, 1, 1, 0])


def passes(tunnel, packet, source=CE, destination=BR, counter="in_passed"):
    assert tunnel.run_in(source, destination, packet) == PASS
    assert tunnel.counted() == {counter: 1}


def drops(tunnel, packet, counter, source=CE, destination=BR):
    assert tunnel.run_in(source, destination, packet) == SHOT
    assert tunnel.counted() == {counter: 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("port", [CE_PORT, 56000, 57343])
@pytest.mark.parametrize("options", [b"", OPTIONS, OPTIONS * 10])
def test_what_a_ce_sends_from_its_ports_passes(tunnel, kind, port, options):
    tunnel.configure(TUNNEL)
    passes(tunnel, kind(SHARED, FAR, port, 53, options=options))


def test_an_echo_reply_is_a_ces_by_its_identifier(tunnel):
    tunnel.configure(TUNNEL)
    passes(tunnel, echo(SHARED, FAR, 9, CE_PORT))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", [
    NEIGHBOUR, OTHER,
    "2001:db8:ce:11b:0:c000:208:1a",  # another CE's PSID in the interface id
    "2001:db8:ce:11b:0:c000:209:1b",  # another IPv4 address in the interface id
    "2001:db8:ce:11b:1:c000:208:1b",  # the first bytes of the interface id are zero
    "2001:db8:ce:111b:0:c000:208:1b",  # subnet bits
    "2001:db8:ce:11b::1", "2001:db8:9::1", "2001:db8:ce:11b:c0:2:800:1b00",  # the other form
])
def test_an_outer_source_that_is_not_the_map_address_is_dropped(tunnel, kind, source):
    tunnel.configure(TUNNEL)
    drops(tunnel, kind(SHARED, FAR, CE_PORT, 53), "in_dropped_spoofed", source=source)


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_port_is_dropped(tunnel, kind):
    tunnel.configure(TUNNEL)
    drops(tunnel, kind(SHARED, FAR, NEIGHBOUR_PORT, 53), "in_dropped_spoofed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source, counter", [("192.0.2.9", "in_dropped_spoofed"), ("198.51.100.1", "in_dropped_no_rule")])
def test_a_foreign_address_is_dropped(tunnel, kind, source, counter):
    tunnel.configure(TUNNEL)
    drops(tunnel, kind(source, FAR, CE_PORT, 53), counter)


@pytest.mark.parametrize("source", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_a_martian_is_dropped_even_where_a_rule_has_it(tunnel, source):
    fields = tunnel_domain(rule("2001:d00::/24", "0.0.0.0/0", 32, 6))
    tunnel.configure(fields)
    number = int.from_bytes(bytes(map(int, source.split("."))), "big")
    drops(tunnel, udp(source, FAR, 7, 53), "in_dropped_martian", source=ce_of(fields, number)["map_address"])


@pytest.mark.parametrize("destination", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_a_martian_destination_is_dropped(tunnel, destination):
    tunnel.configure(TUNNEL)
    drops(tunnel, udp(SHARED, destination, CE_PORT, 53), "in_dropped_martian")


def test_another_address_of_the_router_is_not_the_br(tunnel):
    tunnel.configure(TUNNEL)
    drops(tunnel, udp(SHARED, FAR, CE_PORT, 53), "in_dropped_other_br", destination="2001:db8:ffff::2")


TWO = (TUNNEL, tunnel_domain(rule("2001:db8::/40", "198.51.100.0/24", 16, 6), br=["2001:db8:ffff::2", "2001:db8:ffff::3"]))
SECOND_CE = "2001:db8:12:3400:0:c633:6412:34"


@pytest.mark.parametrize("source, outer, destination, verdict", [
    (SHARED, CE, BR, PASS), (SHARED, CE, "2001:db8:ffff::2", SHOT), (SHARED, CE, "2001:db8:ffff::3", SHOT),
    ("198.51.100.18", SECOND_CE, BR, SHOT), ("198.51.100.18", SECOND_CE, "2001:db8:ffff::2", PASS),
    ("198.51.100.18", SECOND_CE, "2001:db8:ffff::3", PASS),
])
def test_every_domain_has_br_addresses_of_its_own(tunnel, source, outer, destination, verdict):
    tunnel.configure(*TWO)
    port = CE_PORT if source == SHARED else 1232
    assert tunnel.run_in(outer, destination, udp(source, FAR, port, 53)) == verdict
    assert tunnel.counted() == {"in_passed" if verdict == PASS else "in_dropped_other_br": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_of_the_block_a_0_is_dropped(tunnel, kind):
    tunnel.configure(TUNNEL_EXAMPLE)
    drops(tunnel, kind("192.0.2.18", FAR, 0x34 << 2, 53), "in_dropped_excluded_port", source=EXAMPLE_CE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", [TUNNEL, TUNNEL_EXAMPLE])
def test_port_zero_is_dropped(tunnel, kind, fields):
    tunnel.configure(fields)
    drops(tunnel, kind("192.0.2.8", FAR, 0, 53), "in_dropped_port_zero", source=ce_of(fields, 8 << fields["rules"][0]["psid_length"])["map_address"])


@pytest.mark.parametrize("packet", [
    ipv4(SHARED, FAR, 47, bytes(20)),  # GRE
    ipv4(SHARED, FAR, 1, bytes([13, 0, 0, 0, 0xD8, 0, 0, 1]) + bytes(12)),  # a timestamp request
    ipv4(SHARED, FAR, 1, bytes([5, 0, 0, 0]) + bytes(4) + udp(FAR, SHARED, 53, CE_PORT)),  # a redirect
    error(SHARED, FAR, ipv4(FAR, SHARED, 47, bytes(20))),
    error(SHARED, FAR, error(FAR, SHARED, udp(SHARED, FAR, CE_PORT, 53))),
    error(SHARED, FAR, fragments(udp(FAR, SHARED, 53, CE_PORT, bytes(40)), [24])[1]),
])
def test_without_a_port_a_shared_address_cannot_be_checked(tunnel, packet):
    tunnel.configure(TUNNEL)
    drops(tunnel, packet, "in_dropped_no_port")


@pytest.mark.parametrize("protocol, length", [(17, 0), (17, 7), (6, 8), (6, 17), (1, 7)])
@pytest.mark.parametrize("fragment", [0, 0x2000])
def test_what_is_behind_the_packet_is_not_read(tunnel, protocol, length, fragment):
    tunnel.configure(TUNNEL)
    upper = {17: udp, 6: tcp, 1: echo}[protocol](SHARED, FAR, CE_PORT, 53)[20:]
    drops(tunnel, ipv4(SHARED, FAR, protocol, upper, length=20 + length, fragment=fragment), "in_dropped_tiny")


@pytest.mark.parametrize("protocol", [17, 6, 1])
def test_a_packet_shorter_than_it_says_is_dropped(tunnel, protocol):
    tunnel.configure(TUNNEL)
    drops(tunnel, ipv4(SHARED, FAR, protocol, bytes([0xD8, 0, 0, 53, 0, 0, 0]), length=60), "in_dropped_tiny")


@pytest.mark.parametrize("packet, ethertype", [
    (bytes([6 << 4]) + bytes(59), b"\x86\xdd"), (bytes([6 << 4]) + bytes(59), b"\x08\x00"), (bytes([4 << 4 | 4]) + bytes(59), b"\x08\x00"),
])
def test_there_is_nothing_but_ipv4_in_the_tunnel(tunnel, packet, ethertype):
    tunnel.configure(TUNNEL)
    assert tunnel.run_in(CE, BR, packet, ethertype) == SHOT
    assert tunnel.counted() == {"in_dropped_not_ipv4": 1}


# ---- ICMP errors ----

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("icmp_type", [ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM])
@pytest.mark.parametrize("options", [b"", OPTIONS, OPTIONS * 10])
def test_an_error_of_a_ce_is_checked_by_what_it_quotes(tunnel, kind, icmp_type, options):
    far_port = 9 if kind is echo else 53
    for port, counter in ((CE_PORT, "in_passed"), (NEIGHBOUR_PORT, "in_dropped_spoofed")):
        quoted = kind(FAR, SHARED, far_port, port, options=options)[: 20 + len(options) + 8]
        tunnel.configure(TUNNEL)
        assert tunnel.run_in(CE, BR, error(SHARED, "198.51.100.77", quoted, icmp_type)) == (PASS if counter == "in_passed" else SHOT)
        assert tunnel.counted() == {counter: 1}


@pytest.mark.parametrize("quoted, counter", [
    (udp(FAR, "192.0.2.9", 53, CE_PORT), "in_dropped_wrong_quote"),
    (udp(SHARED, FAR, CE_PORT, 53), "in_dropped_wrong_quote"),  # its own packet
    (udp(FAR, SHARED, 53, CE_PORT)[:27], "in_dropped_tiny"),
    (udp(FAR, SHARED, 53, CE_PORT)[:19], "in_dropped_tiny"),
    (udp(FAR, SHARED, 53, 0), "in_dropped_port_zero"),
])
def test_an_error_about_somebody_else_is_dropped(tunnel, quoted, counter):
    tunnel.configure(TUNNEL)
    drops(tunnel, error(SHARED, FAR, quoted), counter)


# ---- fragments: two CEs, one IPv4 address, one identification are one datagram for the host that puts it together ----

DATA = bytes(range(100))
FRAGMENTS = fragments(udp(SHARED, FAR, CE_PORT, 53, DATA), [40, 40])
NEIGHBOURS = fragments(udp(SHARED, FAR, NEIGHBOUR_PORT, 53, DATA), [40, 40])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_fragments_pass_in_every_order(tunnel, kind, order):
    tunnel.configure(TUNNEL)
    cut = fragments(kind(SHARED, FAR, CE_PORT, 53, DATA), [40, 40])
    assert [tunnel.run_in(CE, BR, cut[index]) for index in order] == [PASS] * 3
    assert tunnel.counted() == {"in_passed": 1, "in_passed_later_fragment": 2}


@pytest.mark.parametrize("first, second", [(0, 1), (1, 0), (2, 0), (1, 2)])
def test_a_ce_cannot_add_to_the_datagram_of_another(tunnel, first, second):
    tunnel.configure(TUNNEL)
    assert tunnel.run_in(CE, BR, FRAGMENTS[first]) == PASS
    assert tunnel.run_in(NEIGHBOUR, BR, NEIGHBOURS[second]) == SHOT
    assert tunnel.counted()["in_dropped_mixed_fragment"] == 1


@pytest.mark.parametrize("packet", [
    fragments(udp(SHARED, FAR, NEIGHBOUR_PORT, 53, DATA), [40], 0x1235)[1],
    fragments(udp(SHARED, "203.0.113.2", NEIGHBOUR_PORT, 53, DATA), [40])[1],
    fragments(tcp(SHARED, FAR, NEIGHBOUR_PORT, 53, DATA), [40])[1],
])
def test_other_datagrams_are_free(tunnel, packet):
    tunnel.configure(TUNNEL)
    assert tunnel.run_in(CE, BR, FRAGMENTS[0]) == PASS
    assert tunnel.run_in(NEIGHBOUR, BR, packet) == PASS


@pytest.mark.parametrize("source", [
    OTHER, "2001:db8:ce:11b:0:c000:208:1a", "2001:db8:ce:11a:0:c000:208:1b", "2001:db8:ce:11b:0:c000:208:11b", "2001:db8:9::1",
])
def test_a_later_fragment_needs_the_map_address_of_some_ce(tunnel, source):
    tunnel.configure(TUNNEL)
    drops(tunnel, FRAGMENTS[1], "in_dropped_spoofed", source=source)
    assert tunnel.maps["bindings"].keys() == []


def test_a_first_fragment_of_another_ces_port_binds_nothing(tunnel):
    tunnel.configure(TUNNEL)
    drops(tunnel, FRAGMENTS[0], "in_dropped_spoofed", source=NEIGHBOUR)
    assert tunnel.maps["bindings"].keys() == []


def test_later_fragments_of_the_other_form_and_of_explicit_psids(tunnel):
    draft = tunnel_domain(*TUNNEL["rules"], interface_id="draft03")
    tunnel.configure(draft)
    passes(tunnel, FRAGMENTS[1], source="2001:db8:ce:11b:c0:2:800:1b00", counter="in_passed_later_fragment")
    explicit = tunnel_domain(*(rule(f"2001:db8:{psid}::/64", "192.0.2.8/32", 0, 6, (8, psid)) for psid in (1, 2)))
    tunnel.configure(explicit)
    passes(tunnel, FRAGMENTS[1], source="2001:db8:2::c000:208:2", counter="in_passed_later_fragment")
    tunnel.configure(explicit)
    drops(tunnel, FRAGMENTS[1], "in_dropped_other_psid", source="2001:db8:2::c000:208:3")


def test_fragments_of_a_whole_address_need_nothing(tunnel):
    tunnel.configure(tunnel_domain(rule("2001:db8::/40", "192.0.2.0/24", 8, 6)))
    passes(tunnel, FRAGMENTS[1], source="2001:db8:8::c000:208:0", counter="in_passed_later_fragment")
    assert tunnel.maps["bindings"].keys() == []
