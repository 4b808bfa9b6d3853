#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: map_info
short_description: Tell what a customer edge or a border relay is doing
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Reads the parameters of the generation that runs, its counters, the ports of the set in use, and whether the router runs what the
    generation says. Changes nothing.
  - What cannot be read, because a tool such as C(conntrack) is missing or a part of the instance is not there, is null or left
    out, and RV(notices) says why.
  - With O(softwire.map.deploy#module:metrics) the same numbers are written for Prometheus every minute.
options:
  instance:
    description: Name of the instance, as M(softwire.map.deploy) takes it.
    type: str
    required: true
  list_ports:
    description: Whether each port in use is listed with its host, too, as RV(ports.list).
    type: bool
    default: false
  audit_lines:
    description: How many of the last lines of the audit trail RV(audit.lines) has, 0 or more.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: It never changes anything.
seealso:
  - module: softwire.map.deploy
  - module: softwire.map.probe
  - name: RFC 7597
    description: Mapping of Address and Port with Encapsulation (MAP-E).
    link: https://www.rfc-editor.org/rfc/rfc7597
  - name: RFC 7599
    description: Mapping of Address and Port using Translation (MAP-T).
    link: https://www.rfc-editor.org/rfc/rfc7599
"""

EXAMPLES = r"""
# A part of each result stands below its task.
- name: Look at a customer edge
  softwire.map.map_info:
    instance: ce
  become: true
  register: edge
  # Result:
  # changed: false
  # instance: ce
  # role: ce

- name: Complain where less than a tenth of the ports is left
  ansible.builtin.assert:
    that: edge.ports.in_use.values() | max < 0.9 * edge.ports.size
    fail_msg: "{{ edge.ports.in_use }} of {{ edge.ports.size }} ports are in use: {{ edge.ports.by_host }}"
  # Result:
  # changed: false

- name: Complain where the router does not run what its generation says
  ansible.builtin.assert:
    that: edge.state.equal
    fail_msg: "{{ edge.state.faults | join(', ') }}"
  # Result:
  # changed: false
"""

RETURN = r"""
instance:
  description: Name of the instance.
  type: str
  returned: success
  sample: ce
role:
  description: What the instance is, V(ce) or V(br).
  type: str
  returned: success
  sample: ce
softwire:
  description: What carries the softwire, V(ip6_tunnel), V(ip6_tunnel_mesh), V(bpf), V(jool_siit) or V(jool_mapt).
  type: str
  returned: success
  sample: jool_siit
generation:
  description: Name of the generation that C(/etc/softwire/INSTANCE/current) points at.
  type: str
  returned: success
  sample: 0001-3f2a9c01de
parameters:
  description: What its files were computed from. RV(ignore:parameters.ce) is what the filter P(softwire.map.ce#filter) returns.
  type: dict
  returned: success
  sample: {"role": "ce", "instance": "ce", "ipv4_mtu": 1480}
state:
  description: Whether the router runs that generation.
  type: dict
  returned: success
  contains:
    equal:
      description: Whether it does - this generation was brought up as a whole, and its tables, links, addresses and translator are there.
      type: bool
    applied:
      description: Name of the generation that was brought up; empty where there is none, or only a part of one.
      type: str
    faults:
      description: What is otherwise, in words.
      type: list
      elements: str
  sample: {"equal": false, "applied": "0001-3f2a9c01de", "faults": ["nftables table inet softwire_ce_guard (namespace main): missing"]}
unconfirmed:
  description:
    - Whether a deployment waits for its confirmation, which takes C(map_ce_confirm_timeout) at most. Longer than that nobody watches over it, and the next
      boot goes back to the generation before.
  type: bool
  returned: success
  sample: false
repairs:
  description: What was put right without a controller since the boot.
  type: dict
  returned: success
  contains:
    repairs:
      description: How often something was.
      type: int
    failures:
      description: How often that was to no avail.
      type: int
    in_a_row:
      description: How many repairs in a row did not hold for a minute. The next one waits longer, up to five minutes.
      type: int
    last:
      description: What was wrong the last time, in words.
      type: str
    time:
      description: When that was, in seconds since 1970, or null.
      type: int
  sample: {"repairs": 1, "failures": 0, "in_a_row": 0, "last": "nftables table inet softwire_ce_guard (namespace main): missing", "time": 1790000000}
audit:
  description:
    - The audit trail, which is in C(/var/log/softwire/INSTANCE.jsonl) on the router and stays there when the instance goes.
    - Null where it cannot be read; without lines where nothing was written yet.
  type: dict
  returned: success
  contains:
    lines:
      description:
        - The last lines, the oldest first. Each has RV(ignore:format), 1, RV(ignore:time) (UTC), RV(ignore:uptime) (seconds since the boot) and
          RV(ignore:event).
        - Lines of the module M(softwire.map.deploy) have RV(ignore:by) - the controller's name and user, the user that it came as, and the address
          that it came from, as far as they are known.
        - The guide about a network lists the events.
      type: list
      elements: dict
    counts:
      description: What happened since the trail began, lines that have gone since included.
      type: dict
      contains:
        deployments:
          description: How many were V(confirmed), V(rolled_back), V(failed) before anything was switched, or V(unchanged), which
            switched nothing because the units or the metrics alone changed.
          type: dict
        rollbacks:
          description:
            - How many there were because it did not come up (V(failed)), because something stopped working (V(unhealthy)), because nobody confirmed it
              in time (V(unconfirmed)) or before a reboot (V(reboot)), or because nobody watched over it any more (V(abandoned)).
          type: dict
        drift:
          description: How many deployments found that somebody had changed something.
          type: int
  sample:
    lines:
      - {"format": 1, "time": "2026-09-21T14:13:20Z", "uptime": 86400, "event": "confirm", "to": "0001-3f2a9c01de",
         "by": {"controller": "control", "user": "alice", "remote_user": "ansible", "address": "2001:db8::9"}}
    counts:
      deployments: {"confirmed": 1, "rolled_back": 0, "failed": 0, "unchanged": 0}
      rollbacks: {"failed": 0, "unhealthy": 0, "unconfirmed": 0, "reboot": 0, "abandoned": 0}
      drift: 0
rules:
  description: The named counters of the guard and the NAPT, most of them of drops.
  type: list
  elements: dict
  returned: success
  contains:
    namespace:
      description: The network namespace; V(main) is the router's own.
      type: str
    rules:
      description: The rules that it belongs to, V(guard) or V(napt).
      type: str
    name:
      description: Name of the counter.
      type: str
    reason:
      description: What it counts, in words.
      type: str
    packets:
      description: Packets.
      type: int
    bytes:
      description: Bytes.
      type: int
  sample:
    - {"namespace": "napt", "rules": "napt", "name": "forward_source", "packets": 3, "bytes": 180,
       "reason": "source not among the networks that may use the softwire"}
translator:
  description: The translator's own counters by name, as C(jool_siit stats display --all) has them. Null with MAP-E.
  type: dict
  returned: success
  sample: {"JSTAT_RECEIVED4": 511, "JSTAT_RECEIVED6": 530, "JSTAT_SUCCESS": 1040}
tunnel:
  description: The counters of the tunnel device. Null with MAP-T.
  type: dict
  returned: success
  contains:
    device:
      description: Name of the device.
      type: str
    received:
      description: RV(ignore:packets), RV(ignore:bytes), RV(ignore:errors) and RV(ignore:dropped) of what came out of the tunnel.
      type: dict
    sent:
      description: The same of what went into it.
      type: dict
  sample:
    device: ce-tun
    received: {"packets": 530, "bytes": 401220, "errors": 0, "dropped": 0}
    sent: {"packets": 511, "bytes": 60110, "errors": 0, "dropped": 0}
programs:
  description: What the programs did with packets, C(in_) out of the softwire, C(out_) into it. Null where there are none.
  type: dict
  returned: success
  sample: {"in_passed": 530, "in_dropped_spoofed": 2, "out_passed": 511}
fast_path:
  description: Whether a border relay takes packets past the general way (C(map_br_fast_path)). Null where it has no such path.
  type: dict
  returned: success
  contains:
    "on":
      description: Whether its programs are attached.
      type: bool
    obstacles:
      description: What on the router does not see the packets that are taken, in words. With V(auto) they keep it off.
      type: list
      elements: str
  sample: {"on": false, "obstacles": ["nftables chain inet filter forward has rules"]}
ports:
  description: The ports of the set in use, as conntrack knows them; of a ping it is the identifier. Null on a border relay.
  type: dict
  returned: success
  contains:
    address:
      description: The IPv4 address that they belong to.
      type: str
    size:
      description: How many ports the NAPT has.
      type: int
    in_use:
      description: How many of them are in use, by protocol. A port with connections to several places is one port.
      type: dict
    by_host:
      description: The same by host of the LAN and protocol. Some hosts may share a port, towards different places.
      type: dict
    list:
      description: RV(ignore:host), RV(ignore:protocol) and RV(ignore:port) of each, as the internet sees the port. With O(list_ports=true).
      type: list
      elements: dict
  sample:
    address: 192.0.2.18
    size: 252
    in_use: {"tcp": 2, "udp": 0, "icmp": 0}
    by_host: {"192.168.0.10": {"tcp": 2}}
    list: [{"host": "192.168.0.10", "protocol": "tcp", "port": 1232}, {"host": "192.168.0.10", "protocol": "tcp", "port": 2259}]
notices:
  description: What could not be read, and why.
  type: list
  elements: str
  returned: success
  sample: ["ports: [Errno 2] No such file or directory: 'conntrack'"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.softwire.map.plugins.module_utils.softwire import info, paths


def main():
    module = AnsibleModule(
        argument_spec={"instance": {"type": "str", "required": True}, "list_ports": {"type": "bool", "default": False},
                       "audit_lines": {"type": "int", "default": 5}},
        supports_check_mode=True,
    )
    deployed = paths.instances()
    name, audit_lines = module.params["instance"], module.params["audit_lines"]
    if audit_lines < 0:
        module.fail_json(msg="audit_lines: %d: must be 0 or more" % audit_lines)
    if name not in deployed:
        module.fail_json(msg="instance: %s: nothing of this name is deployed on this router, which has %s; the roles map_ce and map_br deploy" % (
            name, ", ".join(sorted(deployed)) or "no instance at all"))
    try:
        found = info.collect(deployed[name].current, module.params["list_ports"], audit_lines)
    except (OSError, ValueError) as exc:
        module.fail_json(msg="instance: %s: its generation cannot be read: %s" % (name, exc))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
