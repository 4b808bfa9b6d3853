#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy
short_description: Deploy a generation of a softwire instance on a router
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Turns the variables of a customer edge or a border relay into a directory of plain files (a I(generation)), brings it
    to the router, checks it there, switches to it and reports the difference.
  - All files are made on the controller; one call of the module on the router does the rest. A second one follows where
    packages had to be installed.
  - After a change another short call over a fresh connection confirms it. Without that confirmation, because the change cut
    the connection or the controller is gone, the router returns by itself to the generation before, also across a reboot.
  - Who changed what and how it ended is on the router in C(/var/log/softwire/INSTANCE.jsonl), see RV(softwire.map.map_info#module:audit).
  - The roles P(softwire.map.map_ce#role) and P(softwire.map.map_br#role) call this module; their documentation explains the variables.
options:
  instance:
    description:
      - Name of the instance, at most 10 characters of V(a-z), V(0-9) and V(_), starting with a letter.
      - Its files are in C(/etc/softwire/INSTANCE), its unit is C(softwire@INSTANCE.service).
      - Required, unless O(customer_edge) or O(border_relay) names it.
    type: str
  state:
    description:
      - With V(absent) the instance is taken down and its files are removed; packages and the audit trail stay.
      - With V(rollback) an earlier generation runs again, see O(generation).
    type: str
    choices: [present, absent, rollback]
    default: present
  generation:
    description:
      - Name of the generation to return to with O(state=rollback), as C(/etc/softwire/INSTANCE/generations) lists them.
      - By default the one before the one that runs.
    type: str
    default: ""
  confirm_timeout:
    description:
      - Seconds within which a change has to be confirmed, 10 to 3600.
    type: int
    default: 60
  health_target:
    description:
      - IPv4 address or name of a host on the internet that answers ping, TCP or a DNS query on port 53, your resolver for one.
      - What of it works before a change, through the NAPT and with a source of this customer edge, has to work after it,
        or the router returns to what ran before. Without one only a border relay of MAP-E is asked, by a ping.
      - On a border relay the router itself asks, for a ping only.
    type: str
    default: ""
  keep_generations:
    description:
      - How many generations stay on the router's disk, the running one among them, 2 to 100. One that was never confirmed goes with
        the next confirmation.
    type: int
    default: 5
  customer_edge:
    description:
      - Variables of a customer edge, as the role P(softwire.map.map_ce#role) documents them, without the prefix C(map_ce_). Where one has
        the name of an option of this module, it comes before that.
      - Used on the controller.
    type: dict
  border_relay:
    description:
      - Variables of a border relay, as the role P(softwire.map.map_br#role) documents them, without the prefix C(map_br_). Where one has
        the name of an option of this module, it comes before that.
      - Used on the controller.
    type: dict
  install_packages:
    description:
      - Whether packages that are missing on the router are installed.
    type: bool
    default: true
  metrics:
    description:
      - Whether a systemd timer, C(softwire-metrics@INSTANCE.timer), writes what M(softwire.map.map_info) counts into
        C(softwire-INSTANCE.prom) every minute, for the textfile collector of Prometheus' node exporter.
      - No part of a generation, so neither a restart nor a reload. O(state=rollback) leaves it as it is.
    type: bool
    default: false
  metrics_directory:
    description:
      - The directory on the router that node exporter reads, which has to be there; root owns it.
    type: path
    default: /var/lib/prometheus/node-exporter
  _from_controller:
    description:
      - What the action plugin adds. Not for playbooks, and not part of the interface.
    type: str
attributes:
  check_mode:
    support: full
    description: Checks everything that can be checked without a change, compares the router with its generation, and returns what would change.
  diff_mode:
    support: full
    description: Shows each file of the generation that differs.
seealso:
  - module: softwire.map.map_info
  - name: RFC 7597
    description: Mapping of Address and Port with Encapsulation (MAP-E).
    link: https://www.rfc-editor.org/rfc/rfc7597
  - name: RFC 7599
    description: Mapping of Address and Port using Translation (MAP-T).
    link: https://www.rfc-editor.org/rfc/rfc7599
"""

EXAMPLES = r"""
# A part of each result stands below its task.
- name: Return to the generation before
  softwire.map.deploy:
    instance: ce
    state: rollback
  # Result:
  # changed: true
  # applied: reload
  # unconfirmed: false

- name: Take the instance down, remove its files
  softwire.map.deploy:
    instance: ce
    state: absent
  # Result:
  # changed: true
"""

RETURN = r"""
generation:
  description: Name of the generation that runs (in check mode, that would run).
  type: str
  returned: unless O(state=absent)
  sample: 0001-3f2a9c01de
alternative:
  description: Name of the alternative that was taken.
  type: str
  returned: when O(state=present)
  sample: jool_siit
applied:
  description: How the change was applied, V(restart), V(reload), V(start) or V(nothing).
  type: str
  returned: when O(state=present)
  sample: reload
drift:
  description:
    - What the router had otherwise than the generation that was up on it says, because somebody or something has changed it. It was put
      right, by a reload, which keeps connections, or a restart where that does not suffice.
    - Empty where a new generation is deployed.
  type: list
  elements: str
  returned: when O(state=present)
  sample: ["nftables table ip softwire_ce_napt (namespace napt): missing"]
works:
  description: What was seen to work after the change, O(health_target).
  type: list
  elements: str
  returned: when something was reloaded, restarted or started
  sample: ["TCP to 192.0.2.53", "UDP to 192.0.2.53", "ping to 192.0.2.53"]
previous:
  description: Name of the generation that ran before; empty where there was none.
  type: str
  returned: when something changed
  sample: 0001-3f2a9c01de
unconfirmed:
  description: Whether the router waits for the confirmation and returns to RV(previous) without it.
  type: bool
  returned: when something changed
lost:
  description: That the router could not be reached any more once the deployment had begun. One that is off before that is unreachable.
  type: bool
  returned: failure, when the connection broke
now:
  description: What runs on the router now, or what it returns to by itself.
  type: str
  returned: failure, once something may have changed
  sample: generation 0001-3f2a9c01de runs again
missing_packages:
  description: Packages that have to be installed first; nothing was changed.
  type: list
  elements: str
  returned: when packages are missing
"""

import contextlib
import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.softwire.map.plugins.module_utils.softwire import (
    audit, drift, generations, health, instances, metrics_timer, paths, preflight, rollback)
from ansible_collections.softwire.map.plugins.module_utils.softwire.commands import StepError
from ansible_collections.softwire.map.plugins.module_utils.softwire.files import reload_suffices
from ansible_collections.softwire.map.plugins.module_utils.softwire.runner import Generation

UNIT_NAMES = ("softwire@.service", "softwire-keep@.service", "softwire-line@.service", "softwire-provider@.service", "softwire-metrics@.service",
              "softwire-metrics@.timer")
PATIENCE = 300  # seconds to wait for another deployment on the same router, beyond the time that its confirmation has


class Deployment:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.name = module.params["instance"]
        # AnsibleModule returns what is left of params to the controller.
        self.sent = json.loads(module.params.pop("_from_controller") or "{}")
        self.instance = generations.Instance(self.name)
        self.trail = audit.Trail(self.instance, audit.who(self.sent.get("by", {})), module.warn)
        self.transaction = rollback.Transaction(self.instance, self.trail)
        self.unit = self.transaction.unit
        self.keeper = "softwire-keep@%s.service" % self.name
        self.metrics = metrics_timer.Metrics(self.instance)
        self.base = None  # the generation that a change starts from
        self.returns = None  # in check mode: the record of the deployment that a real run would first roll back
        self.diff = []

    def fail(self, message, told=False, **result):
        """Ends the module. told: whether the audit trail has a line already that says how it ended."""
        if not (told or self.module.check_mode):
            self.trail.add("failure", detail=message)
        self.module.fail_json(msg="instance %s: %s" % (self.name, message), **result)

    def systemctl(self, *arguments):
        return self.module.run_command(["systemctl"] + list(arguments))

    def active(self):
        return self.systemctl("is-active", "--quiet", self.unit)[0] == 0

    def is_up(self):
        """Whether the generation that is meant to run is the one that does, as a whole."""
        if self.returns:
            return self.returns["active"]
        return self.active() and self.instance.applied_name() == self.base

    def drifted(self):
        """What somebody has changed of the generation that is up, texts for a person, which become part of the difference, too."""
        found = drift.differences(Generation(self.instance.current)) if self.is_up() and not self.returns else []
        if found:
            self.diff.append({"before_header": "the router", "after_header": "generation %s" % self.base,
                              "before": "".join(text + "\n" for text in found), "after": ""})
        return found

    def kept(self):
        """Whether the service is at work that puts right what somebody changes."""
        return self.systemctl("is-active", "--quiet", self.keeper)[0] == 0

    def stale_units(self):
        """Whether systemd has not read the units that are there, since a run was killed between the two."""
        return "yes" in self.systemctl("show", "--value", "--property=NeedDaemonReload", self.unit, self.keeper)[1].split()

    def enabled(self):
        return (paths.UNITS / "multi-user.target.wants" / self.unit).is_symlink()

    def run(self):
        """Does what is asked for, once no earlier deployment waits for its confirmation; ends the module."""
        if "confirm" in self.sent:
            with rollback.locked(PATIENCE):
                self.confirm(self.sent["confirm"])
        state = getattr(self, self.module.params["state"])
        if self.module.check_mode:
            self.base = self.foreseen()
            state()
        deadline, waiting = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            with rollback.locked(PATIENCE):
                waiting = self.waiting()
                if waiting is None:
                    self.base = self.instance.running()
                    state()
            deadline = max(deadline, waiting["deadline"] + PATIENCE)
            time.sleep(rollback.POLL)
        self.fail("nothing was changed: generation %s waits for its confirmation, and is not rolled back in time; journalctl -u %s says why" % (
            waiting["generation"], self.transaction.watcher))

    def waiting(self):
        """The record of an earlier deployment that waits for its confirmation, or None; one that nobody watches over is rolled back."""
        record = self.transaction.record()
        if record is None or self.transaction.is_watched():
            return record
        if "lost" in record:
            self.module.warn(record["lost"])
        self.roll_back("abandoned")
        return None

    def foreseen(self):
        """The generation that a real run would start from, once it has waited for an earlier deployment, or rolled that back: a warning says it."""
        record = self.transaction.record()
        if record is None:
            return self.instance.running()
        if self.transaction.is_watched():
            self.module.warn("instance %s: generation %s waits for its confirmation; a real run waits for that, and what it would change "
                             "then is what this one shows" % (self.name, record["generation"]))
            return self.instance.running()
        self.module.warn("instance %s: generation %s was not confirmed, and nobody watches over it; a real run first returns to %s" % (
            self.name, record["generation"], record["previous"] or "nothing"))
        self.returns = record
        return record["previous"]

    def base_files(self):
        return self.instance.files(self.base) if self.base else {}

    # present

    def present(self):
        if not paths.SYSTEMD.is_dir():
            self.fail("systemd is not running on this machine; it is needed to bring the softwire up at boot")
        machine = preflight.Machine()
        alternative, packages = self.choose(machine)
        files = generations.decoded(alternative["files"])
        before = self.base_files()
        units = {name: text.encode() for name, text in self.sent["units"].items()}
        units_before = {path.name: path.read_bytes() for path in unit_files()}
        directory = self.module.params["metrics_directory"] if self.module.params["metrics"] else None
        self.diff = generations.differences(before, files, self.instance.current)
        self.diff += generations.differences(units_before, units, paths.UNITS) + self.metrics.difference(directory)
        new_files, new_metrics = before != files, not self.metrics.go_to(directory)
        new_units = units_before != units or self.stale_units()
        drifted = self.drifted() if not new_files else []
        changed = new_files or new_units or new_metrics or bool(drifted) or not (self.enabled() and self.is_up() and self.kept())
        name = self.instance.next_name(files) if new_files else self.base
        result = {"changed": changed, "generation": name, "alternative": alternative["name"],
                  "applied": "nothing", "drift": drifted, "diff": self.diff}
        if packages:
            self.module.exit_json(missing_packages=packages, **result)
        if self.module.check_mode or not changed:
            if new_files:
                self.check_only(files, name)
            self.module.exit_json(**result)
        if new_files:
            staging = self.staged(files, name)
            self.instance.finish(staging, name)
        if new_units:
            self.write_units(units)
        self.exchange(name, before, files, result, drifted)
        if new_metrics:
            try:
                self.metrics.switch(directory)
            except OSError as exc:
                self.fail_back("write metrics", "%s" % exc)
        self.module.exit_json(**result)

    def choose(self, machine):
        """The first alternative that this machine can run, with packages of its distribution where those may be installed."""
        considered = [self.consider(machine, alternative) for alternative in self.sent["alternatives"]]
        alternative, settings, packages, faults = next((entry for entry in considered if not entry[-1]), considered[0])
        # A journal means that something of this instance is up, be it what a killed run left.
        up = self.instance.journal.exists()
        ours = namespaces_of(self.instance.files()) if up else []
        others = self.others()
        # What is in the namespaces of other instances is a conflict with those.
        known = ours + [namespace for files in others.values() for namespace in namespaces_of(files)]
        faults += instances.conflicts(generations.decoded(alternative["files"]), others)
        faults += preflight.interface_faults(machine, settings, known) + preflight.namespace_faults(machine, settings, known)
        faults += preflight.networkd_faults(settings)
        if self.module.params["metrics"]:
            faults += preflight.metrics_faults(settings["role"], self.module.params["metrics_directory"])
        if faults:
            self.fail("nothing was changed: " + "; ".join(faults), faults=faults)
        return alternative, packages

    def others(self):
        """{name: files of its generation} of the other instances on this router."""
        return {name: generations.Instance(name).files() for name in paths.instances() if name != self.name}

    def consider(self, machine, alternative):
        """(alternative, its settings, packages that it lacks, why this machine cannot run it)"""
        settings = json.loads(alternative["files"]["instance.json"]["text"])
        packages, faults = preflight.missing(machine, settings)
        old = preflight.kernel_fault(machine, settings["minimum_kernel"])
        unsupported = preflight.distribution_fault(machine) if packages else None
        faults = [fault for fault in (unsupported, old) if fault] + faults
        if packages and not self.module.params["install_packages"]:
            faults.append("missing packages: %s; install them, or let the role do it (install_packages)" % ", ".join(packages))
        return alternative, settings, packages, faults

    def check_only(self, files, name):
        """Validates in a directory that goes again: check mode leaves nothing behind."""
        probe = generations.Instance(self.name, Path(self.module.tmpdir))
        staging = probe.stage(files, name)
        self.validate(staging)

    def staged(self, files, name):
        try:
            staging = self.instance.stage(files, name)
        except OSError as exc:
            self.fail("cannot write the new generation, the old one keeps running: %s" % exc)
        self.validate(staging)
        return staging

    def validate(self, staging):
        """Lets the tools read what they can read without applying it."""
        for path in sorted(staging.rglob("*.nft")):
            code, out, err = self.module.run_command(["nft", "-c", "-f", str(path)])
            if code:
                self.instance.discard(staging)
                self.fail("nft refuses %s, nothing was changed: %s" % (path.relative_to(staging), (err or out).strip()))

    def write_units(self, units):
        for name, content in units.items():
            paths.write(paths.UNITS / name, content.decode())
        self.systemctl("daemon-reload")

    def exchange(self, name, before, files, result, drifted=()):
        """Switches to a generation, and returns to the one before when that fails, which ends the module. drifted: what it repairs."""
        previous, was_active = self.instance.running(), self.active()
        how = "start"
        if was_active:
            right = previous == name and self.is_up() and not drifted
            how = "nothing" if right else "reload" if reload_suffices(before, files) else "restart"
        result.update(applied=how, previous=previous or "", unconfirmed=how != "nothing")
        self.trail.add("deploy", state=self.module.params["state"], applied=how, drift=list(drifted), **{"from": previous, "to": name})
        if how != "nothing":
            target = self.module.params["health_target"]
            worked = health.working(self.instance, target) if was_active else set()
            try:
                self.transaction.begin(name, previous, was_active, self.module.params["confirm_timeout"])
                self.transaction.switch(name)
                # systemd goes on with a restart even when this connection breaks in the middle of it.
                self.systemctl("reset-failed", self.unit)
                if self.systemctl(how, self.unit)[0]:
                    self.fail_back(how, self.journal(self.unit))
                faults = drift.missing(Generation(self.instance.current))
                if self.instance.applied_name() != name:
                    faults.append("generation %s is not up as a whole" % name)
                if faults:
                    self.fail_back(how, "; ".join(faults))
                lost = ["%s worked before, and does not now" % what for what in health.lost(worked, self.instance, target)]
                if lost:
                    self.fail_back(how, "; ".join(lost), "unhealthy")
                result["works"] = sorted(worked or health.working(self.instance, target))
                self.transaction.extend(self.module.params["confirm_timeout"])
            except rollback.UnwatchedError as exc:
                self.fail("nothing was switched: %s: %s" % (exc, self.journal(self.transaction.watcher)))
            except (OSError, ValueError, StepError) as exc:
                self.fail_back(how, "%s" % exc)
        if not self.kept():
            self.systemctl("start", self.keeper)
        code, out, err = self.systemctl("--quiet", "enable", self.unit)
        if code or not self.enabled():
            self.fail_back("start at the next boot", (err or out).strip() or "systemctl enable has not done it")
        paths.sync_units()

    def fail_back(self, how, detail, reason="failed"):
        """Rolls back where that is due, and fails with what runs now. reason: one of audit.REASONS."""
        switched = bool(self.transaction.record())
        now = self.roll_back(reason, detail) if switched else "the running configuration was not touched"
        self.fail("the new generation does not %s; %s: %s" % (how, now, detail), told=switched, now=now, diff=self.diff)

    def roll_back(self, reason, detail=""):
        try:
            return self.transaction.roll_back(reason, detail)
        except rollback.RollbackError as exc:
            return "%s" % exc

    # rollback, and the confirmation of any change

    def confirm(self, name):
        if not self.transaction.confirm(name):
            now = self.instance.running()
            self.fail("generation %s is not waiting for a confirmation; %s runs" % (name, now or "nothing"),
                      told=True, now="generation %s runs" % now if now else "nothing runs")
        self.instance.prune(self.module.params["keep_generations"], self.transaction.confirmed())
        self.module.exit_json(changed=False, generation=name)

    def rollback(self):
        running, known = self.base, self.instance.names()
        older = [name for name in known if running and known.index(name) < known.index(running)]
        name = self.module.params["generation"] or (older[-1] if older else None)
        if name not in known:
            self.fail("there is no generation %s to return to, nothing was changed; there are: %s" % (
                name or "before the running one", ", ".join(known) or "none"))
        before, files = self.base_files(), self.instance.files(name)
        faults = instances.conflicts(files, self.others())
        if faults:
            self.fail("nothing was changed: " + "; ".join(faults), faults=faults)
        changed = name != running or not self.is_up()
        self.diff = generations.differences(before, files, self.instance.current)
        result = {"changed": changed, "generation": name, "applied": "nothing", "diff": self.diff}
        if self.module.check_mode or not changed:
            self.module.exit_json(**result)
        self.exchange(name, before, files, result)
        self.module.exit_json(**result)

    def journal(self, unit):
        """What the runner said in a unit when it failed last."""
        code, out, err = self.module.run_command(["journalctl", "-u", unit, "-n", "20", "-o", "cat", "--no-pager"])
        said = [line for line in out.splitlines() if line.startswith("softwire: ")]
        return said[-1] if said else (out or err).strip()

    # absent

    def absent(self):
        others = [name for name in paths.instances() if name != self.name]
        exists = self.instance.directory.exists()
        units = unit_files()
        last_units = [] if others else units
        changed = bool(exists or last_units or self.enabled())
        self.diff = generations.differences(self.base_files(), {}, self.instance.current) + self.metrics.difference(None)
        if changed and not self.module.check_mode:
            code, out, err = self.systemctl("disable", "--now", "--quiet", self.unit) if units else (0, "", "")
            if code:
                self.fail("cannot be stopped, nothing was removed: %s" % (err or out).strip())
            paths.sync_units()
            self.metrics.switch(None)
            if exists:
                self.instance.remove()
            if self.instance.repairs.exists():
                self.instance.repairs.unlink()
            for path in last_units:
                paths.drop(path)
            if last_units:
                self.systemctl("daemon-reload")
            self.remove_empty()
            self.trail.add("remove", **{"from": self.base})
        self.module.exit_json(changed=changed, diff=self.diff)

    def remove_empty(self):
        """Removes the directories in which nothing is left; one that cannot go, such as a mount point, stays, which does no harm."""
        for directory in (self.instance.bpf, self.instance.run_dir, paths.RUN, paths.CONFIGURATION):
            with contextlib.suppress(OSError):
                if not any(directory.iterdir()):
                    directory.rmdir()
                    paths.sync(directory.parent)


def namespaces_of(files):
    """The network namespaces of a generation's own; none where there is no generation."""
    return json.loads(files.get("instance.json", b"{}")).get("namespaces", [])


def unit_files():
    """The units of ours that are there."""
    return [paths.UNITS / name for name in UNIT_NAMES if (paths.UNITS / name).exists()]


def main():
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "rollback"], "default": "present"},
            "generation": {"type": "str", "default": ""},
            "confirm_timeout": {"type": "int", "default": 60},
            "health_target": {"type": "str", "default": ""},
            "keep_generations": {"type": "int", "default": 5},
            "customer_edge": {"type": "dict"},
            "border_relay": {"type": "dict"},
            "install_packages": {"type": "bool", "default": True},
            "metrics": {"type": "bool", "default": False},
            "metrics_directory": {"type": "path", "default": "/var/lib/prometheus/node-exporter"},
            # JSON of {"by": {"controller", "user"}}, and with state present {"alternatives": [{"name", "files": {path: content}}], "units":
            # {name: text}}: generations in order of preference, of which the first that the machine can run is taken. Or with {"confirm": name},
            # of the generation that waits for its confirmation. One text and no_log: so much neither goes to the router's log nor comes back,
            # and no word of it is taken for a secret.
            "_from_controller": {"type": "str", "no_log": True},
        },
        required_if=[("state", "present", ["_from_controller"])],
        supports_check_mode=True,
    )
    deployment = Deployment(module)
    try:
        deployment.run()
    except (OSError, StepError, ValueError) as exc:
        deployment.fail("%s" % exc)


if __name__ == "__main__":
    main()
