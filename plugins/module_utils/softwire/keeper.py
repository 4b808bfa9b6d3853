# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps an instance as its generation says for as long as its unit is wanted; softwire-keep@.service runs it.

The kernel tells of most of what somebody takes away (events.py); what it does not tell of is looked for once in a while. A repair is a
reload of the unit, which restarts where that does not suffice; an instance that is not up, because an interface came late, is started.
A repair that fails, or does not hold, waits longer each time.
"""

from __future__ import annotations

import json
import os
import time

from . import audit, commands, drift, paths, rollback
from .commands import StepError, go_on_as, report
from .events import Events
from .runner import Generation

LOOK = 60  # seconds between two cheap looks where nothing is told
WHOLE = 900  # seconds between two whole comparisons where nothing is told
BUSY = 2  # seconds until the next look while a deployment is at work
HOLDS = 60  # seconds after which a repair has held
PAUSES = (0, 2, 4, 8, 16, 32, 64, 128, 300)  # seconds between two repairs, by how many before did not hold
DAY = 86400  # seconds in which a drift that comes again is the same one for the audit trail
SHARE = 10  # comparisons take at most one part of this many of a processor, however much the kernel tells


class Keeper:
    """instance: its paths.Paths."""

    def __init__(self, instance):
        self.instance = instance
        self.unit = rollback.Transaction(instance).unit
        self.tries = 0  # repairs in a row that did not hold
        self.repaired = 0.0  # when the last one was (monotonic)
        self.compared = None  # when the last whole comparison found nothing; None: the next one has to be whole
        self.rest = 0.0  # until when there is none, however much the kernel tells
        self.trail = audit.Trail(instance)
        self.seen = {}  # {(what was wrong, whether the repair was good): (how often, when last (monotonic))}, of the last day

    def look(self, told):
        """Looks once; returns the seconds until the next look. told: whether the kernel has told of something. Raises OSError, StepError."""
        if told:
            time.sleep(max(0, self.rest - time.monotonic()))
        try:
            with rollback.locked(0):
                return self._look(told)
        except TimeoutError:
            return BUSY

    def _look(self, told):
        state = commands.query(["systemctl", "show", "--value", "--property=ActiveState", self.unit], as_json=False)
        if state not in ("active", "inactive", "failed"):
            return BUSY
        generation, now = Generation(self.instance.current.resolve()), time.monotonic()
        absent = drift.absent_interfaces(generation)
        if absent:
            return LOOK  # whatever else is wrong: the kernel tells when it comes
        if state != "active":
            return self._repair("start", [])
        whole = told or self.compared is None or now - self.compared >= WHOLE
        before = spent()
        faults = drift.differences(generation) if whole else drift.untold_differences(generation)
        if faults:
            self.compared = None
            return self._repair("reload", faults)
        if self.tries and now - self.repaired >= HOLDS:
            self.tries = 0
            self._record(in_a_row=0)
        if whole:
            self.compared = now
            self.rest = time.monotonic() + (spent() - before) * SHARE
        return LOOK

    def _repair(self, action, faults):
        """Reloads or starts the unit, unless that was to no avail a moment ago; returns the seconds until the next look."""
        left = self.repaired + PAUSES[min(self.tries, len(PAUSES) - 1)] - time.monotonic()
        if self.tries and left > 0:
            return left
        commands.systemctl("reset-failed", self.unit)
        good = commands.systemctl(action, self.unit)
        self.repaired, self.tries = time.monotonic(), self.tries + 1
        why = "; ".join(faults) or "every interface is there"
        report("%s: %s%s" % (action, why, "" if good else ": to no avail"))
        before = repairs(self.instance)
        self._record(repairs=before["repairs"] + good, failures=before["failures"] + (not good), in_a_row=self.tries, last=why, time=int(time.time()))
        times = self._times(why, good)
        if times & (times - 1) == 0:  # 1, 2, 4, 8: what goes on for months leaves the rest of the trail there
            self.trail.add("repair", applied=action, drift=faults, result="good" if good else "failed", in_a_row=self.tries, times=times)
        return BUSY

    def _times(self, why, good):
        """How often it was so, without a day in between, this time included."""
        now = time.monotonic()
        self.seen = {key: (times, when) for key, (times, when) in self.seen.items() if now - when < DAY}
        times = self.seen.get((why, good), (0, now))[0] + 1
        self.seen[why, good] = times, now
        return times

    def _record(self, **changes):
        """Writes down what map_info and the metrics tell."""
        self.instance.repairs.parent.mkdir(parents=True, exist_ok=True)
        paths.write(self.instance.repairs, json.dumps({**repairs(self.instance), **changes, "format": paths.FORMAT}))


def spent():
    """The processor's seconds that this process and those that it has waited for have had. Not the clock's: a busy machine is no reason to rest."""
    return sum(os.times()[:4])


def repairs(instance):
    """What was repaired since the boot: {"repairs", "failures", "in_a_row", "last" (text), "time" (of the last, seconds since 1970, or None)}."""
    found = {"repairs": 0, "failures": 0, "in_a_row": 0, "last": "", "time": None}
    found.update(paths.read_record(instance.repairs) or {})
    return found


def keep(instance, directory):
    """Keeps an instance until it is gone. directory: of the generation that this copy of the program lies in."""
    keeper, events, told = Keeper(instance), None, True
    while instance.current.exists():
        current = instance.current.resolve()
        if current != directory:
            go_on_as(current, "keeper", "keep")
            return 0  # a generation of before there was a keeper
        if events is None or events.are_stale():
            if events:
                events.close()
            events, told = Events(["main"] + Generation(current).settings["namespaces"]), True
        try:
            pause = keeper.look(told)
        except StepError as exc:
            report(exc)
            pause = LOOK
        told = events.wait(pause)
    return 0
