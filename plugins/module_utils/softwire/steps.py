# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that apply the files of one namespace. Each is a function of

journal: the instance's; a step adds how to undo what it changes outside our own namespaces, which end with what is in them
directory: of the generation's files for the namespace, whose name it has; "main" is the router's own
settings: the content of instance.json

and raises StepError or OSError. A step whose file is not there does nothing.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from . import drift, fast_path, flows, networkd
from .commands import as_batch, in_namespace, report, run, tell
from .files import inverse, is_move, lines_of, tables
from .journal import by_subject, subject
from .paths import Paths


def remember_flows(journal, directory, settings):
    """Lets "down" forget the flows of the NAPT; does nothing else."""
    path = directory / "flows"
    for entry in flows.forgetting(path.read_bytes()) if path.exists() else []:
        journal.add(**entry)


def load_rules(journal, directory, settings):
    """Loads the nftables files, each in one transaction."""
    namespace = directory.name
    for path in sorted(directory.glob("*.nft")):
        entries = deletions(namespace, path.read_bytes()) if namespace == "main" else []
        journal.run(in_namespace(namespace, ["nft", "-f", str(path)]), *entries)


def deletions(namespace, rules):
    """The journal entries that delete the tables of nftables rules (bytes)."""
    return [{"run": in_namespace(namespace, ["nft", "delete", "table", family, name])} for family, name in tables(rules)]


def make_links(journal, directory, settings):
    """Runs the file "ip": links, and what needs nothing but them."""
    run_ip(journal, directory, settings, lines_of(directory / "ip"))


def add_routes(journal, directory, settings):
    """Runs the file "ip-late": what needs all the rest."""
    run_ip(journal, directory, settings, lines_of(directory / "ip-late"))


def run_ip(journal, directory, settings, lines):
    """Runs lines of "ip -batch"."""
    namespace = directory.name
    if namespace != "main":
        if lines:
            run(in_namespace(namespace, ["ip", "-batch", "-"]), text=as_batch(lines))
        return
    with journal.locked() as others:
        for moves, group in itertools.groupby(lines, key=is_move):
            if moves:
                for line in group:
                    move(journal, line[3], line[5])
            else:
                journal.run_ip([line for line in group if not is_shared(journal, line, others)])


def is_shared(journal, line, others):
    """Whether the work of a line for "ip" is there already, of another instance; it then stays until neither needs it.

    others: what Journal.locked() gives.
    """
    entry = {"run": ["ip"] + inverse(line)}
    if line[1] != "add" or subject(entry) not in others or not drift.is_there("main", line, {}):
        return False
    journal.add(**entry)
    return True


def move(journal, interface, namespace):
    """Moves an interface to a namespace of ours; the entries restore the addresses and routes that a move takes away."""
    link = json.loads(run(["ip", "-j", "addr", "show", "dev", interface]))[0]
    routes = [
        (family, route.split())
        for family in ("-4", "-6")
        for route in run(["ip", family, "route", "show", "table", "all", "dev", interface]).splitlines()
        if not any(word in route for word in ("proto kernel", "proto ra", "expires", "table local"))
    ]
    inside = in_namespace(namespace, ["ip"])
    # Process 1 lives in the main namespace, in a container as well.
    back = [inside + ["addr", "flush", "dev", interface], inside + ["link", "set", "dev", interface, "netns", "1"]]
    if "UP" in link["flags"]:
        back.append(["ip", "link", "set", "dev", interface, "up"])
    for address in link["addr_info"]:
        if address["scope"] == "global" and not address.get("dynamic"):
            back.append(["ip", "addr", "add", "%s/%d" % (address["local"], address["prefixlen"]), "dev", interface])
    # A gateway may be reachable by one of the other routes only, so those come first.
    for family, route in sorted(routes, key=lambda entry: "via" in entry[1]):
        words = [word for word in route if word not in ("linkdown", "dead")]  # shown, but refused by "route add"
        back.append(["ip", family, "route", "add"] + words + ["dev", interface])
    journal.run(["ip", "link", "set", "dev", interface, "netns", namespace], *[{"run": argv} for argv in reversed(back)])


def hand_over_device(journal, directory, settings):
    """Lets systemd-networkd make the device that its files here describe."""
    if (directory / "networkd").exists():
        networkd.make_device(directory / "networkd", settings["networkd"], journal)


