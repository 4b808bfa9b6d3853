# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rollback of a deployment that nobody confirmed, in a temporary directory and with a pretended systemd."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, commands, paths, rollback
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import RollbackError, Transaction, locked


class Systemd:
    def __init__(self):
        self.calls = []
        self.fails = set()
        self.applies = {"reload-or-restart", "restart"}  # what leads to the generation that is meant to run

    def systemctl(self, *words):
        self.calls.append(words)
        if self.applies & set(words):
            self.applied.parent.mkdir(parents=True, exist_ok=True)
            self.applied.write_text(os.readlink(self.current))
        return not self.fails & set(words)

    def start_service(self, unit, program, arguments, directory):
        self.calls.append(("start_service", unit, program, arguments, directory))


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    made = Systemd()
    monkeypatch.setattr(commands, "systemctl", made.systemctl)
    monkeypatch.setattr(rollback, "start_service", made.start_service)
    for name, place in (("UNITS", tmp_path), ("CONFIGURATION", tmp_path), ("RUN", tmp_path / "run"), ("LOGS", tmp_path / "log")):
        monkeypatch.setattr(paths, name, place)
    made.current, made.applied = tmp_path / "ce/current", tmp_path / "run/ce/applied"
    monkeypatch.setattr(rollback, "POLL", 0.01)
    return made


@pytest.fixture
def transaction(tmp_path, systemd):
    made = Transaction(paths.Paths("ce"))
    for name in ("0001-aa", "0002-bb"):
        (made.instance.generations / name).mkdir(parents=True)
    made.switch("0001-aa")
    return made


def current(transaction):
    link = transaction.instance.current
    return os.path.basename(os.readlink(link)) if link.is_symlink() else None


def begun(transaction, previous="0001-aa", active=True, timeout=60):
    transaction.begin("0002-bb", previous, active, timeout)
    transaction.switch("0002-bb")


def test_the_service_runs_the_new_generations_own_program(transaction, systemd):
    begun(transaction)
    assert systemd.calls[-2] == (
        "start_service", "softwire-rollback-ce.service", "softwire.__main__", ["-m", "softwire", "watch"],
        transaction.instance.generations / "0002-bb")


def test_a_generation_of_loose_files_watches_with_its_own_program(transaction, systemd):
    directory = transaction.instance.generations / "0002-bb"
    (directory / "softwire_rollback.py").touch()
    begun(transaction)
    assert systemd.calls[-2] == (
        "start_service", "softwire-rollback-ce.service", "softwire_rollback",
        ["softwire_rollback.py", "watch", str(transaction.instance.directory)], directory)


@pytest.mark.parametrize("fault", ["systemd-run", "is-active"])
def test_a_watch_that_does_not_start_leaves_nothing_waiting(fault, transaction, systemd, monkeypatch):
    def refused(*_arguments, **_named):
        raise OSError("systemd-run says no")

    if fault == "systemd-run":
        monkeypatch.setattr(rollback, "start_service", refused)
    systemd.fails.add("is-active")
    with pytest.raises(rollback.UnwatchedError, match="nobody would watch over generation 0002-bb: " + (
            "systemd-run says no" if fault == "systemd-run" else "softwire-rollback-ce.service has ended at once")):
        begun(transaction)
    assert transaction.record() is None and current(transaction) == "0001-aa"
    assert systemd.calls[-1] == ("stop", "--quiet", "softwire-rollback-ce.service")


def test_a_program_that_does_not_start_is_noticed(tmp_path, monkeypatch):
    started, run = [], commands.finished
    monkeypatch.setattr(commands, "finished", lambda argv, *rest, **named: run(
        argv if "systemd-run" not in argv else started.append(argv) or ["true"], *rest, **named))
    (tmp_path / "program.py").write_text("import nonsense\n")
    with pytest.raises(commands.StepError, match="No module named 'nonsense'"):
        rollback.start_service("a.service", "program", ["-m", "program", "watch"], tmp_path)
    assert not started
    (tmp_path / "program.py").write_text("")
    rollback.start_service("a.service", "program", ["-m", "program", "watch"], tmp_path)
    assert started[0][-5:] == ["/usr/bin/python3", "-B", "-m", "program", "watch"] and "--property=Type=exec" in started[0]


