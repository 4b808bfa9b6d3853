# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of every filter is complete, and its EXAMPLES do what they say.

The modules' EXAMPLES, which need a router, are tried on stand-ins.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import samples

REPOSITORY = Path(__file__).parents[2]
FILTERS = sorted(path.stem for path in (REPOSITORY / "plugins" / "filter").glob("*.py"))
TYPES = {"bool", "dict", "float", "int", "list", "path", "raw", "str"}


def examples(name):
    """The EXAMPLES of a filter with what they state."""
    return samples.stated(importlib.import_module(f"ansible_collections.softwire.map.plugins.filter.{name}").EXAMPLES, name)


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    """What ansible-doc makes of the filters, fragments merged: {name: {"doc": ..., "return": ...}}."""
    names = [f"softwire.map.{name}" for name in FILTERS]
    code, said = samples.ansible("doc", "-t", "filter", "--json", *names, home=tmp_path_factory.mktemp("home"))
    assert code == 0, said
    return json.loads(said)


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
    for key in ("short_description", "description", "version_added", "author", "seealso"):
        assert doc[key], key
    assert not doc["short_description"].endswith(".")
    assert any("rfc-editor.org" in item.get("link", "") for item in doc["seealso"])
    assert doc["options"]["_input"]["required"] is True
    check_types(doc["options"], "suboptions")
    check_types(returned, "contains")
    assert set(returned) == {"_value"}


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
