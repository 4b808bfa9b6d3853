#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write a report on the MAP network of an inventory
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Writes C(report.html), one page without scripts and without anything from elsewhere, and C(report.md).
  - Both hold the rules of each domain and every customer edge; the page also has a picture of the ports of each shared IPv4 address,
    with who owns what. Hosts whose domains are equal are of one domain, however it is written.
  - Hosts that cannot be part of the report, and customer edges that are one, are listed at the top as faults.
  - All of it is an action on the controller, one call for the whole inventory, so give the task C(run_once).
    The playbook C(softwire.map.report) calls it.
options:
  directory:
    description: Directory on the controller. It is made where it does not exist; other files in it stay.
    type: path
    required: true
  customer_edges:
    description: The hosts that are customer edges. One whose C(map_ce_state) is V(absent) is left out.
    type: list
    elements: str
    required: true
  border_relays:
    description: The hosts that are border relays. One whose C(map_br_state) is V(absent) is left out.
    type: list
    elements: str
    default: []
  answers:
    description:
      - Name of the variable in which the result of M(softwire.map.map_info) is registered; its ports in use are then part of the report.
      - Without it the report holds what the inventory says, and nothing that changes without it.
    type: str
attributes:
  check_mode:
    support: full
    description: Writes nothing and returns what would change.
  diff_mode:
    support: full
    description: Shows each file that differs.
seealso:
  - module: softwire.map.check_inventory
  - module: softwire.map.map_info
  - name: "RFC 7597: MAP-E"
    description: The port sets are in section 5.1.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# A part of the result stands below the task.
- name: Write a report on the network
  softwire.map.report:
    directory: report
    customer_edges: "{{ groups.map_ce }}"
    border_relays: "{{ groups.map_br }}"
  run_once: true
  # Result:
  # changed: true
  # faults: 0
"""

RETURN = r"""
files:
  description: The files of the report.
  type: list
  elements: str
  returned: success
  sample: [/home/operator/report/report.html, /home/operator/report/report.md]
faults:
  description: How many faults the report lists.
  type: int
  returned: success
  sample: 0
"""
