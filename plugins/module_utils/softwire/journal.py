# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: how to undo each step that was done.

Several instances on one router may need the same thing of it: a sysctl, the clsact of an interface, a route. Each of them then has
the entry that undoes it, with the value from before the first of them; an undo leaves alone what another journal has, too, so the
last one restores it. A lock of all instances keeps the look at the other journals and what follows from it together.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import re
from pathlib import Path

from . import paths
from .commands import StepError, as_batch, run, succeeds
from .files import inverse

# The first line says the format. For a program of before there were formats it is an entry that does nothing.
HEADER = json.dumps({"format": paths.FORMAT, "try": ["true"]})
# The beginnings of commands that undo what several instances may need.
SHARED = (["tc", "qdisc", "del"], ["ip", "route", "del"])


class Journal:
    """The entries that undo what was done, in the order in which it was done.

    An entry is {"run": argv}, {"try": argv} where there may be nothing to do, or {"write": [path, text]}.
    """

    def __init__(self, path):
        """Raises paths.FormatError."""
        self.path = path
        # A last line without its end was torn while it was written, before its step was taken.
        *self.lines, self.torn = (path.read_text(errors="replace") if path.exists() else "").split("\n")
        try:
            entries = [json.loads(line) for line in self.lines]
        except ValueError as exc:
            raise paths.FormatError("%s: cannot be read, so what is up cannot be taken down; a reboot does that: %s" % (path, exc)) from exc
        number = entries[0].get("format") if entries else None
        if number is not None:
            paths.check_format(path, number)
            del self.lines[0]

    @contextlib.contextmanager
    def locked(self):
        """Lets other instances wait, and gives {subject: entry} of their journals. Not to be nested."""
        root = self.path.parent.parent
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(str(root), os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield by_subject(entry for path in sorted(root.glob("*/journal")) if path != self.path for entry in entries_of(path))
        finally:
            os.close(handle)

    def entries(self):
        """All entries, the first one first."""
        return [json.loads(line) for line in self.lines]

    def run(self, argv, *entries, cwd=None, text=""):
        """Runs a step; the entries that undo it are written down first, since a kill can come at any time."""
        count = len(self.lines)
        for entry in entries:
            self.add(**entry)
        try:
            run(argv, cwd, text)
        except (StepError, OSError):
            self._write(self.lines[:count])  # what failed changed nothing
            raise

    def run_ip(self, lines):
        """Runs lines of "ip -batch" in one process; what was done before a failing line stays journalled."""
        counts = []
        for line in lines:
            counts.append(len(self.lines))
            if line[1] == "add":
                self.add(run=["ip"] + inverse(line))
        try:
            run(["ip", "-batch", "-"], text=as_batch(lines))
        except StepError as exc:
            number = re.search(r"Command failed -:(\d+)", str(exc))
            if number is None:
                raise  # whatever was done, the journal has it
            failed = int(number.group(1)) - 1
            self._write(self.lines[: counts[failed]])
            raise StepError("ip %s: %s" % (" ".join(lines[failed]), exc)) from exc

    def add(self, **entry):
        """Writes down an entry, unless it is there: a reload repeats steps that the first load has journalled."""
        line = json.dumps(entry)
        if line in self.lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.torn:
            self._write(self.lines)
        with self.path.open("a") as stream:
            if not stream.tell():
                stream.write(HEADER + "\n")
            stream.write(line + "\n")
        self.lines.append(line)

    def undo(self, entries=None):
        """Undoes some entries, or all of them, the last one first; returns what could not be undone, texts for a person.

        What another instance needs, too, stays as it is. Where something could not, some entries stay in the journal, for a later try; all of them never do.
        """
        with self.locked() as others:
            faults = undo([entry for entry in (self.entries() if entries is None else entries) if subject(entry) not in others])
            if entries is None:
                self._write([])
            elif not faults:
                gone = set(map(json.dumps, entries))
                self._write([line for line in self.lines if line not in gone])
        return faults

    def _write(self, lines):
        if lines and (self.torn or lines != self.lines):
            paths.write(self.path, "".join(line + "\n" for line in [HEADER] + lines))
        if not lines and self.path.exists():
            self.path.unlink()
        self.lines, self.torn = lines, ""


def entries_of(path):
    """The entries of the journal of another instance, which may be writing it or go just now, and may be of a later version."""
    try:
        lines = path.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def subject(entry):
    """What of an entry is the same in the journals of all instances that need one thing of the router; None where it is theirs alone."""
    if "write" in entry:
        return entry["write"][0]
    argv = entry.get("run", [])
    return tuple(argv) if argv[:3] in SHARED else None


def by_subject(entries):
    """{subject: entry} of entries, of each subject the first: it has what was there before everything else."""
    found = {}
    for entry in entries:
        found.setdefault(subject(entry), entry)
    found.pop(None, None)
    return found


def undo(entries):
    """Undoes entries, the last one first; returns what could not be undone."""
    steps, faults = [], []
    for batched, group in itertools.groupby(reversed(entries), key=is_batchable):
        if batched:
            lines = as_batch(entry["run"][1:] for entry in group)
            steps.append(functools.partial(run, ["ip", "-force", "-batch", "-"], text=lines))
        else:
            steps += [functools.partial(undo_one, entry) for entry in group]
    for step in steps:
        try:
            step()
        except (StepError, OSError) as exc:
            faults.append(str(exc))
    return faults


def undo_one(entry):
    """Raises StepError or OSError where an entry cannot be undone."""
    if "run" in entry:
        run(entry["run"])
    elif "try" in entry:
        succeeds(entry["try"])
    else:
        path, text = entry["write"]
        with contextlib.suppress(FileNotFoundError):  # the settings of an interface go with it
            Path(path).write_text(text)


def is_batchable(entry):
    """Whether a journal entry is an ip command without options, which is all that "ip -batch" takes."""
    argv = entry.get("run", [])
    return argv[:1] == ["ip"] and not argv[1].startswith("-") and argv[1] != "netns"
