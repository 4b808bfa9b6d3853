# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tests/run: what the summary says of stages, and which files of the checkout are for users."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "run"


@pytest.fixture
def stages(monkeypatch):
    loader = SourceFileLoader("stages", str(FILE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("stages", loader))
    monkeypatch.setitem(sys.modules, "stages", module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


def outcome(stages, monkeypatch, *lines, code=0):
    """The outcome of the stage `kernel` where pytest says this."""
    said = stages.sh
    script = "; ".join(f"echo '{line}'" for line in lines) + f"; exit {code}"
    monkeypatch.setattr(stages, "sh", lambda _command: said(script))
    return stages.run("kernel")


NO_CLANG, NO_ROOT = "needs the packages clang", "needs root, for network namespaces"


def test_the_summary_counts_the_tests_that_were_skipped_by_their_reason(stages, monkeypatch):
    found = outcome(stages, monkeypatch, "..ss", f"SKIPPED [2] tests/kernel/conftest.py:26: {NO_CLANG}", "2 passed, 2 skipped in 1.00s")
    assert (found.state, found.reason) == ("passed", f"2 tests SKIPPED: {NO_CLANG}")


def test_a_stage_of_which_nothing_ran_is_skipped(stages, monkeypatch):
    found = outcome(stages, monkeypatch, "ss", f"SKIPPED [2] tests/kernel/conftest.py:26: {NO_ROOT}", "2 skipped in 1.00s")
    assert (found.state, found.reason) == ("SKIPPED", f"2 tests SKIPPED: {NO_ROOT}")


def test_a_stage_that_fails_shows_what_was_wrong(stages, monkeypatch):
    found = outcome(stages, monkeypatch, "E   assert 1 == 2", "1 failed in 1.00s", code=1)
    assert (found.state, found.said) == ("FAILED", ["E   assert 1 == 2"])


def test_users_get_all_but_the_workshop(stages, tmp_path):
    names = stages.checkout(tmp_path)
    for_users = {name for name in names if not name.startswith(stages.WORKSHOP)}
    assert {"README.md", "meta/runtime.yml", "plugins/filter/ce.py", "plugins/module_utils/softwire/__main__.py", "roles/map_ce/tasks/main.yml"} <= for_users
    assert {name.partition("/")[0] for name in for_users if "/" in name} == {"changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "roles"}
    assert not names & set(stages.LITTER) and (tmp_path / "collections/ansible_collections/softwire/map").is_symlink()
