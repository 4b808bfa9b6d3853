# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_domain
short_description: A MAP domain for IPv4 pools, subscribers and an IPv6 prefix
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Finds the sharing ratio, the EA bits and the length of end-user prefixes that serve a number of subscribers,
    and returns the domain, what it offers and what is left over.
  - Every pool becomes a rule. All rules have one PSID length and one length of end-user prefixes.
  - Where there is no such domain, the error says which requirement is in the way and what would fit.
options:
  _input:
    description:
      - The requirements. A key with the value V(null) counts as not set. Unknown keys are errors.
      - One of O(_input.subscribers) and O(_input.ports_per_subscriber) is required.
    type: dict
    required: true
    suboptions:
      ipv4_pools:
        description: An IPv4 prefix, or a list of prefixes that do not overlap.
        type: raw
        required: true
      ipv6_prefix:
        description: The IPv6 prefix that the end-user prefixes are taken from.
        type: str
        required: true
      subscribers:
        description: The number of customer edges. The plan shares an address among no more of them than it has to.
        type: int
      ports_per_subscriber:
        description:
          - The least number of ports that each customer edge has, 1 to 65536.
          - Without O(_input.subscribers) the plan has as many subscribers as this allows.
        type: int
      psid_offset:
        description:
          - The PSID offset, 0 to 15 bits. It leaves the lowest ports of each shared address to nobody.
          - The default is 6 with O(_input.interface_id=rfc7597) and 4 with O(_input.interface_id=draft03).
        type: int
      end_user_prefix_length:
        description: The length of the end-user prefixes. By default the first of 56, 60 and 64 that O(_input.ipv6_prefix) has room for.
        type: int
      transport:
        description: The transport of the domain, by encapsulation (MAP-E) or by translation (MAP-T).
        type: str
        choices: [map-e, map-t]
        default: map-t
      interface_id:
        description: The layout of the interface identifier.
        type: str
        choices: [rfc7597, draft03]
        default: rfc7597
      br_address:
        description: The IPv6 address of the border relay, or a list of addresses. Required for MAP-E, refused for MAP-T.
        type: raw
      dmr:
        description:
          - The IPv6 prefix of the default mapping rule, for MAP-T only.
          - The default is V(64:ff9b::/96), the well-known prefix of RFC 6052.
        type: str
      fmr:
        description: Whether the rules are forwarding mapping rules.
        type: bool
        default: false
seealso:
  - plugin: softwire.map.ce
    plugin_type: filter
  - name: "RFC 7597: MAP-E"
    description: Port sets are in section 5.1, EA bits in section 5.2.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: Ten thousand subscribers on 256 addresses
  ansible.builtin.debug:
    msg: "{{ requirements | softwire.map.plan_domain }}"
  vars:
    requirements:
      ipv4_pools: 192.0.2.0/24
      ipv6_prefix: 2001:db8::/40
      subscribers: 10000
  # Result:
  # domain:
  #   transport: map-t
  #   interface_id: rfc7597
  #   br_address: null
  #   dmr: 64:ff9b::/96
  #   rules:
  #     - ipv6_prefix: 2001:db8::/42
  #       ipv4_prefix: 192.0.2.0/24
  #       ea_length: 14
  #       psid_offset: 6
  #       psid_length: 6
  #       psid: null
  #       fmr: false
  # sharing_ratio: 64
  # psid_length: 6
  # psid_offset: 6
  # ports_per_subscriber: 1008
  # ea_lengths: [14]
  # end_user_prefix_length: 56
  # capacity: 16384
  # left_over:
  #   subscribers: 6384
  #   ports_per_address: 1024
  #   ipv6_prefixes: ['2001:db8:40::/42', '2001:db8:80::/41']

- name: How many subscribers two pools serve with 2000 ports each
  ansible.builtin.debug:
    msg: "{{ (requirements | softwire.map.plan_domain).capacity }}"
  vars:
    requirements:
      ipv4_pools: [192.0.2.0/24, 198.51.100.0/23]
      ipv6_prefix: 2001:db8::/32
      ports_per_subscriber: 2000
      psid_offset: 4
      transport: map-e
      br_address: 2001:db8:ffff::1
  # Result:
  # 12288
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    domain:
      description: The domain with all its defaults, as P(softwire.map.ce#filter) takes it; a rule for each pool, in their order.
      type: dict
    sharing_ratio:
      description: How many subscribers share an address; 1 where it is not shared.
      type: int
    psid_length:
      description: The length of the PSID in bits; 0 where the addresses are not shared.
      type: int
    psid_offset:
      description: The PSID offset in bits.
      type: int
    ports_per_subscriber:
      description: The number of ports that each subscriber has.
      type: int
    ea_lengths:
      description: The number of EA bits of each rule.
      type: list
      elements: int
    end_user_prefix_length:
      description: The length of the prefix to delegate to each subscriber.
      type: int
    capacity:
      description: How many subscribers the domain has room for.
      type: int
    left_over:
      description: What the plan does not use.
      type: dict
      contains:
        subscribers:
          description: How many more subscribers there is room for; null where their number was not asked for.
          type: int
        ports_per_address:
          description: The ports of each address that the PSID offset leaves to nobody.
          type: int
        ipv6_prefixes:
          description: What remains of the IPv6 prefix.
          type: list
          elements: str
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import plan
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def plan_domain(requirements: Any) -> dict[str, Any]:
    """A domain for IPv4 pools, subscribers and an IPv6 prefix, and what it offers."""
    return plan.plan_domain(requirements, warn=warn)


class FilterModule:
    def filters(self):
        return {"plan_domain": plan_domain}
