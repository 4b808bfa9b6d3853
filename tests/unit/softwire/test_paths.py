# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an instance keeps its files, and how they are written."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import paths


@pytest.fixture(autouse=True)
def roots(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CONFIGURATION", tmp_path / "etc")
    monkeypatch.setattr(paths, "RUN", tmp_path / "run")
    monkeypatch.setattr(paths, "LOGS", tmp_path / "log")
    monkeypatch.setattr(paths, "LINE", tmp_path / "line")
    monkeypatch.setattr(paths, "PROVIDER", tmp_path / "provider")
    monkeypatch.setattr(paths, "PROVIDER_KEPT", tmp_path / "kept")


def test_all_places_follow_the_roots(tmp_path):
    places = {name: path for name, path in vars(paths.Paths("ce")).items() if name != "name"}
    assert {path.relative_to(tmp_path).parts[:2] for path in places.values()} == {
        ("etc", "ce"), ("run", "ce"), ("log", "ce.jsonl"), ("log", "ce.jsonl.1"), ("line", "ce"), ("provider", "ce"), ("kept", "ce")}
    assert len(set(places.values())) == len(places)
    assert paths.Paths("ce", tmp_path / "other").current == tmp_path / "other/ce/current"


def test_the_instances_of_a_router():
    assert paths.instances() == {}
    for name in ("br", "ce"):
        (paths.Paths(name).generations / "0001-aa").mkdir(parents=True)
    paths.Paths("ce").current.symlink_to("generations/0001-aa")
    assert [(name, found.current) for name, found in paths.instances().items()] == [("ce", paths.Paths("ce").current)]


def test_the_applied_generation():
    instance = paths.Paths("ce")
    assert instance.applied_name() is None
    instance.run_dir.mkdir(parents=True)
    paths.write(instance.applied, "/etc/softwire/ce/generations/0001-aa")
    assert instance.applied_name() == "0001-aa"


@pytest.mark.parametrize("text", ["", "/", "/etc/softwire/ce", "/etc/softwire/ce/generations/", "/etc/softwire/ce/genera", "\0\0"])
def test_an_applied_generation_that_is_torn_is_none(text):
    instance = paths.Paths("ce")
    instance.run_dir.mkdir(parents=True)
    instance.applied.write_text(text)
    assert instance.applied_name() is None and instance.applied_directory() is None


def test_a_record_is_read_without_its_format(tmp_path):
    path = tmp_path / "record"
    assert paths.read_record(path) is None
    path.write_text('{"format": 1, "a": 2}')
    assert paths.read_record(path) == {"a": 2}
    path.write_text('{"format": 2}')
    with pytest.raises(paths.FormatError):
        paths.read_record(path)


@pytest.mark.parametrize("torn", [b"", b'{"format": 1, "a', b"7", b"\0\0\0", b"\xff"])
def test_a_record_that_is_torn_says_nothing(torn, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(torn)
    assert paths.read_record(path) == {}


def test_a_file_is_written_whatever_the_umask(tmp_path):
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        paths.write(path, "new")
    finally:
        os.umask(before)
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_the_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    path.write_text("old")
    rename = os.rename
    monkeypatch.setattr(os, "fsync", lambda number: events.append((os.readlink(f"/proc/self/fd/{number}"), path.read_text())))
    monkeypatch.setattr(os, "rename", lambda old, new: (events.append((old, new)), rename(old, new)))
    paths.write(path, "new")
    partial = str(tmp_path / ".file.new")
    assert events == [(partial, "old"), (partial, str(path)), (str(tmp_path), "new")]


def test_a_name_that_goes_or_changes_does_so_for_good(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.readlink(f"/proc/self/fd/{number}"), sorted(os.listdir(tmp_path)))))
    (tmp_path / "old").touch()
    paths.move(tmp_path / "old", tmp_path / "new")
    paths.drop(tmp_path / "new")
    assert synced == [(str(tmp_path), ["new"]), (str(tmp_path), [])]


def test_what_systemd_enables_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(paths, "UNITS", tmp_path)
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}"))))
    for name in ("multi-user.target.wants", "timers.target.wants", "nftables.service.d"):
        (tmp_path / name).mkdir()
    paths.sync_units()
    assert sorted(synced) == sorted([tmp_path.name, "multi-user.target.wants", "timers.target.wants"])


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    paths.write(path, "old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        paths.write(path, "new")
    assert path.read_text() == "old"


def test_a_later_format_is_refused(tmp_path):
    for number in (0, 1):
        paths.check_format(tmp_path, number)
    with pytest.raises(paths.FormatError, match=f"^{tmp_path}: format 2, written by a later version of softwire.map"):
        paths.check_format(tmp_path, 2)
