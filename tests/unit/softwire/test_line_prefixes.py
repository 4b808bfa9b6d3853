# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The prefixes of a line, from the kernel's messages and from Replies, with their times."""

from __future__ import annotations

import socket
import struct

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import line_kernel, line_prefixes
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_kernel import Held, Link
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_messages import Delegated
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_prefixes import Prefixes

INFINITY = float("inf")
WAN, LAN = 2, 3
OLD, NEW = "2001:db8:1::/64", "2001:db8:2::/64"
NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWLINK, DELLINK, NEWPREFIX = 20, 21, 24, 25, 16, 17, 52


def packed(address):
    return socket.inet_pton(socket.AF_INET6, address)


def attribute(kind, body):
    return struct.pack("=HH", 4 + len(body), kind) + body + b"\0" * (-len(body) % 4)


def address_message(address, index=LAN, length=64, scope=0, flags=0, lifetimes=(100, 200), stamps=(0, 0), peer=None):
    given = attribute(1, packed(peer)) + attribute(2, packed(address)) if peer else attribute(1, packed(address))
    return (struct.pack("=BBBBI", 10, length, flags & 0xFF, scope, index) + given
            + attribute(6, struct.pack("=IIII", *lifetimes, *stamps)) + attribute(8, struct.pack("=I", flags)))


def route_message(prefix, length, kind=7, family=10, table=254, metric=1024):
    return struct.pack("=BBBBBBBBI", family, length, 0, 0, table, 16, 0, kind, 0) + attribute(1, packed(prefix)) + attribute(6, struct.pack("=I", metric))


def prefix_message(prefix, length=64, index=WAN, lifetimes=(100, 200)):
    return struct.pack("=BxxxiBBBx", 10, index, 3, length, 3) + attribute(1, packed(prefix)) + attribute(2, struct.pack("=II", *lifetimes))


def link_message(name, index=WAN, flags=0x41, family=0):
    return struct.pack("=BxHiII", family, 1, index, flags, 0) + attribute(3, name.encode() + b"\0")


# What the kernel's messages say


def test_an_address_has_its_times():
    key, held = line_kernel.fact(NEWADDR, address_message("2001:db8::1", stamps=(90000, 95050)), 1000)
    assert key == ("address", LAN, packed("2001:db8::1"), 64, 0)
    assert held == Held(1100, 1200, 900, 950.5, False, True)
    assert line_kernel.fact(DELADDR, address_message("2001:db8::1"), 1000) == (key, None)


@pytest.mark.parametrize("lifetimes, preferred, valid", [((0, 7), 1000, 1007), ((0xFFFFFFFF, 0xFFFFFFFF), INFINITY, INFINITY), ((0, 0), 1000, 1000)])
def test_lifetimes_end_or_not(lifetimes, preferred, valid):
    _key, held = line_kernel.fact(NEWADDR, address_message("2001:db8::1", lifetimes=lifetimes), 1000)
    assert (held.preferred, held.valid) == (preferred, valid)


@pytest.mark.parametrize("stamp, seconds", [(99990, 0.1), (100000, 0), (100050, 0), (0xFFFFFFFF, 1000.01), ((1 << 32) - 100000, 2000)])
def test_a_stamp_of_the_kernel_may_look_later_than_now_and_wraps(stamp, seconds):
    assert line_kernel.age(stamp, 1000) == pytest.approx(seconds)


@pytest.mark.parametrize("flags, permanent, usable", [(0x80, True, True), (0x40, False, False), (0x08, False, False), (0x320, False, True)])
def test_an_address_has_flags_of_32_bits(flags, permanent, usable):
    _key, held = line_kernel.fact(NEWADDR, address_message("2001:db8::1", flags=flags), 1000)
    assert (held.permanent, held.usable) == (permanent, usable)


def test_with_a_peer_the_own_address_counts():
    key, _held = line_kernel.fact(NEWADDR, address_message("fe80::2", scope=253, peer="fe80::1"), 1000)
    assert key[2] == packed("fe80::2")


@pytest.mark.parametrize("kind, length, is_told", [(6, 56, True), (7, 48, True), (8, 64, True), (1, 56, False), (7, 0, False), (7, 65, False), (7, 16, True)])
def test_routes_to_nowhere_are_told(kind, length, is_told):
    found = line_kernel.fact(NEWROUTE, route_message("2001:db8::", length, kind), 1000)
    assert (found is not None) is is_told


