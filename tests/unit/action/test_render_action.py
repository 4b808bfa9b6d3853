# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action render: the files that deploy would bring, in a directory, and nothing else in it."""

from __future__ import annotations

import os
from unittest import mock

import role_variables
import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.softwire.map.plugins.action import render
from ansible_collections.softwire.map.plugins.module_utils.softwire.files import read

MADE = {
    f"{name}/{path}": content.encode() if isinstance(content, str) else content
    for name, files in role_variables.ce_generations().items() for path, content in files.items()
}


def run(directory, check=False, **changes):
    args = {"directory": str(directory), "instance": "ce", "customer_edge": role_variables.ce(), **changes}
    task = mock.Mock(args=args, check_mode=check, async_val=0)
    plugin = render.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    with mock.patch.object(render.ActionModule, "_execute_module") as execute:
        result = plugin.run(None, {})
    assert not execute.called
    return result


def test_it_writes_what_would_be_deployed(tmp_path):
    before = os.umask(0o077)
    try:
        result = run(tmp_path)
    finally:
        os.umask(before)
    assert result["changed"] and result["alternatives"] == ["bpf", "jool_mapt", "jool_siit"]
    assert result["directory"] == str(tmp_path / "ce")
    assert read(tmp_path / "ce") == MADE
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}
    assert {entry["before_header"] for entry in result["diff"]} == {"/dev/null"} and len(result["diff"]) == len(MADE)


def test_a_second_run_changes_nothing(tmp_path):
    run(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = run(tmp_path)
    assert not result["changed"] and result["diff"] == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_what_is_no_longer_made_goes(tmp_path):
    run(tmp_path)
    (tmp_path / "ce/jool_siit/main/old").write_bytes(b"\xff")
    (tmp_path / "ce/other/deep").mkdir(parents=True)
    (tmp_path / "ce/other/deep/file").write_text("")
    (tmp_path / "mine").write_text("")
    result = run(tmp_path, customer_edge=role_variables.ce(translator="jool_siit"))
    assert result["changed"] and (tmp_path / "mine").exists()
    made = role_variables.ce_generations(translator="jool_siit")["jool_siit"]
    assert read(tmp_path / "ce") == {f"jool_siit/{path}": content if isinstance(content, bytes) else content.encode() for path, content in made.items()}
    assert {path.name for path in (tmp_path / "ce").iterdir()} == {"jool_siit"}


def test_absent_leaves_nothing(tmp_path):
    run(tmp_path)
    assert run(tmp_path, state="absent", customer_edge=None)["changed"]
    assert list(tmp_path.iterdir()) == []
    assert not run(tmp_path, state="absent", customer_edge=None)["changed"]


def test_check_mode_writes_nothing_and_tells(tmp_path):
    result = run(tmp_path / "new", check=True)
    assert result["changed"] and len(result["diff"]) == len(MADE) and not (tmp_path / "new").exists()
    run(tmp_path / "new")
    assert not run(tmp_path / "new", check=True)["changed"]
    changed = run(tmp_path / "new", check=True, customer_edge=role_variables.ce(wan_mtu=1492))
    assert changed["changed"] and 0 < len(changed["diff"]) < len(MADE)
    assert read(tmp_path / "new/ce") == MADE


@pytest.mark.parametrize("changes, said", [
    ({"customer_edge": role_variables.ce(wan_mtu=0)}, "map_ce_wan_mtu: 0: must be an integer between 1280 and 65535 (nothing was written)"),
    ({"customer_edge": role_variables.ce(instance="../ce")}, "map_ce_instance: '../ce': must be at most 10 characters"),
    ({"directory": "/proc/nowhere"}, "directory: /proc/nowhere: cannot hold the generations"),
])
def test_errors(tmp_path, changes, said):
    with pytest.raises(AnsibleActionFail) as raised:
        run(**{"directory": tmp_path, **changes})
    assert said in str(raised.value) and list(tmp_path.iterdir()) == []
