# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of a MAP-E mesh give the oracle's answers to random packets, in domains of every shape.

SOFTWIRE_FUZZ_NETWORKS and SOFTWIRE_FUZZ_SEED as in test_translate_fuzz.py; a failure names the seed of its network.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

import pytest
from domains import ce_of
from fuzz import ECHO, Fuzz
from kernel import PASS
from mesh import MeshEdge
from random_networks import BLOCKS, End, Network, any_port
from rfc7597 import TunnelRule

NETWORKS = int(os.environ.get("SOFTWIRE_FUZZ_NETWORKS", "25"))
FIRST_SEED = int(os.environ.get("SOFTWIRE_FUZZ_SEED", "0"))
PACKETS = 400  # of a network; a CE may begin 64 datagrams by a later fragment, which the oracle does not count
RELAYS = [0x20010DB8FFFF << 80 | number for number in (1, 2, 3)]
FAULTS = ("near", "near_port", "far", "far_port", "spoofed", "martian", "portless", "tiny", "kind", "destination", "relay", "itself")
ERROR_FAULTS = ("near", "near_port", "far_port", "spoofed", "kind", "quote", "quoted_error", "quoted_fragment", "short", "fragment")


@dataclass
class TunnelCase:
    """A packet into the tunnel, or out of it between outer addresses; and what a failing test says of it."""

    into_softwire: bool
    packet: bytes
    source: int
    destination: int
    fault: str | None
    is_mutated: bool = False


class ToRelay:
    """What carries a server's packets: the BR, where MAP-T has the DMR."""

    @staticmethod
    def embed(_ipv4: int) -> int:
        return RELAYS[0]


class MeshNetwork(Network):
    """A MAP-E customer edge with FMRs, and who speaks with it."""

    def __init__(self, dice: random.Random):
        self.dice, self.is_edge, self.dmr = dice, True, None
        self.fields = {**self.domain(BLOCKS[:3]), "transport": "map-e", "br_address": [str(IPv6Address(relay)) for relay in RELAYS]}
        self.sends = dice.random() < 0.8
        rules = [TunnelRule.of(rule, self.fields["interface_id"]) for rule in self.fields["rules"]]
        self.bmr, self.ea_bits = rules[0], dice.getrandbits(rules[0].o)
        self.rules = [rule for rule, fields in zip(rules, self.fields["rules"]) if fields["fmr"]]
        self.embedded = ToRelay()
        self.translator = self.oracle()

    def oracle(self) -> MeshEdge:
        return MeshEdge(self.bmr, self.ea_bits, self.rules, RELAYS, self.sends)

    def itself(self) -> End:
        """Another port of the CE, or its own address with another's."""
        own = self.near()
        if self.bmr.k and self.dice.random() < 0.5:
            return own._replace(port=any_port(self.dice, self.bmr, self.dice.getrandbits(self.bmr.k)))
        return own


class MeshFuzz(Fuzz):
    network: MeshNetwork

    def tunnelled(self, count: int) -> Iterator[TunnelCase]:
        """`count` packets or a few more: the fragments of a datagram come together."""
        while count > 0:
            for case in self.conversation():
                if self.chance(4):
                    case = replace(case, packet=self.mutated(case.packet), is_mutated=True)
                count -= 1
                yield case

    def conversation(self) -> Iterator[TunnelCase]:
        """A packet, or the fragments of one or two datagrams."""
        dice, network, into_softwire, is_error = self.dice, self.network, self.chance(2), self.chance(3)
        fault = self.fault = dice.choice(ERROR_FAULTS if is_error else FAULTS) if self.chance(5) else None
        near, far = self.ends()
        protocol = self.protocol(4, near, far)
        if protocol == ECHO:
            near, far = network.pinging(near, far)
        if fault == "itself":
            far = network.itself()
        if not into_softwire and self.chance(4):  # as a customer edge that does not mesh sends
            far = far._replace(ipv6=dice.choice(RELAYS))
        identification = dice.choice((dice.getrandbits(3), dice.getrandbits(16)))
        is_divided = not is_error and self.chance(4)
        for _time in range(2 if is_divided and far.rule and far.is_shared and self.chance(3) else 1):
            source, destination = (near, far) if into_softwire else (far, near)
            if is_error:
                made = self.error(4, source, destination, protocol)
            elif is_divided:
                made = self.parts(4, source, destination, protocol, identification)
            else:
                made = [(self.packet(4, source, destination, *self.upper(4, source, destination, protocol)), None)]
            outer = far.ipv6, self.outer_destination(near)
            for packet, _length in made:
                yield TunnelCase(into_softwire, packet, *outer, fault)
            if far.rule:  # and somebody with the same address
                far = network.customer(far.rule, far.ipv4)

    def outer_destination(self, near: End) -> int:
        if self.fault == "destination":
            return near.ipv6 ^ 1 << self.dice.randrange(128)
        return near.ipv6

    def error_ends(self, version, source, destination, fault):
        """Who sends an error: the receiver of what it quotes, or in one of three somebody else."""
        if fault == "quote":
            source = self.network.far()
        elif self.chance(3):
            source = self.network.server()
        return source, destination


def answer(tunnel, case: TunnelCase, before: dict[str, int]) -> tuple[int | str, dict[str, int]]:
    """What the program says: the outer destination, "passed", or why it dropped the packet; and the counters."""
    if case.into_softwire:
        outer = tunnel.run_out(case.packet)
        if outer:
            assert outer[2:] == (case.packet[1], 64)
            return int(IPv6Address(outer[1])), before
    elif tunnel.run_in(str(IPv6Address(case.source)), str(IPv6Address(case.destination)), case.packet) == PASS:
        return "passed", before
    after = {name: value for name, value in tunnel.counted().items() if "_dropped_" in name}
    (name,) = (name for name, value in after.items() if value != before.get(name, 0))
    direction, reason = name.split("_dropped_")
    assert direction == ("out" if case.into_softwire else "in")
    return reason, after


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_the_programs_give_the_oracles_answers(tunnel, seed):
    """A packet without mutations is dropped for the same reason, too: of others several may be true."""
    dice = random.Random(seed)
    network = MeshNetwork(dice)
    fmrs = [rule for rule in network.fields["rules"] if rule["fmr"]]
    ce = ce_of(network.fields, network.ea_bits)
    tunnel.configure_edge(ce, fmrs, network.fields["br_address"], network.sends)
    oracle = network.oracle()
    assert ce["map_address"] == str(IPv6Address(oracle.address))
    wrong, count, counters = [], 0, {}
    for case in MeshFuzz(network, dice).tunnelled(PACKETS):
        if len(case.packet) < 20:
            continue  # the kernel runs no program on it
        made, counters = answer(tunnel, case, counters)
        expected = oracle.out(case.packet) if case.into_softwire else oracle.into(case.source, case.destination, case.packet)
        are_drops = all(isinstance(said, str) and said != "passed" for said in (made, expected))
        if made != expected and not (case.is_mutated and are_drops):
            wrong.append((case, expected, made))
        count += 1
    assert sum(tunnel.counted().values()) == count
    assert not wrong, f"{len(wrong)} of {count}, the first: {wrong[0]}"
