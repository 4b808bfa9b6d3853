"""What takes long and is cached: the node images, the VM's root and disk, the ssh key.

Everything is named by a hash of its recipe; a changed recipe is a new name.
"""
from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labkit.common import (SOURCE, LabError, cache_dir, have_commands, progress, recipe_hash, run,
                           run_long)
from labkit.topology import IMAGE

VM_SUITE = "bookworm"
POCKETS = ("", "-updates", "-security")  # what follows a suite's name in Debian's archive
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DISK_SIZE = "6G"  # sparse

NODE_PACKAGES = """
    systemd systemd-sysv dbus kmod procps python3 python3-apt python3-scapy openssh-server
    iproute2 nftables iputils-ping iputils-tracepath traceroute ethtool tcpdump conntrack
    curl wget netcat-openbsd jool-tools bpftool
""".split()

VM_PACKAGES = """
    systemd systemd-sysv udev dbus kmod procps openssh-server iproute2 podman runc
    linux-image-cloud-amd64 linux-headers-cloud-amd64 dkms jool-dkms jool-tools
""".split()

# Units that only cost time in a system that lives for minutes.
MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer
    e2scrub_reap.service systemd-tmpfiles-clean.timer getty.target getty@tty1.service
    serial-getty@ttyS0.service console-getty.service nftables.service systemd-logind.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount
    sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service
    kmod-static-nodes.service systemd-binfmt.service systemd-update-utmp.service
    systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-sysusers.service
    systemd-journal-flush.service systemd-pstore.service
""".split()
# The lab waits for systemd, not for interfaces that a role has yet to bring up.
NODE_MASKED = ["systemd-networkd-wait-online.service"]
VM_MASKED = """
    podman-auto-update.timer podman-auto-update.service podman-restart.service podman.service
    podman.socket systemd-udevd.service systemd-udev-trigger.service
    systemd-udevd-control.socket systemd-udevd-kernel.socket
""".split()

BASE_RECIPE = [
    "--variant=minbase", "--aptopt=APT::Install-Recommends false",
    "--dpkgopt=force-confold", "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale")),
]

# Debian packages by the commands they are needed for on the machine itself.
BUILD_COMMANDS = {"mmdebstrap": "mmdebstrap", "ssh": "openssh-client", "ip": "iproute2"}
VM_COMMANDS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils",
               "mke2fs": "e2fsprogs", "cpio": "cpio", "busybox": "busybox-static"}
PODMAN_COMMANDS = {"podman": "podman", "runc": "runc"}


def install_missing(commands: dict[str, str]) -> None:
    """Install the Debian packages of missing commands, after saying which."""
    packages = sorted({package for command, package in commands.items()
                       if not have_commands(command)})
    if not KEYRING.exists():
        packages.append("debian-archive-keyring")
    if not packages:
        return
    if not have_commands("apt-get"):
        raise LabError(f"missing, and there is no apt-get to install them: {' '.join(packages)}")
    progress(f"INSTALLING on this machine with apt-get: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = cache_dir() / "logs" / "apt.log"
    run_long(["apt-get", "update"], "apt-get update", log, env=environment)
    run_long(["apt-get", "install", "-y", "--no-install-recommends", *packages],
             "apt-get install", log, env=environment)


def ssh_key() -> Path:
    """The lab's private key, for the VM and for managed nodes; its .pub lies beside it."""
    key = cache_dir() / "id_ed25519"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "softwire-lab", "-f", key],
            "the lab's ssh key")
    return key


def mirrors(suite: str, pockets: Sequence[str]) -> list[str]:
    """sources.list lines: this machine's own mirrors where they have the suite, else none: mmdebstrap has its own."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                   "Identifier: Packages"], "this machine's apt sources").stdout
    lines = set()
    for line in targets.splitlines():
        uri, release, component = line.split()
        pocket = release.removeprefix(codename)
        if component == "main" and pocket in pockets:
            if serves(uri, suite + pocket):
                lines.add(f"deb {uri} {suite}{pocket} main")
    return sorted(lines) if any(line.endswith(f" {suite} main") for line in lines) else []


def serves(uri: str, suite: str) -> bool:
    """Whether a mirror has a suite; apt asks, with this machine's settings for proxies and the like."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(["/usr/lib/apt/apt-helper", "download-file",
                               f"{uri}dists/{suite}/InRelease", f"{scratch}/InRelease"],
                              capture_output=True)
    return done.returncode == 0


def mmdebstrap(what: str, target: Path, suite: str, recipe: Sequence[str], pockets: Sequence[str] = POCKETS) -> None:
    """Make a root file system as a tar archive; recipe: mmdebstrap's options; pockets: of the suite, on this machine's mirrors."""
    if target.exists():
        return
    kind = target.name.rpartition("-")[0]
    partial = target.with_suffix(".partial.tar")
    try:
        run_long(["mmdebstrap", f"--keyring={KEYRING}", *recipe, suite, partial, *mirrors(suite, pockets)],
                 what, cache_dir() / "logs" / f"{kind}.log")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    remove_older(kind, target)


