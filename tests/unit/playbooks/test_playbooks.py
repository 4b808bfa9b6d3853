# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks, as far as they ask no router. Those that do are tried on stand-ins, in tests/kernel/playbooks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
PLAYBOOKS = REPOSITORY / "playbooks"
EXAMPLE = REPOSITORY / "inventories" / "example"
CE = {
    "map_domain": {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
        {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16, "psid_offset": 0}]},
    "map_ce_wan_interface": "isp", "map_ce_lan_interfaces": ["lan"], "map_ce_lan_addresses": ["192.168.0.1/24"],
}


def ansible(playbook, *arguments, home, **environment):
    """(exit code, output) of a playbook."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", str(PLAYBOOKS / playbook), *map(str, arguments)],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_HOME": str(home),
             "ANSIBLE_NOCOLOR": "1", **environment},
        cwd=home, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return done.returncode, said


PLAYBOOK_NAMES = ["export.yml", "render.yml", "report.yml", "rollback.yml", "site.yml", "verify.yml"]


@pytest.mark.parametrize("playbook", PLAYBOOK_NAMES)
def test_syntax(playbook, tmp_path):
    code, said = ansible(playbook, "--syntax-check", "-i", EXAMPLE, home=tmp_path)
    assert code == 0, said


def test_every_playbook_is_tested():
    assert sorted(path.name for path in PLAYBOOKS.glob("*.yml")) == PLAYBOOK_NAMES


WRONG_GROUPS = """\
routers:
  hosts: {ce1: {ansible_connection: no.such.plugin}}
relays:
  hosts: {br1: }
nobody:
  hosts: {}
"""


@pytest.mark.parametrize("limit", [[], ["--limit", "ce1"]])
@pytest.mark.parametrize("playbook", PLAYBOOK_NAMES)
def test_groups_of_other_names_are_an_error_that_lists_them(playbook, limit, tmp_path):
    (tmp_path / "inventory.yml").write_text(WRONG_GROUPS)
    code, said = ansible(playbook, "-i", "inventory.yml", *limit, home=tmp_path)
    assert code == 2 and "No host is in the group map_ce (customer edges) or map_br (border relays)" in said, said
    assert "The hosts of this inventory are in the groups relays, routers: name yours map_ce and map_br." in said, said
    assert said.count("PLAY [") == 1, said


@pytest.mark.parametrize("limit", [[], ["--limit", "ce1"]])
@pytest.mark.parametrize("playbook", PLAYBOOK_NAMES)
def test_an_inventory_that_does_not_parse_is_an_error(playbook, limit, tmp_path):
    (tmp_path / "inventory.yml").write_text("map_ce: {hosts: {ce1: [}\n")
    code, said = ansible(playbook, "-i", "inventory.yml", *limit, home=tmp_path)
    assert code and "This inventory has no host at all: see whether Ansible warns above" in said, said


@pytest.mark.parametrize(("group", "variables"), [("map_ce", {"map_ce_state": "absent"}), ("map_br", {"map_br_state": "absent"})])
def test_one_of_the_two_groups_is_enough(group, variables, tmp_path):
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({group: {"hosts": {"r": variables}}, "others": {"hosts": {"web": {}}}}))
    for arguments, name in ([], "localhost"), (["--check"], "localhost"), (["--limit", "r"], "r"), (["--limit", "web"], "web"):
        code, said = ansible("render.yml", "-i", "inventory.yml", *arguments, home=tmp_path)
        assert code == 0 and f"ok: [{name}]" in said, said


def twins(tmp_path):
    """An inventory in which two customer edges are one."""
    hosts = {name: {"map_ce_end_user_prefix": prefix, "ansible_connection": "local"}
             for name, prefix in (("a", "2001:db8::/56"), ("b", "2001:db8:0:10::/60"), ("c", "2001:db8:0:200::/56"))}
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump({"map_ce": {"hosts": hosts}, "map_br": {"hosts": {"r": {}}}, "all": {"vars": CE}}))
    return path


@pytest.mark.parametrize("playbook", ["site.yml", "render.yml"])
def test_two_customer_edges_that_are_one_end_it_at_once(playbook, tmp_path):
    code, said = ansible(playbook, "-i", twins(tmp_path), "--limit", "b:map_br", home=tmp_path)
    assert code == 2 and "hostvars['b'].map_ce_end_user_prefix: '2001:db8:0:10::/60': gives the same CE as hostvars['a']" in said, said
    # Once in what Ansible says of the error, and once in the task's result.
    assert said.count("gives the same CE") <= 2, said
    assert "PLAY [Border relays]" not in said and not (tmp_path / "generations").exists()


def test_others_than_those_two_can_go_on(tmp_path):
    code, said = ansible("render.yml", "-i", twins(tmp_path), "--limit", "c", home=tmp_path)
    assert code == 0 and [path.name for path in (tmp_path / "generations").iterdir()] == ["c"], said


def called_by_ssh(tmp_path):
    """Arguments with which SSH is a program that writes down that it was called; nothing else could reach these addresses."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 255\n")
    ssh.chmod(0o755)
    return ["-e", "ansible_host=192.0.2.254", "-e", f"ansible_ssh_executable={ssh}", "-e", "ansible_connection=ssh"]


