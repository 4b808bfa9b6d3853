# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a resolver and what its messages answer, also broken ones; and which resolvers a line has."""

from __future__ import annotations

import random
import struct

import pytest
from ansible_collections.softwire.map.plugins.module_utils.provider import dns_lookup, dns_messages
from ansible_collections.softwire.map.plugins.module_utils.provider.dns_lookup import Resolver
from ansible_collections.softwire.map.plugins.module_utils.provider.dns_messages import Answer, Refused
from dns_replies import AAAA, CNAME, NXDOMAIN, OWNER, SERVFAIL, TXT, address, name, record, reply, text

NAME = "4over6.info"
QUESTION = dns_messages.question(0x1234, NAME, TXT)
RECORD = b"v=v6mig-1 url=https://vne.example.jp/rule.cgi t=b"


def answer(message, kind=TXT, asked=NAME):
    return dns_messages.answer(message, 0x1234, asked, kind)


def test_a_question():
    assert QUESTION == b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" + b"\x064over6\x04info\0" + b"\0\x10\0\1"
    assert dns_messages.question(1, "vne.example.jp.", AAAA)[12:] == name("vne.example.jp") + b"\0\x1c\0\1"


@pytest.mark.parametrize("wrong", ["", ".", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "\u5149.example"])
def test_what_is_no_name_is_not_asked_for(wrong):
    with pytest.raises(ValueError):
        dns_messages.question(1, wrong, AAAA)


@pytest.mark.parametrize(("records", "found"), [
    ((), []),
    ((record(TXT, text(RECORD)),), [RECORD.decode()]),
    ((record(TXT, text(RECORD[:30], b"", RECORD[30:])),), [RECORD.decode()]),
    ((record(TXT, text(b"one")), record(TXT, text(b"two"))), ["one", "two"]),
    ((record(TXT, b""),), [""]),
    ((record(TXT, text(b"\xe9\0")),), ["\xe9\0"]),
    # Another type, class or name.
    ((record(AAAA, bytes(16)), record(TXT, text(b"x"), class_=3), record(TXT, text(b"y"), owner=name("info"))), []),
    # A name is the same in capitals; a pointer may stand behind labels.
    ((record(TXT, text(b"x"), owner=name("4OVER6.INFO")),), ["x"]),
    ((record(TXT, text(b"x"), owner=b"\x064over6\xc0\x13"),), ["x"]),
    # Aliases, in any order.
    ((record(CNAME, b"\3vne\xc0\x0c"), record(TXT, text(b"x"), owner=b"\3vne\xc0\x0c")), ["x"]),
    ((record(TXT, text(b"x"), owner=name("b.example")), record(CNAME, name("b.example"), owner=name("a.example")), record(CNAME, name("a.example"))), ["x"]),
    ((record(CNAME, name("a.example")),), []),
])
def test_an_answer(records, found):
    assert answer(reply(QUESTION, *records)) == Answer(None, False, found)


def test_addresses():
    asked = dns_messages.question(0x1234, "VNE.example.jp", AAAA)
    message = reply(asked, *(record(AAAA, address(each)) for each in ("2001:db8::1", "2001:db8::2")))
    assert answer(message, AAAA, "vne.example.jp") == Answer(None, False, ["2001:db8::1", "2001:db8::2"])


@pytest.mark.parametrize(("message", "found"), [
    (reply(QUESTION, code=NXDOMAIN), Answer(None, False, [])),
    (reply(QUESTION, code=SERVFAIL), Answer("SERVFAIL", False, [])),
    (reply(QUESTION, code=SERVFAIL, truncated=True), Answer("SERVFAIL", False, [])),
    (reply(QUESTION, code=9), Answer("error 9", False, [])),
    (reply(QUESTION, truncated=True), Answer(None, True, [])),
    (reply(QUESTION, record(TXT, text(b"x")), truncated=True)[:-1], Answer(None, True, [])),
    (QUESTION[:2] + b"\x81\x81" + bytes(8), Answer("FORMERR", False, [])),
])
def test_what_else_a_resolver_says(message, found):
    assert answer(message) == found


@pytest.mark.parametrize(("message", "why"), [
    (b"", "is shorter than a header"),
    (QUESTION, "is no answer to this question"),
    (b"\x12\x35" + reply(QUESTION)[2:], "is no answer to this question"),
    (QUESTION[:2] + b"\x89\x80" + reply(QUESTION)[4:], "is no answer to this question"),
    (reply(dns_messages.question(0x1234, NAME, AAAA)), "answers another question"),
    (reply(dns_messages.question(0x1234, "4over6.inf", TXT)), "answers another question"),
    (QUESTION[:2] + b"\x81\x80" + bytes(8) + QUESTION[12:], "answers another question"),
    (reply(QUESTION)[:-5], "ends inside a name"),
    (reply(QUESTION, record(TXT, text(b"x")))[:-1], "ends inside a record"),
    (reply(QUESTION, OWNER + b"\0\x10"), "ends inside a record"),
    (reply(QUESTION, record(TXT, b"\5abcd")), "has a string that ends too early"),
    (reply(QUESTION, record(TXT, text(b"x"), owner=b"\xc0\x1d")), "has a name that leads nowhere"),
    (reply(QUESTION, record(TXT, text(b"x"), owner=b"\xff\xff")), "has a name that leads nowhere"),
    (reply(QUESTION, record(TXT, text(b"x"), owner=b"\x40")), "has a name that is none"),
    (reply(QUESTION, record(TXT, text(b"x"), owner=(b"\x3f" + b"x" * 63) * 4 + b"\0")), "has a name that is none"),
    (reply(QUESTION, record(CNAME, OWNER)), "has more than 8 aliases, one after the other"),
    (reply(QUESTION, record(CNAME, b"\3abc")), "ends inside a name"),
    (reply(QUESTION, *[record(TXT, text(b"x"))] * 65), "has more than 64 records"),
])
def test_refused(message, why):
    with pytest.raises(Refused, match=why):
        answer(message)


