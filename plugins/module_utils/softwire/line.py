# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches the line of a customer edge: which prefixes it gives, and which rules its DHCPv6 servers hand out. softwire-line@.service runs it.

It needs CAP_NET_RAW and no other right, works beside any DHCPv6 client, decides nothing, and writes one file (line_file.py). What anybody
on the line may send ends here. Nothing starts it yet; "systemctl start softwire-line@ce" does, and "reload" lets it ask at once.

The kernel tells of prefixes, whichever client has got them (line_kernel.py, line_prefixes.py). Two ways lead to rules: its own question
(line_messages.py, line_asking.py), and the Replies to the router's client on the same packet socket (line_wire.py). Whoever sees
the client's messages can forge the latter, since its transaction ids are not known here. Others tell by files (line_drop.py).
"""

from __future__ import annotations

import json
import random
import select
import signal
import socket
import time

from . import line_drop, line_file, line_kernel, line_messages, paths
from .commands import StepError, go_on_as, report
from .line_asking import Asking
from .line_kernel import INFINITY
from .line_prefixes import REPLY, Known, Prefixes
from .line_wire import Wire

LOOK = 60.0  # seconds between two looks at what tells nothing by itself: the files of others, and whether another generation is current
SETTLE = 0.25  # seconds: what comes together is written together
APART = 1.0  # seconds between two writes
RATE, BURST = 10, 50  # messages from the wire a second, and at once


class Line:
    """interface: the line's. path: of line.json. directories: of the files of others. generator: a random.Random. Raises OSError."""

    def __init__(self, interface, path, directories=paths.LINE_FILES, generator=None):
        self.interface, self.path, self.directories = interface, path, directories
        self.prefixes = Prefixes(interface)
        self.asking = Asking(generator or random.SystemRandom())
        self.answers = line_file.Answers()
        self.refusals = line_file.Refusals(lambda text: report("ignored: " + text))
        self.client = None  # the DUID of the router's client
        self.said, self.refused_files = [], []
        self.tokens, self.filled = float(BURST), time.monotonic()
        self.wire = self.source = None
        self.seen = None  # the prefixes of the last turn
        self.written, self.write_at, self.wrote = None, INFINITY, 0.0
        self.looked = -INFINITY
        self._restore()
        self.kernel = line_kernel.listening()  # before the dump, or what happens in between is lost
        self.prefixes.replace(line_kernel.dump(time.monotonic))

    def close(self):
        self.kernel.close()
        self._close_wire()

    def _close_wire(self):
        if self.wire:
            self.wire.close()
            self.wire = None

    def _restore(self):
        """Goes on from what an earlier run has heard, since a Reply comes but once."""
        try:
            found = json.loads(self.path.read_text())
            if (found["format"], found["interface"]) != (line_file.FORMAT, self.interface):
                return
            self.client = bytes.fromhex(found["client"]) if found["client"] else None
            for each in found["answers"]:
                if each["from"] != line_file.FILE:
                    server = bytes.fromhex(each["server"])
                    self.answers.kept[each["from"], server] = line_file.Answer(
                        each["from"], server, each["address"], each["heard"],
                        {int(code): bytes.fromhex(body) for code, body in each["containers"].items()}, each["priority"], each["refresh"], each["without"])
            for each in found["prefixes"]:
                if each["from"] == REPLY:
                    address, length = each["prefix"].split("/")
                    ia = each["iaid"], self.client
                    ends = (INFINITY if each[key] is None else each[key] for key in ("preferred_until", "valid_until"))
                    self.prefixes.replies[ia, socket.inet_pton(socket.AF_INET6, address), int(length)] = Known(
                        REPLY, each["prefix"], self.interface, each["since"], each["announced"], *ends, ia)
        except FileNotFoundError:
            return
        except (KeyError, TypeError, ValueError, OSError):
            report("what an earlier run has written cannot be read, so it begins anew: %s" % self.path)

    def turn(self, most, wakeup=()):
        """Waits for something to happen, at most some seconds, and acts on it. wakeup: sockets that tell of a signal. Raises OSError, StepError."""
        now = time.monotonic()
        self.tokens, self.filled = min(BURST, self.tokens + (now - self.filled) * RATE), now
        hears = self.wire is not None and self.tokens >= 1
        sockets = [self.kernel, *wakeup] + ([self.wire.socket] if hears else [])
        timeout = max(0.0, min(now + most, self._deadline(now)) - now)
        ready, _write, _exceptional = select.select(sockets, [], [], timeout if hears or self.wire is None else min(timeout, 1 / RATE))
        if self.kernel in ready:
            line_kernel.hear(self.kernel, self.prefixes)
        if hears and self.wire.socket in ready:
            self._hear_wire()
        now = time.monotonic()
        for each in set(wakeup) & set(ready):
            each.recv(64)
            self.looked = -INFINITY
            self.asking.trigger(now)
        if now - self.looked >= LOOK:
            self.looked = now
            self.said, refused = line_drop.read(self.interface, now, self.directories)
            self._tell_of_files(refused, now)
            self.prefixes.files = [known for each in self.said for known in each.prefixes]
        self.prefixes.expire(now)
        self._follow_link(now)
        self._ask(now)
        self._write(now)

    def _deadline(self, now):
        """When there is something to do though nothing is heard."""
        return min(self.looked + LOOK, self.asking.deadline() if self.source else INFINITY, self.write_at, self.prefixes.next_end(now))

    def _hear_wire(self):
        while self.tokens >= 1:
            self.tokens -= 1
            now = time.monotonic()
            try:
                received = self.wire.read()
                if received is None:
                    return
            except line_messages.Refused as exc:
                self.refusals.add("a packet on %s" % self.interface, str(exc), now)
                continue
            what = "a message on %s from %s" % (self.interface, received.server)
            try:
                reply = line_messages.reply(received.message)
            except line_messages.Refused as exc:
                self.refusals.add(what, str(exc), now)
                continue
            if reply:
                self._hear_reply(reply, received.server, what, now)

    def _hear_reply(self, reply, address, what, now):
        """Takes a Reply to our request, or to the router's client."""
        if self.asking.answers(reply):
            why = self.asking.refusal(reply)
            if why:
                self.refusals.add(what, why, now)
                return
            source = line_file.ASKED if self.asking.take(reply, now) else None
        elif reply.client is None:
            self.refusals.add(what, "a Reply neither to our request nor, for want of a Client Identifier, to the router's client", now)
            return
        else:
            source = line_file.CLIENT
            self.prefixes.delegated(reply.delegated, now)
            if reply.client != self.client:
                self.client = reply.client
                self.asking.trigger(now)  # some servers have options for one client alone
        for why in reply.refused:
            self.refusals.add(what, why, now)
        if source and self.answers.take(source, address, reply, now):
            self.asking.trigger(now)

    def _tell_of_files(self, refused, now):
        before = {(each.what, each.why): each for each in self.refused_files}
        for path, why in refused:
            if (path, why) not in before:
                report("ignored: %s: %s" % (path, why))
        self.refused_files = [before.get(each) or line_file.Refusal(*each, now) for each in refused]

    def _follow_link(self, now):
        """Hears on the line's interface wherever it comes and goes, and asks once it works."""
        index, _running = self.prefixes.link()
        if self.wire and self.wire.index != index:
            self._close_wire()
        if index is not None and self.wire is None:
            try:
                self.wire = Wire(index, self.interface)
            except PermissionError as exc:
                raise StepError("the line %s cannot be heard: %s; CAP_NET_RAW is needed" % (self.interface, exc.strerror)) from exc
            except OSError:
                return  # it has gone again, of which the kernel tells
        source = self.prefixes.source()
        if source and not self.source:
            self.asking.trigger(now)
        self.source = source

    def _ask(self, now):
        seen = {(each.source, each.prefix) for each in self.prefixes.known(now)}
        if self.seen is not None and seen - self.seen:
            self.asking.trigger(now)  # with a new prefix there may be new rules
        self.seen = seen
        if not self.source or not self.wire:
            return
        request = self.asking.step(now, self.client)
        if request:
            self.wire.send(self.source, line_messages.information_request(*request, self.asking.client))

    def _write(self, now):
        found = line_file.content(now, self.prefixes, self.answers.all(self.said), self.client, self.asking.silence() if self.source else None,
                                  [*self.refusals.kept.values(), *self.refused_files])
        due = line_file.due(self.written, found)
        if due <= now:
            due = min(self.write_at, max(now + SETTLE, self.wrote + APART)) if self.written else now
        self.write_at = due
        if due <= now:
            paths.write(self.path, json.dumps(found, indent=1) + "\n")
            self.written, self.wrote, self.write_at = found, now, INFINITY


def watch(instance, directory):
    """Watches the line of an instance until that is gone. directory: of the generation that this copy of the program lies in."""
    parameters = json.loads((directory / "parameters.json").read_text())
    if "wan" not in parameters:
        raise StepError("instance %s is no customer edge: it has no line to watch" % instance.name)
    instance.line.parent.mkdir(parents=True, exist_ok=True)
    ours, signals = socket.socketpair()
    for each in (ours, signals):
        each.setblocking(False)
    signal.set_wakeup_fd(signals.fileno())
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # to read the files of others, and ask, now
    line = Line(parameters["wan"]["interface"], instance.line)
    while instance.current.exists():
        line.turn(LOOK, [ours])
        current = instance.current.resolve()
        if current != directory:
            line.close()
            go_on_as(current, "line", "line")
            break  # a generation of before lines were watched
    return 0
