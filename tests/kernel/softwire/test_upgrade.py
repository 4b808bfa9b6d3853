# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A router that runs a generation with the program in loose files gets one with a package, and goes back, under the units of today."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

import loose_files
import pytest
from sandbox import UNIT
from test_reload import same, settled
from test_runner import EDGES, files_of, unchanged

from ansible_collections.softwire.map.plugins.module_utils.softwire.paths import Paths
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import Transaction

OLD_EDGES = [edge for edge in EDGES if loose_files.generation(edge)]  # a mesh came later
OLD_UNIT = {"program": ["softwire.py"]}  # how the units of then call it


def settled_up(router, files, **how):
    """The state after a first start."""
    generation = router.install(files)
    assert router.softwire(generation, "up", **how).stderr == ""
    made = settled(router)
    assert router.softwire(generation, "down", **how).stderr == ""
    return made


def go(router, generation, how):
    """What systemd runs for a reload, or a restart: with the program that "current" leads to."""
    actions = ["reload"] if how == "reload" else ["down", "up"]
    for action in actions:
        assert router.softwire(generation, action).stderr == ""


@pytest.mark.parametrize("how", ["reload", "restart"])
@pytest.mark.parametrize("edge", OLD_EDGES)
def test_a_router_goes_to_the_package_and_back(edge, how, router):
    before = router.snapshot()
    old, new = loose_files.generation(edge), files_of(edge)
    old_up, new_up = settled_up(router, old, **OLD_UNIT), settled_up(router, new)
    unchanged(router, before)
    router.softwire(router.install(old), "up", **OLD_UNIT)
    go(router, router.install(new), how)
    same(settled(router), new_up)
    generation = router.install(old)
    go(router, generation, how)
    # The program of then does not know these maps, so it leaves them; nothing uses them.
    for name in ("index_to_id", "id_to_index") if how == "reload" else ():
        inside = ["ip", "netns", "exec", "napt"] if "napt/napt.nft" in old else []
        router.run(*inside, "nft", "delete", "map", "ip", "softwire_ce_napt", name, check=False)
    same(settled(router), old_up)
    assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)


@pytest.mark.parametrize("edge", OLD_EDGES)
def test_each_program_takes_down_what_the_other_brought_up(edge, router):
    before = router.snapshot()
    files = [loose_files.generation(edge), files_of(edge)]
    for first, second in (files, files[::-1]):
        router.softwire(router.install(first), "up")
        assert router.softwire(router.install(second), "down").stderr == ""
        unchanged(router, before)


def unit_commands(unit, setting):
    """What a unit of the instance ce runs for a setting, as lists of words."""
    lines = re.findall(rf"^{setting}=[-+]?(.*)", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line.replace("%i", "ce").replace("$$", "$")) for line in lines]


@pytest.fixture
def installed(router):
    """A router with both generations below /etc/softwire/ce: (paths of the instance, old name, new name)."""
    router.sh(f"mkdir {router.directory}/etc && cp -a /etc/. {router.directory}/etc && mount --bind {router.directory}/etc /etc"
              f" && mkdir -p /etc/softwire && ln -s {router.directory}/test /etc/softwire/ce")
    names = [os.readlink(router.install(files)).split("/")[-1] for files in (loose_files.generation("mape_main"), files_of("mape_main"))]
    return (Paths("test", router.directory), *names)


def test_a_boot_in_the_middle_of_a_deployment_or_of_a_rollback(installed, router):
    instance, old, new = installed
    transaction = Transaction(instance)
    boot = unit_commands(UNIT, "ExecStartPre")[0]
    for name, previous in ((new, old), (old, new)):
        transaction.switch(name)
        instance.unconfirmed.write_text(json.dumps({"format": 1, "generation": name, "previous": previous, "active": True, "deadline": 1.5}))
        done = router.run("env", "-C", instance.current, *boot)
        assert f"generation {name} was not confirmed before the reboot: back to {previous}\n" in done.stderr
        assert os.readlink(instance.current) == f"generations/{previous}" and not instance.unconfirmed.exists()


def test_both_write_metrics(installed, router):
    instance, *names = installed
    command, = unit_commands(UNIT.with_name("softwire-metrics@.service"), "ExecStart")
    instance.metrics.symlink_to(router.directory)
    for name in names:
        Transaction(instance).switch(name)
        assert router.softwire(instance.current, "up").stderr == ""
        router.run("env", "-C", instance.current, *command)
        assert 'softwire_state_equal{softwire="ce"} 1\n' in (router.directory / "softwire-ce.prom").read_text()


def test_the_program_of_today_reads_what_the_one_of_then_runs(installed, router):
    """map_info asks the program of the collection, whatever the generation has."""
    instance, old, _new = installed
    Transaction(instance).switch(old)
    router.softwire(instance.current, "up")
    package = os.path.dirname(os.path.dirname(sys.modules[Paths.__module__].__file__))
    show = "import sys, json; sys.path.insert(0, sys.argv[1]); from softwire import info; print(json.dumps(info.collect(sys.argv[2])['state']))"
    found = json.loads(router.run("python3", "-BE", "-c", show, package, instance.current).stdout)
    assert found == {"equal": True, "applied": old, "faults": []}
