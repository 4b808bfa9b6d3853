# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF programs as object files, ready for any router: nobody needs a compiler."""

from __future__ import annotations

from pathlib import Path

from ..mapping.errors import MapError

OBJECTS = Path(__file__).with_name("bpf")
BPF_MACHINE = 247  # e_machine of an ELF file for BPF


def read(name: str, given: str = "", variable: str = "") -> bytes:
    """The bytes of an object file: the collection's own, or one that somebody has compiled.

    name: of the collection's own, such as "mapt.bpf.o".
    given: path of an object file on the controller to take in its place; variable: the variable that gives it, for messages.
    """
    if not given:
        return (OBJECTS / name).read_bytes()
    try:
        content = Path(given).read_bytes()
    except OSError as exc:
        raise MapError(variable, given, f"cannot be read on the controller: {exc.strerror}") from exc
    if content[:4] != b"\x7fELF" or int.from_bytes(content[18:20], "little") != BPF_MACHINE:
        raise MapError(variable, given, "is no BPF object file")
    return content
