# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen to work on a router, to be compared before and after a change."""

from __future__ import annotations

import json
import time

from . import info
from .commands import StepError, succeeds
from .probing import ProbeError, probed

ATTEMPTS, PAUSE = 4, 2  # how often, and with how many seconds in between, what worked before is looked for again
SAMPLE = 1  # seconds in which the counters of a border relay are looked at
NOISE = 20  # packets dropped in that time that prove nothing: scans, and customers' mistakes
DIRECTIONS = {"in": "forwarding from the customer edges", "out": "forwarding to the customer edges"}


def working(instance, target=""):
    """What works, a set of texts for a person; each can be asked for again. Nothing of what cannot be seen.

    instance: its paths.Paths; target: IPv4 address or name of a host on the internet, or "". A customer edge asks its border relay
    (MAP-E) and, through the NAPT, the target for ping, TCP and UDP, whose source has to be its own; a border relay asks
    the target itself, and sees whether its programs drop everything.
    """
    settings, parameters = (json.loads((instance.current / name).read_text()) for name in ("instance.json", "parameters.json"))
    relay, found = settings["border_relay"], set()
    if relay and succeeds(["ping", "-6", "-c", "1", "-W", "2", relay]):
        found.add("a ping of the border relay %s" % relay)
    if parameters["role"] == "br":
        if target and succeeds(["ping", "-4", "-c", "1", "-W", "2", target]):
            found.add("a ping of %s" % target)
        return found | forwarding(parameters["bpf"])
    return found | (through_the_napt(instance, target) if target else set())


def through_the_napt(instance, target):
    """Which kinds of packets reach a target and come back, with a source that is the customer edge's own."""
    options = {"target": target, "tcp_port": 53, "udp_port": 53, "stun_server": "", "timeout": 2, "attempts": 1}
    try:
        return {"%s to %s" % (check["name"], target) for check in probed(instance, options) if not check["fault"]}
    except (ProbeError, StepError, OSError):
        return set()


def forwarding(bpf):
    """The directions in which the programs of a border relay pass packets at the moment, or nothing comes that could tell."""
    try:
        before = info.programs(bpf)
        time.sleep(SAMPLE)
        after = info.programs(bpf)
    except (StepError, OSError):
        return set()
    moved = {name: after[name] - before[name] for name in after}

    def sum_of(direction, what):
        return sum(count for name, count in moved.items() if name.startswith("%s_%s" % (direction, what)))

    return {text for direction, text in DIRECTIONS.items() if sum_of(direction, "passed") or sum_of(direction, "dropped") < NOISE}


def lost(before, instance, target=""):
    """What of before, a result of working(), works no longer, also after some time; a sorted list of texts."""
    missing = before
    for attempt in range(ATTEMPTS):
        if not missing:
            break
        if attempt:
            time.sleep(PAUSE)
        missing = missing - working(instance, target)
    return sorted(missing)
