# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a generation says of its BPF programs, and the files that load and attach them."""

from __future__ import annotations

import json

import role_variables
import pytest
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_object, programs, render

PINS = "/run/softwire/x/bpf"
# Two objects, two programs on one hook.
BPF = programs.described("x", "inner", [
    programs.loaded("translate", "Of the first.", ["in_passed"], [
        programs.entry("config", programs.ONLY, "01 02", "A config."), *programs.entries("rules", [{"key": "03", "value": "04", "comment": "A rule."}])]),
    programs.loaded("mape", "Of the second.", [], [programs.entry("config", programs.ONLY, "05")]),
], [
    programs.attachment("dev0", "egress", 7600, programs.pinned("x", "mape", "second"), "Runs second."),
    programs.attachment("dev1", "ingress", 7599, programs.pinned("x", "translate", "third"), "Elsewhere."),
    programs.attachment("dev0", "egress", 7599, programs.pinned("x", "translate", "first"), "Runs first."),
])


def rendered(name):
    jinja = render.environment(str(render.TEMPLATES / "map_ce"))
    return jinja.get_template(programs.plan(BPF)[f"inner/{name}"]).render(bpf=BPF)


def test_objects_are_pinned_apart():
    assert rendered("bpftool") == f"""\
# Load the BPF programs and fill their maps, before anything is attached.

# Of the first.
prog loadall translate.bpf.o {PINS}/translate/programs pinmaps {PINS}/translate/maps
# A config.
map update pinned {PINS}/translate/maps/config key hex 00 00 00 00 value hex 01 02
# A rule.
map update pinned {PINS}/translate/maps/rules key hex 03 value hex 04

# Of the second.
prog loadall mape.bpf.o {PINS}/mape/programs pinmaps {PINS}/mape/maps
map update pinned {PINS}/mape/maps/config key hex 00 00 00 00 value hex 05
"""


def test_an_interface_gets_its_clsact_once():
    assert rendered("tc") == f"""\
# Attach the BPF programs. A packet passes those of a hook from the lowest preference to the highest.

qdisc add dev dev0 clsact
# Runs second.
filter add dev dev0 egress pref 7600 bpf da object-pinned {PINS}/mape/programs/second
# Runs first.
filter add dev dev0 egress pref 7599 bpf da object-pinned {PINS}/translate/programs/first

qdisc add dev dev1 clsact
# Elsewhere.
filter add dev dev1 ingress pref 7599 bpf da object-pinned {PINS}/translate/programs/third
"""


def test_every_object_lies_beside_the_file_that_loads_it():
    files = programs.object_files(BPF)
    assert files == {f"inner/{name}.bpf.o": bpf_object.read(f"{name}.bpf.o") for name in ("translate", "mape")}


def generations():
    for cases, layouts in ((role_variables.CE_CASES, role_variables.LAYOUTS), (role_variables.MAPE_CASES, role_variables.MAPE_LAYOUTS)):
        for case, variables in cases.items():
            for layout, napt_namespace in layouts.items():
                for carrier, files in role_variables.ce_generations(napt_namespace=napt_namespace, **variables).items():
                    yield pytest.param(files, id=f"ce, {case}, {layout}, {carrier}")
    for case, variables in role_variables.BR_CASES.items():
        for carrier, files in role_variables.br_generations(**variables).items():
            yield pytest.param(files, id=f"br, {case}, {carrier}")


@pytest.mark.parametrize("files", list(generations()))
def test_what_is_attached_is_loaded_and_its_interface_has_a_clsact(files):
    bpf = json.loads(files["parameters.json"])["bpf"]
    if not bpf:
        assert not [path for path in files if path.endswith((".o", "/tc", "/bpftool"))]
        return
    loaded = {f"{bpf['pins']}/{each['name']}/programs" for each in bpf["objects"]}
    assert len(loaded) == len(bpf["objects"])
    assert {each["program"].rsplit("/", 1)[0] for each in bpf["attached"]} <= loaded
    lines = [line.split() for line in files[f"{bpf['namespace']}/tc"].splitlines() if line and not line.startswith("#")]
    assert [line[3] for line in lines if line[0] == "qdisc"] == list(dict.fromkeys(each["device"] for each in bpf["attached"]))
    places = [tuple(line[3:7]) for line in lines if line[0] == "filter"]
    assert len(places) == len(set(places)) == len(bpf["attached"])
    for each in bpf["objects"]:
        assert files[f"{bpf['namespace']}/{each['name']}.bpf.o"][:4] == b"\x7fELF"
