# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From parameters to files; nft itself reads every ruleset of every kind of device."""

from __future__ import annotations

import json
import os

import examples
import pytest
from jinja2 import UndefinedError

from ansible_collections.softwire.map.plugins.module_utils.routers import border_relay, customer_edge, deployment, render


def test_a_generation(tmp_path):
    (tmp_path / "one.j2").write_text("{% if true %}\n{{ name }}\n{% endif %}\n")
    (tmp_path / "nothing.j2").write_text("{% if false %}\nx\n{% endif %}\n\n")
    files = render.generation(str(tmp_path), {"main/ip": "one.j2", "main/tc": "nothing.j2"}, {"name": "<a&b>"}, {"instance": "x"})
    assert set(files) == {"main/ip", "instance.json", "parameters.json"} | set(examples.PROGRAMS)
    assert files["main/ip"] == "<a&b>\n"
    assert json.loads(files["instance.json"]) == {"instance": "x"}
    assert json.loads(files["parameters.json"]) == {"name": "<a&b>"}
    for program in examples.PROGRAMS:
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


def test_json_is_stable():
    assert render.as_json({"b": 1, "a": [1]}) == '{\n  "a": [\n    1\n  ],\n  "b": 1\n}\n'


def test_the_unit_brings_up_what_current_points_at():
    unit, = (path.read_text() for path in render.UNITS if path.name == "softwire@.service")
    for action in ("ExecStart=", "ExecReload="):
        assert f"{action}/usr/bin/python3 -B -m softwire" in unit
    assert "-B -m softwire down" in unit


def rulesets():
    """Every ruleset, once: {text: where it comes from}."""
    found = {}
    cases = [(f"{case}, {layout}", {"napt_namespace": napt, **variables})
             for all_cases, layouts in ((examples.CE_CASES, examples.LAYOUTS), (examples.MAPE_CASES, examples.MAPE_LAYOUTS))
             for case, variables in all_cases.items() for layout, napt in layouts.items()]
    for case, variables in cases:
        for name, files in examples.ce_generations(**variables).items():
            found.update({text: f"{case}, {name}, {path}" for path, text in files.items() if path.endswith(".nft")})
    for case, variables in examples.BR_CASES.items():
        for name, files in examples.br_generations(**variables).items():
            found.update({text: f"{case}, {name}, {path}" for path, text in files.items() if path.endswith(".nft")})
    return found


def test_nft_reads_every_ruleset(sandbox, tmp_path):
    found = rulesets()
    assert len(found) > 30
    for number, text in enumerate(found):
        (tmp_path / f"{number}.nft").write_text(text)
    done = sandbox.run("sh", "-c", f"cd {tmp_path}; for file in *.nft; do nft -c -f $file || echo $file; done")
    assert (done.stdout, done.stderr) == ("", ""), [list(found.values())[int(line.split(".")[0])] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("comment", ["it's # the $web; { } \u00fc", " ", "\U0001f3ae" * 40], ids=["ascii", "blank", "wide"])
def test_nft_takes_every_comment(comment, sandbox, tmp_path):
    variables = {**examples.CE_CASES["offset_6_with_forwards"],
                 "port_forwards": [{"port": 1232, "to_address": "192.168.0.10", "comment": comment}]}
    (tmp_path / "napt.nft").write_text(examples.ce_generations(**variables)["jool_siit"]["napt/napt.nft"])
    sandbox.run("nft", "-c", "-f", tmp_path / "napt.nft")
