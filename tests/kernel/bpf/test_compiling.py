# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The border relay's programs, compiled from the role's source."""

from __future__ import annotations

import role_variables
import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_object

VARIABLE = "map_br_bpf_object"


def build():
    return bpf_object.build("mapt.bpf.c", "", VARIABLE)


def test_compiled_from_the_source_of_the_role():
    content = build()
    assert content[:4] == b"\x7fELF" and b"mapt_in" in content and b"mapt_out" in content
    assert str(role_variables.ROLES).encode() not in content  # the same bytes wherever the collection lies


def test_a_source_that_does_not_compile(tmp_path, monkeypatch):
    monkeypatch.setattr(bpf_object, "SOURCES", tmp_path)
    (tmp_path / "mapt.bpf.c").write_text("int broken(\n")
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*do not compile: mapt.bpf.c:"):
        build()
