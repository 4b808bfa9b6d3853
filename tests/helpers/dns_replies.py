# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DNS messages as a resolver sends them, by hand."""

from __future__ import annotations

import socket
import struct

TXT, AAAA, CNAME = 16, 28, 5
NXDOMAIN, SERVFAIL = 3, 2
RESPONSE, TRUNCATED = 0x8180, 0x0200  # with "recursion desired" and "recursion available"
OWNER = b"\xc0\x0c"  # the name in the question


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def text(*strings):
    return b"".join(bytes([len(each)]) + each for each in strings)


def address(text_of_it):
    return socket.inet_pton(socket.AF_INET6, text_of_it)


def record(kind, data, owner=OWNER, class_=1):
    return owner + struct.pack("!HHIH", kind, class_, 300, len(data)) + data


def reply(question, *records, code=0, truncated=False):
    """The answer to a question, which is a whole message."""
    flags = RESPONSE | code | (TRUNCATED if truncated else 0)
    return question[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question[12:] + b"".join(records)