@pytest.mark.parametrize("kind, body", [
    (NEWADDR, struct.pack("=BBBBI", 2, 24, 0, 0, 3)), (NEWADDR, b""), (NEWADDR, struct.pack("=BBBBI", 10, 64, 0, 0, 3)),
    (NEWADDR, address_message("fec0::1", scope=200)), (NEWROUTE, route_message("2001:db8::", 56, family=2)), (NEWROUTE, b"\12\70"),
    (NEWPREFIX, b"\12"), (NEWPREFIX, prefix_message("2001:db8::", 65)), (NEWLINK, link_message("wan", family=7)), (NEWLINK, b""), (28, b"")])
def test_what_says_nothing_is_left_out(kind, body):
    assert line_kernel.fact(kind, body, 1000) is None


def test_a_withdrawn_prefix_has_gone():
    assert line_kernel.fact(NEWPREFIX, prefix_message("2001:db8::", lifetimes=(0, 0)), 1000) == (("advertised", WAN, packed("2001:db8::"), 64), None)


@pytest.mark.parametrize("flags, running", [(0x41, True), (0x1, False), (0x40, False), (0x10041, True)])
def test_a_link_runs_or_not(flags, running):
    assert line_kernel.fact(NEWLINK, link_message("wan", flags=flags), 0) == (("link", WAN), Link("wan", running))


# What is known


class Router:
    """Prefixes with a clock."""

    def __init__(self):
        self.prefixes, self.now = Prefixes("wan"), 1000.0
        for name, index in (("lo", 1), ("wan", WAN), ("lan", LAN)):
            self.hear(NEWLINK, link_message(name, index))

    def hear(self, kind, body, after=0.0):
        self.now += after
        found = line_kernel.fact(kind, body, self.now)
        return self.prefixes.heard(*found) if found else None

    def address(self, address, after=0.0, kind=NEWADDR, created=None, **given):
        """A client, or the kernel, announces an address."""
        self.now += after
        stamps = (int(100 * (self.now if created is None else created)), int(100 * self.now))
        self.hear(kind, address_message(address, stamps=stamps, **given))

    def advertise(self, *prefixes, after=0.0, lifetimes=(14400, 14400)):
        """A router advertisement, which renews or makes an address as well."""
        self.now += after
        for prefix in prefixes:
            base = prefix.replace("/64", "")
            before = next((known.since for known in self.known() if (known.source, known.prefix) == ("advertised", prefix)), None)
            self.hear(NEWPREFIX, prefix_message(base, lifetimes=lifetimes))
            self.address(base + "5054:ff:fe00:1", index=WAN, created=before, lifetimes=lifetimes)

    def delegate(self, *given, after=0.0, ia=(1, b"duid")):
        self.now += after
        self.prefixes.delegated([Delegated(ia, packed(prefix), length, *times) for prefix, length, times in given], self.now)

    def known(self):
        self.prefixes.expire(self.now)
        return self.prefixes.known(self.now)

    def told(self):
        return [(known.source, known.prefix) for known in self.known()]

    def silent(self):
        return {prefix for _source, prefix in self.prefixes.silent(self.known())}


@pytest.fixture
def router():
    return Router()


def test_each_way_to_know_a_prefix_has_its_name(router):
    router.address("2001:db8:0:1::1")
    router.address("2001:db8:9::abcd", index=WAN, length=128)
    router.address("fe80::1", index=WAN, scope=253)
    router.hear(NEWROUTE, route_message("2001:db8::", 56))
    router.advertise(OLD)
    router.delegate(("2001:db8::", 56, (100, 200)))
    assert router.told() == [
        ("advertised", OLD), ("host", "2001:db8:9::/64"), ("lan", "2001:db8:0:1::/64"), ("reply", "2001:db8::/56"), ("route", "2001:db8::/56")]
    assert {known.source: known.interface for known in router.known()} == {
        "advertised": "wan", "host": "wan", "lan": "lan", "reply": "wan", "route": None}


