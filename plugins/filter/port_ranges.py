# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: port_ranges
short_description: The port set of a PSID
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Lists the ports that a port set identifier (PSID) stands for.
  - Integers may be given as strings of decimal digits, since templates make such strings.
positional: psid_length, psid_offset
options:
  _input:
    description: The PSID, from 0 to the largest number of O(psid_length) bits.
    type: int
    required: true
  psid_length:
    description:
      - The length of the PSID, 0 to 16 bits.
      - With V(0) the address is not shared, and the result holds every port.
    type: int
    required: true
  psid_offset:
    description:
      - The PSID offset, 0 to 15 bits. Together with O(psid_length) it is at most 16.
      - Japanese ISPs use V(4) or V(6).
    type: int
    default: 6
seealso:
  - name: "RFC 7597: MAP-E"
    description: The algorithm is in section 5.1.
    link: https://www.rfc-editor.org/rfc/rfc7597
  - plugin: softwire.map.ce
    plugin_type: filter
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: With an offset of 0 a port set is one range
  ansible.builtin.debug:
    msg: "{{ 27 | softwire.map.port_ranges(5, 0) }}"
  # Result:
  # [[55296, 57343]]

- name: With an offset of 2 it is three ranges, none of them below port 16384
  ansible.builtin.debug:
    msg: "{{ 52 | softwire.map.port_ranges(8, psid_offset=2) }}"
  # Result:
  # [[19712, 19775], [36096, 36159], [52480, 52543]]
"""

RETURN = r"""
_value:
  description: A list of C([low, high]) in ascending order.
  type: list
  elements: list
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter


@map_filter
def port_ranges(psid: Any, psid_length: Any, psid_offset: Any = 6) -> list[list[int]]:
    """The port set of a PSID as [[low, high], ...]."""
    return calculator.port_set(psid, psid_length, psid_offset)


class FilterModule:
    def filters(self):
        return {"port_ranges": port_ranges}
