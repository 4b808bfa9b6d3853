# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packet socket on a line that hears what servers answer to UDP port 546, and asks from there, beside whatever client has that port.

Servers answer to port 546 whatever port asked (RFC 8415 section 7.2); another UDP socket there would take the client's answers, or get none.
Fragments and extension headers are left out. Numbers are those of <linux/if_packet.h> and <linux/filter.h>.
"""

from __future__ import annotations

import array
import contextlib
import errno
import socket
import struct

from . import line_messages

ETH_P_IPV6 = 0x86DD
SO_ATTACH_FILTER = 26
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_CSUMNOTREADY, TP_STATUS_CSUM_VALID = 1 << 3, 1 << 7
PACKET_HOST = 0
MULTICAST = bytes.fromhex("333300010002")  # the link's address of ff02::1:2 (RFC 2464 section 7)
# From the IPv6 header on: the next header is UDP, and its destination our port. (code, if true, if false, value)
FILTER = ((0x30, 0, 0, 6), (0x15, 0, 3, socket.IPPROTO_UDP), (0x28, 0, 0, 42), (0x15, 0, 1, line_messages.CLIENT), (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0))
LARGEST = 1 << 16
BUFFER = 1 << 17  # bytes that wait to be read, at most
GONE = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)


class Wire:
    """index, name: of the interface. Raises OSError, PermissionError without CAP_NET_RAW."""

    def __init__(self, index, name):
        self.index, self.name = index, name
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)  # hears nothing before it is bound
        try:
            code = array.array("B", b"".join(struct.pack("HBBI", *line) for line in FILTER))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(FILTER), code.buffer_info()[0]))
            self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self.socket.setblocking(False)
            self.socket.bind((name, ETH_P_IPV6))
        except BaseException:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def send(self, source, message):
        """Sends a message to the servers and relays of the link. source: our link-local address, 16 bytes."""
        with contextlib.suppress(OSError):  # the interface goes down, or is full: it is sent again
            self.socket.sendto(line_messages.packet(source, message), (self.name, ETH_P_IPV6, 0, 0, MULTICAST))

    def read(self):
        """A line_messages.Received, or None where nothing is there that was for us. Raises line_messages.Refused."""
        try:
            data, notes, _flags, sender = self.socket.recvmsg(LARGEST, socket.CMSG_SPACE(20))
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno in GONE:
                return None
            raise
        if sender[2] != PACKET_HOST:
            return None
        status = [struct.unpack_from("=I", note)[0] for level, kind, note in notes if (level, kind) == (SOL_PACKET, PACKET_AUXDATA)]
        is_sound = bool(status) and bool(status[0] & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID))
        return line_messages.received(data, is_sound)
