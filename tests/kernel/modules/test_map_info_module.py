# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module map_info as Ansible runs it. What it finds is tested in tests/kernel/softwire/test_info.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import role_variables
import pytest
import doc_samples
import yaml

from ansible_collections.softwire.map.plugins.modules import map_info

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENTED = yaml.safe_load(map_info.RETURN)
LINKS = "".join(f"ip link add {name} type veth peer name {name}-peer; ip link set {name} up; ip link set {name}-peer up;" for name in ("isp", "lan", "inet"))


@pytest.fixture
def router(sandbox):
    """A router with an /etc of its own."""
    sandbox.sh(f"mkdir {sandbox.directory}/etc && cp -a /etc/. {sandbox.directory}/etc && mount --bind {sandbox.directory}/etc /etc"
               f" && mkdir -p /etc/softwire; {LINKS}")
    return sandbox


def deploy(router, files, name):
    generation = router.install(files)
    assert router.softwire(generation, "up").stderr == ""
    router.sh(f"ln -s {generation.parent} /etc/softwire/{name}")


def ansible(router, program, *arguments):
    return router.run(
        sys.executable, "-m", "ansible", program, "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}",
        *arguments, check=False, HOME=str(router.directory), ANSIBLE_COLLECTIONS_PATH=str(REPOSITORY / "collections"), ANSIBLE_NOCOLOR="1")


def call(router, arguments, *options):
    done = ansible(router, "adhoc", "localhost", "-m", "softwire.map.map_info", "-a", arguments, *options)
    return done.returncode, json.loads(done.stdout.split("=>", 1)[1])


def undocumented(found, documented):
    """Keys that are not documented or are of another type; what has no `contains` may hold anything."""
    types = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict}
    faults = []
    for key, value in found.items():
        if key not in documented or not (value is None or isinstance(value, types[documented[key]["type"]])):
            faults.append(key)
        elif "contains" in documented[key]:
            for one in value if isinstance(value, list) else [value or {}]:
                faults += undocumented(one, documented[key]["contains"])
    return faults


@pytest.mark.parametrize("device", ["ce", "br"])
def test_it_changes_nothing_and_returns_what_is_documented(device, router):
    changes = {**role_variables.MAPE_CASES["shared"], "napt_namespace": "", "wan_gateway": ""}
    files, = role_variables.ce_generations(**changes).values() if device == "ce" else [role_variables.br_generations()["jool_siit"]]
    deploy(router, files, device)
    before = router.snapshot()
    code, found = call(router, f"instance={device} list_ports=true", "--check")
    assert code == 0, found
    assert router.snapshot() == before
    assert found["changed"] is False and (found["instance"], found["role"]) == (device, device)
    assert found["state"]["equal"] is True and found["parameters"] == json.loads(files["parameters.json"])
    assert not undocumented({key: value for key, value in found.items() if key != "changed"}, DOCUMENTED)
    assert set(DOCUMENTED) <= set(found)


def test_the_samples_are_of_the_documented_form():
    assert not undocumented({key: entry["sample"] for key, entry in DOCUMENTED.items()}, DOCUMENTED)


def test_where_there_is_nothing_to_read(router):
    said = "nothing of this name is deployed on this router, which has {}; the roles map_ce and map_br deploy"
    code, found = call(router, "instance=ce")
    assert code != 0 and found["msg"] == "instance: ce: " + said.format("no instance at all")
    for name in ("br", "ce"):
        router.sh(f"mkdir -p /etc/softwire/{name}/generations/0001-aa && ln -s generations/0001-aa /etc/softwire/{name}/current")
    code, found = call(router, "instance=../softwire/ce")
    assert code != 0 and found["msg"] == "instance: ../softwire/ce: " + said.format("br, ce")
    code, found = call(router, "instance=ce")
    assert code != 0 and found["msg"] == ("instance: ce: its generation cannot be read: /etc/softwire/ce/generations/0001-aa/instance.json: "
                                          "is missing, empty or torn; deploy the instance again"), found


def test_the_examples(router):
    files, = role_variables.ce_generations(**{**role_variables.MAPE_CASES["shared"], "napt_namespace": "", "wan_gateway": ""}).values()
    deploy(router, files, "ce")
    play = router.directory / "play.yml"
    tasks = []
    for sample in doc_samples.stated(map_info.EXAMPLES, "map_info"):
        result = sample.task.setdefault("register", "result")
        tasks += [sample.task, {"ansible.builtin.assert": {"that": [f"{result}.{key} == {value!r}" for key, value in sample.expected.items()]}}]
    play.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = ansible(router, "playbook", "-e", "ansible_become=false", play)
    assert done.returncode == 0, done.stdout
    router.sh("nft delete table inet softwire_ce_guard")
    done = ansible(router, "playbook", "-e", "ansible_become=false", play)
    assert done.returncode != 0 and "nftables table inet softwire_ce_guard (namespace main): missing" in done.stdout
