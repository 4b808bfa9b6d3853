# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the report on the network of an inventory into a directory on the controller."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import differences
from ansible_collections.softwire.map.plugins.plugin_utils import report
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Network


class ActionModule(ActionBase):
    """Runs on the controller only; no connection is made."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(argument_spec={
            "directory": {"type": "path", "required": True},
            "customer_edges": {"type": "list", "elements": "str", "required": True},
            "border_relays": {"type": "list", "elements": "str", "default": []},
            "answers": {"type": "str"},
        })
        hostvars = task_vars["hostvars"]
        usage = None
        if args["answers"]:
            usage = {host: ports_in_use(hostvars[host], args["answers"]) for host in args["customer_edges"]}
        network = Network(hostvars, args["customer_edges"], args["border_relays"])
        wanted = {name: text.encode() for name, text in report.files(network, usage).items()}
        directory = Path(args["directory"]).absolute()
        try:
            before = {name: (directory / name).read_bytes() for name in wanted if (directory / name).exists()}
            if before != wanted and not self._task.check_mode:
                directory.mkdir(parents=True, exist_ok=True)
                for name, content in wanted.items():
                    (directory / name).write_bytes(content)
                    (directory / name).chmod(0o644)
        except OSError as exc:
            raise AnsibleActionFail(f"directory: {args['directory']}: cannot hold the report: {exc}") from None
        return dict(
            result, changed=before != wanted, files=[str(directory / name) for name in wanted],
            faults=sum(1 for members in network.domains for _pair in members.coinciding()) + len(network.unusable),
            diff=differences(before, wanted, directory))


def ports_in_use(variables, name):
    """What a router has said about its ports, or the reason why it has not; name: the variable that holds its result of map_info."""
    answer = variables[name] if name in variables else {}
    if answer.get("ports"):
        return {"map_address": answer["parameters"]["ce"]["map_address"], **answer["ports"]}
    reasons = [answer.get("msg"), *answer.get("notices", [])]
    return "not known: " + ("; ".join(filter(None, reasons)) or "not asked")
