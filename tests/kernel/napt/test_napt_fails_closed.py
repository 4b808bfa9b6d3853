# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever becomes of the rules: only what has the customer edge's own address and a port of its set gets into the softwire."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import struct
import subprocess
import time

import packets
import pytest
from napt_cases import CASES
from napt_lab import HOST, SERVER, STRANGER, Packet, drain, echo_packet, error_packet, ip_packet, syn_packet, udp_packet

NOBODY = 9
# <linux/if_tun.h>
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
TAKEN_AWAY = {
    "everything": ("nft", "flush", "ruleset"),
    "the table": ("nft", "delete", "table", "ip", "softwire_ce_napt"),
    "source NAT": ("nft", "flush", "chain", "ip", "softwire_ce_napt", "source_nat"),
    "rules of others before ours": (
        "nft", "add table ip other; add chain ip other nat { type nat hook postrouting priority 90; policy accept; }; "
        "add rule ip other nat oifname ce-main meta l4proto { tcp, udp, icmp } snat to 192.0.2.18:1-65535"),
}


def is_ours(case, packet):
    """Whether a packet may leave."""
    def is_own(address):
        return ipaddress.ip_address(address) in ipaddress.ip_network(case.prefix or case.address)

    if not is_own(packet.src):
        return False
    if packet.quoted:
        return is_own(packet.quoted.dst) and case.owns(packet.quoted.dport)
    return packet.later or case.full or case.owns(packet.sport)


def traffic(lab, case, count):
    """Packets of a host, of strangers and of who poses as the customer edge, from ports of the set, indexes and others."""
    low, high = case.index["pool"]
    sports = [low, low + 1, high, min(case.pool()), max(case.pool()), *case.foreign()[:3], 40000]
    for _round in range(count):
        for sport in sports:
            for source in (HOST, STRANGER, case.address):
                lab.send("client", udp_packet(source, sport, SERVER, NOBODY, b"datagram"))
                lab.send("client", udp_packet(source, sport, SERVER, NOBODY, b"unsummed", summed=False))
                lab.send("client", syn_packet(source, sport, SERVER, 80))
                lab.send("client", echo_packet(source, SERVER, sport))
                lab.send("client", error_packet(source, SERVER, 3, 3, udp_packet(SERVER, NOBODY, source, sport)))
                for piece in packets.fragments(udp_packet(source, sport, SERVER, NOBODY, bytes(3000)), [1480, 1480], sport):
                    lab.send("client", piece)


@pytest.mark.parametrize("what", TAKEN_AWAY)
def test_nothing_foreign_leaves_whatever_happens_to_the_rules(lab, case, ruleset, what):
    traffic(lab, case, 2)
    assert drain(lab.outside, 0.05)
    try:
        lab.run("napt", *TAKEN_AWAY[what])
        traffic(lab, case, 4)
        lab.run("napt", "conntrack", "-F")
        traffic(lab, case, 4)
        left = drain(lab.outside, 0.05)
    finally:
        lab.run("napt", "nft", "flush", "ruleset")
        lab.load(ruleset)
    assert [(packet.src, packet.protocol, packet.sport) for packet in left if packet.dst == SERVER and not is_ours(case, packet)] == []


FLUSHES = 1000


@pytest.mark.parametrize("case", ["ocn_a6_k6"], indirect=True, scope="module")
def test_nothing_foreign_leaves_in_a_thousand_flushes(lab, case, ruleset):
    """The rules go and come again under traffic, as where somebody flushes and the router puts right: the programs stay."""
    again = f"for i in $(seq {FLUSHES}); do nft flush ruleset && nft -f {ruleset} || exit 1; done"
    left = []
    dropped = lab.counters()["out_napt_dropped_not_own_address"]
    with subprocess.Popen(["ip", "netns", "exec", lab.names["napt"], "sh", "-c", again]) as flushing:
        while flushing.poll() is None:
            traffic(lab, case, 1)
            left += drain(lab.outside)
    left += drain(lab.outside, 0.05)
    assert flushing.returncode == 0
    assert len([packet for packet in left if is_ours(case, packet)]) > FLUSHES
    assert lab.counters()["out_napt_dropped_not_own_address"] > dropped, "the rules were always there"
    assert [(packet.src, packet.protocol, packet.sport) for packet in left if packet.dst == SERVER and not is_ours(case, packet)] == []


