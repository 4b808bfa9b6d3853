# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one generation of a softwire instance up, takes it down, or reloads it.

A copy of this file lies in every generation, beside the plain files that it applies:

    instance.json          name, namespaces, interfaces, kernel modules, Jool tool
    <namespace>/*.nft      nftables rules, loaded before any link comes up
    <namespace>/ip         lines of "ip -batch"
    <namespace>/sysctl     lines "key = value", keys with slashes; "-key" where the machine may refuse it
    <namespace>/bpftool    the arguments of one bpftool command per line
    <namespace>/tc         lines of "tc -batch"
    main/networkd/*        files for systemd-networkd, which makes the links where these are there
    <namespace>/ip-late    lines of "ip -batch", once all this is in place
    <namespace>/jool.json  one Jool instance, loaded last
    <namespace>/flows      what the flows of the NAPT in this namespace stand for

The directory "main" stands for the main network namespace; the others are namespaces of our own.
Before each step that changes something outside our own namespaces, the step that takes it back goes into a
journal under /run/softwire: "down" replays the journal backwards, so it removes what "up" made and
nothing else, whatever happened to the generation in between. "reload" goes from the generation that is
applied to this one line by line, and restarts where that does not suffice (softwire_changes.py decides).
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
from pathlib import Path

from . import files as softwire_changes, flows as softwire_flows, networkd as softwire_networkd, state as softwire_state
from .journal import Journal, StepError, as_batch, in_namespace, run, wait_until

RUN_DIRECTORY = Path("/run/softwire")


class Generation:
    """One generation directory and the journal of its instance."""

    def __init__(self, directory):
        self.directory = directory
        self.settings = json.loads((directory / "instance.json").read_text())
        self.name = self.settings["instance"]
        self.state = RUN_DIRECTORY / self.name
        self.journal = Journal(self.state / "journal")
        # There while a generation is up as a whole; its content is the generation's directory.
        self.applied = self.state / "applied"
        # The digests of what was loaded, for who asks whether it still is.
        self.loaded = self.state / "loaded"
        self.namespaces = ["main"] + self.settings["namespaces"]

    def modules(self):
        """Loads the kernel modules; a step of its own, since the unit forbids it to the others."""
        for module in self.settings["kernel_modules"]:
            # A container sees the modules of its host but cannot load any.
            if not Path("/sys/module", module).exists():
                run(["modprobe", module])

    def up(self):
        self._wait_for_interfaces()
        for namespace in self.settings["namespaces"]:
            self.journal.run(["ip", "netns", "add", namespace], {"run": ["ip", "netns", "delete", namespace]})
        # Rules first: no packet may pass a link that they do not guard yet.
        self._each(self._flows, self._nft, self._ip_file, self._networkd, self._sysctl, self._bpf, self._tc, self._late_ip, self._jool)
        self._record_up()

    def _record_up(self):
        self.applied.write_text(str(self.directory))
        self.loaded.write_text(json.dumps(softwire_state.digests(self)))

    def down(self):
        for path in (self.applied, self.loaded):
            if path.exists():
                path.unlink()
        return self.journal.undo()

    def reload(self):
        """Goes from the applied generation to this one; links, and flows that are still allowed, stay.

        Returns whether that was possible; where not, only a restart leads to this generation.
        """
        # Where nothing is known to be applied, a directory that does not exist stands for it.
        applied = Path(self.applied.read_text()) if self.applied.exists() else self.state / "unknown"
        old, new = softwire_changes.read(applied), softwire_changes.read(self.directory)
        if not softwire_changes.reload_suffices(old, new):
            return False
        self.applied.unlink()  # whatever interrupts this leaves a mixture, which only a restart puts right
        gone, added = [], []
        for name, step in (("ip", self._ip), ("bpftool", self._bpftool), ("ip-late", self._ip)):
            for namespace in self.namespaces:
                path = "%s/%s" % (namespace, name)
                before, after = softwire_changes.changed_lines(old.get(path, b""), new.get(path, b""))
                gone += [{"run": argv_of(namespace, name, softwire_changes.inverse(line))} for line in before]
                added.append(functools.partial(step, namespace, after))
        # What leads packets somewhere goes before the rules that guard it, and comes after them.
        if not self._taken_back(gone):
            return False
        flows = {
            namespace: softwire_flows.Changes(old.get(namespace + "/flows", b""), new.get(namespace + "/flows", b""))
            for namespace in self.namespaces
        }
        held = []
        for namespace, changes in flows.items():
            rules = changes.holding_rules(self.name)
            held += deletions(namespace, rules.encode())
            if rules:
                self.journal.run(in_namespace(namespace, ["nft", "-f", "-"]), *held[-1:], text=rules)
        self._each(self._nft)
        if not self._taken_back([
            deletion for namespace in self.namespaces
            for deletion in surplus(namespace, rules_of(old, namespace), rules_of(new, namespace))
        ]):
            return False
        for namespace, changes in flows.items():
            changes.follow(namespace)
        if not self._taken_back(held):
            return False
        for step in added:
            step()
        self._each(self._jool)
        self._record_up()
        return True

    def _taken_back(self, entries):
        """Takes steps back; False where the machine is not as the applied generation left it."""
        faults = self.journal.undo(entries)
        for fault in faults:
            report(fault)
        return not faults

    def _each(self, *steps):
        for step in steps:
            for namespace in self.namespaces:
                step(namespace, self.directory / namespace)

    def _wait_for_interfaces(self):
        for interface in self.settings["interfaces"]:
            wait_until(Path("/sys/class/net", interface).exists, "network interface %s did not appear" % interface)

    def _flows(self, namespace, directory):
        path = directory / "flows"
        for entry in softwire_flows.undo(path.read_bytes()) if path.exists() else []:
            self.journal.add(**entry)

    def _nft(self, namespace, directory):
        for path in sorted(directory.glob("*.nft")):
            undo = deletions(namespace, path.read_bytes()) if namespace == "main" else []
            self.journal.run(in_namespace(namespace, ["nft", "-f", str(path)]), *undo)

    def _ip_file(self, namespace, directory):
        self._ip(namespace, softwire_changes.lines_of(directory / "ip"))

    def _late_ip(self, namespace, directory):
        self._ip(namespace, softwire_changes.lines_of(directory / "ip-late"))

    def _ip(self, namespace, lines):
        if namespace != "main":
            if lines:
                run(in_namespace(namespace, ["ip", "-batch", "-"]), text=as_batch(lines))
            return
        for moves, group in itertools.groupby(lines, key=softwire_changes.is_move):
            if moves:
                for line in group:
                    self._move(line[3], line[5])
            else:
                self.journal.run_ip(list(group))

    def _networkd(self, namespace, directory):
        if (directory / "networkd").exists():
            softwire_networkd.hand_over(directory / "networkd", self.name, self.settings["networkd"], self.journal)

    def _move(self, interface, namespace):
        """Moves an interface; the way back restores the addresses and routes that a move takes away."""
        inside = in_namespace(namespace, ["ip"])
        link = json.loads(run(["ip", "-j", "addr", "show", "dev", interface]))[0]
        routes = [
            (family, route.split())
            for family in ("-4", "-6")
            for route in run(["ip", family, "route", "show", "table", "all", "dev", interface]).splitlines()
            if not any(word in route for word in ("proto kernel", "proto ra", "expires", "table local"))
        ]
        restore = []
        if "UP" in link["flags"]:
            restore.append(["ip", "link", "set", "dev", interface, "up"])
        for address in link["addr_info"]:
            if address["scope"] == "global" and not address.get("dynamic"):
                with_length = "%s/%d" % (address["local"], address["prefixlen"])
                restore.append(["ip", "addr", "add", with_length, "dev", interface])
        # A gateway may be reachable by one of the other routes only, so those come first.
        for family, route in sorted(routes, key=lambda entry: "via" in entry[1]):
            state = [word for word in route if word not in ("linkdown", "dead")]  # shown, but refused by "route add"
            restore.append(["ip", family, "route", "add"] + state + ["dev", interface])
        # Process 1 lives in the main namespace, in a container as well.
        way_back = [inside + ["addr", "flush", "dev", interface], inside + ["link", "set", "dev", interface, "netns", "1"]] + restore
        undo = [{"run": argv} for argv in reversed(way_back)]
        self.journal.run(["ip", "link", "set", "dev", interface, "netns", namespace], *undo)

    def _sysctl(self, namespace, directory):
        path = directory / "sysctl"
        if namespace != "main":
            if path.exists():
                run(in_namespace(namespace, ["sysctl", "-q", "-p", str(path)]))
            return
        for line in softwire_changes.lines_of(path):
            key, value = line[0].lstrip("-"), line[2]
            node = Path("/proc/sys", key)
            if line[0] != key and not os.access(str(node), os.W_OK):
                report("%s = %s cannot be set on this machine" % (key, value))
                continue
            before = node.read_text().strip()
            if before == value or (key.endswith("/accept_ra") and before == "0"):
                continue  # accept_ra 0: router advertisements are handled in user space (systemd-networkd)
            for side, side_before in side_effects(node, before):
                self.journal.add(write=[str(side), side_before])
            self.journal.add(write=[str(node), before])
            node.write_text(value)

    def _bpf(self, namespace, directory):
        path = directory / "bpftool"
        if not path.exists():
            return
        # Not /sys/fs/bpf: "ip netns exec" mounts another /sys over it.
        pins = self.state / "bpf"
        pins.mkdir(parents=True, exist_ok=True)
        self.journal.run(["mount", "-t", "bpf", "bpf", str(pins)], {"run": ["umount", str(pins)]})
        self._bpftool(namespace, softwire_changes.lines_of(path))

    def _bpftool(self, namespace, lines):
        # Not "bpftool batch": it fails on what earlier lines left in errno.
        for line in lines:
            run(["bpftool"] + line, cwd=str(self.directory / namespace))

    def _tc(self, namespace, directory):
        for line in softwire_changes.lines_of(directory / "tc"):
            try:
                self.journal.run(["tc"] + line, {"run": ["tc"] + softwire_changes.inverse(line)})
            except StepError:
                if line[0] == "qdisc" and has_clsact(line[line.index("dev") + 1]):
                    continue  # somebody else's clsact serves as well, and stays
                raise

    def _jool(self, namespace, directory):
        path = directory / "jool.json"
        if not path.exists():
            return
        tool = self.settings["jool"]
        name = json.loads(path.read_text())["instance"]
        undo = [{"run": [tool, "instance", "remove", name]}] if namespace == "main" else []
        self.journal.run(in_namespace(namespace, [tool, "file", "handle", str(path)]), *undo)


def side_effects(node, before):
    """(path, value) of what writing `before` back to a sysctl would not restore: conf/all/forwarding sets others too."""
    if node.parts[-2:] != ("all", "forwarding"):
        return []
    nodes = [(path, before) for path in node.parent.parent.glob("*/forwarding") if path != node]
    if "ipv4" in node.parts:
        nodes.append((node.parent / "accept_redirects", "0" if before == "1" else "1"))
    values = [(path, path.read_text().strip(), restored) for path, restored in nodes]
    return [(path, value) for path, value, restored in values if value != restored]


