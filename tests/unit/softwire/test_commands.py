# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands as the runner runs them."""

from __future__ import annotations

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import commands


def test_a_tool_that_fails_or_says_nothing_shows_nothing():
    assert commands.query(["false"]) == commands.query(["true"]) == commands.query(["sh", "-c", "echo broken; exit 1"]) == {}
    assert commands.query(["false"], as_json=False) == commands.query(["sh", "-c", "echo broken; exit 1"], as_json=False) == ""
    assert commands.query(["echo", '{"a": 1}']) == {"a": 1} and commands.query(["echo", " a "], as_json=False) == "a"
    assert commands.succeeds(["true"]) and not commands.succeeds(["false"])


def test_a_tool_that_is_not_there_is_another_thing():
    for run in (commands.run, commands.query, commands.succeeds):
        with pytest.raises(FileNotFoundError, match="no-such-tool"):
            run(["no-such-tool"])


def test_a_step_that_fails_says_what_the_command_said():
    assert commands.run(["cat"], text="a\n") == "a\n"
    with pytest.raises(commands.StepError, match="^sh -c echo out; echo err >&2; exit 3: exit code 3: err$"):
        commands.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    with pytest.raises(commands.StepError, match="exit code 1: out$"):
        commands.run(["sh", "-c", "echo out; exit 1"])


def test_what_a_command_says_is_english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    assert commands.query(["sh", "-c", "echo $LC_ALL"], as_json=False) == "C"


def test_what_is_no_utf8_can_be_said(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with pytest.raises(commands.StepError, match="exit code 1: a\ufffdb$"):
        commands.run(["sh", "-c", r"printf 'a\377b'; exit 1"])


def test_what_systemctl_says_is_to_be_seen(tmp_path, monkeypatch, capfd):
    tool = tmp_path / "systemctl"
    tool.write_text("#!/bin/sh\necho \"no $*\" >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert commands.systemctl("start", "x") is False and capfd.readouterr().err == "no start x\n"
