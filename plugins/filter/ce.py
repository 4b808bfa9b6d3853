# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ce
short_description: The MAP parameters of one customer edge
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Computes what a MAP customer edge (CE) needs to know from the rules of its domain and its end-user IPv6 prefix.
  - The basic mapping rule (BMR) is the rule with the longest match on the prefix.
extends_documentation_fragment:
  - softwire.map.domain
positional: end_user_prefix
options:
  end_user_prefix:
    description:
      - The IPv6 prefix that has been delegated to the CE, with its length and without bits set after it.
      - A prefix longer than the rule's prefix and EA bits together is cut to that length.
    type: str
    required: true
seealso:
  - plugin: softwire.map.ces
    plugin_type: filter
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: Everything about one CE
  ansible.builtin.debug:
    msg: "{{ map_domain | softwire.map.ce('2001:db8:ce:11b::/64') }}"
  vars:
    map_domain:
      transport: map-t
      dmr: 64:ff9b::/96
      rules:
        - ipv6_prefix: 2001:db8:ce::/51
          ipv4_prefix: 192.0.2.0/24
          ea_length: 13
          psid_offset: 0
  # Result:
  # delegated_prefix: 2001:db8:ce:11b::/64
  # end_user_prefix: 2001:db8:ce:11b::/64
  # rule:
  #   ipv6_prefix: 2001:db8:ce::/51
  #   ipv4_prefix: 192.0.2.0/24
  #   ea_length: 13
  #   psid_offset: 0
  #   psid_length: 5
  #   psid: null
  #   fmr: false
  # fmrs: []
  # transport: map-t
  # interface_id: rfc7597
  # ipv4_address: 192.0.2.8
  # ipv4_prefix: null
  # psid: 27
  # psid_length: 5
  # psid_offset: 0
  # port_ranges: [[55296, 57343]]
  # port_count: 2048
  # sharing_ratio: 32
  # map_address: 2001:db8:ce:11b:0:c000:208:1b
  # br_address: null
  # dmr: 64:ff9b::/96

- name: The MAP address of the first example of RFC 7597
  ansible.builtin.debug:
    msg: "{{ (map_domain | softwire.map.ce('2001:db8:12:3400::/56')).map_address }}"
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # 2001:db8:12:3400:0:c000:212:34
"""

RETURN = r"""
_value:
  description: The parameters of the CE. Addresses are in canonical form.
  type: dict
  contains:
    delegated_prefix:
      description: The prefix as it was given.
      type: str
    end_user_prefix:
      description: The prefix, cut to the length of the rule's prefix and EA bits.
      type: str
    rule:
      description: The basic mapping rule with all its defaults. Its C(psid) is null unless it is explicit.
      type: dict
    fmrs:
      description: The rules with C(fmr) true, in the same form.
      type: list
      elements: dict
    transport:
      description: The transport of the domain, V(map-e) or V(map-t).
      type: str
    interface_id:
      description: The layout of the interface identifier, V(rfc7597) or V(draft03).
      type: str
    ipv4_address:
      description: The IPv4 address of the CE, alone or shared; null where it has a prefix.
      type: str
    ipv4_prefix:
      description: The IPv4 prefix of the CE; null where it has an address.
      type: str
    psid:
      description: The port set identifier; null where the address is not shared.
      type: int
    psid_length:
      description: The length of the PSID in bits; 0 where the address is not shared.
      type: int
    psid_offset:
      description: The PSID offset of the rule in bits.
      type: int
    port_ranges:
      description: The port set, a list of C([low, high]) in ascending order; V([[0, 65535]]) where the address is not shared.
      type: list
      elements: list
    port_count:
      description: The number of ports in C(port_ranges).
      type: int
    sharing_ratio:
      description: How many CEs can share the address; 1 where it is not shared.
      type: int
    map_address:
      description: The MAP IPv6 address of the CE; where the CE has an IPv4 prefix, the one of the prefix's first address.
      type: str
    br_address:
      description: The IPv6 address of the BR; null for MAP-T.
      type: str
    dmr:
      description: The IPv6 prefix of the default mapping rule; null for MAP-E.
      type: str
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def ce(domain: Any, end_user_prefix: Any) -> dict[str, Any]:
    """The MAP parameters of the CE with this end-user IPv6 prefix."""
    return calculator.ce(domain, end_user_prefix, warn=warn)


class FilterModule:
    def filters(self):
        return {"ce": ce}
