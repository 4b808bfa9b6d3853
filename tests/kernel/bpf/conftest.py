# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One load of the programs for all tests. Root is needed, and clang, llvm, bpftool and libbpf-dev."""

from __future__ import annotations

from pathlib import Path

import bpf_objects
import pytest
from kernel import Translator, TranslatorRelay, Tunnel, load, unmount

# What users run; and where the machine's clang is another than made that, what this one makes of the sources.
MADE_BY = ["recorded_clang", *(["this_clang"] if bpf_objects.clang_version() != bpf_objects.recorded()["clang"] else [])]


@pytest.fixture(scope="session", params=MADE_BY)
def objects(request, tmp_path_factory):
    """The directory of the objects."""
    if request.param == "recorded_clang":
        return bpf_objects.PROGRAMS
    directory = tmp_path_factory.mktemp("objects")
    for source in bpf_objects.sources():
        bpf_objects.compile_object(source, bpf_objects.object_of(source, directory))
    return directory


def load_into(target, factory):
    """Loads an object file; yields the directory where it is pinned."""
    directory = factory.mktemp("bpffs")
    try:
        load(target, directory)
        yield directory
    finally:
        unmount(directory)


@pytest.fixture(scope="session")
def pinned_mapt(objects, tmp_path_factory):
    yield from load_into(objects / "mapt.bpf.o", tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_mape(objects, tmp_path_factory):
    yield from load_into(objects / "mape.bpf.o", tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_tunnel_key(tmp_path_factory):
    target = tmp_path_factory.mktemp("object") / "tunnel_key.bpf.o"
    bpf_objects.compile_object(Path(__file__).with_name("tunnel_key.bpf.c"), target)
    yield from load_into(target, tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_translate(objects, tmp_path_factory):
    yield from load_into(objects / "translate.bpf.o", tmp_path_factory)


@pytest.fixture(scope="session")
def pinned_napt(objects, tmp_path_factory):
    yield from load_into(objects / "napt.bpf.o", tmp_path_factory)


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
    return Tunnel(pinned_tunnel_key)


def pytest_make_parametrize_id(config, val, argname):
    """Packets are no names for tests."""
    return argname if isinstance(val, bytes) else None
