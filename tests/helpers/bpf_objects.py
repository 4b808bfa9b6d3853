# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make programs`: compiles the BPF programs into the objects that lie beside their sources, and records what they were made from.

The recorded clang gives the same bytes on every machine and in every directory, so that a test can compare them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "routers" / "bpf"
# {"clang": the version that makes the objects, "sha256": {name of a source, header or object: its digest}}
RECORD = PROGRAMS / "objects.json"
# DWARF and what only a linker reads go, BTF stays: types and lines for the kernel.
STRIP = ("--strip-unneeded", "--remove-section=.rel.BTF", "--remove-section=.rel.BTF.ext")
FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpfel")


def recorded() -> dict:
    return json.loads(RECORD.read_text(encoding="ascii"))


def sources() -> list[Path]:
    return sorted(PROGRAMS.glob("*.bpf.c"))


def object_of(source: Path, directory: Path = PROGRAMS) -> Path:
    return directory / source.with_suffix(".o").name


def digests() -> dict[str, str]:
    """SHA-256 of every source, header and object, by name."""
    paths = sorted(path for path in PROGRAMS.iterdir() if path.suffix in (".c", ".h", ".o"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def clang_version() -> str:
    """Of the installed clang, such as 14.0.6; empty where there is none."""
    if not shutil.which("clang"):
        return ""
    said = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"version (\d+\.\d+\.\d+)", said)[1]


def compile_object(source: Path, target: Path) -> None:
    """Compiles one source, which may include others of PROGRAMS. Raises CalledProcessError; clang says why on stderr."""
    # The kernel's own headers lie in a directory of the machine's architecture on Debian and Ubuntu.
    headers = "/usr/include/" + (sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu")
    command = ["clang", *FLAGS, f"-I{headers}", f"-I{PROGRAMS}", f"-fdebug-prefix-map={source.parent}=.", "-c", source.name, "-o", target]
    subprocess.run(command, cwd=source.parent, check=True)
    subprocess.run(["llvm-strip", *STRIP, target], check=True)


def main() -> None:
    wanted, found = recorded()["clang"], clang_version()
    if found != wanted:
        sys.exit(f"make programs: the objects are made by clang {wanted} (Debian 12's), and this machine has {found or 'none'}")
    for source in sources():
        compile_object(source, object_of(source))
    for path in set(PROGRAMS.glob("*.o")) - set(map(object_of, sources())):
        path.unlink()
    RECORD.write_text(json.dumps({"clang": wanted, "sha256": digests()}, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
