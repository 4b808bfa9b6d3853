# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a provider's server is asked, what is known after each exchange, and the files that say so; the network is pretended, the time given."""

from __future__ import annotations

import json

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp import read_answer
from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp_exchange import (
    DNS_FAILED, ERROR, NO_METHOD, NO_RECORD, OK, UNKNOWN_SOURCE, Login)
from ansible_collections.softwire.map.plugins.module_utils.provider import client, exchange
from ansible_collections.softwire.map.plugins.module_utils.provider.asking import INFINITY, PAUSE, SETTLE, Asking
from ansible_collections.softwire.map.plugins.module_utils.provider.client import Provider
from ansible_collections.softwire.map.plugins.module_utils.provider.dns_lookup import Resolver
from ansible_collections.softwire.map.plugins.module_utils.provider.exchange import Result
from ansible_collections.softwire.map.plugins.module_utils.softwire import paths

TOKEN = "0123456789abcdef" * 4
RULE = {"ipv6": "2001:db8:40::/42", "ipv4": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}
BODY = json.dumps({"order": ["map_e"], "ttl": 3600, "token": TOKEN, "map_e": {"br": "2001:db8:ffff::1", "rules": [RULE]}})
GOOD = Result(OK, read_answer(BODY), BODY, resolver="2001:db8::53", server="vne.example.jp")
NONE = json.dumps({"order": []})
NO = Result(NO_METHOD, read_answer(NONE), NONE, "no method")
FIRST, SECOND = frozenset({"2001:db8:1::/64"}), frozenset({"2001:db8:2::/64"})


def latest(low, high):
    return high


def test_it_begins_when_the_line_has_a_prefix_and_an_address_has_settled():
    asking = Asking(latest)
    assert asking.due() == INFINITY
    asking.see(frozenset(), 100.0)
    asking.trigger(100.0)
    assert asking.due() == INFINITY
    asking = Asking(latest)
    asking.see(FIRST, 100.0)
    asking.see(FIRST, 101.0)
    assert asking.due() == 100.0 + SETTLE


@pytest.mark.parametrize(("outcome", "ttl", "wait"), [
    (OK, 700, 700), (OK, None, 86400), (NO_METHOD, 3600, 3600), (NO_RECORD, None, 10800), (DNS_FAILED, None, 600), (UNKNOWN_SOURCE, None, 1800),
    (ERROR, None, 1800)])
def test_the_next_exchange(outcome, ttl, wait):
    asking = Asking(latest)
    asking.see(FIRST, 0.0)
    asking.begin(3.0)
    assert asking.due() == INFINITY
    asking.finish(outcome, ttl, 5.0)
    assert asking.due() == 5.0 + wait


