# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What anybody on the line may send to the watcher: forged answers, nonsense, and too much of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import struct
import time
from collections import Counter
from pathlib import Path

import packets
import pytest
from dhcpv6_lab import run
from line_lab import Line
from namespaces import network_namespace

from ansible_collections.softwire.map.plugins.filter.dhcpv6_options import dhcpv6_options
from ansible_collections.softwire.map.plugins.module_utils.softwire import line_messages
from ansible_collections.softwire.map.plugins.module_utils.softwire.line import Line as Watcher

RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
MAPE, EVIL = (bytes.fromhex(dhcpv6_options({"transport": "map-e", "br_address": relay, "rules": [RULE]})[0]["data"])
              for relay in ("2001:db8:ffff::1", "2001:db8:bad::1"))
SERVERID, OTHERID, DUID = bytes.fromhex("00030001020000000001"), bytes.fromhex("00030001020000000002"), bytes.fromhex("0001000112345678020000000002")
ETH_P_IPV6 = 0x86DD
MTU = 9000  # room for a container that is too large
MUTATED = 20000


def option(code, body):
    return struct.pack("!HH", code, len(body)) + body


def reply(xid, *more, server=(SERVERID,)):
    return b"\7" + xid + b"".join(option(2, each) for each in server) + b"".join(more)


class Server:
    """Somebody on the line who hears the router's questions, and sends whatever frames he likes."""

    def __init__(self, line):
        for name in (line.server, line.client):
            run("ip", "-n", name, "link", "set", "eth0", "mtu", str(MTU))
        self.router, self.own = (re.search("fe80:[0-9a-f:]+", run("ip", "-n", name, "-6", "address", "show", "dev", "eth0", "scope", "link"))[0]
                                 for name in (line.client, line.server))
        self.mac = bytes.fromhex(json.loads(run("ip", "-n", line.client, "-json", "link", "show", "dev", "eth0"))[0]["address"].replace(":", ""))
        with network_namespace(f"/run/netns/{line.server}"):
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.wire.bind(("eth0", ETH_P_IPV6))
        self.wire.settimeout(100)

    def asked(self):
        """The transaction id of the router's next question."""
        while True:
            packet = self.wire.recv(1 << 16)
            if packet[6] == packets.UDP and packet[40:44] == struct.pack("!HH", 546, 547) and packet[48] == 11:
                assert packets.has_valid_checksum(packet) and packet[24:40] == socket.inet_pton(socket.AF_INET6, "ff02::1:2")
                return packet[49:52]

    def send(self, message, source=None, port=547, spoil=False, to=546):
        packet = packets.udp(source or self.own, self.router, port, to, message)
        if spoil:
            packet = packet[:-1] + bytes([packet[-1] ^ 1])
        while True:
            try:
                self.wire.sendto(packet, ("eth0", ETH_P_IPV6, 0, 0, self.mac))
                return
            except OSError:  # the device's queue is full
                time.sleep(0.01)


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_forged_answers_are_ignored_and_each_kind_is_told_once(line):
    server = Server(line)
    line.watch()
    xid = server.asked()
    evil = option(94, EVIL)
    forged = {
        "not from a link-local address": lambda: server.send(reply(xid, evil), source="2001:db8:6::1"),
        "not from a server's port": lambda: server.send(reply(xid, evil), port=5470),
        "wrong length or checksum": lambda: server.send(reply(xid, evil), spoil=True),
        "a Reply neither to our request": lambda: server.send(reply(bytes(3), evil)),
        "not exactly one Server Identifier": lambda: server.send(reply(xid, evil, server=(SERVERID, OTHERID))),
        "not exactly one Server Identifier (": lambda: server.send(reply(xid, evil, server=())),
        "a Client Identifier other": lambda: server.send(reply(xid, evil, option(1, DUID))),
        "a Status Code other": lambda: server.send(reply(xid, evil, option(13, b"\0\1"))),
        "an option that ends too early": lambda: server.send(reply(xid, evil)[:-1]),
    }
    for send in forged.values():
        send()
        send()
    server.send(reply(xid, evil), to=547)
    found = line.until(lambda found: all(any(why in each["why"] for each in found["refused"]) for why in forged))
    assert found["answers"] == [] and found["prefixes"] == [] and found["client"] is None
    # One that is right but for the size of a container, then what is right, to the same question: the first one ends it.
    server.send(reply(xid, option(94, bytes(4097)), option(95, MAPE)))
    found = line.until(lambda found: found["answers"])
    assert found["answers"][0]["containers"] == {"95": MAPE.hex()}
    server.send(reply(xid, evil))
    line.until(lambda found: "a container 94 of more than 4096 bytes: ignored whole" in [each["why"] for each in found["refused"]])
    told = line.watcher_log.read_text().splitlines()
    assert len(told) == len(set(told)) == len(line.line()["refused"]) and all(text.startswith("softwire: ignored: ") for text in told)
    assert line.line()["answers"][0]["containers"] == {"95": MAPE.hex()}


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))[1])


