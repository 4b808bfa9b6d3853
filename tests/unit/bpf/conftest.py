# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One load of the programs for all tests. Root is needed, and clang, bpftool and libbpf-dev."""

from __future__ import annotations

import pytest
from kernel import Relay, build, load, unmount


@pytest.fixture(scope="session")
def bpf_object(tmp_path_factory):
    """The compiled object."""
    target = tmp_path_factory.mktemp("object") / "mapt.bpf.o"
    build(target)
    return target


@pytest.fixture(scope="session")
def loaded(bpf_object, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bpffs")
    try:
        load(bpf_object, directory)
        yield Relay(directory)
    finally:
        unmount(directory)


@pytest.fixture
def relay(loaded):
    """The programs; a test calls configure() first."""
    return loaded


def pytest_make_parametrize_id(config, val, argname):
    """Packets are no names for tests."""
    return argname if isinstance(val, bytes) else None
