# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers for people: aligned lines with the names of the filters' keys, and domains as an inventory holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .domains import KEY

# A port set may have a thousand ranges; `ports` shows all of them.
RANGES_SHOWN = 5
CES_ROW = "{:<26}{:<20}{:<7}{:<12}{}"
CES_HEADER = CES_ROW.format("end_user_prefix", "ipv4", "psid", "port_count", "map_address")
# What YAML takes as text without quotation marks: words, IPv4 addresses, and prefixes.
PLAIN = re.compile(r"[a-z][a-z0-9-]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f.:]+/[0-9]+")


def table(fields: dict[str, Any]) -> str:
    """A line for each key that is not null; the values stand below each other."""
    shown = {key: scalar(value) for key, value in fields.items() if value is not None}
    width = max(map(len, shown)) + 2
    return "\n".join(f"{key:<{width}}{value}" for key, value in shown.items())


def columns(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each of several dicts with the same keys, in columns; the first has the keys above it. Lists are left out."""
    shown = [{key: scalar(value) for key, value in row.items() if not isinstance(value, list)} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    header = "  ".join(f"{key:<{width}}" for key, width in widths.items()).rstrip() + "\n"
    for row in shown:
        yield header + "  ".join(f"{row[key]:<{width}}" for key, width in widths.items()).rstrip()
        header = ""


def scalar(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def port_range(low_and_high: list[int]) -> str:
    low, high = low_and_high
    return f"{low}-{high}"


def ce(edge: dict[str, Any]) -> str:
    ranges = list(map(port_range, edge["port_ranges"]))
    if len(ranges) > RANGES_SHOWN:
        ranges[2:-1] = ["..."]
    keys = ("end_user_prefix", "transport", "ipv4_address", "ipv4_prefix", "psid", "psid_length", "psid_offset", "port_ranges", "port_count",
            "sharing_ratio", "map_address", "br_address", "dmr")
    return table({**{key: edge[key] for key in keys}, "port_ranges": " ".join(ranges)})


def row_of_ces(edge: dict[str, Any]) -> str:
    psid = "-" if edge["psid"] is None else edge["psid"]
    ipv4 = edge["ipv4_address"] or edge["ipv4_prefix"]
    return CES_ROW.format(edge["end_user_prefix"], ipv4, psid, edge["port_count"], edge["map_address"])


def domain(fields: dict[str, Any]) -> str:
    """A domain as an inventory holds it, in YAML."""
    return "\n".join(_yaml({KEY: fields}, ""))


def plan(made: dict[str, Any]) -> str:
    """The domain of a plan, and above it as comments what it offers."""
    left = {f"left_over.{key}": value for key, value in made["left_over"].items()}
    offers = {key: value for key, value in made.items() if key not in ("domain", "left_over")}
    listed = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in {**offers, **left}.items()}
    return "\n".join([*(f"# {line}".rstrip() for line in table(listed).splitlines()), domain(made["domain"])])


def _yaml(fields: dict[str, Any], indent: str) -> Iterator[str]:
    """The lines of a dict without what is null."""
    for key, value in fields.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _yaml(value, f"{indent}  ")
        elif isinstance(value, list):
            yield f"{indent}{key}:"
            for item in value:
                if isinstance(item, dict):
                    first, *rest = _yaml(item, f"{indent}    ")
                    yield f"{indent}  - {first.strip()}"
                    yield from rest
                else:
                    yield f"{indent}  - {_quoted(item)}"
        elif value is not None:
            yield f"{indent}{key}: {_quoted(value)}"


def _quoted(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) and not PLAIN.fullmatch(value) else scalar(value)