def spent(pid):
    """The processor's seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_flood_of_answers_costs_little(line):
    server = Server(line)
    line.watch()
    server.asked()
    pid = line.watcher_pid
    generator = random.Random(8415)
    servers = [generator.randbytes(12) for _number in range(5000)]

    def flood(part):
        for duid in part:
            server.send(reply(b"abc", option(1, DUID), option(94, duid), server=(duid,)))

    flood(servers[:500])
    line.until(lambda found: found["client"] == DUID.hex())
    before, cost, begun = memory(pid), spent(pid), time.monotonic()
    flood(servers)
    assert len(line.line()["answers"]) <= 8
    assert memory(pid) - before < 2048  # kilobytes
    # 10 messages a second, and 50 at once, whatever comes.
    taken = time.monotonic() - begun
    assert spent(pid) - cost < 0.2 + 0.1 * taken
    # It is still there for the right one.
    os.kill(pid, signal.SIGHUP)
    while not any(each["from"] == "asked" for each in line.line()["answers"]):
        server.send(reply(server.asked(), option(94, MAPE)))
    assert line.watcher.poll() is None and line.watcher_log.read_text() == ""


def mutated(generator, message):
    found = bytearray(message)
    for _change in range(generator.choice((1, 1, 2, 4, 16))):
        at, kind = generator.randrange(4, max(5, len(found))), generator.random()
        if kind < 0.6 and at < len(found):
            found[at] = generator.choice((0, 1, 255, generator.randrange(256)))
        elif kind < 0.8:
            del found[at:at + generator.randrange(1, 9)]
        else:
            found[at:at] = generator.randbytes(generator.randrange(1, 40))
    return bytes(found)


class Fed:
    """A wire that has one packet."""

    def __init__(self, packet):
        self.packets = [packet]

    def read(self):
        return line_messages.received(self.packets.pop(), True) if self.packets else None


def test_mutated_messages_do_no_harm(tmp_path, capsys):
    """Every part of the watcher behind its socket: no exception, no growth, and a file that is JSON of a bounded size."""
    generator = random.Random(7598)
    watcher = Watcher("absent", tmp_path / "line.json", [])
    ia = option(25, struct.pack("!III", 1, 50, 80) + option(26, struct.pack("!IIB", 100, 200, 56) + bytes.fromhex("20010db8001234000000000000000000")))
    taken = Counter()
    try:
        for number in range(MUTATED):
            now = time.monotonic()
            if watcher.asking.xid is None:
                watcher.asking.begins = now
                watcher.asking.step(now, watcher.client)
            xid = watcher.asking.xid if number % 2 else b"abc"
            sound = reply(xid, option(1, DUID), option(94, MAPE), option(95, MAPE), option(111, b"\0\x5f\0\x5e"), option(32, b"\0\0\x0e\x10"), ia)
            packet = packets.udp("fe80::1", "fe80::2", 547, 546, mutated(generator, sound))
            watcher.wire, watcher.tokens = Fed(packet if number % 10 else mutated(generator, packet)), 9.0
            watcher._hear_wire()
            watcher.prefixes.expire(now)
            if number % 100 == 0:
                watcher.wrote = 0.0
                watcher._write(now)
                watcher._write(now + 1)
                assert (tmp_path / "line.json").stat().st_size < 100000
                json.loads((tmp_path / "line.json").read_text())
            taken.update(answer.source for answer in watcher.answers.all([]))
    finally:
        watcher.wire = None
        watcher.close()
    assert taken["asked"] and taken["client"] and watcher.prefixes.known(now)  # some of them were right in what matters
    assert len(watcher.refusals.kept) == len(capsys.readouterr().err.splitlines()) <= 20
    assert len(watcher.prefixes.replies) <= 16 and len(watcher.answers.kept) <= 8
