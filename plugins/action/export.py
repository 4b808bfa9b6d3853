# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes what an inventory says to DHCPv6 servers and routing daemons into a directory on the controller."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import differences
from ansible_collections.softwire.map.plugins.plugin_utils import export
from ansible_collections.softwire.map.plugins.plugin_utils.filters import warn
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
        })
        hostvars = task_vars["hostvars"]
        network = Network(hostvars, args["customer_edges"], args["border_relays"])
        try:
            made = export.files(network, export.duids_of(network, hostvars), warn)
        except MapError as exc:
            # Not "from exc": Ansible would append the sentence a second time.
            raise AnsibleActionFail(f"{exc} (nothing was written)") from None
        wanted = {name: text.encode() for name, text in made.items()}
        directory = Path(args["directory"]).absolute()
        try:
            # Nothing but these names is ours here.
            before = {name: (directory / name).read_bytes() for name in export.names(args["border_relays"]) if (directory / name).exists()}
            if before != wanted and not self._task.check_mode:
                write(directory, before, wanted)
        except OSError as exc:
            raise AnsibleActionFail(f"directory: {args['directory']}: cannot hold the files: {exc}") from None
        return dict(
            result, changed=before != wanted, files=[str(directory / name) for name in wanted], diff=differences(before, wanted, directory))


def write(directory, before, wanted):
    """Makes the files `before` the wanted ones; whatever else is in the directory stays."""
    for name in set(before) - set(wanted):
        (directory / name).unlink()
    for name, content in wanted.items():
        if before.get(name) != content:
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o644)
