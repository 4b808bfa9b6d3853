# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README's and the guides' own commands install the collection or the calculator on a bare machine, and it works there.

Bare: a home, a virtual environment and a path of their own, so nothing of the tests' packages. What pip needs to find the
machine's package index is kept.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import doc_samples
import questions
import yaml

INSTALL = "ansible-galaxy collection install git+https://github.com/softwire-map/softwire.map.git"
CALCULATOR = "pip install git+https://github.com/softwire-map/softwire.map.git"
README = doc_samples.REPOSITORY / "README.md"


def readme_blocks():
    """The README's indented blocks and its YAML ones, as doc_samples.blocks gives a guide's."""
    text = README.read_text()
    shell = re.findall(r"(?<=\n\n)((?: {4}.*\n)+)", text)
    inventories = re.findall(r"^`inventory\.yml`:\n\n```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [*(doc_samples.Block("shell", "", block) for block in shell), *(doc_samples.Block("yaml", "inventory.yml", block) for block in inventories)]


PAGES = {"README": readme_blocks(), **{path.stem: doc_samples.blocks(path.stem) for path in sorted(doc_samples.PAGES.glob("*.rst"))}}
INSTALLING = {page: block.text for page, blocks in PAGES.items() for block in blocks if "ansible-galaxy collection install" in block.text}


class Machine:
    """A home with nothing in it, and a repository of this checkout, changes that are not committed included."""

    def __init__(self, directory):
        self.home, self.repository, tools = (directory / name for name in ("home", "repository", "bin"))
        self.home.mkdir()
        tools.mkdir()
        # Some distributions' own python3 is older than ansible-core takes.
        (tools / "python3").symlink_to(Path(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2]).resolve())
        kept = {name: value for name, value in os.environ.items() if re.match(r"PIP_|SSL_CERT_|REQUESTS_CA_|\w+_proxy$", name, re.IGNORECASE)}
        settings = Path.home() / ".config/pip/pip.conf"
        if settings.exists():
            kept.setdefault("PIP_CONFIG_FILE", str(settings))
        self.environment = {**kept, "HOME": str(self.home), "PATH": f"{tools}:/usr/bin:/bin", "LANG": "C.UTF-8"}
        checkout(self.repository)
        git = ["git", "-C", self.repository, "-c", "user.name=tests", "-c", "user.email=tests@example.net"]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The checkout"]):
            subprocess.run([*git, *words], check=True)

    def run(self, script):
        """The output of a script that a person types in the home, who stops at the first error."""
        done = subprocess.run(["bash", "-euc", script], cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout


def checkout(target):
    """Copies the files of this checkout that git knows or would know."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=doc_samples.REPOSITORY,
                            capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0")[:-1]:
        source = doc_samples.REPOSITORY / name
        if source.is_symlink() or source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def test_the_readme_and_the_guide_for_one_router_say_how_to_install():
    assert {"README", "guide_one_router"} <= set(INSTALLING)


@pytest.mark.parametrize("page", INSTALLING)
def test_installs_renders_and_builds(page, tmp_path):
    machine = Machine(tmp_path)
    assert INSTALL in INSTALLING[page], "the page installs from elsewhere"
    machine.run(INSTALLING[page].replace(INSTALL, f"ansible-galaxy collection install git+file://{machine.repository}"))
    inventory = next(block.text for block in PAGES[page] if block.caption == "inventory.yml")
    (machine.home / "inventory.yml").write_text(inventory)
    machine.run(". ~/ansible/bin/activate; ansible-playbook -i inventory.yml softwire.map.render")
    assert list(machine.home.glob("generations/router.example.net/ce/*/main/napt.nft"))
    machine.run(f". ~/ansible/bin/activate; ansible-galaxy collection build --output-path ~ {machine.repository}")
    (built,) = machine.home.glob("softwire-map-*.tar.gz")
    with tarfile.open(built) as archive:
        assert "playbooks/site.yml" in archive.getnames()


def test_the_calculator_installs_with_nothing_else_and_answers_as_the_filters_do(tmp_path):
    machine = Machine(tmp_path)
    (block,) = (block.text for block in PAGES["calculator"] if "pip install" in block.text)
    assert CALCULATOR in block, "the page installs from elsewhere"
    machine.run(block.replace(CALCULATOR, f"pip install git+file://{machine.repository}"))
    version = yaml.safe_load((machine.repository / "galaxy.yml").read_text())["version"]
    installed = json.loads(machine.run("~/calculator/bin/pip list --format json"))
    assert {one["name"]: one["version"] for one in installed if one["name"] not in ("pip", "setuptools")} == {"softwire-map": version}
    assert machine.run("~/.local/bin/softwire-map --version") == f"softwire-map {version}\n"
    (package,) = machine.home.glob("calculator/lib/python3*/site-packages/softwire_map")
    sources = {"": machine.repository / "cli", "mapping": machine.repository / "plugins/module_utils/mapping"}
    expect = {Path(place, path.name): path.read_bytes() for place, source in sources.items() for path in source.iterdir()}
    held = [path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert {path.relative_to(package): path.read_bytes() for path in held} == expect
    for name, arguments, answers in questions.asked(machine.home):
        asking = f"~/calculator/bin/softwire-map {shlex.join(arguments)} --json 2>/dev/null"
        said = machine.run(f"code=0; {asking} || code=$?; [ $code = {int(None in answers)} ]")
        assert [json.loads(line) for line in said.splitlines()] == answers, name
