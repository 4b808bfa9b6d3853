# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From parameters to the files of a generation: plain Jinja2, plain text."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

try:
    import jinja2
except ImportError:
    jinja2 = None  # only who renders needs it

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE / "templates"
RUNNER = sorted((HERE.parent / "softwire").glob("*.py"))
UNITS = sorted((HERE / "units").iterdir())


@functools.lru_cache(maxsize=None)
def environment(templates: str) -> jinja2.Environment:
    """templates: the directory of a role's templates, beside those of both roles; it compiles each only once, nearly all that rendering costs."""
    if jinja2 is None:
        raise ImportError("the Python package jinja2 is missing: install python3-jinja2")
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, str(TEMPLATES / "programs")]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
    )


def compile_all(templates: str) -> None:
    """Compiles every template of a directory. Processes that are forked afterwards need not."""
    if jinja2 is None:
        return
    jinja = environment(os.path.realpath(templates))
    for name in jinja.list_templates():
        jinja.get_template(name)


def generation(templates: str, plan: dict[str, str], parameters: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """The files of a generation as {path: text}.

    templates: the directory of the role's templates.
    plan: {path in the generation: name of its template}; a template that renders to nothing makes no file.
    parameters: what the templates see.
    settings: the content of instance.json, which the runner and the preflight read.
    """
    jinja = environment(os.path.realpath(templates))
    files = {path: jinja.get_template(name).render(parameters) for path, name in plan.items()}
    files = {path: text for path, text in files.items() if text.strip()}
    files["instance.json"] = as_json(settings)
    files["parameters.json"] = as_json(parameters)
    files.update(("softwire/" + program.name, program.read_text()) for program in RUNNER)
    return files


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