def test_a_map_address_proves_nothing(router):
    """It would keep a dead prefix alive: the softwire's own, by itself and permanent."""
    router.address("2001:db8:0:0:0:c000:212:34", index=WAN, length=128, flags=0xA0, lifetimes=(0, 0xFFFFFFFF))
    assert router.told() == []


def test_a_static_address_of_the_lan_counts_and_is_never_announced(router):
    router.address("2001:db8:0:1::1", flags=0x80, lifetimes=(0xFFFFFFFF, 0xFFFFFFFF))
    known, = router.known()
    assert (known.source, known.announced, known.valid) == ("lan", None, INFINITY)


def test_what_ends_has_ended(router):
    router.address("2001:db8:0:1::1", lifetimes=(50, 100))
    router.delegate(("2001:db8::", 56, (60, 110)))
    router.advertise(OLD, lifetimes=(70, 120))
    ends = []
    while router.prefixes.next_end(router.now) < INFINITY:
        router.now = router.prefixes.next_end(router.now)
        ends.append((router.now - 1000, len(router.known()), sum(known.preferred <= router.now for known in router.known())))
    assert ends == [(50, 3, 1), (60, 3, 2), (70, 3, 3), (100, 2, 2), (110, 1, 1), (120, 0, 0)]


def test_for_ever_is_for_ever(router):
    router.delegate(("2001:db8::", 56, (0xFFFFFFFF, 0xFFFFFFFF)))
    assert router.prefixes.next_end(router.now) == INFINITY and router.known()[0].valid == INFINITY


def test_a_reply_renews_and_withdraws(router):
    router.delegate(("2001:db8::", 56, (100, 200)))
    router.delegate(("2001:db8::", 56, (100, 200)), after=50)
    known, = router.known()
    assert (known.since, known.announced, known.valid) == (1000, 1050, 1250)
    router.delegate(("2001:db8::", 56, (0, 0)), ("2001:db8:100::", 56, (100, 200)), after=50)
    assert router.told() == [("reply", "2001:db8:100::/56")] and not router.silent()


def test_a_delegation_that_is_not_mentioned_any_more_is_silent(router):
    """RFC 8415 section 18.2.10.1 leaves it alone; another one in its IA has taken its place."""
    router.delegate(("2001:db8::", 56, (100, 2000)))
    router.delegate(("2001:db8:100::", 56, (100, 2000)), after=50)
    assert router.silent() == {"2001:db8::/56"} and len(router.told()) == 2
    router.delegate(("2001:db8::", 56, (100, 2000)), ("2001:db8:100::", 56, (100, 2000)), after=50)
    assert not router.silent()


def test_delegations_of_two_ias_say_nothing_of_each_other(router):
    router.delegate(("2001:db8::", 56, (100, 2000)))
    router.delegate(("2001:db8:100::", 56, (100, 2000)), after=50, ia=(2, b"duid"))
    assert not router.silent()


def test_a_line_that_is_renumbered_without_farewell(router):
    for _number in range(3):
        router.advertise(OLD, after=600)
    router.advertise(NEW, after=700)
    assert router.silent() == {OLD} and all(known.valid > router.now + 7000 for known in router.known())
    # And back again: the old one comes, and the new one does not, which at first may be two routers that both live.
    router.advertise(OLD, after=600)
    assert not router.silent()
    for _number in range(6):
        router.advertise(OLD, after=600)
    assert router.silent() == {NEW}


def test_two_routers_that_live_are_told_apart_from_that(router):
    router.advertise(OLD)
    router.advertise(NEW, after=100)
    for _number in range(20):
        router.advertise(OLD, after=300)
        assert not router.silent()
        router.advertise(NEW, after=300)
        assert not router.silent()


def test_a_router_with_two_prefixes_announces_both_at_once(router):
    for _number in range(3):
        router.advertise(OLD, NEW, after=600)
        assert not router.silent()


def test_clients_in_user_space_take_advertisements_as_well(router):
    """systemd-networkd makes addresses of them, and the kernel tells of no prefix."""
    hours = {"index": WAN, "lifetimes": (14400, 14400)}
    router.address("2001:db8:1::1", **hours)
    router.address("2001:db8:1::1", created=1000, after=600, **hours)
    assert not router.silent() and router.known()[0].announced == 1600
    router.address("2001:db8:2::1", after=600, **hours)
    assert router.told() == [("advertised", OLD), ("advertised", NEW)] and router.silent() == {OLD}
    router.address("2001:db8:1::1", index=WAN, after=50, kind=DELADDR)
    assert router.told() == [("advertised", NEW)]


