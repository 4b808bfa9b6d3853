# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit trail of an instance: what was done to it, when, by whom and why, one line of JSON each in /var/log/softwire.

It outlives boots and the instance itself, whose end is a line of it, too. Whatever happens to a line, nothing waits for it or fails by it. The file
moves aside when it is full, in the place of the one before; the new one begins with a line "totals", so that what is counted goes on.
A line that a power cut has torn, or of a later format, says nothing.

Every line has "format" (a number that grows when an older program would read lines wrongly), "time" (UTC, ISO 8601), "uptime" (seconds since
the boot, since a router's clock may be wrong) and "event"; lines of the module deploy have "by": {"controller", "user", "remote_user", "address"}.

    event     what else the line has
    deploy    state (present or rollback), from, to (generations or null), applied (nothing, start, reload, restart), drift (texts): is about to be
    confirm   to
    rollback  from, to, reason (one of REASONS), detail, result
    failure   detail: nothing was switched
    remove    from
    repair    applied (reload or start), drift, result, in_a_row, times (this same drift within a day; not every time has a line)
    start, stop, reload   generation, result: by hand or at a boot
    totals    counts, as read() tells them

result: good or failed.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import sys
import time

from . import login, paths

FORMAT = 1
LIMIT = 256 * 1024  # bytes of a file; there are two
TEXT, ITEMS = 300, 10  # the most characters of a text, and texts of a list
RESULTS = ("confirmed", "rolled_back", "failed", "unchanged")
# It did not come up; what worked does not; nobody confirmed it; nor before a reboot; the service that waits for that is gone.
REASONS = ("failed", "unhealthy", "unconfirmed", "reboot", "abandoned")


class Trail:
    """Writes the trail of one instance."""

    def __init__(self, instance, by=None, warn=None):
        """instance: its paths.Paths. by: who(). warn: takes the text where a line cannot be written; by default it goes to our standard error."""
        self.instance = instance
        self.by = by
        self.warn = warn or (lambda text: sys.stderr.write(text + "\n"))

    def add(self, event, **fields):
        """Adds a line."""
        now = datetime.datetime.now(datetime.timezone.utc)
        line = {"format": FORMAT, "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "uptime": int(time.monotonic()), "event": event}
        if self.by:
            line["by"] = self.by
        line.update({key: shortened(value) for key, value in fields.items()})
        try:
            _append(self.instance, line)
        except OSError as exc:
            self.warn("%s: the audit trail lacks this %s: %s" % (self.instance.trail, event, exc))

    def ends_with(self, fields):
        """Tells whether the last line has these fields."""
        try:
            lines = read(self.instance, 1)["lines"]
        except OSError:
            return False
        return bool(lines) and all(lines[0].get(key) == shortened(value) for key, value in fields.items())


def who(sent):
    """Who is at work, for a Trail. sent: {"controller", "user"} of the controller; the rest is what this router knows of the login."""
    found = dict(sent, remote_user=login.user(), address=next(iter(login.connection()), None))
    return {key: shortened(value) for key, value in found.items() if value}


def read(instance, number):
    """What the trail tells, {"lines": [...], "counts": {...}}. Raises OSError.

    lines: the last `number` of them (dicts), the oldest first, without totals. counts: since the trail began, {"deployments": {one of RESULTS:
    int}, "rollbacks": {one of REASONS: int}, "drift": how many deployments found something changed}.
    """
    with _locked(fcntl.LOCK_SH):
        older, newer = _lines(instance.older_trail), _lines(instance.trail)
    lines = [line for line in older + newer if line["event"] != "totals"]
    return {"lines": lines[max(0, len(lines) - number):], "counts": _counts(older, newer)}


def shortened(value):
    """A text, or a list of texts, as long as a line may have it; anything else as it is."""
    if isinstance(value, str):
        return value if len(value) <= TEXT else value[: TEXT - 1] + "\u2026"
    if isinstance(value, (list, tuple)):
        more = ["and %d more" % (len(value) - ITEMS)] if len(value) > ITEMS else []
        return [shortened(text) for text in value[:ITEMS]] + more
    return value


def _append(instance, line):
    path = instance.trail
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)  # a unit's umask may forbid it
    with _locked(fcntl.LOCK_EX):
        text = _encoded(line)
        size = path.stat().st_size if path.exists() else 0
        if size + len(text) >= LIMIT:
            paths.move(path, instance.older_trail)
            size = 0
        if not size and instance.older_trail.exists():
            header = {key: line[key] for key in ("format", "time", "uptime")}
            text = _encoded(dict(header, event="totals", counts=_counts(_lines(instance.older_trail), []))) + text
        handle = os.open(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if size and os.pread(handle, 1, size - 1) != b"\n":
                text = b"\n" + text  # a power cut has torn the last line
            os.fchmod(handle, 0o640)
            if os.write(handle, text) < len(text):
                os.ftruncate(handle, size)
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
        if not size:
            paths.sync(path.parent)


def _encoded(line):
    return (json.dumps(line) + "\n").encode()


@contextlib.contextmanager
def _locked(how):
    """Keeps other writers out, or writers alone. Where there is no directory, there is nothing to read."""
    try:
        handle = os.open(str(paths.LOGS), os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _lines(path):
    """The lines of a file that this program can read (dicts)."""
    found = []
    for text in path.read_text(errors="replace").split("\n") if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "event" in line and line.get("format") in range(1, FORMAT + 1):
            found.append(line)
    return found


def _counts(older, newer):
    """What read() tells as counts, of the lines of both files."""
    total = _zero()
    # Without its totals, which a power cut has torn, the newer file goes on where the older one ends.
    for line in newer if newer[:1] and newer[0]["event"] == "totals" else older + newer:
        try:
            if line["event"] == "totals":
                total = _zero()
                _increase(total, line["counts"])
            else:
                _increase(total, _worth(line))
        except (AttributeError, KeyError, TypeError):
            continue  # nothing that we wrote
    return total


def _worth(line):
    """The counts of one line."""
    event = line["event"]
    if event == "deploy":
        return {"deployments": {"unchanged": int(line["applied"] == "nothing")}, "drift": int(bool(line["drift"]))}
    if event == "rollback" and line["result"] == "good":
        return {"deployments": {"rolled_back": 1}, "rollbacks": {line["reason"]: 1}}
    result = {"confirm": "confirmed", "failure": "failed"}.get(event)
    return {"deployments": {result: 1}} if result else {}


def _zero():
    return {"deployments": dict.fromkeys(RESULTS, 0), "rollbacks": dict.fromkeys(REASONS, 0), "drift": 0}


def _increase(total, counts):
    """Adds counts to others; those that a later version knows as well are kept."""
    total["drift"] += counts.get("drift", 0)
    for name in ("deployments", "rollbacks"):
        for key, number in counts.get(name, {}).items():
            total[name][key] = total[name].get(key, 0) + number
