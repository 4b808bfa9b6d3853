# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From parameters to files."""

from __future__ import annotations

import json
import os

import role_variables
import pytest
from jinja2 import UndefinedError

from ansible_collections.softwire.map.plugins.module_utils.routers import border_relay, customer_edge, deployment, render


def test_a_generation(tmp_path):
    (tmp_path / "one.j2").write_text("{% if true %}\n{{ name }}\n{% endif %}\n")
    (tmp_path / "nothing.j2").write_text("{% if false %}\nx\n{% endif %}\n\n")
    files = render.generation(str(tmp_path), {"main/ip": "one.j2", "main/tc": "nothing.j2"}, {"name": "<a&b>"}, {"instance": "x"})
    assert set(files) == {"main/ip", "instance.json", "parameters.json"} | set(role_variables.PROGRAMS)
    assert files["main/ip"] == "<a&b>\n"
    assert json.loads(files["instance.json"]) == {"instance": "x"}
    assert json.loads(files["parameters.json"]) == {"name": "<a&b>"}
    for program in role_variables.PROGRAMS:
        assert files[program].startswith("# Copyright (c) 2026 softwire.map contributors\n")


def test_a_parameter_that_is_not_there_is_no_empty_text(tmp_path):
    (tmp_path / "one.j2").write_text("{{ nam }}\n")
    with pytest.raises(UndefinedError, match="nam"):
        render.generation(str(tmp_path), {"main/ip": "one.j2"}, {"name": "a"}, {})


def test_templates_are_compiled_before_a_process_is_forked_for_each_host():
    assert set(deployment.DEVICES) == {"customer_edge", "border_relay"}
    for templates in (customer_edge.TEMPLATES, border_relay.TEMPLATES):
        jinja = render.environment(os.path.realpath(templates))
        assert {name for _loader, name in jinja.cache.keys()} == set(jinja.list_templates())


def test_without_jinja2_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "jinja2", None)
    render.compile_all(str(tmp_path))
    with pytest.raises(ImportError, match="install python3-jinja2"):
        render.environment(str(tmp_path))


def test_json_is_stable():
    assert render.as_json({"b": 1, "a": [1]}) == '{\n  "a": [\n    1\n  ],\n  "b": 1\n}\n'


def test_the_unit_brings_up_what_current_points_at():
    unit, = (path.read_text() for path in render.UNITS if path.name == "softwire@.service")
    for action in ("ExecStart=", "ExecReload="):
        assert f"{action}/usr/bin/python3 -B -m softwire" in unit
    assert "-B -m softwire down" in unit
