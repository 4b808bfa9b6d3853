# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One exchange with a provider (HB46PP section 3.6, steps b to h): the TXT record, the server, the redirects, and what becomes of it."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from typing import NamedTuple

from ..mapping import hb46pp_exchange as hb46pp
from ..mapping.errors import MapError
from ..mapping.hb46pp import DOMAINS, LONGEST_ANSWER, Answer
from . import dns_lookup, dns_messages, web

ABLE = tuple(DOMAINS)  # what this router can do
CAPABILITY = (*ABLE, "hubspoke", "mesh")
VERSION = "0.1.0"  # as in galaxy.yml
EXAMPLE = "acde48"  # the OUI in the standard's own example
SIOCGIFHWADDR, ARPHRD_ETHER = 0x8927, 1  # <linux/sockios.h>, <linux/if_arp.h>
IFREQ = struct.Struct("=16sH6s16x")  # name, type, address
NO_MAKER = 3  # in the first byte of an address: for many, or chosen by no maker (RFC 9542 section 2.1)
MOST_REDIRECTS = 5
MOST_WARNINGS = 20


class Result(NamedTuple):
    """What became of an exchange.

    outcome: OK, NO_METHOD, NO_RECORD, DNS_FAILED, UNKNOWN_SOURCE or ERROR of hb46pp_exchange; None before the first exchange
    answer, body: with OK and NO_METHOD, what the server has answered, read and as it came
    fault: with the other outcomes, and NO_METHOD, what there is to tell
    warnings: what is odd about the answer
    resolver, server: the address of the resolver and the name of the last server, as far as it got
    withheld: why user and pass did not go to that server, where there are some
    """

    outcome: str | None
    answer: Answer | None = None
    body: str | None = None
    fault: str | None = None
    warnings: tuple[str, ...] = ()
    resolver: str | None = None
    server: str | None = None
    withheld: str | None = None


def client_of(interface: str) -> hb46pp.Client:
    """What this router says of itself; its maker by the OUI of the line's interface, where that has one."""
    maker = EXAMPLE
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        _name, kind, address = IFREQ.unpack(fcntl.ioctl(sock, SIOCGIFHWADDR, IFREQ.pack(interface.encode(), 0, b"")))
        if kind == ARPHRD_ETHER and any(address) and not address[0] & NO_MAKER:
            maker = address[:3].hex()
    return hb46pp.Client(f"{maker}-softwire_map", "softwire-map", VERSION, CAPABILITY)


def exchange(interface: str, resolvers: list[dns_lookup.Resolver], token: str | None = None, login: hb46pp.Login | None = None) -> Result:
    """Asks once. interface: the line's. token: of the answer before."""
    try:
        found, resolver = dns_lookup.look_up(hb46pp.DISCOVERY_NAME, dns_messages.TXT, resolvers, interface)
    except dns_lookup.LookupFailed as exc:
        return Result(hb46pp.DNS_FAILED, fault=str(exc))
    result = Result(hb46pp.NO_RECORD, fault=f"{hb46pp.DISCOVERY_NAME} has no TXT record at {resolver}: this provider has no HB46PP", resolver=resolver)
    if not found:
        return result
    try:
        server = hb46pp.server_of(found)
    except MapError as exc:
        return result._replace(outcome=hb46pp.DNS_FAILED, fault=str(exc))
    return _ask(server, result, interface, resolvers, token, login)


def _ask(server: hb46pp.Server, result: Result, interface: str, resolvers: list[dns_lookup.Resolver], token: str | None,
         login: hb46pp.Login | None) -> Result:
    """Asks a server, and those to which it sends the router."""
    asked: set[str] = set()
    client = client_of(interface)
    while True:
        result = result._replace(outcome=hb46pp.ERROR, server=server.host, withheld=hb46pp.withheld(server, login) if login else None)
        if len(asked) > MOST_REDIRECTS:
            return result._replace(fault=f"the servers redirect more than {MOST_REDIRECTS} times")
        warnings: list[str] = []
        try:
            url = hb46pp.request_url(server, client, token, login)
            if url in asked:
                return result._replace(fault=f"the servers redirect in a circle, back to {server.host}")
            asked.add(url)
            response = web.get(url, server.host, _addresses(server.host, resolvers, interface), server.verify, interface, LONGEST_ANSWER)
        except (MapError, dns_lookup.LookupFailed, web.Failed) as exc:
            return result._replace(fault=str(exc))
        reply = hb46pp.reply_of(server, response.status, response.location, response.body, ABLE, warnings.append)
        if reply.outcome != hb46pp.REDIRECT:
            body = response.body.decode("utf-8-sig") if reply.answer else None
            return result._replace(outcome=reply.outcome, answer=reply.answer, body=body, fault=str(reply.fault) if reply.fault else None,
                                   warnings=tuple(warnings[:MOST_WARNINGS]))
        server = reply.server


def _addresses(host: str, resolvers: list[dns_lookup.Resolver], interface: str) -> list[str]:
    """The IPv6 addresses of a server, none of which is this router's or only of its links. Raises LookupFailed."""
    found = [host] if ":" in host else dns_lookup.look_up(host, dns_messages.AAAA, resolvers, interface).found
    if not found:
        raise dns_lookup.LookupFailed(f"{host} has no IPv6 address, and the provider's server is asked over IPv6 alone")
    addresses = [address for address in map(ipaddress.IPv6Address, found)
                 if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.ipv4_mapped)]
    if not addresses:
        raise dns_lookup.LookupFailed(f"{host} has {found[0]}, which no server of a provider can have")
    return [str(address) for address in addresses]
