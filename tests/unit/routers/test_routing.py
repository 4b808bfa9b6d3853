# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes and policy rules of a customer edge: what the parameters list is what the files for ip say."""

from __future__ import annotations

import json

import role_variables
import pytest
from role_variables import ip_lines

CASES = {f"{transport}, {case}, {layout}": {"napt_namespace": napt, **variables}
         for transport, cases, layouts in (
             ("map-t", role_variables.CE_CASES, role_variables.LAYOUTS), ("map-e", role_variables.MAPE_CASES, role_variables.MAPE_LAYOUTS))
         for case, variables in cases.items() for layout, napt in layouts.items()}
# The lists by the file they are in, where the NAPT is in its own namespace, and where it is in the main one.
FILES = {
    True: {"main/ip": ["softwire", "wan"], "napt/ip": ["napt"]},
    False: {"main/ip": ["softwire", "wan"], "xlat/ip": ["translator"]},
}


def words_of(entry):
    """An entry as a line of "ip -batch"."""
    if entry["kind"] == "route":
        words = ["route", "add", *([entry["type"]] if "type" in entry else []), entry["to"],
                 *(["encap", "bpf", "out", "pinned", entry["program"]] if "program" in entry else [])]
    else:
        words = ["rule", "add", "pref", entry["pref"], "iif", entry["iif"], *(["to", entry["to"]] if "to" in entry else []),
                 *([entry["type"]] if "type" in entry else [])]
    for key in ("via", "dev", "mtu", "table", "metric", "lookup", "suppress_prefixlength"):
        words += [key, *str(entry[key]).split()] if key in entry else []
    return list(map(str, words))


@pytest.mark.parametrize("case", CASES)
def test_each_route_and_rule_is_a_line_below_what_it_is_for(case):
    for files in role_variables.ce_generations(**CASES[case]).values():
        parameters = json.loads(files["parameters.json"])
        lists = parameters["routing"]
        assert set(lists) == {"softwire", "wan", "napt", "translator", "late"}
        late = "main" if parameters["tunnel"] else parameters["layout"]["namespaces"]["softwire"]
        for path, names in {**FILES[parameters["layout"]["napt_elsewhere"]], f"{late}/ip-late": ["late"]}.items():
            entries = [entry for name in names for entry in lists[name]]
            lines = ip_lines(files, path) if path in files else []
            assert [line for line in lines if line[0] in ("route", "rule")] == [words_of(entry) for entry in entries], path
            text = " ".join(files.get(path, "").replace("\n# ", " ").split())
            for entry in entries:
                assert f"{entry['why']} r" in text, entry


def test_a_namespace_that_is_not_there_has_no_routes():
    routing = {layout: json.loads(role_variables.ce_generations(napt_namespace=napt)["jool_siit"]["parameters.json"])["routing"]
               for layout, napt in role_variables.LAYOUTS.items()}
    assert routing["napt_namespace"]["translator"] == routing["translator_namespace"]["napt"] == []
    assert routing["napt_namespace"]["napt"] and routing["translator_namespace"]["translator"]


@pytest.mark.parametrize("layout, expected", [
    ({}, (True, True, True)), ({"napt_namespace": ""}, (True, False, False)),
    (role_variables.MAPE_CASES["shared"], (True, True, False)), ({**role_variables.MAPE_CASES["shared"], "napt_namespace": ""}, (False, False, False)),
], ids=["napt", "translator", "map-e napt", "map-e main"])
def test_the_conditions_of_a_layout(layout, expected):
    files = list(role_variables.ce_generations(**layout).values())[-1]
    found = json.loads(files["parameters.json"])["layout"]
    assert (found["has_veth"], found["napt_elsewhere"], found["translates_here"]) == expected
