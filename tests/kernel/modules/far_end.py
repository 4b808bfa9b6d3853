# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The internet's side of the probe's tests: far_end.py ADDRESS [stun-tcp] serves port 53 (TCP, UDP) and STUN on 3478."""

from __future__ import annotations

import ipaddress
import socketserver
import struct
import sys
import threading

COOKIE = 0x2112A442


def stun_response(request, peer):
    """The answer to a binding request (RFC 8489 section 6.3.1.1), with a comprehension-optional attribute in front."""
    value = struct.pack("!BBHI", 0, 1, peer[1] ^ (COOKIE >> 16), int(ipaddress.IPv4Address(peer[0])) ^ COOKIE)
    attributes = struct.pack("!HH", 0x8022, 3) + b"far\0" + struct.pack("!HH", 0x0020, len(value)) + value
    return struct.pack("!HHI", 0x0101, len(attributes), COOKIE) + request[8:20] + attributes


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


class Hold(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1)


class Stun(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(stun_response(data, self.client_address), self.client_address)


class StunStream(socketserver.BaseRequestHandler):
    def handle(self):
        answer = stun_response(self.request.recv(2048), self.client_address)
        self.request.sendall(answer[:7])
        self.request.sendall(answer[7:])


if __name__ == "__main__":
    address = sys.argv[1]
    socketserver.TCPServer.allow_reuse_address = True
    servers = [
        socketserver.ThreadingTCPServer((address, 53), Hold), socketserver.UDPServer((address, 53), Echo),
        socketserver.UDPServer((address, 3478), Stun),
    ]
    if "stun-tcp" in sys.argv:
        servers.append(socketserver.ThreadingTCPServer((address, 3478), StunStream))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()
