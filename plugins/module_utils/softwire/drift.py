# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a router with the generation that it is to run; changes nothing.

missing() finds what an instance cannot work without; a deployment that lacks it is rolled back. changed() finds what somebody
has changed since: it compares routes, rules and sysctls with the generation's files, and the contents of nftables tables, of
Jool and of BPF maps with digests that were taken when they were loaded.

Each takes a runner.Generation, and raises OSError where a tool is not there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .commands import StepError, in_namespace, query, run, succeeds
from .files import lines_of, tables

BPF_MAPS = ("rules", "br_aliases", "config", "index_to_port", "port_to_index")
PROGRAM_NAME_LENGTH = 15  # BPF_OBJ_NAME_LEN of Linux, less the zero at the end
# Selectors of "ip route show" and "ip rule show"
ROUTE_WORDS, RULE_WORDS = ("dev", "table"), ("pref", "iif", "to")


def missing(generation):
    """The tables, links, addresses, programs and translators of a generation that are not there; texts for a person."""
    return [
        "%s (namespace %s): missing" % (what, namespace)
        for namespace in generation.namespaces for what in missing_in(generation, namespace)
    ]


def missing_in(generation, namespace):
    """The same of one namespace, without its name."""
    directory, settings = generation.directory / namespace, generation.settings
    there = {(entry["table"]["family"], entry["table"]["name"])
             for entry in query(in_namespace(namespace, ["nft", "-j", "list", "tables"])).get("nftables", []) if "table" in entry}
    for path in sorted(directory.glob("*.nft")):
        for table in tables(path.read_bytes()):
            if table not in there:
                yield "nftables table %s %s" % table
    links = {link["ifname"]: link for link in query(in_namespace(namespace, ["ip", "-j", "addr"]))}
    for line in ip_lines(directory):
        if line[:2] == ["link", "add"] and line[2] not in links:
            yield "link %s" % line[2]
        if line[:2] == ["addr", "add"]:
            address, link = line[2].split("/")[0], links.get(line[line.index("dev") + 1], {})
            if address not in [entry.get("local") for entry in link.get("addr_info", [])]:
                yield "address %s" % line[2]
    if namespace == "main" and settings["networkd"] and settings["networkd"]["device"] not in links:
        yield "link %s" % settings["networkd"]["device"]
    for line in lines_of(directory / "tc"):
        if line[0] == "filter" and not is_attached(namespace, line):
            yield "program %s on %s %s" % (Path(line[-1]).name, line[3], line[4])
    name = translator_of(directory)
    if name and not succeeds(in_namespace(namespace, [settings["jool"], "-i", name, "global", "display"])):
        yield "translator instance %s" % name


def is_attached(namespace, line):
    """Whether the program of a line "filter add" of "tc -batch" is where the line has put it."""
    device, hook, preference = line[3], line[4], int(line[line.index("pref") + 1])
    shown = query(in_namespace(namespace, ["tc", "-j", "filter", "show", "dev", device, hook]))
    names = [entry["options"].get("prog", {}).get("name") for entry in shown if entry["pref"] == preference and "options" in entry]
    return Path(line[-1]).name[:PROGRAM_NAME_LENGTH] in names


def changed(generation):
    """Names what is not as the files of a generation say, or not as it was loaded; texts for a person."""
    loaded = generation.paths.loaded
    recorded, now = json.loads(loaded.read_text()) if loaded.exists() else {}, digests(generation)
    found = ["%s: not as it was loaded" % what for what in sorted(now) if recorded.get(what) != now[what]]
    for namespace in generation.namespaces:
        directory = generation.directory / namespace
        for line in ip_lines(directory):
            selector = selector_of(line)
            if selector and not query(in_namespace(namespace, selector), as_json=False):
                found.append("%s (namespace %s): missing" % (" ".join(line), namespace))
        if namespace == "main":
            found += changed_sysctls(directory / "sysctl")
    return found


def digests(generation):
    """{what: SHA-256} of everything with contents that a generation has loaded, None where it cannot be read."""
    found = {}
    for namespace in generation.namespaces:
        directory = generation.directory / namespace
        for path in sorted(directory.glob("*.nft")):
            for family, table in tables(path.read_bytes()):
                found["nftables table %s %s (namespace %s)" % (family, table, namespace)] = digest(
                    [in_namespace(namespace, ["nft", "-j", "list", "table", family, table])], without_counts)
        name, tool = translator_of(directory), generation.settings["jool"]
        if name:
            found["translator instance %s (namespace %s)" % (name, namespace)] = digest([
                in_namespace(namespace, [tool, "-i", name, mode, "display", "--csv"])
                for mode in ("global", "eamt" if tool == "jool_siit" else "fmrt")])
    for path in sorted(generation.paths.bpf.glob("*/maps/*")):
        if path.name in BPF_MAPS:
            found["BPF map %s/%s" % (path.parts[-3], path.name)] = digest([["bpftool", "-j", "map", "dump", "pinned", str(path)]])
    return found


def digest(commands, read=str):
    """SHA-256 of what commands print, as read(text) leaves it; None where one fails or prints something else."""
    try:
        return hashlib.sha256("".join(read(run(argv)) for argv in commands).encode()).hexdigest()
    except (StepError, OSError, ValueError):
        return None


def without_counts(printed):
    """nftables' JSON without what packets change: the values of counters, and the clients counted at the moment."""
    entries = []
    for entry in json.loads(printed)["nftables"]:
        (kind, value), = entry.items()
        changing = {"counter": ("packets", "bytes"), "set": ("elem",) if value.get("name") == "clients" else ()}.get(kind, ())
        entries.append({kind: {key: value[key] for key in value if key not in changing}})
    return json.dumps(entries)


def ip_lines(directory):
    """The lines of "ip -batch" among the files for a namespace."""
    return lines_of(directory / "ip") + lines_of(directory / "ip-late")


def translator_of(directory):
    """The name of the instance of Jool among the files for a namespace, or None."""
    path = directory / "jool.json"
    return json.loads(path.read_text())["instance"] if path.exists() else None


def selector_of(line):
    """The command that shows what a line of "ip -batch" has added, or None for what is not looked up here."""
    family = "-6" if any(":" in word for word in line) else "-4"
    if line[:2] == ["route", "add"]:
        kind = ["type", line[2]] if line[2] in ("unreachable", "blackhole") else []
        words = line[2 + len(kind) // 2:]
        return ["ip", family, "route", "show", *kind, "exact", words[0], *pairs(words, ROUTE_WORDS)]
    if line[:2] == ["rule", "add"]:
        return ["ip", family, "rule", "show", *pairs(line, RULE_WORDS)]
    if line[:3] == ["neigh", "add", "proxy"]:
        return ["ip", family, "neigh", "show", "proxy", line[3], *pairs(line, ("dev",))]
    return None


def pairs(words, names):
    """Those of the names that are among words, each with the word after it."""
    return [word for name in names if name in words for word in (name, words[words.index(name) + 1])]


def changed_sysctls(path):
    """Lines of a sysctl file that the kernel does not have so; not those that a container may not set."""
    for key, _equals, value in lines_of(path):
        node = Path("/proc/sys", key.lstrip("-"))
        now = node.read_text().strip() if node.exists() else "missing"
        if now != value and not key.startswith("-") and not (key.endswith("/accept_ra") and now == "0"):
            yield "sysctl %s: %s, not %s" % (key, now, value)
