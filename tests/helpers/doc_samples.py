# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The samples in the documentation, and ansible's programs to run them.

A sample that states what it gives is a task, and below it a comment block: the line `# Result:` and then YAML, of
ansible.builtin.debug the value of `msg`, of a module a part of what it returns; or `# Error:` and then a part of the message,
its lines joined.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "docsite" / "rst"


class Block(NamedTuple):
    """A code block of a page; caption: the name of the file it is, or empty."""

    language: str
    caption: str
    text: str


class Sample(NamedTuple):
    """A task, and what it states: its result, or a part of its error."""

    task: dict
    expected: object
    fails: bool


def blocks(page):
    """The code blocks of a page of the site, in their order."""
    text = (PAGES / f"{page}.rst").read_text()
    found = re.findall(r"^\.\. code-block:: (\S+)\n(?:    :caption: (.+)\n)?\n((?:(?: {4}.*)?\n)+)", text, re.MULTILINE)
    assert len(found) == text.count(".. code-block::"), f"{page}: a code block of another form"
    return [Block(language, caption, textwrap.dedent(body).strip("\n") + "\n") for language, caption, body in found]


def texts(page, language):
    return [block.text for block in blocks(page) if block.language == language]


def stated(text, where):
    """The tasks of a text with what they state."""
    found = []
    for chunk in re.split(r"^(?=- name:)", text, flags=re.MULTILINE)[1:]:
        marker = re.search(r"^ *# (Result|Error):\n", chunk, re.MULTILINE)
        assert marker, f"{where}: an example without '# Result:' or '# Error:': {chunk}"
        lines = [re.fullmatch(r" *# ?(.*)", line) for line in chunk[marker.end():].rstrip().splitlines()]
        assert all(lines), f"{where}: the result is not all comment: {chunk}"
        said, fails = [line[1] for line in lines], marker[1] == "Error"
        (task,) = yaml.safe_load(chunk[:marker.start()])
        found.append(Sample(task, " ".join(said) if fails else yaml.safe_load("\n".join(said)), fails))
    assert len(found) == len(yaml.safe_load(text)), f"{where}: each example starts with '- name:' in the first column"
    return found


def outcomes(samples, home, **variables):
    """What each of {name: Sample} gives, from one play on this machine: {name: value of msg, or the error on one line}."""
    for sample in samples.values():
        assert set(sample.task) <= {"name", "ansible.builtin.debug", "vars"}, sample.task
    tasks = [{**sample.task, "register": name, "ignore_errors": sample.fails} for name, sample in samples.items()]
    registered = ", ".join(f"'{name}': {name}.msg" for name in samples)
    save = {"content": "{{ {%s} | to_json }}" % registered, "dest": str(home / "outcomes.json"), "mode": "0600"}
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [*tasks, {"ansible.builtin.copy": save}]}
    (home / "play.yml").write_text(yaml.safe_dump([play]))
    interpreter = f"ansible_python_interpreter={sys.executable}"
    code, said = ansible("playbook", "-i", "localhost,", "-c", "local", "-e", interpreter, home / "play.yml", home=home,
                         ANSIBLE_JINJA2_NATIVE="1")  # a number stays a number, also in ansible-core 2.18
    assert code == 0, said
    given = json.loads((home / "outcomes.json").read_text())
    return {name: " ".join(given[name].split()) if sample.fails else given[name] for name, sample in samples.items()}


def ansible(program, *arguments, home, **environment):
    """(exit code, output) of one of ansible's programs, which knows this collection and none of the user's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible", program, *map(str, arguments)],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_HOME": str(home),
             "ANSIBLE_NOCOLOR": "1", **environment},
        cwd=home, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return done.returncode, said
