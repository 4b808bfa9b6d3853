#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_inventory
short_description: Refuse an inventory in which two customer edges are one
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Fails where two hosts of one domain have end-user prefixes that give the same customer edge, so the same IPv4 address and
    ports, or where the end-user prefix of one holds that of the other. Every pair is listed, with both hosts.
  - A host whose C(map_ce_state) is V(absent) is no customer edge. One whose variables have a fault of their own is left out,
    since M(softwire.map.deploy) refuses it.
  - All of it is an action on the controller, one call for the whole inventory, so give the task C(run_once).
    The playbooks C(softwire.map.site) and C(softwire.map.render) begin with it.
options:
  customer_edges:
    description: The hosts to compare; all of the inventory, also those that a run leaves out.
    type: list
    elements: str
    required: true
  only:
    description: Hosts of which one has to be in a pair that is refused, such as C(ansible_play_hosts_all). Without it every pair is.
    type: list
    elements: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: none
    description: Changes nothing.
seealso:
  - module: softwire.map.report
  - name: "RFC 7597: MAP-E"
    description: The port sets are in section 5.1.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# A part of the result stands below the task.
- name: No two customer edges are one
  softwire.map.check_inventory:
    customer_edges: "{{ groups.map_ce }}"
    only: "{{ ansible_play_hosts_all }}"
  run_once: true
  # Result:
  # changed: false
"""

RETURN = r""" # """
