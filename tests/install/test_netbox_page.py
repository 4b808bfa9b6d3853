# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page on NetBox: its inventory, by NetBox's own plugin, makes the hosts and variables that the page says.

The plugin comes out of the Python package `ansible`, which holds it and which every package index has; NetBox is a stand-in.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile

import pytest
import doc_samples
from netbox_standin import TOKEN, NetBox, device, prefix

PACKAGE = "ansible==12.3.0"
BLOCKS = doc_samples.blocks("netbox")
CONTEXT = next(json.loads(block.text) for block in BLOCKS if block.language == "json")
DEVICES = [
    device(1, "ce1", 1, context=CONTEXT, map_prefix=prefix(11, "2001:db8:12:3400::/56")),
    device(2, "ce2", 1, context=CONTEXT, address="2001:db8:6::12/64", map_prefix=prefix(12, "2001:db8:12:3500::/56"), map_ce_wan_interface="ens3"),
    device(3, "ce3", 1, context=CONTEXT, status="decommissioning", map_prefix=prefix(13, "2001:db8:12:3600::/56")),
    device(4, "ce4", 1, context=CONTEXT),
    device(5, "br1", 2, context=CONTEXT),
    device(6, "sw1", 3),
]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A folder with NetBox's collection, and another with what it imports."""
    directory = tmp_path_factory.mktemp("netbox")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", directory, PACKAGE], check=True)
    subprocess.run([*pip, "install", "--target", directory / "python", "pytz"], check=True)
    with zipfile.ZipFile(next(directory.glob("ansible-*.whl"))) as wheel:
        wheel.extractall(directory, [name for name in wheel.namelist() if name.startswith("ansible_collections/netbox/netbox/")])
    return directory


@pytest.fixture
def run(tmp_path, libraries):
    """Runs a command on the page's files, whose NetBox is another one."""
    def command(program, *arguments, url, token=TOKEN):
        for block in BLOCKS:
            if block.caption:
                path = tmp_path / block.caption
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text.replace("https://netbox.example.net", url))
        return doc_samples.ansible(program, *arguments, home=tmp_path, NETBOX_TOKEN=token, PYTHONPATH=str(libraries / "python"),
                                   ANSIBLE_COLLECTIONS_PATH=os.pathsep.join([str(doc_samples.REPOSITORY / "collections"), str(libraries)]))
    return command


def test_the_page_is_about_the_release_that_is_tried(libraries):
    manifest = json.loads((libraries / "ansible_collections/netbox/netbox/MANIFEST.json").read_text())
    assert f"release {manifest['collection_info']['version']}" in " ".join((doc_samples.PAGES / "netbox.rst").read_text().split())


def test_hosts_groups_and_variables(run):
    with NetBox(DEVICES) as netbox:
        code, said = run("inventory", "-i", "inventory", "--list", url=netbox.url)
    assert code == 0, said
    # Ansible marks text from elsewhere, which is no template.
    inventory = json.loads(said[said.index("{"):said.rindex("}") + 1], object_hook=lambda found: found.get("__ansible_unsafe", found))
    hosts = inventory["_meta"]["hostvars"]
    assert sorted(inventory["map_ce"]["hosts"]) == ["ce1", "ce2", "ce3", "ce4"] and inventory["map_br"]["hosts"] == ["br1"] and "sw1" not in hosts
    assert {name: hosts[name].get("map_ce_end_user_prefix") for name in ("ce1", "ce2", "ce4")} == {
        "ce1": "2001:db8:12:3400::/56", "ce2": "2001:db8:12:3500::/56", "ce4": None}
    assert [hosts[name]["map_ce_wan_interface"] for name in ("ce1", "ce2")] == ["eth0", "ens3"]
    assert [hosts[name]["map_ce_state"] for name in ("ce1", "ce3")] == ["present", "absent"]
    assert hosts["ce1"]["map_domain"] == CONTEXT["map_domain"] == hosts["br1"]["map_domain"] and hosts["ce2"]["ansible_host"] == "2001:db8:6::12"
    assert any(re.search("devices/.*role=map_ce&role=map_br", path) for path in netbox.asked)


def test_the_commands_run_and_the_report_names_who_has_no_prefix(run, tmp_path):
    (shell,) = (block.text for block in BLOCKS if block.language == "shell")
    commands = [shlex.split(command) for command in shell.splitlines()]
    with NetBox(DEVICES) as netbox:
        for program, *arguments in commands:
            # site would call the routers.
            extra = ["--syntax-check"] if "softwire.map.site" in arguments else []
            code, said = run(program.removeprefix("ansible-"), *arguments, *extra, url=netbox.url)
            assert code == 0, said
    text = (tmp_path / "report/report.md").read_text()
    assert "| ce1 |" in text and "| ce2 |" in text and "| ce3 |" not in text and "Border relays: br1" in text
    assert "**Not in this report:** ce4: map\\_ce\\_end\\_user\\_prefix: not set" in text


def test_a_netbox_that_refuses_is_an_error(run):
    with NetBox(DEVICES) as netbox:
        code, said = run("inventory", "-i", "inventory", "--list", url=netbox.url, token="wrong")
    assert code and "Completely failed to parse inventory source" in said, said
