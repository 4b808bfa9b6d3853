# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isp_domain
short_description: The MAP domain of a Japanese ISP
version_added: 0.1.0
author: softwire.map contributors (@softwire-map)
description:
  - Finds the rule of an ISP that an end-user IPv6 prefix belongs to, and returns a domain with this rule.
  - The rules are what users have collected, not what the ISPs publish, and an ISP can change them at any time.
  - An ISP can also have rules that nobody has collected yet. A prefix outside every known rule is an error, which names the nearest
    three rules, or the other service whose prefix it is.
  - The other rules of the ISP, and whether its customer edges send to each other directly, the role P(softwire.map.map_ce#role) knows by itself
    (O(softwire.map.map_ce#role:main:map_ce_isp)).
  - A service, or a line by its prefix, that is known to be DS-Lite or IPIP (transix, v6 Connect, xpass, SoftBank) is refused as such.
positional: end_user_prefix
options:
  _input:
    description:
      - The name of the ISP or of its service as people write it, such as C(OCN光) or C(@nifty v6プラス). Case, width, spaces, punctuation and
        words that do not tell the service, such as C(光), do not matter. A reseller's name alone is refused.
      - V(ocn) (also plala) is OCN Virtual Connect, V(v6plus) (also jpne) is v6 Plus, V(biglobe) is the BIGLOBE IPv6 option, V(nuro) is NURO Hikari.
    type: str
    required: true
  end_user_prefix:
    description: The IPv6 prefix of the line, delegated or from router advertisements, with its length and without bits set after it.
    type: str
    required: true
seealso:
  - plugin: softwire.map.ce
    plugin_type: filter
  - plugin: softwire.map.from_hb46pp
    plugin_type: filter
  - name: "RFC 7597: MAP-E"
    description: The mapping rules are in section 5.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# Each result stands below its task, as YAML.
- name: The domain of a line
  ansible.builtin.debug:
    msg: "{{ 'v6 Plus' | softwire.map.isp_domain('240b:10:2a40:9600::/64') }}"
  # Result:
  # transport: map-e
  # interface_id: draft03
  # br_address: ['2404:9200:225:100::64']
  # dmr: null
  # rules:
  #   - ipv6_prefix: 240b:10::/31
  #     ipv4_prefix: 106.72.0.0/15
  #     ea_length: 25
  #     psid_offset: 4
  #     psid_length: 8
  #     psid: null
  #     fmr: false

- name: The IPv4 address of a line
  ansible.builtin.debug:
    msg: "{{ ('v6plus' | softwire.map.isp_domain(prefix) | softwire.map.ce(prefix)).ipv4_address }}"
  vars:
    prefix: 240b:10:2a40:9600::/64
  # Result:
  # 106.72.42.64
"""

RETURN = r"""
_value:
  description: A domain with one rule, with all its defaults filled in, as P(softwire.map.ce#filter) takes it.
  type: dict
"""

from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import isp as isp_utils
from ansible_collections.softwire.map.plugins.plugin_utils.filters import map_filter


@map_filter
def isp_domain(isp: Any, end_user_prefix: Any) -> dict[str, Any]:
    """The MAP domain of a Japanese ISP with the rule of this end-user IPv6 prefix."""
    return isp_utils.isp_domain(isp, end_user_prefix)


class FilterModule:
    def filters(self):
        return {"isp_domain": isp_domain}
