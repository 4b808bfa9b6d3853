# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action report: two files, written only where they differ, and what it makes of the routers' answers."""

from __future__ import annotations

import os
from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleActionFail

from ansible_collections.softwire.map.plugins.action import report
from ansible_collections.softwire.map.plugins.modules import map_info

DOMAIN = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
    {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}]}
HOSTVARS = {
    "a": {"map_domain": DOMAIN, "map_ce_end_user_prefix": "2001:db8::/56"},
    "b": {"map_domain": DOMAIN, "map_ce_end_user_prefix": "2001:db8:0:100::/56"},
    "r": {"map_domain": DOMAIN},
}
# As the module says that it answers: 252 ports, 2 of them in use.
ANSWER = {"parameters": {"ce": {"map_address": "2001:db8::c000:200:0"}}, "ports": yaml.safe_load(map_info.RETURN)["ports"]["sample"]}


def run(directory, check=False, hostvars=None, **args):
    task = mock.Mock(
        args={"directory": str(directory), "customer_edges": ["a", "b"], "border_relays": ["r"], **args}, check_mode=check, async_val=0)
    plugin = report.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    with mock.patch.object(report.ActionModule, "_execute_module") as execute:
        result = plugin.run(None, {"hostvars": hostvars or HOSTVARS})
    assert not execute.called
    return result


def test_it_writes_two_files_and_leaves_others(tmp_path):
    (tmp_path / "mine").write_text("")
    before = os.umask(0o077)
    try:
        result = run(tmp_path)
    finally:
        os.umask(before)
    assert result["changed"] and result["faults"] == 0
    assert result["files"] == [str(tmp_path / "report.html"), str(tmp_path / "report.md")]
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "report.html", "report.md"}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("report.html", "report.md")} == {0o644}
    assert [entry["before_header"] for entry in result["diff"]] == ["/dev/null"] * 2


def test_a_second_run_changes_nothing(tmp_path):
    run(tmp_path)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())]
    result = run(tmp_path)
    assert not result["changed"] and result["diff"] == []
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == times


def test_check_mode_writes_nothing_and_tells(tmp_path):
    result = run(tmp_path / "new", check=True)
    assert result["changed"] and len(result["diff"]) == 2 and not (tmp_path / "new").exists()
    run(tmp_path / "new")
    assert not run(tmp_path / "new", check=True)["changed"]
    changed = run(tmp_path / "new", check=True, customer_edges=["a"])
    assert changed["changed"] and "192.0.2.0" in changed["diff"][1]["after"]
    assert not run(tmp_path / "new", check=True)["changed"]


def test_faults_are_counted_and_do_not_fail(tmp_path):
    twin = {"map_domain": DOMAIN, "map_ce_end_user_prefix": "2001:db8::/56"}
    assert run(tmp_path, hostvars={**HOSTVARS, "b": twin, "r": {}})["faults"] == 2


@pytest.mark.parametrize("answer, text", [
    (ANSWER, "0.8 % (2 tcp, 0 udp, 0 icmp)"),
    ({"msg": "Connection refused", "unreachable": True}, "not known: Connection refused"),
    ({**ANSWER, "ports": None, "notices": ["ports: no conntrack", "tunnel: gone"]}, "not known: ports: no conntrack; tunnel: gone"),
    ({"skipped": True}, "not known: not asked"),
    (None, "not known: not asked"),
])
def test_answers_of_the_routers(tmp_path, answer, text):
    asked = {"answer": answer} if answer else {}
    run(tmp_path, hostvars={**HOSTVARS, "a": {**HOSTVARS["a"], **asked}}, answers="answer")
    assert f"| {text} |" in (tmp_path / "report.md").read_text()


def test_a_directory_that_cannot_be(tmp_path):
    with pytest.raises(AnsibleActionFail) as raised:
        run("/proc/nowhere")
    assert "directory: /proc/nowhere: cannot hold the report" in str(raised.value)
