# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""line.json: what is in it, and when it is written; and the files by which others say what they know of a line."""

from __future__ import annotations

import json
import os
import time

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import line_drop, line_file
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_file import Answers, Refusal, Refusals
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_kernel import Link
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_messages import Delegated, Reply
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_prefixes import Prefixes

INFINITY = float("inf")
SERVER, DUID = b"\0\3\0\1server", b"\0\3\0\1client"
PREFIX = bytes.fromhex("20010db8001234000000000000000000")


def reply(containers=None, server=SERVER, priority=(), refresh=None):
    return Reply(b"xid", server, DUID, [], containers or {}, list(priority), refresh, None, [])


def line(now=1000.0, valid=200, preferred=100, prefix=PREFIX, answers=(), refused=(), unanswered=None, announced=1000.0):
    prefixes = Prefixes("wan")
    prefixes.heard(("link", 2), Link("wan", True))
    prefixes.delegated([Delegated((7, DUID), prefix, 56, preferred, valid)], announced)
    return line_file.content(now, prefixes, list(answers), DUID, unanswered, list(refused))


def test_the_file_holds_all_that_its_documentation_says():
    answers = Answers()
    answers.take("asked", "fe80::1", reply({94: b"\0\x59"}, priority=[95, 94], refresh=86400), 990)
    found = line(answers=answers.all([]), refused=[Refusal("a message", "why", 980)], unanswered=970)
    assert found == {
        "format": 1, "written": 1000.0, "interface": "wan", "running": True,
        "prefixes": [{
            "prefix": "2001:db8:12:3400::/56", "from": "reply", "interface": "wan", "since": 1000.0, "announced": 1000.0,
            "preferred_until": 1100.0, "valid_until": 1200.0, "deprecated": False, "silent": False, "iaid": 7}],
        "answers": [{
            "from": "asked", "server": SERVER.hex(), "address": "fe80::1", "heard": 990, "containers": {"94": "0059"}, "priority": [95, 94],
            "refresh": 86400, "without": 0}],
        "client": DUID.hex(), "unanswered_since": 970, "refused": [{"what": "a message", "why": "why", "when": 980}]}
    documented = line_file.__doc__
    for part in (found, found["prefixes"][0], found["answers"][0], found["refused"][0]):
        assert all(f'"{key}":' in documented for key in part)
    json.dumps(found, allow_nan=False)


def test_for_ever_is_null():
    found = line(valid=0xFFFFFFFF, preferred=0xFFFFFFFF)["prefixes"][0]
    assert found["valid_until"] is None and found["preferred_until"] is None


def test_a_server_that_leaves_its_containers_out_is_asked_once_more():
    """RFC 8415 section 18.2.10: a Reply without them is no order to stop."""
    answers = Answers()
    assert not answers.take("asked", "fe80::1", reply({94: b"rules"}), 100)
    told = [answers.take("asked", "fe80::1", reply(), moment) for moment in (200, 300, 400)]
    answer, = answers.all([])
    assert told == [True, False, False]
    assert answer.containers == {94: b"rules"} and answer.heard == 100 and answer.without == 3
    assert not answers.take("asked", "fe80::1", reply({95: b"others"}), 500)
    answer, = answers.all([])
    assert answer.containers == {95: b"others"} and answer.without == 0


def test_that_a_client_has_asked_for_no_container_says_nothing():
    answers = Answers()
    answers.take("client", "fe80::1", reply(), 100)
    assert answers.all([]) == []
    answers.take("asked", "fe80::1", reply(), 100)
    assert [answer.containers for answer in answers.all([])] == [{}]


def test_nobody_on_the_line_can_fill_the_answers():
    answers = Answers()
    for number in range(1000):
        answers.take("client", "fe80::1", reply({94: b"rules"}, b"\0\3\0\1%d" % number), number)
        answers.take("asked", "fe80::1", reply({94: b"rules"}), number)
    assert len(answers.kept) == 8 and ("asked", SERVER) in answers.kept


