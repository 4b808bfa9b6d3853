# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a generation as text: what undoes their lines, and what a running instance can take without a restart."""

from __future__ import annotations

import re
import shlex

# The files of lines, in the order in which a namespace takes them.
LINE_FILES = ("ip", "sysctl", "bpftool", "tc", "ip-late")
# What stands in a table of nftables under a name of its own.
OBJECTS = (("chain",), ("map",), ("set",), ("counter",), ("ct", "timeout"))


def read(directory):
    """The files below a generation directory as {path: bytes}; {} where it does not exist."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*")) if path.is_file()
    }


def split_lines(content):
    """The lines of a file (bytes) as lists of words, without comments and empty lines."""
    lines = (shlex.split(line, comments=True) for line in content.decode().splitlines())
    return [line for line in lines if line]


def tables(rules):
    """The (family, name) of the tables that an nftables file (bytes) leaves."""
    return [words[1:] for words in objects(rules) if words[0] == "table"]


def objects(rules):
    """The tables, chains, maps, sets, counters and ct timeouts that an nftables file (bytes) leaves, rules and elements aside.

    Each is what "nft delete" calls it, as a tuple of words: ("table", "ip", "t"), ("chain", "ip", "t", "c").
    """
    made, table = {}, ()
    for words in _statements(rules):
        kind, name = (tuple(words[:2]), words[2:4]) if words[0] == "ct" else (tuple(words[:1]), words[1:3])
        if words[0] == "table":
            table = tuple(words[1:3])
            made[("table",) + table] = None
        elif words[:2] == ["delete", "table"]:
            made = {entry: None for entry in made if table_of(entry) != tuple(words[2:])}
        elif words[0] == "delete":
            made.pop(tuple(words[1:]), None)
        elif kind in OBJECTS and name[1:] == ["{"]:
            made[kind + table + (name[0],)] = None
    return list(made)


def table_of(entry):
    """The (family, name) of the table that an entry of objects() is in, or is."""
    return entry[2:4] if entry[0] == "ct" else entry[1:3]


def _statements(rules):
    """The words of each statement of an nftables file (bytes); quoted text, which may hold anything, is left out."""
    for line in rules.decode().splitlines():
        for statement in re.sub(r'"[^"]*"', '""', line).split("#")[0].split(";"):
            words = statement.split()
            if words:
                yield words


def is_move(line):
    return line[:3] == ["link", "set", "dev"] and line[4:5] == ["netns"]


def inverse(line):
    """What undoes a line of "ip -batch" or "tc -batch" that adds, or of bpftool that puts an entry into a map."""
    kind, arguments = line[0], line[2:]
    if kind == "map":
        return ["map", "delete"] + arguments[: arguments.index("value")]
    if kind == "link":
        arguments = arguments[:1]
    elif kind == "filter":
        arguments = arguments[: arguments.index("pref") + 2]
    return [kind, "del"] + arguments


def is_reversible(line):
    """Whether a line can come and go while everything else stays as it is."""
    if line[:2] == ["addr", "add"]:
        return line[2].endswith(("/32", "/128"))  # the others take routes with them
    return line[:2] in (["route", "add"], ["rule", "add"], ["neigh", "add"], ["map", "update"])


def topology(files):
    """Picks from the files of a generation ({path: bytes}) what only a restart changes, as {path: something to compare}."""
    fixed = {}
    for path, content in files.items():
        name = path.rsplit("/", 1)[-1]
        if name == "parameters.json" or name.endswith((".nft", ".py")):
            continue  # not applied at all, or replaced in one transaction, whatever is in it
        if name == "jool.json":
            fixed[path] = "is there"
        elif name == "flows":
            fixed[path] = addresses(content)
        elif name in LINE_FILES:
            lines = [line for line in split_lines(content) if not is_reversible(line)]
            fixed.update({path: lines} if lines else {})
        else:
            fixed[path] = content
    return fixed


def reload_suffices(before, after):
    """Whether a running instance gets from one set of files to another without a restart."""
    same = {path for path in before if before[path] == after.get(path)}
    before, after = ({path: files[path] for path in files if path not in same} for files in (before, after))
    return topology(before) == topology(after)


def lines_of(path):
    """The lines of a file as lists of words; none where there is no file."""
    return split_lines(path.read_bytes()) if path.exists() else []


def changed_lines(before, after):
    """(lines that are gone, lines that are new) of a file, bytes both, each in the order of its file.

    A map's entry that gets another value is not gone: the new line replaces it.
    """
    old_texts, new_texts = before.splitlines(), after.splitlines()
    # Lines that are the same need no look: reading thousands of them takes a while.
    old, new = (
        split_lines(b"\n".join(line for line in lines if line not in known))
        for lines, known in ((old_texts, set(new_texts)), (new_texts, set(old_texts)))
    )
    kept, known = {identity(line) for line in new}, set(map(tuple, old))
    return [line for line in old if identity(line) not in kept], [line for line in new if tuple(line) not in known]


def identity(line):
    return tuple(line[: line.index("value")] if line[0] == "map" else line)


def addresses(flows):
    return [line[1] for line in split_lines(flows) if line[0] == "address"]
