# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ces
short_description: The MAP parameters of many customer edges
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Does what P(softwire.map.ce#filter) does, for a list of prefixes of one domain in one call.
  - Two prefixes that give the same CE, because they agree in all bits of the rule's prefix and the EA bits, are an error.
  - So is a prefix that lies in the end-user prefix of another one, where the rules have end-user prefixes of several lengths.
  - An error lists every prefix that is wrong.
extends_documentation_fragment:
  - softwire.map.domain
positional: prefixes
options:
  prefixes:
    description: The end-user IPv6 prefixes, one for each CE.
    type: list
    elements: str
    required: true
seealso:
  - plugin: softwire.map.ce
    plugin_type: filter
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: Who has which IPv4 address and PSID
  ansible.builtin.debug:
    msg: >-
      {{ map_domain
      | softwire.map.ces(['2001:db8:ce:11b::/64', '2001:db8:ce:774::/64'])
      | map('dict2items') | map('selectattr', 'key', 'in', ['ipv4_address', 'psid']) | map('items2dict') }}
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
  # - ipv4_address: 192.0.2.8
  #   psid: 27
  # - ipv4_address: 192.0.2.59
  #   psid: 20
"""

RETURN = r"""
_value:
  description: The parameters of each CE, in the order of O(prefixes), as P(softwire.map.ce#filter) returns them.
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def ces(domain: Any, prefixes: Any) -> list[dict[str, Any]]:
    """The MAP parameters of the CEs with these end-user IPv6 prefixes."""
    return calculator.ces(domain, prefixes, warn=warn)


class FilterModule:
    def filters(self):
        return {"ces": ces}
