# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One load of the programs for all tests. Root is needed, and clang, bpftool and libbpf-dev."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel import SOURCES, Translator, TranslatorRelay, TunnelRelay, build, load, unmount


def load_into(source, factory):
    """Builds and loads a source file; yields the directory where it is pinned."""
    target, directory = factory.mktemp("object") / "relay.bpf.o", factory.mktemp("bpffs")
    build(source, target)
    try:
        load(target, directory)
        yield directory
    finally:
        unmount(directory)


@pytest.fixture(scope="session")
def pinned_mapt(tmp_path_factory):
    yield from load_into(SOURCES / "mapt.bpf.c", tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_mape(tmp_path_factory):
    yield from load_into(SOURCES / "mape.bpf.c", tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_tunnel_key(tmp_path_factory):
    yield from load_into(Path(__file__).with_name("tunnel_key.bpf.c"), tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_translate(tmp_path_factory):
    yield from load_into(SOURCES / "translate.bpf.c", tmp_path_factory)


@pytest.fixture(scope="session")
def translator(pinned_translate):
    """The programs of translate.bpf.c; a test calls configure_relay() or configure_edge() first."""
    return Translator(pinned_translate)


@pytest.fixture(scope="session")
def loaded(pinned_mapt):
    return TranslatorRelay(pinned_mapt)


@pytest.fixture
def relay(loaded):
    """The programs of mapt.bpf.c; a test calls configure() first."""
    return loaded


@pytest.fixture(scope="session")
def tunnel(pinned_tunnel_key):
    """The programs of mape.bpf.c without a tunnel device; a test calls configure() first."""
    return TunnelRelay(pinned_tunnel_key)


def pytest_make_parametrize_id(config, val, argname):
    """Packets are no names for tests."""
    return argname if isinstance(val, bytes) else None