def set_sysctls(journal, directory, settings):
    """Sets the lines "key = value" of the file "sysctl"; a key that begins with "-" may be refused by the machine."""
    path = directory / "sysctl"
    if directory.name != "main":
        if path.exists():
            run(in_namespace(directory.name, ["sysctl", "-q", "-p", str(path)]))
        return
    with journal.locked() as others:
        # In the journal of this instance, too, where the value is right already: another one, which has set it, may go.
        known = {**others, **by_subject(journal.entries())}
        for line in lines_of(path):
            key, value = line[0].lstrip("-"), line[2]
            node = Path("/proc/sys", key)
            if line[0] != key and not os.access(str(node), os.W_OK):
                report("%s = %s cannot be set on this machine" % (key, value))
                continue
            now = node.read_text().strip()
            if key.endswith("/accept_ra") and now == "0":
                continue  # router advertisements are handled in user space (systemd-networkd)
            for entry in entries_of_sysctl(node, now, value, known):
                journal.add(**entry)
            if now != value:
                node.write_text(value)


def entries_of_sysctl(node, now, value, known):
    """The journal entries that undo the change of a sysctl (a Path) from the value that it has now to another.

    known: {path: entry} of what instances of this router, this one included, have set before.
    """
    sides = sides_of(node, now)
    if str(node) in known:
        return [known[str(path)] for path in [*sides, node] if str(path) in known]
    lost = {path: path.read_text().strip() for path in sides} if now != value else {}
    return [{"write": [str(path), before]} for path, before in [*lost.items(), (node, now)] if before != sides.get(path)]


def sides_of(node, value):
    """{path: value} of what writing a value to a sysctl sets, too; conf/all/forwarding sets others."""
    if node.parts[-2:] != ("all", "forwarding"):
        return {}
    sides = {path: value for path in node.parent.parent.glob("*/forwarding") if path != node}
    if "ipv4" in node.parts:
        sides[node.parent / "accept_redirects"] = "0" if value == "1" else "1"
    return sides


def load_programs(journal, directory, settings):
    """Runs the file "bpftool": BPF programs, and the entries of their maps."""
    path = directory / "bpftool"
    if not path.exists():
        return
    pins = Paths(settings["instance"]).bpf
    pins.mkdir(parents=True, exist_ok=True)
    journal.run(["mount", "-t", "bpf", "bpf", str(pins)], {"run": ["umount", str(pins)]})
    run_bpftool(journal, directory, settings, lines_of(path))


def run_bpftool(journal, directory, settings, lines):
    """Runs bpftool once for each line; what it loads goes with the file system that it is pinned in."""
    # Not "bpftool batch": it fails on what earlier lines left in errno.
    for line in lines:
        if line[:2] == ["prog", "loadall"]:
            Path(line[3]).parent.mkdir(exist_ok=True)  # what bpftool makes itself is the last directory
        run(["bpftool"] + line, cwd=str(directory))


def attach_programs(journal, directory, settings):
    """Runs the file "tc"."""
    run_tc(journal, directory, settings, lines_of(directory / "tc"))


def run_tc(journal, directory, settings, lines):
    """Runs tc once for each line."""
    namespace = directory.name
    with journal.locked() as others:
        for line in lines:
            entry = {"run": ["tc"] + inverse(line)}
            if line[0] == "qdisc" and drift.is_there(namespace, line, {}):
                # Somebody else's clsact serves as well, and stays; another instance's stays until neither needs it.
                if namespace == "main" and subject(entry) in others:
                    journal.add(**entry)
            else:
                journal.run(in_namespace(namespace, ["tc"] + line), *([entry] if namespace == "main" else []))


def set_fast_path(journal, directory, settings):
    """Runs the file "fast" where nothing has to see the packets that its programs take, and takes them away where something has."""
    lines = lines_of(directory / "fast")
    reasons = fast_path.obstacles(directory, settings) if lines else []
    if reasons:
        attached = [line for line in lines if line[0] == "filter" and drift.is_attached(directory.name, line)]
        for fault in journal.undo([{"run": ["tc"] + inverse(line)} for line in attached]):
            report(fault)
        tell("map_br_fast_path: auto: off, for %s" % "; ".join(reasons))
    else:
        run_tc(journal, directory, settings, [line for line in lines if line[0] == "qdisc" or not drift.is_attached(directory.name, line)])


def hand_over_links(journal, directory, settings):
    """Lets systemd-networkd configure the links that its files here describe."""
    if (directory / "networkd").exists():
        networkd.configure(directory / "networkd", settings["instance"], settings["networkd"], journal)


def load_translator(journal, directory, settings):
    """Makes the instance of Jool, or gives it another configuration."""
    path = directory / "jool.json"
    if not path.exists():
        return
    tool, name = settings["jool"], json.loads(path.read_text())["instance"]
    entries = [{"run": [tool, "instance", "remove", name]}] if directory.name == "main" else []
    journal.run(in_namespace(directory.name, [tool, "file", "handle", str(path)]), *entries)
