# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A roll-out: what became of each router, as a table, and the record by which those that it changed go back."""

from __future__ import annotations

import json
from typing import NamedTuple

import yaml

GROUP = "map_rolled_out"
# What stops a roll-out where there is more of it than the limit. A router that was off is not among them.
BAD = ("failed", "lost", "unhealthy")
# The variables that the roles and site.yml register for each host; of a role, ce or br, where a place is left for it.
BATCH, DEPLOYED, HEALTH, PROBE = "_map_{}_batch", "_map_{}_deployed", "_map_health", "_map_probe"


class Outcome(NamedTuple):
    """What became of a router: one of changed, ok, failed, lost, unhealthy, "not reached", untouched; why; what it does now."""

    host: str
    state: str
    reason: str
    now: str


def outcome(host, variables, role):
    """The Outcome of a host by its variables, a mapping; role: ce or br."""
    def registered(name):
        return variables[name] if name in variables else {}

    deployed = registered(DEPLOYED.format(role))
    if BATCH.format(role) not in variables:  # not read: it names the whole batch, so that the cost would be the batch's square
        return Outcome(host, "untouched", "its batch has not begun", "as before")
    if not deployed:
        return Outcome(host, "failed", "see the task that failed before it was deployed", "as before")
    said = " ".join(str(deployed.get("msg", "")).split())
    if deployed.get("unreachable"):
        return Outcome(host, "not reached", said, "as before")
    if deployed.get("failed"):
        return Outcome(host, "lost" if deployed.get("lost") else "failed", said, deployed.get("now", "as before"))
    runs = f"generation {deployed['generation']} runs" if deployed.get("generation") else "nothing runs"
    reason, now = fault(registered(HEALTH), registered(PROBE), deployed.get("generation"))
    if reason:
        return Outcome(host, "unhealthy", reason, now or runs)
    return Outcome(host, "changed" if deployed.get("changed") else "ok", "", runs)


def fault(health, probe, generation):
    """(why a router is not healthy, what runs), empty where it is, or was not asked; health, probe: results of map_info and probe."""
    if health.get("failed") or health.get("unreachable"):
        if "state" not in health:
            return f"cannot be asked again: {health.get('msg', 'no result')}", f"not known, generation {generation} was confirmed"
        runs = health["state"]["applied"]
        now = f"generation {runs} runs" if runs else "no generation runs as a whole"
        if health["generation"] != generation:
            return f"went back from {generation} to {health['generation']}", now
        return "; ".join(health["state"]["faults"]) or "whether it runs its generation cannot be told", now
    if probe.get("failed") or probe.get("unreachable"):
        return f"IPv4: {probe.get('summary') or probe.get('msg')}", ""
    return "", ""


def table(outcomes):
    """The lines of a table of Outcomes."""
    rows = [("router", "state", "now", "reason"), *((row.host, row.state, row.now, row.reason) for row in outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def record_text(text, deployed):
    """The record with the routers of a batch: an inventory of one group, whose hosts name the generation to return to.

    text: what is recorded so far, where the generation before the first change stays; deployed: {host: its result of deploy}.
    Left out are routers that had no generation before. Raises ValueError where the text is no such inventory.
    """
    try:
        hosts = yaml.safe_load(text)[GROUP]["hosts"] if text else {}
        hosts = {host: {"map_generation": variables["map_generation"]} for host, variables in hosts.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise ValueError(f"is no record of a roll-out, an inventory of the group {GROUP}") from None
    for host, result in deployed.items():
        previous = result.get("previous")
        if previous and not result.get("failed") and previous != result["generation"]:
            hosts.setdefault(host, {"map_generation": previous})
    # JSON is YAML, and takes the strings with tags that Ansible's variables hold.
    return json.dumps({GROUP: {"hosts": hosts}}, indent=2) + "\n"
