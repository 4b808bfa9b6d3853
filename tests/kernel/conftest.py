# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine of its own for what touches a kernel; the modules beside this file are importable from every test below."""

from __future__ import annotations

import pytest
from sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path):
    made = Sandbox(tmp_path)
    try:
        yield made
    finally:
        made.close()
