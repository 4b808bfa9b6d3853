#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: export
short_description: Write what an inventory says to DHCPv6 servers and routing daemons
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Writes C(kea-subnet6.inc) and C(dnsmasq.conf), by which the DHCPv6 servers Kea and dnsmasq hand the rules of each domain to its customer
    edges (RFC 7598), and for each border relay C(HOST/bird.conf) and C(HOST/frr.conf), the prefixes that it has to announce.
  - Each is a part of a configuration, for the daemon's own file to include.
  - A customer edge with the variable C(map_export_duid), the DUID by which DHCPv6 servers know it, gets the prefix of the inventory by a
    reservation, and the rules of its own domain wherever that prefix lies. The variable is text, 3 to 130 bytes in hex with colons.
  - A customer edge or border relay whose variables have a fault, and customer edges that are one, are an error. A domain that the options
    cannot say, and what one of the servers cannot do, is left out with a warning.
  - All of it is an action on the controller, one call for the whole inventory, so give the task C(run_once).
    The playbook C(softwire.map.export) calls it.
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
attributes:
  check_mode:
    support: full
    description: Writes nothing and returns what would change.
  diff_mode:
    support: full
    description: Shows each file that differs.
seealso:
  - plugin: softwire.map.dhcpv6_options
    plugin_type: filter
  - module: softwire.map.report
  - name: "RFC 7598: DHCPv6 options for softwires"
    description: The options are in section 4, the containers in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7598
"""

EXAMPLES = r"""
# A part of the result stands below the task.
- name: Write what the rest of the network needs to know
  softwire.map.export:
    directory: export
    customer_edges: "{{ groups.map_ce }}"
    border_relays: "{{ groups.map_br }}"
  run_once: true
  # Result:
  # changed: true
"""

RETURN = r"""
files:
  description: The files.
  type: list
  elements: str
  returned: success
  sample: [/home/operator/export/kea-subnet6.inc, /home/operator/export/br1/bird.conf]
"""
