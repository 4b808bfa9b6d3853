# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sums up a batch of a roll-out: records what changed, ends the roll-out over the limit, shows what became of every router."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.softwire.map.plugins.plugin_utils.roll_out import BAD, BATCH, DEPLOYED, outcome, record_text, table

EXTENSIONS = (".yml", ".yaml", ".json")  # of inventories in YAML


class ActionModule(ActionBase):
    """Runs on the controller only; no connection is made."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(argument_spec={
            "step": {"type": "str", "choices": ["begin", "judge", "end"], "required": True},
            "role": {"type": "str", "choices": ["ce", "br"], "default": "ce"},
            "max_fail_percentage": {"type": "float", "default": 0},
            "earlier": {"type": "list", "elements": "str", "default": []},
            "record": {"type": "path"},
        })
        hostvars, play, role = task_vars["hostvars"], task_vars["ansible_play_hosts_all"], args["role"]
        record = args["record"] if not self._task.check_mode else None
        if args["step"] == "begin":
            self._write(record, {})
            return dict(result, changed=False, batch=task_vars["ansible_play_batch"])
        batch = task_vars[BATCH.format(role)]["batch"]
        outcomes = [outcome(host, hostvars[host], role) for host in batch]
        self._write(record, {row.host: hostvars[row.host][DEPLOYED.format(role)] for row in outcomes if row.state in ("changed", "unhealthy")})
        bad = [row for row in outcomes if row.state in BAD]
        ends = len(bad) > args["max_fail_percentage"] / 100 * len(batch)
        if ends or args["step"] == "end" and play[-1] in batch:
            earlier = [row for row in (outcome(host, hostvars[host], "br") for host in args["earlier"]) if row.state != "untouched"]
            known = {row.host: row for row in outcomes}  # making the variables of a host takes milliseconds
            everyone = earlier + [known.get(host) or outcome(host, hostvars[host], role) for host in play]
            counts = Counter(row.state for row in everyone)
            result["summary"] = ", ".join(f"{number} {state}" for state, number in counts.items())
            if self._task.check_mode:
                everyone = [row._replace(now="as before") for row in everyone]
            if set(counts) - {"changed", "ok"}:
                result["table"] = table(everyone)
            result["_ansible_verbose_always"] = True
        if ends:
            result.update(failed=True, msg=f"The roll-out ends here: of the {len(batch)} routers of this batch {len(bad)} failed, were lost or are "
                                           f"not healthy, which is more than {args['max_fail_percentage']:g} %")
        return dict(result, changed=False)

    def _write(self, path, deployed):
        """Adds to the record, in one atomic step; without a path there is none."""
        if not path:
            return
        target = Path(path).absolute()
        try:
            if target.suffix not in EXTENSIONS:
                raise ValueError(f"its name must end in {', '.join(EXTENSIONS)}, by which Ansible takes it as an inventory")
            text = record_text(target.read_text() if target.exists() else "", deployed)
            temporary = target.with_name(f".{target.name}.new")
            temporary.write_text(text)
            os.replace(temporary, target)
        except (OSError, ValueError) as exc:
            raise AnsibleActionFail(f"map_rollout_record: {path}: cannot hold the record: {exc}") from None
