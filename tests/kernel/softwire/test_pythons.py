# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner on each Python that routers have: every module of it, and an instance that comes up, reloads, tells of itself and goes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_flows import WEB, index_of, remember, remembered
from test_runner import install_ce, unchanged

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
VERSIONS = [f"3.{minor}" for minor in range(8, 14)]
WHO = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
IMPORT_ALL = """
import importlib, pkgutil, softwire
print([importlib.import_module('softwire.' + module.name).__name__ for module in pkgutil.iter_modules(softwire.__path__)])
"""


@pytest.fixture(params=VERSIONS)
def python(request):
    """The path of an interpreter of this version."""
    found = shutil.which(f"python{request.param}")
    for path in [found, *sorted(PYENV.glob(f"{request.param}.*/bin/python3"))]:
        said = subprocess.run([path, "-c", WHO], capture_output=True, text=True, check=False).stdout.split() if path else []
        if said[:1] == [request.param]:
            return said[1]
    pytest.skip(f"the runner is not tried on Python {request.param}: there is none on PATH, nor in {PYENV}")


def test_an_instance_lives_on_this_python(python, router):
    before = router.snapshot()
    generation = install_ce(router, "mape_main")
    modules = router.run("env", "-C", generation, python, "-BE", "-W", "error", "-c", IMPORT_ALL).stdout
    assert modules == str([f"softwire.{path.stem}" for path in sorted((generation / "softwire").glob("[!_]*.py"))]
                          ).replace("[", "['softwire.__main__', ", 1) + "\n"
    how = {"python": python}
    assert router.softwire(generation, "up", **how).stderr == ""
    index = index_of(1232, napt_namespace="")
    remember(router, [], index=index)
    assert index != 1232
    # A forward takes an index out of the pool, so the flow moves, which is the work of a program of its own.
    generation = install_ce(router, "mape_main", port_forwards=[WEB])
    assert router.softwire(generation, "reload", **how).stderr == ""
    assert remembered(router, []) == {5000: 1232}
    router.run("env", "-C", generation, python, "-BE", "-m", "softwire", "metrics", router.directory / "softwire.prom")
    assert 'softwire_state_equal{softwire="ce"} 1\n' in (router.directory / "softwire.prom").read_text()
    assert router.softwire(generation, "down", **how).stderr == ""
    unchanged(router, before)
