# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuses an inventory in which two customer edges are one."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import Faults, MapError
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Network


class ActionModule(ActionBase):
    """Runs on the controller only; no connection is made."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(argument_spec={
            "customer_edges": {"type": "list", "elements": "str", "required": True},
            "only": {"type": "list", "elements": "str"},
        })
        only = None if args["only"] is None else set(args["only"])
        faults = Faults()
        for members in Network(task_vars["hostvars"], args["customer_edges"]).domains:
            for host, other, error in members.coinciding():
                if only is None or host in only or other in only:
                    faults.add_error(error)
        try:
            faults.refuse()
        except MapError as exc:
            raise AnsibleActionFail(f"{exc} (nothing was changed)") from None
        return dict(result, changed=False)
