# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EXAMPLES of the modules do what they say; those of probe and map_info are tried beside these modules' tests."""

from __future__ import annotations

import importlib
import json

import doc_samples
import yaml


def documented(name):
    """The EXAMPLES of a module with what they state."""
    return doc_samples.stated(importlib.import_module(f"ansible_collections.softwire.map.plugins.modules.{name}").EXAMPLES, name)


def test_examples_of_modules_give_the_stated_results(tmp_path, fleet):
    """On a stand-in router with two generations, whose files lie on the controller as well."""
    edge = {"map_ce_isp": "ocn", "map_ce_end_user_prefix": "2400:4050:1234:5600::/56", "map_ce_wan_interface": "isp",
            "map_ce_lan_interfaces": ["lan"], "map_ce_lan_addresses": ["192.168.1.1/24"], "map_ce_napt_namespace": ""}
    reach = {"ansible_connection": "standin", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"map_ce": {"hosts": {"ce1": {**edge, **reach}}}, "map_br": {}}))
    stated = [sample for name in ("check_inventory", "roll_out", "report", "export", "render", "deploy") for sample in documented(name)]
    tasks = [{**sample.task, "register": f"result_{index}"} for index, sample in enumerate(stated)]
    save = {"content": "{{ [%s] | to_json }}" % ", ".join(task["register"] for task in tasks), "dest": str(tmp_path / "results.json"),
            "mode": "0600"}
    tasks.append({"ansible.builtin.copy": save, "delegate_to": "localhost", "vars": {"ansible_connection": "local"}})
    (tmp_path / "examples.yml").write_text(yaml.safe_dump([{"hosts": "map_ce", "gather_facts": False, "tasks": tasks}]))
    # Its /etc/softwire is a mount, which cannot be removed with the last instance.
    (fleet.add("ce1") / "softwire" / "another_instance").mkdir()
    for play in (["softwire.map.render"], ["softwire.map.site"], ["softwire.map.site", "-e", "map_ce_max_ports_per_client=500"],
                 [tmp_path / "examples.yml"]):
        code, said = doc_samples.ansible("playbook", "-i", tmp_path / "inventory.yml", *play, home=tmp_path,
                                         ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
        assert code == 0, said
    for sample, result in zip(stated, json.loads((tmp_path / "results.json").read_text()), strict=True):
        assert {key: result[key] for key in sample.expected} == sample.expected, sample.task["name"]
