"""The guest: a root in memory from the lab's cached archives, and QEMU with a clock that counts instructions."""
from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from labkit import images
from labkit.common import LabError, cache_dir, locked, progress, run

GUEST = Path(__file__).with_name("guest.py")
MEMORY_MIB = 3072
# What no part of the benchmark reads, or what an initrd need not hold.
NOT_OF_THE_NODE = ("./usr/share", "./usr/lib/python3", "./var/lib/dpkg", "./var/cache", "./usr/lib/systemd", "./dev")
OF_THE_VM = ("./boot/vmlinuz-*", "./usr/lib/modules/*")
SILENCE = 600  # seconds without a word from the guest
# 1 instruction = 1 ns of the guest's clock, which jumps over idle time.
CLOCK = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]


def prepare() -> None:
    """Builds what is missing in the lab's cache: the node image, and a Debian with kernel and Jool."""
    with locked(cache_dir()):
        images.install_missing({**images.BUILD_COMMANDS, **images.VM_COMMANDS})
        images.make_archives(True, [images.VM_SUITE])


def start(job: dict, files: dict[str, bytes]) -> Iterator[dict]:
    """Boots the guest with a job; yields what it says until it is done. Raises LabError."""
    with tempfile.TemporaryDirectory(prefix="softwire-bench-") as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        run(["tar", "-C", root, *(f"--exclude={name}" for name in NOT_OF_THE_NODE), "-xf", images.node_archive(images.VM_SUITE)], "the guest's root")
        run(["tar", "-C", root, "--wildcards", "-xf", images.vm_root_archive(), *OF_THE_VM], "the guest's kernel")
        kernel = next((root / "boot").glob("vmlinuz-*")).rename(Path(scratch, "vmlinuz"))
        bench = root / "bench"
        for name, content in {**files, "job.json": json.dumps(job).encode(), "guest.py": GUEST.read_bytes()}.items():
            path = bench / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (bench / "guest.py").chmod(0o755)
        (root / "dev").mkdir(exist_ok=True)
        initrd = Path(scratch, "initrd.img")
        run(["sh", "-euc", f"cd {root}; find . | cpio --quiet -o -H newc > {initrd}"], "the guest's initrd")
        run(["rm", "-r", root], "the guest's root")
        yield from listen(Path(scratch), kernel, initrd)


def listen(scratch: Path, kernel: Path, initrd: Path) -> Iterator[dict]:
    console, words = scratch / "console", scratch / "words"
    words.touch()
    argv = ["qemu-system-x86_64", "-machine", "q35", "-cpu", "Nehalem", *CLOCK, "-m", MEMORY_MIB, "-nodefaults", "-no-reboot",
            "-display", "none", "-kernel", kernel, "-initrd", initrd, "-serial", f"file:{console}", "-serial", f"file:{words}",
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable audit=0 PYTHONHASHSEED=0 rdinit=/bench/guest.py"]
    progress("booting the guest (an emulated CPU) ...")
    with subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL) as machine, words.open() as stream:
        try:
            heard, line = time.monotonic(), ""
            while True:
                line += stream.readline()
                if line.endswith("\n"):
                    heard, said, line = time.monotonic(), json.loads(line), ""
                    if "failed" in said:
                        raise LabError(f"in the guest:\n{said['failed']}")
                    if "done" in said:
                        return
                    yield said
                elif machine.poll() is not None and words.stat().st_size == stream.tell():
                    raise LabError(f"the guest ended early:\n{console.read_text(errors='replace')[-2000:]}")
                elif time.monotonic() - heard > SILENCE:
                    raise LabError(f"the guest has said nothing for {SILENCE} s:\n{console.read_text(errors='replace')[-2000:]}")
                else:
                    time.sleep(0.2)
        finally:
            machine.terminate()


def cpu() -> str:
    """What the guest runs on, for the report."""
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    return f"{version.splitlines()[0]}, 1 CPU, {os.cpu_count()} on the machine"
