# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alert rules, by promtool's own unit tests: series that go on as the texts of routers did, for hours.

Each router is well, then something happens to it again and again, then it is well again.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).resolve().parents[3] / "docs" / "monitoring" / "alerts.yml"
WELL, ILL, AFTER = 120, 90, 120  # minutes


class Phase(NamedTuple):
    """So many minutes in which counters rise by what they have risen between two texts, and gauges are as in the second one.

    written: whether the file is written; there: whether it is there; up: whether node exporter answers.
    """

    shown: object
    minutes: int
    written: bool = True
    there: bool = True
    up: bool = True


def samples(text):
    """{sample as promtool takes it: (whether it is a counter, value)} of a text, with the labels of a target."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {**sample.labels, "job": "node", "instance": "router1:9100"}
            name = sample.name + "{%s}" % ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
            found[name] = family.type == "counter", int(sample.value)
    return found


def series(phases):
    """input_series of promtool: what Prometheus has of a router that went through phases, a scrape each minute."""
    texts = [(samples(phase.shown.before), samples(phase.shown.after)) for phase in phases]
    # A set's order is another one in each run.
    values = {name: [] for name in dict.fromkeys(name for _before, after in texts for name in after)}
    reached = {}
    for phase, (before, after) in zip(phases, texts):
        for name, value in values.items():
            if name not in after or not phase.there or not phase.up:
                value.append(f"stale _x{phase.minutes - 1}")
                continue
            counts, last = after[name]
            step = last - before.get(name, (True, last))[1] if counts else 0
            start = reached.get(name, last) if counts else last
            value.append(f"{start}+{step}x{phase.minutes - 1}")
            reached[name] = start + step * phase.minutes
    file = '{file="/var/lib/prometheus/node-exporter/softwire-ce.prom", job="node", instance="router1:9100"}'
    values["node_textfile_mtime_seconds" + file] = [
        f"stale _x{phase.minutes - 1}" if not (phase.there and phase.up) else f"{index * 10**6}+{60 * phase.written}x{phase.minutes - 1}"
        for index, phase in enumerate(phases)]
    values['up{job="node", instance="router1:9100"}'] = [f"{int(phase.up)}x{phase.minutes - 1}" for phase in phases]
    return [{"series": name, "values": " ".join(value)} for name, value in values.items()]


def firing(minute, expected):
    """A test of promtool: which alerts fire in this minute, {their name: how many of them}."""
    return {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in expected.items()]}


def promtool(home, *tests):
    (home / "tests.yml").write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(home / "tests.yml")], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


# What happens to which router: the alerts that have come at its end, and those of the first minutes; what is different of the file.
HAPPENS = {
    "ports": ("ce", {"SoftwirePortsNearlyUsedUp": 1}, {}, {}),
    "nothing comes back": ("ce", {"SoftwireNothingComesBack": 1}, {}, {}),
    "repairs": ("ce", {"SoftwireRepairsDoNotHold": 1, "SoftwireRepairedOften": 1}, {"SoftwireRepairedOften": 1}, {}),
    "a rollback": ("ce", {"SoftwireDeploymentRolledBack": 1}, {"SoftwireDeploymentRolledBack": 1}, {}),
    "unconfirmed": ("ce", {"SoftwireDeploymentUnconfirmed": 1}, {}, {}),
    "a change": ("ce", {"SoftwireStateDiffers": 1}, {}, {}),
    "no programs": ("ce", {"SoftwireProgramsMissing": 1, "SoftwireMetricsIncomplete": 1}, {}, {}),
    "spoofed": ("br", {"SoftwireSpoofingRises": 1, "SoftwireNothingPasses": 2}, {}, {}),
    "no customers": ("br", {"SoftwireNothingPasses": 1}, {}, {}),
    "well ce": ("ce", {}, {}, {}),
    "well br": ("br", {}, {}, {}),
    "well jool": ("jool", {}, {}, {}),
    "nobody writes": ("ce", {"SoftwireMetricsOld": 1}, {}, {"written": False}),
    "no file": ("ce", {"SoftwireMetricsGone": 1}, {}, {"there": False}),
    "no node exporter": ("ce", {}, {}, {"up": False}),
}
# They look far back: a repair that comes again for six hours.
LASTING = {"repairs": {"SoftwireRepairedOften": 1}}


def test_promtool_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "SUCCESS: 13 rules found" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("what", HAPPENS)
def test_who_is_told_of_what_happens(what, texts, tmp_path):
    router, expected, at_once, file = HAPPENS[what]
    well = texts[f"well {router}"]
    phases = [Phase(well, WELL), Phase(texts.get(what, well), ILL, **file), Phase(well, AFTER)]
    said = promtool(tmp_path, {
        "interval": "1m", "input_series": series(phases), "promql_expr_test": [
            firing(WELL - 1, {}), firing(WELL + 3, at_once), firing(WELL + ILL - 1, expected),
            firing(WELL + ILL + AFTER - 1, LASTING.get(what, {}))]})
    assert not said, said


def test_a_noise_that_stays_is_told_once(texts, tmp_path):
    phases = [Phase(texts["well br"], WELL), Phase(texts["spoofed"], 1440)]
    noise = {"expr": 'count(ALERTS{alertname="SoftwireSpoofingRises", alertstate="firing"})'}
    said = promtool(tmp_path, {"interval": "1m", "input_series": series(phases), "promql_expr_test": [
        {**noise, "eval_time": "240m", "exp_samples": [{"labels": "{}", "value": 1}]}, {**noise, "eval_time": "1500m", "exp_samples": []}]})
    assert not said, said
