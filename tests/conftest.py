"""Makes the checkout importable as the collection ansible_collections.softwire.map, and what the tests share by its own name."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent / "collections"), str(TESTS / "helpers")]
# A play on this machine leaves the user's home alone, which may not even be there.
os.environ["ANSIBLE_REMOTE_TMP"] = os.path.join(tempfile.gettempdir(), "ansible-%d" % os.getuid())

from ansible_collections.softwire.map.plugins.module_utils.softwire import paths  # noqa: E402


@pytest.fixture(autouse=True)
def no_log_of_this_machine(monkeypatch, tmp_path_factory):
    """What runs in a test's own process leaves this machine's audit trails alone."""
    monkeypatch.setattr(paths, "LOGS", tmp_path_factory.getbasetemp() / "log" / "softwire")
