# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a router with the generation that it is to run; changes nothing.

missing() finds what an instance cannot work without; a deployment that lacks it is rolled back. changed() finds what somebody
has changed since: it compares routes, rules and sysctls with the generation's files, and the contents of nftables tables, of
Jool and of BPF maps with digests that were taken when they were loaded. lost() finds the lines that a reload has to run again.

Each takes a runner.Generation, and raises OSError where a tool is not there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from . import fast_path
from .commands import StepError, finished, in_namespace, query, run, succeeds
from .files import lines_of, tables
from .paths import read_record

BPF_MAPS = ("rules", "br_aliases", "config", "treatment", "index_to_port", "port_to_index")
# Of nftables, whose elements come and go by themselves: the clients counted at the moment, what lasts some seconds after a load.
CHANGING_SETS = ("clients", "settling")
NAMESPACES = Path("/run/netns")
PROGRAM_NAME_LENGTH = 15  # BPF_OBJ_NAME_LEN of Linux, less the zero at the end
# Selectors of "ip route show" and "ip rule show"
ROUTE_WORDS, RULE_WORDS = ("dev", "table"), ("pref", "iif", "to")
# What a softwire is made of, and what leads packets to it, by the first words of lines.
PARTS, WAYS = ("link", "addr", "qdisc", "filter"), ("route", "rule", "neigh")


def differences(generation):
    """Names what the router lacks of a generation, else what it has otherwise; texts for a person."""
    return missing(generation) or changed(generation)


def missing(generation):
    """The tables, interfaces, links, addresses, programs and translators of a generation that are not there; texts for a person."""
    gone = gone_namespaces(generation)
    return ["namespace %s: missing" % namespace for namespace in gone] + [
        "%s (namespace %s): missing" % (what, namespace)
        for namespace in generation.namespaces if namespace not in gone for what in missing_in(generation, namespace)
    ]


def gone_namespaces(generation):
    return [namespace for namespace in generation.namespaces if namespace != "main" and not (NAMESPACES / namespace).exists()]


def absent_interfaces(generation):
    """The interfaces of a generation that are in none of its namespaces."""
    gone = gone_namespaces(generation)
    there = {name for namespace in generation.namespaces if namespace not in gone for name in links_of(namespace)}
    return sorted(set(generation.settings["interfaces"]) - there)


def missing_in(generation, namespace):
    """The same of one namespace, without its name."""
    directory, settings = generation.directory / namespace, generation.settings
    there = tables_of(namespace)
    for path in sorted(directory.glob("*.nft")):
        for table in tables(path.read_bytes()):
            if table not in there:
                yield "nftables table %s %s" % table
    links = links_of(namespace)
    for interface, wanted in sorted(settings["interfaces"].items()):
        if wanted.get("move", "main") == namespace and interface not in links:
            yield "interface %s" % interface
    for _name, line in lost(generation, namespace, PARTS, links):
        yield named(line)
    if namespace == "main" and settings["networkd"] and settings["networkd"]["device"] not in links:
        yield "link %s" % settings["networkd"]["device"]
    name = translator_of(directory)
    if name and not succeeds(in_namespace(namespace, [settings["jool"], "-i", name, "global", "display"])):
        yield "translator instance %s" % name


def changed(generation):
    """Names what is not as the files of a generation say, or not as it was loaded; texts for a person."""
    found = ["%s: not as it was loaded" % what for what in changed_contents(generation)]
    for namespace in generation.namespaces:
        found += ["%s (namespace %s): missing" % (" ".join(line), namespace) for _name, line in lost(generation, namespace, WAYS)]
        found += changed_sysctls(generation, namespace)
    return found + list(changed_fast_path(generation))


def changed_fast_path(generation):
    """Programs of the fast path that are off where nothing hinders it, or on where something does (map_br_fast_path: auto)."""
    directory = generation.directory / "main"
    lines = [line for line in lines_of(directory / "fast") if line[0] == "filter"]
    reasons = fast_path.obstacles(directory, generation.settings) if lines else []
    for line in lines:
        if is_attached("main", line) == bool(reasons):
            yield "%s: %s" % (named(line), "attached, and " + reasons[0] if reasons else "missing")


def untold_differences(generation):
    """What the kernel tells nobody of when it goes, and costs little to look at: namespaces, sysctls, what is pinned."""
    gone = gone_namespaces(generation)
    pinned = [line[3] for namespace in generation.namespaces for line in lines_of(generation.directory / namespace / "bpftool")
              if line[:2] == ["prog", "loadall"]]
    return ["namespace %s: missing" % namespace for namespace in gone] + [
        "programs in %s: missing" % path for path in pinned if not Path(path).exists()
    ] + [text for namespace in generation.namespaces if namespace not in gone for text in changed_sysctls(generation, namespace)]


def changed_contents(generation):
    """What of digests() is not as it was when it was loaded; nothing where a program of before took them otherwise."""
    recorded = read_record(generation.paths.loaded) or {"digests": {}}
    if "digests" not in recorded:
        return []
    now = digests(generation)
    return [what for what in sorted(now) if recorded["digests"].get(what) != now[what]]


def lost(generation, namespace, kinds, links=None):
    """The lines of a generation for "ip" and "tc" whose work is not there in a namespace: (name of their file, line) each.

    kinds: the first words of the lines that are looked at. links: what links_of() says, where that is known.
    """
    links = links_of(namespace) if links is None else links
    for name in ("ip", "tc", "ip-late"):
        for line in lines_of(generation.directory / namespace / name):
            if line[0] in kinds and not is_there(namespace, line, links):
                yield name, line


