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

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, deploying, generations


def wanted(params, sent):
    """What the options and the controller want of this router, a deploying.Wanted."""
    same = ("instance", "state", "generation", "confirm_timeout", "health_target", "keep_generations", "install_packages")
    return deploying.Wanted(
        metrics_directory=params["metrics_directory"] if params["metrics"] else None,
        by=audit.who(sent.get("by", {})),
        alternatives=[(alternative["name"], generations.decoded(alternative["files"])) for alternative in sent.get("alternatives", [])],
        units={name: text.encode() for name, text in sent.get("units", {}).items()},
        **{name: params[name] for name in same})


def run(module):
    """Ends the module with what becomes of the deployment."""
    # AnsibleModule returns what is left of params to the controller.
    sent = json.loads(module.params.pop("_from_controller") or "{}")
    deployment = deploying.Deployment(wanted(module.params, sent), module.warn, module.check_mode)
    try:
        result = deployment.confirm(sent["confirm"]) if "confirm" in sent else deployment.run()
    except deploying.DeploymentError as exc:
        module.fail_json(msg=str(exc), **exc.fields)
    module.exit_json(**result)


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
    run(module)


if __name__ == "__main__":
    main()
