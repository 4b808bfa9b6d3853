# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of a deployment that nobody confirmed.

Before a deployment switches generations, it writes down how things were and starts a service that waits. A second
call over a fresh connection confirms; without it the service returns to the generation before. After a power cut
the start of the unit does: what was not confirmed before a reboot is not confirmed.

A copy of this file lies in every generation, beside softwire.py; the unit and the service call it.
"""

# Needs no AnsibleModule and its run_command. pylint: disable=ansible-bad-function
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

# One deployment at a time: they share the unit's file. A directory that is always there leaves no trace of a lock.
LOCK = Path("/etc/systemd/system")
POLL = 0.5  # seconds
RUN_DIRECTORY = Path("/run/softwire")
# The service writes below /etc/softwire and talks to systemd, no more.
CONFINED = """
    ProtectSystem=strict ReadWritePaths=/etc/softwire ProtectHome=yes PrivateTmp=yes PrivateDevices=yes PrivateNetwork=yes
    ProtectKernelTunables=yes ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectClock=yes
    CapabilityBoundingSet= NoNewPrivileges=yes RestrictAddressFamilies=AF_UNIX RestrictNamespaces=yes RestrictRealtime=yes
    RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes SystemCallArchitectures=native UMask=0022
""".split()


class NotTakenBack(Exception):
    """The generation before does not start again; the text is for a person."""


@contextlib.contextmanager
def locked(patience=None):
    """Keeps other deployments and their way back out; raises TimeoutError after `patience` seconds (None: never)."""
    handle = os.open(str(LOCK), os.O_RDONLY)
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


def systemctl(*arguments):
    return subprocess.run(["systemctl"] + list(arguments), stdin=subprocess.DEVNULL, check=False).returncode == 0


def start_service(unit, argv, directory):
    """Starts a command in a directory as a service of its own, which outlives us; raises OSError."""
    properties = ["--property=" + setting for setting in ["Restart=on-failure", "WorkingDirectory=%s" % directory] + CONFINED]
    done = subprocess.run(["systemd-run", "--quiet", "--collect", "--unit=" + unit] + properties + argv,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise OSError("systemd-run %s: %s" % (unit, done.stderr.decode(errors="replace").strip()))


class Transaction:
    """A switch of one instance from a generation to another, until it is confirmed or taken back."""

    def __init__(self, directory):
        self.directory = directory  # /etc/softwire/<instance>
        self.unit = "softwire@%s.service" % directory.name
        self.watch = "softwire-rollback-%s.service" % directory.name
        self.path = directory / "unconfirmed"

    def record(self):
        """{"generation", "previous" (or None), "active", "deadline" (of the monotonic clock)}, or None."""
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return None

    def begin(self, generation, previous, active, timeout):
        """Writes down the way back and starts the service that goes it.

        active: whether the unit runs. timeout: seconds.
        """
        self._write({"generation": generation, "previous": previous, "active": active, "deadline": time.monotonic() + timeout})
        systemctl("stop", "--quiet", self.watch)
        # Not a timer: the service reads the deadline again, which moves while a slow switch goes on.
        start_service(self.watch, ["/usr/bin/python3", "-B", "-m", "softwire", "watch"],
                      self.directory / "generations" / generation)

    def extend(self, timeout):
        """Lets the time for the confirmation begin now."""
        self._write(dict(self.record(), deadline=time.monotonic() + timeout))

    def is_watched(self):
        """Whether the service is there that takes back what is not confirmed."""
        return systemctl("is-active", "--quiet", self.watch)

    def applied(self):
        """The name of the generation that is up as a whole, or None; "current" names the one that is meant to be."""
        path = RUN_DIRECTORY / self.directory.name / "applied"
        return os.path.basename(path.read_text()) if path.exists() else None

    def confirm(self, generation):
        """Keeps a generation; returns False where it is not waiting for that (any more)."""
        record = self.record()
        if record is None or record["generation"] != generation:
            return False
        kept = [name for name in self.confirmed() if name != generation and (self.directory / "generations" / name).exists()]
        replace(self.directory / "confirmed", "".join(name + "\n" for name in kept + [generation]))
        self.end()
        return True

    def confirmed(self):
        """The names of the generations that somebody has confirmed; to another one nobody wants to return."""
        path = self.directory / "confirmed"
        return path.read_text().split() if path.exists() else []

    def end(self):
        """Nothing waits for a confirmation any more; the service sees that by itself, too."""
        self.path.unlink()

    def take_back(self):
        """Returns to how things were; raises NotTakenBack where the generation before does not start. Caller holds the lock.

        Returns what is now, for a person.
        """
        record = self.record()
        previous = record["previous"]
        if previous is None:
            # The unit stops by the program that "current" leads to, so the link goes last.
            systemctl("disable", "--quiet", "--now", self.unit)
        self.switch(previous)
        if previous is None:
            now = "nothing runs, as before"
        elif not record["active"]:
            systemctl("stop", self.unit)
            now = "generation %s is stopped, as before" % previous
        else:
            systemctl("reset-failed", self.unit)
            # A reload restarts by itself where it does not suffice. A start that is under way counts for systemd, but is another one's.
            reloaded = systemctl("reload-or-restart", self.unit) and self.applied() == previous
            if not reloaded and not systemctl("restart", self.unit):
                raise NotTakenBack("generation %s does not start again either" % previous)
            now = "generation %s runs again" % previous
        self.end()
        return now

    def switch(self, generation):
        """Lets "current" point at a generation, in one atomic step; None takes the link away."""
        current, link = self.directory / "current", self.directory / ".current"
        with contextlib.suppress(FileNotFoundError):
            (current if generation is None else link).unlink()
        if generation is not None:
            link.symlink_to(os.path.join("generations", generation))
            os.rename(str(link), str(current))

    def _write(self, record):
        replace(self.path, json.dumps(record))


def replace(path, text):
    """Writes a file that a power cut leaves as it was, or as it is to be."""
    partial = path.with_name("." + path.name)
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(str(partial), str(path))


def watch(transaction):
    """Waits for the confirmation, and takes back what does not get it in time."""
    while True:
        with locked():
            record = transaction.record()
            if record is None:
                return 0
            left = record["deadline"] - time.monotonic()
            if left <= 0:
                sys.stderr.write("generation %s was not confirmed in time\n" % record["generation"])
                sys.stderr.write("%s\n" % transaction.take_back())
                return 0
        time.sleep(min(left, POLL))


def start(transaction):
    """Before the unit starts: a power cut in the middle of a deployment ends in the generation before."""
    record = transaction.record()
    # Not by the kernel's boot_id: a container that starts again has the same one. The service lives no longer than a boot.
    if record is not None and not transaction.is_watched():
        sys.stderr.write("generation %s was not confirmed before the reboot: back to %s\n" % (
            record["generation"], record["previous"] or "nothing"))
        transaction.switch(record["previous"])
        transaction.path.unlink()
    return 0
