# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel tells of network namespaces as it happens: links, addresses, routes, rules, tc filters, forwarding, nftables.

Numbers are those of <linux/rtnetlink.h> and <linux/netfilter/nfnetlink.h>.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from .namespaces import inside
from .netlink import NETLINK_NETFILTER, NETLINK_ROUTE, messages, opened, received

# RTNLGRP_LINK, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE, _IPV4_NETCONF, _IPV6_NETCONF
ROUTE_GROUPS = (1, 4, 5, 7, 8, 9, 11, 19, 24, 25)
NFNLGRP_NFTABLES = 7
# RTM_DELLINK, _DELADDR, _DELROUTE, _DELRULE, _DELQDISC, _DELTFILTER; RTM_NEWLINK: gone and made again, or down; RTM_NEWNETCONF
RELEVANT = {17, 21, 25, 33, 37, 45, 16, 80}
QUIET, LONGEST = 0.3, 2.0  # seconds: a change often comes in many pieces


class Events:
    """The sockets of some network namespaces."""

    def __init__(self, namespaces):
        """namespaces: names, "main" or of our own; one that is not there is left out. Raises OSError."""
        self.sockets, self.identities = [], identities(namespaces)
        for name in namespaces:
            with contextlib.suppress(FileNotFoundError), inside(name):
                self.sockets += [opened(NETLINK_ROUTE, ROUTE_GROUPS), opened(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,))]

    def are_stale(self):
        """Whether a namespace has gone, has come, or is another one by now."""
        return self.identities != identities(self.identities)

    def close(self):
        for each in self.sockets:
            each.close()

    def wait(self, seconds):
        """Waits for something to go, or to change in a way that may matter, at most some seconds; tells whether it did."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._read(left):
                last = time.monotonic() + LONGEST
                while self._read(QUIET) and time.monotonic() < last:
                    pass
                return True

    def _read(self, seconds):
        """Reads what there is; tells whether something of it matters."""
        ready, _write, _exceptional = select.select(self.sockets, [], [], max(seconds, 0))
        heard = [matters(each) for each in ready]  # of every socket, or it would be told of again
        return any(heard)


def identities(namespaces):
    """{name: inode, or None where it is not there} of network namespaces."""
    paths = {name: "/proc/self/ns/net" if name == "main" else "/run/netns/" + name for name in namespaces}
    return {name: os.stat(path).st_ino if os.path.exists(path) else None for name, path in paths.items()}


def matters(sock):
    """Reads one datagram of a socket; whether a message in it matters. All of nftables does, and what was lost may have mattered."""
    data = received(sock)
    if not data:
        return data is None
    return sock.proto == NETLINK_NETFILTER or any(kind in RELEVANT for kind, _flags, _body in messages(data))
