# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pretended routers for the module deploy, without and with a generation."""

from __future__ import annotations

import pytest
from pretended_router import Router, offered


@pytest.fixture
def router(tmp_path, monkeypatch):
    made = Router(tmp_path)
    made.pretend(monkeypatch)
    return made


@pytest.fixture
def running(router):
    """A router with a first generation."""
    first = router.run(alternatives=offered())
    assert not first["failed"], first
    return router