def test_the_record_says_its_format(transaction):
    begun(transaction)
    path = transaction.instance.unconfirmed
    written = json.loads(path.read_text())
    assert written == {"format": 1, "generation": "0002-bb", "previous": "0001-aa", "active": True, "deadline": written["deadline"]}
    path.write_text(json.dumps({key: value for key, value in written.items() if key != "format"}))
    assert transaction.record()["previous"] == "0001-aa"  # of before there were formats
    path.write_text(json.dumps({**written, "format": 2}))
    with pytest.raises(paths.FormatError) as refused:
        rollback.watch(transaction)
    assert str(refused.value) == (
        f"{path}: format 2, written by a later version of softwire.map; this one reads formats up to 1, so use that version")


def test_no_confirmation_in_time_goes_back(transaction, systemd, capfd):
    begun(transaction, timeout=0.1)
    assert rollback.watch(transaction) == 0
    assert current(transaction) == "0001-aa" and transaction.record() is None
    assert ("reload-or-restart", "softwire@ce.service") in systemd.calls
    assert capfd.readouterr().err == "generation 0002-bb was not confirmed in time\ngeneration 0001-aa runs again\n"
    assert transaction.confirm("0002-bb") is False


def test_a_confirmation_keeps_it(transaction, systemd):
    begun(transaction)
    assert transaction.confirm("0001-aa") is False
    assert transaction.confirm("0002-bb") is True
    assert rollback.watch(transaction) == 0
    assert current(transaction) == "0002-bb"
    assert not [call for call in systemd.calls if "softwire@ce.service" in call]


def test_the_deadline_moves_while_it_waits(transaction):
    begun(transaction, timeout=0.05)
    transaction.extend(60)
    waiting = threading.Thread(target=rollback.watch, args=[transaction])
    waiting.start()
    time.sleep(0.2)
    assert current(transaction) == "0002-bb" and waiting.is_alive()
    transaction.confirm("0002-bb")
    waiting.join(10)
    assert not waiting.is_alive() and current(transaction) == "0002-bb"


def test_it_waits_for_a_deployment_at_work(transaction):
    with locked():
        begun(transaction, timeout=0)
        waiting = threading.Thread(target=rollback.watch, args=[transaction])
        waiting.start()
        time.sleep(0.2)
        assert current(transaction) == "0002-bb"
        transaction.extend(60)
    time.sleep(0.1)
    assert current(transaction) == "0002-bb"
    transaction.confirm("0002-bb")
    waiting.join(10)


def test_one_deployment_at_a_time(transaction):
    with locked():
        with pytest.raises(TimeoutError, match="another deployment is at work on this router"):
            with locked(0.05):
                pass
    with locked(0.05):
        pass


def test_the_first_generation_leaves_nothing_running(transaction, systemd, monkeypatch):
    def systemctl(*words):
        systemd.calls.append((current(transaction), *words))
        return True

    begun(transaction, previous=None, active=False)
    monkeypatch.setattr(commands, "systemctl", systemctl)
    assert transaction.roll_back("unconfirmed") == "nothing runs, as before"
    assert current(transaction) is None
    # It stops by the program that "current" leads to.
    assert systemd.calls[-1] == ("0002-bb", "disable", "--quiet", "--now", "softwire@ce.service")


def test_what_was_stopped_is_stopped_again(transaction, systemd):
    begun(transaction, active=False)
    assert transaction.roll_back("unconfirmed") == "generation 0001-aa is stopped, as before"
    assert current(transaction) == "0001-aa" and ("stop", "softwire@ce.service") in systemd.calls


def test_a_start_that_was_under_way_is_no_rollback(transaction, systemd):
    begun(transaction)
    systemd.applies.remove("reload-or-restart")  # it joins the start of the new generation, which a killed play left
    systemd.applied.parent.mkdir(parents=True)
    systemd.applied.write_text("/etc/softwire/ce/generations/0002-bb")
    assert transaction.roll_back("unconfirmed") == "generation 0001-aa runs again"
    assert systemd.calls[-1] == ("restart", "softwire@ce.service") and transaction.instance.applied_name() == "0001-aa"


def test_a_rollback_that_fails_stays_open(transaction, systemd):
    begun(transaction)
    systemd.fails |= {"reload-or-restart", "restart"}
    with pytest.raises(RollbackError, match="generation 0001-aa does not start again either"):
        transaction.roll_back("unconfirmed")
    assert current(transaction) == "0001-aa" and transaction.record()


def test_a_power_cut_before_the_confirmation_goes_back(transaction, systemd):
    begun(transaction)
    assert rollback.boot(transaction) == 0
    assert current(transaction) == "0002-bb" and transaction.record()  # a restart of the unit, the service is there
    systemd.fails.add("is-active")
    assert rollback.boot(transaction) == 0
    assert current(transaction) == "0001-aa" and transaction.record() is None
    assert rollback.boot(transaction) == 0


