# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be seen to work on a customer edge: with an internet that answers, without one, and from a port that is not its own."""

from __future__ import annotations

import json

import pytest
from test_probe_module import FAR_END, Network

WORKING = """
import json, sys
from softwire import health, paths
health.PAUSE = 0.1
instance = paths.Paths("ce")
print(json.dumps([sorted(health.working(instance, sys.argv[1])), health.lost({"ping to " + sys.argv[1]}, instance, sys.argv[1])]))
"""
ALL = [f"{kind} to {FAR_END}" for kind in ("TCP", "UDP", "ping")]


def seen(network, target=FAR_END):
    """(what works, what of a ping that worked before is lost)"""
    current = network.rules.parents[1]
    return json.loads(network.sandbox.run("env", "-C", current, "python3", "-B", "-c", WORKING, target).stdout)


@pytest.mark.parametrize("layout", ["napt", "main"])
def test_what_works_through_the_napt(sandbox, layout):
    network = Network(sandbox, layout)
    assert seen(network) == [["ping to " + FAR_END], []]  # the kernel of the far end answers that
    network.serve()
    assert seen(network) == [ALL, []]
    assert seen(network, "nobody.invalid") == [[], ["ping to nobody.invalid"]]
    sandbox.run(*network.inside, "nft", "flush", "ruleset")
    assert seen(network) == [[], ["ping to " + FAR_END]]


def test_a_router_that_is_not_up(sandbox):
    network = Network(sandbox, "napt")
    sandbox.sh("ip netns delete napt")
    assert seen(network) == [[], ["ping to " + FAR_END]]
