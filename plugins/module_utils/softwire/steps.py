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

from . import flows, networkd
from .commands import StepError, as_batch, in_namespace, report, run
from .files import inverse, is_move, lines_of, tables
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
    for moves, group in itertools.groupby(lines, key=is_move):
        if moves:
            for line in group:
                move(journal, line[3], line[5])
        else:
            journal.run_ip(list(group))


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
    for line in lines_of(path):
        key, value = line[0].lstrip("-"), line[2]
        node = Path("/proc/sys", key)
        if line[0] != key and not os.access(str(node), os.W_OK):
            report("%s = %s cannot be set on this machine" % (key, value))
            continue
        before = node.read_text().strip()
        if before == value or (key.endswith("/accept_ra") and before == "0"):
            continue  # accept_ra 0: router advertisements are handled in user space (systemd-networkd)
        for side, side_before in side_effects(node, before):
            journal.add(write=[str(side), side_before])
        journal.add(write=[str(node), before])
        node.write_text(value)


def side_effects(node, before):
    """(path, value) of what writing `before` back to a sysctl would not restore: conf/all/forwarding sets others too."""
    if node.parts[-2:] != ("all", "forwarding"):
        return []
    nodes = [(path, before) for path in node.parent.parent.glob("*/forwarding") if path != node]
    if "ipv4" in node.parts:
        nodes.append((node.parent / "accept_redirects", "0" if before == "1" else "1"))
    values = [(path, path.read_text().strip(), restored) for path, restored in nodes]
    return [(path, value) for path, value, restored in values if value != restored]


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
    for line in lines:
        entries = [{"run": ["tc"] + inverse(line)}] if namespace == "main" else []
        try:
            journal.run(in_namespace(namespace, ["tc"] + line), *entries)
        except StepError:
            if namespace == "main" and line[0] == "qdisc" and has_clsact(line[line.index("dev") + 1]):
                continue  # somebody else's clsact serves as well, and stays
            raise


def has_clsact(interface):
    return any(qdisc["kind"] == "clsact" for qdisc in json.loads(run(["tc", "-j", "qdisc", "show", "dev", interface])))


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
