# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One GET over IPv6, of a server that may be slow, talk without end, or not be who it says.

Neither the server's addresses nor a redirect are looked for here: who asks has them from the line.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from .deadline import Deadline

PORTS = {"http": 80, "https": 443}
SECONDS = 30.0  # that everything may take, from the connection to the last byte
CONNECT = 10.0  # that one address has
MOST_ADDRESSES = 4
HEADERS = 65536  # bytes of a reply beside its body; what a chunked body needs for its chunks counts as well


class Failed(Exception):
    """There is no reply; the text is for a person."""


class Response(NamedTuple):
    """status and the header Location of a reply, and its body, cut off where it is longer than it may be."""

    status: int
    location: str | None
    body: bytes


class _Limited:
    """A connected socket, as http.client needs one, with one deadline and a bound for all that it hears."""

    def __init__(self, sock: socket.socket, deadline: Deadline, most: int) -> None:
        self.sock, self.deadline, self.most = sock, deadline, most

    def prepare(self) -> socket.socket:
        """The socket, with the time that is left."""
        self.sock.settimeout(self.deadline.left())
        return self.sock

    def sendall(self, data: bytes) -> None:
        self.prepare().sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Heard(self))

    def close(self) -> None:
        """http.client lets go of it before the body is read; get() closes it."""


class _Heard(io.RawIOBase):
    """What a limited socket hears."""

    def __init__(self, limited: _Limited) -> None:
        super().__init__()
        self.limited = limited

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = self.limited.prepare().recv_into(buffer)
        self.limited.most -= count
        if self.limited.most < 0:
            raise Failed("the reply has no end")
        return count


def get(url: str, host: str, addresses: list[str], verify: bool, interface: str, most: int) -> Response:
    """The reply to GET. Raises Failed.

    host: of the URL, for SNI and the certificate. addresses: its IPv6 addresses. verify: whether its certificate has to be valid for it, by
    the authorities that this machine trusts. interface: the line's. most: bytes of the body; one more is read, so that it can be seen.
    """
    parts = urlsplit(url)
    deadline = Deadline(SECONDS)
    try:
        with _connected(addresses, parts.port or PORTS[parts.scheme], interface, deadline) as plain:
            sock = plain
            if parts.scheme == "https":
                plain.settimeout(deadline.left())
                sock = _context(verify).wrap_socket(plain, server_hostname=host)
            with sock:
                return _exchange(_Limited(sock, deadline, HEADERS + most + 1), parts, most)
    except socket.timeout as exc:
        raise Failed(f"{host} does not answer in time") from exc
    except ssl.SSLCertVerificationError as exc:
        raise Failed(f"the certificate of {host} is refused: {exc.verify_message}") from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise Failed(f"{host}: {getattr(exc, 'strerror', None) or exc or type(exc).__name__}") from exc


def _exchange(limited: _Limited, parts: SplitResult, most: int) -> Response:
    connection = http.client.HTTPConnection(parts.netloc)
    connection.sock = limited
    headers = {"Host": parts.netloc, "Accept": "application/json", "Connection": "close"}
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    response = connection.getresponse()
    return Response(response.status, response.getheader("Location"), response.read(most + 1))


def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _connected(addresses: list[str], port: int, interface: str, deadline: Deadline) -> socket.socket:
    """A connection to the first address that takes one, over the line."""
    failure: OSError = OSError("no address")
    for address in addresses[:MOST_ADDRESSES]:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            sock.settimeout(min(CONNECT, deadline.left()))
            sock.connect((address, port))
            return sock
        except OSError as exc:
            sock.close()
            failure = exc
    raise failure
