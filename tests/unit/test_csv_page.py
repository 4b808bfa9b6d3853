# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on an inventory from a CSV file: its files and commands work, also with a thousand lines, and a bad line is an error."""

from __future__ import annotations

import json
import shlex

import pytest
import doc_samples

RELAY = {"br1"}


@pytest.fixture
def home(tmp_path):
    for block in doc_samples.blocks("csv"):
        if block.caption:
            path = tmp_path / block.caption
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    (tmp_path / "inventory/customers.py").chmod(0o755)
    return tmp_path


def listed(home):
    """(exit code, output) of ansible-inventory."""
    return doc_samples.ansible("inventory", "-i", "inventory", "--list", home=home)


def variables(said):
    return json.loads(said[said.index("{"):])["_meta"]["hostvars"]


def test_the_commands_work(home):
    (shell,) = doc_samples.texts("csv", "shell")
    chmod, *commands = shell.splitlines()
    assert chmod == "chmod +x inventory/customers.py" and len(commands) == 2
    for command in commands:
        program, *arguments = shlex.split(command)
        code, said = doc_samples.ansible(program.removeprefix("ansible-"), *arguments, home=home)
        assert code == 0 and "WARNING" not in said, said
    text = (home / "report/report.md").read_text()
    assert "| ce1 |" in text and "| ce2 |" in text and "| ce3 |" not in text and "Faults: none" in text


def test_cells_are_variables_and_empty_ones_are_the_groups(home):
    code, said = listed(home)
    hosts = variables(said)
    assert code == 0 and set(hosts) == {"ce1", "ce2", "ce3", *RELAY}, said
    assert [hosts[name]["map_ce_wan_interface"] for name in ("ce1", "ce2", "ce3")] == ["eth0", "ens3", "eth0"]
    assert "map_ce_state" not in hosts["ce1"] and hosts["ce3"]["map_ce_state"] == "absent"


def test_a_thousand_lines(home):
    lines = [f"ce{index},2001:db8:{index >> 8:x}:{(index & 255) << 8:x}::/56,,," for index in range(1000)]
    # As a spreadsheet writes it, and a name in quotation marks with a comma in it.
    header = (home / "customers.csv").read_text().splitlines()[0]
    (home / "customers.csv").write_text("\r\n".join([header, *lines, '"a, b",2001:db8:ff:ff00::/56,,,']), encoding="utf-8-sig", newline="")
    code, said = doc_samples.ansible("playbook", "-i", "inventory", "softwire.map.export", home=home)
    assert code == 0 and "changed=1" in said, said
    code, said = doc_samples.ansible("playbook", "-i", "inventory", "softwire.map.report", home=home)
    assert code == 0, said
    assert "- Customer edges: 1001\n" in (home / "report/report.md").read_text()


@pytest.mark.parametrize("table, said", [
    ("name,map_ce_end_user_prefix\nce1,2001:db8::/56\nce1,2001:db8:0:100::/56\n", "customers.csv, line 3: needs a name that no other line has"),
    ("name,map_ce_end_user_prefix\n,2001:db8::/56\n", "customers.csv, line 2: needs a name"),
    ("name,map_ce_end_user_prefix\nce1,2001:db8::/56,more\n", "as many cells as the first line: 'ce1'"),
    ("name,map_ce_end_user_prefix\nce1\n", "as many cells as the first line: 'ce1'"),
    ("host,map_ce_end_user_prefix\n", "customers.csv: the first line has no column called name"),
])
def test_a_bad_line_is_an_error_and_no_smaller_inventory(home, table, said):
    (home / "customers.csv").write_text(table)
    code, told = listed(home)
    assert code and said in " ".join(told.split()) and "Completely failed to parse inventory source" in told, told
    # Without the page's setting it would be a warning.
    (home / "ansible.cfg").unlink()
    assert listed(home)[0] == 0
