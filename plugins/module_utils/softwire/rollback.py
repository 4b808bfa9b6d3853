# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollback of a deployment that nobody confirmed.

Before a deployment switches generations, it writes a record of how things were and starts a service that waits. A second
call over a fresh connection confirms; without it the service rolls back to the generation before. After a power cut
the start of the unit does: what was not confirmed before a reboot is not confirmed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time

from . import audit, commands, paths

POLL = 0.5  # seconds
PYTHON = ["/usr/bin/python3", "-B"]
# The service writes below /etc/softwire and to the audit trail, where there is one, and talks to systemd, no more.
CONFINED = """
    ProtectSystem=strict ReadWritePaths=/etc/softwire ReadWritePaths=-/var/log/softwire ProtectHome=yes PrivateTmp=yes PrivateDevices=yes PrivateNetwork=yes
    ProtectKernelTunables=yes ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectClock=yes
    CapabilityBoundingSet= NoNewPrivileges=yes RestrictAddressFamilies=AF_UNIX RestrictNamespaces=yes RestrictRealtime=yes
    RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes SystemCallArchitectures=native UMask=0022
""".split()


class RollbackError(commands.StepError):
    """The generation before does not start again; the text is for a person."""


class UnwatchedError(commands.StepError):
    """The service that rolls back does not start; the text is for a person."""


@contextlib.contextmanager
def locked(patience=None):
    """Keeps other deployments and their rollbacks out; raises TimeoutError after `patience` seconds (None: never)."""
    # One deployment at a time: they share the unit's file. A directory that is always there leaves no trace of a lock.
    handle = os.open(str(paths.UNITS), os.O_RDONLY)
    try:
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError("another deployment is at work on this router") from None
                time.sleep(POLL)
        yield
    finally:
        os.close(handle)


def start_service(unit, program, arguments, directory):
    """Starts a program of Python in a directory as a service of its own, which outlives us; raises OSError or StepError.

    program: its module. arguments: those by which Python runs it.
    """
    # systemd-run does not wait so long that it would notice.
    commands.run(PYTHON + ["-c", "import " + program], cwd=str(directory))
    # exec: it fails where Python cannot be run, confined as it is.
    settings = ["Type=exec", "Restart=on-failure", "WorkingDirectory=%s" % directory] + CONFINED
    properties = ["--property=" + setting for setting in settings]
    done = commands.finished(["systemd-run", "--quiet", "--collect", "--unit=" + unit] + properties + PYTHON + arguments)
    if done.returncode:
        raise OSError("systemd-run %s: %s" % (unit, done.stderr.strip()))


def is_at_work():
    """Tells whether a deployment, a rollback or the keeper is at work on this router."""
    try:
        with locked(0):
            return False
    except OSError:
        return True


