# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask a line's DHCPv6 servers, and which answer counts: the timers of RFC 8415 for Information-Requests. Pure: times come in.

All times are monotonic seconds.
"""

from __future__ import annotations

from .line_kernel import FOREVER, INFINITY

INF_MAX_DELAY, INF_TIMEOUT, INF_MAX_RT = 1.0, 1.0, 3600.0  # seconds (RFC 8415 section 7.6)
MAX_RT_RANGE = (60, 86400)  # seconds that a server may ask for instead (section 21.25)
IRT_DEFAULT, IRT_MINIMUM = 86400, 600  # seconds (section 7.6)
RAND = 0.1  # section 15
PAUSE = 30.0  # seconds between the beginnings of two exchanges that something else than time gives reason for (section 18.2.12)
GRACE = 1.0  # seconds that a Reply without a container waits for another server's with one
UNANSWERED = 3  # requests after which it is said that nobody answers


class Asking:
    """One exchange after the other. random: a random.Random."""

    def __init__(self, random):
        self.random = random
        self.begins = INFINITY  # when the next exchange begins
        self.begun = None  # when the last one has
        self.xid = None  # of the one that goes on
        self.client = None  # the DUID that it has sent
        self.sent, self.wait, self.again = 0, 0.0, INFINITY  # requests, seconds after the last one, and when that is over
        self.max_rt = INF_MAX_RT
        self.best, self.until = None, INFINITY  # the Reply that counts where no better one comes, and until when

    def trigger(self, now):
        """Asks soon, since something has changed."""
        earliest = now if self.begun is None else max(now, self.begun + PAUSE)
        self.begins = min(self.begins, earliest + self.random.uniform(0, INF_MAX_DELAY))

    def deadline(self):
        """When step() has something to do."""
        return min(self.begins, self.again, self.until)

    def step(self, now, client):
        """What is due: (xid, seconds since the first request) of a request to send, or None. client: the router's DUID, or None."""
        if now >= self.until:
            self._finish(now)
        if now >= self.begins:
            # A new one in any case: the old one may wait for an hour.
            self.begins, self.begun, self.client = INFINITY, now, client
            self.xid = self.random.getrandbits(24).to_bytes(3, "big")
            self.sent, self.best, self.until = 0, None, INFINITY
        elif now < self.again or self.xid is None:
            return None
        self.wait = self._next_wait()
        self.sent, self.again = self.sent + 1, now + self.wait
        return self.xid, now - self.begun

    def _next_wait(self):
        """RT of RFC 8415 section 15."""
        spread = self.random.uniform(-RAND, RAND)
        wait = INF_TIMEOUT * (1 + spread) if self.sent == 0 else self.wait * (2 + spread)
        return wait if wait <= self.max_rt else self.max_rt * (1 + spread)

    def answers(self, reply):
        """Whether a Reply answers the request that is out."""
        return reply.xid == self.xid

    def refusal(self, reply):
        """Why a Reply to the request cannot be taken, or None (RFC 8415 section 16.10)."""
        if reply.client != self.client:
            return "a Client Identifier other than the one that was sent (RFC 8415 section 16.10)"
        return None

    def take(self, reply, now):
        """Takes an answer; tells whether it counts. The first one with a container does, else the first one."""
        if reply.containers:
            self.best = reply
            self._finish(now)
            return True
        if self.best is None:
            self.best, self.until, self.again = reply, now + GRACE, INFINITY
            return True
        return False

    def _finish(self, now):
        """Ends the exchange; the next one is due when what was learnt has to be refreshed (RFC 8415 section 21.23)."""
        refresh = IRT_DEFAULT if self.best.refresh is None else max(self.best.refresh, IRT_MINIMUM)
        if self.best.max_rt is not None and MAX_RT_RANGE[0] <= self.best.max_rt <= MAX_RT_RANGE[1]:
            self.max_rt = float(self.best.max_rt)
        self.xid, self.again, self.until, self.best, self.sent = None, INFINITY, INFINITY, None, 0
        if refresh != FOREVER:
            self.begins = min(self.begins, now + refresh + self.random.uniform(0, INF_MAX_DELAY))

    def silence(self):
        """Since when the servers owe an answer, or None."""
        return self.begun if self.xid is not None and self.sent >= UNANSWERED else None
