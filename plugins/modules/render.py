#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: render
short_description: Write the generations of a softwire instance to a directory on the controller
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Writes the files that M(softwire.map.deploy) would bring to a router, to be read before it runs. No router is asked anything.
  - C(DIRECTORY/INSTANCE/ALTERNATIVE/) holds one generation each, of which the router would take the first that it can run.
  - What lies in C(DIRECTORY/INSTANCE) beside these files is removed.
  - All of it is an action on the controller; the playbook C(softwire.map.render) calls it for every host.
options:
  directory:
    description: Directory on the controller. It is made where it does not exist.
    type: path
    required: true
  instance:
    description: Name of the instance, as M(softwire.map.deploy) takes it. By default the one that O(customer_edge) or O(border_relay) names.
    type: str
  state:
    description: With V(absent) the files of the instance are removed from O(directory).
    type: str
    choices: [present, absent]
    default: present
  customer_edge:
    description: Variables of a customer edge, as M(softwire.map.deploy) takes them.
    type: dict
  border_relay:
    description: Variables of a border relay, as M(softwire.map.deploy) takes them.
    type: dict
attributes:
  check_mode:
    support: full
    description: Writes nothing and returns what would change.
  diff_mode:
    support: full
    description: Shows each file that differs.
seealso:
  - module: softwire.map.deploy
  - name: RFC 7597
    description: Mapping of Address and Port with Encapsulation (MAP-E).
    link: https://www.rfc-editor.org/rfc/rfc7597
  - name: RFC 7599
    description: Mapping of Address and Port using Translation (MAP-T).
    link: https://www.rfc-editor.org/rfc/rfc7599
"""

EXAMPLES = r"""
# A part of each result stands below its task.
- name: Remove what was rendered for an instance
  softwire.map.render:
    directory: generations/{{ inventory_hostname }}
    instance: ce
    state: absent
  # Result:
  # changed: true
  # alternatives: []
"""

RETURN = r"""
directory:
  description: Where the files are.
  type: str
  returned: success
  sample: /home/operator/generations/ce1/ce
alternatives:
  description: Names of the alternatives in order of preference, each a directory below RV(directory).
  type: list
  elements: str
  returned: success
  sample: [bpf, jool_mapt, jool_siit]
"""
