# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A router for the module deploy, made of directories, a pretended systemd and a pretended preflight."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import (
    audit, commands, drift, generations, health, paths, preflight, rollback, units)
from ansible_collections.softwire.map.plugins.modules import deploy

UNITS = {name: "[Unit]\n" for name in units.NAMES}
BY = {"controller": "control", "user": "alice"}
MOVED = {"veth_network": "192.0.0.8/29"}  # a change of topology


class Ended(Exception):
    """exit_json or fail_json."""


class Router:
    """The module's world; `run` is one run of the module."""

    def __init__(self, root):
        self.root = root
        self.etc, self.run_directory, self.units, self.logs = root / "etc", root / "run", root / "units", root / "log" / "softwire"
        self.unit, self.wants, self.timers = (
            self.units / name for name in ("softwire@.service", "multi-user.target.wants", "timers.target.wants"))
        self.wants.mkdir(parents=True)
        self.timers.mkdir()
        self.exporter = root / "node-exporter"
        self.textfile = self.exporter / "softwire-ce.prom"
        self.machine = SimpleNamespace(
            release={"ID": "debian", "VERSION_ID": "12"}, kernel="6.1.0", links={"isp": link(), "lan": link(), "inet": link()},
            has_command=lambda name: name not in self.missing, has_module=lambda name: name not in self.missing,
            has_bpf=lambda: "bpf" not in self.missing,
            has_namespace=lambda name: name in self.namespaces, secure_boot=lambda: False, headers_installed=lambda: True,
            headers_of_next=lambda: [])
        self.missing, self.namespaces = set(), set()
        self.active = self.nft_refuses = self.timer = False
        self.unwritable = False  # the metrics
        self.kept = self.stale = self.unwritable_wants = False  # the keeper runs; units were not read again; nothing can be enabled
        self.watched = False  # whether the service runs that rolls back what is not confirmed
        self.watches = True  # whether it does once it is started
        self.works = [set()]  # what is seen to work, each time that somebody looks; the last one stays
        self.asked = []  # the targets of those looks
        self.half = False  # whether systemd says that it is done, and the generation is not up
        self.faults = []  # what the check of the running state finds
        self.drift = []  # what somebody has changed; a start and a reload put it right
        self.refuses = set()  # generations that do not start
        self.calls, self.warnings = [], []

    def pretend(self, monkeypatch):
        """Lets the module find this router."""
        for name, place in (("CONFIGURATION", self.etc), ("RUN", self.run_directory), ("UNITS", self.units), ("LOGS", self.logs), ("SYSTEMD", self.root)):
            monkeypatch.setattr(paths, name, place)
        monkeypatch.setattr(preflight, "Machine", lambda: self.machine)
        monkeypatch.setattr(preflight, "links", lambda prefix: {"lan": link()} if self.namespaces else {})
        monkeypatch.setattr(preflight, "connection_address", lambda: None)
        monkeypatch.setattr(commands, "finished", self.finished)
        monkeypatch.setattr(rollback, "start_service", self.start_service)
        monkeypatch.setattr(health, "working", self.working)
        monkeypatch.setattr(health, "PAUSE", 0)
        monkeypatch.setattr(drift, "missing", lambda generation: self.faults)
        monkeypatch.setattr(drift, "changed", lambda generation: self.drift)

    @property
    def instance(self):
        return generations.Instance("ce")

    def finished(self, argv, cwd=None, text="", stderr=None):
        return subprocess.CompletedProcess(argv, *self.command(argv))

    def command(self, argv):
        self.calls.append(argv)
        good = True
        if argv[0] == "systemctl":
            action = next(word for word in argv[1:] if not word.startswith("-"))
            if action == "show":
                return 0, "yes\n\nno\n" if self.stale else "no\n\nno\n", ""
            if action == "daemon-reload":
                self.stale = False
            elif "softwire-keep@ce.service" in argv:
                good = self.kept = self.kept or action == "start"
            elif "softwire-rollback-ce.service" in argv:
                good = self.watched
                self.watched = self.watched and action != "stop"
            elif "softwire-metrics@ce.timer" in argv:
                good = self.timer
                if action in ("enable", "disable"):
                    good = self.timer = action == "enable"
                    (self.timers / argv[-1]).unlink(missing_ok=True)
                    if self.timer:
                        (self.timers / argv[-1]).symlink_to(self.units / "softwire-metrics@.timer")
            elif "softwire-metrics@ce.service" in argv:
                good = not self.unwritable
                if good and action == "start":
                    (self.etc / "ce" / "metrics" / "softwire-ce.prom").write_text("softwire_state_equal 1\n")
            elif action == "is-active":
                good = self.active
            elif action == "stop":
                self.active = False
            elif action in ("start", "restart", "reload", "reload-or-restart"):
                good = self.active = (self.instance.running() not in self.refuses)
                if self.active:
                    self.kept = True  # softwire@.service wants it
                    self.drift = []
                    (self.run_directory / "ce").mkdir(parents=True, exist_ok=True)
                    (self.run_directory / "ce" / "journal").write_text("")
                    if not self.half:
                        (self.run_directory / "ce" / "applied").write_text(f"/etc/softwire/ce/generations/{self.instance.running()}")
                    self.namespaces = set(json.loads(self.instance.files()["instance.json"])["namespaces"])
            elif action == "enable" and self.unwritable_wants:
                good = False
            elif action == "enable":
                (self.wants / argv[-1]).unlink(missing_ok=True)
                (self.wants / argv[-1]).symlink_to(self.unit)
            elif action == "disable":
                self.active = self.kept = False
                (self.wants / argv[-1]).unlink(missing_ok=True)
                for name in ("journal", "applied"):
                    (self.run_directory / "ce" / name).unlink(missing_ok=True)
        elif argv[0] == "nft":
            good = not self.nft_refuses
        elif argv[0] == "journalctl":
            return 0, "Starting\nsoftwire: first\nsoftwire: nft says no\nFailed\n", ""
        return (0, "", "") if good else (1, "", "what went wrong")

    def start_service(self, unit, program, arguments, directory):
        self.calls.append(["systemd-run", unit, str(directory), *arguments])
        self.watched = self.watches

    def working(self, _instance, target=""):
        self.asked.append(target)
        return self.works.pop(0) if len(self.works) > 1 else self.works[0]

    def run(self, check=False, confirm=True, **parameters):
        """A run of the action plugin: the module, and its second call where that is due."""
        self.calls, self.warnings = [], []
        result = self.call(check, **parameters)
        if confirm and result.get("unconfirmed") and not result["failed"]:
            confirmed = self.call(False, confirm=result["generation"])
            assert (confirmed["failed"], confirmed["changed"]) == (False, False), confirmed
        return result

    def call(self, check, alternatives=None, units=None, confirm="", **parameters):
        sent = {**({"confirm": confirm} if confirm else {"alternatives": alternatives or [], "units": units or UNITS}), "by": BY}
        result = {}

        def end(**values):
            result.update(values, invocation={"module_args": dict(module.params)})  # as AnsibleModule does
            raise Ended

        module = SimpleNamespace(
            params={"instance": "ce", "state": "present", "install_packages": True, "_from_controller": json.dumps(sent), "generation": "",
                    "confirm_timeout": 60, "health_target": "", "keep_generations": 5,
                    "metrics": False, "metrics_directory": str(self.exporter), **parameters},
            check_mode=check, warn=self.warnings.append,
            exit_json=lambda **values: end(failed=False, **values), fail_json=lambda **values: end(failed=True, **values))
        with pytest.raises(Ended):
            deploy.run(module)
        return result

    def trail(self):
        """The lines of the audit trail."""
        return audit.read(self.instance, 1000)["lines"]

    def actions(self):
        """What systemd was told to change."""
        words = [next(word for word in argv[1:] if not word.startswith("-")) for argv in self.calls if argv[0] == "systemctl"]
        return [word for word in words if word not in ("is-active", "show", "stop")]

    def tree(self):
        # The audit trail is no part of what it runs.
        folders = (self.etc, self.run_directory, self.units, self.exporter)
        return sorted(str(path) for folder in folders for path in folder.rglob("*") if path not in (self.wants, self.timers))


def link():
    return {"mtu": 1500, "flags": ["UP"], "addr_info": []}


def offered(translator="jool_siit", **changes):
    made = role_variables.ce_generations(translator=translator, **changes)
    return [{"name": name, "files": generations.encoded(files)} for name, files in made.items()]
