# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single role variables; each returns the checked value or raises a MapError with its path."""

from __future__ import annotations

import ipaddress
import re

from .errors import MapError

INSTANCE = re.compile(r"[a-z][a-z0-9_]{0,9}")
NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PATH = re.compile(r"/[^\x00-\x1f]+")
# No quotes, comments and wildcards of the tools that read the generation.
INTERFACE = re.compile(r"[^\s/:\"'#*\\]{1,15}")


def required(value, path):
    if value in (None, "", [], {}):
        raise MapError(path, value, "is required; set it in the inventory")
    return value


def one_of(value, path, choices):
    if value not in choices:
        raise MapError(path, value, "must be one of " + ", ".join(choices))
    return value


def integer(value, path, low, high):
    """An integer, also written as a decimal string (as templating makes it)."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MapError(path, value, f"must be an integer between {low} and {high}")
    return int(value)


def boolean(value, path):
    """A boolean, also as the word that a command line's -e makes of it."""
    words = {"true": True, "yes": True, "false": False, "no": False}
    value = words.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise MapError(path, value, "must be true or false")
    return value


def text_of(value, path, pattern, what):
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MapError(path, value, f"must be {what}")
    return str(value)


def instance(value, path):
    return text_of(value, path, INSTANCE, "at most 10 characters of a-z, 0-9 and _, starting with a letter")


def interface(value, path):
    return text_of(value, path, INTERFACE, "the name of a network interface, at most 15 characters")


def namespace(value, path):
    """The name of a network namespace; "main" stands for the machine's own."""
    if value == "main":
        raise MapError(path, value, "stands for the machine's own namespace; choose another name")
    return text_of(value, path, NAMESPACE, "the name of a network namespace: letters, digits, _ . and -")


def absolute_path(value, path):
    return text_of(value, path, PATH, "an absolute path")


def listed(value, path):
    if not isinstance(value, (list, tuple)):
        raise MapError(path, value, "must be a list")
    return list(value)


def keys(value, path, allowed, needed):
    """A dict with no key but the allowed ones, and all needed ones."""
    if not isinstance(value, dict):
        raise MapError(path, value, "must be a dict with the keys " + ", ".join(allowed))
    for key in value:
        if key not in allowed:
            raise MapError(f"{path}.{key}", value[key], "unknown key; the keys are " + ", ".join(allowed))
    for key in needed:
        required(value.get(key), f"{path}.{key}")
    return value


def address(value, path, version):
    """An IP address of one version without length, canonical."""
    parsed = any_address(value, path, f"IPv{version}")
    if parsed.version != version:
        raise MapError(path, value, f"must be an IPv{version} address")
    return parsed


def any_address(value, path, kind="IP"):
    """An IP address of either version without length, canonical; kind: what an error calls it."""
    try:
        return ipaddress.ip_address(without_zone(value))
    except ValueError:
        raise MapError(path, value, f"must be an {kind} address") from None


def without_zone(value):
    """The text of an address; fe80::1%eth0 raises ValueError, since the interface is a variable of its own."""
    if "%" in str(value):
        raise ValueError(value)
    return str(value)


def interface_address(value, path):
    """An address with its prefix length, such as 192.168.0.1/24."""
    try:
        if "/" not in str(value):
            raise ValueError
        return ipaddress.ip_interface(without_zone(value))
    except ValueError:
        raise MapError(path, value, "must be an address with its prefix length, such as 192.168.0.1/24") from None


def network(value, path, version):
    try:
        parsed = ipaddress.ip_network(str(value))
    except ValueError:
        parsed = None
    if parsed is None or parsed.version != version:
        raise MapError(path, value, f"must be an IPv{version} prefix without host bits")
    return parsed
