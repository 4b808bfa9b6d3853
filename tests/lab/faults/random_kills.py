"""Two routers that are killed at random moments of a change, again and again: each is one configuration or the other, as a whole.

By name, `make kills`: 200 kills take more than an hour. KILLS and SEED say how many and which.
"""

from __future__ import annotations

import collections
import os
import random

import pytest

from router import CUT_OFF, LAB, Router, Wanted, everywhere

pytestmark = pytest.mark.usefixtures("wire")
KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
LOOKS = 20  # after how many kills packets have to say what the state says
# SIGKILL for what the play runs, and for what systemd runs of the softwire, too; or no power any more.
MODULE, ALL, POWER = "module", "module and unit", "power"
SHARES = {MODULE: 5, ALL: 4, POWER: 1}
EVERY = [Wanted(line, forward) for line in (0, 1) for forward in (False, True)]
LONGEST = 8  # seconds that a change takes on an emulated CPU
# Waits for the program that the play runs, and then so many seconds; says when it has come, and when it is gone before.
AIM = """
program() { pgrep -f '^/usr/bin/python3 *$' > /dev/null; }
until program; do sleep 0.02; done
sleep {after}
program && echo there
"""
UNIT = "systemctl kill --signal=KILL softwire@ce.service 2>/dev/null || true"


def strike(router, how, after, play):
    """Whether something of the change was hit."""
    aimed = LAB.exec(router.name, ["timeout", "100", "bash", "-c", AIM.replace("{after}", str(after))], timeout=120)
    assert aimed.returncode in (0, 1), play.output
    if how == POWER:
        router.power_cut()
    else:
        router.kill_module()
        if how == ALL:
            router.do(UNIT)
    return "there" in aimed.stdout


def another(chance, now):
    """A configuration that differs: by what takes a reload, or a restart, or both."""
    return chance.choice([wanted for wanted in EVERY if wanted != now])


def blow(chance):
    """How to strike, and after how many seconds of the program's life."""
    return chance.choices(list(SHARES), list(SHARES.values()))[0], round(chance.uniform(0, LONGEST), 2)


def change_and_kill(network, wanted, blows):
    """{router: whether something of the change was hit}; afterwards nothing goes on any more, and each router knows what it is."""
    before = {router: router.wanted for router in network.routers}
    play = network.start(wanted, more={"map_ce_confirm_timeout": CUT_OFF})
    hit = everywhere(lambda router: strike(router, *blows[router], play))
    play.kill()
    LAB.up()
    everywhere(Router.kill_module)
    everywhere(Router.wait_until_settled)
    found = everywhere(lambda router: router.which([before[router], wanted[router]]))
    for router, now in zip(network.routers, found):
        router.wanted = now
    return dict(zip(network.routers, hit))


def test_killed_at_random(network):
    chance, hits, ends = random.Random(SEED), collections.Counter(), collections.Counter()
    print(f"SEED={SEED}")
    for wanted in EVERY:
        network.converge({router: wanted for router in network.routers})
    looked = 0
    while hits.total() < KILLS:
        wanted = {router: another(chance, router.wanted) for router in network.routers}
        blows = {router: blow(chance) for router in network.routers}
        for router, was_hit in change_and_kill(network, wanted, blows).items():
            hits[blows[router][0]] += was_hit
            ends["kept" if router.wanted == wanted[router] else "returned"] += was_hit
            print(f"{router.name}: {blows[router]} {'hit' if was_hit else 'missed'}: {router.wanted}", flush=True)
        if hits.total() >= looked + LOOKS:
            looked = hits.total()
            network.check({router: router.wanted for router in network.routers})
    network.converge({router: EVERY[0] for router in network.routers})
    print(f"hits: {dict(hits)}, afterwards: {dict(ends)}")
    assert ends["kept"] and ends["returned"], "the moments were no random ones"
