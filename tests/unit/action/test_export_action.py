# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action export: its files, written only where they differ, removed where they are no longer made, and nothing else touched."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.softwire.map.plugins.action import export

DOMAIN = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
    {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}]}
HOSTVARS = {"a": {"map_domain": DOMAIN, "map_ce_end_user_prefix": "2001:db8::/56"}, "r": {"map_domain": DOMAIN}}
NAMES = ["dnsmasq.conf", "kea-subnet6.inc", "r/bird.conf", "r/frr.conf"]


def run(directory, check=False, hostvars=None, **args):
    task = mock.Mock(args={"directory": str(directory), "customer_edges": ["a"], "border_relays": ["r"], **args}, check_mode=check, async_val=0)
    plugin = export.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    with mock.patch.object(export.ActionModule, "_execute_module") as execute:
        result = plugin.run(None, {"hostvars": {**HOSTVARS, **(hostvars or {})}})
    assert not execute.called
    return result


def present(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_it_writes_its_files_and_leaves_others(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/mine").write_text("")
    before = os.umask(0o077)
    try:
        result = run(tmp_path)
    finally:
        os.umask(before)
    assert result["changed"] and present(tmp_path) == sorted([*NAMES, "r/mine"])
    assert sorted(result["files"]) == [str(tmp_path / name) for name in NAMES]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in NAMES} == {0o644}
    assert [entry["before_header"] for entry in result["diff"]] == ["/dev/null"] * 4


def test_a_second_run_changes_nothing(tmp_path):
    run(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in NAMES}
    result = run(tmp_path)
    assert not result["changed"] and result["diff"] == []
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in NAMES} == times


def test_check_mode_writes_nothing_and_tells(tmp_path):
    result = run(tmp_path / "new", check=True)
    assert result["changed"] and len(result["diff"]) == 4 and not (tmp_path / "new").exists()
    run(tmp_path / "new")
    changed = {"a": {**HOSTVARS["a"], "map_export_duid": "00:03:00:01:02:00:5e:10:00:01"}}
    (entry,) = run(tmp_path / "new", check=True, hostvars=changed)["diff"]
    assert "kea-subnet6.inc" in entry["after_header"] and "02:00:5e" in entry["after"] and "02:00:5e" not in entry["before"]
    assert not run(tmp_path / "new", check=True)["changed"]


def test_what_is_no_longer_made_goes(tmp_path):
    run(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/bird.conf").write_text("")
    result = run(tmp_path, hostvars={"r": {"map_br_state": "absent"}})
    assert result["changed"] and present(tmp_path) == ["dnsmasq.conf", "kea-subnet6.inc", "other/bird.conf"]
    assert {entry["after_header"] for entry in result["diff"]} == {"/dev/null"}


@pytest.mark.parametrize("hostvars, said", [
    ({"a": {"map_domain": DOMAIN}}, "hostvars['a']: map_ce_end_user_prefix: not set: is required"),
    ({"a": {**HOSTVARS["a"], "map_export_duid": "ethernet"}}, "hostvars['a'].map_export_duid: 'ethernet': must be a DUID"),
])
def test_a_fault_writes_nothing(tmp_path, hostvars, said):
    with pytest.raises(AnsibleActionFail) as raised:
        run(tmp_path / "new", hostvars=hostvars)
    assert said in str(raised.value) and str(raised.value).endswith("(nothing was written)") and not (tmp_path / "new").exists()


def test_a_directory_that_cannot_be():
    with pytest.raises(AnsibleActionFail) as raised:
        run("/proc/nowhere")
    assert "directory: /proc/nowhere: cannot hold the files" in str(raised.value)