def test_a_change_of_flags_announces_nothing(router):
    router.address("2001:db8:1::1", index=WAN, lifetimes=(50, 5000))
    router.hear(NEWADDR, address_message("2001:db8:1::1", index=WAN, lifetimes=(0, 4950), stamps=(100000, 100000), flags=0x20), after=50)
    known, = router.known()
    assert known.announced == 1000 and known.preferred == 1050 and known.valid == 6000


def test_an_interface_takes_what_it_had_with_it(router):
    router.advertise(OLD)
    router.address("fe80::1", index=WAN, scope=253)
    router.hear(NEWROUTE, route_message("2001:db8::", 56))
    assert router.prefixes.link() == (WAN, True) and router.prefixes.source() == packed("fe80::1")
    router.hear(DELLINK, link_message("wan"))
    assert router.prefixes.link() == (None, False) and router.prefixes.source() is None
    assert router.told() == [("route", "2001:db8::/56")]
    router.hear(NEWLINK, link_message("wan", index=9))
    router.address("fe80::2", index=9, scope=253, flags=0x40)
    assert router.prefixes.link() == (9, True) and router.prefixes.source() is None
    router.address("fe80::2", index=9, scope=253)
    assert router.prefixes.source() == packed("fe80::2")


def test_a_link_without_carrier_asks_from_nowhere(router):
    router.address("fe80::1", index=WAN, scope=253)
    router.hear(NEWLINK, link_message("wan", flags=1))
    assert router.prefixes.source() is None


def test_advertisements_of_other_interfaces_are_none_of_the_line(router):
    router.hear(NEWPREFIX, prefix_message("2001:db8:5::", index=LAN))
    assert router.told() == []


def facts(*messages, now):
    return [line_kernel.fact(kind, body, now) for kind, body in messages]


def test_a_dump_takes_what_went_unheard_and_announces_nothing(router):
    router.hear(NEWROUTE, route_message("2001:db8::", 56))
    router.address("2001:db8:0:1::1")
    router.advertise(OLD)
    links = [(NEWLINK, link_message("wan")), (NEWLINK, link_message("lan", LAN))]
    router.now += 100
    router.prefixes.replace(facts(*links, (NEWROUTE, route_message("2001:db8::", 56)), (
        NEWADDR, address_message("2001:db8:7::1", stamps=(90000, 95000))), now=router.now))
    found = {(known.source, known.prefix): (known.since, known.announced) for known in router.known()}
    assert found == {("advertised", OLD): (1000, 1000), ("route", "2001:db8::/56"): (1000, 1000), ("lan", "2001:db8:7::/64"): (900, 950)}


@pytest.mark.parametrize("source, most", line_prefixes.MOST.items())
def test_nobody_on_the_line_can_fill_the_memory(router, source, most):
    for number in range(500):
        prefix = f"2001:db8:{number:x}::"
        if source == "reply":
            router.delegate((prefix, 56, (100, 20000)), ia=(number, b"duid"), after=1)
        else:
            router.hear(NEWPREFIX, prefix_message(prefix, lifetimes=(20000, 20000)), after=1)
    assert len(router.known()) == most
    assert max(router.known(), key=lambda known: known.announced).prefix.startswith("2001:db8:1f3::")
    assert len(router.prefixes.kernel) + len(router.prefixes.replies) == most


def test_what_is_listed_has_an_end(router):
    for number in range(500):
        router.address(f"2001:db8:{number:x}::1", after=1, lifetimes=(20000, 20000))
    assert len(router.known()) == 64 and ("lan", "2001:db8:1f3::/64") in router.told()


def test_addresses_of_one_prefix_are_one(router):
    router.address("2001:db8:0:1::1", lifetimes=(50, 100))
    router.address("2001:db8:0:1::2", lifetimes=(60, 90), after=5)
    known, = router.known()
    assert (known.since, known.announced, known.preferred, known.valid) == (1000, 1005, 1065, 1100)
