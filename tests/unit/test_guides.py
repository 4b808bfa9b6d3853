# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides do what they say: samples give the stated results, and their commands run on their inventories in their order.

The routers are the stand-ins of the fleet's benchmark. A stand-in carries no packets, so the playbook that verifies is only
looked at (--syntax-check), and it has no tools of a border relay, so site deploys customer edges only.
"""

from __future__ import annotations

import re
import shlex
import sys

import pytest
import samples
import yaml
from ansible.errors import AnsibleParserError
from ansible.parsing.dataloader import DataLoader

sys.path.insert(0, str(samples.REPOSITORY / "tests" / "bench" / "fleet"))

from standins import Fleet  # noqa: E402

GUIDES = ["guide_one_router", "guide_fleet", "guide_arithmetic"]
CALCULATED = ["guide_one_router", "guide_arithmetic"]
# What the inventories name, and what a stand-in has.
INTERFACES = {"eth0": "isp", "eth1": "lan"}
STANDIN = ["-e", "ansible_connection=standin", "-e", "ansible_python_interpreter=/usr/bin/python3", "-e", "ansible_become=false"]


@pytest.mark.parametrize("page", CALCULATED)
def test_samples_give_the_stated_results(page, tmp_path):
    texts = [text for text in samples.texts(page, "yaml") if re.search("# (Result|Error):", text)]
    domains = [yaml.safe_load(text) for text in samples.texts(page, "yaml") if text.startswith("map_domain:")]
    named = {f"sample_{index}": sample for index, sample in enumerate(sum((samples.stated(text, page) for text in texts), []))}
    given = samples.outcomes(named, tmp_path, **(domains[0] if domains else {}))
    assert named
    for name, sample in named.items():
        if sample.fails:
            assert sample.expected in given[name], sample.task["name"]
        else:
            assert given[name] == sample.expected, sample.task["name"]


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
        (note,) = re.findall(r"^\.\. note::\n\n((?:   .*\n)+)", (samples.PAGES / f"{page}.rst").read_text(), re.MULTILINE)
        assert f"``{value}``" in note


def test_every_page_is_in_the_index():
    index = yaml.safe_load((samples.PAGES.parent / "extra-docs.yml").read_text())
    listed = [page for section in index["sections"] for page in section["toctree"]]
    assert sorted(listed) == sorted(path.stem for path in samples.PAGES.glob("*.rst"))


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_run_on_the_inventories(page, tmp_path):
    said = ""
    (tmp_path / "routers").mkdir()
    with Fleet(tmp_path / "routers") as fleet:
        known = set()
        for block in samples.blocks(page):
            if block.caption:
                path = tmp_path / block.caption
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(re.sub("|".join(INTERFACES), lambda match: INTERFACES[match[0]], block.text))
                for name in set(yaml.safe_load(block.text).get("map_ce", {}).get("hosts", {})) - known:
                    # Its /etc/softwire is a mount, which cannot be removed with the last instance.
                    (fleet.add(name) / "softwire" / "another_instance").mkdir()
                    known.add(name)
            elif block.language == "shell":
                for command in block.text.replace("\\\n", "").splitlines():
                    said += f"$ {command}\n{run(command, tmp_path, fleet)}\n"
    assert said


def run(command, home, fleet):
    """The output of a command of a guide, which has to succeed."""
    program, *arguments = shlex.split(command, comments=True)
    assert program in ("ansible-playbook", "ansible", "ansible-inventory"), command
    if program == "ansible-playbook":
        playbook = next(word for word in arguments if word.startswith("softwire.map."))
        known_extra_variables(command, playbook)
        if playbook == "softwire.map.verify":
            arguments += ["--syntax-check"]
        elif playbook not in ("softwire.map.render", "softwire.map.report"):
            arguments += [*STANDIN, *([] if "--limit" in arguments else ["--limit", "map_ce"])]
    code, said = samples.ansible(program.removeprefix("ansible-").replace("ansible", "adhoc"), *arguments, home=home,
                                 ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
    assert code == 0 and "Traceback" not in said, f"{command}\n{said}"
    return said


def known_extra_variables(command, playbook):
    """Every variable given with -e is one that the playbook or a role has."""
    text = (samples.REPOSITORY / "playbooks" / f"{playbook.rpartition('.')[2]}.yml").read_text()
    for name in re.findall(r"-e (\w+)=", command):
        roles = samples.REPOSITORY.glob("roles/*/defaults/main.yml")
        assert name in text or any(re.search(f"^{name}:", path.read_text(), re.MULTILINE) for path in roles), f"{command}: {name}"


def test_links_lead_somewhere():
    """Relative links of the Markdown files, and those to this repository's own files in the site's pages."""
    tracked = [path for name in ("*.md", "docs/*.md", "roles/**/*.md") for path in samples.REPOSITORY.glob(name)]
    for page in tracked:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"
    for page in samples.PAGES.glob("*.rst"):
        for target in re.findall(r"<https://github.com/softwire-map/softwire.map/blob/main/([^>]+)>", page.read_text()):
            assert (samples.REPOSITORY / target).exists(), f"{page.name}: {target}"


def test_the_readme_does_what_it_says(tmp_path):
    readme = (samples.REPOSITORY / "README.md").read_text()
    inventory, sample = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "inventory.yml").write_text(inventory)
    code, said = samples.ansible("playbook", "-i", "inventory.yml", "softwire.map.render", home=tmp_path)
    assert code == 0 and (tmp_path / "generations/router.example.net/ce/ip6_tunnel/main/napt.nft").exists(), said
    (domain,) = (yaml.safe_load(text) for text in samples.texts("guide_arithmetic", "yaml") if text.startswith("map_domain:"))
    (task,) = yaml.safe_load(sample)
    one = samples.outcomes({"one": samples.Sample(task, None, False)}, tmp_path, **domain)["one"]
    assert (f"# ipv4_address {one['ipv4_address']}, psid {one['psid']}, {one['port_count']} ports in {len(one['port_ranges'])} ranges, "
            f"map_address {one['map_address']}\n") in sample
