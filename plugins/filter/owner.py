# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: owner
short_description: The customer edge behind an IPv4 address and port
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Computes which customer edge (CE) has an IPv4 address and a port, as an abuse desk asks it.
  - The result is null where no CE can have them, because the address is outside every rule, the PSID offset excludes the port,
    no rule has the explicit PSID, or the end-user prefix would belong to a rule with a longer match.
  - Whether the CE exists, the domain does not say; look for its C(end_user_prefix) among the delegated prefixes.
extends_documentation_fragment:
  - softwire.map.domain
positional: ipv4_address, port
options:
  ipv4_address:
    description:
      - The IPv4 address, alone or with the port as logs have them, such as V(192.0.2.18:1232).
      - A list of pairs C([address, port]), or of such texts, is looked up in one call.
    type: raw
    required: true
  port:
    description: The port, 0 to 65535. Required with an address alone, refused with a list of pairs.
    type: int
seealso:
  - plugin: softwire.map.ce
    plugin_type: filter
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: Who sent this
  ansible.builtin.debug:
    msg: "{{ (map_domain | softwire.map.owner('192.0.2.18', 1232)).end_user_prefix }}"
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # 2001:db8:12:3400::/56

- name: The same, from a line of a log
  ansible.builtin.debug:
    msg: "{{ (map_domain | softwire.map.owner('192.0.2.18:1232')).end_user_prefix }}"
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # 2001:db8:12:3400::/56

- name: Nobody can have a port that the PSID offset excludes
  ansible.builtin.debug:
    msg: "{{ map_domain | softwire.map.owner('192.0.2.18', 80) is none }}"
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # true

- name: A list from a log
  ansible.builtin.debug:
    msg: >-
      {{ map_domain | softwire.map.owner([['192.0.2.18', 1232], ['192.0.2.18', 1236], ['198.51.100.1', 1232]])
      | map('default', {}, true) | map(attribute='end_user_prefix', default='nobody') }}
  vars:
    map_domain:
      transport: map-e
      br_address: 2001:db8:ffff::1
      rules:
        - ipv6_prefix: 2001:db8::/40
          ipv4_prefix: 192.0.2.0/24
          ea_length: 16
  # Result:
  # - 2001:db8:12:3400::/56
  # - 2001:db8:12:3500::/56
  # - nobody
"""

RETURN = r"""
_value:
  description:
    - The parameters of the CE, as P(softwire.map.ce#filter) returns them, or null where no CE can have the address and port.
      Its C(delegated_prefix) is its C(end_user_prefix).
    - For a list of pairs, a list of them in the same order.
  type: raw
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def owner(domain: Any, ipv4_address: Any, port: Any = None) -> Any:
    """The parameters of the CE behind an IPv4 address and port, or behind each of a list of pairs."""
    return calculator.owner(domain, ipv4_address, port, warn=warn)


class FilterModule:
    def filters(self):
        return {"owner": owner}
