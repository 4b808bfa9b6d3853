# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a generation says of its BPF programs, and the files that load and attach them."""

from __future__ import annotations

import json

import role_variables
import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.port_index import port_index
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_object, bpf_rule, programs, render
from ansible_collections.softwire.map.plugins.module_utils.softwire.files import reload_suffices

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


SHARED = {
    "ipv4_address": "192.0.2.18", "ipv4_prefix": None, "psid": 0x34, "psid_length": 8, "psid_offset": 6,
    "port_ranges": [[block << 10 | 0xD0, block << 10 | 0xD3] for block in range(1, 64)]}


def test_the_config_of_the_end_of_the_napt():
    index = port_index(SHARED["port_ranges"])
    assert bpf_rule.napt_config(SHARED, index, None, False) == "c0 00 02 12 00 00 00 00 00 00 00 00 00 34 40 d4 41 cf 00 62 09 00 00 00"
    assert index["pool"] == [0x40D4, 0x41CF] and bpf_rule.napt_exceptions(SHARED, index) == []
    static = port_index(SHARED["port_ranges"], [1232])
    assert bpf_rule.napt_config(SHARED, static, "192.0.0.0/29", True) == "c0 00 02 12 c0 00 00 00 ff ff ff f8 00 34 40 d4 41 ce 00 62 1f 00 00 00"


EXPLICIT = {"ipv6_prefix": "2001:db8:12:3400::/56", "ipv4_prefix": "192.0.2.18/32", "ea_length": 0, "psid_length": 8, "psid": 0x34, "psid_offset": 6}


@pytest.mark.parametrize("change, suffices", [
    ({"psid_offset": 4}, True), ({"psid_length": 6}, True), ({"psid": 0x35}, False), ({"ipv4_prefix": "192.0.2.19/32"}, False),
])
def test_address_and_psid_of_a_config_stay_while_packets_pass(change, suffices):
    """The programs' one entry is overwritten byte by byte."""
    domain = {"transport": "map-e", "br_address": "2001:db8:ffff::1"}
    first, second = (
        files for rule in (EXPLICIT, EXPLICIT | change)
        for files in role_variables.ce_generations(**role_variables.MAPE_CASES["shared"] | {"domain": {**domain, "rules": [rule]}}).values())
    assert first["main/bpftool"] != second["main/bpftool"]
    before, after = ({path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()} for files in (first, second))
    assert reload_suffices(before, after) is suffices


def test_static_ports_and_those_in_their_places_are_exceptions():
    """1232 and 1234 are the first and the third of the set; 64722 and 64723 are its last, of which 64723 is static, too."""
    index = port_index(SHARED["port_ranges"], [1232, 1234, 64723])
    made = bpf_rule.napt_exceptions(SHARED, index)
    first = index["pool"][0]
    expected = {1232: 1232, 1234: 1234, 64723: 64723, first: 64721, first + 2: 64722}
    assert {int(entry["key"].replace(" ", ""), 16): int(entry["value"].replace(" ", ""), 16) for name, entry in made if name == "index_to_port"} == expected
    assert [(entry["value"], entry["key"]) for name, entry in made if name == "index_to_port"] == [
        (entry["key"], entry["value"]) for name, entry in made if name == "port_to_index"]


def test_one_range_has_neither():
    plain = {**SHARED, "psid_offset": 0, "port_ranges": [[0x3400, 0x34FF]]}
    index = port_index(plain["port_ranges"], [0x3400])
    assert not index["rewrite"] and bpf_rule.napt_exceptions(plain, index) == []
    assert bpf_rule.napt_config(plain, index, None, False).endswith("34 01 34 ff 00 08 08 00 00 00")
    full = {**SHARED, "ipv4_address": None, "ipv4_prefix": "192.0.2.16/28", "psid": None, "psid_length": 0, "port_ranges": [[0, 65535]]}
    config = bpf_rule.napt_config(full, port_index(full["port_ranges"]), None, False)
    assert config.startswith("c0 00 02 10 00 00 ") and config.endswith(" 04 00 00 00 00 00")


@pytest.mark.parametrize("layout", role_variables.LAYOUTS)
@pytest.mark.parametrize("carrier", ["bpf", "jool_siit"])
def test_the_end_of_the_napt_is_around_what_carries_the_softwire(layout, carrier):
    files = role_variables.ce_generations(napt_namespace=role_variables.LAYOUTS[layout])[carrier]
    parameters = json.loads(files["parameters.json"])
    order = {hook: [each["program"].rsplit("/", 1)[1] for each in sorted(parameters["bpf"]["attached"], key=lambda each: each["preference"])
                    if each["hook"] == hook] for hook in ("egress", "ingress")}
    assert order == {"egress": ["napt_out", *(["ce_out", "ce_in"] if carrier == "bpf" else [])], "ingress": ["napt_in"]}
    assert {each["device"] for each in parameters["bpf"]["attached"]} == {parameters["napt"]["device"]}
    assert parameters["bpf"]["namespace"] == parameters["layout"]["namespaces"]["napt"]
    assert napt_flags(parameters) & bpf_rule.NAPT_ETHERNET


def napt_flags(parameters):
    loaded, = (each for each in parameters["bpf"]["objects"] if each["name"] == "napt")
    config, = (bytes.fromhex(entry["value"]) for entry in loaded["entries"] if entry["map"] == "config")
    return config[20]


@pytest.mark.parametrize("layout", role_variables.LAYOUTS)
@pytest.mark.parametrize("mesh", [False, True])
def test_a_tunnel_has_no_link_layer(layout, mesh):
    generations = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"], napt_namespace=role_variables.LAYOUTS[layout], mesh=mesh)
    for files in generations.values():
        assert not napt_flags(json.loads(files["parameters.json"])) & bpf_rule.NAPT_ETHERNET


@pytest.mark.parametrize("layout", role_variables.MAPE_LAYOUTS)
def test_the_end_of_the_napt_is_the_tunnel_in_the_main_namespace(layout):
    files, = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"], napt_namespace=role_variables.MAPE_LAYOUTS[layout]).values()
    bpf = json.loads(files["parameters.json"])["bpf"]
    assert bpf["namespace"] == "main" and {each["device"] for each in bpf["attached"]} == {"ce-tun"}
