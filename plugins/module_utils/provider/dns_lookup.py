# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the resolvers of a line, whose answer depends on the line: over UDP, and over TCP where that is too short."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from . import dns_messages
from .deadline import Deadline
from .dns_messages import Answer, Refused

# What programs write down of one link's resolvers: systemd-networkd by the link's index, and dhcpcd.
NETWORKD = "/run/systemd/netif/links"
DHCPCD = "/run/dhcpcd/hook-state"
# Of all links; resolv.conf may name a resolver on this router, which asks one of them in turn.
OF_ALL = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
LARGEST_FILE = 65536  # bytes
PORT = 53
LARGEST = 65535  # bytes of a message
MOST_RESOLVERS = 3
ROUNDS = 2  # how often each is asked
SECONDS = 3.0  # that each has


class Resolver(NamedTuple):
    """address: with % and an interface where it is link-local; of_line: whether the line itself has told it."""

    address: str
    of_line: bool


class LookupFailed(Exception):
    """No resolver has an answer; the text is for a person."""


class Found(NamedTuple):
    """found: as in dns_messages.Answer; resolver: the address of the one that has said so."""

    found: list[str]
    resolver: str


def resolvers(interface: str, root: Path = Path("/")) -> list[Resolver]:
    """The resolvers of a line, at most MOST_RESOLVERS: those that the line has told, else the machine's.

    interface: the line's. root: of the files.
    """
    own = _of_line(interface, root)
    if own:
        return [Resolver(address, True) for address in own[:MOST_RESOLVERS]]
    for path in OF_ALL:
        found = _nameservers(_read(root / path[1:]))
        if found:
            return [Resolver(address, False) for address in found[:MOST_RESOLVERS]]
    return []


def _of_line(interface: str, root: Path) -> list[str]:
    """The addresses that the client of a line has got from it."""
    try:
        index = str(socket.if_nametoindex(interface))
    except OSError:
        return []
    for line in _read(root / NETWORKD[1:] / index).splitlines():
        key, _equals, value = line.partition("=")
        if key == "DNS" and value.split():
            return [address.partition("#")[0] for address in value.split()]
    hooks = sorted((root / DHCPCD[1:] / "resolv.conf").glob(f"{interface}.*"))
    return list(dict.fromkeys(address for path in hooks for address in _nameservers(_read(path))))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE).decode(errors="replace")
    except OSError:
        return ""


def _nameservers(text: str) -> list[str]:
    """The resolvers in a file like resolv.conf."""
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def look_up(name: str, kind: int, asked: list[Resolver], interface: str) -> Found:
    """What the first resolver that can answer says of a name. kind: dns_messages.TXT or AAAA. Raises LookupFailed."""
    if not asked:
        raise LookupFailed(f"no resolver of the line {interface} is known, nor one of this machine: set MAP_PROVIDER_RESOLVERS")
    said: dict[str, str] = {}
    for _round in range(ROUNDS):
        for resolver in asked:
            try:
                answer = _ask(resolver, name, kind, interface)
            except (OSError, ValueError) as exc:
                said[resolver.address] = "no answer" if isinstance(exc, socket.timeout) else str(getattr(exc, "strerror", None) or exc)
                continue
            if answer.failure is None:
                return Found(answer.found, resolver.address)
            said[resolver.address] = answer.failure
    raise LookupFailed(f"{name}: " + ", ".join(f"{address}: {why}" for address, why in said.items()))


def _ask(resolver: Resolver, name: str, kind: int, interface: str) -> Answer:
    """What one resolver says. Raises OSError, ValueError."""
    number = secrets.randbits(16)
    message = dns_messages.question(number, name, kind)
    deadline = Deadline(SECONDS)
    with _connected(resolver, socket.SOCK_DGRAM, interface, deadline) as sock:
        sock.send(message)
        answer = None
        while answer is None:
            sock.settimeout(deadline.left())
            received = sock.recv(LARGEST)
            with contextlib.suppress(Refused):  # somebody guesses; the right one may still come
                answer = dns_messages.answer(received, number, name, kind)
    if not answer.truncated:
        return answer
    deadline = Deadline(SECONDS)
    with _connected(resolver, socket.SOCK_STREAM, interface, deadline) as sock:
        sock.sendall(struct.pack("!H", len(message)) + message)
        length, = struct.unpack("!H", _exactly(sock, 2, deadline))
        answer = dns_messages.answer(_exactly(sock, length, deadline), number, name, kind)
    if answer.truncated:
        raise Refused("is cut off over TCP as well")
    return answer


def _connected(resolver: Resolver, kind: int, interface: str, deadline: Deadline) -> socket.socket:
    """A socket that hears one resolver alone, over the line where the line has told it."""
    address = resolver.address
    if address.lower().startswith("fe80:") and "%" not in address:
        address = f"{address}%{interface}"
    family, _kind, _protocol, _name, place = socket.getaddrinfo(address, PORT, type=kind, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0]
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if resolver.of_line:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.settimeout(deadline.left())
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


def _exactly(sock: socket.socket, count: int, deadline: Deadline) -> bytes:
    """So many bytes of a connection."""
    found = b""
    while len(found) < count:
        sock.settimeout(deadline.left())
        part = sock.recv(count - len(found))
        if not part:
            raise Refused("ends too early")
        found += part
    return found
