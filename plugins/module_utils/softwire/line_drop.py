# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others say of a line: files of clients' hooks in /run/softwire-line.d, of people in /etc/softwire-line.d. Each holds JSON:

{"format": 1, "interface": "wan",                        the line that it is about
 "prefixes": [{"prefix": "2001:db8:12:3400::/56",
               "preferred_until": null,                  seconds since the boot, as in /proc/uptime; null, or left out: for ever
               "valid_until": null}],
 "containers": {"94": "0059..."},                        DHCPv6 options 94 and 95, in hex without code and length
 "priority": [94]}                                       option 111

Each of the last three may be left out. Of two files with one name the one in /run counts.
"""

from __future__ import annotations

import collections
import ipaddress
import json
import time

from .line_kernel import INFINITY
from .line_messages import CONTAINERS, LARGEST_CONTAINER, LONGEST_PRIORITY
from .line_prefixes import FILE, Known

FORMAT = 1
LARGEST = 1 << 16  # bytes
MOST = 32  # files, and prefixes of one
LATEST = 1 << 40  # seconds
KEYS = {"format", "interface", "prefixes", "containers", "priority"}
PREFIX_KEYS = {"prefix", "preferred_until", "valid_until"}

# What a file says. prefixes: [line_prefixes.Known]; containers: {code: bytes}; priority: codes.
Said = collections.namedtuple("Said", "name prefixes containers priority")


def read(interface, now, directories):
    """([Said] of the files about an interface, [(path, why)] of those that cannot be taken)."""
    paths = {path.name: path for directory in directories for path in listed(directory)}
    said, refused = [], []
    for name in sorted(paths)[:MOST]:
        try:
            with paths[name].open("rb") as stream:
                age = max(0.0, time.time() - paths[name].stat().st_mtime)
                found = parsed(name, stream.read(LARGEST + 1), interface, now - age)
        except FileNotFoundError:
            continue  # a hook has just taken it away
        except (OSError, ValueError) as exc:
            refused.append((str(paths[name]), str(exc)))
            continue
        said += [found] if found else []
    return said, refused


def listed(directory):
    """The files of a directory; what begins with a dot is not finished."""
    try:
        return [path for path in directory.iterdir() if path.suffix == ".json" and not path.name.startswith(".")]
    except OSError:
        return []


def parsed(name, text, interface, written):
    """What the text of a file says, a Said, or None where it is about another interface. Raises ValueError with what to change.

    written: when the file was, in monotonic seconds.
    """
    if len(text) > LARGEST:
        raise ValueError("is larger than %d bytes" % LARGEST)
    try:
        found = json.loads(text.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ValueError("is no JSON: %s" % exc) from exc
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("format: has to be %d" % FORMAT)
    refuse_others(found, KEYS, "")
    if not isinstance(found.get("interface"), str):
        raise ValueError("interface: has to be the name of the line's interface")
    prefixes, containers, priority = found.get("prefixes", []), found.get("containers", {}), found.get("priority", [])
    if not isinstance(prefixes, list) or len(prefixes) > MOST:
        raise ValueError("prefixes: has to be a list of at most %d" % MOST)
    if not isinstance(containers, dict) or not set(containers) <= {str(code) for code in CONTAINERS}:
        raise ValueError("containers: has to be a dict with the keys %s" % " and ".join(map(str, CONTAINERS)))
    if not isinstance(priority, list) or len(priority) > LONGEST_PRIORITY or not all(is_integer(code) and 0 <= code <= 0xFFFF for code in priority):
        raise ValueError("priority: has to be a list of at most %d codes of options" % LONGEST_PRIORITY)
    said = Said(name, [known(each, "prefixes[%d]" % number, interface, written) for number, each in enumerate(prefixes)],
                {int(code): body(value, "containers.%s" % code) for code, value in containers.items()}, priority)
    return said if found["interface"] == interface else None


def known(given, path, interface, since):
    if not isinstance(given, dict):
        raise ValueError("%s: has to be a dict" % path)
    refuse_others(given, PREFIX_KEYS, path + ".")
    try:
        prefix = ipaddress.IPv6Network(str(given.get("prefix")))
    except ValueError as exc:
        raise ValueError("%s.prefix: %s" % (path, exc)) from exc
    ends = [given.get(key) for key in ("preferred_until", "valid_until")]
    if not all(end is None or (isinstance(end, (int, float)) and not isinstance(end, bool) and 0 <= end < LATEST) for end in ends):
        raise ValueError("%s: preferred_until and valid_until have to be seconds since the boot, or null" % path)
    preferred, valid = (INFINITY if end is None else float(end) for end in ends)
    return Known(FILE, str(prefix), interface, since, None, min(preferred, valid), valid, None)


def body(value, path):
    try:
        found = bytes.fromhex(value)
    except (TypeError, ValueError) as exc:
        raise ValueError("%s: has to be hex: %s" % (path, exc)) from exc
    if not 0 < len(found) <= LARGEST_CONTAINER:
        raise ValueError("%s: has to be 1 to %d bytes" % (path, LARGEST_CONTAINER))
    return found


def refuse_constant(name):
    raise ValueError("%s is no number" % name)


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def refuse_others(given, keys, path):
    others = sorted(set(given) - keys)
    if others:
        raise ValueError("%s%s: is not known; there are %s" % (path, others[0], ", ".join(sorted(keys))))
