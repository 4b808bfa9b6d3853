# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in line.json, and when it has to be written again. Pure.

    {"format": 1,
     "written": 4711.1,              when, as all times here: seconds of the router's monotonic clock, null for ever; what is not news may be older
     "interface": "wan", "running": true,
     "prefixes": [
       {"prefix": "2001:db8:12:3400::/56",
        "from": "reply",             a Reply to the router's client; "route" (one to nowhere), "lan" (an address there), "advertised" (on the line),
                                     "host" (the line's own address by DHCPv6, which proves least), "file"
        "interface": "wan",          null for a route
        "since": 4000.0, "announced": 4700.0,   first and last; announced is null where nothing announces it again
        "preferred_until": 6000.0, "valid_until": 7000.0,
        "deprecated": false,
        "silent": false,             true: another one has taken its place since it was announced last
        "iaid": 1}],                 of a Reply, else null
     "answers": [
       {"from": "asked",             the answer to our own question; "client": one to the router's client; "file"
        "server": "000300010200...", its DUID in hex; the name of the file
        "address": "fe80::1",        null for a file
        "heard": 4700.0,             when it had containers last
        "containers": {"94": "0059..."},  options 94 (MAP-E) and 95 (MAP-T) in hex, not yet looked at
        "priority": [95, 94],        option 111
        "refresh": 86400,            seconds, or null
        "without": 0}],              how many answers since then had none
     "client": "000100012a...",      the DUID of the router's client, or null
     "unanswered_since": null,       since when nobody answers our question
     "refused": [{"what": "a message on wan from fe80::1", "why": "...", "when": 4700.0}]}
"""

from __future__ import annotations

import collections

from .line_kernel import INFINITY

FORMAT = 1
ASKED, CLIENT, FILE = "asked", "client", "file"
MOST_ANSWERS = 8
MOST_REFUSALS = 32  # reasons, each of which is told once
SLACK = 2.0  # seconds by which a lifetime may seem to move though it does not

Answer = collections.namedtuple("Answer", "source server address heard containers priority refresh without")
Refusal = collections.namedtuple("Refusal", "what why when")


class Answers:
    """What servers have answered, the last of each, those who were heard longest ago first."""

    def __init__(self):
        self.kept = {}  # (source, server): Answer

    def take(self, source, address, reply, now):
        """Takes a Reply. Tells whether a server that had containers answers without them for the first time, which may be a mistake."""
        before = self.kept.pop((source, reply.server), None)
        made = Answer(source, reply.server, address, now, reply.containers, reply.priority, reply.refresh, 0)
        lacks = bool(before and before.containers and not reply.containers)
        if lacks:
            made = before._replace(without=before.without + 1)
        if reply.containers or lacks or source == ASKED:
            self.kept[source, reply.server] = made
        while len(self.kept) > MOST_ANSWERS:
            del self.kept[next(iter(self.kept))]
        return made.without == 1

    def all(self, said):
        """[Answer], and those of files. said: [line_drop.Said]."""
        files = [Answer(FILE, each.name, None, None, each.containers, each.priority, None, 0) for each in said if each.containers or each.priority]
        return sorted([*self.kept.values(), *files], key=lambda answer: (answer.source, str(answer.server)))


class Refusals:
    """What was refused on the wire, and why: each reason once, so that nobody on the line can fill memory, file or log."""

    def __init__(self, tell):
        """tell: gets a text for a person."""
        self.kept, self.tell = {}, tell

    def add(self, what, why, now):
        if why not in self.kept and len(self.kept) < MOST_REFUSALS:
            self.kept[why] = Refusal(what, why, now)
            self.tell("%s: %s" % (what, why))


def content(now, prefixes, answers, client, unanswered, refused):
    """The content of line.json, a dict.

    prefixes: line_prefixes.Prefixes; answers: [Answer]; client: a DUID or None; unanswered: a time or None; refused: [Refusal].
    """
    known = prefixes.known(now)
    silent = prefixes.silent(known)
    return {
        "format": FORMAT,
        "written": when(now),
        "interface": prefixes.wan,
        "running": prefixes.link()[1],
        "prefixes": [{
            "prefix": each.prefix, "from": each.source, "interface": each.interface, "since": when(each.since), "announced": when(each.announced),
            "preferred_until": when(each.preferred), "valid_until": when(each.valid), "deprecated": each.preferred <= now,
            "silent": (each.source, each.prefix) in silent, "iaid": each.ia[0] if each.ia else None,
        } for each in known],
        "answers": [{
            "from": each.source, "server": each.server if isinstance(each.server, str) else each.server.hex(), "address": each.address,
            "heard": when(each.heard), "containers": {str(code): body.hex() for code, body in sorted(each.containers.items())},
            "priority": list(each.priority), "refresh": each.refresh, "without": each.without,
        } for each in answers],
        "client": client.hex() if client else None,
        "unanswered_since": when(unanswered),
        "refused": [{"what": each.what, "why": each.why, "when": when(each.when)} for each in refused],
    }


def when(moment):
    """A time as JSON has it."""
    return None if moment is None or moment == INFINITY else round(moment, 1)


# Times that move by themselves, and make no news.
MOVING = {"written", "since", "announced", "preferred_until", "valid_until", "heard", "unanswered_since", "when"}


def news(found):
    """The part of a content whose change makes the file be written at once."""
    if isinstance(found, list):
        return [news(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {key: value is not None if key == "unanswered_since" else news(value)
            for key, value in found.items() if key not in MOVING or key == "unanswered_since"}


def due(written, found):
    """When the file that holds one content has to hold another: 0 for at once, infinity for never.

    Lifetimes that are renewed are written when half of what the file says has passed, so that it never says that something has ended
    which has not, and readers are not woken by every advertisement; those that get shorter at once.
    """
    if written is None or news(written) != news(found):
        return 0.0
    moment = INFINITY
    for old, new in zip(written["prefixes"], found["prefixes"]):
        for key in ("preferred_until", "valid_until"):
            said, true = (INFINITY if each[key] is None else each[key] for each in (old, new))
            if true < said - SLACK:
                return 0.0
            if true > said + SLACK:
                moment = min(moment, (written["written"] + said) / 2)
    return moment
