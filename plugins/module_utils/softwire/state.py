# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the kernel still has what the runner has put there. A copy of this file lies in every generation, beside softwire.py.

softwire_check.py says whether an instance works at all, for a deployment that would be taken back. This goes further, for
who wants to know whether somebody has changed something since: routes, rules and sysctls by what the generation says of
them, and the contents of nftables tables, of Jool and of BPF maps by digests taken when they were loaded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from . import files as softwire_changes
from .journal import StepError, in_namespace, run

BPF_MAPS = ("rules", "br_aliases", "config")
# Selectors of "ip route show" and "ip rule show"
ROUTE_WORDS, RULE_WORDS = ("dev", "table"), ("pref", "iif", "to")


def digests(generation):
    """{what: SHA-256} of everything with contents that a generation (softwire.Generation) has loaded, None where it cannot be read."""
    found = {}
    for namespace in generation.namespaces:
        directory = generation.directory / namespace
        for path in sorted(directory.glob("*.nft")):
            for family, table in softwire_changes.tables(path.read_bytes()):
                found["nftables table %s %s (namespace %s)" % (family, table, namespace)] = digest(
                    [in_namespace(namespace, ["nft", "-j", "list", "table", family, table])], lasting)
        if (directory / "jool.json").exists():
            name = json.loads((directory / "jool.json").read_text())["instance"]
            tool = generation.settings["jool"]
            found["translator instance %s (namespace %s)" % (name, namespace)] = digest([
                in_namespace(namespace, [tool, "-i", name, mode, "display", "--csv"])
                for mode in ("global", "eamt" if tool == "jool_siit" else "fmrt")])
    for name in BPF_MAPS:
        path = generation.state / "bpf" / "maps" / name
        if path.exists():
            found["BPF map %s" % name] = digest([["bpftool", "-j", "map", "dump", "pinned", str(path)]])
    return found


def digest(commands, read=str):
    """SHA-256 of what commands print, as read(text) leaves it; None where one fails or prints something else."""
    try:
        return hashlib.sha256("".join(read(run(argv)) for argv in commands).encode()).hexdigest()
    except (StepError, OSError, ValueError):
        return None


def lasting(listed):
    """nftables' JSON without what packets change: the values of counters, and the clients counted at the moment."""
    entries = []
    for entry in json.loads(listed)["nftables"]:
        (kind, value), = entry.items()
        changing = {"counter": ("packets", "bytes"), "set": ("elem",) if value.get("name") == "clients" else ()}.get(kind, ())
        entries.append({kind: {key: value[key] for key in value if key not in changing}})
    return json.dumps(entries)


def faults(generation, recorded):
    """What is not as the generation says or as it was loaded; texts for a person.

    recorded: the digests taken when the generation was loaded.
    """
    now = digests(generation)
    found = ["%s: not as it was loaded" % what for what in sorted(now) if recorded.get(what) != now[what]]
    for namespace in generation.namespaces:
        directory = generation.directory / namespace
        for line in [line for name in ("ip", "ip-late") for line in softwire_changes.lines_of(directory / name)]:
            selector = selector_of(line)
            if selector and not shown(namespace, selector):
                found.append("%s (namespace %s): missing" % (" ".join(line), namespace))
        if namespace == "main":
            found += list(other_sysctls(directory / "sysctl"))
    return found


def selector_of(line):
    """The command that shows what a line of "ip -batch" has added, or None for what is not looked up here."""
    family = "-6" if any(":" in word for word in line) else "-4"
    if line[:2] == ["route", "add"]:
        kind = ["type", line[2]] if line[2] in ("unreachable", "blackhole") else []
        words = line[2 + len(kind) // 2:]
        return ["ip", family, "route", "show", *kind, "exact", words[0], *chosen(words, ROUTE_WORDS)]
    if line[:2] == ["rule", "add"]:
        return ["ip", family, "rule", "show", *chosen(line, RULE_WORDS)]
    if line[:3] == ["neigh", "add", "proxy"]:
        return ["ip", family, "neigh", "show", "proxy", line[3], *chosen(line, ("dev",))]
    return None


def chosen(words, names):
    """Those of the names that are among words, each with the word after it."""
    return [word for name in names if name in words for word in (name, words[words.index(name) + 1])]


def shown(namespace, argv):
    try:
        return run(in_namespace(namespace, argv)).strip()
    except StepError:
        return ""  # a routing table that nobody uses does not exist


def other_sysctls(path):
    """Lines of a sysctl file that the kernel does not have so; not those that a container may not set."""
    for key, _equals, value in softwire_changes.lines_of(path):
        node = Path("/proc/sys", key.lstrip("-"))
        now = node.read_text().strip() if node.exists() else "missing"
        if now != value and not key.startswith("-") and not (key.endswith("/accept_ra") and now == "0"):
            yield "sysctl %s: %s, not %s" % (key, now, value)
