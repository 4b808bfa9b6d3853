# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's messages say of prefixes: addresses, routes, router advertisements, links. Pure but for dump() and hear().

Whichever DHCPv6 client runs, what it got ends up in the kernel. Numbers are those of <linux/rtnetlink.h>, <linux/if_addr.h> and
<linux/if_link.h>.
"""

from __future__ import annotations

import collections
import socket
import struct
import time

from . import netlink

GROUPS = (1, 9, 11, 18)  # RTNLGRP_LINK, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_PREFIX
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWPREFIX = 52
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, changed
IFADDRMSG = struct.Struct("=BBBBI")  # family, length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, length, source length, tos, table, protocol, scope, type, flags
PREFIXMSG = struct.Struct("=BxxxiBBBx")  # family, index, type, length, flags
CACHEINFO = struct.Struct("=IIII")  # preferred, valid: seconds left; created, updated: hundredths of seconds since the boot
LIFETIMES = struct.Struct("=II")  # preferred, valid
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_PERMANENT, IFA_F_UNUSABLE = 0x80, 0x48  # unusable: tentative, or a duplicate
RTA_DST, RTA_PRIORITY = 1, 6
PREFIX_ADDRESS, PREFIX_CACHEINFO = 1, 2
IFF_UP, IFF_RUNNING = 0x1, 0x40
SCOPE_GLOBAL, SCOPE_LINK = 0, 253
# RTN_BLACKHOLE, _UNREACHABLE, _PROHIBIT: what clients lay under a delegated prefix, so that what they have not given to a LAN goes nowhere.
NOWHERE = (6, 7, 8)
SHORTEST, LONGEST = 16, 64  # bits of a prefix that somebody may have delegated
FOREVER = 0xFFFFFFFF
INFINITY = float("inf")
READS = 64  # of the socket in one turn

# A link: its name, and whether packets pass. None of either where it is gone.
Link = collections.namedtuple("Link", "name running")
# An address or a prefix. preferred, valid: until when; created, updated: when it was announced first and last; all in monotonic seconds, infinity
# for ever, None where nobody says. permanent: set by hand. usable: not to be checked for a duplicate any more.
Held = collections.namedtuple("Held", "preferred valid created updated permanent usable")


def fact(kind, body, now):
    """(key, value) of a message about something that matters here, value None where it has gone; or None.

    key: ("link", index), ("address", index, address, length, scope), ("route", prefix, length, table, metric) or
    ("advertised", index, prefix, length), addresses as 16 bytes. now: monotonic seconds.
    """
    try:
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            return _link(kind, body)
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return _address(kind, body, now)
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return _route(kind, body, now)
        return _advertised(body, now) if kind == RTM_NEWPREFIX else None
    except (struct.error, KeyError):
        return None  # of a kernel that says less than every one we know


def _link(kind, body):
    family, _type, index, flags, _changed = IFINFOMSG.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None  # of a bridge's port, or of the protocol's settings
    if kind == RTM_DELLINK:
        return ("link", index), None
    name = netlink.attributes(body[IFINFOMSG.size:])[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    return ("link", index), Link(name, flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING)


def _address(kind, body, now):
    family, length, flags, scope, index = IFADDRMSG.unpack_from(body)
    if family != socket.AF_INET6 or scope not in (SCOPE_GLOBAL, SCOPE_LINK):
        return None
    found = netlink.attributes(body[IFADDRMSG.size:])
    # Where there is a peer, as with PPP, the other one is its address.
    key = ("address", index, found.get(IFA_LOCAL) or found[IFA_ADDRESS], length, scope)
    if kind == RTM_DELADDR:
        return key, None
    if IFA_FLAGS in found:
        flags = struct.unpack("=I", found[IFA_FLAGS])[0]
    preferred, valid, created, updated = CACHEINFO.unpack_from(found[IFA_CACHEINFO])
    return key, Held(until(preferred, now), until(valid, now), now - age(created, now), now - age(updated, now),
                     bool(flags & IFA_F_PERMANENT), not flags & IFA_F_UNUSABLE)


def _route(kind, body, now):
    family, length, _source, _tos, table, _protocol, _scope, type_, _flags = RTMSG.unpack_from(body)
    if family != socket.AF_INET6 or type_ not in NOWHERE or not SHORTEST <= length <= LONGEST:
        return None
    found = netlink.attributes(body[RTMSG.size:])
    key = ("route", found[RTA_DST], length, table, found.get(RTA_PRIORITY))
    return key, None if kind == RTM_DELROUTE else Held(None, None, now, now, True, True)


def _advertised(body, now):
    family, index, _type, length, _flags = PREFIXMSG.unpack_from(body)
    if family != socket.AF_INET6 or not SHORTEST <= length <= LONGEST:
        return None
    found = netlink.attributes(body[PREFIXMSG.size:])
    preferred, valid = LIFETIMES.unpack_from(found[PREFIX_CACHEINFO])
    key = ("advertised", index, found[PREFIX_ADDRESS], length)
    return key, Held(until(preferred, now), until(valid, now), now, now, False, True) if valid else None


def until(seconds, now):
    """When a lifetime ends, in monotonic seconds."""
    return INFINITY if seconds == FOREVER else now + seconds


def age(stamp, now):
    """How many seconds ago the kernel took a stamp, hundredths of seconds since the boot in 32 bits; 0 for one that looks later than now."""
    passed = (int(now * 100) - stamp) & FOREVER
    return passed / 100 if passed < 1 << 31 else 0.0


def dump(now):
    """[(key, value)] of all that is there now, links first. now: a function that gives monotonic seconds. Raises OSError."""
    found = []
    for kind, body in ((RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0)), (RTM_GETADDR, IFADDRMSG.pack(socket.AF_INET6, 0, 0, 0, 0)),
                       (RTM_GETROUTE, RTMSG.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0))):
        found += [fact(answer, content, now()) for answer, content in netlink.dumped(netlink.NETLINK_ROUTE, kind, body)]
    return [each for each in found if each]


def listening():
    """A socket that hears of changes. Raises OSError."""
    return netlink.opened(netlink.NETLINK_ROUTE, GROUPS)


def hear(sock, prefixes):
    """Takes what the socket of listening() has heard into prefixes, a line_prefixes.Prefixes. Raises OSError."""
    for _read in range(READS):
        data = netlink.received(sock)
        if data is None:
            while netlink.received(sock) != b"":  # what is older than the dump would spoil it
                pass
            prefixes.replace(dump(time.monotonic))
        if not data:
            return
        now = time.monotonic()
        for kind, _flags, body in netlink.messages(data):
            found = fact(kind, body, now)
            if found:
                prefixes.heard(*found)
