# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one generation of a softwire instance up, takes it down, or reloads it.

A copy of this file lies in every generation, beside the plain files that it applies:

    instance.json          name, namespaces, interfaces, kernel modules, Jool tool
    <namespace>/*.nft      nftables rules, loaded before any link comes up
    <namespace>/ip         lines of "ip -batch"
    <namespace>/sysctl     lines "key = value", keys with slashes
    <namespace>/bpftool    the arguments of one bpftool command per line
    <namespace>/tc         lines of "tc -batch"
    main/networkd/*        files for systemd-networkd, which makes the links where these are there
    <namespace>/ip-late    lines of "ip -batch", once all this is in place
    <namespace>/jool.json  one Jool instance, loaded last

The directory "main" stands for the main network namespace; the others are namespaces of our own.
Before each step that changes something outside our own namespaces, the step that takes it back goes into a
journal under /run/softwire: "down" replays the journal backwards, so it removes what "up" made and
nothing else, whatever happened to the generation in between.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

RUN_DIRECTORY = Path("/run/softwire")
INTERFACE_TIMEOUT = 60  # seconds that a boot waits for a network interface to appear
# Volatile, as the journal: at a boot nothing of ours is up before our own rules are.
NETWORKD = Path("/run/systemd/network")


class StepError(Exception):
    """A step of bringing an instance up failed; the text is for a person."""


def run(argv, cwd=None, text=""):
    """Runs a command on the text and returns its standard output; raises StepError with what it printed."""
    done = subprocess.run(
        argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, cwd=cwd, check=False,
    )
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise StepError("%s: exit code %d: %s" % (" ".join(map(str, argv)), done.returncode, message))
    return done.stdout


class Journal:
    """The steps that take back what was done, in the order in which it was done.

    An entry is {"run": argv} or {"write": [path, text]}.
    """

    def __init__(self, path):
        self.path = path

    def entries(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def run(self, argv, *undo, cwd=None):
        """Runs a step; the entries that take it back are written down first, since a kill can come at any time."""
        size = self.path.stat().st_size if self.path.exists() else 0
        for entry in undo:
            self.add(**entry)
        try:
            run(argv, cwd)
        except (StepError, OSError):
            if undo:
                os.truncate(str(self.path), size)  # what failed changed nothing
            raise

    def run_ip(self, lines):
        """Runs lines of "ip -batch" in one process; what was done before a failing line stays journalled."""
        sizes = []
        for line in lines:
            sizes.append(self.path.stat().st_size if self.path.exists() else 0)
            if line[1] == "add":
                self.add(run=["ip"] + inverse(line))
        try:
            run(["ip", "-batch", "-"], text=as_batch(lines))
        except StepError as exc:
            number = re.search(r"Command failed -:(\d+)", str(exc))
            if number is None:
                raise  # whatever was done, the journal has it
            failed = int(number.group(1)) - 1
            if self.path.exists():
                os.truncate(str(self.path), sizes[failed])
            raise StepError("ip %s: %s" % (" ".join(lines[failed]), exc)) from exc

    def add(self, **entry):
        if entry in self.entries():
            return  # a reload repeats steps that the first load has journalled
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")

    def undo(self):
        """Replays the journal backwards; returns what could not be taken back."""
        steps, faults = [], []
        for batched, entries in itertools.groupby(reversed(self.entries()), key=is_batchable):
            if batched:
                lines = as_batch(entry["run"][1:] for entry in entries)
                steps.append(functools.partial(run, ["ip", "-force", "-batch", "-"], text=lines))
            else:
                steps += [functools.partial(take_back, entry) for entry in entries]
        for step in steps:
            try:
                step()
            except (StepError, OSError) as exc:
                faults.append(str(exc))
        if self.path.exists():
            self.path.unlink()
        return faults


def batch(path):
    """The lines of a batch file as argument lists, without comments and empty lines."""
    if not path.exists():
        return []
    lines = (shlex.split(line, comments=True) for line in path.read_text().splitlines())
    return [line for line in lines if line]


def as_batch(lines):
    """Argument lists as the text that a batch mode reads."""
    return "".join(" ".join(map(shlex.quote, line)) + "\n" for line in lines)


def is_batchable(entry):
    """Whether a journal entry is an ip command without options, which is all that "ip -batch" takes."""
    argv = entry.get("run", [])
    return argv[:1] == ["ip"] and not argv[1].startswith("-") and argv[1] != "netns"


def take_back(entry):
    if "run" in entry:
        run(entry["run"])
    else:
        path, text = entry["write"]
        Path(path).write_text(text)


def in_namespace(namespace, argv):
    return argv if namespace == "main" else ["ip", "netns", "exec", namespace] + argv


class Generation:
    """One generation directory and the journal of its instance."""

    def __init__(self, directory):
        self.directory = directory
        self.settings = json.loads((directory / "instance.json").read_text())
        self.name = self.settings["instance"]
        self.state = RUN_DIRECTORY / self.name
        self.journal = Journal(self.state / "journal")
        self.namespaces = ["main"] + self.settings["namespaces"]

    def up(self):
        self._wait_for_interfaces()
        self._load_kernel_modules()
        for namespace in self.settings["namespaces"]:
            self.journal.run(["ip", "netns", "add", namespace], {"run": ["ip", "netns", "delete", namespace]})
        # Rules first: no packet may pass a link that they do not guard yet.
        self._each(self._nft, self._ip, self._networkd, self._sysctl, self._bpf, self._tc, self._late_ip, self._jool)

    def down(self):
        return self.journal.undo()

    def reload(self):
        """Applies what replaces itself in one transaction; the links, addresses and routes stay."""
        self._each(self._nft, self._jool)

    def _each(self, *steps):
        for step in steps:
            for namespace in self.namespaces:
                step(namespace, self.directory / namespace)

    def _wait_for_interfaces(self):
        for interface in self.settings["interfaces"]:
            wait_until(Path("/sys/class/net", interface).exists, "network interface %s did not appear" % interface)

    def _load_kernel_modules(self):
        for module in self.settings["kernel_modules"]:
            # A container sees the modules of its host but cannot load any.
            if not Path("/sys/module", module).exists():
                run(["modprobe", module])

    def _nft(self, namespace, directory):
        for path in sorted(directory.glob("*.nft")):
            made = tables(path.read_text()) if namespace == "main" else []
            undo = [{"run": ["nft", "delete", "table", family, table]} for family, table in made]
            self.journal.run(in_namespace(namespace, ["nft", "-f", str(path)]), *undo)

    def _late_ip(self, namespace, directory):
        self._ip(namespace, directory, "ip-late")

    def _ip(self, namespace, directory, name="ip"):
        path = directory / name
        if namespace != "main":
            if path.exists():
                run(["ip", "-n", namespace, "-batch", str(path)])
            return
        for moves, lines in itertools.groupby(batch(path), key=is_move):
            if moves:
                for line in lines:
                    self._move(line[3], line[5])
            else:
                self.journal.run_ip(list(lines))

    def _networkd(self, namespace, directory):
        """Hands our files to systemd-networkd, and waits until it has done what they say."""
        files = directory / "networkd"
        if not files.exists():
            return
        wanted = self.settings["networkd"]
        drop_ins = NETWORKD / (Path(self._networkd_file(wanted["wan"])).name + ".d")
        self.journal.add(run=["ip", "link", "del", wanted["device"]])
        self.journal.add(run=["networkctl", "reload"])
        self.journal.add(run=["rmdir", "--ignore-fail-on-non-empty", str(drop_ins)])
        for path in sorted(files.iterdir()):
            target = drop_ins / ("softwire-%s.conf" % self.name) if path.suffix == ".conf" else NETWORKD / path.name
            self.journal.add(run=["rm", "-f", str(target)])
            for directory in (NETWORKD, target.parent):
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(0o755)  # systemd-networkd is a user of its own
            target.write_text(path.read_text())
            target.chmod(0o644)
        run(["networkctl", "reload"])
        wait_until(
            lambda: networkctl_field(wanted["device"], "State").endswith("(configured)") and has_address(wanted["wan"], wanted["address"]),
            "systemd-networkd did not set up %s and %s on %s" % (wanted["device"], wanted["address"], wanted["wan"]))

    @staticmethod
    def _networkd_file(interface):
        """The .network file that configures an interface; at a boot systemd-networkd needs a moment to choose it."""
        wait_until(lambda: networkd_file(interface), "systemd-networkd does not configure %s" % interface)
        return networkd_file(interface)

    def _move(self, interface, namespace):
        """Moves an interface; the way back restores the addresses and routes that a move takes away."""
        inside = ["ip", "-n", namespace]
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
        for line in batch(path):
            key, value = line[0], line[2]
            node = Path("/proc/sys", key)
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
        # Not "bpftool batch": it fails on what earlier lines left in errno.
        for line in batch(path):
            run(["bpftool"] + line, cwd=str(directory))

    def _tc(self, namespace, directory):
        for line in batch(directory / "tc"):
            try:
                self.journal.run(["tc"] + line, {"run": ["tc"] + inverse(line)})
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


def wait_until(condition, fault):
    deadline = time.monotonic() + INTERFACE_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise StepError("%s within %d s" % (fault, INTERFACE_TIMEOUT))
        time.sleep(0.2)


def networkctl_field(interface, name):
    """One line of what networkctl says of an interface, without its label; "" where it says nothing."""
    try:
        done = subprocess.run(
            ["networkctl", "--no-pager", "status", interface], env=dict(os.environ, LC_ALL="C"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, check=False,
        )
    except FileNotFoundError:
        return ""
    found = re.search(r"^\s*%s: (.+)$" % name, done.stdout, re.MULTILINE)
    return found.group(1).strip() if found else ""


def networkd_file(interface):
    """The path of the .network file by which systemd-networkd configures an interface, or None."""
    path = networkctl_field(interface, "Network File")
    return path if path.startswith("/") else None


def has_address(interface, address):
    shown = json.loads(run(["ip", "-j", "addr", "show", "dev", interface]))
    return any(entry["local"] == address for link in shown for entry in link.get("addr_info", []) if "local" in entry)


def side_effects(node, before):
    """(path, value) of what writing `before` back to a sysctl would not restore: conf/all/forwarding sets others too."""
    if node.parts[-2:] != ("all", "forwarding"):
        return []
    nodes = [(path, before) for path in node.parent.parent.glob("*/forwarding") if path != node]
    if "ipv4" in node.parts:
        nodes.append((node.parent / "accept_redirects", "0" if before == "1" else "1"))
    values = [(path, path.read_text().strip(), restored) for path, restored in nodes]
    return [(path, value) for path, value, restored in values if value != restored]


