# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alert rules and the dashboard name metrics and labels that there are, and pages; what Prometheus makes of them: tests/kernel/monitoring."""

from __future__ import annotations

import json
import re

import pytest
import doc_samples
import yaml
from docutils.nodes import make_id

from ansible_collections.softwire.map.plugins.module_utils.routers.bpf_rule import COUNTERS, NAPT_COUNTERS
from ansible_collections.softwire.map.plugins.module_utils.softwire import metrics

MONITORING = doc_samples.REPOSITORY / "docs" / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
BLOB = "https://github.com/softwire-map/softwire.map/blob/main/"
# What a router has of everything, as info.collect() tells it.
EVERYTHING = {
    "instance": "ce", "role": "ce", "softwire": "bpf", "generation": "0001-aa", "unconfirmed": False, "notices": [],
    "state": {"applied": "0001-aa", "equal": True, "faults": []}, "repairs": {"repairs": 0, "failures": 0, "in_a_row": 0},
    "audit": {"counts": {"deployments": {"confirmed": 1}, "rollbacks": {"failed": 0}, "drift": 0}},
    "rules": [{"namespace": "main", "rules": "guard", "name": "from_relay", "packets": 1, "bytes": 1}],
    "programs": dict.fromkeys(COUNTERS + NAPT_COUNTERS, 0), "fast_path": {"on": True, "obstacles": []}, "translator": {"JSTAT_SUCCESS": 1},
    "tunnel": {"device": "ce-tun", **{way: dict.fromkeys(("packets", "bytes", "errors", "dropped"), 0) for way in ("received", "sent")}},
    "ports": {"size": 1, "in_use": {"tcp": 0}, "by_host": {"192.168.0.10": {"tcp": 1}}},
}


def shown():
    """{metric: its labels} of everything."""
    return {f"softwire_{name}": {"softwire", *samples[0][0]} for name, _kind, _help, samples in metrics.families(EVERYTHING)}


def test_metrics_are_those_that_there_are():
    known = shown()
    used = {name for text in EXPRESSIONS for name in re.findall(r"\bsoftwire_\w+", text)}
    assert used <= set(known), used - set(known)
    for text in EXPRESSIONS:
        for name, matchers in re.findall(r"\b(softwire_\w+){([^}]*)}", text):
            labels = {label for label in re.findall(r"(\w+)=", matchers)}
            assert labels <= known[name] | {"instance"}, f"{name}: {labels}"


def test_the_dashboard_shows_all_of_them():
    text = json.dumps(DASHBOARD)
    elsewhere = {"softwire_rule_bytes_total", "softwire_tunnel_packets_total", "softwire_fast_path_obstacles"}
    assert {name for name in shown() if not re.search(rf"\b{name}\b", text)} == elsewhere


def test_results_of_programs_are_those_that_there_are():
    results = {name.split("_", 1)[1] for name in COUNTERS + NAPT_COUNTERS}
    for text in EXPRESSIONS:
        for operator, value in re.findall(r'result(=~|!~|=)"([^"]+)"', text):
            if "softwire_program" in text:
                assert any(re.fullmatch(value, result) for result in results), f"{operator}{value}"


def test_counters_of_spoofing_are_explained():
    page = (doc_samples.PAGES / "troubleshooting.rst").read_text()
    counters = set(re.findall(r"``(\w+_spoofed|own_prefix|lan_source)``", page))
    (pattern,) = {value for rule in RULES for value in re.findall(r'name=~"([^"]+)"', rule["expr"])}
    assert all(re.fullmatch(pattern, name) for name in counters if not name.startswith("in_"))
    assert {"own_prefix", "lan_source", "map_address_spoofed", "br_address_spoofed", "dmr_spoofed", "our_address_spoofed"} <= counters


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_where_it_is_written(rule):
    assert rule["labels"]["severity"] in ("critical", "warning")
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    page, anchor = annotations["runbook_url"].removeprefix(BLOB).split("#")
    titles = re.findall(r"^(\S.*)\n[-~]{4,}$", (doc_samples.REPOSITORY / page).read_text(), re.MULTILINE)
    assert anchor in [make_id(title) for title in titles]


def test_the_guide_lists_the_alerts_and_their_files():
    guide = (doc_samples.PAGES / "guide_fleet.rst").read_text()
    listed = re.findall(r"^   \* - ``(Softwire\w+)``\n     - (\w+)$", guide, re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]
    copied = re.findall(r"/softwire/map/(docs/monitoring/\S+)", "".join(doc_samples.texts("guide_fleet", "console")))
    assert [doc_samples.REPOSITORY / name for name in copied] == sorted(MONITORING.iterdir())


def test_panels_have_a_place_and_an_explanation_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _y in cells) < 24, panel["title"]
        taken |= cells
    assert all(len(panel["description"]) > 10 for panel in PANELS)


def test_every_query_goes_to_the_data_source_that_one_chooses():
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = DASHBOARD["templating"]["list"]
    assert [(each["name"], each["type"]) for each in variables] == [("datasource", "datasource"), ("host", "query"), ("softwire", "query")]
    places = [*PANELS, *variables[1:], *(target for panel in PANELS for target in panel["targets"])]
    assert all(place["datasource"] == chosen for place in places)
    assert all('instance=~"$host"' in target["expr"] for panel in PANELS for target in panel["targets"])
