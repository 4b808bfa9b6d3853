# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of every filter and module is complete, and its EXAMPLES do what they say.

What needs a router is tried on a stand-in; those of probe and map_info, which need a kernel, beside these modules' tests.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import pytest
import samples
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (REPOSITORY / "plugins" / "modules").glob("*.py"))
FILTERS = sorted(path.stem for path in (REPOSITORY / "plugins" / "filter").glob("*.py"))
sys.path.insert(0, str(REPOSITORY / "tests" / "bench" / "fleet"))

from standins import Fleet  # noqa: E402

TYPES = {"bool", "dict", "float", "int", "list", "path", "raw", "str"}


def examples(name, kind="filter"):
    """The EXAMPLES of a plugin with what they state."""
    return samples.stated(importlib.import_module(f"ansible_collections.softwire.map.plugins.{kind}.{name}").EXAMPLES, name)


def ansible_doc(kind, names, home):
    """What ansible-doc makes of plugins, fragments merged: {name: {"doc": ..., "return": ...}}."""
    code, said = samples.ansible("doc", "-t", kind, "--json", *(f"softwire.map.{name}" for name in names), home=home)
    assert code == 0, said
    return json.loads(said)


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    return ansible_doc("filter", FILTERS, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def module_documentation(tmp_path_factory):
    return ansible_doc("module", MODULES, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What every example of every filter gives, from one play."""
    every = {f"{name}_{index}": sample for name in FILTERS for index, sample in enumerate(examples(name))}
    return samples.outcomes(every, tmp_path_factory.mktemp("home"))


def test_there_are_filters():
    assert {"ce", "ces", "port_ranges"} <= set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_examples_give_the_stated_results(name, results):
    for index, sample in enumerate(examples(name)):
        assert results[f"{name}_{index}"] == sample.expected, sample.task["name"]


@pytest.mark.parametrize("name", FILTERS)
def test_documentation_is_complete(name, documentation):
    doc, returned = documentation[f"softwire.map.{name}"]["doc"], documentation[f"softwire.map.{name}"]["return"]
    assert doc["name"] == name
    check_header(doc)
    assert doc["options"]["_input"]["required"] is True
    check_types(doc["options"], "suboptions")
    check_types(returned, "contains")
    assert set(returned) == {"_value"}


def check_header(doc):
    for key in ("short_description", "description", "version_added", "author", "seealso"):
        assert doc[key], key
    assert not doc["short_description"].endswith(".")
    assert any("rfc-editor.org" in item.get("link", "") for item in doc["seealso"])


def check_types(entries, below):
    for name, entry in entries.items():
        assert entry["description"], name
        assert entry["type"] in TYPES, name
        assert entry["type"] != "list" or entry["elements"] in TYPES, name
        check_types(entry.get(below, {}), below)


@pytest.mark.parametrize("name", FILTERS)
def test_documented_options_are_the_parameters(name, documentation):
    module = importlib.import_module(f"ansible_collections.softwire.map.plugins.filter.{name}")
    filters = module.FilterModule().filters()
    assert list(filters) == [name]
    _input, *parameters = inspect.signature(filters[name]).parameters.values()
    doc = documentation[f"softwire.map.{name}"]["doc"]
    options = {option: value for option, value in doc["options"].items() if option != "_input"}
    assert {parameter.name for parameter in parameters} == set(options)
    positional = [parameter.name for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    assert re.split(r",\s*", doc["positional"]) == positional if positional else "positional" not in doc
    for parameter in parameters:
        option = options[parameter.name]
        required = parameter.default is parameter.empty
        assert bool(option.get("required")) is required, parameter.name
        assert required or option.get("default") == parameter.default, parameter.name


@pytest.mark.parametrize("name", MODULES)
def test_documentation_of_a_module_is_complete(name, module_documentation):
    doc, returned = module_documentation[f"softwire.map.{name}"]["doc"], module_documentation[f"softwire.map.{name}"]["return"]
    assert doc["module"] == name
    check_header(doc)
    check_types(doc["options"], "suboptions")
    check_types(returned or {}, "contains")
    assert all(doc["attributes"][mode]["support"] for mode in ("check_mode", "diff_mode"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_use_what_it_has(name, module_documentation):
    documented = module_documentation[f"softwire.map.{name}"]
    keys = ("type", "required", "default", "choices", "elements")
    spec = {option: {key: value[key] for key in keys if key in value} for option, value in documented["doc"]["options"].items()}
    tried = [sample for sample in examples(name, "modules") if f"softwire.map.{name}" in sample.task]
    assert tried
    for sample in tried:
        checked = ArgumentSpecValidator(spec).validate(sample.task[f"softwire.map.{name}"])
        assert checked.error_messages == [], sample.task["name"]
        assert set(sample.expected) <= set(documented["return"] or ()) | {"changed"}, sample.task["name"]


def test_examples_of_modules_give_the_stated_results(tmp_path):
    """On a stand-in router with two generations, whose files lie on the controller as well."""
    (tmp_path / "routers").mkdir()
    edge = {"map_ce_isp": "ocn", "map_ce_end_user_prefix": "2400:4050:1234:5600::/56", "map_ce_wan_interface": "isp",
            "map_ce_lan_interfaces": ["lan"], "map_ce_lan_addresses": ["192.168.1.1/24"], "map_ce_napt_namespace": ""}
    reach = {"ansible_connection": "standin", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"map_ce": {"hosts": {"ce1": {**edge, **reach}}}, "map_br": {}}))
    stated = [sample for name in ("check_inventory", "report", "render", "deploy") for sample in examples(name, "modules")]
    tasks = [{**sample.task, "register": f"result_{index}"} for index, sample in enumerate(stated)]
    save = {"content": "{{ [%s] | to_json }}" % ", ".join(task["register"] for task in tasks), "dest": str(tmp_path / "results.json"),
            "mode": "0600"}
    tasks.append({"ansible.builtin.copy": save, "delegate_to": "localhost", "vars": {"ansible_connection": "local"}})
    (tmp_path / "examples.yml").write_text(yaml.safe_dump([{"hosts": "map_ce", "gather_facts": False, "tasks": tasks}]))
    with Fleet(tmp_path / "routers") as fleet:
        # Its /etc/softwire is a mount, which cannot be removed with the last instance.
        (fleet.add("ce1") / "softwire" / "another_instance").mkdir()
        for play in (["softwire.map.render"], ["softwire.map.site"], ["softwire.map.site", "-e", "map_ce_max_ports_per_client=500"],
                     [tmp_path / "examples.yml"]):
            code, said = samples.ansible("playbook", "-i", tmp_path / "inventory.yml", *play, home=tmp_path,
                                         ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
            assert code == 0, said
    for sample, result in zip(stated, json.loads((tmp_path / "results.json").read_text()), strict=True):
        assert {key: result[key] for key in sample.expected} == sample.expected, sample.task["name"]
