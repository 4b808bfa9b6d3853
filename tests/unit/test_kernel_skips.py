# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tests of the kernel say what they lack instead of failing by it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

KERNEL = Path(__file__).resolve().parents[1] / "kernel"
sys.path.insert(0, str(KERNEL))

import lacking  # noqa: E402


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine that has everything: {"user": its user, "missing": commands, "refused": words of a command that fails}."""
    made = {"user": 0, "missing": (), "refused": None}
    monkeypatch.setattr(lacking.os, "geteuid", lambda: made["user"])
    monkeypatch.setattr(lacking.shutil, "which", lambda name: None if name in made["missing"] else f"/bin/{name}")
    monkeypatch.setattr(lacking.subprocess, "run", lambda command, **_options: SimpleNamespace(
        returncode=int(made["refused"] in command), stderr="first line\nOperation not permitted\n"))
    lacking.lack.cache_clear()
    yield made
    lacking.lack.cache_clear()


@pytest.mark.parametrize("change, directory, reason", [
    ({}, "bpf", ""),
    ({"user": 1000}, "playbooks", "needs root, for network namespaces: sudo make kernel"),
    ({"missing": ("tc", "clang", "ip")}, "bpf", "needs the packages clang iproute2"),
    ({"missing": ("clang",)}, "softwire", ""),
    ({"refused": "true"}, "playbooks", "needs network namespaces, which this machine refuses: Operation not permitted"),
    ({"refused": "nft"}, "napt", "needs a kernel with nftables: Operation not permitted"),
    ({"refused": "nft"}, "bpf", ""),
    ({"refused": "bpf"}, "bpf", "needs a kernel with BPF: Operation not permitted"),
    ({"refused": "bpftool"}, "softwire", "needs a kernel with BPF: Operation not permitted"),
])
def test_the_reason_names_what_is_missing(machine, change, directory, reason):
    machine.update(change)
    assert lacking.lack(directory) == reason


def test_every_directory_says_what_it_needs():
    assert {path.parent.relative_to(KERNEL).parts[0] for path in KERNEL.rglob("test_*.py")} == set(lacking.NEEDED)
