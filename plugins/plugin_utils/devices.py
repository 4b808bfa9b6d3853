# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the arguments of a task to the generations of its device; what the actions deploy and render share."""

from __future__ import annotations

from ansible_collections.softwire.map.plugins.plugin_utils import border_relay, checks, customer_edge, render
from ansible_collections.softwire.map.plugins.plugin_utils.errors import MapError

ARGUMENTS = {
    "instance": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "customer_edge": {"type": "dict"},
    "border_relay": {"type": "dict"},
    "templates": {"type": "path"},
}
CONDITIONS = {
    "mutually_exclusive": [("customer_edge", "border_relay")],
    "required_by": {"customer_edge": "templates", "border_relay": "templates"},
}
DEVICES = {"customer_edge": customer_edge.alternatives, "border_relay": border_relay.alternatives}

# Ansible imports an action plugin once and then forks a process for each host; compiling is most of what a host would cost.
for _role in ("map_ce", "map_br"):
    render.compile_all(str(render.PLUGINS.parent / "roles" / _role / "templates"))


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
    return DEVICES[device](args[device], args["templates"], warn)
