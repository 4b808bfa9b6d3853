# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What routers ran before the runner was a package: loose_files.tar.xz has generations with the program in loose files, and their units.

The generations are those of EDGES in tests/kernel/softwire/test_runner.py, rendered from the same variables by the last commit before.
"""

from __future__ import annotations

import functools
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parents[1] / "kernel" / "softwire" / "loose_files.tar.xz"


@functools.lru_cache(maxsize=None)
def _contents():
    with tarfile.open(ARCHIVE) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def _below(folder):
    return {path[len(folder):]: content for path, content in _contents().items() if path.startswith(folder)}


def generation(edge):
    """The files of an edge's generation: {path: bytes}."""
    return _below(f"generations/{edge}/")


def units():
    """The units: {name: text}."""
    return {name: content.decode() for name, content in _below("units/").items()}
