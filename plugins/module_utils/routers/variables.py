# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one reader of a role's variables: makes paths from names, collects all faults, refuses names that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..mapping import checks
from ..mapping.errors import NO_VALUE, Faults, did_you_mean


class Variables:
    """The variables of a router, each read once.

    prefix: what their names begin with in an inventory, such as "map_ce_"
    given: {name without the prefix: value}
    faults: what is wrong with them
    """

    def __init__(self, prefix: str, given: Mapping[str, Any], faults: Faults) -> None:
        self.prefix = prefix
        self.given = given
        self.faults = faults
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        return self.prefix + name

    def raw(self, name: str) -> Any:
        """A value as it was given; None where it was not."""
        self._read.add(name)
        return self.given.get(name)

    def get(self, name: str, check: Callable[..., Any], *arguments: Any) -> Any:
        """What a check makes of a value; None, and a fault, where it refuses it."""
        return self.faults.check(check, self.raw(name), self.path(name), *arguments)

    def optional(self, name: str, check: Callable[..., Any], *arguments: Any) -> Any:
        """The same of a value that may be empty; None where it is."""
        return self.get(name, check, *arguments) if self.raw(name) not in (None, "") else None

    def required(self, name: str, check: Callable[..., Any], *arguments: Any) -> Any:
        """The same of a value that must not be empty."""
        if self.get(name, checks.required) is None:
            return None
        return self.get(name, check, *arguments)

    def each(self, name: str, check: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a check makes of each entry of a list, without those that it refuses."""
        values = self.get(name, checks.listed) or []
        checked = [self.faults.check(check, value, f"{self.path(name)}[{index}]", *arguments) for index, value in enumerate(values)]
        return [value for value in checked if value is not None]

    def fault(self, name: str, value: Any, reason: str, reference: str | None = None) -> None:
        """Collects a fault that shows only beside other variables."""
        self.faults.add(self.path(name), value, reason, reference)

    def refuse_unknown(self) -> None:
        """Collects a fault for each name that was given and not read, which is a typing error."""
        for name in self.given:
            if name not in self._read:
                advice = did_you_mean(str(name), self._read, self.prefix) or ": there is no such variable"
                self.faults.add(self.path(str(name)), NO_VALUE, f"unknown{advice}")
