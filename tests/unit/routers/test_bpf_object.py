# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF object: compiled here, or given, and what is said where neither works."""

from __future__ import annotations

import shutil

import examples
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


def test_compiled_from_the_source_of_the_role():
    content = build()
    assert content[:4] == b"\x7fELF" and b"mapt_in" in content and b"mapt_out" in content
    assert str(examples.ROLES).encode() not in content  # the same bytes wherever the collection lies


def test_a_given_object_is_taken_as_it_is(tmp_path):
    target = tmp_path / "given.o"
    target.write_bytes(build())
    assert build(str(target)) == target.read_bytes()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"text that is longer than an ELF header", b"\x7fELF" + bytes(14) + b"\x3e\x00"])
def test_a_given_file_that_is_no_bpf_object(content, tmp_path):
    target = tmp_path / "given.o"
    target.write_bytes(content)
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*given.o': is no BPF object file"):
        build(str(target))


def test_a_given_file_that_is_not_there(tmp_path):
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*: cannot be read on the controller: Is a directory"):
        build(str(tmp_path))


def test_no_compiler(nothing_compiled, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*the controller has no clang; install clang and libbpf-dev on the controller"):
        build()


def test_a_source_that_does_not_compile(nothing_compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(bpf_object, "SOURCES", tmp_path)
    (tmp_path / "mapt.bpf.c").write_text("int broken(\n")
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*do not compile: mapt.bpf.c:"):
        build()
