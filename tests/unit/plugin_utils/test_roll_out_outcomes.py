# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of a router of a roll-out, and the record. Whole roll-outs are tried on stand-ins, in tests/kernel/playbooks."""

from __future__ import annotations

import json

import pytest

from ansible_collections.softwire.map.plugins.plugin_utils import roll_out

DEPLOYED = {"changed": True, "generation": "0002-bb", "previous": "0001-aa"}
RUNS = "generation 0002-bb runs"
WELL = {"generation": "0002-bb", "state": {"equal": True, "applied": "0002-bb", "faults": []}}


def health(generation="0002-bb", applied="0002-bb", faults=()):
    return {"failed": True, "generation": generation, "state": {"equal": False, "applied": applied, "faults": list(faults)}}


@pytest.mark.parametrize("variables, expected", [
    ({}, ("untouched", "its batch has not begun", "as before")),
    ({"batch": {}}, ("failed", "see the task that failed before it was deployed", "as before")),
    ({"deployed": {"unreachable": True, "msg": "no\nroute"}}, ("not reached", "no route", "as before")),
    ({"deployed": {"failed": True, "msg": "no module"}}, ("failed", "no module", "as before")),
    ({"deployed": {"failed": True, "msg": "no", "now": "generation 0001-aa runs again"}}, ("failed", "no", "generation 0001-aa runs again")),
    ({"deployed": {"failed": True, "lost": True, "msg": "gone", "now": "it returns"}}, ("lost", "gone", "it returns")),
    ({"deployed": DEPLOYED}, ("changed", "", RUNS)),
    ({"deployed": {"changed": False, "generation": "0002-bb"}}, ("ok", "", RUNS)),
    ({"deployed": {"changed": True}}, ("changed", "", "nothing runs")),  # map_ce_state: absent
    ({"deployed": DEPLOYED, "health": {"skipped": True}, "probe": {"skipped": True}}, ("changed", "", RUNS)),
    ({"deployed": DEPLOYED, "health": WELL, "probe": {"works": True, "summary": "works"}}, ("changed", "", RUNS)),
    ({"deployed": DEPLOYED, "health": {"unreachable": True, "msg": "no route"}},
     ("unhealthy", "cannot be asked again: no route", "not known, generation 0002-bb was confirmed")),
    ({"deployed": DEPLOYED, "health": health("0001-aa", "0001-aa")}, ("unhealthy", "went back from 0002-bb to 0001-aa", "generation 0001-aa runs")),
    ({"deployed": DEPLOYED, "health": health(faults=["a: missing", "b: missing"])}, ("unhealthy", "a: missing; b: missing", RUNS)),
    ({"deployed": DEPLOYED, "health": health(applied="", faults=["none"])}, ("unhealthy", "none", "no generation runs as a whole")),
    ({"deployed": DEPLOYED, "health": health()}, ("unhealthy", "whether it runs its generation cannot be told", RUNS)),
    ({"deployed": DEPLOYED, "health": WELL, "probe": {"failed": True, "summary": "FAILS: ping"}}, ("unhealthy", "IPv4: FAILS: ping", RUNS)),
    ({"deployed": DEPLOYED, "health": WELL, "probe": {"unreachable": True, "msg": "no route"}}, ("unhealthy", "IPv4: no route", RUNS)),
])
def test_what_became_of_a_router(variables, expected):
    names = {"batch": "_map_ce_batch", "deployed": "_map_ce_deployed", "health": "_map_health", "probe": "_map_probe"}
    registered = {names[name]: value for name, value in variables.items()}
    if variables:
        registered["_map_ce_batch"] = {"batch": ["ce1"]}
    assert roll_out.outcome("ce1", registered, "ce") == ("ce1", *expected)


def test_another_role_of_the_same_host_is_not_looked_at():
    assert roll_out.outcome("r", {"_map_br_batch": {"batch": ["r"]}, "_map_br_deployed": DEPLOYED}, "ce").state == "untouched"


def test_the_names_of_the_batch_are_not_read_for_each_router_of_it():
    # Ansible fills in what is read as if it were a template, at every reading.
    class Variables(dict):
        def __getitem__(self, name):
            assert name != "_map_ce_batch"
            return super().__getitem__(name)

    assert roll_out.outcome("ce1", Variables(_map_ce_batch={"batch": ["ce1"]}, _map_ce_deployed=DEPLOYED), "ce").state == "changed"


def hosts(text):
    return json.loads(text)["map_rolled_out"]["hosts"]


def test_the_record_keeps_the_generation_before_the_first_change():
    text = roll_out.record_text("", {"a": DEPLOYED, "b": {**DEPLOYED, "previous": ""}, "c": {**DEPLOYED, "previous": "0002-bb"}})
    assert hosts(text) == {"a": {"map_generation": "0001-aa"}}  # b had none, c got what it had already
    text = roll_out.record_text(text, {"a": {**DEPLOYED, "previous": "0002-bb", "generation": "0003-cc"}, "d": DEPLOYED, "e": {"changed": True}})
    assert hosts(text) == {"a": {"map_generation": "0001-aa"}, "d": {"map_generation": "0001-aa"}}
    assert hosts(roll_out.record_text("", {})) == {}


@pytest.mark.parametrize("text", ["a: [", "[]", "text", "map_ce: {hosts: {a: {}}}", "map_rolled_out: {hosts: {a: {}}}", "map_rolled_out: {hosts: [a]}",
                                  "map_rolled_out:"])
def test_another_file_is_no_record(text):
    with pytest.raises(ValueError, match="is no record of a roll-out"):
        roll_out.record_text(text, {"a": DEPLOYED})


def test_a_table_has_columns():
    lines = roll_out.table([roll_out.Outcome("ce1", "changed", "", RUNS), roll_out.Outcome("a", "lost", "gone", "it returns")])
    assert lines == ["router  state    now                      reason", "ce1     changed  generation 0002-bb runs",
                     "a       lost     it returns               gone"]