def remove_older(kind: str, keep: Path) -> None:
    """Remove what earlier recipes of the same kind left in the cache."""
    for path in cache_dir().glob(f"{kind}-*"):
        if path != keep and path.name.rpartition("-")[0] == kind:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_tree(tree: Path) -> str:
    """A shell command, up to the target directory; lib/ in the tree goes through a link lib."""
    return f"tar -C {tree} -c . | tar -x --no-same-owner --keep-directory-symlink -C"


def node_recipe() -> list[str]:
    hooks = [
        f'cp -a --no-preserve=ownership {SOURCE}/node/. "$1"',
        'chroot "$1" systemctl enable lab-net lab-server ssh systemd-networkd',
        f'chroot "$1" systemctl mask {" ".join(MASKED + NODE_MASKED)}',
        'chroot "$1" systemctl set-default multi-user.target',
        # everything as bytecode: an emulated CPU compiles slowly (some of scapy does not compile)
        'chroot "$1" sh -c "python3 -m compileall -q /usr/lib/python3*" || true',
        'rm -f "$1/var/lib/dbus/machine-id"; : > "$1/etc/machine-id"',
    ]
    extra = cache_dir() / "extra-root-node"
    if extra.is_dir():
        hooks.append(f'{copy_tree(extra)} "$1"; chroot "$1" ldconfig')
    return [*BASE_RECIPE, f"--include={','.join(NODE_PACKAGES)}",
            *(f"--customize-hook={hook}" for hook in hooks)]


def node_archive(suite: str) -> Path:
    """The path of the archive of a node image (whether it exists or not)."""
    recipe = [option.replace(str(SOURCE), "") for option in node_recipe()]
    name = recipe_hash(suite, *recipe, SOURCE / "node", cache_dir() / "extra-root-node")
    return cache_dir() / f"node-{suite}-{name}.tar"


def vm_root_recipe() -> list[str]:
    # the VM boots with an initrd of the lab's own
    no_initramfs = ('mkdir -p "$1/etc/initramfs-tools"; echo update_initramfs=no'
                    ' > "$1/etc/initramfs-tools/update-initramfs.conf"')
    return [*BASE_RECIPE, f"--include={','.join(VM_PACKAGES)}", f"--essential-hook={no_initramfs}"]


def vm_root_archive() -> Path:
    """The path of the archive of the VM's root (whether it exists or not)."""
    return cache_dir() / f"vmroot-{recipe_hash(VM_SUITE, *vm_root_recipe())}.tar"


def vm_disk(suites: Sequence[str]) -> Path:
    """The directory with disk.raw, vmlinuz and initrd.img (whether it exists or not).

    suites: of the node images that the disk holds.
    """
    name = recipe_hash(*(node_archive(suite).name for suite in suites), vm_root_archive().name, DISK_SIZE,
                       SOURCE / "vm", SOURCE / "containers.conf", Path(__file__),
                       ssh_key().with_suffix(".pub"), cache_dir() / "extra-root")
    return cache_dir() / f"vm-{'-'.join(suites)}-{name}"


def make_vm_disk(suites: Sequence[str]) -> None:
    """Unpack the VM's root, add the lab's files and the node images, write it to a disk."""
    target = vm_disk(suites)
    if target.exists():
        return
    work = cache_dir() / "work"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    root.mkdir(parents=True)
    progress("VM disk ...")
    run(["tar", "-C", root, "-xf", vm_root_archive()], "VM root")
    configure_vm_root(root)
    for suite in suites:
        run_long([SOURCE / "vm" / "import-image", root, node_archive(suite), image_name(suite)],
                 f"node image {suite} into the VM", cache_dir() / "logs" / f"vm-image-{suite}.log")
    made = work / "vm"
    made.mkdir()
    kernel = kernel_version(root)
    shutil.copy(root / "boot" / f"vmlinuz-{kernel}", made / "vmlinuz")
    make_initrd(root, kernel, "init", made / "initrd.img", "virtio_pci", "virtio_blk", "ext4")
    make_initrd(root, kernel, "init-poweroff", made / "poweroff.img")
    shutil.rmtree(root / "boot")
    run_long(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1",
              "-d", root, made / "disk.raw", DISK_SIZE],
             "VM disk", cache_dir() / "logs" / "vm-disk.log")
    made.rename(target)
    shutil.rmtree(work)
    remove_older(target.name.rpartition("-")[0], target)