def test_render_asks_no_router(tmp_path):
    reach = called_by_ssh(tmp_path)
    code, said = ansible("render.yml", "-i", EXAMPLE, *reach, "--limit", "map_ce", home=tmp_path)
    assert code == 0, said
    names = {str(path.relative_to(tmp_path / "generations")) for path in (tmp_path / "generations").glob("*/*/*")}
    assert names == {f"{host}/ce/{name}" for host in ("ce11a", "ce11b", "ce774") for name in ("bpf", "jool_mapt", "jool_siit")}
    assert (tmp_path / "generations/ce11a/ce/jool_siit/napt/napt.nft").read_text().startswith("# NAPT44")
    code, said = ansible("render.yml", "-i", EXAMPLE, *reach, "--limit", "ce774", "--check", "-e",
                         f"map_render_directory={tmp_path}/generations", home=tmp_path)
    assert code == 0 and "ce774" in said and "ce11a" not in said and "changed=0" in said, said
    assert not (tmp_path / "called").exists()
    ansible("site.yml", "-i", EXAMPLE, *reach, "--limit", "ce774", home=tmp_path)
    assert (tmp_path / "called").exists(), "site.yml would have called it"


def test_a_report_asks_no_router_and_changes_only_once(tmp_path):
    reach = called_by_ssh(tmp_path)
    code, said = ansible("report.yml", "-i", EXAMPLE, *reach, "--check", home=tmp_path)
    assert code == 0 and "changed=1" in said and not (tmp_path / "report").exists(), said
    code, said = ansible("report.yml", "-i", EXAMPLE, *reach, home=tmp_path)
    assert code == 0 and "changed=1" in said, said
    page, text = ((tmp_path / "report" / name).read_text() for name in ("report.html", "report.md"))
    for host in ("ce11a", "ce11b", "ce774"):
        assert page.count(f"</span>{host}</td>") == 1 and text.count(f"| {host} |") == 1
    assert "Border relays: br" in text and "In use" not in text
    # --limit leaves nobody out of it.
    code, said = ansible("report.yml", "-i", EXAMPLE, *reach, "--limit", "ce774", home=tmp_path)
    assert code == 0 and "changed=0" in said, said
    assert not (tmp_path / "called").exists()


def test_an_export_asks_no_router_and_changes_only_once(tmp_path):
    reach = called_by_ssh(tmp_path)
    code, said = ansible("export.yml", "-i", EXAMPLE, *reach, "--check", home=tmp_path)
    assert code == 0 and "changed=1" in said and not (tmp_path / "export").exists(), said
    code, said = ansible("export.yml", "-i", EXAMPLE, *reach, home=tmp_path)
    assert code == 0 and "changed=1" in said, said
    names = {str(path.relative_to(tmp_path / "export")) for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert names == {"kea-subnet6.inc", "dnsmasq.conf", "br/bird.conf", "br/frr.conf"}
    # --limit leaves nobody out of it.
    code, said = ansible("export.yml", "-i", EXAMPLE, *reach, "--limit", "ce774", home=tmp_path)
    assert code == 0 and "changed=0" in said, said
    assert not (tmp_path / "called").exists()


def test_an_export_refuses_customer_edges_that_are_one(tmp_path):
    code, said = ansible("export.yml", "-i", twins(tmp_path), home=tmp_path)
    assert code == 2 and "gives the same CE as hostvars['a']" in said and not (tmp_path / "export").exists(), said


def test_a_report_says_which_routers_have_not_answered(tmp_path):
    reach = called_by_ssh(tmp_path)
    code, said = ansible("report.yml", "-i", EXAMPLE, *reach, "--limit", "ce774", "-e", "map_report_live=true",
                         "-e", "map_report_directory=here", home=tmp_path)
    assert code == 0 and (tmp_path / "called").exists(), said
    answers = dict(re.findall(r"^\| (ce\w+) \|.*\| (not known: .*?) \| 2001", (tmp_path / "here/report.md").read_text(), re.MULTILINE))
    assert answers["ce11a"] == answers["ce11b"] == "not known: not asked" and "Failed to connect" in answers["ce774"], answers


def test_a_report_names_customer_edges_that_are_one(tmp_path):
    code, said = ansible("report.yml", "-i", twins(tmp_path), home=tmp_path)
    assert code == 0 and "gives the same CE as hostvars\\['a'\\]" in (tmp_path / "report/report.md").read_text(), said
