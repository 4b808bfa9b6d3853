# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every filter that takes a MAP domain says about it."""

    DOCUMENTATION = r"""
options:
  _input:
    description:
      - A MAP domain, as the inventory variable C(map_domain) holds it.
      - A key with the value V(null) counts as not set. Unknown keys are errors.
      - An error lists every fault of the domain. What is legal but odd, such as a BR address inside a rule, is a warning.
      - Integers may be given as strings of decimal digits, since templates make such strings.
    type: dict
    required: true
    suboptions:
      transport:
        description: How IPv4 crosses the IPv6 network, by encapsulation (MAP-E) or by translation (MAP-T).
        type: str
        choices: [map-e, map-t]
        required: true
      interface_id:
        description:
          - The layout of the interface identifier of MAP addresses.
          - V(draft03) is the one of draft-ietf-softwire-map-03, which Japanese ISPs use.
        type: str
        choices: [rfc7597, draft03]
        default: rfc7597
      br_address:
        description:
          - The IPv6 address of the border relay (BR), or a list of addresses; a CE uses the first.
          - Required for MAP-E, refused for MAP-T.
        type: raw
      dmr:
        description:
          - The IPv6 prefix of the default mapping rule (DMR), with a length of 32, 40, 48, 56, 64 or 96 bits.
          - It must not overlap the IPv6 prefix of a rule.
          - Required for MAP-T, refused for MAP-E.
        type: str
      rules:
        description: The mapping rules, at least one. Two rules must not overlap in their IPv4 prefixes,
          but for explicit PSIDs of one address.
        type: list
        elements: dict
        required: true
        suboptions:
          ipv6_prefix:
            description: The rule IPv6 prefix.
            type: str
            required: true
          ipv4_prefix:
            description: The rule IPv4 prefix.
            type: str
            required: true
          ea_length:
            description: The number of embedded address (EA) bits, 0 to 48.
            type: int
            required: true
          psid_offset:
            description:
              - The PSID offset, 0 to 15 bits. It leaves the lowest ports out of every port set.
              - The default is 6 with O(_input.interface_id=rfc7597) and 4 with O(_input.interface_id=draft03).
            type: int
          psid_length:
            description:
              - The PSID length, 0 to 16 bits.
              - Needed with O(_input.rules[].psid) only. Otherwise the EA bits give it, and a value that contradicts them is an error.
            type: int
          psid:
            description: The explicit PSID of the one CE of a rule with an O(_input.rules[].ea_length) of 0 and an IPv4 prefix of 32 bits.
            type: int
          fmr:
            description: Whether the rule is a forwarding mapping rule, by which CEs reach each other without the BR.
            type: bool
            default: false
seealso:
  - name: "RFC 7597: MAP-E"
    description: The mapping rules and the arithmetic are in section 5, the MAP address is in section 6.
    link: https://www.rfc-editor.org/rfc/rfc7597
  - name: "RFC 7599: MAP-T"
    description: The default mapping rule is in section 5.1.
    link: https://www.rfc-editor.org/rfc/rfc7599
"""
