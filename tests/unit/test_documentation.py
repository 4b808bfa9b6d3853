# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of every filter and module is complete, and its EXAMPLES do what they say.

Those of modules need a router or a kernel: tests/kernel/modules.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import doc_samples
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (REPOSITORY / "plugins" / "modules").glob("*.py"))
FILTERS = sorted(path.stem for path in (REPOSITORY / "plugins" / "filter").glob("*.py"))

TYPES = {"bool", "dict", "float", "int", "list", "path", "raw", "str"}


def examples(name, kind="filter"):
    """The EXAMPLES of a plugin with what they state."""
    return doc_samples.stated(importlib.import_module(f"ansible_collections.softwire.map.plugins.{kind}.{name}").EXAMPLES, name)


def ansible_doc(kind, names, home):
    """What ansible-doc makes of plugins, fragments merged: {name: {"doc": ..., "return": ...}}."""
    code, said = doc_samples.ansible("doc", "-t", kind, "--json", *(f"softwire.map.{name}" for name in names), home=home)
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
    return doc_samples.outcomes(every, tmp_path_factory.mktemp("home"))


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
