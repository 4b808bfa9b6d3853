# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the generations that softwire.map.deploy would bring to a router into a directory on the controller."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import decoded, differences, encoded
from ansible_collections.softwire.map.plugins.module_utils.softwire.files import read
from ansible_collections.softwire.map.plugins.module_utils.routers import deployment
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.plugin_utils.filters import warn


class ActionModule(ActionBase):
    """Runs on the controller only; no connection is made."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(
            argument_spec={"directory": {"type": "path", "required": True}, **deployment.ARGUMENTS}, **deployment.CONDITIONS)
        try:
            made = deployment.read(args, warn)
        except MapError as exc:
            # Not "from exc": Ansible would append the sentence a second time.
            raise AnsibleActionFail(f"{exc} (nothing was written)") from None
        directory = Path(args["directory"]).absolute() / made.instance
        wanted = {
            f"{name}/{path}": content
            for name, files in made.alternatives for path, content in decoded(encoded(files)).items()
        }
        try:
            before = read(directory)
            if before != wanted and not self._task.check_mode:
                write(directory, before, wanted)
        except OSError as exc:
            raise AnsibleActionFail(f"directory: {args['directory']}: cannot hold the generations: {exc}") from None
        result.update(
            changed=before != wanted, directory=str(directory), alternatives=[name for name, _files in made.alternatives],
            diff=differences(before, wanted, directory))
        return result


def write(directory, before, wanted):
    """Makes the files of a directory the wanted ones; directories that end up empty go, and so does it."""
    for path in sorted(set(before) - set(wanted)):
        (directory / path).unlink()
    for path, content in wanted.items():
        if before.get(path) != content:
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o644)
    below = [path for path in directory.rglob("*") if path.is_dir()]
    for path in [*sorted(below, reverse=True), directory]:
        if not any(path.iterdir()):
            path.rmdir()
