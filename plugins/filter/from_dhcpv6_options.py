# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_dhcpv6_options
short_description: The domain in a DHCPv6 option
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Decodes a container option of RFC 7598, as a DHCPv6 client received it, to a domain.
  - What the RFC tells a client to ignore is ignored, such as options with other codes, options outside a container and
    an explicit PSID for a customer edge (CE) with an IPv4 prefix.
  - A PSID beside EA bits, as some servers send it, is not used, with a warning, since each CE has one in its EA bits. Its length
    has to be theirs.
  - Anything else that is wrong, such as a truncated or misplaced option, is an error that names the offset of the byte, from 0.
requirements:
  - netaddr
positional: code
options:
  _input:
    description:
      - Hex, two digits for each byte, also with spaces or colons between bytes.
      - One container with its code and length, or with O(code) what the container holds.
    type: str
    required: true
  code:
    description: The code of the container whose contents the input is, 94 (MAP-E), 95 (MAP-T) or 96 (lightweight 4over6).
    type: int
seealso:
  - plugin: softwire.map.dhcpv6_options
    plugin_type: filter
  - name: "RFC 7598: DHCPv6 options for softwires"
    description: The options are in section 4, the containers in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7598
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: A MAP-T container
  ansible.builtin.debug:
    msg: "{{ option | softwire.map.from_dhcpv6_options }}"
  vars:
    option: 005f002c00590017010d18c00002003320010db800ce00005d000400000000005b000d600064ff9b0000000000000000
  # Result:
  # transport: map-t
  # interface_id: rfc7597
  # br_address: null
  # dmr: 64:ff9b::/96
  # rules:
  #   - ipv6_prefix: 2001:db8:ce::/51
  #     ipv4_prefix: 192.0.2.0/24
  #     ea_length: 13
  #     psid_offset: 0
  #     psid_length: 5
  #     psid: null
  #     fmr: true

- name: What a lightweight 4over6 container holds, as a lease file shows it
  ansible.builtin.debug:
    msg: "{{ data | softwire.map.from_dhcpv6_options(code=96) }}"
  vars:
    data: >-
      0:5a:0:10:20:1:d:b8:ff:ff:0:0:0:0:0:0:0:0:0:1:0:5c:0:15:c0:0:2:12:40:20:1:d:b8:0:12:34:0:0:5d:0:4:0:8:34:0
  # Result:
  # transport: lw4o6
  # br_address: ['2001:db8:ffff::1']
  # binding:
  #   ipv4_address: 192.0.2.18
  #   ipv6_prefix: 2001:db8:12:3400::/64
  #   psid_offset: 0
  #   psid_length: 8
  #   psid: 52
"""

RETURN = r"""
_value:
  description:
    - A domain with all its defaults filled in, as P(softwire.map.ce#filter) takes it.
    - For lightweight 4over6 a dict with C(transport) V(lw4o6), C(br_address) and C(binding), which has C(ipv4_address),
      C(ipv6_prefix), C(psid_offset), C(psid_length) and C(psid), or is null. Only P(softwire.map.dhcpv6_options#filter) takes it.
  type: dict
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import dhcpv6
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def from_dhcpv6_options(option: Any, code: Any = None) -> dict[str, Any]:
    """The domain in a container that a DHCPv6 client received."""
    return dhcpv6.domain_of(option, code, warn)


class FilterModule:
    def filters(self):
        return {"from_dhcpv6_options": from_dhcpv6_options}