@pytest.mark.parametrize("torn", ["", '{"format": 1, "gen', "{}", '{"generation": "0002-bb"}'])
@pytest.mark.parametrize("confirmed, previous", [("0001-aa\n0003-cc\n", "0001-aa"), ("0001", None), (None, None)])
def test_a_record_that_a_power_cut_tore_leads_to_the_last_confirmed_generation(confirmed, previous, torn, transaction, systemd, capfd):
    begun(transaction)
    instance = transaction.instance
    instance.unconfirmed.write_text(torn)
    if confirmed:
        instance.confirmed.write_text(confirmed)
    systemd.fails.add("is-active")
    assert rollback.boot(transaction) == 0
    assert current(transaction) == previous and transaction.record() is None
    assert capfd.readouterr().err == (
        f"{instance.unconfirmed}: is empty or torn; the last confirmed generation counts as the one before, {previous or 'none'}\n")


def test_the_watch_does_not_wait_for_a_record_that_is_lost(transaction, capfd):
    begun(transaction)
    transaction.instance.confirmed.write_text("0001-aa\n")
    transaction.instance.unconfirmed.write_text("")
    assert rollback.watch(transaction) == 0
    assert current(transaction) == "0001-aa" and "is empty or torn" in capfd.readouterr().err


def test_a_power_cut_during_the_first_deployment(transaction, systemd):
    begun(transaction, previous=None)
    systemd.fails.add("is-active")
    rollback.boot(transaction)
    assert current(transaction) is None


def test_a_disk_that_is_full_switches_nothing(transaction, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        transaction.begin("0002-bb", "0001-aa", True, 60)
    assert transaction.record() is None and current(transaction) == "0001-aa"


def trail(transaction):
    return audit.read(transaction.instance, 100)["lines"]


def rolled_back(**fields):
    return {"event": "rollback", "from": "0002-bb", "to": "0001-aa", "detail": "", "result": "good", **fields}


def test_the_watch_tells_the_audit_trail(transaction):
    begun(transaction, timeout=0)
    rollback.watch(transaction)
    (line,) = trail(transaction)
    assert rolled_back(reason="unconfirmed").items() <= line.items() and "by" not in line


def test_a_boot_tells_the_audit_trail(transaction, systemd):
    begun(transaction)
    rollback.boot(transaction)  # the service is there
    assert trail(transaction) == []
    systemd.fails.add("is-active")
    rollback.boot(transaction)
    rollback.boot(transaction)
    (line,) = trail(transaction)
    assert rolled_back(reason="reboot").items() <= line.items()


def test_a_record_that_is_lost_is_in_the_audit_trail(transaction):
    begun(transaction)
    transaction.instance.unconfirmed.write_text("")
    rollback.watch(transaction)
    assert "is empty or torn" in trail(transaction)[0]["detail"] and trail(transaction)[0]["reason"] == "unconfirmed"


def test_a_confirmation_in_the_audit_trail_says_who(transaction):
    begun(transaction)
    transaction.trail.by = {"user": "alice"}
    assert not transaction.confirm("0001-aa") and trail(transaction) == []
    assert transaction.confirm("0002-bb")
    (line,) = trail(transaction)
    assert {"event": "confirm", "to": "0002-bb", "by": {"user": "alice"}}.items() <= line.items()


def test_a_rollback_that_fails_again_and_again_is_one_line(transaction, systemd):
    begun(transaction)
    systemd.fails |= {"reload-or-restart", "restart"}
    for _time in range(5):
        with pytest.raises(RollbackError):
            transaction.roll_back("unconfirmed")
    assert [line["result"] for line in trail(transaction)] == ["failed"]
    systemd.fails.clear()
    transaction.roll_back("unconfirmed")
    assert [line["result"] for line in trail(transaction)] == ["failed", "good"]


def test_a_rollback_waits_for_no_trail(transaction, capfd):
    paths.LOGS.write_text("")  # no directory
    begun(transaction, timeout=0)
    assert rollback.watch(transaction) == 0 and current(transaction) == "0001-aa"
    assert "the audit trail lacks this rollback" in capfd.readouterr().err


def test_whether_somebody_is_at_work(transaction):
    assert not rollback.is_at_work()
    with locked():
        assert rollback.is_at_work()
    assert not rollback.is_at_work()
