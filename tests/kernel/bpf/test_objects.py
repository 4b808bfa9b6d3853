# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF objects that users get are what the sources give."""

from __future__ import annotations

import shutil

import bpf_objects
import pytest


@pytest.mark.parametrize("source", bpf_objects.sources(), ids=lambda path: path.name)
def test_the_sources_give_the_object_byte_for_byte(source, tmp_path):
    """In whatever directory they lie. Another clang than the recorded one has to compile them without a warning, too."""
    elsewhere = shutil.copytree(bpf_objects.PROGRAMS, tmp_path / "elsewhere")
    target = tmp_path / "made.bpf.o"
    bpf_objects.compile_object(elsewhere / source.name, target)
    if bpf_objects.clang_version() == bpf_objects.recorded()["clang"]:
        assert target.read_bytes() == bpf_objects.object_of(source).read_bytes()
