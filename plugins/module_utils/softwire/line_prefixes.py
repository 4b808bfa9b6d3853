# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prefixes that a line may have given this router, by all that tells of them. Pure: events come in with their times.

It lists, and decides nothing. All times are monotonic seconds; infinity is for ever.
"""

from __future__ import annotations

import collections
import socket

from .line_kernel import INFINITY, SCOPE_GLOBAL, SCOPE_LINK, until

# Where a prefix is known from.
REPLY, ROUTE, LAN, ADVERTISED, HOST, FILE = "reply", "route", "lan", "advertised", "host", "file"
PROVES = 64  # bits of the line's prefix that an address proves
APART = 2.0  # seconds: what is announced closer together was announced at once
# Seconds after which a router that is alive has advertised its prefix again: twice MaxRtrAdvInterval's maximum (RFC 4861 section 6.2.1).
SILENCE = 3600.0
MOST = {REPLY: 16, ADVERTISED: 32}  # how many are remembered of what others on the line can send as much of as they like
SHOWN = 64  # how many are listed

# since, announced: when it was announced first and last, None where it never is; preferred, valid: until when.
Known = collections.namedtuple("Known", "source prefix interface since announced preferred valid ia")


class Prefixes:
    """wan: the name of the line's interface."""

    def __init__(self, wan):
        self.wan = wan
        self.links = {}  # index: line_kernel.Link
        self.kernel = {}  # key: line_kernel.Held
        self.replies = {}  # (IA, address, length): Known
        self.files = []  # of Known

    def heard(self, key, value):
        """Takes a fact of line_kernel.fact(); tells whether it has changed anything."""
        if key[0] == "link":
            before = self.links.pop(key[1], None)
            if value is not None:
                self.links[key[1]] = value
            else:
                self.kernel = {each: held for each, held in self.kernel.items() if each[0] == "route" or each[1] != key[1]}
            return before != value
        before = self.kernel.pop(key, None)  # what was announced last is last in the order as well
        if value is None:
            return before is not None
        if before and key[0] == "advertised":
            value = value._replace(created=before.created)
        if not before and key[0] == "advertised":
            self._make_room(self.kernel, [each for each in self.kernel if each[0] == "advertised"], MOST[ADVERTISED])
        self.kernel[key] = value
        return True

    def replace(self, facts):
        """Takes all facts of line_kernel.dump(), which has no advertisements."""
        keys = {key for key, _value in facts}
        self.links = {}
        self.kernel = {key: held for key, held in self.kernel.items() if key in keys or key[0] == "advertised"}
        for key, value in facts:
            if key[0] == "route":
                value = self.kernel.get(key, value)  # a dump announces nothing
            self.heard(key, value)

    def delegated(self, prefixes, now):
        """Takes the prefixes of a Reply, as line_messages.Delegated."""
        for each in prefixes:
            key = (each.ia, each.address, each.length)
            before = self.replies.pop(key, None)
            if not each.valid:
                continue
            if not before:
                self._make_room(self.replies, list(self.replies), MOST[REPLY])
            self.replies[key] = Known(REPLY, text(each.address, each.length), self.wan, before.since if before else now, now,
                                      until(each.preferred, now), until(each.valid, now), each.ia)

    @staticmethod
    def _make_room(table, keys, most):
        """Forgets what was announced longest ago."""
        for key in keys[:max(0, len(keys) - most + 1)]:
            del table[key]

    def expire(self, now):
        """Forgets what is not valid any more, and the kernel does not tell of."""
        self.replies = {key: known for key, known in self.replies.items() if known.valid > now}
        self.kernel = {key: held for key, held in self.kernel.items() if key[0] != "advertised" or held.valid > now}

    def link(self):
        """(index, whether packets pass) of the line's interface; (None, False) where it is not there."""
        return next(((index, link.running) for index, link in self.links.items() if link.name == self.wan), (None, False))

    def source(self):
        """The link-local address from which this router may ask on the line, 16 bytes, or None."""
        index, running = self.link()
        return next((key[2] for key, held in self.kernel.items()
                     if running and key[0] == "address" and key[1] == index and key[4] == SCOPE_LINK and held.usable), None)

    def known(self, now):
        """[Known] of everything, by where from and which prefix; each prefix once for each of its sources and interfaces."""
        found = {}
        for each in [*self._of_kernel(), *self.replies.values(), *self.files]:
            if each.valid <= now:
                continue
            key = (each.source, each.prefix, each.interface)
            found[key] = merged(found[key], each) if key in found else each
        newest = sorted(found.values(), key=lambda known: known.announced or known.since)[-SHOWN:]
        return sorted(newest, key=lambda known: (known.source, known.prefix, known.interface or ""))

    def _of_kernel(self):
        index, _running = self.link()
        for key, held in self.kernel.items():
            if key[0] == "route":
                yield Known(ROUTE, text(key[1], key[2]), None, held.created, held.updated, INFINITY, INFINITY, None)
            elif key[0] == "advertised":
                if key[1] == index:
                    yield Known(ADVERTISED, text(key[2], key[3]), self.wan, held.created, held.updated, held.preferred, held.valid, None)
            elif key[4] == SCOPE_GLOBAL and not (held.permanent and key[3] == 128):  # set by hand and alone: a MAP address, not a LAN's
                source = LAN if key[1] != index else HOST if key[3] == 128 else ADVERTISED
                name = self.links[key[1]].name if key[1] in self.links else None
                yield Known(source, text(key[2], PROVES), name, held.created, None if held.permanent else held.updated,
                            held.preferred, held.valid, None)

    @staticmethod
    def silent(known):
        """The (source, prefix) of those whose router or server seems to be dead: announced no more, since another one has taken its place.

        That is all that tells of a line that was renumbered without farewell: the old prefix stays valid for hours (RFC 4862 section 5.5.3).
        Of prefixes of one IA, and of those advertised on the line; a client takes its own addresses away.
        """
        found = set()
        for each in known:
            if each.announced is None or each.source not in (REPLY, ADVERTISED):
                continue
            rivals = [other for other in known if other.source == each.source and other.ia == each.ia and other.prefix != each.prefix
                      and other.announced is not None]
            for other in rivals:
                apart = other.announced - each.announced
                if apart > APART and other.since > each.announced or each.source == ADVERTISED and apart > SILENCE:
                    found.add((each.source, each.prefix))
        return found

    def next_end(self, now):
        """When a lifetime ends next; infinity where none does."""
        return min((end for known in self.known(now) for end in (known.preferred, known.valid) if end > now), default=INFINITY)


def merged(one, other):
    """Two facts that tell of the same prefix."""
    announced = [each.announced for each in (one, other) if each.announced is not None]
    return one._replace(since=min(one.since, other.since), announced=max(announced) if announced else None,
                        preferred=max(one.preferred, other.preferred), valid=max(one.valid, other.valid))


def text(address, length):
    """An IPv6 prefix of 16 bytes and a length, bits of the host aside."""
    kept = int.from_bytes(address, "big") >> (128 - length) << (128 - length)
    return "%s/%d" % (socket.inet_ntop(socket.AF_INET6, kept.to_bytes(16, "big")), length)
