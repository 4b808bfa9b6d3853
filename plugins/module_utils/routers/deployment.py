# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the arguments of a task to what is to be deployed; what the actions deploy and render share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..mapping import checks
from ..mapping.errors import Faults
from . import border_relay, br_variables, ce_variables, customer_edge, render
from .variables import Variables

ARGUMENTS = {
    "instance": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "customer_edge": {"type": "dict"},
    "border_relay": {"type": "dict"},
}
CONDITIONS = {"mutually_exclusive": [("customer_edge", "border_relay")]}
# Of the deployment itself, whatever the device; the roles have variables of the same names.
DEFAULTS = {
    "instance": None, "state": "present", "confirm_timeout": 60, "health_target": "", "keep_generations": 5, "install_packages": True,
    "metrics": False, "metrics_directory": "/var/lib/prometheus/node-exporter",
}
STATES = ("present", "absent", "rollback")
DEVICES = {
    "customer_edge": ("map_ce_", ce_variables.read, customer_edge.generations),
    "border_relay": ("map_br_", br_variables.read, border_relay.generations),
}

# Ansible imports an action plugin once and then forks a process for each host; compiling is most of what a host would cost.
for _templates in (customer_edge.TEMPLATES, border_relay.TEMPLATES):
    render.compile_all(_templates)


@dataclass(frozen=True)
class Deployment:
    """What is to be deployed. alternatives: the generations in order of preference, (name, {path: text or bytes}) each."""

    instance: str
    state: str
    confirm_timeout: int  # seconds
    health_target: str  # IPv4 address or name of a host, or ""
    keep_generations: int
    install_packages: bool
    metrics: bool
    metrics_directory: str
    alternatives: list[tuple[str, dict[str, Any]]]


def read(arguments: Mapping[str, Any], warn: Callable[[str], None] | None = None) -> Deployment:
    """The deployment that a task's arguments ask for. Raises MapError, with all faults at once.

    arguments: the keys of DEFAULTS, and one of DEVICES, whose variables have the same names and come before the arguments.
    warn: gets a text for each thing that is legal but odd.
    """
    device = next((name for name in DEVICES if arguments.get(name) is not None), None)
    prefix, read_device, generations = DEVICES[device] if device else ("", None, None)
    of_the_task = {name: arguments[name] for name in DEFAULTS if name in arguments}
    faults = Faults()
    variables = Variables(prefix, {**DEFAULTS, **of_the_task, **(arguments[device] if device else {})}, faults)
    settings = {
        "instance": variables.required("instance", checks.instance),
        "state": variables.get("state", checks.choice, STATES[:2] if device else STATES),
        "confirm_timeout": variables.get("confirm_timeout", checks.integer, 10, 3600),
        "health_target": variables.get("health_target", checks.host),
        "keep_generations": variables.get("keep_generations", checks.integer, 2, 100),
        "install_packages": variables.get("install_packages", checks.boolean),
        "metrics": variables.get("metrics", checks.boolean),
        "metrics_directory": variables.get("metrics_directory", checks.absolute_path),
    }
    if device is None and settings["state"] == "present":
        faults.add("customer_edge, border_relay", None, "one of customer_edge and border_relay is required with state present")
    if device is None or settings["state"] != "present":
        faults.refuse()
        return Deployment(**settings, alternatives=[])
    return Deployment(**settings, alternatives=generations(read_device(variables, settings["instance"], warn)))
