# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides and the README say is so: samples give the stated results, links lead somewhere. Commands: tests/kernel/playbooks."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

import pytest
import doc_samples
import yaml
from ansible.errors import AnsibleParserError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.isp import not_map, service_name, services
from softwire_map import command

CALCULATED = ["guide_one_router", "guide_one_router_ja", "guide_arithmetic", "dhcpv6"]


@pytest.mark.parametrize("page", CALCULATED)
def test_samples_give_the_stated_results(page, tmp_path):
    texts = [text for text in doc_samples.texts(page, "yaml") if re.search("# (Result|Error):", text)]
    domains = [yaml.safe_load(text) for text in doc_samples.texts(page, "yaml") if text.startswith("map_domain:")]
    named = {f"sample_{index}": sample for index, sample in enumerate(sum((doc_samples.stated(text, page) for text in texts), []))}
    given = doc_samples.outcomes(named, tmp_path, **(domains[0] if domains else {}))
    assert named
    for name, sample in named.items():
        if sample.fails:
            assert sample.expected in given[name], sample.task["name"]
        else:
            assert given[name] == sample.expected, sample.task["name"]


def tables(page):
    """The list tables of a page: of each its rows below the header, lists of cells."""
    text = (doc_samples.PAGES / f"{page}.rst").read_text()
    found = re.findall(r"^\.\. list-table::\n   :header-rows: 1\n\n((?: {3}.*\n)+)", text, re.MULTILINE)
    return [[re.findall(r"^ {3}[* ] - (.*)", row, re.MULTILINE) for row in re.split(r"^(?= {3}\* - )", body, flags=re.MULTILINE)[2:]] for body in found]


def test_the_japanese_page_has_the_services_as_they_are_known():
    known, others, _prefixes = tables("guide_one_router_ja")
    assert {key for _name, key, _ports, _lines in known} == {f"``{key}``" for key in services()}
    for name, key, ports, lines in known:
        assert service_name(name, "isp") == key.strip("`")
        service = services()[key.strip("`")]
        assert str(service["port_count"]) == ports
        assert {str(2 ** rule["psid_length"]) for rule in service["rules"]} == {lines}
        # Of no prefix more than the first 56 bits counts, as the page says.
        assert {int(rule["ipv6_prefix"].partition("/")[2]) + rule["ea_length"] for rule in service["rules"]} == {56}
    refused = set()
    for name, technique in others:
        with pytest.raises(MapError, match=f"is {technique.partition(' ')[0]}[ ,].*not MAP") as caught:
            service_name(name, "isp")
        refused.add(caught.value.reason)
    assert len(refused) == len(others) == len(not_map())


def test_no_line_of_the_japanese_page_ends_between_two_wide_characters():
    """A browser shows the end of a line as a blank, which Japanese does not have there; a backslash takes it away."""
    text = (doc_samples.PAGES / "guide_one_router_ja.rst").read_text()
    assert re.findall(r".*[^\0-\xff]\n *[^\0-\xff].*", text) == []


def test_the_commands_of_the_calculator_print_what_its_page_says(tmp_path):
    program = tmp_path / "bin" / "softwire-map"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m softwire_map \"$@\"\n")
    program.chmod(0o755)
    blocks = doc_samples.blocks("calculator")
    for block in blocks:
        if block.caption:
            (tmp_path / block.caption).write_text(block.text)
    samples = [sample for block in blocks if block.language == "console" for sample in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)]
    # Each with the exit code of the one before, and a mark after what it prints.
    script = "".join(f"(exit $code)\n{given}\ncode=$?\nprintf '\\0'\n" for given, _printed in samples)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(doc_samples.REPOSITORY / "tests" / "helpers")}
    done = subprocess.run(["bash", "-c", f"exec 2>&1; code=0\n{script}"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert list(zip([given for given, _printed in samples], done.stdout.split("\0"))) == samples
    subcommands = {match[1] for given, _printed in samples for match in re.finditer(r"softwire-map (\w+)", given)}
    (known,) = (action.choices for action in command.parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert subcommands == set(known) - {"completion"}


# What the guides' note on quotes says of values without them: None where YAML cannot read it.
UNQUOTED = {
    "a: 2001:db8::": None, "- 2001:db8::": [{"2001:db8:": None}], "[2001:db8::]": None, "{a: 2001:db8::}": None,
    "a: ::1": {"a": "::1"}, "[::1]": None, "{a: ::1}": None,
    "a: 2001:1:2:3:4:5:6:7": {"a": 5601567610962367}, "a: 24:00": {"a": 1440},
    "a: 2001:db8:12:3400::/56": {"a": "2001:db8:12:3400::/56"}, "[2001:db8:12:3400::/56]": ["2001:db8:12:3400::/56"],
}


@pytest.mark.parametrize("text", UNQUOTED)
def test_the_note_on_quotes_is_right(text):
    try:
        read = DataLoader().load(text)
    except AnsibleParserError:
        read = None
    assert read == UNQUOTED[text]
    value = text.strip("[]{}").removeprefix("a: ").removeprefix("- ")
    for page in ("guide_one_router", "guide_fleet"):
        (note,) = re.findall(r"^\.\. note::\n\n((?:   .*\n)+)", (doc_samples.PAGES / f"{page}.rst").read_text(), re.MULTILINE)
        assert f"``{value}``" in note


def test_every_page_is_in_the_index():
    index = yaml.safe_load((doc_samples.PAGES.parent / "extra-docs.yml").read_text())
    listed = [page for section in index["sections"] for page in section["toctree"]]
    assert sorted(listed) == sorted(path.stem for path in doc_samples.PAGES.glob("*.rst"))


def test_links_lead_somewhere():
    """Relative links of the Markdown files, and those to this repository's own files in the site's pages."""
    tracked = [path for name in ("*.md", "docs/*.md", "roles/**/*.md") for path in doc_samples.REPOSITORY.glob(name)]
    for page in tracked:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
    for page in doc_samples.PAGES.glob("*.rst"):
        for target in re.findall(r"<https://github.com/softwire-map/softwire.map/blob/main/([^>]+)>", page.read_text()):
            assert (doc_samples.REPOSITORY / target).exists(), f"{page.name}: {target}"


def test_the_readme_does_what_it_says(tmp_path):
    readme = (doc_samples.REPOSITORY / "README.md").read_text()
    inventory, sample = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "inventory.yml").write_text(inventory)
    code, said = doc_samples.ansible("playbook", "-i", "inventory.yml", "softwire.map.render", home=tmp_path)
    assert code == 0 and (tmp_path / "generations/router.example.net/ce/ip6_tunnel/main/napt.nft").exists(), said
    (domain,) = (yaml.safe_load(text) for text in doc_samples.texts("guide_arithmetic", "yaml") if text.startswith("map_domain:"))
    (task,) = yaml.safe_load(sample)
    one = doc_samples.outcomes({"one": doc_samples.Sample(task, None, False)}, tmp_path, **domain)["one"]
    assert (f"# ipv4_address {one['ipv4_address']}, psid {one['psid']}, {one['port_count']} ports in {len(one['port_ranges'])} ranges, "
            f"map_address {one['map_address']}\n") in sample