def test_without_rules_only_what_was_right_already_leaves(lab, case, ruleset):
    """The program exchanges an index for its port, whoever has put it there, and answers come back to the same."""
    index = next(iter(case.index["ranges"]), [case.index["pool"][0]])[0]
    lab.run("napt", "nft", "flush", "ruleset")
    try:
        lab.send("client", udp_packet(HOST, index, SERVER, NOBODY, b"private"))
        lab.send("client", udp_packet(case.address, index, SERVER, NOBODY, b"right"))
        seen = [packet for packet in drain(lab.outside, 0.05) if packet.protocol == packets.UDP]
    finally:
        lab.load(ruleset)
    assert [(packet.payload, packet.src) for packet in seen] == [(b"right", case.address)]
    assert seen[0].ok and is_ours(case, seen[0])


class Tunnel:
    """A device without a link layer in the NAPT's namespace, as a tunnel is: what leaves is read, what is written comes in."""

    def __init__(self, lab, case, device="tun0"):
        with lab.inside_of("napt"):
            self.file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.file, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
        lab.ip("napt", "link set %s mtu 1460 up" % device, "route add %s dev %s" % (SERVER, device))
        self.lab, self.attached = lab, lab.bpf
        lab.detach()
        lab.attach(case.programs(lab.instance, device))

    def close(self):
        self.lab.detach()
        self.lab.attach(self.attached)
        os.close(self.file)

    def send(self, packet):
        os.write(self.file, packet)

    def received(self):
        time.sleep(0.05)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(os.read(self.file, 65535))
        return [Packet(data) for data in found if data[0] >> 4 == 4]


@pytest.fixture
def tunnel(lab, case):
    made = Tunnel(lab, case)
    yield made
    made.close()


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name].index["rewrite"]], indirect=True, scope="module")
def test_a_device_without_a_link_layer(lab, case, ruleset, tunnel):
    """Without rules, so that the programs alone decide: whole packets, fragments that the stack cuts, errors, both ways."""
    index, port, _length = case.index["ranges"][-1]
    lab.run("napt", "nft", "flush", "ruleset")
    lab.ip("client", "address add %s/32 dev eth0" % case.address)
    lab.ip("napt", "rule del pref 30000", "route add %s dev lan0" % case.address)
    try:
        for protocol, packet in enumerate((udp_packet(case.address, index, SERVER, NOBODY, b"datagram"), syn_packet(case.address, index, SERVER, 80),
                                           echo_packet(case.address, SERVER, index))):
            lab.send("client", packet)
            (seen,) = tunnel.received()
            assert (seen.sport, seen.ok) == (port, True), protocol
        for sport, leaves in ((index, True), (case.foreign()[0], False)):
            lab.send("client", udp_packet(case.address, sport, SERVER, NOBODY, bytes(1440 - 28)))
            lab.send("client", ip_packet(case.address, SERVER, packets.UDP, udp_packet(case.address, sport, SERVER, NOBODY, bytes(1464))[20:]))
            seen = tunnel.received()
            assert [packet.sport for packet in seen if not packet.later] == ([port] * 2 if leaves else [])
            assert len([packet for packet in seen if packet.later]) == (1 if leaves else 0)
        drain(lab.inside)
        tunnel.send(udp_packet(SERVER, NOBODY, case.address, port, b"answer"))
        tunnel.send(error_packet(SERVER, case.address, 3, 3, udp_packet(case.address, port, SERVER, NOBODY, b"question")))
        came = [packet for packet in drain(lab.inside, 0.05) if packet.src == SERVER]
        assert [packet.dport for packet in came if packet.protocol == packets.UDP] == [index]
        assert [packet.quoted.sport for packet in came if packet.quoted] == [index]
        assert all(packet.ok for packet in came)
    finally:
        lab.ip("client", "address del %s/32 dev eth0" % case.address)
        lab.run("napt", "nft", "flush", "ruleset")
        lab.load(ruleset)
        lab.ip("napt", "route del %s dev lan0" % case.address, "rule add pref 30000 iif ce-main to %s blackhole" % case.own)
