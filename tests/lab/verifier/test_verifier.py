"""The verifiers of the oldest kernel that a router may have, of the newest that is promised, and of one between take every BPF object.

What a border relay needs of 5.19 is no matter of loading, so all objects have to load on all kernels. Each boots in a virtual machine
that has nothing but bpftool, the objects and an init, all in memory.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bpf_objects
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from labkit import images  # noqa: E402
from labkit.common import cache_dir, locked, recipe_hash, run  # noqa: E402

# The last point release of each suite of Debian: its kernel.
KERNELS = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
LOADER_SUITE = "bookworm"
COMMANDS = {name: images.VM_COMMANDS[name] for name in ("qemu-system-x86_64", "cpio")} | {"mmdebstrap": "mmdebstrap"}
TIMEOUT = 240  # seconds; a verifier takes ten times longer on an emulated CPU, and twice that to say what it does not take


def archive(name: str, suite: str, *recipe: str) -> Path:
    """A cached archive of packages that are unpacked, no more."""
    recipe = ("--variant=extract", "--aptopt=APT::Install-Recommends false", *recipe)
    target = cache_dir() / f"{name}-{suite}-{recipe_hash(suite, *recipe)}.tar"
    images.mmdebstrap(f"{name} of {suite}", target, suite, recipe, pockets=("",))
    return target


def kernel_archive(suite: str) -> Path:
    return archive("kernel", suite, "--include=linux-image-cloud-amd64", '--extract-hook=rm -rf "$1/usr" "$1/lib"')


@pytest.fixture(scope="module")
def archives():
    """{suite: the archive of its kernel}, and the loader's by the name loader."""
    with locked(cache_dir()), ThreadPoolExecutor() as pool:
        images.install_missing(COMMANDS)
        loader = pool.submit(archive, "loader", LOADER_SUITE, "--include=bpftool,busybox-static")
        kernels = pool.map(kernel_archive, KERNELS)
        return {**dict(zip(KERNELS, kernels)), "loader": loader.result()}


@pytest.fixture(scope="module")
def initrd(archives, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    run(["tar", "-C", root, "--exclude=./usr/share", "--exclude=gconv", "--exclude=./dev", "-xf", archives["loader"]], "the loader")
    for directory in ("proc", "sys", "objects"):
        (root / directory).mkdir()
    shutil.copy(HERE / "init", root / "init")
    for source in bpf_objects.sources():
        shutil.copy(bpf_objects.object_of(source), root / "objects")
    target = root.with_name("initrd.img")
    run(["sh", "-euc", f"cd {root}; find . | cpio --quiet -o -H newc > {target}"], "the guest's initrd")
    return target


def boot(kernel: Path, initrd: Path) -> str:
    """What a guest says until it is off, or for TIMEOUT."""
    # Nehalem: the newer instructions of -cpu max make an emulated CPU half as fast
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-m", "512", "-nodefaults", "-no-reboot",
               "-display", "none", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append",
               "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT).stdout.decode()
    except subprocess.TimeoutExpired as exc:
        return f"{(exc.stdout or b'').decode()}no end after {TIMEOUT} seconds"


@pytest.mark.parametrize("suite", KERNELS)
def test_every_object_loads(suite, archives, initrd, tmp_path):
    run(["tar", "-C", tmp_path, "--wildcards", "-xf", archives[suite], "./boot/vmlinuz-*"], "the guest's kernel")
    said = boot(next((tmp_path / "boot").iterdir()), initrd)
    assert f"KERNEL {KERNELS[suite]}." in said
    assert re.findall(r"^LOADED (\S+)", said, flags=re.MULTILINE) == [bpf_objects.object_of(source).name for source in bpf_objects.sources()], said
