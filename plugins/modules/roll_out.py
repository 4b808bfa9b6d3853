#!/usr/bin/python
# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: roll_out
short_description: Judge a batch of a roll-out
version_added: 0.1.0
author:
  - softwire.map contributors (@softwire-map)
description:
  - Ends a roll-out where more of a batch than a limit has failed, was lost in the middle or is not healthy afterwards, tells what became
    of every router, and records those that got another generation. The playbook C(softwire.map.site) calls it; it reads what that
    playbook and the roles register.
  - All of it is an action on the controller, one call for the batch, so give the task C(run_once).
options:
  step:
    description:
      - V(begin) at the beginning of a batch, registered as C(_map_ce_batch) or C(_map_br_batch), V(judge) after the deployment and V(end) after the last task
        of the batch, which also sums up where the batch is the last one of the play.
    type: str
    choices: [begin, judge, end]
    required: true
  role:
    description: What the routers of the batch are, customer edges or border relays.
    type: str
    choices: [ce, br]
    default: ce
  max_fail_percentage:
    description: How much of the batch may have failed, be lost or not healthy, in per cent. With more of it the task fails.
    type: float
    default: 0
  earlier:
    description: Border relays of an earlier play, to be summed up with those of this one where they took part.
    type: list
    elements: str
    default: []
  record:
    description:
      - File on the controller, its name ends in C(.yml), C(.yaml) or C(.json). An inventory of the group C(map_rolled_out), which
        the playbook C(softwire.map.rollback) takes. Each host in it has C(map_generation), the generation that ran before.
      - A file that exists is added to, and a host that is in it already stays as it is. Routers without a generation before are left out.
    type: path
attributes:
  check_mode:
    support: full
    description: Records nothing.
  diff_mode:
    support: none
    description: The record is no part of any difference.
seealso:
  - module: softwire.map.deploy
  - name: "RFC 7597: MAP-E"
    description: Mapping of Address and Port with Encapsulation.
    link: https://www.rfc-editor.org/rfc/rfc7597
"""

EXAMPLES = r"""
# A part of the result stands below the task. The rest of a batch is in the playbook site.yml.
- name: Begin a batch
  softwire.map.roll_out:
    step: begin
  run_once: true
  register: _map_ce_batch
  # Result:
  # changed: false
  # batch: [ce1]
"""

RETURN = r"""
batch:
  description: The hosts of the batch.
  type: list
  elements: str
  returned: with O(step=begin)
  sample: [ce1, ce2]
summary:
  description: How many routers are in which state.
  type: str
  returned: at the end of the last batch, or where the roll-out ends
  sample: 17 changed, 1 ok, 1 failed, 1 not reached
table:
  description:
    - The lines of a table - router, its state, what it runs now or returns to by itself, and the reason.
    - The states are V(changed), V(ok), V(failed), V(lost) (could not be reached any more after its deployment had begun), V(unhealthy),
      V(not reached) (off from the beginning) and V(untouched).
  type: list
  elements: str
  returned: with RV(summary), where a router is neither V(changed) nor V(ok)
  sample:
    - "router  state      now                              reason"
    - "ce1     changed    generation 0002-51c0e77a90 runs"
    - "ce2     untouched  as before                        its batch has not begun"
"""
