# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DHCPv6 messages (RFC 8415) as far as a line needs them: an Information-Request, and what a Reply says. Pure.

What is in the containers of RFC 7598 is not looked at here, but for their size.
"""

from __future__ import annotations

import collections
import socket
import struct

from .probing import checksum

CLIENT, SERVER = 546, 547  # UDP ports (RFC 8415 section 7.2)
SERVERS = socket.inet_pton(socket.AF_INET6, "ff02::1:2")  # All_DHCP_Relay_Agents_and_Servers (section 7.1)
REPLY, INFORMATION_REQUEST = 7, 11  # section 7.3
CLIENTID, SERVERID, ORO, ELAPSED_TIME, STATUS_CODE, IA_PD, IAPREFIX, REFRESH_TIME, INF_MAX_RT = 1, 2, 6, 8, 13, 25, 26, 32, 83
CONTAINERS = (94, 95)  # S46_CONT_MAPE and S46_CONT_MAPT (RFC 7598 section 5)
PRIORITY = 111  # S46_PRIORITY (RFC 8026 section 1.4)
WANTED = CONTAINERS + (PRIORITY, REFRESH_TIME, INF_MAX_RT)  # the last two MUST be (RFC 8415 sections 21.23 and 21.25)
OPTION = struct.Struct("!HH")
IPV6, UDP = struct.Struct("!IHBB16s16s"), struct.Struct("!HHHH")
VERSION, NEXT_IS_UDP = 6 << 28, 17
IA, PREFIX = struct.Struct("!III"), struct.Struct("!IIB16s")
DUID_LENGTHS = range(3, 131)  # bytes (RFC 8415 section 11.1)
MOST_OPTIONS = 200  # of one message
LARGEST_CONTAINER = 4096  # bytes; about 60 rules
LONGEST_PRIORITY = 32  # codes
SECONDS = struct.Struct("!I")

# A message of a server, and its link-local address.
Received = collections.namedtuple("Received", "server message")
# What a Reply says. xid: 3 bytes. server, client: DUIDs, client None where there is none. delegated: [Delegated]. containers: {code: bytes}.
# priority: codes. refresh, max_rt: seconds or None. refused: why something of it is left out.
Reply = collections.namedtuple("Reply", "xid server client delegated containers priority refresh max_rt refused")
# A prefix of an IA_PD. ia: its IAID and the client's DUID. address: 16 bytes. preferred, valid: seconds.
Delegated = collections.namedtuple("Delegated", "ia address length preferred valid")


class Refused(ValueError):
    """A message is not what RFC 8415 says; the text is for a person, and one of a few."""


def option(code, body):
    return OPTION.pack(code, len(body)) + body


def information_request(xid, elapsed, client=None):
    """An Information-Request (section 18.2.6). xid: 3 bytes; elapsed: seconds since the first one; client: a DUID."""
    body = option(CLIENTID, client) if client else b""
    body += option(ORO, b"".join(struct.pack("!H", code) for code in WANTED))
    body += option(ELAPSED_TIME, struct.pack("!H", min(int(elapsed * 100), 0xFFFF)))
    return bytes([INFORMATION_REQUEST]) + xid + body


def packet(source, message):
    """An IPv6 packet to the servers and relays of the link. source: this router's link-local address, 16 bytes."""
    length = UDP.size + len(message)
    datagram = UDP.pack(CLIENT, SERVER, length, 0) + message
    total = udp_checksum(source, SERVERS, datagram) or 0xFFFF
    return IPV6.pack(VERSION, length, NEXT_IS_UDP, 1, source, SERVERS) + UDP.pack(CLIENT, SERVER, length, total) + message


def udp_checksum(source, target, datagram):
    """Of a datagram whose own is zero; zero for one that has the right one (RFC 8200 section 8.1)."""
    return checksum(source + target + struct.pack("!II", len(datagram), NEXT_IS_UDP) + datagram + b"\0" * (len(datagram) % 2))


