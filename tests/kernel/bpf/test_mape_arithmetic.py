# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The MAP-E programs' arithmetic is that of module_utils/mapping/arithmetic.py, for rules of every shape."""

from __future__ import annotations

import random

import pytest
from domains import BR, FAR, ce_of, rule, tunnel_domain
from kernel import PASS
from packets import echo, tcp, udp
from test_mapt_arithmetic import any_rule


@pytest.mark.parametrize("form", ["rfc7597", "draft03"])
def test_every_rule_and_port(tunnel, form):
    dice = random.Random(7597)
    shapes = set()
    for _number in range(300):
        fields = tunnel_domain(any_rule(dice), interface_id=form)
        chosen = fields["rules"][0]
        tunnel.configure(fields)
        for _ce in range(3):
            ce = ce_of(fields, dice.getrandbits(chosen["ea_length"]) if chosen["ea_length"] else 0)
            low, high = dice.choice(ce["port_ranges"])
            port = dice.randint(max(low, 1), high) if high else 0
            address = ce["ipv4_address"] or ce["ipv4_prefix"].split("/", maxsplit=1)[0]
            if not port or int(address.split(".")[0]) in (0, 127, *range(224, 256)):
                continue  # nobody's: port 0, a martian
            kind = dice.choice([udp, tcp, echo])
            assert tunnel.run_in(ce["map_address"], BR, kind(address, FAR, port, 53)) == PASS, (chosen, ce)
            outer = tunnel.run_out(kind(FAR, address, 9 if kind is echo else 53, port))
            assert outer == (BR, ce["map_address"], 0, 64), (chosen, ce)
            shapes.add((bool(ce["psid_length"]), bool(ce["ipv4_address"]), chosen["psid_offset"] == 0))
    assert len(shapes) == 6


def test_every_port_of_an_address(tunnel):
    """Each port passes from exactly one CE, but for port 0 and the block A = 0, which pass from none."""
    fields = tunnel_domain(rule("2001:db8::/40", "192.0.2.0/24", 10, 4))
    ces = [ce_of(fields, 18 << 2 | psid) for psid in range(4)]
    tunnel.configure(fields)
    for port in range(0, 65536, 61):
        owners = [ce for ce in ces if any(low <= port <= high for low, high in ce["port_ranges"])]
        assert [ce for ce in ces if tunnel.run_in(ce["map_address"], BR, udp("192.0.2.18", FAR, port, 53)) == PASS] == owners
        assert len(owners) == (port >= 4096)
        outer = tunnel.run_out(udp(FAR, "192.0.2.18", 53, port))
        assert (outer[1] if outer else None) == (owners[0]["map_address"] if owners else None)
