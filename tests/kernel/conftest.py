# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What touches a kernel: skipped with the reason where the machine lacks something; a machine and stand-in routers of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lacking import lack
from sandbox import Sandbox

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench" / "fleet"))

from standins import Fleet  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    reason = lack(item.path.relative_to(HERE).parts[0])
    if reason:
        pytest.skip(reason)


@pytest.fixture
def sandbox(tmp_path):
    made = Sandbox(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def fleet(tmp_path):
    """Stand-in routers of the fleet's benchmark, none yet."""
    (tmp_path / "fleet").mkdir()
    with Fleet(tmp_path / "fleet") as made:
        yield made
