# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages that run on routers: Python 3.8, the standard library, and each knows only what stands below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
# What a package may import beside the standard library, and the packages that it may know.
MAY = {"mapping": ((), ()), "routers": (("jinja2",), ("mapping",)), "softwire": ((), ())}


def imports(path):
    """(name of a package of ours or "", module) of each import of a file, relative ones by the package that they lead to."""
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
        if isinstance(node, ast.Import):
            yield from (("", alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield "", node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield (path.parent.name if node.level == 1 else (node.module or "").partition(".")[0]), ""


def test_there_are_no_other_packages():
    assert {path.name for path in PACKAGES.iterdir() if path.name != "__pycache__"} == set(MAY)


@pytest.mark.parametrize("path", sorted(PACKAGES.rglob("*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_imports_what_its_package_may(path):
    libraries, packages = MAY[path.parent.name]
    allowed = {("", name) for name in (*sys.stdlib_module_names, *libraries)} | {(name, "") for name in (path.parent.name, *packages)}
    assert set(imports(path)) <= allowed