def test_each_reason_is_told_once_and_there_is_an_end():
    told = []
    refusals = Refusals(told.append)
    for number in range(1000):
        refusals.add("from fe80::%x" % number, "malformed", number)
    assert told == ["from fe80::0: malformed"] and list(refusals.kept.values()) == [Refusal("from fe80::0", "malformed", 0)]
    for number in range(1000):
        refusals.add("from fe80::1", "reason %d" % number, number)
    assert len(told) == len(refusals.kept) == 32


# When it is written


NOW = line()


@pytest.mark.parametrize("change", [
    {"prefix": bytes(16)}, {"valid": 150}, {"preferred": 50}, {"now": 1100.0}, {"unanswered": 7.0}, {"refused": [Refusal("a", "b", 3)]},
    {"answers": [line_file.Answer("asked", SERVER, "fe80::1", 3, {94: b""}, [], None, 0)]}, {"valid": 0xFFFFFFFF, "preferred": 0}])
def test_news_is_written_at_once(change):
    assert line_file.due(NOW, line(**change)) == 0
    assert line_file.due(None, line(**change)) == 0


def test_old_news_is_none():
    assert line_file.due(NOW, line(now=1050.0)) == INFINITY
    assert line_file.due(line(refused=[Refusal("a", "b", 3)], unanswered=3), line(refused=[Refusal("a", "b", 4)], unanswered=4)) == INFINITY


@pytest.mark.parametrize("announced, due", [(1001.0, INFINITY), (1002.0, INFINITY), (1020.0, 1050.0), (1049.0, 1050.0)])
def test_a_lifetime_that_is_renewed_is_written_when_half_of_the_other_is_over(announced, due):
    assert line_file.due(NOW, line(now=announced, announced=announced)) == due


def test_for_ever_is_written_when_half_of_the_other_is_over():
    assert line_file.due(NOW, line(valid=0xFFFFFFFF, preferred=0xFFFFFFFF)) == 1050
    assert line_file.due(line(valid=0xFFFFFFFF, preferred=0xFFFFFFFF), NOW) == 0


# Files of others


GOOD = {"format": 1, "interface": "wan", "prefixes": [{"prefix": "2001:db8::/56", "preferred_until": 1500, "valid_until": 2000.5}],
        "containers": {"94": "0059"}, "priority": [94]}


@pytest.fixture
def directories(tmp_path):
    made = [tmp_path / "etc", tmp_path / "run"]
    for each in made:
        each.mkdir()
    return made


def drop(directory, name, found=None, text=None, **change):
    (directory / name).write_text(json.dumps({**(found or GOOD), **change}) if text is None else text)


def test_a_file_says_what_its_documentation_does(directories):
    drop(directories[0], "line.json")
    (said,), refused = line_drop.read("wan", 1000.0, directories)
    known, = said.prefixes
    assert (said.name, said.containers, said.priority, refused) == ("line.json", {94: b"\0\x59"}, [94], [])
    assert (known.source, known.prefix, known.interface, known.announced, known.preferred, known.valid) == (
        "file", "2001:db8::/56", "wan", None, 1500, 2000.5)
    assert known.since == pytest.approx(1000, abs=60)


def test_the_sample_of_the_documentation_is_right(directories):
    sample = line_drop.__doc__[line_drop.__doc__.index("{"):line_drop.__doc__.rindex("}") + 1]
    lines = [text.split("  ")[0] if text.startswith('{"format') else text[:52].rstrip() for text in sample.splitlines()]
    drop(directories[0], "line.json", text="\n".join(lines).replace("0059...", "0059"))
    (said,), refused = line_drop.read("wan", 1000.0, directories)
    assert refused == [] and said.prefixes[0].valid == INFINITY


def test_times_may_be_left_out(directories):
    drop(directories[0], "line.json", prefixes=[{"prefix": "2001:db8::/56"}, {"prefix": "2001:db8:1::/56", "valid_until": None, "preferred_until": 0}])
    (said,), _refused = line_drop.read("wan", 1000.0, directories)
    assert [(known.preferred, known.valid) for known in said.prefixes] == [(INFINITY, INFINITY), (0, INFINITY)]


