# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A provider and the router at its end: server eth0 -- eth0 client, a resolver, web servers, and certificates that openssl has made."""

from __future__ import annotations

import http.server
import shutil
import socket
import socketserver
import ssl
import struct
import threading
from pathlib import Path

import dns_replies
from dhcpv6_lab import Lab, run
from namespaces import network_namespace

from ansible_collections.softwire.map.plugins.module_utils.routers import render

PACKAGES = render.HERE.parent
SERVER, ROUTER = "2001:db8:6::1", "2001:db8:6::2"
NOBODY = "65534"
NAME = "vne.example.jp"
# /run and /var/lib are the test's own, where everybody can read.
MOUNTS = """set -e
mount --bind DIRECTORY/run /run
mount --bind DIRECTORY/lib /var/lib
exec "$0" "$@"
"""
# The program as its unit runs it, but for the times between two exchanges.
PROGRAM = f"""echo $$ > /run/pid; cd /run/program
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    env MAP_PROVIDER_INTERFACE=eth0 /usr/bin/python3 -B -c '
import sys
from softwire_map.provider import __main__, asking
asking.SETTLE = asking.PAUSE = 0.2
sys.argv = ["provider", "ce"]
raise SystemExit(__main__.main())'
"""


class Resolver:
    """DNS over UDP and TCP. answer: gets a question's name, type and whole message, and whether it came over TCP; returns a message or None."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []
        outer = self

        class OverUdp(socketserver.BaseRequestHandler):
            def handle(self):
                message, sock = self.request
                found = outer.reply(message, False)
                if found:
                    sock.sendto(found, self.client_address)

        class OverTcp(socketserver.StreamRequestHandler):
            def handle(self):
                length, = struct.unpack("!H", self.rfile.read(2))
                found = outer.reply(self.rfile.read(length), True)
                if found:
                    self.wfile.write(struct.pack("!H", len(found)) + found)

        self.servers = [started(kind, (SERVER, 53), handler) for kind, handler in
                        ((socketserver.ThreadingUDPServer, OverUdp), (socketserver.ThreadingTCPServer, OverTcp))]

    def reply(self, message, over_tcp):
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode())
            at += 1 + message[at]
        kind, = struct.unpack_from("!H", message, at + 1)
        self.asked.append((".".join(labels), kind, over_tcp))
        return self.answer(".".join(labels), kind, message, over_tcp)


class Web:
    """HTTP, with TLS where it has a certificate. reply: gets the handler, which has the path, and answers; it says what is answered."""

    def __init__(self, port, certificate=None):
        self.asked, self.names, self.reply = [], [], None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.client_address[0], self.headers["Host"], self.path))
                outer.reply(self)

            def log_message(self, *arguments):
                """Nobody reads it."""

        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.servers = [started(http.server.ThreadingHTTPServer, (SERVER, port), Handler, context)]


def started(kind, address, handler, context=None):
    """A server that runs in a thread of this process."""
    class Server(kind):
        address_family = socket.AF_INET6
        allow_reuse_address = daemon_threads = True

        def finish_request(self, request, client_address):
            if not context:
                return super().finish_request(request, client_address)
            try:  # in the thread of the request
                with context.wrap_socket(request, server_side=True) as wrapped:
                    return super().finish_request(wrapped, client_address)
            except OSError:  # the client does not like the certificate
                return None

        def handle_error(self, request, client_address):
            """A client that has heard enough goes."""

    made = Server(address, handler)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return made


def answered(body, status=200, **headers):
    """What a Web's reply does to answer once and for all."""
    def reply(handler):
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


class Provider(Lab):
    """A resolver that has one server's record, a web server for each of `certificates`, and one without."""

    def __init__(self, directory, certificates):
        super().__init__(directory)
        self.servers = []
        self.record = None  # TXT of 4over6.info: bytes, or a list of several, or None for NXDOMAIN
        self.names = {NAME: SERVER}
        run("ip", "-n", self.client, "address", "add", f"{ROUTER}/64", "dev", "eth0", "nodad")
        with network_namespace(f"/run/netns/{self.server}"):
            self.resolver = Resolver(self.resolve)
            self.plain = Web(80)
            self.secure = {kind: Web(port, path) for port, (kind, path) in enumerate(certificates.items(), 8443)}
        self.ports = {kind: 8443 + index for index, kind in enumerate(certificates)}
        self.servers = [server for each in (self.resolver, self.plain, *self.secure.values()) for server in each.servers]

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        super().close()

    def resolve(self, name, kind, question, _over_tcp):
        if kind == dns_replies.TXT and name == "4over6.info" and self.record is not None:
            records = self.record if isinstance(self.record, list) else [self.record]
            return dns_replies.reply(question, *(dns_replies.record(kind, dns_replies.text(each)) for each in records))
        if kind == dns_replies.AAAA and name in self.names:
            return dns_replies.reply(question, dns_replies.record(kind, dns_replies.address(self.names[name])))
        return dns_replies.reply(question, code=dns_replies.NXDOMAIN)

    def url(self, kind, path="/rule.cgi"):
        """Of the web server with a kind of certificate."""
        return f"https://{NAME}:{self.ports[kind]}{path}"

    def start_program(self):
        """Starts the whole program with the rights of its unit; its files lie below `directory`."""
        for part in ("run/softwire-provider/ce", "lib/softwire-provider/ce", "run/systemd/netif/links"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.directory / part, int(NOBODY), int(NOBODY))
        program = self.directory / "run/program/softwire_map"
        if not program.exists():
            shutil.copytree(PACKAGES, program, ignore=shutil.ignore_patterns("__pycache__", "routers"))
        index = run("ip", "netns", "exec", self.client, "cat", "/sys/class/net/eth0/ifindex").strip()
        (self.directory / "run/systemd/netif/links" / index).write_text(f"DNS={SERVER}\n")
        return self.start(self.client, "sh", "-c", PROGRAM, private=MOUNTS.replace("DIRECTORY", str(self.directory)))

    @property
    def pid(self):
        return int((self.directory / "run/pid").read_text())


def certificates(directory):
    """{kind: file with key and certificate}, and the file of the authority that has signed them all."""
    def openssl(*arguments):
        run("openssl", *map(str, arguments))

    authority = directory / "authority.pem"
    key = directory / "key.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", authority, "-days", "30",
            "-subj", "/CN=Authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    made = {}
    for kind, name, days in (("right", NAME, "1"), ("wrong", "other.example.jp", "1"), ("expired", NAME, "-1")):
        path = Path(directory, f"{kind}.pem")
        request, extensions = directory / f"{kind}.csr", directory / f"{kind}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        openssl("req", "-new", "-key", key, "-out", request, "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", path)
        path.write_text(path.read_text() + key.read_text())
        made[kind] = path
    return made, authority
