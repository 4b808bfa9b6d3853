# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an instance keeps its files on a router, and the one way to write them.

A record and a journal outlive the program that wrote them: both say their format, a number that grows when an older
program would read them wrongly. One that says none was written before there were formats, and is read as well. One that
a power cut has torn, or emptied, says nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

# Tests put other directories here; nothing else names them.
CONFIGURATION = Path("/etc/softwire")  # outlives a boot
RUN = Path("/run/softwire")  # as long as what is up
LOGS = Path("/var/log/softwire")  # outlives an instance, too
LINE = Path("/run/softwire-line")  # what the watchers of lines write, who may write nothing else
PROVIDER = Path("/run/softwire-provider")  # what the clients of providers' servers write
PROVIDER_KEPT = Path("/var/lib/softwire-provider")  # what of it outlives a boot
LINE_FILES = (Path("/etc/softwire-line.d"), Path("/run/softwire-line.d"))  # what others tell them; the later ones count more
UNITS = Path("/etc/systemd/system")
SYSTEMD = Path("/run/systemd/system")  # there where systemd runs
# Volatile, as the journal: at a boot nothing of ours is up before our own rules are.
NETWORKD = Path("/run/systemd/network")

FORMAT = 1


class FormatError(ValueError):
    """A file is not what this program can read, or of a later format than it knows; the text is for a person."""


class Paths:
    """The places of one instance."""

    def __init__(self, name, root=None):
        """root: the directory of the instances, /etc/softwire by default."""
        self.name = name
        self.directory = (CONFIGURATION if root is None else root) / name
        self.generations = self.directory / "generations"
        self.current = self.directory / "current"  # a link to the generation that is meant to be up
        self.unconfirmed = self.directory / "unconfirmed"  # the record of a deployment that waits for its confirmation
        self.confirmed = self.directory / "confirmed"  # the names of the generations that somebody confirmed
        self.metrics = self.directory / "metrics"  # a link to the directory that node exporter reads
        self.trail, self.older_trail = (LOGS / (name + ending) for ending in (".jsonl", ".jsonl.1"))  # what was done, audit.py
        self.run_dir = RUN / name
        self.journal = self.run_dir / "journal"  # how to undo each step that was done
        self.applied = self.run_dir / "applied"  # there while a generation is up as a whole: its directory
        self.loaded = self.run_dir / "loaded"  # the digests of what was loaded
        self.repairs = self.run_dir / "repairs"  # how often something was put right since the boot, and what
        self.line = LINE / name / "line.json"  # what is known of the line
        self.provider = PROVIDER / name / "provider.json"  # what its provider's server says
        self.provider_kept = PROVIDER_KEPT / name / "answer.json"  # its last good answer
        # Not /sys/fs/bpf: "ip netns exec" mounts another /sys over it.
        self.bpf = self.run_dir / "bpf"

    def running(self):
        """The name of the generation that "current" points at, or None."""
        return os.path.basename(os.readlink(str(self.current))) if self.current.is_symlink() else None

    def applied_directory(self):
        """The directory of the generation that is up as a whole, or None where nothing is known to be."""
        directory = Path(self.applied.read_text(errors="replace") if self.applied.exists() else "")
        return directory if directory.parent.name == self.generations.name else None  # the first part of a path leads elsewhere

    def applied_name(self):
        """The name of the generation that is up as a whole, or None."""
        directory = self.applied_directory()
        return directory.name if directory else None


def instances():
    """{name: Paths} of the instances that are deployed on this router."""
    return {path.parent.name: Paths(path.parent.name) for path in CONFIGURATION.glob("*/current")}


def check_format(path, number):
    """Raises FormatError where the format of a file is later than this program knows."""
    if number > FORMAT:
        raise FormatError("%s: format %d, written by a later version of softwire.map; this one reads formats up to %d, "
                          "so use that version" % (path, number, FORMAT))


def read_record(path):
    """The dict in a file of JSON, without its format; None where there is no file, {} where it is empty or torn. Raises FormatError."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    check_format(path, found.pop("format", 0))
    return found


def write(path, text):
    """Writes a file of which a reader, also after a power cut, sees the old text or the new one."""
    # Hidden, and without the ending *.prom, by which node exporter finds its files.
    partial = path.with_name(".%s.new" % path.name)
    with partial.open("w") as stream:
        os.fchmod(stream.fileno(), 0o644)  # readers are other users, too, and a unit's umask may forbid them
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    move(partial, path)


def move(old, new):
    """Gives a file, a link or a directory another name, also after a power cut; raises OSError."""
    os.rename(str(old), str(new))
    sync(new.parent)


def drop(path):
    """Takes a file or a link away, also after a power cut; raises OSError."""
    path.unlink()
    sync(path.parent)


def sync_units():
    """Lets what systemd was told to enable or disable outlast a power cut; raises OSError."""
    for directory in [UNITS, *UNITS.glob("*.wants")]:
        sync(directory)


def sync(directory):
    """Lets the names in a directory outlast a power cut; raises OSError."""
    handle = os.open(str(directory), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
