"""Packets through the CE, counted exactly or timed: sendmmsg in, a packet socket out.

The last packet of a burst is a *marker* on a flow of its own. Everything runs on one CPU, where the kernel
handles packets in order, so when the marker is out, whatever was sent before it is out or was dropped.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import time

from namespaces import LIBC
from napt_lab import ETH_P_IP, HOST, ip_packet, udp_packet

BURST = 200
MARKER_TTL = 200
MARKER = (HOST, 9, "203.0.113.254", 9)
TTL_AT, PROTOCOL_AT = 8, 9
SO_ATTACH_FILTER = 26
NETLINK_NETFILTER = 12


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)),
                ("iov_length", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [("header", Header), ("sent", ctypes.c_uint)]


def packet(flow, payload, ttl=64):
    return ip_packet(flow[0], flow[2], socket.IPPROTO_UDP, udp_packet(*flow, payload)[20:], ttl)


def source(data):
    """(address, port) a captured packet comes from."""
    return socket.inet_ntoa(data[12:16]), struct.unpack("!H", data[20:22])[0]


class Wire:
    """One direction: from a role's device to the CE's, out at a capture socket behind it."""

    def __init__(self, lab, role, device, towards, capture):
        self.capture = capture
        addresses = {}
        for name, link in ((role, device), ("napt", towards)):
            [found] = json.loads(lab.run(name, "ip", "-j", "link", "show", "dev", link))
            addresses[name] = bytes.fromhex(found["address"].replace(":", ""))
        self.header = addresses["napt"] + addresses[role] + struct.pack("!H", ETH_P_IP)
        with lab.inside_of(role):
            self.sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sender.bind((device, 0))
        self.capture.settimeout(2)
        self._only(PROTOCOL_AT, socket.IPPROTO_UDP)
        self.mark(MARKER)

    def mark(self, flow):
        """Use this flow for the markers."""
        self.marker = packet(flow, b"mark", MARKER_TTL)

    def bursts(self, packets):
        """Packets as arrays for sendmmsg, each with a marker at its end."""
        made = []
        for start in range(0, len(packets), BURST):
            frames = [self.header + data for data in [*packets[start:start + BURST], self.marker]]
            array = (Message * len(frames))()
            for message, frame in zip(array, frames, strict=True):
                message.header.iov, message.header.iov_length = ctypes.pointer(Iovec(frame, len(frame))), 1
            made.append(array)
        return made

    def _send(self, burst):
        sent = LIBC.sendmmsg(self.sender.fileno(), burst, len(burst), 0)
        if sent != len(burst):
            raise OSError(ctypes.get_errno(), f"sent {sent} of {len(burst)} packets")

    def _received(self):
        """The packets of a burst that came out, the marker last."""
        received = []
        while not received or received[-1][TTL_AT] != MARKER_TTL - 1:
            received.append(self.capture.recv(2048))
        return received

    def through(self, packets):
        """Send packets; return those that came out."""
        out = []
        for burst in self.bursts(packets):
            self._send(burst)
            out += self._received()[:-1]
        return out

    def time(self, bursts, limit):
        """Seconds that bursts take, and how many went; stops after ``limit`` seconds."""
        self._only(TTL_AT, MARKER_TTL - 1)
        begun = time.perf_counter()
        for number, burst in enumerate(bursts, 1):
            self._send(burst)
            self.capture.recv(2048)
            seconds = time.perf_counter() - begun
            if seconds > limit:
                break
        self._only(PROTOCOL_AT, socket.IPPROTO_UDP)
        return seconds, number

    def _only(self, offset, value):
        """Capture only packets with this byte there: a classic BPF program (load, compare, accept, refuse)."""
        program = [(0x30, 0, 0, offset), (0x15, 0, 1, value), (6, 0, 0, 65535), (6, 0, 0, 0)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
        self.capture.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def attribute(kind, value):
    """A netlink attribute; a list nests."""
    if isinstance(value, list):
        kind, value = kind | 0x8000, b"".join(value)
    return struct.pack("HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


class Conntrack:
    """Ends single flows in a namespace (ctnetlink): a program call each would take longer than the measurement."""

    def __init__(self, lab, role):
        with lab.inside_of(role):
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def end(self, flow):
        """False when there is no such flow."""
        addresses = [attribute(1, socket.inet_aton(flow[0])), attribute(2, socket.inet_aton(flow[2]))]
        ports = [attribute(1, bytes([socket.IPPROTO_UDP])), attribute(2, struct.pack("!H", flow[1])),
                 attribute(3, struct.pack("!H", flow[3]))]
        body = struct.pack("BBH", socket.AF_INET, 0, 0) + attribute(1, [attribute(1, addresses), attribute(2, ports)])
        # IPCTNL_MSG_CT_DELETE; NLM_F_REQUEST | NLM_F_ACK
        self.netlink.send(struct.pack("IHHII", 16 + len(body), 1 << 8 | 2, 5, 0, 0) + body)
        error = struct.unpack("i", self.netlink.recv(4096)[16:20])[0]
        if error not in (0, -errno.ENOENT):
            raise OSError(-error, os.strerror(-error))
        return error == 0
