# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MAP-T networks of every shape for the fuzz of the translator: a CE or a BR, and who speaks through it."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from rfc7597 import DefaultRule, Rule, is_martian
from rfc7915 import Edge, Relay, Translator

DMR_LENGTHS = (32, 40, 48, 56, 64, 96)  # RFC 6052 section 2.2
SHAPES = ("shared", "shared", "shared", "whole", "prefix", "explicit")
OFFSETS = (0, 4, 6, 6, 1, 9)
BLOCKS = (10, 45, 100, 172, 198, 203)  # the first bytes of the rules' IPv4 prefixes, so that they do not overlap


class End(NamedTuple):
    """Who sends or receives: a port of a CE, or of a server behind the DMR."""

    ipv4: int
    ipv6: int
    port: int
    rule: Rule | None  # of a CE

    @property
    def is_shared(self) -> bool:
        return self.rule is not None and self.rule.k > 0


def any_port(dice: random.Random, rule: Rule, psid: int) -> int:
    """A port of a port set, but not port 0 (RFC 7597 section 5.1)."""
    contiguous = 16 - rule.a - rule.k
    block = dice.randint(1, 2 ** rule.a - 1) if rule.a else 0
    return block << (16 - rule.a) | psid << contiguous | dice.randint(not block | psid, 2 ** contiguous - 1)


def rule_group(dice: random.Random, block: int, shape: str) -> list[dict]:
    """Rules of a shape in one /8: one, or several explicit PSIDs of an address; n + o is at most 64."""
    a = dice.choice(OFFSETS)
    r = 32 if shape == "explicit" else dice.randint(8, 31 if shape == "prefix" else 32)
    k = dice.randint(1, min(12, 15 - a)) if shape in ("shared", "explicit") else 0
    o = {"shared": 32 - r + k, "whole": 32 - r, "prefix": dice.randint(0, 31 - r) if r < 32 else 0, "explicit": 0}[shape]
    ipv4 = IPv4Network(((block << 24 | dice.getrandbits(24)) >> (32 - r) << (32 - r), r))
    psids = dice.sample(range(2 ** k), dice.randint(1, min(3, 2 ** k))) if shape == "explicit" else [None]
    fields = []
    for number, psid in enumerate(psids):
        n = dice.randint(20, 64 - o)
        ipv6 = (0x2400 + block << 4 | number) << 108 | dice.getrandbits(108)
        network = IPv6Network((ipv6 >> (128 - n) << (128 - n), n))
        fields.append({
            "ipv6_prefix": str(network), "ipv4_prefix": str(ipv4), "ea_length": o, "psid_offset": a, "psid_length": k, "psid": psid,
            "fmr": dice.random() < 0.6,
        })
    return fields


class Network:
    """A CE with FMRs, or a BR with rules.

    domains: as the product takes them, checked; a BR may have one of each interface id. A CE is that of the first rule of the first
    domain with the EA bits; its FMRs are the rules whose fmr is true.
    """

    def __init__(self, dice: random.Random):
        self.dice, self.is_edge, self.ipv6_mtu = dice, dice.random() < 0.5, dice.choice((1280, 1500, 9000))
        length = dice.choice(DMR_LENGTHS)
        prefix = (0x64FF9B << 96 | dice.getrandbits(96)) >> (128 - length) << (128 - length)
        self.dmr = str(IPv6Network((prefix & ~(0xFF << 56), length)))
        self.domains = [self.domain(BLOCKS[:3])]
        if not self.is_edge and dice.random() < 0.3:
            self.domains.append(self.domain(BLOCKS[3:]))
        rules = [(fields, Rule.of(fields, domain["interface_id"])) for domain in self.domains for fields in domain["rules"]]
        self.bmr = rules[0][1]
        self.ea_bits = dice.getrandbits(self.bmr.o)
        self.rules = [rule for fields, rule in rules if fields["fmr"] or not self.is_edge]
        self.embedded = DefaultRule(self.dmr)
        self.translator = self.oracle()

    def domain(self, blocks: tuple[int, ...]) -> dict:
        rules = []
        for block in blocks[:self.dice.randint(1, len(blocks))]:
            rules += rule_group(self.dice, block, self.dice.choice(SHAPES))
        form = self.dice.choice(("rfc7597", "draft03"))
        return {"transport": "map-t", "interface_id": form, "br_address": None, "dmr": self.dmr, "rules": rules}

    def oracle(self) -> Translator:
        """The oracle, which has seen no fragments yet."""
        if self.is_edge:
            return Edge(self.bmr, self.ea_bits, self.dmr, self.rules, self.ipv6_mtu)
        return Relay(self.rules, self.dmr, self.ipv6_mtu)

    def server(self) -> End:
        """Somebody behind the DMR."""
        while True:
            ipv4 = self.dice.getrandbits(32)
            if not is_martian(ipv4) and not (self.is_edge and (self.translator.owns(ipv4) or self.translator.rules.of(ipv4))):
                return End(ipv4, self.embedded.embed(ipv4), self.dice.choice((53, 80, 443, self.dice.getrandbits(16))), None)

    def customer(self, rule: Rule, ipv4: int | None = None) -> End:
        """A CE of a rule, with this address or any."""
        if ipv4 is None:
            ipv4 = rule.ipv4 | self.dice.getrandbits(32 - rule.r)
        if not rule.k:
            return End(ipv4, rule.map_address(ipv4), self.dice.getrandbits(16), rule)
        psid = self.dice.getrandbits(rule.k) if rule.psid is None else rule.psid
        return End(ipv4, rule.map_address(ipv4, psid), any_port(self.dice, rule, psid), rule)

    def pinging(self, near: End, far: End) -> tuple[End, End]:
        """The two with the identifier of an echo as their port: who has a port set takes it from there, and it says which CE is the other."""
        if not near.is_shared:
            return near._replace(port=far.port), far
        if far.is_shared and far.rule.psid is None and near.port >= 2 ** (16 - far.rule.a) * (far.rule.a > 0):
            far = far._replace(ipv6=far.rule.map_address(far.ipv4, far.rule.psid_of(near.port or 1)))
        return near, far._replace(port=near.port)

    def near(self) -> End:
        """The CE itself, or a server."""
        if not self.is_edge:
            return self.server()
        edge = self.translator
        ipv4 = edge.ipv4 | self.dice.getrandbits(edge.free)
        port = any_port(self.dice, self.bmr, edge.psid) if self.bmr.k else self.dice.getrandbits(16)
        return End(ipv4, self.bmr.map_address(ipv4, edge.psid), port, self.bmr)

    def far(self) -> End:
        """A CE of a rule or an FMR, or a CE's server."""
        if self.rules and (not self.is_edge or self.dice.random() < 0.6):
            return self.customer(self.dice.choice(self.rules))
        return self.server()
