# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report: what it says of every port and every CE, whether the page is whole, and how large it gets."""

from __future__ import annotations

import ipaddress
import re
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.softwire.map.plugins.filter.owner import owner
from ansible_collections.softwire.map.plugins.plugin_utils import report
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Network

XHTML = "{http://www.w3.org/1999/xhtml}"
RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
MAP_T = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [RULE]}
NASTY = "a<b>&'\"|*_`[x](y)\\\x07"


def network(prefixes, domain=None, relays=()):
    """The network of a domain, by default MAP_T, whose CEs have these prefixes, {host: prefix}."""
    domain = domain or MAP_T
    hostvars = {host: {"map_domain": domain, "map_ce_end_user_prefix": prefix} for host, prefix in prefixes.items()}
    return Network({**hostvars, **{host: {"map_domain": domain} for host in relays}}, list(prefixes), relays)


def fleet(count, ea_bits=lambda number: number):
    """{host: prefix} of CEs below RULE."""
    return {f"ce{number:04}.access.example.net": f"2001:db8:{ea_bits(number) >> 8:x}:{(ea_bits(number) & 255) << 8:x}::/56"
            for number in range(count)}


def usage_of(made, tcp=126, **changes):
    return {host: {"map_address": ce["map_address"], "size": 252, "in_use": {"tcp": tcp, "udp": 3, "icmp": 0}, **changes}
            for members in made.domains for host, ce in members.customer_edges}


