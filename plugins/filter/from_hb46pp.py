# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_hb46pp
short_description: The domain in a provisioning answer of a Japanese provider
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Reads what a provider's server answers by HB46PP (HTTP-Based IPv4 over IPv6 Provisioning Protocol, version 1.1), by which Japanese
    providers tell a router how IPv4 crosses their IPv6 network, to a domain.
  - The answer's C(order) decides between MAP-E and MAP-T where it has both. An answer without either is an error, which says what its other
    methods need (C(dslite), C(lw4o6), C(464xlat), C(ipip)). Where the provider prefers C(ipip), a fixed IPv4 address, to the MAP that is used,
    a warning says so. A method that is wrong is ignored with a warning where the answer has another one that can be used.
  - MAP-E has the interface identifiers of V(draft03), or with C(version) V(1) those of V(rfc7597). With C(mesh) every rule is a
    forwarding mapping rule.
  - Up to 256 rules of MAP-E and 200 of MAP-T are taken. An error lists every fault of the answer, each by its place in it. Unknown keys, and
    what belongs to methods that are not used, are ignored.
options:
  _input:
    description: The answer, as JSON in a string of at most 256 KiB, or as the dict that it is.
    type: raw
    required: true
seealso:
  - plugin: softwire.map.ce
    plugin_type: filter
  - plugin: softwire.map.isp_domain
    plugin_type: filter
  - name: HB46PP
    description: The standard, in Japanese. The answer is in section 3.4.
    link: https://github.com/v6pc/v6mig-prov/blob/1.1/spec.md
  - name: "RFC 7597: MAP-E"
    description: The mapping rules are in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: An answer with MAP-E
  ansible.builtin.debug:
    msg: "{{ answer | softwire.map.from_hb46pp }}"
  vars:
    answer: |
      {"enabler_name": "Example VNE", "service_name": "v4 over v6", "ttl": 86400, "order": ["map_e", "dslite"],
       "map_e": {"version": 0, "mesh": true, "br": "2001:db8:ffff::1",
                 "rules": [{"ipv6": "2001:db8:40::/42", "ipv4": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}]},
       "dslite": {"aftr": "aftr.example.net"}}
  # Result:
  # transport: map-e
  # interface_id: draft03
  # br_address: ['2001:db8:ffff::1']
  # dmr: null
  # rules:
  #   - ipv6_prefix: 2001:db8:40::/42
  #     ipv4_prefix: 198.51.100.0/24
  #     ea_length: 14
  #     psid_offset: 6
  #     psid_length: 6
  #     psid: null
  #     fmr: true

- name: The method that the provider prefers, of those that are MAP
  ansible.builtin.debug:
    msg: "{{ answer | softwire.map.from_hb46pp }}"
  vars:
    answer:
      order: [464xlat, map_t, map_e]
      map_t:
        dmr: 64:ff9b::/96
        rules:
          - {ipv6: "2001:db8:ce::/51", ipv4: 192.0.2.0/24, ea_length: 13, psid_offset: 0}
      map_e:
        br: 2001:db8:ffff::1
        rules:
          - {ipv6: "2001:db8:40::/42", ipv4: 198.51.100.0/24, ea_length: 14, psid_offset: 6}
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
  #     fmr: false

- name: The address of a line
  ansible.builtin.debug:
    msg: "{{ (answer | softwire.map.from_hb46pp | softwire.map.ce('2001:db8:52:3400::/56')).ipv4_address }}"
  vars:
    answer:
      order: [map_e]
      map_e:
        br: 2001:db8:ffff::1
        rules:
          - {ipv6: "2001:db8:40::/42", ipv4: 198.51.100.0/24, ea_length: 14, psid_offset: 6}
  # Result:
  # 198.51.100.72
"""

RETURN = r"""
_value:
  description: A domain with all its defaults filled in, as P(softwire.map.ce#filter) and the roles take it.
  type: dict
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import hb46pp
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def from_hb46pp(answer: Any) -> dict[str, Any]:
    """The domain in a provisioning answer."""
    return hb46pp.domain_of(answer, warn)


class FilterModule:
    def filters(self):
        return {"from_hb46pp": from_hb46pp}