def argv_of(namespace, name, line):
    """The command that a line of a file called `name` stands for."""
    if name == "bpftool":
        return ["bpftool"] + line
    return in_namespace(namespace, ["ip"] + line)


def rules_of(files, namespace):
    """The nftables rules of a namespace among files ({path: bytes})."""
    return b"".join(files[path] for path in sorted(files) if path.startswith(namespace + "/") and path.endswith(".nft"))


def deletions(namespace, rules):
    """The journal entries that delete the tables of nftables rules (bytes)."""
    return [
        {"run": in_namespace(namespace, ["nft", "delete", "table", family, table])}
        for family, table in softwire_changes.tables(rules)
    ]


def surplus(namespace, old, new):
    """The steps that delete what the old rules (bytes) made and the new ones, loaded over them, no longer have."""
    kept = softwire_changes.objects(new)
    unused = [entry for entry in softwire_changes.objects(old + b"\n" + new) if entry not in kept]
    # What is in a table that goes needs no step of its own; the rest goes in one transaction.
    inside = ["delete " + " ".join(entry) for entry in unused if ("table", *softwire_changes.table_of(entry)) in kept]
    return [{"run": in_namespace(namespace, ["nft", "delete", *entry])} for entry in unused if entry[0] == "table"] + (
        [{"run": in_namespace(namespace, ["nft", "; ".join(inside)])}] if inside else [])


def has_clsact(interface):
    return any(qdisc["kind"] == "clsact" for qdisc in json.loads(run(["tc", "-j", "qdisc", "show", "dev", interface])))


def report(fault):
    sys.stderr.write("softwire: %s\n" % fault)


def act(action, directory):
    """Brings the generation in a directory up, takes it down, or reloads it; returns the exit code."""
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
