# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal as a file."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import journal, paths

FORMAT = {"format": 1, "try": ["true"]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run/ce/journal"


def write_entry(target, text):
    return {"write": [str(target), text]}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_says_its_format_once_and_in_the_first_line(path, tmp_path):
    first, second = (write_entry(tmp_path / "file", text) for text in "ab")
    journal.Journal(path).add(**first)
    journal.Journal(path).add(**second)
    assert read(path) == [FORMAT, first, second]
    journal.Journal(path).add(**first)
    assert read(path) == [FORMAT, first, second]
    assert journal.Journal(path).undo([second]) == [] and read(path) == [FORMAT, first]
    assert journal.Journal(path).undo() == [] and not path.exists()
    assert (tmp_path / "file").read_text() == "a"


def test_the_first_line_does_nothing_where_it_is_taken_for_an_entry():
    assert journal.undo([FORMAT]) == []


def test_one_without_a_format_is_of_before_and_is_read(path, tmp_path):
    entries = [write_entry(tmp_path / "file", text) for text in "ab"]
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert journal.Journal(path).undo() == []
    assert (tmp_path / "file").read_text() == "a" and not path.exists()


def test_one_of_a_later_format_is_refused(path):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**FORMAT, "format": 2}) + "\n" + json.dumps({"unheard": "of"}) + "\n")
    with pytest.raises(paths.FormatError, match="journal: format 2, written by a later version of softwire.map"):
        journal.Journal(path)
    assert path.exists()


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_was_never_acted_upon(cut, path, tmp_path):
    first, second = (write_entry(tmp_path / "file", text) for text in "ab")
    made = journal.Journal(path)
    made.add(**first)
    made.add(**second)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = journal.Journal(path)
    torn.add(**first)  # is there
    torn.add(run=["true"])
    assert read(path) == [FORMAT, first, {"run": ["true"]}]
    path.write_bytes(path.read_bytes()[:-1])
    assert journal.Journal(path).undo() == [] and not path.exists()
    assert (tmp_path / "file").read_text() == "a"


@pytest.mark.parametrize("left", ["", '{"form'])
def test_an_empty_one_begins_anew(left, path):
    path.parent.mkdir(parents=True)
    path.write_text(left)
    made = journal.Journal(path)
    made.add(run=["true"])
    assert read(path) == [FORMAT, {"run": ["true"]}]
    path.write_text(left)
    assert journal.Journal(path).undo() == [] and not path.exists()


def test_one_that_cannot_be_read_says_so(path):
    path.parent.mkdir(parents=True)
    path.write_text("\0\0\n")
    with pytest.raises(paths.FormatError, match=f"^{path}: cannot be read, so what is up cannot be taken down; a reboot does that: "):
        journal.Journal(path)


def test_a_step_that_fails_is_not_in_it(path, tmp_path):
    made = journal.Journal(path)
    made.run(["true"], {"try": ["one"]})
    with pytest.raises(journal.StepError):
        made.run(["false"], {"try": ["two"]})
    assert read(path) == [FORMAT, {"try": ["one"]}]


def test_what_cannot_be_undone_stays_for_a_later_try(path):
    made = journal.Journal(path)
    for entry in ({"run": ["false"]}, {"run": ["true"]}):
        made.add(**entry)
    assert made.undo([{"run": ["true"]}, {"run": ["false"]}]) == ["false: exit code 1: "]
    assert len(read(path)) == 3
    assert len(made.undo()) == 1 and not path.exists()


CLSACT = {"run": ["tc", "qdisc", "del", "dev", "isp", "clsact"]}
ROUTE = {"run": ["ip", "route", "del", "2001:db8:ffff::1", "dev", "isp"]}
OWN = ({"try": ["true"]}, {"run": ["networkctl", "reload"]}, {"run": ["ip", "link", "del", "ce-tun"]})


@pytest.fixture
def undone(monkeypatch):
    """What is undone, in its order."""
    entries = []
    monkeypatch.setattr(journal, "undo", lambda some: entries.extend(some) or [])
    return entries


def test_what_another_instance_has_in_its_journal_is_undone_by_the_last(path, tmp_path, undone):
    first, second = journal.Journal(path), journal.Journal(tmp_path / "run/br/journal")
    shared = (write_entry("/proc/sys/a", "0"), CLSACT, ROUTE)
    for entry in (*OWN, *shared):
        first.add(**entry)
        second.add(**entry)
    assert first.undo([ROUTE]) == [] and undone == [] and ROUTE not in read(path)
    first.undo()
    assert undone == list(OWN) and not path.exists()
    undone.clear()
    second.undo()
    assert undone == [*OWN, *shared]


def test_a_value_is_one_thing_whatever_it_was_before(path, tmp_path, undone):
    first, second = journal.Journal(path), journal.Journal(tmp_path / "run/br/journal")
    first.add(**write_entry("/proc/sys/a", "0"))
    for text in "01":
        second.add(**write_entry("/proc/sys/a", text))
    with first.locked() as others:
        assert others == {"/proc/sys/a": write_entry("/proc/sys/a", "0")}
    first.undo()
    assert undone == []


def test_a_journal_that_another_instance_is_writing_is_read_up_to_its_last_whole_line(path, tmp_path):
    other = tmp_path / "run/br/journal"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({**FORMAT, "format": 2}) + "\n" + json.dumps(CLSACT) + "\n" + json.dumps(ROUTE)[:20])
    with journal.Journal(path).locked() as others:
        assert list(others.values()) == [CLSACT]


def test_instances_wait_for_each_other(path, tmp_path):
    with journal.Journal(path).locked():
        handle = os.open(str(tmp_path / "run"), os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def test_the_settings_of_an_interface_that_is_gone_need_no_undoing(tmp_path):
    assert journal.undo([write_entry(tmp_path / "conf/gone/forwarding", "1")]) == []
