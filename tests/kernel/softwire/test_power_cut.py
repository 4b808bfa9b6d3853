# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a power cut leaves of a deployment, at every step of it, and what the router makes of that at its next boot.

The files are on an ext4 that by itself writes nothing for minutes. So at any time its image holds what was synced and no more; a copy of
it is the disk after a power cut at that time. systemd is pretended.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest
from lacking import refusal
from namespaces import mount_namespace
from pretended_router import MOVED, UNITS, Router, offered

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, commands, generations, metrics_timer, paths, rollback

SIZE = "16M"  # some generations; its journal takes several of them, so that no lack of room makes it write early
KEPT = ("instance.json", "softwire/rollback.py", "main/ip", "main/guard.nft", "napt/ip", "napt/napt.nft")
STEPS = ("rename", "unlink", "rmdir", "symlink", "fsync")


def small(**changes):
    """What the module is offered, with a few files of each kind, since each is a step."""
    alternative, = offered(**changes)
    kept = {path: content for path, content in alternative["files"].items() if path in KEPT}
    assert set(kept) == set(KEPT)
    return [dict(alternative, files=kept)]


@pytest.fixture
def disk(tmp_path):
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs the packages e2fsprogs")
    refused = refusal("losetup", "--find")
    if refused:
        pytest.skip(f"needs loop devices, which this machine refuses: {refused}")
    with mount_namespace():
        made = Disk(tmp_path)
        try:
            yield made
        finally:
            run("umount", made.root)


def run(*command):
    subprocess.run(list(map(str, command)), check=True)


class Disk:
    def __init__(self, directory):
        self.image, self.copy = directory / "image", directory / "copy"
        self.root, self.after = directory / "disk", directory / "after"
        self.root.mkdir()
        self.after.mkdir()
        run("truncate", "-s", SIZE, self.image)
        run("mkfs.ext4", "-q", "-J", "size=4", self.image)
        run("mount", "-o", "loop,commit=300", self.image, self.root)

    def cut(self, look):
        """Calls a function while what a power cut leaves now is in the directory `after`."""
        shutil.copyfile(self.image, self.copy)
        run("mount", "-o", "loop", self.copy, self.after)  # replays the journal
        try:
            look()
        finally:
            run("umount", self.after)

    def digest(self):
        return hashlib.blake2b(self.image.read_bytes()).digest()


class Story:
    """A router's deployments; at every step of each its power is cut, in a copy of its disk."""

    def __init__(self, disk, monkeypatch):
        self.disk, self.monkeypatch = disk, monkeypatch
        self.router = Router(disk.root)
        self.router.exporter.mkdir()
        self.router.pretend(monkeypatch)
        run("sync", "-f", disk.root)  # the directories of the distribution
        self.files = {}  # of each generation, by its name
        self.boots = None  # the generations that a boot may lead to; None: nobody looks
        self.expect = None  # what else has to be so, a function
        self.seen, self.cuts = set(), 0
        for name in STEPS:
            monkeypatch.setattr(os, name, self.step(getattr(os, name)))
        finish, confirm = generations.Instance.finish, rollback.Transaction.confirm

        def finished(instance, staging, name):
            self.files[name] = generations.read(staging)
            finish(instance, staging, name)

        def confirmed(transaction, name):
            assert confirm(transaction, name)
            self.boots = {name}  # from here on nothing takes the confirmation back
            self.look()
            return True

        monkeypatch.setattr(generations.Instance, "finish", finished)
        monkeypatch.setattr(rollback.Transaction, "confirm", confirmed)

    def step(self, real):
        def done(*arguments, **named):
            result = real(*arguments, **named)
            self.look()
            return result
        return done

    def look(self):
        """Cuts the power, unless the disk is as it was when that was done before."""
        if self.boots is None:
            return
        boots, self.boots = self.boots, None
        now = (self.disk.digest(), frozenset(boots), self.expect)
        if now not in self.seen:
            self.seen.add(now)
            self.cuts += 1
            with self.monkeypatch.context() as patch:
                for name, path in (("CONFIGURATION", self.router.etc), ("UNITS", self.router.units), ("LOGS", self.router.logs)):
                    patch.setattr(paths, name, self.disk.after / path.relative_to(self.disk.root))
                patch.setattr(paths, "RUN", self.disk.after / "run after a boot")
                patch.setattr(commands, "systemctl", lambda *words: False)
                self.disk.cut(lambda: self.boot(boots))
        self.boots = boots

    def boot(self, boots):
        instance = generations.Instance("ce")
        self.complete(instance)
        transaction = rollback.Transaction(instance)
        record = transaction.record()
        assert record is None or "lost" not in record
        assert set(transaction.confirmed()) <= set(self.files)
        rollback.boot(transaction)
        assert instance.running() in boots and transaction.record() is None
        self.complete(instance)
        if self.expect:
            self.expect(instance)

    def complete(self, instance):
        """Every generation that there is is whole, and "current" leads to one of them or is absent."""
        names = instance.names()
        assert instance.running() in [None, *names]
        for name in names:
            assert instance.files(name) == self.files[name], name

    def during(self, boots, action, **parameters):
        """A part of a run of the module; boots: where a power cut in it may lead to."""
        self.boots, self.expect = set(boots), None
        result = action(**parameters)
        assert not result["failed"], result
        return result

    def afterwards(self, boots, expect):
        """What a power cut leads to once the module has ended, which nothing is synced after."""
        self.boots, self.expect = {boots}, expect
        self.look()
        self.boots = None

    def deploy(self, before, **parameters):
        """A deployment, unconfirmed and confirmed; returns its generation's name."""
        name = self.during([before], lambda **given: self.router.call(False, **given), **parameters)["generation"]
        self.during([before, name], lambda: self.router.call(False, confirm=name))
        self.afterwards(name, stays)
        return name


