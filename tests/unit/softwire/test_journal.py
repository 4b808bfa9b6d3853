# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal as a file."""

from __future__ import annotations

import json

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
