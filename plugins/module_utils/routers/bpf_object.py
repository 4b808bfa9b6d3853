# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The border relay's BPF programs, compiled on the controller: a router needs no compiler."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from ..mapping.errors import MapError

SOURCES = Path(__file__).with_name("bpf")
BPF_MACHINE = 247  # e_machine of an ELF file for BPF
COMPILERS = ("clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14")


def build(source: str, prebuilt: str, variable: str) -> bytes:
    """The object file's bytes: the prebuilt one, or the source beside this file compiled here.

    source: the name of the source file.
    prebuilt: path of an object file on the controller, or "".
    variable: the variable that gives it, for messages.
    """
    if prebuilt:
        return read_object(Path(prebuilt), variable)
    return compiled(SOURCES / source, variable)


def read_object(path: Path, variable: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise MapError(variable, str(path), f"cannot be read on the controller: {exc.strerror}") from exc
    if content[:4] != b"\x7fELF" or int.from_bytes(content[18:20], "little") != BPF_MACHINE:
        raise MapError(variable, str(path), "is no BPF object file")
    return content


@functools.lru_cache(maxsize=None)
def compiled(source: Path, variable: str) -> bytes:
    advice = f"install clang and libbpf-dev on the controller, or give an object file built elsewhere as {variable}"
    clang = next(filter(None, map(shutil.which, COMPILERS)), None)
    if clang is None:
        raise MapError(variable, "", f"the border relay's programs have to be compiled and the controller has no clang; {advice}")
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "programs.o")
        # The kernel's own headers lie in a directory of the machine's architecture on Debian and Ubuntu.
        headers = "/usr/include/" + (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
        command = [clang, "-O2", "-g", "-Wall", "-Werror", "-target", "bpf", f"-I{headers}",
                   f"-fdebug-prefix-map={source.parent}=.", "-c", source.name, "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=source.parent, check=False)
        if done.returncode:
            raise MapError(variable, "", f"the border relay's programs do not compile: {done.stderr.strip()[:600]}; {advice}")
        return target.read_bytes()