def last_event(instance):
    (line,) = audit.read(instance, 1)["lines"]
    return line["event"]


def stays(instance):
    """A confirmed deployment comes up at a boot."""
    assert {path.name: path.read_text() for path in paths.UNITS.glob("softwire*")} == UNITS
    assert (paths.UNITS / "multi-user.target.wants/softwire@ce.service").is_symlink()
    assert instance.running() in rollback.Transaction(instance).confirmed()
    assert last_event(instance) in ("confirm", "rollback")


def measures(instance):
    metrics = metrics_timer.Metrics(instance)
    assert metrics.directory() and metrics.wants.is_symlink() and last_event(instance) == "deploy"


def measures_nothing(instance):
    metrics = metrics_timer.Metrics(instance)
    assert metrics.directory() is None and not metrics.wants.is_symlink()


def is_gone(instance):
    assert not paths.CONFIGURATION.exists() and not list(paths.UNITS.rglob("softwire*")) and last_event(instance) == "remove"


def test_the_disk_forgets_what_is_not_synced(disk):
    """Or nothing here could fail."""
    found = []
    (disk.root / "old").write_text("")
    paths.sync(disk.root)
    os.rename(disk.root / "old", disk.root / "new")
    for _time in range(2):
        disk.cut(lambda: found.append({"old", "new"} & set(os.listdir(disk.after))))
        paths.sync(disk.root)
    assert found == [{"old"}, {"new"}]


def test_a_power_cut_leads_to_the_generation_before_or_to_the_confirmed_one(disk, monkeypatch):
    story = Story(disk, monkeypatch)
    router = story.router
    first = story.deploy(None, alternatives=small())
    second = story.deploy(first, alternatives=small(**MOVED))
    assert story.deploy(second, state="rollback") == first
    third = story.deploy(first, alternatives=small(reserved_ports=[53300]), keep_generations=2)

    # Nobody confirms it.
    story.during([third], lambda: router.call(False, alternatives=small(reserved_ports=[53301])))
    story.boots = {third}
    rollback.Transaction(router.instance).roll_back("unconfirmed")
    story.afterwards(third, stays)

    for metrics, expect in ((True, measures), (False, measures_nothing)):
        story.during([third], lambda metrics=metrics: router.call(False, alternatives=small(reserved_ports=[53300]), metrics=metrics))
        story.afterwards(third, expect)

    story.during([third, None], lambda: router.call(False, state="absent"))
    story.afterwards(None, is_gone)
    assert story.cuts > 80
