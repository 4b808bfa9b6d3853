# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations of an instance on a router's disk: /etc/softwire/<instance>/generations/<number>-<digest>/."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil

from . import paths
from .files import read


def decoded(files):
    """{path: bytes} of {path: {"text": str} or {"base64": str}}."""
    return {
        path: base64.b64decode(content["base64"]) if "base64" in content else content["text"].encode()
        for path, content in files.items()
    }


def encoded(files):
    """The inverse of decoded(), from {path: str or bytes}: bytes travel as base64."""
    return {
        path: {"text": content} if isinstance(content, str) else {"base64": base64.b64encode(content).decode()}
        for path, content in files.items()
    }


def digest(files):
    """A short name for a set of files; equal files have equal names."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(b"%s\0%d\0" % (path.encode(), len(files[path])))
        total.update(files[path])
    return binascii.hexlify(total.digest()[:5]).decode()


def differences(before, after, directory):
    """Ansible's diff of two sets of files, one entry per file that differs."""
    result = []
    for path in sorted(set(before) | set(after)):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        header = str(directory / path)
        result.append({
            "before": shown(path, old), "after": shown(path, new),
            "before_header": header if old is not None else "/dev/null",
            "after_header": header if new is not None else "/dev/null",
        })
    return result


def shown(path, content):
    """What a diff shows of a file: programs, the same on every router, by their checksum only."""
    if content is None:
        return ""
    if path.endswith((".py", ".o")):
        return "sha256 %s\n" % hashlib.sha256(content).hexdigest()
    return content.decode(errors="replace")


def others(instance):
    """{name: files of its generation} of the other instances on the router of an instance."""
    return {name: Instance(name).files() for name in paths.instances() if name != instance.name}


def number_of(path):
    return int(path.name.split("-")[0])


class Instance(paths.Paths):
    """The generations of one instance."""

    def files(self, name=None):
        """The files of a generation, by default of the running one; {} where there is none."""
        name = name or self.running()
        return read(self.generations / name) if name else {}

    def names(self):
        """The names of all finished generations, the oldest first."""
        return [path.name for path in sorted(self._finished(), key=number_of)]

    def next_name(self, files):
        return "%04d-%s" % (max(map(number_of, self._finished()), default=0) + 1, digest(files))

    def stage(self, files, name):
        """Writes the files beside the generations and returns the directory; a reader never sees it half-written."""
        staging = self.generations / (".staging-" + name)
        self._clear_staging()
        self.generations.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            target.chmod(0o644)
        made = [self.directory, self.generations, staging] + [path for path in staging.rglob("*") if path.is_dir()]
        for directory in made:
            directory.chmod(0o755)
        for directory in [self.directory.parent.parent, self.directory.parent] + made:  # the first deployment makes all of them
            paths.sync(directory)
        return staging

    def discard(self, staging):
        shutil.rmtree(str(staging), ignore_errors=True)

    def finish(self, staging, name):
        paths.move(staging, self.generations / name)

    def prune(self, keep, confirmed):
        """Removes the generations that nobody confirmed, and the oldest ones beyond a number; never the running one."""
        good = [name for name in self.names() if name in confirmed]
        for name in self.names():
            if name not in good[-keep:] and name != self.running():
                self._remove(name)

    def remove(self):
        """Removes all that is left of the instance, what "current" leads to after the link itself."""
        if self.current.is_symlink():
            paths.drop(self.current)
        for name in self.names():
            self._remove(name)
        shutil.rmtree(str(self.directory))
        paths.sync(self.directory.parent)

    def _remove(self, name):
        """Removes a generation; a power cut in the middle leaves none that is there in part, but what the next stage() clears."""
        gone = self.generations / (".staging-" + name)
        paths.move(self.generations / name, gone)
        shutil.rmtree(str(gone))

    def _finished(self):
        # By our own form of a name: people leave copies beside them.
        return [path for path in self.generations.glob("*-*") if re.match("[0-9]{4,}-[0-9a-f]+$", path.name)]

    def _clear_staging(self):
        for path in self.generations.glob(".staging-*"):
            shutil.rmtree(str(path))