def is_move(line):
    return line[:3] == ["link", "set", "dev"] and line[4:5] == ["netns"]


def tables(rules):
    """The (family, name) of the tables that an nftables file makes."""
    made = []
    for line in rules.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "table" and tuple(words[1:3]) not in made:
            made.append(tuple(words[1:3]))
    return made


def inverse(line):
    """The "del" that takes back an "add" line of "ip -batch" or "tc -batch"."""
    kind, arguments = line[0], line[2:]
    if kind == "link":
        arguments = arguments[:1]
    elif kind == "filter":
        arguments = arguments[: arguments.index("pref") + 2]
    return [kind, "del"] + arguments


def has_clsact(interface):
    return any(qdisc["kind"] == "clsact" for qdisc in json.loads(run(["tc", "-j", "qdisc", "show", "dev", interface])))


def report(fault):
    sys.stderr.write("softwire: %s\n" % fault)


def main():
    parser = argparse.ArgumentParser(description="Bring a softwire instance up, take it down, or reload it.")
    parser.add_argument("action", choices=["up", "down", "reload"])
    action = parser.parse_args().action
    generation = Generation(Path(os.path.realpath(__file__)).parent)
    try:
        if action != "reload":
            for fault in generation.down():  # before "up": what a killed "up" left behind
                report(fault)
        if action == "up":
            generation.up()
        elif action == "reload":
            generation.reload()
    except (StepError, OSError) as exc:
        report(exc)
        if action == "up":
            generation.down()
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
