# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the keeper leaves in the audit trail, on a pretended router. The keeper at work: tests/kernel/softwire/test_keeper.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, commands, drift, keeper, paths


class World:
    """A router and its clock."""

    def __init__(self):
        self.now, self.state, self.faults, self.good = 100000.0, "active", [], True

    def pretend(self, monkeypatch, tmp_path):
        for name in ("CONFIGURATION", "RUN", "UNITS", "LOGS"):
            monkeypatch.setattr(paths, name, tmp_path / name)
        paths.UNITS.mkdir()
        monkeypatch.setattr(keeper.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(commands, "query", lambda argv, as_json: self.state)
        monkeypatch.setattr(commands, "systemctl", lambda *words: self.good)
        monkeypatch.setattr(keeper, "Generation", lambda directory: None)
        monkeypatch.setattr(drift, "absent_interfaces", lambda generation: [])
        for name in ("differences", "untold_differences"):
            monkeypatch.setattr(drift, name, lambda generation: self.faults)


@pytest.fixture
def world(monkeypatch, tmp_path):
    made = World()
    made.pretend(monkeypatch, tmp_path)
    made.keeper = keeper.Keeper(paths.Paths("ce"))
    return made


def trail(_world):
    return [SimpleNamespace(**line) for line in audit.read(paths.Paths("ce"), 1000)["lines"]]


def damage(world, *faults, good=True, after=1000):
    world.now, world.faults, world.good = world.now + after, list(faults), good
    world.keeper.look(False)


def test_a_repair(world):
    damage(world)
    assert trail(world) == []
    damage(world, "one thing", "another")
    (line,) = trail(world)
    assert (line.event, line.applied, line.drift, line.result, line.in_a_row, line.times) == ("repair", "reload", ["one thing", "another"], "good", 1, 1)


def test_a_late_interface(world):
    world.state = "failed"
    damage(world)
    (line,) = trail(world)
    assert (line.event, line.applied, line.drift) == ("repair", "start", [])
    assert keeper.repairs(paths.Paths("ce"))["last"] == "every interface is there"


def test_what_does_not_hold_and_what_is_to_no_avail(world):
    damage(world, "one thing")
    damage(world, "one thing", after=3)
    damage(world, "one thing", good=False, after=5)
    assert [(line.result, line.in_a_row, line.times) for line in trail(world)] == [("good", 1, 1), ("good", 2, 2), ("failed", 3, 1)]


def test_what_comes_again_for_months_leaves_few_lines(world):
    for _time in range(5000):
        damage(world, "one thing")
        damage(world, "another", good=False)
    assert len(trail(world)) == 26 and {line.times for line in trail(world)} == {2 ** power for power in range(13)}
    damage(world, "a third")
    assert trail(world)[-1].drift == ["a third"]
    assert keeper.repairs(paths.Paths("ce"))["repairs"] == 5001


def test_what_comes_once_a_week_has_its_line_each_time(world):
    for _time in range(10):
        damage(world, "one thing", after=7 * 86400)
    assert [line.times for line in trail(world)] == [1] * 10 and len(world.keeper.seen) == 1


def test_a_full_disk_stops_no_repair(world, capfd):
    paths.LOGS.write_text("")
    damage(world, "one thing")
    assert keeper.repairs(paths.Paths("ce"))["repairs"] == 1 and "the audit trail lacks this repair" in capfd.readouterr().err
