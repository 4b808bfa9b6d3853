# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back of a deployment that nobody confirmed, in a temporary directory and with a pretended systemd."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import rollback as softwire_rollback
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import NotTakenBack, Transaction, locked


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

    def start_service(self, unit, argv, directory):
        self.calls.append(("start_service", unit, argv, directory))


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    made = Systemd()
    for name in ("systemctl", "start_service"):
        monkeypatch.setattr(softwire_rollback, name, getattr(made, name))
    monkeypatch.setattr(softwire_rollback, "LOCK", tmp_path)
    monkeypatch.setattr(softwire_rollback, "RUN_DIRECTORY", tmp_path / "run")
    made.current, made.applied = tmp_path / "ce/current", tmp_path / "run/ce/applied"
    monkeypatch.setattr(softwire_rollback, "POLL", 0.01)
    return made


@pytest.fixture
def transaction(tmp_path, systemd):
    directory = tmp_path / "ce"
    for name in ("0001-aa", "0002-bb"):
        (directory / "generations" / name).mkdir(parents=True)
    made = Transaction(directory)
    made.switch("0001-aa")
    return made


def current(transaction):
    link = transaction.directory / "current"
    return os.path.basename(os.readlink(link)) if link.is_symlink() else None


def begun(transaction, previous="0001-aa", active=True, timeout=60):
    transaction.begin("0002-bb", previous, active, timeout)
    transaction.switch("0002-bb")


def test_the_service_runs_the_new_generations_own_program(transaction, systemd):
    begun(transaction)
    assert systemd.calls[-1] == (
        "start_service", "softwire-rollback-ce.service", ["/usr/bin/python3", "-B", "-m", "softwire", "watch"],
        transaction.directory / "generations" / "0002-bb")


def test_no_confirmation_in_time_goes_back(transaction, systemd, capfd):
    begun(transaction, timeout=0.1)
    assert softwire_rollback.watch(transaction) == 0
    assert current(transaction) == "0001-aa" and transaction.record() is None
    assert ("reload-or-restart", "softwire@ce.service") in systemd.calls
    assert capfd.readouterr().err == "generation 0002-bb was not confirmed in time\ngeneration 0001-aa runs again\n"
    assert transaction.confirm("0002-bb") is False


def test_a_confirmation_keeps_it(transaction, systemd):
    begun(transaction)
    assert transaction.confirm("0001-aa") is False
    assert transaction.confirm("0002-bb") is True
    assert softwire_rollback.watch(transaction) == 0
    assert current(transaction) == "0002-bb"
    assert not [call for call in systemd.calls if "softwire@ce.service" in call]


def test_the_deadline_moves_while_it_waits(transaction):
    begun(transaction, timeout=0.05)
    transaction.extend(60)
    waiting = threading.Thread(target=softwire_rollback.watch, args=[transaction])
    waiting.start()
    time.sleep(0.2)
    assert current(transaction) == "0002-bb" and waiting.is_alive()
    transaction.confirm("0002-bb")
    waiting.join(10)
    assert not waiting.is_alive() and current(transaction) == "0002-bb"


def test_it_waits_for_a_deployment_at_work(transaction):
    with locked():
        begun(transaction, timeout=0)
        waiting = threading.Thread(target=softwire_rollback.watch, args=[transaction])
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
    monkeypatch.setattr(softwire_rollback, "systemctl", systemctl)
    assert transaction.take_back() == "nothing runs, as before"
    assert current(transaction) is None
    # It stops by the program that "current" leads to.
    assert systemd.calls[-1] == ("0002-bb", "disable", "--quiet", "--now", "softwire@ce.service")


def test_what_was_stopped_is_stopped_again(transaction, systemd):
    begun(transaction, active=False)
    assert transaction.take_back() == "generation 0001-aa is stopped, as before"
    assert current(transaction) == "0001-aa" and ("stop", "softwire@ce.service") in systemd.calls


def test_a_start_that_was_under_way_is_not_the_way_back(transaction, systemd):
    begun(transaction)
    systemd.applies.remove("reload-or-restart")  # it joins the start of the new generation, which a killed play left
    systemd.applied.parent.mkdir(parents=True)
    systemd.applied.write_text("/etc/softwire/ce/generations/0002-bb")
    assert transaction.take_back() == "generation 0001-aa runs again"
    assert systemd.calls[-1] == ("restart", "softwire@ce.service") and transaction.applied() == "0001-aa"


def test_a_way_back_that_fails_stays_open(transaction, systemd):
    begun(transaction)
    systemd.fails |= {"reload-or-restart", "restart"}
    with pytest.raises(NotTakenBack, match="generation 0001-aa does not start again either"):
        transaction.take_back()
    assert current(transaction) == "0001-aa" and transaction.record()


def test_a_power_cut_before_the_confirmation_goes_back(transaction, systemd):
    begun(transaction)
    assert softwire_rollback.start(transaction) == 0
    assert current(transaction) == "0002-bb" and transaction.record()  # a restart of the unit, the service is there
    systemd.fails.add("is-active")
    assert softwire_rollback.start(transaction) == 0
    assert current(transaction) == "0001-aa" and transaction.record() is None
    assert softwire_rollback.start(transaction) == 0


def test_a_power_cut_during_the_first_deployment(transaction, systemd):
    begun(transaction, previous=None)
    systemd.fails.add("is-active")
    softwire_rollback.start(transaction)
    assert current(transaction) is None


def test_a_disk_that_is_full_switches_nothing(transaction, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        transaction.begin("0002-bb", "0001-aa", True, 60)
    assert transaction.record() is None and current(transaction) == "0001-aa"
