# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF object that is given, and what is said where there is none and no compiler. Compiling: tests/kernel/bpf."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_object
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError

VARIABLE = "map_br_bpf_object"


def build(prebuilt=""):
    return bpf_object.build("mapt.bpf.c", prebuilt, VARIABLE)


@pytest.fixture
def nothing_compiled():
    bpf_object.compiled.cache_clear()
    yield
    bpf_object.compiled.cache_clear()


def test_a_given_object_is_taken_as_it_is(tmp_path):
    target = tmp_path / "given.o"
    content = b"\x7fELF" + bytes(14) + b"\xf7\0 and so on"
    target.write_bytes(content)
    assert build(str(target)) == content


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"text that is longer than an ELF header", b"\x7fELF" + bytes(14) + b"\x3e\x00"])
def test_a_given_file_that_is_no_bpf_object(content, tmp_path):
    target = tmp_path / "given.o"
    target.write_bytes(content)
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*: is no BPF object file"):
        build(str(target))


def test_a_given_file_that_is_not_there(tmp_path):
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*: cannot be read on the controller: Is a directory"):
        build(str(tmp_path))


def test_no_compiler(nothing_compiled, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*the controller has no clang; install clang and libbpf-dev on the controller"):
        build()
