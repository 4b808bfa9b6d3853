# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the server of a line's provider how IPv4 crosses its network (HB46PP), and writes the answer down. softwire-provider@.service runs it.

It needs no right at all, decides nothing, and writes two files: what it knows, for whoever sets the customer edge up (provider_file.py), and
the last good answer, on disk, for the time that the server is away after a boot. The kernel tells which prefixes the line has: the server
sees no other address. Nothing starts it yet. "systemctl reload softwire-provider@ce" asks at once;
"systemctl stop softwire-provider@ce && systemctl clean --what=all softwire-provider@ce" deletes what it knows.

/etc/softwire/INSTANCE/provider.env, which only root has to read, gives it MAP_PROVIDER_INTERFACE, the line's interface, and may have
MAP_PROVIDER_RESOLVERS (addresses, in the place of the line's own resolvers), MAP_PROVIDER_USER, MAP_PROVIDER_PASS and MAP_PROVIDER_SERVER (user
and pass of the line, and the name of the one server that may see them).
"""

from __future__ import annotations

import random
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..mapping import checks
from ..mapping.hb46pp import read_answer
from ..mapping.hb46pp_exchange import OK, Login
from ..softwire import line_kernel, paths
from ..softwire.commands import report, tell
from ..softwire.line_prefixes import ROUTE, Prefixes
from . import provider_file
from .asking import Asking
from .dns_lookup import MOST_RESOLVERS, Resolver, resolvers
from .exchange import ABLE, Result, exchange
from .provider_file import Known

LOOK = 60.0  # seconds between two looks at what tells nothing by itself: the clock, and whether this program is still there
LARGEST_FILE = 4 << 20  # bytes of a file of ours
PROGRAM = Path(__file__).resolve()


class Provider:
    """What is known of a line's provider, and when it is asked.

    instance: softwire.paths.Paths. environment: os.environ. uniform: a number between two others at random. clock: gives monotonic seconds.
    Raises MapError.
    """

    def __init__(self, instance: paths.Paths, environment: Mapping[str, str], uniform: Callable[[float, float], float] | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.instance, self.clock = instance, clock
        self.interface = checks.interface(environment.get("MAP_PROVIDER_INTERFACE"), "MAP_PROVIDER_INTERFACE")
        self.login = login_of(environment)
        self.resolvers = [Resolver(address, False) for address in environment.get("MAP_PROVIDER_RESOLVERS", "").split()[:MOST_RESOLVERS]]
        self.asking = Asking(uniform or random.SystemRandom().uniform)
        self.known = self._of_earlier_run() or self._of_disk() or Known()
        self._write()

    def _of_earlier_run(self) -> Known | None:
        """What was known before a restart; what was due then is due now."""
        try:
            found = provider_file.earlier(_read(self.instance.provider), self.clock())
            if found.known.body is not None:
                read_answer(found.known.body, ABLE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            report(f"what an earlier run has written is ignored: {self.instance.provider}: {exc}")
            return None
        self.asking.restore(found.asked_for, found.begun, found.again)
        return found.known

    def _of_disk(self) -> Known | None:
        """The last good answer of before the boot."""
        try:
            found = provider_file.of_disk(_read(self.instance.provider_kept))
            read_answer(found.body, ABLE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            report(f"the answer that was kept is ignored: {self.instance.provider_kept}: {exc}")
            return None
        return found

    def turn(self, prefixes: frozenset[str]) -> float:
        """Asks where that is due; returns when it will be. prefixes: those that the line has."""
        self.asking.see(prefixes, self.clock())
        if self.clock() >= self.asking.due():
            self._ask()
        return self.asking.due()

    def _ask(self) -> None:
        self.asking.begin(self.clock())
        token = None if self.known.body is None else read_answer(self.known.body, ABLE).token
        result = exchange(self.interface, self.resolvers or resolvers(self.interface), token, self.login)
        now = self.clock()
        self.asking.finish(result.outcome, result.answer.ttl if result.answer else None, now)
        self._tell(result)
        before, self.known = self.known, self.known.after(result, now, tuple(sorted(self.asking.asked)))
        if self.known.body != before.body:
            self._keep()  # first, since a run that goes on from the other file does not look for it
        self._write()

    def _write(self) -> None:
        self.instance.provider.parent.mkdir(parents=True, exist_ok=True)
        paths.write(self.instance.provider, provider_file.content(self.known, self.interface, self.asking, self.clock()))

    def _tell(self, result: Result) -> None:
        """Tells what there is to tell, each thing once."""
        before = self.known.result or Result(OK)
        if result.fault and (result.outcome, result.fault) != (before.outcome, before.fault):
            report(result.fault)
        for text in result.warnings:
            if text not in before.warnings:
                report(text)
        if result.withheld and result.withheld != before.withheld:
            report(f"user and pass are not sent: {result.withheld}")
        if result.outcome == OK and before.outcome != OK:
            tell(f"{result.server} has answered again")

    def _keep(self) -> None:
        """Writes the last good answer to the disk, or takes away one that does not hold any more."""
        path = self.instance.provider_kept
        try:
            if self.known.body is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                paths.write(path, provider_file.kept(self.known))
            elif path.exists():
                paths.drop(path)
        except OSError as exc:
            report(f"the answer cannot be kept: {exc}")


def login_of(environment: Mapping[str, str]) -> Login | None:
    """The user and pass of the line, where there are some."""
    words = [environment.get(f"MAP_PROVIDER_{name}", "") for name in ("USER", "PASS", "SERVER")]
    return Login(*words) if any(words[:2]) else None


def _read(path: Path) -> str:
    """What is in a file. Raises OSError, ValueError."""
    with path.open("rb") as stream:
        return stream.read(LARGEST_FILE).decode()


def follow(instance: paths.Paths, environment: Mapping[str, str]) -> int:
    """Asks for as long as this program is there. Raises MapError, OSError."""
    provider = Provider(instance, environment)
    ours, signals = socket.socketpair()
    for each in (ours, signals):
        each.setblocking(False)
    signal.set_wakeup_fd(signals.fileno())
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # to ask now
    prefixes = Prefixes(provider.interface)
    with line_kernel.listening() as kernel:  # before the dump, or what happens in between is lost
        prefixes.replace(line_kernel.dump(time.monotonic))
        while PROGRAM.exists():
            due = provider.turn(_of_line(prefixes))
            wait = min(due, prefixes.next_end(time.monotonic())) - time.monotonic()
            ready, _write, _exceptional = select.select([ours, kernel], [], [], min(LOOK, max(0.0, wait)))
            if kernel in ready:
                line_kernel.hear(kernel, prefixes)
            if ours in ready:
                ours.recv(64)
                provider.asking.trigger(time.monotonic())
    return 0


def _of_line(prefixes: Prefixes) -> frozenset[str]:
    """The prefixes from which this router can ask."""
    now = time.monotonic()
    prefixes.expire(now)
    known = prefixes.known(now) if prefixes.link()[1] else []
    silent = prefixes.silent(known)
    return frozenset(each.prefix for each in known if each.source != ROUTE and each.preferred > now and (each.source, each.prefix) not in silent)
