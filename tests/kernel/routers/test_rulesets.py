# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nft itself reads every ruleset of every kind of device."""

from __future__ import annotations

import re

import role_variables
import pytest

FIREWALL = {"ipv6_firewall": "stateful", "ipv6_forwards": [{"address": "2001:db8:ce:11a::4", "port": 443, "protocol": protocol}
                                                           for protocol in ("tcp", "udp", "tcp_udp")]}


def rulesets():
    """Every ruleset, once: {text: where it comes from}."""
    found = {}
    cases = [(f"{case}, {layout}", {"napt_namespace": napt, **FIREWALL, **variables})
             for all_cases, layouts in ((role_variables.CE_CASES, role_variables.LAYOUTS), (role_variables.MAPE_CASES, role_variables.MAPE_LAYOUTS))
             for case, variables in all_cases.items() for layout, napt in layouts.items()]
    for case, variables in cases:
        for name, files in role_variables.ce_generations(**variables).items():
            found.update({text: f"{case}, {name}, {path}" for path, text in files.items() if path.endswith(".nft")})
    for case, variables in (*role_variables.BR_CASES.items(), *role_variables.MAPE_BR_CASES.items()):
        for name, files in role_variables.br_generations(**variables).items():
            found.update({text: f"{case}, {name}, {path}" for path, text in files.items() if path.endswith(".nft")})
    return found


def test_nft_reads_every_ruleset(sandbox, tmp_path):
    found = rulesets()
    assert len(found) > 30
    for number, text in enumerate(found):
        (tmp_path / f"{number}.nft").write_text(text)
    # It has to list them as well: of some rules that it takes, nft 1.0.6 dies when it shows them.
    done = sandbox.run(
        "sh", "-c", f"cd {tmp_path}; for file in *.nft; do nft -f $file && nft list ruleset > /dev/null && nft -j list ruleset > /dev/null || echo $file; "
        "nft flush ruleset; done")
    assert (done.stdout, done.stderr) == ("", ""), [list(found.values())[int(line.split(".")[0])] for line in done.stdout.splitlines()]


def test_nft_reads_the_example_of_the_readme(sandbox, tmp_path):
    rules = re.search(r"```\n(table .*?)```", (role_variables.ROLES / "map_ce" / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "lan.nft").write_text(rules)
    sandbox.run("nft", "-c", "-f", tmp_path / "lan.nft")


@pytest.mark.parametrize("comment", ["it's # the $web; { } \u00fc", " ", "\U0001f3ae" * 40], ids=["ascii", "blank", "wide"])
def test_nft_takes_every_comment(comment, sandbox, tmp_path):
    variables = {**role_variables.CE_CASES["offset_6_with_forwards"],
                 "port_forwards": [{"port": 1232, "to_address": "192.168.0.10", "comment": comment}]}
    (tmp_path / "napt.nft").write_text(role_variables.ce_generations(**variables)["jool_siit"]["napt/napt.nft"])
    sandbox.run("nft", "-c", "-f", tmp_path / "napt.nft")
