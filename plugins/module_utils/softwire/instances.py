# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What two instances on one router cannot both have; what they can share, the journals count (journal.py)."""

from __future__ import annotations

import ipaddress
import json

from .files import inverse, split_lines

ADVICE = {
    "addr": "an address belongs to one of them",
    "route": "choose another map_ce_route_table where it has a table, else leave the destination to one of them",
    "filter": "give them different interfaces",
    "link": "a network namespace has room for one such device, so set map_ce_mesh: false, or serve all domains by one border relay",
}


def conflicts(files, others):
    """Why a generation cannot run beside the router's other instances; texts for a person.

    files: of the generation, {path: bytes}. others: {name of an instance: the files of its generation}.
    """
    return [
        text for name, theirs in sorted(others.items()) if theirs for find in (interfaces, namespaces, sysctls, veth_networks, places)
        for text in find(files, theirs, "instance %s of this router" % name)]


def interfaces(files, theirs, other):
    """Interfaces that one of the two moves into its namespace, and LANs of both."""
    ours, used = settings(files)["interfaces"], settings(theirs)["interfaces"]
    for name in sorted(set(ours) & set(used)):
        moved, lan = used[name].get("move"), "map_ce_lan_interfaces"
        if moved or ours[name].get("move") or (ours[name]["variable"].startswith(lan) and used[name]["variable"].startswith(lan)):
            yield "%s: %s: %s has this interface%s; give each of them its own" % (
                ours[name]["variable"], name, other, " in namespace " + moved if moved else "")


def namespaces(files, theirs, other):
    """Namespaces of one name."""
    ours = settings(files)
    for name in sorted(set(ours["namespaces"]) & set(settings(theirs)["namespaces"])):
        yield "%s: %s: %s has a network namespace of this name; choose another" % (ours["namespace_variables"][name], name, other)


def sysctls(files, theirs, other):
    """Settings of the main namespace with two values."""
    ours, used = ({line[0].lstrip("-"): line[2] for _name, line in lines(each, "sysctl")} for each in (files, theirs))
    for key in sorted(set(ours) & set(used)):
        if ours[key] != used[key]:
            yield "main/sysctl: %s = %s: %s needs %s; give both the same value" % (key, ours[key], other, used[key])


def veth_networks(files, theirs, other):
    """Networks of two customer edges' veth pairs, or of what has their addresses, that overlap (map_ce_veth_network)."""
    ours, used = (json.loads(each["parameters.json"]).get("veth") for each in (files, theirs))
    if ours and used and ipaddress.ip_network(ours["network"]).overlaps(ipaddress.ip_network(used["network"])):
        yield "map_ce_veth_network: %s: overlaps %s of %s; choose another" % (ours["network"], used["network"], other)


def places(files, theirs, other):
    """What only one of the two can have: an address, a route, the place of a program, the one tunnel device to everywhere."""
    ours, used = ({place(line): (name, line) for name, line in lines(each, "ip", "tc", "ip-late")} for each in (files, theirs))
    for key in sorted((set(ours) & set(used)) - {None}):
        (name, line), (_name, taken) = ours[key], used[key]
        # A route of both that leads the same way is one route.
        if key[0] != "route" or line != taken:
            yield "main/%s: %s: %s has %s; %s" % (name, " ".join(line), other, " ".join(taken), ADVICE[key[0]])


def place(line):
    """What identifies the place that a line takes, a tuple of words; None for a line that leaves room for others."""
    if line[:2] == ["addr", "add"] and ":" in line[2] and not line[2].startswith("fe80:"):
        return ("addr", line[2].split("/")[0])
    if line[:2] == ["route", "add"]:
        words = [word for word in line[2:] if word not in ("unreachable", "blackhole")]
        return ("route", words[0], *(words[words.index(name) + 1] if name in words else "" for name in ("table", "metric")))
    if line[:2] == ["filter", "add"]:
        return ("filter", *inverse(line)[2:])
    return ("link", "external") if line[:2] == ["link", "add"] and "external" in line else None


def settings(files):
    return json.loads(files["instance.json"])


def lines(files, *names):
    """(name of the file, line as a list of words) of files for the main namespace."""
    return [(name, line) for name in names for line in split_lines(files.get("main/" + name, b""))]