class Page:
    """The page, read as a program would; it has to be well-formed."""

    def __init__(self, made, usage=None):
        files = report.files(made, usage)
        self.text, self.markdown = files["report.html"], files["report.md"]
        self.tree = ElementTree.fromstring(self.text)
        self.ids = [element.get("id") for element in self.tree.iter() if element.get("id")]
        self.links = [element.get("href") for element in self.tree.iter() if element.get("href")]
        rows = [element for element in self.tree.iter(XHTML + "tr") if element.get("id")]
        self.hosts = {row.get("id"): row[0][0].tail.rstrip() for row in rows}
        self.rows = {self.hosts[row.get("id")]: ["".join(cell.itertext()) for cell in row] for row in rows}
        self.figures = {figure[0][0].text: figure for figure in self.tree.iter(XHTML + "figure")}

    def said(self):
        return " ".join("".join(self.tree.itertext()).replace("\n", " ").split())

    def drawn(self, address, port, blocks):
        """What the picture shows where a port is: the row of a CE, "free" or "none"."""
        size = 65536 // blocks
        x = (port % size + 0.5) / size * report.WIDTH
        y = (port // size + 0.5) / blocks * report.HEIGHT
        seen = None
        for element in self.figures[address].find(XHTML + "svg"):
            box = element[0] if element.tag == XHTML + "a" else element
            if box.tag != XHTML + "rect" or box.get("class") in ("gauge", "used"):
                continue
            left, top, width, height = (float(box.get(key, 0)) for key in ("x", "y", "width", "height"))
            if left <= x < left + width and top <= y < top + height:
                if element.tag == XHTML + "a":
                    seen = self.hosts[element.get("href")[1:]]
                else:
                    seen = "none" if box.get("fill") == "url(#hatch)" else "free"
        return seen


@st.composite
def networks(draw):
    """A domain of a shared rule, now and then with a longer prefix inside or an explicit PSID beside it, and some of its CEs."""
    psid_length = draw(st.integers(1, 10))
    suffix_length = draw(st.integers(0, 2))
    offset = draw(st.integers(0, min(15, 16 - psid_length)))
    ea_length = suffix_length + psid_length
    base = int(ipaddress.ip_address("2001:db8::"))
    rules = [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": f"192.0.2.0/{32 - suffix_length}", "ea_length": ea_length, "psid_offset": offset}]
    for number in range(draw(st.integers(0, 2))):
        length = 40 + draw(st.integers(1, ea_length + 2))
        inside = draw(st.integers(0, (1 << length - 40) - 1)) << 128 - length
        rules.append({"ipv6_prefix": f"{ipaddress.IPv6Address(base + inside)}/{length}", "ipv4_prefix": f"203.0.113.{number}/32",
                      "ea_length": 1, "psid_offset": offset})
    if draw(st.booleans()):
        for psid in draw(st.sets(st.integers(0, 7), min_size=1, max_size=3)):
            rules.append({"ipv6_prefix": f"2001:db9:{psid}::/48", "ipv4_prefix": "198.51.100.1/32", "ea_length": 0,
                          "psid_length": 3, "psid": psid, "psid_offset": 4})
    domain = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": rules}
    prefixes = {}
    for number in range(draw(st.integers(1, 8))):
        rule = draw(st.sampled_from(rules))
        prefix = ipaddress.ip_network(rule["ipv6_prefix"])
        length = prefix.prefixlen + rule["ea_length"]
        ea_bits = draw(st.integers(0, (1 << rule["ea_length"]) - 1))
        prefixes[f"ce{number}"] = f"{prefix.network_address + (ea_bits << 128 - length)}/{length}"
    try:
        owner(domain, "192.0.2.0", 0)
    except AnsibleFilterError:  # the same prefix drawn twice
        assume(False)
    return domain, prefixes


@settings(max_examples=120, deadline=None)
@given(networks(), st.data())
def test_the_picture_shows_the_owner_of_every_port(drawn, data):
    domain, prefixes = drawn
    made = network(prefixes, domain)
    assume(made.domains)
    page = Page(made)
    hosts = {}
    for host, ce in made.domains[0].customer_edges:
        hosts.setdefault(ce["end_user_prefix"], set()).add(host)
    offsets = {ce["ipv4_address"]: ce["psid_offset"] for _host, ce in made.domains[0].customer_edges if ce["psid"] is not None}
    assert set(page.figures) == set(offsets)
    for address, offset in offsets.items():
        ports = data.draw(st.lists(st.integers(0, 65535), min_size=20, max_size=20))
        for port, found in zip(ports, owner(domain, [[address, port] for port in ports])):
            seen = page.drawn(address, port, 1 << offset)
            if found is None:
                assert seen == "none", (address, port)
            elif found["end_user_prefix"] in hosts:
                assert seen in hosts[found["end_user_prefix"]], (address, port)
            else:
                assert seen == "free", (address, port)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_room_and_given_are_what_looking_at_every_prefix_gives(drawn):
    domain, prefixes = drawn
    made = network(prefixes, domain)
    assume(made.domains)
    seen = report.content(made)["domains"][0]
    arithmetic = made.domains[0].domain
    for rule, shown in zip(arithmetic.rules, seen["rules"]):
        possible = [ea_bits for ea_bits in range(1 << rule.ea_length)
                    if arithmetic.bmr(rule.ipv6 | ea_bits << 128 - rule.end_user_length, rule.end_user_length) is rule]
        assert shown["capacity"] == len(possible)
        assert shown["given"] == len({ce["end_user_prefix"] for _host, ce in made.domains[0].customer_edges
                                      if ce["rule"]["ipv6_prefix"] == shown["ipv6_prefix"]})


def test_rules_inside_rules_inside_rules_take_room_once():
    inner = [{"ipv6_prefix": f"2001:db8::/{length}", "ipv4_prefix": f"203.0.113.{length}/32", "ea_length": 1} for length in (44, 42, 43)]
    made = network({"a": "2001:db8:80::/56"}, {**MAP_T, "rules": [RULE, *inner]})
    assert report.content(made)["domains"][0]["rules"][0]["capacity"] == 65536 - 65536 // 4


def test_every_customer_edge_appears_once_and_every_link_leads_somewhere():
    prefixes = fleet(300, lambda number: number * 211)
    page = Page(network(prefixes, relays=["br1"]))
    assert sorted(page.hosts.values()) == sorted(prefixes)
    assert sorted(re.findall(r"^\| (ce\S+) \|", page.markdown, re.MULTILINE)) == sorted(prefixes)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links} <= set(page.ids) and all(link.startswith("#") for link in page.links)
    columns = [element.get("href")[1:] for figure in page.figures.values() for element in figure.iter(XHTML + "a")]
    assert sorted(columns) == sorted(page.hosts)
    linked = re.findall(r"\(report\.html#([^)]+)\)", page.markdown)
    assert len(linked) == len(page.figures) and set(linked) <= set(page.ids)


@pytest.mark.parametrize("ea_bits", [
    lambda number: number,
    lambda number: number * 62 % 65536,
    # One CE on each address is the most pictures that there can be, 1000 of them in four rules.
    lambda number: (number << 8) % 65536 + number // 256,
])
def test_a_thousand_customer_edges_fit_on_a_page(ea_bits):
    made = network(fleet(1000, ea_bits))
    page = Page(made, usage_of(made))
    assert len(page.hosts) == 1000 and len(page.text) < 1_500_000 and len(page.markdown) < 400_000


def test_an_address_for_each_of_a_thousand_customer_edges_fits_on_a_page():
    rules = [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "198.18.0.0/20", "ea_length": 16, "psid_offset": 6}]
    made = network(fleet(1000, lambda number: number << 4), {**MAP_T, "rules": rules})
    page = Page(made, usage_of(made))
    assert len(page.figures) == 1000 and len(page.text) < 3_000_000


def test_names_are_text_and_nothing_else():
    made = network({NASTY: "2001:db8::/56", "b": "2001:db9::/56"}, relays=["r<i>"])
    made.unusable.append((NASTY, "a reason <with> markup | and\nlines"))
    page = Page(made, {NASTY: "not known: <b>no</b>", "b": "x"})
    shown = NASTY.replace("\x07", "\ufffd")
    assert page.hosts == {"d1-ce1": shown} and shown in page.said() and "not known: <b>no</b>" in page.said()
    assert "r<i>" in page.said() and "a reason <with> markup | and lines" in page.said()
    row, = (line for line in page.markdown.splitlines() if line.startswith("| a\\<b"))
    assert row.startswith("| a\\<b\\>\\&'\"\\|\\*\\_\\`\\[x\\](y)\\\\\ufffd | 192.0.2.0 |")
    assert "not known: \\<b\\>no\\</b\\>" in row


