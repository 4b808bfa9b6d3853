# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The translator's programs give the oracle's answers to random packets, in networks of every shape.

SOFTWIRE_FUZZ_NETWORKS=500 tries more networks than usual, SOFTWIRE_FUZZ_SEED=17 others; a failure names the seed of its network.
"""

from __future__ import annotations

import errno
import os
import random
import struct

import pytest
from domains import ce_of
from fuzz import Case, Fuzz
from ip_headers import ICMP, ICMPV6
from kernel import IPV4, IPV6, MACS, REDIRECT, SHOT
from random_networks import Network

NETWORKS = int(os.environ.get("SOFTWIRE_FUZZ_NETWORKS", "25"))
FIRST_SEED = int(os.environ.get("SOFTWIRE_FUZZ_SEED", "0"))
PACKETS = 400  # of a network; a CE may begin 64 datagrams by a later fragment, which the oracle does not count
PROGRAMS = {(True, True): "ce_out", (True, False): "ce_in", (False, True): "br_out", (False, False): "br_in"}


def has_extensions(packet: bytes) -> bool:
    """Whether it is an error whose extensions have moved (RFC 4884): a longer tail makes the kernel forget skb->csum, but not the test run."""
    if packet[0] >> 4 == 6:
        return packet[6] == ICMPV6 and packet[40] in (1, 3) and packet[44] > 0
    return packet[9] == ICMP and packet[20] in (3, 11) and packet[25] > 0


class Tried:
    """The programs with the configuration of a network, and what they have counted."""

    def __init__(self, translator, network: Network):
        self.translator, self.is_edge = translator, network.is_edge
        if network.is_edge:
            translator.configure_edge(ce_of(network.domains[0], network.ea_bits), network.ipv6_mtu)
        else:
            translator.configure_relay(*network.domains, ipv6_mtu=network.ipv6_mtu)
        self.runs, self.dropped = 0, {}

    def run(self, case: Case) -> bytes | str:
        """What the program makes of a packet: one of the other version, or the reason why it dropped it."""
        if len(case.packet) < (20 if case.into_softwire else 40):
            return "tiny"  # the kernel runs no program on it
        self.tell_length(case)
        program, frame = PROGRAMS[self.is_edge, case.into_softwire], MACS + (IPV4 if case.into_softwire else IPV6) + case.packet
        is_summed = True
        try:
            verdict, after = self.translator.run_frame(program, frame)
        except OSError as error:
            if error.errno != errno.EBADMSG:
                raise
            is_summed = False
            verdict, after = self.translator.run_frame(program, frame, checks_sum=False)
        self.runs += 1 if is_summed else 2
        if verdict == SHOT:
            before, self.dropped = self.dropped, {name: value for name, value in self.translator.counted().items() if "_dropped_" in name}
            (name,) = (name for name, value in self.dropped.items() if value != before.get(name, 0))
            direction, reason = name.split("_dropped_")
            assert direction == ("out" if case.into_softwire else "in")
            return reason
        assert verdict == REDIRECT
        length = struct.unpack_from("!H", after, 4)[0] + 40 if case.into_softwire else struct.unpack_from("!H", after, 2)[0]
        if not is_summed and not has_extensions(after):
            return "wrong skb->csum"
        return after[:length]  # behind it is the padding of a packet that was longer than it said

    def tell_length(self, case: Case) -> None:
        """Does what whole_length does on the route: it remembers the last echo before the stack cuts it up."""
        value = bytes(24)
        if case.datagram_length is not None:
            destination, protocol = (case.packet[16:20], ICMP) if case.into_softwire else (case.packet[24:40], ICMPV6)
            value = struct.pack("=16sHBBI", destination, case.datagram_length, protocol, 0, 0)
        self.translator.maps["whole"].update(bytes(4), value * self.translator.cpus, self.translator.cpus)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + NETWORKS))
def test_the_programs_give_the_oracles_answers(translator, seed):
    """A packet without mutations is dropped for the same reason, too: of others several may be true."""
    dice = random.Random(seed)
    network = Network(dice)
    tried, oracle = Tried(translator, network), network.oracle()
    wrong, count = [], 0
    for case in Fuzz(network, dice).cases(PACKETS):
        made = tried.run(case)
        if case.into_softwire:
            expected = oracle.to_ipv6(case.packet, case.datagram_length)
        else:
            identification = struct.unpack_from("!H", made, 4)[0] if isinstance(made, bytes) else 0
            expected = oracle.to_ipv4(case.packet, case.datagram_length, identification)
        if made != expected and not (case.is_mutated and isinstance(made, str) and isinstance(expected, str)):
            wrong.append((case, expected, made))
        count += 1
    assert sum(translator.counted().values()) == tried.runs
    assert not wrong, f"{len(wrong)} of {count}, the first: " + told(network, *wrong[0])


def told(network: Network, case: Case, expected: bytes | str, made: bytes | str) -> str:
    """What somebody needs who looks for the fault."""
    lines = [f"{PROGRAMS[network.is_edge, case.into_softwire]}, fault {case.fault}, mutated {case.is_mutated}", f"packet   {case.packet.hex(' ', 4)}"]
    for name, answer in (("expected", expected), ("made", made)):
        lines.append(f"{name:8} {answer if isinstance(answer, str) else answer.hex(' ', 4)}")
    if isinstance(expected, bytes) and isinstance(made, bytes):
        lines.append(f"lengths {len(expected)} and {len(made)}, differ at {[at for at, pair in enumerate(zip(expected, made)) if len(set(pair)) > 1][:16]}")
    return "\n".join(lines)