def kernel_version(root: Path) -> str:
    return next((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")


def configure_vm_root(root: Path) -> None:
    run(["cp", "-a", "--no-preserve=ownership", f"{SOURCE}/vm/root/.", root], "VM root")
    (root / "etc/hostname").write_text("lab\n")
    (root / "etc/containers").mkdir(parents=True, exist_ok=True)
    shutil.copy(SOURCE / "containers.conf", root / "etc/containers/containers.conf")
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(ssh_key().with_suffix(".pub"), ssh / "authorized_keys")
    run(["systemctl", f"--root={root}", "enable", "lab-uplink.service", "ssh.service"],
        "VM units")
    run(["systemctl", f"--root={root}", "mask", *MASKED, *VM_MASKED], "VM units")
    run(["systemctl", f"--root={root}", "set-default", "multi-user.target"], "VM units")
    for unit in (root / "etc/systemd/system/multi-user.target.wants").glob("jool*"):
        unit.unlink()  # instances are the nodes' business
    shutil.rmtree(root / "etc/cni")  # no container network; podman warns about a broken one
    extra = cache_dir() / "extra-root"
    if extra.is_dir():
        progress(f"adding {extra} to the VM")
        run(["sh", "-c", f'{copy_tree(extra)} "$1"', "sh", root], "extra-root")
    run(["chroot", root, "ldconfig"], "VM libraries")
    run(["chroot", root, "depmod", "-a", kernel_version(root)], "VM modules")


def make_initrd(root: Path, kernel: str, init: str, target: Path, *modules: str) -> None:
    """A busybox initrd that runs vm/INIT, with modules in the order in which they load."""
    work = cache_dir() / "work" / init
    for directory in ("bin", "modules", "proc", "sys", "dev", "new"):
        (work / directory).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), work / "bin/busybox")
    shutil.copy(SOURCE / "vm" / init, work / "init")
    needed: list[str] = []
    for module in modules:
        listing = run(["chroot", root, "modprobe", "-S", kernel, "--show-depends", module],
                      "the initrd's modules").stdout
        for line in listing.splitlines():
            action, path = line.split()[:2]
            if action == "insmod" and path not in needed:
                needed.append(path)
    for number, path in enumerate(needed):
        shutil.copy(f"{root}{path}", work / "modules" / f"{number:02}-{Path(path).name}")
    names = "\n".join(str(p.relative_to(work)) for p in sorted(work.rglob("*")))
    with target.open("wb") as output:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=work, check=True,
                       input=names.encode(), stdout=output)


def make_archives(vm: bool, suites: Sequence[str]) -> None:
    """The node images, and with `vm` the VM's root: downloads and builds at once."""
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(mmdebstrap, f"node image {suite}", node_archive(suite), suite, node_recipe())
                for suite in suites]
        if vm:
            jobs.append(pool.submit(mmdebstrap, "VM root (builds Jool's modules)",
                                    vm_root_archive(), VM_SUITE, vm_root_recipe()))
        for job in jobs:
            job.result()


def prepare(kernel: str, engine: str, suites: Sequence[str]) -> None:
    """Build what is missing for this choice of kernel ("host" or "vm") and engine; suites: of the nodes."""
    commands = dict(BUILD_COMMANDS)
    if kernel == "vm":
        commands |= VM_COMMANDS
    elif engine == "podman":
        commands |= PODMAN_COMMANDS
    install_missing(commands)
    ssh_key()
    make_archives(kernel == "vm", suites)
    if kernel == "vm":
        make_vm_disk(suites)


def image_name(suite: str) -> str:
    """The name of a node image, with its suite and its recipe's hash as tag."""
    return f"{IMAGE}:{node_archive(suite).stem.removeprefix('node-')}"


def lacks(kernel: str, suites: Sequence[str], module: str) -> list[str]:
    """What the machine and the nodes would lack of a kernel module and the command of the same name.

    kernel: "host" or "vm". Of an image that is not built yet only its extra tree counts.
    """
    missing = []
    if kernel == "host":
        if subprocess.run(["modprobe", "-n", "-q", module], capture_output=True).returncode and not Path("/sys/module", module).exists():
            missing.append(f"this machine's kernel has no module {module}")
    elif not holds(cache_dir() / "extra-root", vm_root_archive(), rf"lib/modules/.*/{module}\.ko(\.\w+)?"):
        missing.append(f"the VM's kernel has no module {module}, and there is none in {cache_dir() / 'extra-root'}")
    for suite in suites:
        if not holds(cache_dir() / "extra-root-node", node_archive(suite), rf"(usr/)?(local/)?s?bin/{module}"):
            missing.append(f"the node image {suite} has no command {module}, and there is none in {cache_dir() / 'extra-root-node'}")
    return missing


def holds(tree: Path, archive: Path, pattern: str) -> bool:
    """Whether a tree or an archive (where they exist) has a file whose path ends in this pattern."""
    names = [str(path.relative_to(tree)) for path in tree.rglob("*")]
    if archive.exists():
        with tarfile.open(archive) as opened:
            names += opened.getnames()
    return any(re.fullmatch(rf"(.*/)?{pattern}", name) for name in names)