def is_there(namespace, line, links):
    """Whether the work of a line is there; of what a line may set of a link: whether it is up, and its MTU."""
    if line[:2] == ["link", "add"]:
        return line[2] in links
    if line[:2] == ["link", "set"]:
        link = links.get(line[3], {})
        return ("up" not in line or "UP" in link.get("flags", [])) and (
            "mtu" not in line or str(link.get("mtu")) == line[line.index("mtu") + 1])
    if line[0] == "addr":
        link = links.get(line[line.index("dev") + 1], {})
        return line[2].split("/")[0] in [entry.get("local") for entry in link.get("addr_info", [])]
    if line[0] == "qdisc":
        return any(qdisc["kind"] == line[-1] for qdisc in query(in_namespace(namespace, ["tc", "-j", "qdisc", "show", "dev", line[3]])) or [])
    if line[0] == "filter":
        return is_attached(namespace, line)
    return bool(query(in_namespace(namespace, selector_of(line)), as_json=False))


def is_attached(namespace, line):
    """Whether the program of a line "filter add" of "tc -batch" is where the line has put it."""
    device, hook, preference = line[3], line[4], int(line[line.index("pref") + 1])
    shown = query(in_namespace(namespace, ["tc", "-j", "filter", "show", "dev", device, hook]))
    names = [entry["options"].get("prog", {}).get("name") for entry in shown if entry["pref"] == preference and "options" in entry]
    return Path(line[-1]).name[:PROGRAM_NAME_LENGTH] in names


def named(line):
    """What a line of PARTS makes, for a person."""
    if line[0] == "filter":
        return "program %s on %s %s" % (Path(line[-1]).name, line[3], line[4])
    if line[0] == "qdisc":
        return "clsact of %s" % line[3]
    return "address %s" % line[2] if line[0] == "addr" else "link %s" % (line[2] if line[1] == "add" else line[3])


def links_of(namespace):
    """{name: what "ip -j addr" says} of the links in a namespace."""
    return {link["ifname"]: link for link in query(in_namespace(namespace, ["ip", "-j", "addr"]))}


def tables_of(namespace):
    """The (family, name) of the nftables tables in a namespace."""
    listed = query(in_namespace(namespace, ["nft", "-j", "list", "tables"])).get("nftables", [])
    return {(entry["table"]["family"], entry["table"]["name"]) for entry in listed if "table" in entry}


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
    """nftables' JSON without what packets, time and the order of loading change: handles, the values of counters, some sets' elements."""
    entries = []
    for entry in json.loads(printed)["nftables"]:
        (kind, value), = entry.items()
        changing = ("handle",) + {"counter": ("packets", "bytes"), "set": ("elem",) if value.get("name") in CHANGING_SETS else ()}.get(kind, ())
        entries.append({kind: {key: value[key] for key in value if key not in changing}})
    return json.dumps(entries)


def translator_of(directory):
    """The name of the instance of Jool among the files for a namespace, or None."""
    path = directory / "jool.json"
    return json.loads(path.read_text())["instance"] if path.exists() else None


def selector_of(line):
    """The command that shows what a line of "ip -batch" has added: a route, a rule or a neighbour."""
    family = "-6" if any(":" in word for word in line) else "-4"
    if line[0] == "route":
        kind = ["type", line[2]] if line[2] in ("unreachable", "blackhole") else []
        words = line[2 + len(kind) // 2:]
        return ["ip", family, "route", "show", *kind, "exact", words[0], *pairs(words, ROUTE_WORDS)]
    if line[0] == "rule":
        return ["ip", family, "rule", "show", *pairs(line, RULE_WORDS)]
    return ["ip", family, "neigh", "show", *(line[2:4] if line[2] == "proxy" else ["to", line[2]]), *pairs(line, ("dev",))]


def pairs(words, names):
    """Those of the names that are among words, each with the word after it."""
    return [word for name in names if name in words for word in (name, words[words.index(name) + 1])]


def changed_sysctls(generation, namespace):
    """The lines of a sysctl file that the kernel does not have so, texts for a person; not those that a container may not set."""
    lines = lines_of(generation.directory / namespace / "sysctl")
    values = read_sysctls(namespace, [line[0].lstrip("-") for line in lines])
    for (key, _equals, wanted), value in zip(lines, values):
        # accept_ra 0: router advertisements are handled in user space (systemd-networkd)
        if value != wanted and not key.startswith("-") and not (key.endswith("/accept_ra") and value == "0"):
            yield "sysctl %s (namespace %s): %s, not %s" % (key, namespace, value, wanted)


def read_sysctls(namespace, keys):
    """The values of sysctls; "missing" where there is none."""
    nodes = [Path("/proc/sys", key) for key in keys]
    if namespace == "main" or not nodes:
        return [node.read_text().strip() if node.exists() else "missing" for node in nodes]
    # What is in /proc/sys depends on the namespace of the reader.
    shown = finished(in_namespace(namespace, ["grep", "-H", "", *map(str, nodes)])).stdout
    found = dict(line.split(":", 1) for line in shown.splitlines())
    return [found.get(str(node), "missing").strip() for node in nodes]
