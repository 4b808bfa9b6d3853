# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is seen of a border relay: its counters, and a host that answers or not. Customer edges: tests/kernel/modules/test_health.py."""

from __future__ import annotations

import json

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import health
from ansible_collections.softwire.map.plugins.module_utils.softwire.paths import Paths

FROM, TO = health.DIRECTIONS.values()
NOTHING = {"in_passed": 0, "in_passed_later_fragment": 0, "in_dropped_spoofed": 0, "out_passed": 0, "out_dropped_no_rule": 0}


@pytest.fixture
def relay(tmp_path):
    (tmp_path / "br/current").mkdir(parents=True)
    (tmp_path / "br/current/instance.json").write_text(json.dumps({"border_relay": None}))
    (tmp_path / "br/current/parameters.json").write_text(json.dumps({"role": "br", "bpf": {}}))
    return Paths("br", tmp_path)


@pytest.mark.parametrize("moved, seen", [
    ({}, {FROM, TO}),
    ({"in_passed": 1, "in_dropped_spoofed": 500}, {FROM, TO}),
    ({"in_passed_later_fragment": 1, "in_dropped_spoofed": 500}, {FROM, TO}),
    ({"in_dropped_spoofed": 500, "out_passed": 3}, {TO}),
    ({"in_dropped_spoofed": health.NOISE - 1, "out_dropped_no_rule": health.NOISE}, {FROM}),
])
def test_a_relay_works_unless_it_drops_all_that_comes(relay, monkeypatch, moved, seen):
    counted = [dict(NOTHING), {**NOTHING, **moved}]
    monkeypatch.setattr(health.info, "programs", lambda bpf: counted.pop(0))
    monkeypatch.setattr(health, "SAMPLE", 0)
    assert health.working(relay) == seen


@pytest.mark.parametrize("answers", [True, False])
def test_a_relay_asks_the_target_itself(relay, monkeypatch, answers):
    asked = []
    monkeypatch.setattr(health, "succeeds", lambda argv: asked.append(argv) or answers)
    monkeypatch.setattr(health, "forwarding", lambda bpf: set())
    assert health.working(relay, "192.0.2.53") == ({"a ping of 192.0.2.53"} if answers else set())
    assert [argv[-1] for argv in asked] == ["192.0.2.53"]
