# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dhcpv6_options
short_description: A domain as a DHCPv6 option for its customer edges
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Encodes a domain as the container option of RFC 7598 that a DHCPv6 server hands to customer edges (CEs),
    94 for MAP-E, 95 for MAP-T.
  - Every rule carries its PSID offset. A PSID goes with it where it is explicit; otherwise a CE takes it from its EA bits.
  - The options cannot say O(_input.interface_id=draft03), so such a domain is an error.
  - A lightweight 4over6 domain, as P(softwire.map.from_dhcpv6_options#filter) returns it, becomes a container 96.
extends_documentation_fragment:
  - softwire.map.domain
seealso:
  - plugin: softwire.map.from_dhcpv6_options
    plugin_type: filter
  - name: "RFC 7598: DHCPv6 options for softwires"
    description: The options are in section 4, the containers in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7598
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: The option for a MAP-E domain
  ansible.builtin.debug:
    msg: "{{ map_domain | softwire.map.dhcpv6_options }}"
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # - code: 94
  #   data: 00590015001018c00002002820010db800005d000406000000005a001020010db8ffff00000000000000000001
  #   option: 005e002d00590015001018c00002002820010db800005d000406000000005a001020010db8ffff00000000000000000001

- name: As dnsmasq takes it
  ansible.builtin.debug:
    msg: "dhcp-option=option6:{{ option.code }},{{ option.data | regex_findall('..') | join(':') }}"
  vars:
    option: "{{ (map_domain | softwire.map.dhcpv6_options)[0] }}"
    map_domain:
      transport: map-t
      dmr: 64:ff9b::/96
      rules:
        - ipv6_prefix: 2001:db8:ce::/51
          ipv4_prefix: 192.0.2.0/24
          ea_length: 13
          psid_offset: 0
          fmr: true
  # Result:
  # "dhcp-option=option6:95,00:59:00:17:01:0d:18:c0:00:02:00:33:20:01:0d:b8:00:ce:00:00:5d:00:04:00:00:00:00:\
  #   00:5b:00:0d:60:00:64:ff:9b:00:00:00:00:00:00:00:00"
"""

RETURN = r"""
_value:
  description: The options, one container for a domain. Hex is in lower case, two digits for each byte, without separators.
  type: list
  elements: dict
  contains:
    code:
      description: The code of the option, 94 (MAP-E), 95 (MAP-T) or 96 (lightweight 4over6).
      type: int
    data:
      description: What the container holds, in hex, as Kea takes it.
      type: str
    option:
      description: The whole option in hex, with code and length.
      type: str
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import dhcpv6
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def dhcpv6_options(domain: Any) -> list[dict[str, Any]]:
    """The DHCPv6 options that bring a domain to its customer edges."""
    return dhcpv6.options(domain, warn=warn)


class FilterModule:
    def filters(self):
        return {"dhcpv6_options": dhcpv6_options}
