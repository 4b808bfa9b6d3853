# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a generation as somebody on the router reads them."""

from __future__ import annotations

import re

import role_variables
import pytest

LAYOUTS = {
    "map-t, napt": (role_variables.CE_CASES, {}),
    "map-t, translator": (role_variables.CE_CASES, {"napt_namespace": "", "ipv6_firewall": "stateful"}),
    "map-e, napt": (role_variables.MAPE_CASES, {}),
    "map-e, main": (role_variables.MAPE_CASES, {"napt_namespace": "", "conntrack_max": 5000, "max_ports_per_client": 20, "ipv6_firewall": "stateful",
                                                "ipv6_forwards": [{"address": "2001:db8:12:3400::10", "port": 443}]}),
    "map-e, networkd": (role_variables.MAPE_CASES, {"napt_namespace": "", "network_backend": "networkd", "dns_servers": ["2001:db8::53"]}),
}
GENERATIONS = {
    **{f"{layout}, {case}": (role_variables.ce_generations, {**variables, **changes})
       for layout, (cases, changes) in LAYOUTS.items() for case, variables in cases.items()},
    **{f"relay, {case}": (role_variables.br_generations, variables) for case, variables in role_variables.BR_CASES.items()},
}


@pytest.mark.parametrize("case", GENERATIONS)
def test_files_are_readable(case):
    made, variables = GENERATIONS[case]
    for name, files in made(**variables).items():
        for path, text in files.items():
            where = f"{name}, {path}"
            if path.startswith("softwire/") or path.endswith((".json", ".o")):
                continue
            assert not re.search(r"\A\n|\n\n\n|\n\n\Z|[^\n]\Z", text), f"{where}: blank lines, or no newline at the end"
            assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{where}: blanks at the end of a line"
            assert not re.search(r"\{\n\n|\n\n *\}", text), f"{where}: a blank line inside of a brace"
            # The comment on top is about the file; each of the others has lines below it.
            assert not re.search(r"^ *#[^\n]*\n( *\}|\n|\Z)", text.partition("\n\n")[2], re.MULTILINE), f"{where}: a heading without lines"
