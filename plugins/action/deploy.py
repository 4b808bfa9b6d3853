# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of softwire.map.deploy: makes every file, calls the module, installs packages it asks for."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import encoded
from ansible_collections.softwire.map.plugins.module_utils.routers import deployment, render
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.plugin_utils.filters import warn

MODULE = "softwire.map.deploy"
APT_CACHE_SECONDS = 3600
CONFIRM_PAUSE = 2  # seconds between two attempts to confirm
# Of the deployment, as it takes them. The directory is no path, which would be made one of the controller.
SETTINGS = {"confirm_timeout": "int", "health_target": "str", "keep_generations": "int", "install_packages": "bool",
            "metrics": "bool", "metrics_directory": "str"}
HINTS = {
    "linux-headers-": "DKMS needs the headers of the running kernel: boot a kernel that the distribution still has headers for",
    "jool-dkms": "what DKMS said is in /var/lib/dkms/jool*/*/build/make.log on the router",
}


def sent(**content):
    """What the module gets from here alone, for its option _from_controller: the content, and who sends it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # one without a name, as in containers; Python 3.13 says it by the other
        user = str(os.getuid())
    return json.dumps({**content, "by": {"controller": socket.gethostname(), "user": user}})


class ActionModule(ActionBase):
    """One transaction per router: one module call where packages are in place."""

    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(
            argument_spec={
                **deployment.ARGUMENTS,
                "state": {"type": "str", "choices": list(deployment.STATES), "default": "present"},
                "generation": {"type": "str", "default": ""},
                **{name: {"type": kind, "default": deployment.DEFAULTS[name]} for name, kind in SETTINGS.items()},
            },
            **deployment.CONDITIONS,
        )
        try:
            wanted = deployment.read(args, warn)
        except MapError as exc:
            # Not "from exc": Ansible would append the sentence a second time.
            raise AnsibleActionFail(f"{exc} (nothing was changed)") from None
        call = {name: getattr(wanted, name) for name in deployment.DEFAULTS}
        call["generation"] = args["generation"]
        call["_from_controller"] = sent() if wanted.state != "present" else sent(
            alternatives=[{"name": name, "files": encoded(files)} for name, files in wanted.alternatives],
            units={unit.name: unit.read_text() for unit in render.UNITS})
        if not self._task.check_mode:
            # A router that is off is "unreachable", by this; one that is lost after it has failed.
            self._low_level_execute_command("exit 0", sudoable=False)
        result = self._deploy(call, task_vars)
        if result.get("missing_packages") and not result.get("failed"):
            result = self._with_packages(call, result, task_vars)
        if result.get("unconfirmed") and not result.get("failed"):
            if self._connection.transport == "local" and not result.get("works"):
                option = "map_br_health_target" if args["border_relay"] else "map_ce_health_target"
                warn(f"{option}: {call['health_target'] or 'not set'}: the router deploys itself, and nothing was seen to work through it, so "
                     "a change that breaks IPv4 would not be noticed: name a host that answers ping, TCP or DNS on port 53")
            result = self._confirmed(call, result, task_vars)
        if not self._task.diff:
            result.pop("diff", None)  # all files twice, which the roles register for every router
        return result

    def _deploy(self, call, task_vars):
        if call["state"] == "absent":
            return self._call(MODULE, call, task_vars, "whether the instance is down is not known, another run tells")
        return self._call(MODULE, call, task_vars, f"a change is not confirmed, so the router rolls it back within {call['confirm_timeout']} s")

    def _call(self, module, arguments, task_vars, now):
        """The result of a module; now: what the router does once the connection breaks, which is a failure where it may have changed."""
        try:
            return self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
        except AnsibleConnectionFailure as exc:
            if self._task.check_mode:
                raise
            raise AnsibleActionFail(f"the connection broke after the deployment had begun; {now}: {exc}", result={"lost": True, "now": now}) from None

    def _confirmed(self, call, result, task_vars):
        """Proves by a fresh connection that the router can still be reached; else it returns to what it was."""
        arguments = {key: call[key] for key in ("instance", "keep_generations")}
        arguments["_from_controller"] = sent(confirm=result["generation"])
        deadline = time.monotonic() + call["confirm_timeout"]
        while True:
            if getattr(type(self._connection), "reset", None) is not ConnectionBase.reset:  # the base class only warns
                self._connection.reset()
            try:
                answer = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
                break
            except AnsibleConnectionFailure as exc:
                if time.monotonic() > deadline:
                    now = f"the router returns to {result['previous'] or 'having none'} by itself"
                    raise AnsibleActionFail(
                        f"generation {result['generation']} could not be confirmed by a new connection, so {now}: {exc}",
                        result={"lost": True, "now": now}) from None
            time.sleep(CONFIRM_PAUSE)
        if answer.get("failed"):
            raise AnsibleActionFail(
                f"the change was rolled back, it was not confirmed in time: {answer.get('msg')}",
                result={"now": answer.get("now", "not known")})
        return dict(result, unconfirmed=False)

    def _with_packages(self, call, wanted, task_vars):
        """Installs what the router lacks and deploys; in check mode the packages are only looked up."""
        packages = wanted["missing_packages"]
        arguments = {
            "name": packages,
            "state": "present",
            "install_recommends": False,
            "update_cache": True,
            "cache_valid_time": APT_CACHE_SECONDS,
        }
        installed = self._call("ansible.builtin.apt", arguments, task_vars, "packages may be installed, the running configuration was not touched")
        if self._task.check_mode:
            if installed.get("failed"):
                # No reason to fail: apt's lists may be old, and python3-apt missing, which a real run puts right.
                Display().warning(f"packages {', '.join(packages)} are needed; apt cannot tell without a change "
                                  f"whether they can be installed: {installed.get('msg', 'apt failed')}")
            return dict(wanted, changed=True)
        if installed.get("failed"):
            said = installed.get("msg", "apt failed").strip()
            hint = self._hint(packages, "jool-dkms" if "dpkg returned an error" in said else "linux-headers-")
            raise AnsibleActionFail(
                f"packages {', '.join(packages)} cannot be installed; the running configuration was not touched: {said}{hint}"
            )
        result = self._deploy(call, task_vars)
        still = result.get("missing_packages")
        if still:
            raise AnsibleActionFail(
                f"packages {', '.join(still)} are installed but what they bring is not there; "
                f"the running configuration was not touched{self._hint(still, *HINTS)}"
            )
        return dict(result, changed=True)

    @staticmethod
    def _hint(packages, *wanted):
        return "".join(f"; {HINTS[name]}" for name in wanted if any(package.startswith(name) for package in packages))