class Transaction:
    """A switch of one instance from a generation to another, until it is confirmed or rolled back."""

    def __init__(self, instance, trail=None):
        """instance: its paths.Paths. trail: its audit.Trail, by default one that does not say who."""
        self.instance = instance
        self.trail = trail or audit.Trail(instance)
        self.unit = "softwire@%s.service" % instance.name
        self.watcher = "softwire-rollback-%s.service" % instance.name

    def record(self):
        """{"generation", "previous" (or None), "active", "deadline" (of the monotonic clock)}, or None. Raises paths.FormatError.

        Where what was written is lost, "lost" is a text for a person, and the deadline is over.
        """
        record = paths.read_record(self.instance.unconfirmed)
        if record is None or {"generation", "previous", "active", "deadline"} <= set(record):
            return record
        good = [name for name in self.confirmed() if (self.instance.generations / name).is_dir()]
        previous = good[-1] if good else None
        lost = "%s: is empty or torn; the last confirmed generation counts as the one before, %s" % (self.instance.unconfirmed, previous or "none")
        return {"generation": self.instance.running(), "previous": previous, "active": True, "deadline": 0.0, "lost": lost}

    def begin(self, generation, previous, active, timeout):
        """Writes the record, and starts the service that rolls back without a confirmation.

        active: whether the unit runs. timeout: seconds. Raises OSError or UnwatchedError; nothing waits then.
        """
        self._write({"generation": generation, "previous": previous, "active": active, "deadline": time.monotonic() + timeout})
        commands.systemctl("stop", "--quiet", self.watcher)
        # Not a timer: the service reads the deadline again, which moves while a slow switch goes on.
        directory = self.instance.generations / generation
        try:
            start_service(self.watcher, *self._watch(directory), directory=directory)
            if not self.is_watched():
                raise OSError("%s has ended at once" % self.watcher)
        except (OSError, commands.StepError) as exc:
            commands.systemctl("stop", "--quiet", self.watcher)
            self.end()
            raise UnwatchedError("nobody would watch over generation %s: %s" % (generation, exc)) from exc

    def _watch(self, directory):
        """The module of the program in a generation's directory that watches, and the arguments by which Python runs it."""
        if (directory / "softwire_rollback.py").exists():  # a generation of before the program was a package
            return "softwire_rollback", ["softwire_rollback.py", "watch", str(self.instance.directory)]
        return "softwire.__main__", ["-m", "softwire", "watch"]

    def extend(self, timeout):
        """Lets the time for the confirmation begin now."""
        self._write(dict(self.record(), deadline=time.monotonic() + timeout))

    def is_watched(self):
        """Tells whether the service is there that rolls back what is not confirmed."""
        return commands.systemctl("is-active", "--quiet", self.watcher)

    def confirm(self, generation):
        """Keeps a generation; returns False where it is not waiting for that (any more)."""
        record = self.record()
        if record is None or record["generation"] != generation:
            return False
        kept = [name for name in self.confirmed() if name != generation and (self.instance.generations / name).exists()]
        paths.write(self.instance.confirmed, "".join(name + "\n" for name in kept + [generation]))
        self.end()
        self.trail.add("confirm", to=generation)
        return True

    def confirmed(self):
        """The names of the generations that somebody has confirmed; to another one nobody wants to return."""
        path = self.instance.confirmed
        return path.read_text(errors="replace").split() if path.exists() else []

    def end(self):
        """Nothing waits for a confirmation any more; the service sees that by itself, too."""
        paths.drop(self.instance.unconfirmed)

    def roll_back(self, reason, detail=""):
        """Returns to how things were, and says what is now, for a person. The caller holds the lock.

        reason: one of audit.REASONS. detail: a text. Raises RollbackError where the generation before does not start.
        """
        record = self.record()
        try:
            now = self._return(record)
        except RollbackError:
            self.tell(record, reason, detail, "failed")
            raise
        self.end()
        self.tell(record, reason, detail, "good")
        return now

    def tell(self, record, reason, detail, result):
        """Leaves a line in the audit trail; a rollback that is tried again and again leaves one."""
        detail = record.get("lost", detail)
        line = {"event": "rollback", "from": record["generation"], "to": record["previous"], "reason": reason, "detail": detail, "result": result}
        if result == "good" or not self.trail.ends_with(line):
            self.trail.add(**line)

    def _return(self, record):
        """Does what roll_back() says."""
        previous = record["previous"]
        if previous is None:
            # The unit stops by the program that "current" leads to, so the link goes last.
            commands.systemctl("disable", "--quiet", "--now", self.unit)
        self.switch(previous)
        if previous is None:
            now = "nothing runs, as before"
        elif not record["active"]:
            commands.systemctl("stop", self.unit)
            now = "generation %s is stopped, as before" % previous
        else:
            commands.systemctl("reset-failed", self.unit)
            # A reload restarts by itself where it does not suffice. A start that is under way counts for systemd, but is another one's.
            reloaded = commands.systemctl("reload-or-restart", self.unit) and self.instance.applied_name() == previous
            if not reloaded and not commands.systemctl("restart", self.unit):
                raise RollbackError("generation %s does not start again either" % previous)
            now = "generation %s runs again" % previous
        return now

    def switch(self, generation):
        """Lets "current" point at a generation, in one atomic step that a power cut does not undo; None takes the link away."""
        current = self.instance.current
        link = current.with_name(".current")
        with contextlib.suppress(FileNotFoundError):
            paths.drop(current if generation is None else link)
        if generation is not None:
            link.symlink_to(os.path.join("generations", generation))
            paths.move(link, current)

    def _write(self, record):
        paths.write(self.instance.unconfirmed, json.dumps(dict(record, format=paths.FORMAT)))


def watch(transaction):
    """Waits for the confirmation, and rolls back what does not get it in time."""
    while True:
        with locked():
            record = transaction.record()
            if record is None:
                return 0
            left = record["deadline"] - time.monotonic()
            if left <= 0:
                sys.stderr.write("%s\n" % record.get("lost", "generation %s was not confirmed in time" % record["generation"]))
                sys.stderr.write("%s\n" % transaction.roll_back("unconfirmed"))
                return 0
        time.sleep(min(left, POLL))


def boot(transaction):
    """Before the unit starts: a power cut in the middle of a deployment ends in the generation before."""
    record = transaction.record()
    # Not by the kernel's boot_id: a container that starts again has the same one. The service lives no longer than a boot.
    if record is not None and not transaction.is_watched():
        sys.stderr.write("%s\n" % record.get("lost", "generation %s was not confirmed before the reboot: back to %s" % (
            record["generation"], record["previous"] or "nothing")))
        transaction.switch(record["previous"])
        transaction.end()
        transaction.tell(record, "reboot", "", "good")
    return 0
