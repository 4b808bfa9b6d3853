# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance on a router writes metrics, and where: a link beside its generations, and a timer."""

from __future__ import annotations

import os
from pathlib import Path

from . import commands, generations, paths


class Metrics:
    """The metrics of one instance. No part of a generation: to switch them touches no packet and needs no rollback."""

    def __init__(self, instance):
        """instance: its paths.Paths."""
        self.link = instance.metrics  # what softwire-metrics@.service may write to
        self.file = "softwire-%s.prom" % instance.name
        self.service, self.timer = ("softwire-metrics@%s.%s" % (instance.name, kind) for kind in ("service", "timer"))
        self.wants = paths.UNITS / "timers.target.wants" / self.timer

    def directory(self):
        """The directory that they are written to, or None."""
        return os.readlink(str(self.link)) if self.link.is_symlink() else None

    def go_to(self, directory):
        """Tells whether they are written to this directory (None: to none) already."""
        if self.directory() != directory:
            return False
        return directory is None or (self.wants.is_symlink() and commands.systemctl("is-active", "--quiet", self.timer))

    def difference(self, directory):
        """Ansible's diff of a switch to this directory."""
        before, after = ({} if value is None else {self.link.name: b"%s\n" % value.encode()} for value in (self.directory(), directory))
        return generations.differences(before, after, self.link.parent)

    def switch(self, directory):
        """Lets them be written to this directory from now on, or ends them with None, and removes what they left.

        Raises OSError where they cannot be written; then there are none.
        """
        before = self.directory()
        if before is not None:
            commands.systemctl("disable", "--quiet", "--now", self.timer)
            paths.sync_units()
            commands.systemctl("stop", "--quiet", self.service)
            commands.systemctl("reset-failed", "--quiet", self.service)
            for pattern in (self.file + "*", "." + self.file + "*"):  # a killed run leaves an unfinished one
                for path in Path(before).glob(pattern):
                    paths.drop(path)
            paths.drop(self.link)
        if directory is not None:
            self.link.symlink_to(directory)
            paths.sync(self.link.parent)
            for words in (["start", self.service], ["enable", "--quiet", "--now", self.timer]):
                if not commands.systemctl(*words):
                    self.switch(None)
                    raise OSError("%s does not start, journalctl -u %s says why" % (words[-1], words[-1]))
            paths.sync_units()
