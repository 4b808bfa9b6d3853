# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A question to a DNS resolver, and what its message answers (RFC 1035 section 4). Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

CNAME, TXT, AAAA = 5, 16, 28
IN = 1
HEADER = struct.Struct("!HHHHHH")  # id, flags, numbers of questions, answers, authorities, additional records
QUESTION = struct.Struct("!HH")  # type, class
RECORD = struct.Struct("!HHIH")  # type, class, TTL, length
RESPONSE, OPCODE, TRUNCATED, RECURSION_DESIRED, RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
NOERROR, NXDOMAIN = 0, 3
RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
POINTER = 0xC0  # the two highest bits of a length
LONGEST_LABEL, LONGEST_NAME = 63, 255  # bytes
MOST_RECORDS = 64
MOST_ALIASES = 8


class Refused(ValueError):
    """What came is no answer to the question, or is broken."""


class Answer(NamedTuple):
    """What a resolver answers.

    failure: why it has no answer, such as SERVFAIL; else None
    truncated: whether the answer has to be asked for over TCP
    found: the texts of TXT records, each with its strings joined, or the IPv6 addresses of AAAA records; none where the name or the type is
    not there
    """

    failure: str | None
    truncated: bool
    found: list[str]


class Record(NamedTuple):
    """A resource record: the name in wire form, the type, and where its data lies in the message."""

    name: bytes
    kind: int
    start: int
    end: int


def question(number: int, name: str, kind: int) -> bytes:
    """A question for a resolver that looks further by itself. number: of 16 bits, at random; kind: TXT or AAAA. Raises ValueError for no name."""
    return HEADER.pack(number, RECURSION_DESIRED, 1, 0, 0, 0) + wire_name(name) + QUESTION.pack(kind, IN)


def wire_name(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    if not all(1 <= len(label) <= LONGEST_LABEL for label in labels):
        raise ValueError(f"{name!r} is no name of the DNS")
    found = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(found) > LONGEST_NAME:
        raise ValueError(f"{name!r} is longer than a name of the DNS")
    return found


def answer(message: bytes, number: int, name: str, kind: int) -> Answer:
    """What a message answers to question(number, name, kind). Raises Refused."""
    if len(message) < HEADER.size:
        raise Refused("is shorter than a header")
    given, flags, questions, answers, _authorities, _additional = HEADER.unpack_from(message)
    if given != number or not flags & RESPONSE or flags & OPCODE:
        raise Refused("is no answer to this question")
    code = flags & RCODE
    failure = None if code in (NOERROR, NXDOMAIN) else RCODES.get(code, f"error {code}")
    if failure and not questions:
        return Answer(failure, False, [])  # of a server that has not understood it
    asked, at = _name(message, HEADER.size)
    wanted = wire_name(name).lower()
    if questions != 1 or asked != wanted or message[at:at + QUESTION.size] != QUESTION.pack(kind, IN):
        raise Refused("answers another question")
    if failure or flags & TRUNCATED or code == NXDOMAIN:
        return Answer(failure, bool(flags & TRUNCATED) and not failure, [])
    if answers > MOST_RECORDS:
        raise Refused(f"has more than {MOST_RECORDS} records")
    return Answer(None, False, _found(message, _records(message, at + QUESTION.size, answers), wanted, kind))


def _records(message: bytes, at: int, count: int) -> list[Record]:
    """The records of the class IN."""
    found = []
    for _record in range(count):
        name, at = _name(message, at)
        if at + RECORD.size > len(message):
            raise Refused("ends inside a record")
        kind, class_, _ttl, length = RECORD.unpack_from(message, at)
        start = at + RECORD.size
        at = start + length
        if at > len(message):
            raise Refused("ends inside a record")
        if class_ == IN:
            found.append(Record(name, kind, start, at))
    return found


def _found(message: bytes, records: list[Record], name: bytes, kind: int) -> list[str]:
    """What the records of a type hold, of a name or of the one that it is an alias of."""
    for _alias in range(MOST_ALIASES):
        held = [record for record in records if record.name == name and record.kind == kind]
        alias = next((record for record in records if record.name == name and record.kind == CNAME), None)
        if held or not alias:
            return [_text(message[each.start:each.end]) if kind == TXT else _address(message[each.start:each.end]) for each in held]
        name, _end = _name(message, alias.start)
    raise Refused(f"has more than {MOST_ALIASES} aliases, one after the other")


def _text(data: bytes) -> str:
    """The strings of a TXT record, joined."""
    at, text = 0, b""
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise Refused("has a string that ends too early")
        text += data[at + 1:end]
        at = end
    return text.decode("latin-1")


def _address(data: bytes) -> str:
    if len(data) != 16:
        raise Refused("has an IPv6 address that is none")
    return str(IPv6Address(data))


def _name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at a place, in wire form and lower case, and the place behind it."""
    found, behind = b"", None
    while True:
        if at >= len(message):
            raise Refused("ends inside a name")
        length = message[at]
        if length & POINTER == POINTER:
            if at + 2 > len(message):
                raise Refused("ends inside a name")
            target = (length & ~POINTER) << 8 | message[at + 1]
            behind = at + 2 if behind is None else behind
            if target >= at:  # each one leads further to the front, so there are no circles
                raise Refused("has a name that leads nowhere")
            at = target
            continue
        end = at + 1 + length
        if length > LONGEST_LABEL or end > len(message) or len(found) + 1 + length > LONGEST_NAME:
            raise Refused("has a name that is none")
        found += message[at:end]
        at = end
        if not length:
            return found.lower(), end if behind is None else behind
