# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one generation of a softwire instance up, takes it down, or reloads it.

A copy of this package lies in every generation, beside the plain files that it applies:

    instance.json          name, namespaces, interfaces, kernel modules, Jool tool
    <namespace>/*.nft      nftables rules, loaded before any link comes up
    <namespace>/ip         lines of "ip -batch"
    <namespace>/sysctl     lines "key = value", keys with slashes; "-key" where the machine may refuse it
    <namespace>/bpftool    the arguments of one bpftool command per line
    <namespace>/tc         lines of "tc -batch"
    main/fast              the same of a border relay's fast path, where nothing on the router has to see the packets that it takes
    main/networkd/*        files for systemd-networkd, which makes the links where these are there
    <namespace>/ip-late    lines of "ip -batch", once all this is in place
    <namespace>/jool.json  one Jool instance, loaded last
    <namespace>/flows      what the flows of the NAPT in this namespace stand for

The directory "main" stands for the main network namespace; the others are namespaces of our own.
Before each step that changes something outside our own namespaces, the entry that undoes it goes into a
journal under /run/softwire: "down" replays the journal backwards, so it removes what "up" made and
nothing else, whatever happened to the generation in between. "reload" goes from the generation that is
applied to this one line by line, and restarts where that does not suffice (files.py decides).
"""

from __future__ import annotations

import json
from pathlib import Path

from . import drift, flows, steps
from .commands import StepError, in_namespace, report, run, wait_until
from .files import changed_lines, inverse, lines_of, objects, read, reload_suffices, table_of
from .journal import Journal
from .paths import FORMAT, FormatError, Paths, read_record, write
from .steps import deletions

# The step for some of the lines of a file; a reload takes those of some files one by one.
STEPS = {"ip": steps.run_ip, "bpftool": steps.run_bpftool, "tc": steps.run_tc, "ip-late": steps.run_ip}
ROUTES, MAPS = ("ip", "ip-late"), ("bpftool",)


class Generation:
    """One generation directory and the journal of its instance."""

    def __init__(self, directory):
        """Raises OSError or FormatError where it cannot be read, or its journal is of a later version."""
        self.directory = directory
        self.settings = read_record(directory / "instance.json")
        if not self.settings:
            raise FormatError("%s: is missing, empty or torn; deploy the instance again" % (directory / "instance.json"))
        self.name = self.settings["instance"]
        self.namespaces = ["main"] + self.settings["namespaces"]
        self.paths = Paths(self.name)
        self.journal = Journal(self.paths.journal)

    def modules(self):
        """Loads the kernel modules; a step of its own, since the unit forbids it to the others."""
        for module in self.settings["kernel_modules"]:
            # A container sees the modules of its host but cannot load any.
            if not Path("/sys/module", module).exists():
                run(["modprobe", module])

    def up(self):
        """Brings everything up; raises StepError or OSError, and the journal then has what was done."""
        for interface in self.settings["interfaces"]:
            wait_until(Path("/sys/class/net", interface).exists, "network interface %s did not appear" % interface)
        for namespace in self.settings["namespaces"]:
            self.journal.run(["ip", "netns", "add", namespace], {"run": ["ip", "netns", "delete", namespace]})
        # Rules and programs first: no packet may pass a link that they do not guard yet.
        for step in (steps.remember_flows, steps.load_rules, steps.make_links, steps.hand_over_device, steps.set_sysctls,
                     steps.load_programs, steps.attach_programs, steps.set_fast_path, steps.hand_over_links, steps.add_routes, steps.load_translator):
            self._everywhere(step)
        self._record_up()

    def down(self):
        """Undoes what the journal has; returns what could not be undone, texts for a person."""
        for path in (self.paths.applied, self.paths.loaded):
            if path.exists():
                path.unlink()
        return self.journal.undo()

    def reload(self):
        """Goes from the applied generation to this one, and puts back what somebody has taken; links, and flows that are still allowed, stay.

        Returns whether that was possible; where not, only a restart leads to this generation. Raises StepError where not even
        that would, for want of an interface; everything stays as it is.
        """
        self._need_interfaces()
        applied = self.paths.applied_directory()
        old = read(applied) if applied else {}
        new = read(self.directory)
        if not reload_suffices(old, new):
            return False
        self.paths.applied.unlink()  # whatever interrupts this leaves a mixture, which only a restart puts right
        dropped, added = self._changed_lines(old, new, ROUTES)
        # Drop routes before the rules that guard them; add new ones after.
        if not self._undo(dropped) or not self._replace_rules(old, new):
            return False
        self._run_lines(added)
        self._everywhere(steps.load_translator)
        if not self._put_back(old == new):
            return False
        self._record_up()
        return True

    def _need_interfaces(self):
        """Raises StepError where an interface is in no namespace of ours, so that nothing of us would come up."""
        for interface in drift.absent_interfaces(self):
            raise StepError("there is no network interface %s" % interface)

    def _put_back(self, same):
        """Does again what of this generation has got lost or was changed; False where that does not put the router right.

        same: whether this generation was up before, so that everything has to be as it was when it was loaded.
        """
        if drift.gone_namespaces(self):
            return False
        for namespace in self.namespaces:
            kinds = drift.PARTS + drift.WAYS
            lines = list(drift.lost(self, namespace, kinds))
            if any(line[:2] == ["link", "add"] for _name, line in lines):
                return False  # what hung on the link has gone with it
            self._in(namespace, steps.set_sysctls)
            # A clsact that is there may be another instance's, and from now on needed by this one as well.
            qdiscs = [("tc", line) for line in lines_of(self.directory / namespace / "tc") if line[0] == "qdisc"]
            lines = qdiscs + [line for line in lines if line not in qdiscs]
            for name in STEPS:
                self._in(namespace, STEPS[name], [line for file, line in lines if file == name])
            self._in(namespace, steps.set_fast_path)
            if same:
                maps = [line for line in lines_of(self.directory / namespace / "bpftool") if line[0] == "map"]
                self._in(namespace, steps.run_bpftool, maps if any("BPF map" in what for what in drift.changed_contents(self)) else [])
        faults = drift.missing(self) or (drift.changed(self) if same else [])
        for fault in faults:
            report(fault)
        return not faults

    def _changed_lines(self, old, new, names):
        """Compares files of two sets; returns (journal entries that drop the lines that are gone, [(step, namespace, new lines)])."""
        dropped, added = [], []
        for name in names:
            for namespace in self.namespaces:
                path = "%s/%s" % (namespace, name)
                gone, lines = changed_lines(old.get(path, b""), new.get(path, b""))
                dropped += [{"run": command(namespace, name, inverse(line))} for line in gone]
                added.append((STEPS[name], namespace, lines))
        return dropped, added

    def _replace_rules(self, old, new):
        """Loads rules and maps of another set of files, and moves or forgets the flows that they mean otherwise; False where that fails."""
        changes = {
            namespace: flows.Changes(old.get(namespace + "/flows", b""), new.get(namespace + "/flows", b"")) for namespace in self.namespaces}
        held = []
        for namespace in self.namespaces:
            rules = changes[namespace].holding_rules(self.name)
            if rules:
                held += deletions(namespace, rules.encode())
                self.journal.run(in_namespace(namespace, ["nft", "-f", "-"]), held[-1], text=rules)
        dropped, added = self._changed_lines(old, new, MAPS)
        if not self._undo(dropped):
            return False
        self._everywhere(steps.load_rules)
        self._run_lines(added)
        left = [entry for namespace in self.namespaces for entry in surplus(namespace, rules_of(old, namespace), rules_of(new, namespace))]
        if not self._undo(left):
            return False
        for namespace in self.namespaces:
            changes[namespace].apply(namespace)
        return self._undo(held)

    def _run_lines(self, added):
        """Runs the new lines that _changed_lines() has found."""
        for step, namespace, lines in added:
            self._in(namespace, step, lines)

    def _undo(self, entries):
        """Undoes journal entries; False where the machine is not as the applied generation left it."""
        faults = self.journal.undo(entries)
        for fault in faults:
            report(fault)
        return not faults

    def _in(self, namespace, step, *arguments):
        step(self.journal, self.directory / namespace, self.settings, *arguments)

    def _everywhere(self, step):
        for namespace in self.namespaces:
            self._in(namespace, step)

    def _record_up(self):
        write(self.paths.applied, str(self.directory))
        write(self.paths.loaded, json.dumps({"format": FORMAT, "digests": drift.digests(self)}))


def command(namespace, name, line):
    """The command that a line of a file called `name` stands for."""
    return ["bpftool"] + line if name == "bpftool" else in_namespace(namespace, ["ip"] + line)


def rules_of(files, namespace):
    """The nftables rules of a namespace among files ({path: bytes})."""
    return b"".join(files[path] for path in sorted(files) if path.startswith(namespace + "/") and path.endswith(".nft"))


def surplus(namespace, old, new):
    """The steps that delete what the old rules (bytes) made and the new ones, loaded over them, no longer have."""
    kept = objects(new)
    unused = [entry for entry in objects(old + b"\n" + new) if entry not in kept]
    # What is in a table that goes needs no step of its own; the rest goes in one transaction.
    inside = ["delete " + " ".join(entry) for entry in unused if ("table",) + table_of(entry) in kept]
    return [{"run": in_namespace(namespace, ["nft", "delete", *entry])} for entry in unused if entry[0] == "table"] + (
        [{"run": in_namespace(namespace, ["nft", "; ".join(inside)])}] if inside else [])


def act(action, directory):
    """Brings the generation in a directory up, takes it down, or reloads it; returns the exit code. Raises FormatError."""
    generation = Generation(directory)
    try:
        if action == "reload" and not generation.reload():
            action = "up"
        if action in ("up", "down"):
            for fault in generation.down():  # before "up": what a killed "up" left behind
                report(fault)
        if action == "modules":
            generation.modules()
        elif action == "up":
            generation.up()
    except (StepError, OSError) as exc:
        report(exc)
        if action == "up":
            generation.down()
        return 1
    return 0
