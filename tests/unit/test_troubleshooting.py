# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on troubleshooting names every counter that exists and no other, and messages and tables that there are."""

from __future__ import annotations

import ast
import re

import role_variables
import pytest
import doc_samples
from ansible_collections.softwire.map.plugins.module_utils.routers.bpf_rule import COUNTERS, NAPT_COUNTERS, NAPT_REASONS, REASONS


FORWARDS = [{"address": "2001:db8:ce:11a::4", "port": 443}]
PAGE = (doc_samples.PAGES / "troubleshooting.rst").read_text()


def section(title):
    """The text below a heading, up to the next one."""
    found = re.search(rf"^{title}\n~+\n(.*?)(?=^\S[^\n]*\n[-~]+\n|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def generations():
    """Files of customer edges and border relays of every kind."""
    for cases, layouts in ((role_variables.CE_CASES, role_variables.LAYOUTS), (role_variables.MAPE_CASES, role_variables.MAPE_LAYOUTS)):
        for case in cases.values():
            for namespace in layouts.values():
                yield from role_variables.ce_generations(napt_namespace=namespace, ipv6_firewall="stateful", ipv6_forwards=FORWARDS, **case).values()
    yield from role_variables.br_generations(icmp_source="198.51.100.66").values()
    yield from role_variables.br_generations(translator="jool_siit").values()
    yield from role_variables.br_generations(domains=[role_variables.MAPE_CASES["shared"]["domain"]]).values()


@pytest.fixture(scope="module")
def tables():
    """{nftables table: its counters} of all generations."""
    found = {}
    for files in generations():
        for path, text in files.items():
            counters = set(re.findall(r"^\s*counter (\w+) \{", text, re.MULTILINE)) if path.endswith(".nft") else ()
            if counters:
                (table,) = set(re.findall(r"^table (\w+ \w+) \{", text, re.MULTILINE)) - {"ip softwire_br_reassembly", "ip6 softwire_br_reassembly"}
                found.setdefault(table, set()).update(counters)
    return found


@pytest.mark.parametrize("title, table", [
    ("The NAPT of a customer edge", "ip softwire_ce_napt"),
    ("The guard of a customer edge", "inet softwire_ce_guard"),
    ("The firewall of the LAN's IPv6", "ip6 softwire_ce_ipv6_firewall"),
    ("Beside the translator of a customer edge", "ip6 softwire_ce_translator"),
    ("The guard of a border relay", "inet softwire_br_guard"),
])
def test_every_counter_of_a_table_is_explained(title, table, tables):
    text = section(title)
    assert f"nft list counters table {table}``" in text
    assert sorted(re.findall(r"^   \* - ``(\w+)``$", text, re.MULTILINE)) == sorted(tables[table])


def test_every_table_with_counters_has_a_section(tables):
    assert set(tables) == {"ip softwire_ce_napt", "inet softwire_ce_guard", "ip6 softwire_ce_ipv6_firewall", "ip6 softwire_ce_translator",
                           "inet softwire_br_guard"}
    assert set(re.findall(r"table ((?:ip|ip6|inet) softwire_\w+)", PAGE)) == set(tables)


@pytest.mark.parametrize("title, counters, reasons", [
    ("The programs", COUNTERS, list(REASONS)), ("The end of the NAPT", NAPT_COUNTERS, [f"napt_{reason}" for reason in NAPT_REASONS])])
def test_every_counter_of_the_programs_is_explained(title, counters, reasons):
    rows = re.findall(r"^   \* - (\d+), (\d+)\n     - ``(\w+)``$", section(title), re.MULTILINE)
    assert [name for _into, _out, name in rows] == reasons
    for into, out, name in rows:
        assert (counters[int(into)], counters[int(out)]) == (f"in_{name}", f"out_{name}")


def test_the_programs_counters_are_where_the_page_says(tables):
    relay, = role_variables.br_generations(domains=[role_variables.MAPE_CASES["shared"]["domain"]]).values()
    edge, = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"]).values()
    named = set(re.findall(r"pinned\s+(/\S+)/counters", PAGE))
    assert named == set(re.findall(r"pinmaps (\S+)\n", relay["main/bpftool"] + edge["main/bpftool"]))


def test_symptoms_name_counters_that_there_are(tables):
    symptoms = PAGE.partition("What the counters mean\n---")[0]
    named = set(re.findall(r"``((?:forward|from|in_dropped|in_napt|out_napt|unsolicited|not_by|outside)\w*)``", symptoms))
    assert named and named <= set().union(*tables.values(), COUNTERS, NAPT_COUNTERS)


def test_messages_are_of_the_program():
    said = [node.value for path in (doc_samples.REPOSITORY / "plugins").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    messages = re.findall(r"^:Message: ``(.+)``$", PAGE, re.MULTILINE)
    assert len(messages) == PAGE.count(":Message:") > 5
    for message in messages:
        assert any(message in text for text in said), message


def test_variables_are_of_the_roles():
    declared = "".join(path.read_text() for path in doc_samples.REPOSITORY.glob("roles/*/defaults/main.yml"))
    declared += "".join(path.read_text() for path in doc_samples.REPOSITORY.glob("roles/*/meta/argument_specs.yml"))
    for page in doc_samples.PAGES.glob("*.rst"):
        for name in set(re.findall(r"\bmap_(?:ce|br)_\w+", page.read_text())):
            assert re.search(rf"^\s*{name}:", declared, re.MULTILINE), f"{page.name}: {name}"


def test_what_the_lab_expects_jool_to_fail_is_in_the_table():
    table = re.search(r"^What Jool cannot do\n-+\n(.*?)^\S[^\n]*\n-+\n", PAGE, re.MULTILINE | re.DOTALL)[1]
    rows = [row.split(" (")[0] for row in re.findall(r"^   \* - (.+)$", table, re.MULTILINE)]
    calls = [node for path in (doc_samples.REPOSITORY / "tests" / "lab" / "packets").glob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "fails_where"]
    assert len(calls) > 3 and {call.args[1].value for call in calls} <= set(rows)