def received(data, is_sound):
    """The message in an IPv6 packet to our port. is_sound: whether somebody has looked at the checksum, or will make it. Raises Refused."""
    if len(data) < IPV6.size + UDP.size:
        raise Refused("a packet that ends too early")
    _version, length, _next, _hops, source, target = IPV6.unpack_from(data)
    datagram = data[IPV6.size:IPV6.size + length]
    if length < UDP.size or len(datagram) < length:
        raise Refused("a packet that ends too early")
    port, _own, claimed, total = UDP.unpack_from(datagram)
    if not (is_link_local(source) and is_link_local(target)):
        raise Refused("not from a link-local address to one: what answers on the line does so from its own (RFC 7598 section 9)")
    if port != SERVER:
        raise Refused("not from a server's port 547 (RFC 8415 section 7.2)")
    if claimed != length or not is_sound and (not total or udp_checksum(source, target, datagram)):
        raise Refused("a wrong length or checksum of UDP")
    return Received(socket.inet_ntop(socket.AF_INET6, source), datagram[UDP.size:])


def is_link_local(address):
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def options(data):
    """[(code, body)] of options one after the other. Raises Refused."""
    found, at = [], 0
    while at < len(data):
        if len(found) == MOST_OPTIONS:
            raise Refused("more than %d options" % MOST_OPTIONS)
        if at + OPTION.size > len(data):
            raise Refused("an option that ends too early")
        code, length = OPTION.unpack_from(data, at)
        at += OPTION.size
        if at + length > len(data):
            raise Refused("an option that ends too early")
        found.append((code, data[at:at + length]))
        at += length
    return found


def reply(message):
    """What a Reply says, None for another message. Raises Refused.

    An option that may be there once counts once, where it is first (RFC 8415 section 21.1).
    """
    if message[:1] != bytes([REPLY]):
        return None
    if len(message) < 4:
        raise Refused("a message that ends too early")
    found = options(message[4:])
    first = dict(reversed(found))
    servers, clients = ([body for code, body in found if code == wanted] for wanted in (SERVERID, CLIENTID))
    if len(servers) != 1 or len(servers[0]) not in DUID_LENGTHS:
        raise Refused("not exactly one Server Identifier (RFC 8415 section 16.10)")
    if len(clients) > 1 or clients and len(clients[0]) not in DUID_LENGTHS:
        raise Refused("more than one Client Identifier, or one that is none")
    if first.get(STATUS_CODE, b"\0\0")[:2] != b"\0\0":
        raise Refused("a Status Code other than Success (RFC 8415 section 21.13)")
    client, refused = (clients or [None])[0], []
    containers = {code: first[code] for code in CONTAINERS if code in first}
    for code in CONTAINERS:
        if len(containers.get(code, b"")) > LARGEST_CONTAINER:
            del containers[code]
            refused.append("a container %d of more than %d bytes: ignored whole" % (code, LARGEST_CONTAINER))
    codes = first.get(PRIORITY, b"")
    if len(codes) % 2 or len(codes) > 2 * LONGEST_PRIORITY:
        codes = b""
        refused.append("an option 111 that is no list of at most %d codes: ignored (RFC 8026 section 1.4)" % LONGEST_PRIORITY)
    delegated = [each for code, body in found if code == IA_PD and client for each in prefixes(body, client, refused)]
    return Reply(message[1:4], servers[0], client, delegated, containers, [code for code, in struct.iter_unpack("!H", codes)],
                 seconds(first.get(REFRESH_TIME)), seconds(first.get(INF_MAX_RT)), refused)


def seconds(body):
    return SECONDS.unpack(body)[0] if body is not None and len(body) == SECONDS.size else None


def prefixes(body, client, refused):
    """The prefixes in an IA_PD (RFC 8415 sections 21.21 and 21.22), as [Delegated]; adds to refused why one is left out. Raises Refused."""
    if len(body) < IA.size:
        raise Refused("an option that ends too early")
    iaid, renew, rebind = IA.unpack_from(body)
    if renew > rebind > 0:
        refused.append("an IA_PD with T1 greater than T2: ignored (RFC 8415 section 21.21)")
        return []
    found = []
    for code, inner in options(body[IA.size:]):
        if code != IAPREFIX:
            continue
        if len(inner) < PREFIX.size:
            raise Refused("an option that ends too early")
        preferred, valid, length, address = PREFIX.unpack_from(inner)
        if preferred > valid or not 0 < length <= 128:
            refused.append("a delegated prefix preferred longer than valid, or of no length: ignored (RFC 8415 section 21.22)")
            continue
        found.append(Delegated((iaid, client), address, length, preferred, valid))
    return found
