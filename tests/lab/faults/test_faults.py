"""Whatever goes wrong during a change, a router is one configuration or the other, and the next run succeeds.

Two routers are changed at the same time, each in its own way; what happens to one and to the other is said by the test.
"""

from __future__ import annotations

import ipaddress
import shutil
from typing import NamedTuple

import pytest

from nodes import SERVER
from router import CUT_OFF, JOOL, LAB, ROOT, Router, everywhere, other


class Stage(NamedTuple):
    """A point of a deployment: an audit event of the program that does it, and its arguments (see stop_at.py)."""

    name: str
    event: str
    pattern: str
    kept: bool = False  # whether the new configuration stays, whatever happens from here on
    reload: bool = True  # whether the change is one that a reload brings; otherwise a restart


STAGES = [
    Stage("writing the files", "open", r"/\.staging-.*/softwire/runner\.py w"),
    Stage("writing the record", "os.rename", r"/\.unconfirmed\.new "),
    Stage("arming the rollback", "subprocess.Popen", r"systemd-run"),
    Stage("switching the link", "os.rename", r"/\.current "),
    Stage("half of a reload", "subprocess.Popen", r"nft -f .*napt"),
    Stage("taking the old one down", "subprocess.Popen", r"ip -force -batch", reload=False),
    Stage("half of a restart", "subprocess.Popen", r"ip -batch -", reload=False),
    Stage("checking the new one", "subprocess.Popen", r"nft -j list tables", reload=False),
    Stage("confirming", "os.remove", r"/etc/softwire/ce/unconfirmed"),
    Stage("removing old generations", "os.rename", r"/generations/0\S+ \S+/\.staging-0", kept=True),
]
pytestmark = pytest.mark.usefixtures("wire")
# The controller's address and a network around it.
STATION = LAB.topology.management_address.split("/")[0]
MANAGEMENT = str(ipaddress.ip_network(f"{STATION}/29", strict=False))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name.replace(" ", "-"))
def test_killed_or_without_power(network, stage):
    """The play gets SIGKILL, and one router's part of it too; the other router loses its power."""
    number = STAGES.index(stage) % 2
    killed, cut = network.routers[number], network.routers[1 - number]
    if stage.kept:  # there has to be an old one, and time to confirm the new one
        network.converge({router: other(router) for router in network.routers})
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router, stage.reload) for router in network.routers}
    everywhere(lambda router: router.stop_at(stage.event, stage.pattern))
    play = network.start(wanted, more={} if stage.kept else {"map_ce_confirm_timeout": CUT_OFF})
    everywhere(lambda router: router.wait_for_stop(play))
    play.kill()
    cut.power_cut()
    killed.kill_module()
    LAB.up()
    killed.wait_until_settled()
    network.check(wanted if stage.kept else before)
    network.converge(wanted)


def test_a_template_that_nft_refuses(network, tmp_path):
    copy = tmp_path / "ansible_collections/softwire/map"
    for part in ("meta", "playbooks", "plugins", "roles"):
        shutil.copytree(ROOT / part, copy / part)
    shutil.copy(ROOT / "galaxy.yml", copy)
    with (copy / "plugins/module_utils/routers/templates/map_ce/guard.nft.j2").open("a") as template:
        template.write("\ntable inet broken { chain\n")
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router) for router in network.routers}
    play = network.start(wanted, playbook="softwire.map.site", collections=tmp_path)
    assert play.wait() == 2, play.output
    assert play.output.count("guard.nft, nothing was changed") >= 2, play.output
    network.check(before)
    network.converge(wanted)


FULL = """
set -e
cp -a /etc/softwire/. /run/saved
mount -t tmpfs -o size=$(($(du -sk /run/saved | cut -f1) + {spare}))k tmpfs /etc/softwire
cp -a /run/saved/. /etc/softwire
"""
HIDDEN_MODULES = "mount -t tmpfs tmpfs /sys/module; mount -t tmpfs tmpfs /lib/modules"


def test_a_full_disk_and_a_missing_module(network):
    """One router has no room for the files of a generation, the other one has lost its kernel module."""
    full, lacking = network.routers
    full.do(FULL.format(spare=60))
    lacking.do(HIDDEN_MODULES)
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router) for router in network.routers}
    play = network.start(wanted)
    assert play.wait() == 2, play.output
    assert "cannot write the new generation, the old one keeps running: [Errno 28] No space left on device" in play.output
    assert "nothing was changed: missing packages: jool-dkms" in play.output
    network.check(before)
    everywhere(Router.mend)
    network.converge(wanted)


BROKEN_JOOL = """
cat > {jool} <<'END'
#!/bin/sh
case "$*" in *handle*)
    if {when}; then echo "Jool says no, for the test." >&2; exit 1; fi ;;
esac
exec /usr/bin/jool_siit "$@"
END
chmod +x {jool}
"""


def test_a_disk_that_fills_up_and_a_translator_that_fails_once(network):
    """One router has no room to write the record of how things were, on the other one Jool refuses the new configuration."""
    full, failing = network.routers
    full.do(FULL.format(spare=1000))
    full.stop_at("open", r"/\.unconfirmed\.new w")
    failing.do(BROKEN_JOOL.format(jool=JOOL, when="mkdir /run/failed-once 2>/dev/null"))
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router) for router in network.routers}
    play = network.start(wanted)
    full.wait_for_stop(play)
    full.do("cat /dev/zero > /etc/softwire/filler 2>/dev/null; true")
    full.go_on()
    assert play.wait() == 2, play.output
    assert "the running configuration was not touched: [Errno 28] No space left on device" in play.output
    assert "Jool says no, for the test." in play.output
    assert "runs again" in play.output
    network.check(before)
    everywhere(Router.mend)
    network.converge(wanted)


