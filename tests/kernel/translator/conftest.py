# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One network for all tests, which leave it as it was; those that need another one make it for their module."""

from __future__ import annotations

import pytest
from network import running


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network")) as network:
        yield network