def test_an_address_that_is_none():
    with pytest.raises(Refused, match="has an IPv6 address that is none"):
        answer(reply(dns_messages.question(0x1234, NAME, AAAA), record(AAAA, bytes(4))), AAAA)


def test_mutated_answers_are_refused_or_read_and_nothing_else():
    """2,000 of them, with names that point to each other."""
    dice = random.Random(1035)
    sound = reply(QUESTION, record(CNAME, b"\3vne\xc0\x0c"), record(TXT, text(RECORD), owner=b"\3vne\xc0\x0c"), record(TXT, text(b"x"), owner=b"\xc0\x29"))
    read, refused = set(), set()
    for _round in range(2000):
        octets = bytearray(sound)
        for _change in range(dice.randint(1, 4)):
            start = dice.randrange(2, len(octets))
            end = start + dice.choice([0, 1, 1, 1, 8])
            octets[start:end] = dice.choice([bytes([dice.randrange(256)]), b"\xc0\x0c", struct.pack("!H", 0xC000 | start), b"\xff", b"", b"\0" * 9])
        try:
            found = answer(bytes(octets))
        except Refused as exc:
            refused.add(str(exc))
            continue
        read.add((found.failure, found.truncated, bool(found.found)))
        assert len(found.found) <= 64 and all(isinstance(each, str) for each in found.found)
    assert (None, False, True) in read and (None, False, False) in read and len(refused) >= 7


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files of a router, and says what resolvers its line wan has then."""
    monkeypatch.setattr(dns_lookup.socket, "if_nametoindex", {"wan": 7}.get)

    def made(files):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
        return dns_lookup.resolvers("wan", tmp_path)

    return made


GLOBAL = {"etc/resolv.conf": "# x\nnameserver 127.0.0.53\noptions edns0\n"}


@pytest.mark.parametrize(("files", "found"), [
    ({}, []),
    (GLOBAL, [Resolver("127.0.0.53", False)]),
    ({**GLOBAL, "run/systemd/resolve/resolv.conf": "nameserver 2001:db8::53\nnameserver fe80::1%wan\nnameserver\n"},
     [Resolver("2001:db8::53", False), Resolver("fe80::1%wan", False)]),
    ({**GLOBAL, "run/systemd/resolve/resolv.conf": "# none\n"}, [Resolver("127.0.0.53", False)]),
    ({**GLOBAL, "run/systemd/netif/links/7": "OPER_STATE=routable\nDNS=2001:db8::53 2001:db8::54#dns.example\nNTP=x\n"},
     [Resolver("2001:db8::53", True), Resolver("2001:db8::54", True)]),
    # Another link's are not the line's.
    ({**GLOBAL, "run/systemd/netif/links/8": "DNS=2001:db8::53\n", "run/systemd/netif/links/7": "DNS=\n"}, [Resolver("127.0.0.53", False)]),
    ({**GLOBAL, "run/dhcpcd/hook-state/resolv.conf/wan.ra": "nameserver fe80::1\nnameserver 2001:db8::53\n",
      "run/dhcpcd/hook-state/resolv.conf/wan.dhcp6": "nameserver 2001:db8::53\n", "run/dhcpcd/hook-state/resolv.conf/wan2.ra": "nameserver ::2\n"},
     [Resolver("2001:db8::53", True), Resolver("fe80::1", True)]),
    ({"etc/resolv.conf": "".join(f"nameserver 2001:db8::{number}\n" for number in range(1, 9))},
     [Resolver(f"2001:db8::{number}", False) for number in (1, 2, 3)]),
])
def test_the_resolvers_of_a_line(machine, files, found):
    assert machine(files) == found


def test_a_line_that_is_not_there_has_no_resolvers_of_its_own(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(GLOBAL["etc/resolv.conf"])
    assert dns_lookup.resolvers("absent", tmp_path) == [Resolver("127.0.0.53", False)]


def test_without_a_resolver_nobody_is_asked():
    with pytest.raises(dns_lookup.LookupFailed, match="no resolver of the line wan is known, nor one of this machine: set MAP_PROVIDER_RESOLVERS"):
        dns_lookup.look_up(NAME, TXT, [], "wan")