def test_a_translator_that_fails_for_a_while(network):
    """With a tool that never works there is no rollback either; the router says so, and rolls back as soon as it works again."""
    failing = network.routers[1]
    before, wanted = {failing: failing.wanted}, {failing: other(failing, reload=False)}
    failing.do(BROKEN_JOOL.format(jool=JOOL, when="true"))
    play = network.start(wanted, more={"map_ce_confirm_timeout": CUT_OFF})
    assert play.wait() == 2, play.output
    assert "does not start again either" in play.output
    failing.mend()
    failing.wait_until_settled()
    network.check(before)
    network.converge(wanted)


@pytest.mark.parametrize("cut", [False, True], ids=["by-itself", "across-a-reboot"])
def test_a_configuration_that_cuts_off_the_management(network, cut):
    """The translator's own addresses are those of the management network: the router answers nobody there any more."""
    router = network.routers[1]
    before, wanted = {router: router.wanted}, {router: other(router)}
    play = network.start(before, more={"map_ce_veth_network": MANAGEMENT, "map_ce_confirm_timeout": CUT_OFF})
    router.wait_for(f"ip -4 addr show dev ce-veth | grep -q {STATION}/", play)
    if cut:
        router.power_cut()
        play.kill()
        LAB.up()
    else:
        # Where its connection outlives the change, it hears so from the router.
        assert play.wait() in (2, 4), play.output
        assert f"so the router rolls it back within {CUT_OFF} s" in play.output or "the change was rolled back" in play.output
        router.wait_until_settled()
    network.check(before)
    network.converge(wanted)


# A border relay that is nobody's.
NOWHERE = {"map-e": {"br_address": "2001:db8:ffff::dead"}, "map-t": {"dmr": "2001:db8:dead::/96"}}


def test_a_change_that_breaks_ipv4_and_not_the_management(network):
    """What worked before does not work after it, so the routers do not keep it."""
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router) for router in network.routers}
    broken = {router: {"map_domain": {**router.domain, **NOWHERE[router.domain["transport"]]}} for router in network.routers}
    play = network.start(wanted, more={"map_ce_health_target": SERVER}, each=broken)
    assert play.wait() == 2, play.output
    assert play.output.count(f"ping to {SERVER} worked before, and does not now") >= 2, play.output
    assert play.output.count("runs again") >= 2, play.output
    network.check(before)
    network.converge(wanted)


def test_two_plays_at_once(network):
    """The second one waits until the first has come to its end, confirmation and all."""
    first = {router: other(router) for router in network.routers}
    second = {router: other(router, reload=False) for router in network.routers}
    everywhere(lambda router: router.stop_at("subprocess.Popen", r"nft -j list tables"))
    plays = [network.start(first)]
    everywhere(lambda router: router.wait_for_stop(plays[0]))
    plays.append(network.start(second))
    everywhere(lambda router: router.wait_for("test $(pgrep -c -f '^/usr/bin/python3 *$') -ge 2", plays[1]))
    everywhere(Router.go_on)
    for play in plays:
        assert play.wait() == 0, play.output
    for router in network.routers:
        router.wanted = second[router]
    network.check(second)
    network.converge({router: other(router) for router in network.routers})


def test_the_clock_jumps(network):
    """A day forward while it waits for the confirmation takes nothing back, a day backward keeps nobody waiting."""
    if LAB.kernel == "host":
        pytest.skip("the clock of this machine is not ours to set")
    before = {router: router.wanted for router in network.routers}
    wanted = {router: other(router) for router in network.routers}
    everywhere(lambda router: router.stop_at("os.remove", r"/etc/softwire/ce/unconfirmed"))
    play = network.start(wanted)
    everywhere(lambda router: router.wait_for_stop(play))
    network.routers[0].do("date -s '+1 day'")
    everywhere(Router.go_on)
    assert play.wait() == 0, play.output
    network.check(wanted)
    everywhere(lambda router: router.stop_at("subprocess.Popen", r"nft -j list tables"))
    play = network.start(before, more={"map_ce_confirm_timeout": CUT_OFF})
    everywhere(lambda router: router.wait_for_stop(play))
    network.routers[0].do("date -s '-1 day'")
    play.kill()
    everywhere(Router.kill_module)
    everywhere(Router.wait_until_settled)
    network.check(wanted)
    network.converge(before)


def test_one_of_many_cannot_be_reached(network):
    away, there = network.routers
    before, wanted = {away: away.wanted}, {router: other(router) for router in network.routers}
    away.power_cut()
    play = network.start(wanted, more={"ansible_timeout": 20})
    assert play.wait() == 4, play.output
    assert (play.recap(away.name)["unreachable"], play.recap(there.name)["failed"], play.recap(there.name)["changed"]) == (1, 0, 1)
    network.check({there: wanted[there]})
    LAB.up()
    network.check(before)
    network.converge(wanted)
