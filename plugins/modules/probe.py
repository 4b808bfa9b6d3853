#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Try whether IPv4 works through a customer edge
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Sends ping, TCP and UDP from a customer edge to the internet, where and as the packets of its LAN enter the NAPT, and looks at
    the source address and port that leave - they have to be of the address and the port set of this CE.
  - Who tells the source is a STUN server (O(stun_server)), the only one that sees it from outside. For what it does not see,
    and without one, it is the connection tracking of the router, whose index is turned into a port as the NAPT does it.
  - What runs is read from C(/etc/softwire/INSTANCE/current). The playbook C(softwire.map.verify) calls this module for every CE.
options:
  instance:
    description: Name of the instance, as M(softwire.map.deploy) takes it.
    type: str
    required: true
  target:
    description:
      - IPv4 address, or name, of a host that answers ping, takes TCP connections on O(tcp_port) and, without O(stun_server),
        answers a DNS query on UDP O(udp_port).
      - A DNS resolver on the other side of the border relay does all three.
    type: str
    required: true
  tcp_port:
    description: TCP port of O(target) that takes connections.
    type: int
    default: 53
  udp_port:
    description: UDP port of O(target). Whatever answers a DNS query there counts. Not used with O(stun_server).
    type: int
    default: 53
  stun_server:
    description: IPv4 address, or name, of a STUN server (RFC 8489). It serves UDP; that it serves TCP as well is welcome.
    type: str
    default: ""
  stun_port:
    description: Port of O(stun_server).
    type: int
    default: 3478
  timeout:
    description: Seconds to wait for an answer.
    type: int
    default: 2
  attempts:
    description: How often each is tried before it counts as failed.
    type: int
    default: 3
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: It never changes anything.
seealso:
  - module: softwire.map.deploy
  - name: RFC 8489
    description: Session Traversal Utilities for NAT (STUN).
    link: https://www.rfc-editor.org/rfc/rfc8489
"""

EXAMPLES = r"""
# A part of the result stands below the task.
- name: Try whether IPv4 works
  softwire.map.probe:
    instance: ce
    target: 192.0.2.53
    stun_server: stun.example.net
  register: tried
  failed_when: not tried.works
  # Result:
  # changed: false
  # works: true
"""

RETURN = r"""
works:
  description: Whether ping, TCP and UDP work and every source that is known belongs to this CE.
  type: bool
  returned: success
summary:
  description: All of it in one line.
  type: str
  returned: success
  sample: "works (ping, TCP, UDP), seen from 192.0.2.18:1232 (UDP, by the STUN server)"
checks:
  description: What was tried.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: V(ping), V(TCP) or V(UDP).
      type: str
    fault:
      description: What does not work; empty where it works.
      type: str
    source:
      description: Address and port (of a ping, its identifier) that left, as C(ADDRESS:PORT); empty where nobody tells.
      type: str
    seen_by:
      description: V(the STUN server) or V(conntrack).
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.softwire.map.plugins.module_utils.softwire.commands import StepError
from ansible_collections.softwire.map.plugins.module_utils.softwire.paths import Paths
from ansible_collections.softwire.map.plugins.module_utils.softwire.probing import STUN_SERVER, ProbeError, probed


def verdict(checks):
    """(whether it works, one line that says so) of what Probe.run() returns."""
    broken = ["%s: %s" % (check["name"], check["fault"]) for check in checks if check["fault"]]
    working = [check["name"] for check in checks if not check["fault"]]
    seen = sorted((check for check in checks if check["source"]), key=lambda check: check["seen_by"] != STUN_SERVER)
    if not seen and not broken:
        broken = ["nobody tells the source that leaves: conntrack lists none of them; give a STUN server"]
    line = "FAILS: " + "; ".join(broken) if broken else "works"
    if working:
        line += " (%s)" % ", ".join(working) if not broken else "; works: " + ", ".join(working)
    if seen and not broken:
        line += ", seen from %s (%s, by %s)" % (seen[0]["source"], seen[0]["name"], seen[0]["seen_by"])
    return not broken, line


def main():
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "tcp_port": {"type": "int", "default": 53},
            "udp_port": {"type": "int", "default": 53},
            "stun_server": {"type": "str", "default": ""},
            "stun_port": {"type": "int", "default": 3478},
            "timeout": {"type": "int", "default": 2},
            "attempts": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    instance = Paths(module.params["instance"])
    if not instance.current.exists():
        module.fail_json(msg="instance %s: nothing is deployed here" % instance.name)
    try:
        checks = probed(instance, module.params)
    except ProbeError as exc:
        module.fail_json(msg="instance %s: %s" % (instance.name, exc))
    except (StepError, OSError) as exc:
        module.fail_json(msg="instance %s: is not up: %s" % (instance.name, exc))
    works, summary = verdict(checks)
    module.exit_json(changed=False, works=works, summary=summary, checks=checks)


if __name__ == "__main__":
    main()
