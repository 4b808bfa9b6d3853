# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of the guides run on their inventories in their order.

The routers are stand-ins. A stand-in carries no packets, so the playbook that verifies is only looked at (--syntax-check), and it
has no tools of a border relay, so site deploys customer edges only.
"""

from __future__ import annotations

import re
import shlex

import pytest
import doc_samples
import yaml

GUIDES = ["guide_one_router", "guide_one_router_ja", "guide_fleet", "guide_arithmetic", "export"]
# What the inventories name, and what a stand-in has.
INTERFACES = {"eth0": "isp", "eth1": "lan"}
STANDIN = ["-e", "ansible_connection=standin", "-e", "ansible_python_interpreter=/usr/bin/python3", "-e", "ansible_become=false"]


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_run_on_the_inventories(page, tmp_path, fleet):
    said = ""
    known = set()
    for block in doc_samples.blocks(page):
        if block.caption:
            path = tmp_path / block.caption
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub("|".join(INTERFACES), lambda match: INTERFACES[match[0]], block.text))
            for name in set(yaml.safe_load(block.text).get("map_ce", {}).get("hosts", {})) - known:
                # Its /etc/softwire is a mount, which cannot be removed with the last instance.
                (fleet.add(name) / "softwire" / "another_instance").mkdir()
                known.add(name)
        elif block.language == "shell":
            for command in block.text.replace("\\\n", "").splitlines():
                said += f"$ {command}\n{run(command, tmp_path, fleet)}\n"
    assert said


def run(command, home, fleet):
    """The output of a command of a guide, which has to succeed."""
    program, *arguments = shlex.split(command, comments=True)
    assert program in ("ansible-playbook", "ansible", "ansible-inventory"), command
    if program == "ansible-playbook":
        playbook = next(word for word in arguments if word.startswith("softwire.map."))
        known_extra_variables(command, playbook)
        if playbook == "softwire.map.verify":
            arguments += ["--syntax-check"]
        elif playbook not in ("softwire.map.export", "softwire.map.render", "softwire.map.report"):
            arguments += [*STANDIN, *([] if "--limit" in arguments else ["--limit", "map_ce"])]
    elif program == "ansible" and "map_ce" in arguments:
        arguments += STANDIN
    code, said = doc_samples.ansible(program.removeprefix("ansible-").replace("ansible", "adhoc"), *arguments, home=home,
                                     ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
    assert code == 0 and "Traceback" not in said, f"{command}\n{said}"
    return said


def known_extra_variables(command, playbook):
    """Every variable given with -e is one that the playbook or a role has."""
    text = (doc_samples.REPOSITORY / "playbooks" / f"{playbook.rpartition('.')[2]}.yml").read_text()
    for name in re.findall(r"-e (\w+)=", command):
        roles = doc_samples.REPOSITORY.glob("roles/*/defaults/main.yml")
        assert name in text or any(re.search(f"^{name}:", path.read_text(), re.MULTILINE) for path in roles), f"{command}: {name}"
