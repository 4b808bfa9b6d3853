# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of an instance: what systemd says of them, and what a deployment has it do."""

from __future__ import annotations

from . import commands, paths, rollback

# Of all instances, which share their files.
NAMES = ("softwire@.service", "softwire-keep@.service", "softwire-line@.service", "softwire-provider@.service", "softwire-metrics@.service",
         "softwire-metrics@.timer")


def installed():
    """{name: bytes} of the files that are there."""
    return {name: (paths.UNITS / name).read_bytes() for name in NAMES if (paths.UNITS / name).exists()}


def write(units):
    """Writes files ({name: bytes}), and lets systemd read them. Raises OSError."""
    for name, content in units.items():
        paths.write(paths.UNITS / name, content.decode())
    _systemctl("daemon-reload")


def remove(names):
    """Removes files, and lets systemd forget them. Raises OSError."""
    for name in names:
        paths.drop(paths.UNITS / name)
    if names:
        _systemctl("daemon-reload")


def journal(unit):
    """What the runner said in a unit when it failed last; else all that journalctl says."""
    done = commands.finished(["journalctl", "-u", unit, "-n", "20", "-o", "cat", "--no-pager"])
    said = [line for line in done.stdout.splitlines() if line.startswith("softwire: ")]
    return said[-1] if said else (done.stdout or done.stderr).strip()


class Units:
    """The units of one instance."""

    def __init__(self, instance):
        """instance: its paths.Paths."""
        self.unit = rollback.Transaction(instance).unit
        self.keeper = "softwire-keep@%s.service" % instance.name

    def active(self):
        return _systemctl("is-active", "--quiet", self.unit).returncode == 0

    def kept(self):
        """Whether the service is at work that puts right what somebody changes."""
        return _systemctl("is-active", "--quiet", self.keeper).returncode == 0

    def stale(self):
        """Whether systemd has not read the files that are there, since a run was killed between the two."""
        return "yes" in _systemctl("show", "--value", "--property=NeedDaemonReload", self.unit, self.keeper).stdout.split()

    def enabled(self):
        return (paths.UNITS / "multi-user.target.wants" / self.unit).is_symlink()

    def apply(self, how):
        """Lets "current" take effect; returns whether it does. how: start, reload or restart."""
        _systemctl("reset-failed", self.unit)
        # systemd goes on with a restart even when the connection of who asks breaks in the middle of it.
        return _systemctl(how, self.unit).returncode == 0

    def keep(self):
        """Starts the keeper, unless it is at work."""
        if not self.kept():
            _systemctl("start", self.keeper)

    def enable(self):
        """Lets the instance come up at each boot; returns why it would not, a text for a person, or None."""
        done = _systemctl("--quiet", "enable", self.unit)
        if done.returncode or not self.enabled():
            return _said(done) or "systemctl enable has not done it"
        paths.sync_units()
        return None

    def disable(self):
        """Takes the instance down for good; returns why that fails, a text for a person, or None."""
        done = _systemctl("disable", "--now", "--quiet", self.unit)
        if done.returncode:
            return _said(done)
        paths.sync_units()
        return None


def _systemctl(*words):
    # Unlike commands.systemctl() this says nothing by itself: a module's standard error is no place for that.
    return commands.finished(["systemctl"] + list(words))


def _said(done):
    return (done.stderr or done.stdout).strip()