def test_another_prefix_lets_it_ask_at_once():
    asking = Asking(latest)
    asking.see(FIRST, 0.0)
    asking.begin(3.0)
    asking.finish(OK, None, 3.0)
    # One that goes and comes back is not another one.
    asking.see(frozenset(), 1000.0)
    assert asking.due() == INFINITY
    asking.see(FIRST, 1001.0)
    assert asking.due() == 86403.0
    asking.see(FIRST | SECOND, 2000.0)
    assert asking.due() == 2000.0 + SETTLE
    asking.begin(2003.0)
    asking.finish(ERROR, None, 2003.0)
    # Also while it waits after an error; but not all the time.
    asking.see(frozenset({"2001:db8:3::/64"}), 2005.0)
    assert asking.due() == 2003.0 + PAUSE
    asking.begin(2033.0)
    asking.finish(OK, None, 2033.0)
    asking.see(SECOND, 2100.0)
    asking.trigger(2101.0)
    assert asking.due() == 2101.0


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A router whose network answers what `results` holds, and a clock."""
    monkeypatch.setattr(paths, "PROVIDER", tmp_path / "run")
    monkeypatch.setattr(paths, "PROVIDER_KEPT", tmp_path / "kept")
    return Machine(monkeypatch)


class Machine:
    def __init__(self, monkeypatch):
        self.now, self.results, self.asked = 1000.0, [], []
        self.instance = paths.Paths("ce")
        monkeypatch.setattr(client, "exchange", self.exchange)

    def exchange(self, *arguments):
        self.asked.append(arguments)
        return self.results.pop(0)

    def start(self, **environment):
        return Provider(self.instance, {"MAP_PROVIDER_INTERFACE": "wan", "MAP_PROVIDER_RESOLVERS": "::1", **environment}, latest, lambda: self.now)

    def ask(self, provider, result, prefixes=FIRST):
        """Lets the time pass until it asks, and says what is in its file then."""
        self.results.append(result)
        due = provider.turn(prefixes)
        if self.results:
            self.now = due
            provider.turn(prefixes)
        assert not self.results
        return self.read()

    def read(self):
        return json.loads(self.instance.provider.read_text())


def test_what_is_known_after_each_exchange(machine):
    provider = machine.start()
    assert machine.read()["outcome"] is machine.read()["answer"] is machine.read()["asked"] is None
    found = machine.ask(provider, GOOD)
    assert found == {
        "format": 1, "written": 1003.0, "interface": "wan", "outcome": "ok", "fault": None, "warnings": [], "resolver": "2001:db8::53",
        "server": "vne.example.jp", "withheld": None, "asked": 1003.0, "asked_for": ["2001:db8:1::/64"], "failing_since": None, "next": 4603.0,
        "answer": BODY, "answered": 1003.0, "answered_for": ["2001:db8:1::/64"]}
    # What is set up stays while nobody answers, and the token goes back.
    for result in (Result(ERROR, fault="x"), Result(DNS_FAILED, fault="y"), Result(UNKNOWN_SOURCE, fault="z")):
        found = machine.ask(provider, result, SECOND)
        assert (found["answer"], found["answered"], found["answered_for"]) == (BODY, 1003.0, ["2001:db8:1::/64"])
        assert found["outcome"] == result.outcome and found["fault"] == result.fault and found["failing_since"] == 1033.0
        assert found["asked_for"] == ["2001:db8:2::/64"]
    assert [each[2] for each in machine.asked] == [None, TOKEN, TOKEN, TOKEN]
    assert machine.ask(provider, NO, SECOND)["answer"] == NONE and machine.read()["failing_since"] is None
    assert machine.ask(provider, GOOD, SECOND)["answer"] == BODY
    found = machine.ask(provider, Result(NO_RECORD, fault="none"), SECOND)
    assert found["answer"] is found["answered"] is None and found["answered_for"] == [] and not machine.instance.provider_kept.exists()


def test_a_restart_goes_on_and_asks_nobody(machine):
    provider = machine.start()
    machine.ask(provider, GOOD)
    machine.ask(provider, Result(ERROR, fault="x", warnings=("w",)))
    before = machine.read()
    machine.now += 10
    again = machine.start()
    assert machine.read() == {**before, "written": before["written"] + 10}
    assert again.turn(FIRST) == before["next"] and len(machine.asked) == 2
    assert again.known == provider.known


def test_after_a_boot_the_last_good_answer_holds_until_there_is_another(machine):
    machine.ask(machine.start(), GOOD)
    machine.instance.provider.unlink()
    machine.now = 20.0
    provider = machine.start()
    found = machine.read()
    assert (found["answer"], found["answered"], found["answered_for"], found["outcome"]) == (BODY, None, ["2001:db8:1::/64"], None)
    found = machine.ask(provider, Result(ERROR, fault="x"), SECOND)
    assert found["answer"] == BODY and found["answered"] is None and machine.asked[-1][2] == TOKEN
    # Somebody deletes it.
    machine.instance.provider.unlink()
    machine.instance.provider_kept.unlink()
    machine.start()
    assert machine.read()["answer"] is None


def test_a_good_answer_is_written_to_the_disk_only_where_it_is_new(machine):
    provider = machine.start()
    machine.ask(provider, GOOD)
    machine.instance.provider_kept.unlink()
    machine.ask(provider, GOOD)
    assert not machine.instance.provider_kept.exists()
    machine.ask(provider, NO)
    assert json.loads(machine.instance.provider_kept.read_text()) == {"format": 1, "answer": NONE, "answered_for": ["2001:db8:1::/64"]}


def test_a_disk_that_is_full_is_told_and_no_more(machine, capsys):
    machine.instance.provider_kept.parent.parent.mkdir(parents=True)
    machine.instance.provider_kept.parent.touch()
    assert machine.ask(machine.start(), GOOD)["answer"] == BODY
    assert "softwire: the answer cannot be kept: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 1, "answer": "{}", "answered_for": []}',
                                  '{"format": 1, "written": "x"}', '{"format": 1, "written": 1e9}', "\xff",
                                  '{"format": 1, "answer": 5, "answered_for": []}'])
@pytest.mark.parametrize("file", ["provider", "provider_kept"])
def test_a_file_that_is_torn_is_ignored_and_told(machine, capsys, text, file):
    path = getattr(machine.instance, file)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    provider = machine.start()
    assert f"is ignored: {path}: " in capsys.readouterr().err
    assert provider.known.body is None and provider.turn(FIRST) == machine.now + SETTLE


def test_each_thing_is_told_once(machine, capsys):
    provider = machine.start()
    for result in (Result(ERROR, fault="x", withheld="w"), Result(ERROR, fault="x", withheld="w"), GOOD._replace(warnings=("odd",)),
                   GOOD._replace(warnings=("odd", "too"))):
        machine.ask(provider, result)
    out, err = capsys.readouterr()
    assert out == "vne.example.jp has answered again\n"
    assert err == "softwire: x\nsoftwire: user and pass are not sent: w\nsoftwire: odd\nsoftwire: too\n"


def test_its_environment(machine, monkeypatch):
    machine.ask(machine.start(MAP_PROVIDER_RESOLVERS=" ::1 ::2 ::3 ::4"), GOOD)
    machine.instance.provider.unlink()
    monkeypatch.setattr(client, "resolvers", lambda interface: [Resolver(f"of {interface}", True)])
    machine.ask(machine.start(MAP_PROVIDER_RESOLVERS="", MAP_PROVIDER_USER="me", MAP_PROVIDER_PASS="s3cret", MAP_PROVIDER_SERVER="vne.example.jp"), GOOD)
    first, second = machine.asked
    assert first == ("wan", [Resolver(f"::{number}", False) for number in (1, 2, 3)], None, None)
    assert second == ("wan", [Resolver("of wan", True)], TOKEN, Login("me", "s3cret", "vne.example.jp"))
    with pytest.raises(MapError, match="MAP_PROVIDER_INTERFACE: not set: must be the name of a network interface"):
        Provider(machine.instance, {})


def test_what_it_says_of_itself_is_this_release():
    galaxy = (paths.Path(__file__).resolve().parents[3] / "galaxy.yml").read_text(encoding="utf-8")
    said = exchange.client_of("absent")
    assert f"version: {said.version}\n" in galaxy
    assert said.vendorid == "acde48-softwire_map" and said.capability == ("map_e", "map_t", "hubspoke", "mesh")
