# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generations on disk, in a temporary root."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import generations
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import Transaction

FILES = {"instance.json": b"{}", "main/ip": b"link set lo up\n", "main/mapt.bpf.o": b"\x7fELF\xff"}


@pytest.fixture
def instance(tmp_path):
    return generations.Instance("ce", tmp_path)


def make(instance, files=None, switch=True):
    files = FILES if files is None else files
    name = instance.next_name(files)
    instance.finish(instance.stage(files, name), name)
    if switch:
        Transaction(instance).switch(name)
    return name


def names(instance):
    return sorted(path.name for path in instance.generations.iterdir())


def test_nothing_there_yet(instance):
    assert instance.running() is None
    assert instance.files() == {}
    assert instance.next_name(FILES) == "0001-" + generations.digest(FILES)


def test_what_is_written_is_read(instance):
    name = make(instance)
    assert instance.running() == name
    assert instance.files() == FILES
    assert os.readlink(instance.current) == f"generations/{name}"


def test_everybody_may_read_it_whatever_the_umask(instance):
    before = os.umask(0o077)
    try:
        name = make(instance)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in
             [instance.directory, instance.generations, instance.generations / name, *(instance.generations / name).rglob("*")]}
    assert modes == {"ce": 0o755, "generations": 0o755, name: 0o755, "instance.json": 0o644, "main": 0o755, "ip": 0o644, "mapt.bpf.o": 0o644}


def test_staging_is_no_generation(instance, monkeypatch):
    make(instance)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(names(instance)))
    running = instance.running()
    staging = instance.stage(dict(FILES, more=b"x"), "0002-aa")
    # four files, and the directories of all instances and theirs, of the instance, of its generations, of this one and of "main"
    assert len(seen) == 4 + 6 and {name for listed in seen for name in listed} == {running, ".staging-0002-aa"}
    assert instance.running() == running and instance.files() == FILES
    assert instance.next_name(FILES).startswith("0002-")
    instance.discard(staging)
    assert names(instance) == [running]


def test_a_staging_that_was_left_behind_goes(instance):
    instance.stage(FILES, "0001-dead")
    make(instance)
    assert names(instance) == [instance.running()]


def test_a_disk_that_is_full_leaves_the_running_one(instance, monkeypatch):
    running = make(instance)

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        instance.stage(dict(FILES, more=b"x"), "0002-aa")
    assert instance.running() == running and instance.files() == FILES


def test_switch_is_one_rename(instance, monkeypatch):
    first, second = make(instance), make(instance, switch=False)
    renamed = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new: (renamed.append((os.path.basename(old), os.path.basename(new))), rename(old, new)))
    (instance.directory / ".current").symlink_to("left/behind")
    Transaction(instance).switch(second)
    assert renamed == [(".current", "current")] and instance.running() == second != first
    Transaction(instance).switch(None)
    assert instance.running() is None and instance.files() == {}
    Transaction(instance).switch(None)


def test_names_count_up_and_tell_the_content(instance):
    made = [make(instance), make(instance, {**FILES, "main/tc": b""}), make(instance)]
    assert [name.split("-")[0] for name in made] == ["0001", "0002", "0003"]
    assert made[0].split("-")[1] == made[2].split("-")[1] != made[1].split("-")[1]


def test_a_copy_that_a_person_made_is_left_alone(instance):
    make(instance)
    (instance.generations / "my-copy").mkdir()
    assert instance.next_name(FILES).startswith("0002-")
    for _number in range(10):
        make(instance)
    instance.prune(5, instance.names())
    assert "my-copy" in names(instance)


def test_digest_tells_a_path_from_its_content():
    assert generations.digest({"a": b"b"}) != generations.digest({"ab": b""}) != generations.digest({"": b"ab"})
    assert generations.digest({"a": b"1", "b": b"2"}) == generations.digest({"b": b"2", "a": b"1"})


def test_prune_keeps_the_newest_and_the_running_one(instance):
    made = [make(instance, switch=False) for _number in range(9)]
    Transaction(instance).switch(made[1])
    instance.prune(5, made)
    assert names(instance) == [made[1], *made[-5:]]


def test_prune_keeps_nothing_that_nobody_confirmed(instance):
    made = [make(instance, switch=False) for _number in range(9)]
    Transaction(instance).switch(made[8])
    instance.prune(5, [made[0], made[2], made[8]])
    assert names(instance) == [made[0], made[2], made[8]]


def test_what_goes_goes_by_its_name_first(instance, monkeypatch):
    """So nobody returns to a generation of which a power cut left a part."""
    made = [make(instance) for _number in range(2)]
    monkeypatch.setattr(generations.shutil, "rmtree", lambda path: seen.append((os.path.basename(path), instance.running(), instance.names())))
    seen = []
    instance.prune(5, made[1:])
    assert seen == [(f".staging-{made[0]}", made[1], made[1:])]
    instance.remove()
    assert seen[1:] == [(f".staging-{made[1]}", None, []), ("ce", None, [])]


def test_an_earlier_generation_can_be_read(instance):
    first, second = make(instance), make(instance, {**FILES, "main/tc": b""})
    assert instance.names() == [first, second]
    assert instance.files(first) == FILES != instance.files() == instance.files(second)


def test_prune_goes_by_number_not_by_name(instance):
    for number in ("9998", "9999", "10000", "10001", "10002", "10003"):
        instance.finish(instance.stage(FILES, f"{number}-aa"), f"{number}-aa")
    instance.prune(5, instance.names())
    assert sorted(names(instance), key=lambda name: int(name.split("-")[0]))[0] == "9999-aa"
    assert instance.next_name(FILES).startswith("10004-")


def test_remove(instance):
    make(instance)
    instance.remove()
    assert not instance.directory.exists()


def test_files_travel_as_text_or_base64():
    files = {"main/ip": "text \u00fc\n", "main/mapt.bpf.o": b"\x7f\xff"}
    sent = generations.encoded(files)
    assert sent == {"main/ip": {"text": "text \u00fc\n"}, "main/mapt.bpf.o": {"base64": "f/8="}}
    assert generations.decoded(sent) == {"main/ip": "text \u00fc\n".encode(), "main/mapt.bpf.o": b"\x7f\xff"}


def test_differences(tmp_path):
    before = {"same": b"1", "gone": b"2\n", "main/ip": b"3\n"}
    after = {"same": b"1", "main/ip": b"4\n", "main/mapt.bpf.o": b"\x7f\xff"}
    gone, ip, binary = generations.differences(before, after, tmp_path)
    assert gone == {"before": "2\n", "after": "", "before_header": f"{tmp_path}/gone", "after_header": "/dev/null"}
    assert ip == {"before": "3\n", "after": "4\n", "before_header": f"{tmp_path}/main/ip", "after_header": f"{tmp_path}/main/ip"}
    assert binary["before_header"] == "/dev/null" and "sha256 " in binary["after"]
    assert generations.differences(before, before, tmp_path) == []
