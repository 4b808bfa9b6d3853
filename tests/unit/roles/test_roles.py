# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A role's variables are the same in defaults, argument_specs, vars and README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.softwire.map.plugins.module_utils.mapping.calculator import ce
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.routers import deployment
from ansible_collections.softwire.map.plugins.module_utils.routers.ce_variables import TIMEOUTS

ROLES = Path(__file__).resolve().parents[3] / "roles"
# A template cannot be the default of a dict or a list in argument_specs: its description says it, the README names it.
TEMPLATES = {
    "map_ce_domain": ("{{ map_domain | default({}) }}", "map_domain"),
    "map_br_domains": ("{{ [map_domain | default({})] }}", "[map_domain]"),
}
DEVICES = {"map_ce": "customer_edge", "map_br": "border_relay"}


class Role:
    def __init__(self, name):
        self.name = name
        self.defaults = self.read("defaults/main.yml")
        self.options = self.read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        self.readme = (ROLES / name / "README.md").read_text(encoding="utf-8")

    def read(self, path):
        return yaml.safe_load((ROLES / self.name / path).read_text(encoding="utf-8"))

    def table(self, pattern):
        """The rows of the README's tables whose first cell matches: {name: [type, default, meaning]}."""
        rows = [re.split(r"\s*(?<!\\)\|\s*", line.strip("| ")) for line in self.readme.splitlines() if line.startswith("|")]
        found = {row[0].strip("`"): row[1:] for row in rows if re.fullmatch(pattern, row[0])}
        assert all(len(row) == 3 for row in found.values()), found
        return found


@pytest.fixture(params=["map_ce", "map_br"])
def role(request):
    return Role(request.param)


def test_every_role_is_tested():
    assert {path.name for path in ROLES.iterdir()} == {"map_ce", "map_br"}


def test_names_begin_with_the_role(role):
    for name in role.options:
        assert name.startswith(role.name + "_"), name


def test_defaults_are_the_argument_specs(role):
    declared = {name: option["default"] for name, option in role.options.items() if "default" in option}
    templates = {name: text for name, (text, _shown) in TEMPLATES.items() if name.startswith(role.name)}
    assert {**declared, **templates} == role.defaults
    assert not set(declared) & set(templates)
    for name in templates:
        assert "Defaults to the inventory variable C(map_domain)" in " ".join(texts(role.options[name])), name


def texts(option):
    return [option["description"]] if isinstance(option["description"], str) else option["description"]


def test_what_has_no_default_is_required_and_says_so(role):
    for name, option in role.options.items():
        says = any("Required." in text for text in texts(option))
        assert says is (name not in role.defaults), name


def test_the_variables_that_are_read_are_the_declared_ones(role):
    """Each declared name is read, since one that nobody reads is refused as unknown; and no other name is known."""
    names = {name.removeprefix(role.name + "_"): None for name in role.options}
    with pytest.raises(MapError) as caught:
        deployment.read({DEVICES[role.name]: {**names, "state": "present", "not_declared": 1}})
    unknown = [fault.path for fault in caught.value.faults if fault.reason.startswith("unknown")]
    assert unknown == [f"{role.name}_not_declared"]


def test_the_defaults_of_the_deployment_are_those_of_the_role(role):
    for name, value in deployment.DEFAULTS.items():
        assert name == "instance" or role.defaults[f"{role.name}_{name}"] == value, name


def test_the_tasks_hand_over_every_variable_that_is_set(role):
    for name in ("main", "render"):
        (task,) = yaml.safe_load((ROLES / role.name / "tasks" / f"{name}.yml").read_text(encoding="utf-8"))
        (arguments,) = (task[key] for key in task if key.startswith("softwire.map."))
        assert arguments[DEVICES[role.name]] == "{{ _%s_variables }}" % role.name
        assert set(arguments) <= {"directory", DEVICES[role.name]}
    given = role.read("vars/main.yml")
    assert f"'^{role.name}_.'" in given[f"_{role.name}_names"]


def shown_type(option):
    return f"list of {option['elements']}" if option["type"] == "list" else option["type"]


def test_the_readme_has_a_row_for_every_variable(role):
    table = role.table(rf"`{role.name}_\w+`")
    assert list(table) == list(role.options)
    for name, (kind, default, meaning) in table.items():
        assert kind == shown_type(role.options[name]), name
        assert meaning[0].isupper() or meaning[0] == "`", name
        assert meaning.endswith("."), name
        if name in TEMPLATES:
            assert default == f"`{TEMPLATES[name][1]}`", name
        elif name in role.defaults:
            assert default.startswith("`") and yaml.safe_load(default.strip("`")) == role.defaults[name], name
        else:
            assert default == "required", name


def test_the_readme_names_every_choice(role):
    table = role.table(rf"`{role.name}_\w+`")
    for name, option in role.options.items():
        missing = [choice for choice in option.get("choices", []) if f"`{choice}`" not in table[name][1] + table[name][2]]
        assert missing == [], name


def test_the_readme_has_a_row_for_every_key_of_a_forward_and_every_time_out():
    role = Role("map_ce")
    timeouts = role.options["map_ce_conntrack_timeouts"]["options"]
    assert {name: option["default"] for name, option in timeouts.items()} == TIMEOUTS
    options = {**role.options["map_ce_port_forwards"]["options"], **timeouts, **role.options["map_ce_ipv6_forwards"]["options"]}
    table = role.table(r"`(?!map_)\w+`")
    assert list(table) == list(options)
    for name, (kind, default, _meaning) in table.items():
        assert kind == options[name]["type"]
        assert (default == "required") is options[name].get("required", False), name
        if "default" in options[name]:
            assert yaml.safe_load(default.strip("`")) == options[name]["default"], name


def test_the_examples_of_the_readme_are_yaml_with_declared_variables(role):
    examples = re.findall(r"```yaml\n(.*?)```", role.readme, flags=re.DOTALL)
    assert examples
    for text in examples:
        assert yaml.safe_load(text)
        assert set(re.findall(rf"\b{role.name}_\w+", text)) <= set(role.options)


def test_the_example_of_the_readme_gives_a_generation(role):
    (play,) = yaml.safe_load(re.search(r"```yaml\n(- hosts.*?)```", role.readme, flags=re.DOTALL)[1])
    given = play["roles"][0]["vars"]
    values = {**role.defaults, "map_ce_domain": given["map_domain"], "map_br_domains": [given["map_domain"]], **given}
    variables = {name.removeprefix(role.name + "_"): value for name, value in values.items() if name.startswith(role.name + "_")}
    assert deployment.read({DEVICES[role.name]: variables}).alternatives


def test_the_forwards_of_the_readme_are_ports_of_its_example():
    readme = Role("map_ce").readme
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)]
    given = blocks[0][0]["roles"][0]["vars"]
    forwards, = (block for block in blocks if "map_ce_port_forwards" in block)
    ranges = ce(given["map_domain"], given["map_ce_end_user_prefix"])["port_ranges"]
    ports = [entry["port"] for entry in forwards["map_ce_port_forwards"]] + forwards["map_ce_reserved_ports"]
    assert all(any(low <= port <= high for low, high in ranges) for port in ports)
