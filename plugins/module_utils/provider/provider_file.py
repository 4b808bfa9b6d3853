# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in provider.json, which whoever sets a customer edge up reads, and in the file of the last good answer. Pure.

    {"format": 1,
     "written": 4711.1,              when, as all times here: seconds of the router's monotonic clock
     "interface": "wan",
     "outcome": "ok",                of the last exchange, also "no_method", "no_record", "dns_failed", "unknown_source", "error"; null before it
     "fault": null,                  why it has given nothing to set up, for a person
     "warnings": [],                 what is odd about the answer, for a person
     "resolver": "2001:db8::53", "server": "vne.example.jp",   who has said so, as far as it got
     "withheld": null,               why user and pass were not sent, where there are some
     "asked": 4700.0, "asked_for": ["2001:db8:12::/48"],       when the last exchange began, and which prefixes the line had
     "failing_since": null,          since when there has been no exchange with "ok" or "no_method"
     "next": 91100.0,                when the next one begins, if the line does not change
     "answer": "{...}",              the last good answer as it came, for mapping.hb46pp.read_answer; null where none holds: there was none yet,
                                     or with "no_record" the provider has none any more, and what was set up by one is taken down
     "answered": 4701.0,             when it came; null where it is of before the boot
     "answered_for": ["2001:db8:12::/48"]}                     the prefixes that the line had then

It may hold a token that stands for the line, so only root and the client read its directory.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..mapping.hb46pp_exchange import NO_METHOD, NO_RECORD, OK
from .asking import INFINITY, Asking
from .exchange import Result

FORMAT = 1
ANSWERED = (OK, NO_METHOD)


class Known(NamedTuple):
    """What is known. result: of the last exchange; failing: since when there has been no answer; body: the last good answer as it came, with
    when and for which prefixes."""

    result: Result | None = None
    failing: float | None = None
    body: str | None = None
    answered: float | None = None
    answered_for: tuple[str, ...] = ()

    def after(self, result: Result, now: float, prefixes: tuple[str, ...]) -> Known:
        """What is known after an exchange."""
        if result.outcome in ANSWERED:
            return Known(result, None, result.body, now, prefixes)
        failing = now if self.failing is None else self.failing
        if result.outcome == NO_RECORD:
            return Known(result, failing)
        return self._replace(result=result, failing=failing)


class Earlier(NamedTuple):
    """What an earlier run since the boot has left; begun, again: when its last exchange began, or None, and when the next one was to begin."""

    known: Known
    asked_for: frozenset[str]
    begun: float | None
    again: float


def content(known: Known, interface: str, asking: Asking, now: float) -> str:
    """The text of provider.json after an exchange."""
    result = known.result or Result(None)
    return json.dumps({
        "format": FORMAT, "written": when(now), "interface": interface,
        "outcome": result.outcome, "fault": result.fault, "warnings": list(result.warnings), "resolver": result.resolver, "server": result.server,
        "withheld": result.withheld, "asked": when(asking.begun), "asked_for": sorted(asking.asked), "failing_since": when(known.failing),
        "next": when(asking.next), "answer": known.body, "answered": when(known.answered), "answered_for": list(known.answered_for),
    }, indent=1) + "\n"


def earlier(text: str, now: float) -> Earlier:
    """What a provider.json says to the next run. Raises ValueError where it is none, or of another boot."""
    found = _fields(text)
    try:
        if found["written"] > now:
            raise ValueError("it is of another boot")
        result = Result(found["outcome"], fault=found["fault"], warnings=tuple(found["warnings"]), resolver=found["resolver"],
                        server=found["server"], withheld=found["withheld"])
        known = Known(result if result.outcome else None, found["failing_since"], found["answer"], found["answered"], tuple(found["answered_for"]))
        again = INFINITY if found["next"] is None else found["next"]
        return Earlier(known, frozenset(found["asked_for"]), found["asked"], again)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"it lacks something: {exc}") from exc


def kept(known: Known) -> str:
    """The text of the file on the disk."""
    return json.dumps({"format": FORMAT, "answer": known.body, "answered_for": list(known.answered_for)}, indent=1) + "\n"


def of_disk(text: str) -> Known:
    """What kept() has written. Raises ValueError where that is not what it is."""
    found = _fields(text)
    body, prefixes = found.get("answer"), found.get("answered_for")
    if not isinstance(body, str) or not isinstance(prefixes, list):
        raise ValueError("it has no answer")
    return Known(body=body, answered_for=tuple(map(str, prefixes)))


def _fields(text: str) -> dict[str, Any]:
    """The dict in a file of ours. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return found


def when(moment: float | None) -> float | None:
    """A time as JSON has it."""
    return None if moment is None or moment == INFINITY else round(moment, 1)
