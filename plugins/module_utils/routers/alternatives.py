# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the arguments of a task to the generations of its device; what the actions deploy and render share."""

from __future__ import annotations

from . import border_relay, customer_edge, render
from ..mapping import checks
from ..mapping.errors import MapError

ARGUMENTS = {
    "instance": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "customer_edge": {"type": "dict"},
    "border_relay": {"type": "dict"},
}
CONDITIONS = {"mutually_exclusive": [("customer_edge", "border_relay")]}
DEVICES = {"customer_edge": customer_edge.alternatives, "border_relay": border_relay.alternatives}

# Ansible imports an action plugin once and then forks a process for each host; compiling is most of what a host would cost.
for _templates in (customer_edge.TEMPLATES, border_relay.TEMPLATES):
    render.compile_all(_templates)


def alternatives(args, warn):
    """The generations in order of preference as a list of (name, {path: text or bytes}); [] unless the state is present.

    args: a dict with the keys of ARGUMENTS. warn: gets a text for each thing that is legal but odd. Raises MapError.
    """
    checks.instance(args["instance"], "instance")
    if args["state"] != "present":
        return []
    device = next((key for key in DEVICES if args[key] is not None), None)
    if device is None:
        raise MapError("customer_edge, border_relay", None, "one of customer_edge and border_relay is required with state present")
    return DEVICES[device](args[device], warn)
