# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit trail: what a line says, how large it gets, and what happens where it cannot be written or was torn."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import time

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, login, metrics, paths

NOTHING = {"deployments": dict.fromkeys(audit.RESULTS, 0), "rollbacks": dict.fromkeys(audit.REASONS, 0), "drift": 0}
DEPLOY = {"state": "present", "from": None, "to": "0001-aa", "applied": "start", "drift": []}


@pytest.fixture
def trail(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "LOGS", tmp_path / "log" / "softwire")
    return audit.Trail(paths.Paths("ce"), warn=[].append)


@pytest.fixture
def warnings(trail):
    trail.warn = (said := []).append
    return said


def lines(trail, number=1000):
    return audit.read(trail.instance, number)["lines"]


def counts(trail):
    return audit.read(trail.instance, 0)["counts"]


def changed(**families):
    return {**NOTHING, **{name: {**NOTHING[name], **value} if isinstance(value, dict) else value for name, value in families.items()}}


def test_a_line(trail):
    trail.by = {"controller": "control", "user": "alice"}
    began = int(time.time())
    trail.add("deploy", **DEPLOY)
    text = trail.instance.trail.read_text()
    assert text.endswith("}\n") and text.count("\n") == 1
    line = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"])
    assert began <= time.mktime(time.strptime(line["time"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone <= time.time()
    assert abs(line["uptime"] - time.monotonic()) < 60
    assert {key: line[key] for key in set(line) - {"time", "uptime"}} == {"format": 1, "event": "deploy", "by": trail.by, **DEPLOY}
    assert lines(trail) == [line]


def test_who_may_read_it(trail):
    before = os.umask(0o077)
    try:
        trail.add("confirm", to="0001-aa")
    finally:
        os.umask(before)
    assert trail.instance.trail.stat().st_mode & 0o777 == 0o640
    assert trail.instance.trail.parent.stat().st_mode & 0o777 == 0o755


def test_where_nothing_was_written(trail):
    assert audit.read(trail.instance, 5) == {"lines": [], "counts": NOTHING}
    assert not paths.LOGS.exists()


def test_each_line_is_one_write_at_the_end(trail, monkeypatch):
    trail.add("confirm", to="0001-aa")
    calls, real_open, real_write = [], os.open, os.write
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: calls.append(flags & os.O_APPEND) or real_open(path, flags, *rest))
    monkeypatch.setattr(os, "write", lambda handle, text: calls.append(text) or real_write(handle, text))
    trail.add("confirm", to="0002-bb")
    monkeypatch.undo()
    assert calls[0] == 0 and calls[1] == os.O_APPEND and [json.loads(text)["to"] for text in calls[2:]] == ["0002-bb"]


@pytest.mark.parametrize("number, expected", [(0, []), (2, ["0003", "0004"]), (9, ["0001", "0002", "0003", "0004"])])
def test_the_last_lines(number, expected, trail):
    for name in ("0001", "0002", "0003", "0004"):
        trail.add("confirm", to=name)
    assert [line["to"] for line in lines(trail, number)] == expected


def test_what_is_counted(trail):
    trail.add("deploy", **DEPLOY)
    trail.add("confirm", to="0001-aa")
    trail.add("deploy", **{**DEPLOY, "applied": "nothing"})
    trail.add("deploy", **{**DEPLOY, "applied": "reload", "drift": ["one thing", "another"]})
    for reason in audit.REASONS:
        trail.add("rollback", reason=reason, result="good", detail="")
    trail.add("rollback", reason="unhealthy", result="failed", detail="")
    trail.add("failure", detail="nft says no")
    trail.add("repair", applied="reload", drift=["one thing"], result="good", in_a_row=1, times=1)
    trail.add("remove", **{"from": "0001-aa"})
    assert counts(trail) == {
        "deployments": {"confirmed": 1, "rolled_back": 5, "failed": 1, "unchanged": 1}, "rollbacks": dict.fromkeys(audit.REASONS, 1), "drift": 1}


def test_two_files_of_a_bounded_size_and_counts_that_go_on(trail, monkeypatch):
    monkeypatch.setattr(audit, "LIMIT", 2000)
    older, newer = trail.instance.older_trail, trail.instance.trail
    moved = 0
    for number in range(1, 101):
        before = newer.stat().st_ino if newer.exists() else None
        trail.add("confirm", to="%04d-aa" % number)
        moved += older.exists() and older.stat().st_ino == before
        assert max(path.stat().st_size for path in paths.LOGS.iterdir()) <= 2000
        assert counts(trail) == changed(deployments={"confirmed": number})
        assert lines(trail, 3)[-1]["to"] == "%04d-aa" % number
    assert moved > 3 and sorted(paths.LOGS.iterdir()) == [newer, older]
    assert json.loads(newer.read_text().split("\n")[0]) == {
        **{key: json.loads(newer.read_text().split("\n")[0])[key] for key in ("time", "uptime")},
        "format": 1, "event": "totals", "counts": changed(deployments={"confirmed": 100 - len(newer.read_text().split("\n")[1:-1])})}
    kept = [line["to"] for line in lines(trail)]
    assert kept == ["%04d-aa" % number for number in range(101 - len(kept), 101)] and len(kept) > 10


def test_totals_that_were_torn_are_counted_anew(trail, monkeypatch):
    monkeypatch.setattr(audit, "LIMIT", 2000)
    while not trail.instance.older_trail.exists():
        trail.add("confirm", to="0001-aa")
    trail.add("confirm", to="0002-bb")
    whole, (header, *rest) = counts(trail), trail.instance.trail.read_text().splitlines(keepends=True)
    trail.instance.trail.write_text(header[:40] + "\n" + "".join(rest))
    assert counts(trail) == whole
    trail.instance.trail.unlink()  # the power went between the two steps
    trail.add("failure", detail="")
    assert counts(trail)["deployments"] == {**whole["deployments"], "confirmed": whole["deployments"]["confirmed"] - 2, "failed": 1}


@pytest.mark.parametrize("torn", ['{"format": 1, "ti', '{"format": 1, "event": "confirm", "to": "0002-bb"}', "\0\0\0\0", "\udcff{"])
def test_a_last_line_that_a_power_cut_tore_costs_no_other(torn, trail):
    trail.add("confirm", to="0001-aa")
    with trail.instance.trail.open("ab") as stream:
        stream.write(torn.encode("utf-8", "surrogateescape"))
    trail.add("confirm", to="0003-cc")
    assert [line["to"] for line in lines(trail) if line["to"] != "0002-bb"] == ["0001-aa", "0003-cc"]


@pytest.mark.parametrize("text", [
    '{"format": 2, "event": "confirm"}', '{"event": "confirm"}', '{"format": "1", "event": "confirm"}', "[]", "1", "", '{"format": 1}'])
def test_what_is_no_line_of_this_format_says_nothing(text, trail):
    trail.add("confirm", to="0001-aa")
    with trail.instance.trail.open("a") as stream:
        stream.write(text + "\n")
    assert len(lines(trail)) == 1 and counts(trail) == changed(deployments={"confirmed": 1})


@pytest.mark.parametrize("text", ['{"format": 1, "event": "deploy"}', '{"format": 1, "event": "rollback", "result": "good"}',
                                  '{"format": 1, "event": "totals", "counts": 5}', '{"format": 1, "event": []}'])
def test_a_line_that_somebody_made_up_breaks_nothing(text, trail):
    paths.LOGS.mkdir(parents=True)
    trail.instance.trail.write_text(text + "\n")
    trail.add("confirm", to="0001-aa")
    assert counts(trail)["deployments"]["confirmed"] == 1


def test_what_a_later_version_counts_as_well_is_kept(trail, monkeypatch):
    trail.add("rollback", reason="moonlight", result="good", detail="")
    monkeypatch.setattr(audit, "LIMIT", 200)
    trail.add("confirm", to="0001-aa")
    assert trail.instance.older_trail.exists() and counts(trail)["rollbacks"]["moonlight"] == 1


def test_texts_are_cut(trail):
    trail.add("deploy", **{**DEPLOY, "to": "x" * 5000, "drift": ["\u00e4" * 5000] * 50})
    (line,) = lines(trail)
    assert line["to"] == "x" * 299 + "\u2026"
    assert line["drift"] == ["\u00e4" * 299 + "\u2026"] * 10 + ["and 40 more"]
    assert trail.instance.trail.stat().st_size < audit.LIMIT / 10


def full(handle, text):
    raise OSError(errno.ENOSPC, "No space left on device")


def half(handle, text, write=os.write):
    return write(handle, text[: len(text) // 2])


@pytest.mark.parametrize("write, reason", [(full, "[Errno 28] No space left on device"), (half, "the disk is full")])
def test_a_full_disk_is_a_warning(write, reason, trail, warnings, monkeypatch):
    trail.add("confirm", to="0001-aa")
    before = trail.instance.trail.read_text()
    monkeypatch.setattr(os, "write", write)
    trail.add("confirm", to="0002-bb")
    monkeypatch.undo()
    assert warnings == [f"{trail.instance.trail}: the audit trail lacks this confirm: {reason}"]
    assert trail.instance.trail.read_text() == before


def test_a_disk_that_takes_nothing_is_a_warning(trail, warnings, monkeypatch, capfd):
    monkeypatch.setattr(paths, "LOGS", trail.instance.trail.parent / "a file" / "softwire")
    trail.instance = paths.Paths("ce")
    paths.LOGS.parent.parent.mkdir(parents=True)
    paths.LOGS.parent.write_text("")
    trail.add("confirm", to="0001-aa")
    assert len(warnings) == 1 and "Not a directory" in warnings[0]
    audit.Trail(trail.instance).add("confirm", to="0001-aa")
    assert capfd.readouterr().err == warnings[0] + "\n"
    with pytest.raises(OSError):
        audit.read(trail.instance, 5)
    assert not trail.ends_with({"event": "confirm"})


def writer(logs, number):
    paths.LOGS, audit.LIMIT = logs, 4000
    trail = audit.Trail(paths.Paths("ce"))
    for count in range(100):
        trail.add("confirm", to="%d-%d" % (number, count))


def test_several_writers_at_once_lose_nothing(trail):
    """As a deployment, its watch and the keeper, while the file moves aside."""
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=writer, args=[paths.LOGS, number]) for number in range(3)]
    for process in writers:
        process.start()
    while any(process.is_alive() for process in writers):
        assert all(line["event"] == "confirm" for line in lines(trail))
    assert [process.exitcode for process in writers] == [0, 0, 0]
    assert counts(trail) == changed(deployments={"confirmed": 300})
    text = trail.instance.older_trail.read_text() + trail.instance.trail.read_text()
    assert len(text.splitlines()) == len([json.loads(line) for line in text.splitlines()])
    assert trail.instance.older_trail.stat().st_size <= 4000


def test_what_it_ends_with(trail):
    assert not trail.ends_with({"event": "confirm"})
    trail.add("confirm", to="0001-aa" * 100)
    assert trail.ends_with({"event": "confirm", "to": "0001-aa" * 100}) and not trail.ends_with({"event": "confirm", "to": "0002-bb"})


@pytest.mark.parametrize("sudo, number, name", [
    ("ansible", 0, "ansible"), (None, 0, "root"), (None, login.NOBODY, "root"), (None, 4000000000, "4000000000"), (None, None, "root")])
def test_the_user_whom_the_play_came_as(sudo, number, name, tmp_path, monkeypatch):
    monkeypatch.setattr(login.os, "getuid", lambda: 0)
    monkeypatch.delenv("SUDO_USER", raising=False)
    if sudo:
        monkeypatch.setenv("SUDO_USER", sudo)
    (tmp_path / "loginuid").write_text("" if number is None else str(number))
    monkeypatch.setattr(login, "Path", lambda path: tmp_path / "loginuid")
    assert login.user() == name


def test_who_says_what_is_known(monkeypatch):
    monkeypatch.setattr(login, "user", lambda: "ansible")
    monkeypatch.setattr(login, "connection", lambda: ["2001:db8::9", "50000", "2001:db8::1", "22"])
    assert audit.who({"controller": "control", "user": "alice"}) == {
        "controller": "control", "user": "alice", "remote_user": "ansible", "address": "2001:db8::9"}
    monkeypatch.setattr(login, "connection", list)
    assert audit.who({}) == {"remote_user": "ansible"}


def test_metrics_count_it(trail):
    trail.add("rollback", reason="unconfirmed", result="good", detail="")
    info = {"state": {"applied": "", "equal": True, "faults": []}, "ports": None, "tunnel": None, "role": "ce", "softwire": "bpf", "generation": "0001-aa",
            "unconfirmed": False, "repairs": None, "notices": [], "rules": [], "programs": None, "fast_path": None, "translator": None, "instance": "ce",
            "audit": audit.read(trail.instance, 0)}
    text = metrics.text(info)
    for sample in ('deployments_total{softwire="ce",result="rolled_back"} 1', 'deployments_total{softwire="ce",result="confirmed"} 0',
                   'rollbacks_total{softwire="ce",reason="unconfirmed"} 1', 'rollbacks_total{softwire="ce",reason="reboot"} 0',
                   'deployments_drift_total{softwire="ce"} 0'):
        assert f"\nsoftwire_{sample}\n" in text
    assert "deployments" not in metrics.text({**info, "audit": None})
