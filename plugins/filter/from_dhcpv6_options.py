# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_dhcpv6_options
short_description: The domain in DHCPv6 options or another form in which rules arrive
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Decodes a container option of RFC 7598, as a DHCPv6 client received it, to a domain. It may stand alone, among other options or in a whole message.
  - Takes rules in two other forms too, OpenWrt's rule strings, and the C(basicMapRules) in which the rule server of OCN answers.
  - What the RFC tells a client to ignore is ignored, such as options with other codes and options outside a container.
  - Of several containers the one is taken that option 111 prefers among those that are valid (RFC 8026). Without it MAP-E comes before MAP-T, with a
    warning. Lightweight 4over6 is not MAP, and comes last in any case. A container with a fault is ignored as a whole with a warning, where another is valid.
  - What providers do in another way than the RFC is taken with a warning that says so. That is an IPv6 prefix with zero bytes behind it or with bits set
    after its length, and a rule that comes twice, once as a forwarding one.
  - An explicit PSID is used where a rule gives a customer edge (CE) its whole IPv4 address. The result has the rule of this one CE then, without EA bits.
    Where the EA bits hold the PSID, they decide, since the border relay finds a CE by them, with a warning where the explicit one differs or cannot be
    compared. A CE with an IPv4 prefix has no PSID.
  - Anything else that is wrong, such as a truncated or misplaced option, is an error that names the offset of the byte, from 0, or the value's path.
  - A container has at most 4096 bytes and 64 rules, and text at most 256 rules.
positional: code
options:
  _input:
    description:
      - Hex, two digits for each byte, also after C(0x). With spaces or colons between bytes one digit will do, as dhclient writes it.
      - One container or several options, each with its code and length, a whole Reply or Advertise, or with O(code) what a container holds.
      - Or rule strings as odhcp6c has them in its variables C(MAPE) and C(MAPT), and mapcalc takes them, with spaces between rules. Their C(psid) stands
        at the left of 16 bits.
      - Or a dict with C(basicMapRules), or the same as JSON, also with the script around it that such a server writes. Its domains
        have the C(interface_id) V(draft03), since its customers' routers do, and no forwarding.
    type: raw
    required: true
  code:
    description:
      - The code of the container that is wanted, or whose contents the input is, 94 (MAP-E), 95 (MAP-T) or 96 (lightweight 4over6).
      - For DHCPv6 options only.
    type: int
  end_user_prefix:
    description:
      - The end-user IPv6 prefix of the line, delegated or from router advertisements. Explicit PSIDs are compared with its EA bits.
      - Needed where C(basicMapRules) have several addresses of border relays, and where an explicit PSID stands beside EA bits that
        hold the IPv4 address alone.
    type: str
seealso:
  - plugin: softwire.map.dhcpv6_options
    plugin_type: filter
  - name: "RFC 7598: DHCPv6 options for softwires"
    description: The options are in section 4, the containers in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7598
  - name: "RFC 8026: the order of softwires"
    description: What a client does with several containers is in section 1.4.
    link: https://www.rfc-editor.org/rfc/rfc8026
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

- name: A rule as odhcp6c shows it on OpenWrt
  ansible.builtin.debug:
    msg: "{{ rule | softwire.map.from_dhcpv6_options }}"
  vars:
    rule: type=map-t,ealen=12,prefix4len=23,prefix6len=48,ipv4prefix=198.51.100.0,ipv6prefix=2001:db8:30::,offset=0,dmr=2001:db8:ffff::/64
  # Result:
  # transport: map-t
  # interface_id: rfc7597
  # br_address: null
  # dmr: 2001:db8:ffff::/64
  # rules:
  #   - ipv6_prefix: 2001:db8:30::/48
  #     ipv4_prefix: 198.51.100.0/23
  #     ea_length: 12
  #     psid_offset: 0
  #     psid_length: 3
  #     psid: null
  #     fmr: false

- name: The answer of a rule server
  ansible.builtin.debug:
    msg: "{{ answer | softwire.map.from_dhcpv6_options(end_user_prefix='2001:db8:1800::/56') }}"
  vars:
    answer:
      basicMapRules:
        - brIpv6Address: 2001:db8:ffff::1
          ipv6Prefix: '2001:db8::'
          ipv6PrefixLength: '32'
          ipv4Prefix: 198.51.100.177
          ipv4PrefixLength: '32'
          eaBitLength: '8'
          psIdOffset: '4'
          psId: '24'
  # Result:
  # transport: map-e
  # interface_id: draft03
  # br_address: ['2001:db8:ffff::1']
  # dmr: null
  # rules:
  #   - ipv6_prefix: 2001:db8:1800::/40
  #     ipv4_prefix: 198.51.100.177/32
  #     ea_length: 0
  #     psid_offset: 4
  #     psid_length: 8
  #     psid: 24
  #     fmr: false
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

from ansible_collections.softwire.map.plugins.module_utils.mapping import rule_sources
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter, warn


@map_filter
def from_dhcpv6_options(option: Any, code: Any = None, *, end_user_prefix: Any = None) -> dict[str, Any]:
    """The domain in what a provider sends its customer edges."""
    return rule_sources.domain_of(option, code, end_user_prefix, warn)


class FilterModule:
    def filters(self):
        return {"from_dhcpv6_options": from_dhcpv6_options}
