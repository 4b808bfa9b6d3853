# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single values that people write, in a domain or in a role's variables.

Each takes a value and its path, returns the value in its own type, and raises a MapError where it is none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Pattern, Union

from .errors import Faults, MapError, did_you_mean, join_path

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

NUMBER = re.compile(r"[0-9]{1,15}")
INSTANCE = re.compile(r"[a-z][a-z0-9_]{0,9}")
NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
HOST = re.compile(r"|[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
PATH = re.compile(r"/[^\x00-\x1f]+")
# No quotes, comments, wildcards and options of the tools that read the generation.
INTERFACE = re.compile(r"(?!-)[^\s/:\"'#*\\@]{1,15}")
# The kernel keeps these names, or gives them to more than one interface.
NO_INTERFACES = ("lo", "all", "default", ".", "..")
# Only what ipaddress and inet_pton both take: no masks, no zones.
ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")
WORDS = {"true": True, "yes": True, "false": False, "no": False}


def required(value: Any, path: str) -> Any:
    """What is set and not empty; 0 and false are."""
    if value is None or (isinstance(value, (str, Sequence, Mapping)) and not value):
        raise MapError(path, value, "is required; set it in the inventory")
    return value


def choice(value: Any, path: str, choices: Sequence[str]) -> str:
    """One of several words."""
    if not isinstance(value, str) or value not in choices:
        raise MapError(path, value, f"must be one of {', '.join(choices)}")
    return str(value)


def integer(value: Any, path: str, low: int, high: int, reference: str | None = None) -> int:
    """An integer from low to high; also as a string of decimal digits, since templates make them."""
    number = None
    if isinstance(value, str) and NUMBER.fullmatch(value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = int(value)
    if number is None or not low <= number <= high:
        raise MapError(path, value, f"must be an integer between {low} and {high}", reference)
    return number


def boolean(value: Any, path: str) -> bool:
    """A boolean, also as the word that a command line's -e makes of it."""
    value = WORDS.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise MapError(path, value, "must be true or false")
    return value


def text(value: Any, path: str, pattern: Pattern[str], what: str) -> str:
    """Text that all of a pattern matches; what: the noun for it."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MapError(path, value, f"must be {what}")
    return str(value)


def instance(value: Any, path: str) -> str:
    return text(value, path, INSTANCE, "at most 10 characters of a-z, 0-9 and _, starting with a letter")


def interface(value: Any, path: str) -> str:
    if value in NO_INTERFACES:
        raise MapError(path, value, "is no network interface of its own; name the one that is meant")
    if isinstance(value, str) and re.fullmatch(r"[^@\s]+@[^@\s]+", value):
        raise MapError(path, value, f"is how ip shows an interface and the one below it; its name is {value.partition('@')[0]}")
    name = text(value, path, INTERFACE, "the name of a network interface, at most 15 characters")
    if len(name.encode()) > 15:
        raise MapError(path, value, "is longer than the 15 bytes that the kernel gives the name of an interface")
    return name


def namespace(value: Any, path: str) -> str:
    """The name of a network namespace; "main" stands for the machine's own."""
    if value == "main":
        raise MapError(path, value, "stands for the machine's own namespace; choose another name")
    return text(value, path, NAMESPACE, "the name of a network namespace: letters, digits, _ . and -")


def host(value: Any, path: str) -> str:
    """The IPv4 address or name of a host (RFC 1123 section 2.1), or "" for none."""
    return text(value, path, HOST, "the IPv4 address or name of a host")


def absolute_path(value: Any, path: str) -> str:
    return text(value, path, PATH, "an absolute path")


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def listed(value: Any, path: str) -> list[Any]:
    if not is_list(value):
        raise MapError(path, value, "must be a list")
    return list(value)


def mapping(value: Any, path: str, keys: Sequence[str], what: str, faults: Faults) -> dict[str, Any] | None:
    """The dict without its null values, and without other keys than `keys`: these are collected, since they are typing errors.

    None, and a fault, for anything but a dict.
    """
    if not isinstance(value, Mapping):
        faults.add(path or "domain", value, f"must be {what}, a dict with some of the keys {', '.join(keys)}")
        return None
    for key in value:
        if key not in keys:
            advice = did_you_mean(str(key), keys) or f"; there are {', '.join(keys)}"
            faults.add(join_path(path, str(key)), value[key], f"is not a key of {what}{advice}")
    return {key: value[key] for key in keys if value.get(key) is not None}


def address(value: Any, path: str, version: int | None = None, reference: str | None = None) -> Address:
    """An IP address without length, of IP version 4 or 6 or of either."""
    try:
        if not isinstance(value, str) or not ADDRESS.fullmatch(value):
            raise ValueError
        parsed = ipaddress.ip_address(str(value))
        if version not in (None, parsed.version):
            raise ValueError
    except ValueError:
        example = {4: ", such as 192.0.2.18", 6: ", such as 2001:db8:ffff::1"}.get(version, "")
        raise MapError(path, value, f"must be an IP{f'v{version}' if version else ''} address without length{example}", reference) from None
    return parsed


def unicast_ipv6(value: Any, path: str, reference: str | None = None) -> ipaddress.IPv6Address:
    """An IPv6 address without length that one machine can have."""
    try:
        parsed = address(value, path, 6)
        if not parsed.is_multicast and not parsed.is_unspecified:
            return parsed
    except MapError:
        pass
    raise MapError(path, value, "must be a unicast IPv6 address without length, such as 2001:db8:ffff::1", reference)


def interface_address(value: Any, path: str) -> Interface:
    """The address of a host with its prefix length, such as 192.168.0.1/24."""
    try:
        if not isinstance(value, str) or not ADDRESS.fullmatch(value.partition("/")[0]) or "/" not in value:
            raise ValueError
        parsed = ipaddress.ip_interface(str(value))
    except ValueError:
        raise MapError(path, value, "must be an address with its prefix length, such as 192.168.0.1/24") from None
    if parsed.network.prefixlen < parsed.max_prefixlen - 1:
        if parsed.ip == parsed.network.network_address:
            raise MapError(path, value, f"is the address of the network itself; give the router's own, such as {parsed.ip + 1}/{parsed.network.prefixlen}")
        if parsed.version == 4 and parsed.ip == parsed.network.broadcast_address:
            raise MapError(path, value, f"is the broadcast address of {parsed.network}; give the router's own")
    return parsed


def prefix(value: Any, path: str, version: int, reference: str | None = None) -> Network:
    """A prefix of IP version 4 or 6 with its length and without host bits."""
    example = "192.0.2.0/24" if version == 4 else "2001:db8::/40"
    try:
        if not isinstance(value, str) or not re.fullmatch(ADDRESS.pattern + "/[0-9]{1,3}", value):
            raise ValueError
        parsed = ipaddress.ip_interface(str(value))
        if parsed.version != version:
            raise ValueError
    except ValueError:
        raise MapError(path, value, f"must be an IPv{version} prefix with its length, such as {example}", reference) from None
    network = parsed.network
    if parsed.ip != network.network_address:
        reason = f"has bits set after its first {network.prefixlen}: write {network}, or the length that is meant"
        raise MapError(path, value, reason, reference)
    return network
