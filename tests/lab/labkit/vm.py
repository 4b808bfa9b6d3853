"""The throw-away VM: whether KVM works, booting, ssh, stopping."""
from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

from labkit.common import RUN, LabError, progress, run

STATE = RUN / "vm"
MEMORY_MIB = 3072
BOOT_TIMEOUT = 120  # seconds until ssh answers, on an emulated CPU
BOOT_ATTEMPTS = 4

KVM_TIMEOUT = 10  # seconds; where KVM works this takes one


def kvm_works(disk: Path) -> bool:
    """Boot the VM's kernel with KVM, only to power off; the answer is kept until the next boot.

    A smaller guest would prove nothing: there are machines whose /dev/kvm runs a boot sector,
    slowly, but no stock kernel, and such where it just hangs.
    """
    if not os.path.exists("/dev/kvm"):
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = STATE / "kvm"
    if known.exists() and known.read_text().split()[0] == boot_id:
        return known.read_text().split()[1] == "works"
    begin = time.monotonic()
    try:
        done = subprocess.run(
            ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512",
             "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
             "-kernel", disk / "vmlinuz", "-initrd", disk / "poweroff.img",
             "-append", "console=ttyS0 quiet panic=-1"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=KVM_TIMEOUT)
        answer = "works" if b"softwire-lab: booted" in done.stdout else "fails"
    except subprocess.TimeoutExpired:
        answer = "hangs"
    progress(f"/dev/kvm {answer} ({time.monotonic() - begin:.1f} s)")
    known.write_text(f"{boot_id} {answer}\n")
    return answer == "works"


def pid() -> int | None:
    """The process id of the lab's running VM, or None."""
    try:
        number = int((STATE / "pid").read_text())
        arguments = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    # a stale file may name a stranger's process
    return number if str(STATE / "pid").encode() in arguments else None


def disk_name() -> str:
    """The name of the cached disk the running VM was booted from."""
    path = STATE / "disk"
    return path.read_text() if path.exists() else ""


def ssh_argv(key: Path, *options: str) -> list[str]:
    """ssh to the VM over one shared connection; add the remote command."""
    port = (STATE / "port").read_text().strip()
    return ["ssh", "-F", "none", "-i", str(key), "-p", port, "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=10",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "ControlMaster=auto",
            "-o", f"ControlPath={STATE}/ssh", "-o", "ControlPersist=600",
            *options, "root@127.0.0.1"]


def start(disk: Path, key: Path) -> None:
    """Boot, again where a boot hangs: on a busy machine an emulated kernel's CPUs may lock up."""
    for attempt in range(1, BOOT_ATTEMPTS + 1):
        try:
            boot(disk, key)
            return
        except LabError as error:
            if attempt == BOOT_ATTEMPTS:
                raise
            progress(f"boot {attempt} of {BOOT_ATTEMPTS} failed, once more: {str(error)[:200]}")


def boot(disk: Path, key: Path) -> None:
    """Boot from a throw-away overlay of the cached disk and wait for ssh."""
    STATE.mkdir(parents=True, exist_ok=True)
    kvm = kvm_works(disk)
    (STATE / "ssh").unlink(missing_ok=True)
    overlay = STATE / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2",
         "-b", disk / "disk.raw", "-F", "raw", overlay], "the VM's overlay")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (STATE / "port").write_text(f"{port}\n")
    (STATE / "disk").write_text(disk.name)
    progress(f"booting the VM ({'KVM' if kvm else 'emulated CPU'}) ...")
    # Nehalem: the newer instructions of -cpu max make an emulated CPU half as fast
    cpu = (["-accel", "kvm", "-cpu", "host"] if kvm else
           ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"])
    append = ("console=ttyS0 root=/dev/vda rw quiet net.ifnames=0 mitigations=off "
              "random.trust_cpu=on tsc=reliable audit=0 systemd.show_status=false")
    run(["qemu-system-x86_64", "-machine", "q35", *cpu, "-smp", "2", "-m", str(MEMORY_MIB),
         "-nodefaults", "-no-reboot", "-display", "none",
         "-kernel", disk / "vmlinuz", "-initrd", disk / "initrd.img", "-append", append,
         "-drive", f"file={overlay},if=virtio,cache=unsafe,aio=threads",
         # restrict: the guest reaches nobody, only ssh comes in
         "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
         "-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci",
         "-serial", f"file:{STATE}/serial.log", "-pidfile", STATE / "pid", "-daemonize"],
        "the VM")
    begin = time.monotonic()
    while True:
        probe = subprocess.run([*ssh_argv(key), "true"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if probe.returncode == 0:
            break
        serial = (STATE / "serial.log").read_text(errors="replace")[-2000:]
        if pid() is None or "soft lockup" in serial or time.monotonic() - begin > BOOT_TIMEOUT:
            stop()
            raise LabError(f"the VM did not answer on ssh:\n{probe.stderr}{serial}")
        time.sleep(0.5)
    progress(f"the VM answers, {time.monotonic() - begin:.1f} s after its start")


def stop() -> None:
    """End the VM by its pid file and remove what it left."""
    number = pid()
    if number:
        os.kill(number, signal.SIGTERM)
        for _attempt in range(100):
            if pid() is None:
                break
            time.sleep(0.1)
        else:
            os.kill(number, signal.SIGKILL)
    for name in ("overlay.qcow2", "disk", "port", "pid", "ssh", "serial.log"):
        (STATE / name).unlink(missing_ok=True)


def proxy_command(key: Path) -> str:
    """What connects an ssh client on this machine to a node (%h:%p) in the VM."""
    return shlex.join(ssh_argv(key, "-W", "%h:%p"))
