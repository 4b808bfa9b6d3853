# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink sockets, and the messages that come out of them. Numbers are those of <linux/netlink.h>."""

from __future__ import annotations

import errno
import os
import socket
import struct

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
TYPE_MASK = 0x3FFF
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x10, 0x300
MOST = 1 << 16  # bytes; the kernel hands out at most half as many at once
TRIES = 5  # how often a dump is begun again that changed under way


def opened(protocol, groups=()):
    """A netlink socket that hears some groups and does not block. Raises OSError."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    made.setblocking(False)
    made.bind((0, sum(1 << (group - 1) for group in groups)))
    return made


def received(sock):
    """What one read of a socket gives: bytes, empty where nothing is there, or None where the kernel has had to drop something. Raises OSError."""
    try:
        return sock.recv(MOST)
    except OSError as exc:
        if exc.errno == errno.ENOBUFS:
            return None
        if exc.errno == errno.EAGAIN:
            return b""
        raise


def messages(data):
    """The (type, flags, body) of each message in what was read."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _sequence, _port = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, flags, data[at + HEADER.size:at + length]
        at += aligned(length)


def attributes(data):
    """{type: value, bytes} of the attributes in a part of a message."""
    found, at = {}, 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            break
        found[kind & TYPE_MASK] = data[at + ATTRIBUTE.size:at + length]
        at += aligned(length)
    return found


def aligned(length):
    return (length + 3) & ~3


def dumped(protocol, kind, body):
    """The (type, body) of all that the kernel lists for a request. Raises OSError."""
    for _try in range(TRIES):
        found, whole = _dumped_once(protocol, kind, body)
        if whole:
            break
    return found


def _dumped_once(protocol, kind, body):
    """The list, and whether nothing changed while it was made."""
    found, whole = [], True
    with opened(protocol) as sock:
        sock.setblocking(True)
        sock.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while True:
            for answer, flags, content in messages(sock.recv(MOST)):
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", content)[0]
                    raise OSError(number, "netlink: %s" % os.strerror(number))
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer == NLMSG_DONE:
                    return found, whole
                found.append((answer, content))
