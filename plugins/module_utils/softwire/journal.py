# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps, and the journal of how to take them back.

A copy of this file lies in every generation, beside softwire.py.
"""

# Needs no AnsibleModule and its run_command. pylint: disable=ansible-bad-function
from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

from . import files as softwire_changes


TIMEOUT = 60  # seconds that a boot waits for a network interface, and for systemd-networkd


class StepError(Exception):
    """A step of bringing an instance up failed; the text is for a person."""


def run(argv, cwd=None, text=""):
    """Runs a command on the text and returns its standard output; raises StepError with what it printed."""
    done = subprocess.run(
        argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, cwd=cwd, check=False,
    )
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise StepError("%s: exit code %d: %s" % (" ".join(map(str, argv)), done.returncode, message))
    return done.stdout


def wait_until(condition, fault):
    """Waits for a condition, and raises StepError with the fault where it does not come true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise StepError("%s within %d s" % (fault, TIMEOUT))
        time.sleep(0.2)


def in_namespace(namespace, argv):
    """Not "ip netns exec" or "ip -n": they make a mount namespace each, which the unit forbids."""
    return argv if namespace == "main" else ["nsenter", "--net=/run/netns/" + namespace] + argv


class Journal:
    """The steps that take back what was done, in the order in which it was done.

    An entry is {"run": argv}, {"try": argv} where there may be nothing to do, or {"write": [path, text]}.
    """

    def __init__(self, path):
        self.path = path
        self.lines = path.read_text().splitlines() if path.exists() else []

    def run(self, argv, *undo, cwd=None, text=""):
        """Runs a step; the entries that take it back are written down first, since a kill can come at any time."""
        count = len(self.lines)
        for entry in undo:
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
                self.add(run=["ip"] + softwire_changes.inverse(line))
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
        line = json.dumps(entry)
        if line in self.lines:
            return  # a reload repeats steps that the first load has journalled
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(line + "\n")
        self.lines.append(line)

    def undo(self, entries=None):
        """Takes back some entries, or all of them, the last one first; returns what could not be taken back.

        Where something could not, some entries stay in the journal, for a later try; all of them never do.
        """
        faults = take_back([json.loads(line) for line in self.lines] if entries is None else entries)
        if entries is None:
            self._write([])
        elif not faults:
            gone = set(map(json.dumps, entries))
            self._write([line for line in self.lines if line not in gone])
        return faults

    def _write(self, lines):
        if lines != self.lines:
            self.lines = lines
            temporary = self.path.with_name("journal.new")
            temporary.write_text("".join(line + "\n" for line in lines))
            os.rename(str(temporary), str(self.path))
        if not lines and self.path.exists():
            self.path.unlink()


def take_back(entries):
    """Takes steps back, the last one first; returns what could not be taken back."""
    steps, faults = [], []
    for batched, group in itertools.groupby(reversed(entries), key=is_batchable):
        if batched:
            lines = as_batch(entry["run"][1:] for entry in group)
            steps.append(functools.partial(run, ["ip", "-force", "-batch", "-"], text=lines))
        else:
            steps += [functools.partial(take_back_one, entry) for entry in group]
    for step in steps:
        try:
            step()
        except (StepError, OSError) as exc:
            faults.append(str(exc))
    return faults


def take_back_one(entry):
    if "run" in entry:
        run(entry["run"])
    elif "try" in entry:
        subprocess.run(entry["try"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    else:
        path, text = entry["write"]
        Path(path).write_text(text)


def as_batch(lines):
    """Lists of words as the text that a batch mode reads."""
    return "".join(" ".join(map(shlex.quote, line)) + "\n" for line in lines)


def is_batchable(entry):
    """Whether a journal entry is an ip command without options, which is all that "ip -batch" takes."""
    argv = entry.get("run", [])
    return argv[:1] == ["ip"] and not argv[1].startswith("-") and argv[1] != "netns"
