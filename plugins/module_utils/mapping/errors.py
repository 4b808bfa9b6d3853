# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error of the collection, alone or several at once, and the paths it names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any

# Enough to see what is wrong; a list of prefixes can be wrong a hundred thousand times.
SHOWN = 20
LONGEST = 80  # characters of a value
# The value of a fault that lies in the name alone.
NO_VALUE = object()


class MapError(ValueError):
    """Something a person wrote that MAP cannot use.

    path: where it stands in their data, such as "rules[0].ea_length"
    value: what stands there; None where something required is not set, NO_VALUE where only the path matters
    reason: what is wrong with it and what to do
    reference: the section of the RFC that says so, or None
    """

    def __init__(self, path: str, value: Any, reason: str, reference: str | None = None) -> None:
        self.path = path
        self.value = value
        self.reason = reason
        self.reference = reference
        super().__init__(path, value, reason, reference)

    def __str__(self) -> str:
        shown = "" if self.value is NO_VALUE else f"{quoted(self.value)}: "
        suffix = f" ({self.reference})" if self.reference else ""
        return f"{self.path}: {shown}{self.reason}{suffix}"


def quoted(value: Any) -> str:
    """A value as an error shows it: text in quotation marks, so that blanks, newlines and no-break spaces can be seen."""
    if value is None:
        return "not set"
    if not isinstance(value, str):
        shown = repr(value)
        return shown if len(shown) <= LONGEST else shown[:LONGEST - 3] + "..."
    shown = repr(str(value))
    return shown if len(shown) <= LONGEST else shown[:LONGEST - 4] + "..." + shown[-1]


class MapErrors(MapError):
    """Several errors that one look has found, at least two; `faults` is a list of MapError."""

    def __init__(self, faults: list[MapError]) -> None:
        first = faults[0]
        super().__init__(first.path, first.value, first.reason, first.reference)
        self.faults = faults

    def __str__(self) -> str:
        lines = [f"{len(self.faults)} faults:", *(f"- {fault}" for fault in self.faults[:SHOWN])]
        if len(self.faults) > SHOWN:
            lines.append(f"- and {len(self.faults) - SHOWN} more")
        return "\n".join(lines)


class Faults:
    """Collects every fault of what someone wrote, to raise them at once."""

    def __init__(self) -> None:
        self.found: list[MapError] = []

    def add(self, path: str, value: Any, reason: str, reference: str | None = None) -> None:
        self.found.append(MapError(path, value, reason, reference))

    def add_error(self, error: MapError) -> None:
        self.found += error.faults if isinstance(error, MapErrors) else [error]

    def check(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """What the function returns; None where it raises a MapError, which is collected."""
        try:
            return function(*args, **named)
        except MapError as exc:
            self.add_error(exc)
            return None

    def refuse(self) -> None:
        """Raises what has been collected, if anything."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise MapErrors(self.found)


def join_path(path: str, key: str) -> str:
    """The path of a key below a path: ("rules[0]", "psid") -> "rules[0].psid"; ("", "dmr") -> "dmr"."""
    return f"{path}.{key}" if path else key


def did_you_mean(name: str, known: Collection[str], prefix: str = "") -> str:
    """The name that was probably meant, as a question; "" where none is near. prefix: what a person writes before each."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f", did you mean {prefix}{near[0]}?" if near else ""
