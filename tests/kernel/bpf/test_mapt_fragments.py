# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fragments: those without ports follow the datagram's first one, and no CE adds to the datagram of another."""

from __future__ import annotations

import pytest
from domains import CE, CE_PORT, INTERNAL_CE, NEIGHBOUR, NEIGHBOUR_PORT, OTHER, SERVER, TUTORIAL, domain, internal, rule
from kernel import PASS, SHOT
from packets import echo, fragments, ipv6, tcp, udp

DATA = bytes(range(256)) * 4
KINDS = (udp, tcp, echo)
OTHER_FORM = domain(rule("2001:db8:ce::/51", "192.0.2.0/24", 13, 0), interface_id="draft03")
OTHER_FORM_CE = "2001:db8:ce:11b:c0:2:800:1b00"


def cut(kind, source, destination, source_port, destination_port, **options):
    return fragments(kind(source, destination, source_port, destination_port, DATA), [256, 512], **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("fields, address", [(TUTORIAL, CE), (OTHER_FORM, OTHER_FORM_CE)])
def test_fragments_come_in_in_any_order(relay, kind, order, fields, address):
    relay.configure(fields)
    given, expected = cut(kind, address, SERVER, CE_PORT, 53), cut(kind, INTERNAL_CE, SERVER, CE_PORT, 53)
    for index in order:
        assert relay.run("mapt_in", given[index]) == (PASS, expected[index])
    assert relay.counted() == {"in_passed": 1, "in_passed_later_fragment": 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields, address", [(TUTORIAL, CE), (OTHER_FORM, OTHER_FORM_CE)])
def test_fragments_go_out_after_the_first(relay, kind, fields, address):
    relay.configure(fields)
    far_port = 9 if kind is echo else 53
    given, expected = cut(kind, SERVER, INTERNAL_CE, far_port, CE_PORT), cut(kind, SERVER, address, far_port, CE_PORT)
    for packet, changed in zip(given, expected):
        assert relay.run("mapt_out", packet) == (PASS, changed)
    assert relay.counted() == {"out_passed": 1, "out_passed_later_fragment": 2, "out_passed_to_stack": 3}


def test_a_fragment_without_its_first_goes_nowhere(relay):
    relay.configure(TUTORIAL)
    packet = cut(udp, SERVER, INTERNAL_CE, 53, CE_PORT)[1]
    assert relay.run("mapt_out", packet) == (SHOT, packet)
    assert relay.counted() == {"out_dropped_lost_fragment": 1}


@pytest.mark.parametrize("options, far_end", [({"identification": 7}, SERVER), ({}, "64:ff9b::cb00:7102")])
def test_the_first_fragment_of_another_datagram_does_not_help(relay, options, far_end):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_out", cut(udp, SERVER, INTERNAL_CE, 53, CE_PORT)[0])[0] == PASS
    assert relay.run("mapt_out", cut(udp, far_end, INTERNAL_CE, 53, CE_PORT, **options)[1])[0] == SHOT
    assert relay.counted()["out_dropped_lost_fragment"] == 1


def test_a_reused_identification_goes_to_its_new_ce(relay):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_out", cut(udp, SERVER, INTERNAL_CE, 53, CE_PORT)[0])[0] == PASS
    for given, expected in zip(cut(udp, SERVER, INTERNAL_CE, 53, NEIGHBOUR_PORT), cut(udp, SERVER, NEIGHBOUR, 53, NEIGHBOUR_PORT)):
        assert relay.run("mapt_out", given) == (PASS, expected)


# Two CEs, one IPv4 address, one identification: one datagram for the IPv4 host that puts it together.
MINE = cut(udp, CE, SERVER, CE_PORT, 53)
NEIGHBOURS = cut(udp, NEIGHBOUR, SERVER, NEIGHBOUR_PORT, 53)


@pytest.mark.parametrize("first, second", [(MINE[0], NEIGHBOURS[1]), (NEIGHBOURS[1], MINE[0]), (MINE[2], NEIGHBOURS[0]), (MINE[1], NEIGHBOURS[2])])
def test_a_ce_cannot_add_to_the_datagram_of_another(relay, first, second):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", first)[0] == PASS
    assert relay.run("mapt_in", second) == (SHOT, second)
    assert relay.counted()["in_dropped_mixed_fragment"] == 1


def test_an_identification_is_what_ipv4_keeps_of_it(relay):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", MINE[0])[0] == PASS
    assert relay.run("mapt_in", cut(udp, NEIGHBOUR, SERVER, NEIGHBOUR_PORT, 53, identification=0xFFFF5678)[1])[0] == SHOT
    assert relay.counted()["in_dropped_mixed_fragment"] == 1


@pytest.mark.parametrize("fragment", [
    cut(udp, NEIGHBOUR, SERVER, NEIGHBOUR_PORT, 53, identification=0x12345679)[1],
    cut(udp, NEIGHBOUR, "64:ff9b::cb00:7102", NEIGHBOUR_PORT, 53)[1],
    cut(tcp, NEIGHBOUR, SERVER, NEIGHBOUR_PORT, 53)[1],
    cut(udp, OTHER, SERVER, 40960, 53)[1],
])
def test_other_datagrams_are_free(relay, fragment):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", MINE[0])[0] == PASS
    assert relay.run("mapt_in", fragment)[0] == PASS


def test_a_binding_ends_after_the_time_of_reassembly(relay):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", MINE[0])[0] == PASS
    bindings = relay.maps["bindings"]
    (datagram,) = bindings.keys()
    seen = int.from_bytes(bindings.lookup(datagram)[:8], "little")
    for age, verdict in ((29, SHOT), (31, PASS)):
        bindings.update(datagram, (seen - age * 10**9).to_bytes(8, "little") + (27).to_bytes(8, "little"))
        assert relay.run("mapt_in", NEIGHBOURS[1])[0] == verdict
    assert relay.run("mapt_in", MINE[1])[0] == SHOT


@pytest.mark.parametrize("source", ["2001:db8:ce:11b:0:c000:208:1a", "2001:db8:ce:11a:0:c000:208:1b", "2001:db8:ce:11b:0:c000:208:11b"])
def test_a_later_fragment_needs_a_map_address(relay, source):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", cut(udp, source, SERVER, CE_PORT, 53)[1])[0] == SHOT
    assert relay.counted() == {"in_dropped_spoofed": 1}


def test_a_first_fragment_of_another_ces_port_binds_nothing(relay):
    relay.configure(TUTORIAL)
    assert relay.run("mapt_in", cut(udp, NEIGHBOUR, SERVER, CE_PORT, 53)[0])[0] == SHOT
    assert relay.maps["bindings"].keys() == []


@pytest.mark.parametrize("program, source, destination", [("mapt_in", CE, SERVER), ("mapt_out", SERVER, INTERNAL_CE)])
@pytest.mark.parametrize("kind, size", [(udp, 0), (tcp, 8), (tcp, 16), (echo, 0)])
def test_a_tiny_first_fragment_is_dropped(relay, program, source, destination, kind, size):
    relay.configure(TUTORIAL)
    whole = kind(source, destination, CE_PORT, CE_PORT, DATA)
    first = ipv6(source, destination, 44, bytes([whole[6], 0, 0, 1, 0, 0, 0, 9]) + whole[40 : 40 + size])
    padding = whole[40 + size : 80]
    assert relay.run(program, first, padding) == (SHOT, first + padding)
    assert relay.counted() == {("in" if program == "mapt_in" else "out") + "_dropped_tiny": 1}


def test_a_datagram_in_one_fragment_is_whole(relay):
    relay.configure(TUTORIAL)
    (given,), (expected,) = (fragments(udp(source, SERVER, CE_PORT, 53), []) for source in (CE, INTERNAL_CE))
    assert relay.run("mapt_in", given) == (PASS, expected)
    (given,), (expected,) = (fragments(udp(SERVER, destination, 53, CE_PORT), []) for destination in (INTERNAL_CE, CE))
    assert relay.run("mapt_out", given) == (PASS, expected)
    assert relay.maps["bindings"].keys() == relay.maps["first_fragments"].keys() == []


def test_fragments_of_a_whole_address_need_nothing(relay):
    relay.configure(domain(rule("2001:db8::/40", "192.0.2.0/24", 8, 6)))
    address, inside = "2001:db8:12::c000:212:0", internal("192.0.2.18")
    given, expected = cut(udp, address, SERVER, 7, 53)[1], cut(udp, inside, SERVER, 7, 53)[1]
    assert relay.run("mapt_in", given) == (PASS, expected)
    given, expected = cut(udp, SERVER, inside, 53, 7)[1], cut(udp, SERVER, address, 53, 7)[1]
    assert relay.run("mapt_out", given) == (PASS, expected)
    assert relay.maps["bindings"].keys() == relay.maps["first_fragments"].keys() == []


def test_fragments_of_explicit_psid_rules(relay):
    fields = domain(*(rule(f"2001:db8:{psid}::/64", "192.0.2.1/32", 0, 6, (8, psid)) for psid in (1, 2)))
    relay.configure(fields)
    address, inside, port = "2001:db8:2::c000:201:2", internal("192.0.2.1"), 1024 + 2 * 4
    for given, expected in zip(cut(udp, address, SERVER, port, 53), cut(udp, inside, SERVER, port, 53)):
        assert relay.run("mapt_in", given) == (PASS, expected)
    for given, expected in zip(cut(udp, SERVER, inside, 53, port), cut(udp, SERVER, address, 53, port)):
        assert relay.run("mapt_out", given) == (PASS, expected)