def test_the_time_of_a_file_is_the_clocks(directories):
    drop(directories[0], "line.json")
    os.utime(directories[0] / "line.json", (time.time() - 300, time.time() - 300))
    (said,), _refused = line_drop.read("wan", 1000.0, directories)
    assert said.prefixes[0].since == pytest.approx(700, abs=60)


def test_what_is_about_another_line_or_not_finished_is_left_alone(directories):
    drop(directories[0], "other.json", interface="ppp0")
    drop(directories[0], ".line.json")
    drop(directories[0], "line.json.new")
    assert line_drop.read("wan", 1000.0, [*directories, directories[0] / "absent"]) == ([], [])


def test_of_one_name_the_later_directory_counts(directories):
    drop(directories[0], "line.json")
    drop(directories[1], "line.json", prefixes=[{"prefix": "2001:db8:1::/56"}])
    drop(directories[1], "a.json", prefixes=[])
    said, _refused = line_drop.read("wan", 1000.0, directories)
    assert [(each.name, [known.prefix for known in each.prefixes]) for each in said] == [("a.json", []), ("line.json", ["2001:db8:1::/56"])]


@pytest.mark.parametrize("text, why", [
    ("", "is no JSON"), ("{", "is no JSON"), ("\xff", "is no JSON"), ("[" * 30000, "is no JSON"), ("[]", "format: has to be 1"), (" " * 70000, "larger than"),
    ({"format": 2}, "format: has to be 1"), ({"interface": None}, "interface: has to be"), ({"prefix": []}, "prefix: is not known"),
    ({"prefixes": {}}, "prefixes: has to be a list"), ({"prefixes": [{}] * 33}, "prefixes: has to be a list of at most 32"),
    ({"prefixes": ["2001:db8::/56"]}, "prefixes[0]: has to be a dict"), ({"prefixes": [{}]}, "prefixes[0].prefix"),
    ({"prefixes": [{"prefix": "2001:db8::1/56"}]}, "prefixes[0].prefix: 2001:db8::1/56 has host bits set"),
    ({"prefixes": [{"prefix": "192.0.2.0/24"}]}, "prefixes[0].prefix"), ({"prefixes": [{"prefix": 5}]}, "prefixes[0].prefix: "),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid": 5}]}, "prefixes[0].valid: is not known"),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid_until": "5"}]}, "prefixes[0]: preferred_until and valid_until"),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid_until": True}]}, "prefixes[0]: preferred_until and valid_until"),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid_until": -1}]}, "prefixes[0]: preferred_until and valid_until"),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid_until": 10**400}]}, "prefixes[0]: preferred_until and valid_until"),
    ({"prefixes": [{"prefix": "2001:db8::/56", "valid_until": float("nan")}]}, "NaN is no number"),
    ({"containers": []}, "containers: has to be a dict"), ({"containers": {"96": "00"}}, "containers: has to be a dict with the keys 94 and 95"),
    ({"containers": {"94": "0"}}, "containers.94: has to be hex"), ({"containers": {"94": 5}}, "containers.94: has to be hex"),
    ({"containers": {"94": ""}}, "containers.94: has to be 1 to 4096 bytes"), ({"containers": {"94": "00" * 4097}}, "containers.94: has to be 1 to 4096 bytes"),
    ({"priority": 94}, "priority: has to be a list"), ({"priority": [1 << 16]}, "priority: has to be a list"),
    ({"priority": [True]}, "priority: has to be a list"),
])
def test_a_file_that_cannot_be_taken_says_why(directories, text, why):
    if isinstance(text, str):
        (directories[0] / "line.json").write_bytes(text.encode("latin-1"))
    else:
        drop(directories[0], "line.json", **text)
    drop(directories[0], "good.json")
    (said,), ((path, reason),) = line_drop.read("wan", 1000.0, directories)
    assert said.name == "good.json" and path.endswith("etc/line.json") and why in reason


def test_a_directory_of_that_name_is_refused(directories):
    (directories[0] / "line.json").mkdir()
    assert line_drop.read("wan", 1000.0, directories)[1][0][1].startswith("[Errno 21]")
