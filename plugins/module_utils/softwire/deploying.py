# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment: a router goes from the generation that runs to the one that is wanted, or stays what it was.

Who wants it is the controller, by the module deploy, or a program on the router itself. Whoever it is brings the files, calls run(), looks
whether what runs then is good, and calls confirm(); without that the router returns by itself to what ran before.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import alternatives, audit, commands, drift, generations, health, instances, metrics_timer, paths, rollback, units
from .commands import StepError
from .files import reload_suffices
from .runner import Generation

PATIENCE = 300  # seconds to wait for another deployment on the same router, beyond the time that its confirmation has


class DeploymentError(Exception):
    """Why a deployment has failed; the text is for a person.

    fields: what else is known of it, a dict. "now": what runs, once something may have changed; "faults": what the router has against
    it, texts; "diff": what would have changed.
    """

    def __init__(self, message, fields):
        super().__init__(message)
        self.fields = fields


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a router."""

    instance: str  # its name
    state: str  # present, absent or rollback
    confirm_timeout: int  # seconds
    health_target: str  # IPv4 address or name of a host that answers, or ""
    keep_generations: int
    install_packages: bool  # whether whoever wants this installs packages that are missing
    metrics_directory: str | None  # where metrics are written to, or None: nowhere
    generation: str = ""  # to return to with state rollback; "": the one before the one that runs
    by: dict = field(default_factory=dict)  # who wants it, audit.who()
    # With state present: generations in order of preference, (name, {path: bytes}) each, and {name: bytes} of the units.
    alternatives: list = field(default_factory=list)
    units: dict = field(default_factory=dict)


class Deployment:
    """One deployment of an instance."""

    def __init__(self, wanted, warn, check=False):
        """wanted: a Wanted. warn: takes a text for a person. check: whether run() changes nothing, and returns what would change."""
        self.wanted, self.warn, self.check = wanted, warn, check
        self.instance = generations.Instance(wanted.instance)
        self.trail = audit.Trail(self.instance, wanted.by, warn)
        self.transaction = rollback.Transaction(self.instance, self.trail)
        self.units = units.Units(self.instance)
        self.metrics = metrics_timer.Metrics(self.instance)
        self.base = None  # the generation that a change starts from
        self.returns = None  # in check mode: the record of the deployment that a real run would first roll back
        self.diff = []

    def run(self):
        """Does what is wanted, once no earlier deployment waits for its confirmation. Raises DeploymentError.

        Returns a dict with "changed", "diff" (as Ansible shows it) and, unless state is absent, "generation" and "applied" (start, reload,
        restart or nothing). With state present "alternative" (its name), "drift" (what was changed before, texts), or "missing_packages", and then
        nothing was done. Once something changed "previous" (a generation or ""), "unconfirmed" (whether confirm() is waited for) and,
        where something was applied, "works" (texts).
        """
        return self._ended(self._run)

    def confirm(self, generation):
        """Keeps a generation that waits for that, and removes the oldest ones; returns the result, a dict. Raises DeploymentError."""
        return self._ended(self._confirm, generation)

    def _ended(self, action, *arguments):
        """The result of an action; whatever the router has against it is a DeploymentError."""
        try:
            return action(*arguments)
        except (OSError, StepError, ValueError) as exc:
            raise self._failure("%s" % exc) from exc

    def _failure(self, message, told=False, **fields):
        """The error that a deployment ends with. told: whether the audit trail has a line already that says how it ended."""
        if not (told or self.check):
            self.trail.add("failure", detail=message)
        return DeploymentError("instance %s: %s" % (self.instance.name, message), fields)

    # what there is

    def _is_up(self):
        """Whether the generation that is meant to run is the one that does, as a whole."""
        if self.returns:
            return self.returns["active"]
        return self.units.active() and self.instance.applied_name() == self.base

    def _drifted(self):
        """What somebody has changed of the generation that is up, texts for a person, which become part of the difference, too."""
        found = drift.differences(Generation(self.instance.current)) if self._is_up() and not self.returns else []
        if found:
            self.diff.append({"before_header": "the router", "after_header": "generation %s" % self.base,
                              "before": "".join(text + "\n" for text in found), "after": ""})
        return found

    def _base_files(self):
        return self.instance.files(self.base) if self.base else {}

    # one deployment after the other

    def _run(self):
        state = {"present": self._present, "absent": self._absent, "rollback": self._rollback}[self.wanted.state]
        if self.check:
            self.base = self._foreseen()
            return state()
        deadline, waiting = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            with rollback.locked(PATIENCE):
                waiting = self._waiting()
                if waiting is None:
                    self.base = self.instance.running()
                    return state()
            deadline = max(deadline, waiting["deadline"] + PATIENCE)
            time.sleep(rollback.POLL)
        raise self._failure("nothing was changed: generation %s waits for its confirmation, and is not rolled back in time; journalctl -u %s says why" % (
            waiting["generation"], self.transaction.watcher))

    def _waiting(self):
        """The record of an earlier deployment that waits for its confirmation, or None; one that nobody watches over is rolled back."""
        record = self.transaction.record()
        if record is None or self.transaction.is_watched():
            return record
        if "lost" in record:
            self.warn(record["lost"])
        self._roll_back("abandoned")
        return None

    def _foreseen(self):
        """The generation that a real run would start from, once it has waited for an earlier deployment, or rolled that back: a warning says it."""
        record = self.transaction.record()
        if record is None:
            return self.instance.running()
        if self.transaction.is_watched():
            self.warn("instance %s: generation %s waits for its confirmation; a real run waits for that, and what it would change "
                      "then is what this one shows" % (self.instance.name, record["generation"]))
            return self.instance.running()
        self.warn("instance %s: generation %s was not confirmed, and nobody watches over it; a real run first returns to %s" % (
            self.instance.name, record["generation"], record["previous"] or "nothing"))
        self.returns = record
        return record["previous"]

    # present

    def _present(self):
        if not paths.SYSTEMD.is_dir():
            raise self._failure("systemd is not running on this machine; it is needed to bring the softwire up at boot")
        wanted, directory = self.wanted, self.wanted.metrics_directory
        alternative, files, packages, faults = alternatives.choose(self.instance, wanted.alternatives, wanted.install_packages, directory)
        self._refuse(faults)
        before, units_before = self._base_files(), units.installed()
        self.diff = generations.differences(before, files, self.instance.current)
        self.diff += generations.differences(units_before, wanted.units, paths.UNITS) + self.metrics.difference(directory)
        new_files, new_metrics = before != files, not self.metrics.go_to(directory)
        new_units = units_before != wanted.units or self.units.stale()
        drifted = self._drifted() if not new_files else []
        changed = new_files or new_units or new_metrics or bool(drifted) or not (self.units.enabled() and self._is_up() and self.units.kept())
        name = self.instance.next_name(files) if new_files else self.base
        result = {"changed": changed, "generation": name, "alternative": alternative,
                  "applied": "nothing", "drift": drifted, "diff": self.diff}
        if packages:
            return dict(result, missing_packages=packages)
        if self.check or not changed:
            if new_files:
                self._try(files, name)
            return result
        if new_files:
            self.instance.finish(self._staged(files, name), name)
        if new_units:
            units.write(wanted.units)
        self._exchange(name, before, files, result, drifted)
        if new_metrics:
            try:
                self.metrics.switch(directory)
            except OSError as exc:
                raise self._fall_back("write metrics", "%s" % exc) from exc
        return result

    def _refuse(self, faults):
        if faults:
            raise self._failure("nothing was changed: " + "; ".join(faults), faults=faults)

    def _try(self, files, name):
        """Validates in a directory that goes again: check mode leaves nothing behind."""
        with tempfile.TemporaryDirectory(prefix="softwire-") as directory:
            self._validate(generations.Instance(self.instance.name, Path(directory)).stage(files, name))

    def _staged(self, files, name):
        try:
            staging = self.instance.stage(files, name)
        except OSError as exc:
            raise self._failure("cannot write the new generation, the old one keeps running: %s" % exc) from exc
        self._validate(staging)
        return staging

    def _validate(self, staging):
        """Lets the tools read what they can read without applying it."""
        for path in sorted(staging.rglob("*.nft")):
            done = commands.finished(["nft", "-c", "-f", str(path)])
            if done.returncode:
                self.instance.discard(staging)
                raise self._failure("nft refuses %s, nothing was changed: %s" % (path.relative_to(staging), (done.stderr or done.stdout).strip()))

    # present and rollback

    def _exchange(self, name, before, files, result, drifted=()):
        """Switches to a generation, and returns to the one before when that fails. drifted: what it repairs."""
        previous, was_active = self.instance.running(), self.units.active()
        how = "start"
        if was_active:
            right = previous == name and self._is_up() and not drifted
            how = "nothing" if right else "reload" if reload_suffices(before, files) else "restart"
        result.update(applied=how, previous=previous or "", unconfirmed=how != "nothing")
        self.trail.add("deploy", state=self.wanted.state, applied=how, drift=list(drifted), **{"from": previous, "to": name})
        if how != "nothing":
            target = self.wanted.health_target
            worked = health.working(self.instance, target) if was_active else set()
            try:
                self.transaction.begin(name, previous, was_active, self.wanted.confirm_timeout)
                self.transaction.switch(name)
                if not self.units.apply(how):
                    raise self._fall_back(how, units.journal(self.units.unit))
                faults = drift.missing(Generation(self.instance.current))
                if self.instance.applied_name() != name:
                    faults.append("generation %s is not up as a whole" % name)
                if faults:
                    raise self._fall_back(how, "; ".join(faults))
                lost = ["%s worked before, and does not now" % what for what in health.lost(worked, self.instance, target)]
                if lost:
                    raise self._fall_back(how, "; ".join(lost), "unhealthy")
                result["works"] = sorted(worked or health.working(self.instance, target))
                self.transaction.extend(self.wanted.confirm_timeout)
            except rollback.UnwatchedError as exc:
                raise self._failure("nothing was switched: %s: %s" % (exc, units.journal(self.transaction.watcher))) from exc
            except (OSError, ValueError, StepError) as exc:
                raise self._fall_back(how, "%s" % exc) from exc
        self.units.keep()
        fault = self.units.enable()
        if fault:
            raise self._fall_back("start at the next boot", fault)

    def _fall_back(self, how, detail, reason="failed"):
        """Rolls back where that is due; the error that says what runs now. reason: one of audit.REASONS."""
        switched = bool(self.transaction.record())
        now = self._roll_back(reason, detail) if switched else "the running configuration was not touched"
        return self._failure("the new generation does not %s; %s: %s" % (how, now, detail), told=switched, now=now, diff=self.diff)

    def _roll_back(self, reason, detail=""):
        try:
            return self.transaction.roll_back(reason, detail)
        except rollback.RollbackError as exc:
            return "%s" % exc

    def _confirm(self, generation):
        with rollback.locked(PATIENCE):
            if not self.transaction.confirm(generation):
                now = self.instance.running()
                raise self._failure("generation %s is not waiting for a confirmation; %s runs" % (generation, now or "nothing"),
                                    told=True, now="generation %s runs" % now if now else "nothing runs")
            self.instance.prune(self.wanted.keep_generations, self.transaction.confirmed())
            return {"changed": False, "generation": generation}

    # rollback

    def _rollback(self):
        running, known = self.base, self.instance.names()
        older = [name for name in known if running and known.index(name) < known.index(running)]
        name = self.wanted.generation or (older[-1] if older else None)
        if name not in known:
            raise self._failure("there is no generation %s to return to, nothing was changed; there are: %s" % (
                name or "before the running one", ", ".join(known) or "none"))
        before, files = self._base_files(), self.instance.files(name)
        self._refuse(instances.conflicts(files, generations.others(self.instance)))
        changed = name != running or not self._is_up()
        self.diff = generations.differences(before, files, self.instance.current)
        result = {"changed": changed, "generation": name, "applied": "nothing", "diff": self.diff}
        if changed and not self.check:
            self._exchange(name, before, files, result)
        return result

    # absent

    def _absent(self):
        exists, there = self.instance.directory.exists(), units.installed()
        last = [] if set(paths.instances()) - {self.instance.name} else list(there)
        changed = bool(exists or last or self.units.enabled())
        self.diff = generations.differences(self._base_files(), {}, self.instance.current) + self.metrics.difference(None)
        if changed and not self.check:
            fault = self.units.disable() if there else None
            if fault is not None:
                raise self._failure("cannot be stopped, nothing was removed: %s" % fault)
            self.metrics.switch(None)
            if exists:
                self.instance.remove()
            if self.instance.repairs.exists():
                self.instance.repairs.unlink()
            units.remove(last)
            self._remove_empty()
            self.trail.add("remove", **{"from": self.base})
        return {"changed": changed, "diff": self.diff}

    def _remove_empty(self):
        """Removes the directories in which nothing is left; one that cannot go, such as a mount point, stays, which does no harm."""
        for directory in (self.instance.bpf, self.instance.run_dir, paths.RUN, paths.CONFIGURATION):
            with contextlib.suppress(OSError):
                if not any(directory.iterdir()):
                    directory.rmdir()
                    paths.sync(directory.parent)
