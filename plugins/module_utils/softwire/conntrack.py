# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives flows of the NAPT other indexes: python3 -m softwire.conntrack ADDRESS < {"INDEX": INDEX OR null, ...}

ADDRESS is the NAPT's IPv4 address, an index what it put in the place of a flow's source port (or ICMP identifier); null
forgets the flows. A flow is deleted and made anew with all that the kernel knows of it, in about 50 microseconds, except for the
time-outs of nftables: netlink cannot set them, so from its next packet on the kernel's own count. The tool conntrack would
forget the window scale of TCP, and search the whole table for each flow.

The messages are those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys

NETLINK_NETFILTER, SUBSYSTEM = 12, 1
NEW, GET, DELETE = 0, 1, 2
REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
ERROR, DONE = 2, 3
NESTED = 0x8000
# Attributes of a flow, of its tuples, and of the NAT it is to get
TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, HELP, NAT_SRC, TIMEOUT, MARK, ZONE = 1, 2, 3, 4, 5, 6, 7, 8, 18
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_SRC, IP_DST = 1, 2
PORT_SRC, PORT_DST, ICMP_ID = 2, 3, 4
NAT_MIN_IP, NAT_MAX_IP, NAT_PROTO = 1, 2, 3
PORT_MIN, PORT_MAX = 1, 2
KEPT = (TIMEOUT, MARK, ZONE)
SETTABLE = 0xE  # of the status: seen in both directions, assured, confirmed


def attributes(data):
    """{type: value} of netlink attributes (bytes)."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3:]
    return found


def encoded(values):
    """Netlink attributes of {type: bytes, or a dict of the same}."""
    data = b""
    for kind, value in values.items():
        if isinstance(value, dict):
            kind, value = kind | NESTED, encoded(value)
        data += struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
    return data


class Conntrack:
    """The IPv4 flows of this network namespace."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def request(self, kind, flags, values):
        """Sends a message; returns the attributes (bytes) of each answer. Raises OSError with the kernel's errno."""
        body = struct.pack("=BBH", socket.AF_INET, 0, 0) + encoded(values)
        self.socket.send(struct.pack("=IHHII", 16 + len(body), SUBSYSTEM << 8 | kind, REQUEST | flags, 0, 0) + body)
        answers = []
        while True:
            data = self.socket.recv(1 << 16)
            while data:
                length, answer = struct.unpack_from("=IH", data)
                if answer == DONE:
                    return answers
                if answer == ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    if code:
                        raise OSError(code, "conntrack: " + errno.errorcode.get(code, str(code)))
                    return answers
                answers.append(data[20:length])
                data = data[(length + 3) & ~3:]

    def flows(self, address):
        """(index that the NAPT gave it, attributes) of each flow whose answers go to an address (bytes)."""
        for data in self.request(GET, DUMP, {}):
            flow = attributes(data)
            reply = attributes(flow[TUPLE_REPLY])
            ports = attributes(reply[TUPLE_PROTO])
            index = ports.get(PORT_DST) or ports.get(ICMP_ID)
            if index and attributes(reply[TUPLE_IP]).get(IP_DST) == address:
                yield struct.unpack(">H", index)[0], flow

    def forget(self, flow):
        """Deletes a flow; it may have ended."""
        try:
            self.request(DELETE, ACK, {kind: flow[kind] for kind in (TUPLE_ORIG, ZONE) if kind in flow})
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise

    def reindex(self, flow, address, index):
        """Deletes a flow and makes it anew with another index; False where a packet, or another flow, was there first."""
        original, reply = ({kind: attributes(value) for kind, value in attributes(flow[kind]).items()} for kind in (TUPLE_ORIG, TUPLE_REPLY))
        # The kernel wants the answers to the untranslated flow, and translates them.
        reply[TUPLE_IP][IP_DST] = original[TUPLE_IP][IP_SRC]
        if ICMP_ID in reply[TUPLE_PROTO]:
            reply[TUPLE_PROTO][ICMP_ID] = original[TUPLE_PROTO][ICMP_ID]
        else:
            reply[TUPLE_PROTO][PORT_DST] = original[TUPLE_PROTO][PORT_SRC]
        port = struct.pack(">H", index)
        source = {NAT_MIN_IP: address, NAT_MAX_IP: address, NAT_PROTO: {PORT_MIN: port, PORT_MAX: port}}
        made = {kind: flow[kind] for kind in KEPT if kind in flow}
        made[STATUS] = struct.pack(">I", struct.unpack(">I", flow[STATUS])[0] & SETTABLE)
        if HELP in flow:
            made[HELP] = attributes(flow[HELP])
        if PROTOINFO in flow:
            made[PROTOINFO] = {kind: attributes(value) for kind, value in attributes(flow[PROTOINFO]).items()}
        made.update({TUPLE_ORIG: original, TUPLE_REPLY: reply, NAT_SRC: source})
        self.forget(flow)
        try:
            self.request(NEW, CREATE | EXCL | ACK, made)
        except OSError as exc:
            if exc.errno != errno.EEXIST:
                raise
            return False
        return True


def main():
    address, indexes = socket.inet_aton(sys.argv[1]), json.load(sys.stdin)
    conntrack = Conntrack()
    left = []
    for index, flow in list(conntrack.flows(address)):
        wanted = indexes.get(str(index), index)
        if wanted is None:
            conntrack.forget(flow)
        elif wanted != index and not conntrack.reindex(flow, address, wanted):
            left.append((flow, wanted))
    # Try those again whose place was taken: the flow there has moved by now, unless they go round in a circle.
    for flow, wanted in left:
        conntrack.reindex(flow, address, wanted)


if __name__ == "__main__":
    try:
        main()
    except OSError as exc:
        raise SystemExit(str(exc)) from exc
