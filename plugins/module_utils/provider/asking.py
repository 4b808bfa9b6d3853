# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When to ask a provider's server: by the time that the last exchange has set, and at once when the line has another prefix. Pure: times come in.

All times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from ..mapping.hb46pp_exchange import seconds_until_next

INFINITY = float("inf")
SETTLE = 3.0  # seconds: a new address is first looked for on the link, and a route comes with it
PAUSE = 30.0  # seconds between the beginnings of two exchanges, whatever the line does


class Asking:
    """uniform: a number between two others at random."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self.uniform = uniform
        self.prefixes: frozenset[str] = frozenset()  # of the line now
        self.changed = 0.0  # when they have changed
        self.asked: frozenset[str] = frozenset()  # those with which it was asked last
        self.begun: float | None = None  # when that was
        self.next = INFINITY  # when it is asked again, whatever the line does

    def see(self, prefixes: frozenset[str], now: float) -> None:
        """Takes the prefixes that the line has now."""
        if prefixes != self.prefixes:
            self.prefixes, self.changed = prefixes, now

    def trigger(self, now: float) -> None:
        """Asks soon, since a person wants it."""
        self.next = now

    def due(self) -> float:
        """When the next exchange begins; infinity while the line has no prefix, since nobody could answer."""
        if not self.prefixes:
            return INFINITY
        if not self.prefixes - self.asked:
            return self.next
        begins = self.changed + SETTLE
        return min(self.next, begins if self.begun is None else max(begins, self.begun + PAUSE))

    def begin(self, now: float) -> None:
        self.begun, self.asked, self.next = now, self.prefixes, INFINITY

    def restore(self, asked: frozenset[str], begun: float | None, again: float) -> None:
        """Goes on from what an earlier run has set."""
        self.asked, self.begun, self.next = asked, begun, again

    def finish(self, outcome: str, ttl: int | None, now: float) -> None:
        """Takes what became of an exchange, as hb46pp_exchange.seconds_until_next does."""
        self.next = now + seconds_until_next(outcome, self.uniform, ttl)
