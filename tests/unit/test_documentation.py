# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of every filter is complete, and its EXAMPLES do what they say.

An example is a task of ansible.builtin.debug with `msg`, and below it a comment block: the line
`# Result:` and then the value of `msg` as YAML.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FILTERS = sorted(path.stem for path in (REPOSITORY / "plugins" / "filter").glob("*.py"))
TYPES = {"bool", "dict", "float", "int", "list", "path", "raw", "str"}


def run_ansible(program, *arguments, home):
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_NOCOLOR": "1",
    }
    run = subprocess.run(
        [sys.executable, "-m", "ansible", program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def examples(name):
    """The EXAMPLES of a filter as [(task, expected value of msg)]."""
    text = importlib.import_module(f"ansible_collections.softwire.map.plugins.filter.{name}").EXAMPLES
    found = []
    for chunk in re.split(r"^(?=- name:)", text, flags=re.MULTILINE)[1:]:
        task, marker, result = chunk.partition("# Result:")
        assert marker, f"{name}: an example without '# Result:': {chunk}"
        lines = [re.fullmatch(r"\s*# ?(.*)", line) for line in result.strip().splitlines()]
        assert all(lines), f"{name}: the result is not all comment: {result}"
        found.append((yaml.safe_load(task)[0], yaml.safe_load("\n".join(line[1] for line in lines))))
    assert len(found) == len(yaml.safe_load(text)), f"{name}: each example starts with '- name:' in the first column"
    return found


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    """What ansible-doc makes of the filters, fragments merged: {name: {"doc": ..., "return": ...}}."""
    names = [f"softwire.map.{name}" for name in FILTERS]
    return json.loads(run_ansible("doc", "-t", "filter", "--json", *names, home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The value of msg of every example of every filter, from one play."""
    home = tmp_path_factory.mktemp("home")
    tasks = []
    for name in FILTERS:
        for index, (task, _expected) in enumerate(examples(name)):
            assert set(task) <= {"name", "ansible.builtin.debug", "vars"}, f"{name}: {task}"
            tasks.append({**task, "register": f"{name}_{index}"})
    registered = ", ".join(f"'{task['register']}': {task['register']}.msg" for task in tasks)
    save = {"content": "{{ {%s} | to_json }}" % registered, "dest": str(home / "results.json"), "mode": "0600"}
    tasks.append({"ansible.builtin.copy": save})
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    (home / "play.yml").write_text(yaml.safe_dump([play]))
    interpreter = f"ansible_python_interpreter={sys.executable}"
    run_ansible("playbook", "-i", "localhost,", "-c", "local", "-e", interpreter, str(home / "play.yml"), home=home)
    return json.loads((home / "results.json").read_text())


def test_there_are_filters():
    assert {"ce", "ces", "port_ranges"} <= set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_examples_give_the_stated_results(name, results):
    for index, (task, expected) in enumerate(examples(name)):
        assert results[f"{name}_{index}"] == expected, task["name"]


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