def test_the_page_needs_nothing_from_elsewhere():
    text = Page(network(fleet(20, lambda number: number << 8))).text
    assert "<script" not in text and "@import" not in text and "src=" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/1999/xhtml"}
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#hatch", "#twice"}


def test_pictures_have_a_text_for_those_who_do_not_see_them():
    page = Page(network(fleet(3)))
    picture = page.figures["192.0.2.0"].find(XHTML + "svg")
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == "Ports of 192.0.2.0: 3 of 256 port sets given, 1.2 %"
    assert [title.text for title in picture.iter(XHTML + "title")] == [
        "free: 253 port sets of 192.0.2.0",
        "ce0000.access.example.net: PSID 0, 252 ports: 1024-1027, 2048-2051, ... 64512-64515",
        "ce0001.access.example.net: PSID 1, 252 ports: 1028-1031, 2052-2055, ... 64516-64519",
        "ce0002.access.example.net: PSID 2, 252 ports: 1032-1035, 2056-2059, ... 64520-64523",
        "ports 0-1023: excluded by the PSID offset",
    ]


def test_customer_edges_that_coincide_are_a_fault():
    page = Page(network({"a": "2001:db8::/56", "b": "2001:db8:0:40::/60", "c": "2001:db8:0:100::/56"}))
    assert {host for host, cells in page.rows.items() if cells[0].endswith("fault")} == {"a", "b"}
    assert "hostvars['b'].map_ce_end_user_prefix: '2001:db8:0:40::/60': gives the same CE as hostvars['a']" in page.said()
    assert [box.get("class") for box in page.figures["192.0.2.0"].iter(XHTML + "rect") if box.get("class") != "free"][:2] == ["twice", "c1"]
    assert "a and b: PSID 0" in page.text and "hostvars\\['b'\\]" in page.markdown and "2 of 256 port sets given" in page.said()


def test_hosts_with_the_same_fault_are_named_together():
    page = Page(network({**{f"bad{number:02}": "2001:db9::/56" for number in range(25)}, "good": "2001:db8::/56"}))
    assert "bad18, bad19 and 5 more: map_ce_end_user_prefix: '2001:db9::/56': is outside every rule" in page.said()
    assert list(page.rows) == ["good"] and "bad19 and 5 more: map\\_ce" in page.markdown


def test_without_a_network_there_is_a_page_too():
    page = Page(network({}))
    assert not page.figures and "- Customer edges: 0" in page.markdown


def test_customer_edges_with_addresses_of_their_own_have_no_picture():
    rules = [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 4}]
    page = Page(network({"a": "2001:db8:10::/44"}, {**MAP_T, "rules": rules}))
    assert page.rows["a"][1:5] == ["192.0.2.16/28", "–", "65536", "all"] and not page.figures
    assert "1, a /28 each" in page.said() and "1, a /28 each" in page.markdown


def test_what_the_routers_say_is_told_from_what_the_inventory_says():
    made = network(fleet(4))
    usage = usage_of(made)
    hosts = list(usage)
    usage[hosts[1]] = "not known: unreachable"
    usage[hosts[2]] = {**usage[hosts[2]], "map_address": "2001:db8::1"}
    usage[hosts[3]]["in_use"]["udp"] = 252
    page = Page(made, usage)
    assert [page.rows[host][5] for host in hosts] == [
        "50.0 % (126 tcp, 3 udp, 0 icmp)", "not known: unreachable", "not known: the router runs another CE, 2001:db8::1",
        "100 % (126 tcp, 252 udp, 0 icmp)"]
    used = [box for box in page.figures["192.0.2.0"].iter(XHTML + "rect") if box.get("class") == "used"]
    assert [(box.get("x"), float(box.get("height")) / report.GAUGE) for box in used] == [("0", 0.5), ("12", 1)]
    assert f"Fullest in use: {hosts[3]} 100 %, {hosts[0]} 50.0 %." in page.said()
    assert "4 of 256 port sets given" in page.said()
    quiet = Page(made)
    assert "In use" not in quiet.text and "this report has asked none" in quiet.said() and "this report has asked none" not in page.said()


def test_names_stand_in_columns_that_have_room():
    assert report.label_of("ce1", 0, 512, 0) == {"x": "256", "y": "64", "text": "ce1", "standing": False}
    assert report.label_of("ce1.example.net", 512, 16, 2) == {"x": "520", "y": "65", "text": "ce1.example.net", "standing": True}
    assert report.label_of("ce1.example.net.of.a.long.name", 0, 16, 0)["text"] == "ce1.example.net.o…"
    assert report.label_of("ce1", 0, 4, 2) is None


@pytest.mark.parametrize("part, whole, text", [
    (0, 10, "0 %"), (0, 0, "0 %"), (10, 10, "100 %"), (1, 65536, "< 0.1 %"), (65535, 65536, "99.9 %"), (1, 8, "12.5 %"),
])
def test_shares(part, whole, text):
    assert report.share(part, whole) == text
