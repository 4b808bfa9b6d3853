"""What all parts share: paths, progress lines, running commands."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
# In the VM the same directory of the VM: node files, process ids.
RUN = Path("/run/softwire-lab")
STARTED = time.monotonic()


class LabError(Exception):
    """Something the user can act on; shown without a traceback."""


def cache_dir() -> Path:
    """Where everything that takes long to make is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "softwire-map" / "lab"


def choice(variable: str, *allowed: str) -> str:
    """The value of an environment variable; the first allowed one is the default."""
    value = os.environ.get(variable) or allowed[0]
    if value not in allowed:
        raise LabError(f"{variable}={value}: must be one of {', '.join(allowed)}")
    return value


def progress(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


def recipe_hash(*parts: str | Path) -> str:
    """12 hex digits that change with any text or with any file or tree among the parts."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode() + b"\0")
            continue
        for path in sorted([part, *part.rglob("*")]):
            if "__pycache__" in path.parts:
                continue
            digest.update(f"{path.relative_to(part)}\0".encode())
            if path.is_symlink():
                digest.update(os.readlink(path).encode())
            elif path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run(argv: list, what: str, **options) -> subprocess.CompletedProcess:
    """Run a short command, output captured as text; LabError naming `what` when it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)
    if done.returncode:
        raise LabError(f"{what}: {argv[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done


def run_long(argv: list, what: str, log: Path, **options) -> None:
    """Run a long command, its output in a log, with a sign of life every 10 s."""
    begin = time.monotonic()
    progress(f"{what} ...")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, subprocess.Popen(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
    ) as process:
        try:
            while True:
                try:
                    code = process.wait(timeout=10)
                    break
                except subprocess.TimeoutExpired:
                    progress(f"{what}: still at it, {time.monotonic() - begin:.0f} s")
        except BaseException:
            process.terminate()
            raise
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise LabError(f"{what} failed ({code}); the end of {log}:\n{tail}")
    progress(f"{what}: done in {time.monotonic() - begin:.1f} s")


def have_commands(*names: str) -> bool:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return all(shutil.which(name, path=path) for name in names)


@contextlib.contextmanager
def locked(directory: Path):
    """One command at a time changes what is in this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another lab command (lock {file.name})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
