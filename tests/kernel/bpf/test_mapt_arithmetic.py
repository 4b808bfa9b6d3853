# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs' arithmetic is that of module_utils/mapping/arithmetic.py, for rules of every shape."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network

import pytest
from domains import SERVER, ce_of, domain, internal, rule
from kernel import PASS
from packets import destination_of, echo, has_valid_checksum, source_of, tcp, udp


def any_rule(dice):
    """A rule with a shared, a whole or a prefix's address; n + o at most 64."""
    r = dice.choice([0, dice.randint(1, 31), 32])
    k = dice.choice([0, dice.randint(1, 16)])
    o = 32 - r + k if k or r == 32 else dice.randint(0, 32 - r)
    n = dice.randint(1, 64 - o)
    a = dice.choice([0, dice.randint(0, min(15, 16 - k))])
    ipv6 = IPv6Network((dice.getrandbits(128) >> (128 - n) << (128 - n), n))
    ipv4 = IPv4Network((dice.getrandbits(32) >> (32 - r) << (32 - r), r))
    return rule(str(ipv6), str(ipv4), o, a)


@pytest.mark.parametrize("form", ["rfc7597", "draft03"])
def test_every_rule_and_port(relay, form):
    dice = random.Random(7599)
    shapes = set()
    for _number in range(300):
        fields = domain(any_rule(dice), interface_id=form)
        chosen = fields["rules"][0]
        relay.configure(fields)
        for _ce in range(3):
            ce = ce_of(fields, dice.getrandbits(chosen["ea_length"]) if chosen["ea_length"] else 0)
            low, high = dice.choice(ce["port_ranges"])
            port = dice.randint(max(low, 1), high) if high else 0
            if not port:  # a = 0, k = 16, PSID 0: port 0 alone
                continue
            kind = dice.choice([udp, tcp, echo])
            inside = internal(ce["ipv4_address"] or ce["ipv4_prefix"].split("/", maxsplit=1)[0])
            verdict, packet = relay.run("mapt_in", kind(ce["map_address"], SERVER, port, 53))
            assert (verdict, source_of(packet)) == (PASS, inside), (chosen, ce)
            assert has_valid_checksum(packet)
            verdict, packet = relay.run("mapt_out", kind(SERVER, inside, 9 if kind is echo else 53, port))
            assert (verdict, destination_of(packet)) == (PASS, ce["map_address"]), (chosen, ce)
            assert has_valid_checksum(packet)
            shapes.add((bool(ce["psid_length"]), bool(ce["ipv4_address"]), chosen["psid_offset"] == 0))
    assert len(shapes) == 6


def test_every_port_of_an_address(relay):
    """Each port passes from exactly one CE, but for port 0 and the block A = 0, which pass from none."""
    fields = domain(rule("2001:db8::/40", "192.0.2.0/24", 10, 4))
    ces = [ce_of(fields, 18 << 2 | psid) for psid in range(4)]
    relay.configure(fields)
    for port in range(0, 65536, 61):
        owners = [ce for ce in ces if any(low <= port <= high for low, high in ce["port_ranges"])]
        passing = [ce for ce in ces if relay.run("mapt_in", udp(ce["map_address"], SERVER, port, 53))[0] == PASS]
        assert passing == owners
        assert len(owners) == (port >= 4096)
