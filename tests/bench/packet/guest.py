#!/usr/bin/python3
"""Process 1 of the benchmark's guest: makes the routers of job.json, measures every case, and switches itself off.

The guest's clock counts instructions (1 ns each), so a time here is a number of instructions. What it finds out goes
to the second serial port, one JSON object a line.
"""
from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMESPACES = Path("/run/netns")
SYSFS = Path("/run/sysfs")
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000
CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE, ETH_P_ALL = 33, 3
MODULES = "tun dummy veth ip6_tunnel jool_siit sch_ingress cls_bpf cls_matchall act_mirred nf_tables".split()
NUMBERS = itertools.count()
CAPTURED_AT_ONCE = 128
PATIENCE = 2000  # looks at the counter, 1 ms apart, until what was sent counts as lost


def tell(**fields) -> None:
    with open("/dev/ttyS1", "w") as port:
        port.write(json.dumps(fields) + "\n")


def command(*argv) -> None:
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stdout}")


def boot() -> None:
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")):
        command("mount", "-t", kind, kind, place)
    command("modprobe", "-a", *MODULES)
    Path("/proc/sys/net/core/netdev_max_backlog").write_text("100000")  # a veth pair hands over through it
    for threshold in (1, 2, 3):  # 1024 is too few for a neighbour on each of many tunnel devices
        Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{threshold}").write_text("8192")


class Router:
    """A network namespace with two veth pairs that packets arrive by and two dummy devices that they leave by."""

    def __init__(self, name: str) -> None:
        self.name = name
        command("ip", "netns", "add", name)
        self.taps = {True: self._generator("inet"), False: self._generator("core")}
        with self.inside():
            command("ip", "link", "add", "inet-out", "type", "dummy")
            command("ip", "link", "add", "core-out", "type", "dummy")
            (SYSFS / name).mkdir(parents=True)
            command("mount", "-t", "sysfs", "sysfs", SYSFS / name)
            command("sysctl", "-qw", "net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.all.forwarding=1")
            command("ip", "-batch", HERE / "routers" / name / "ip")
            command("nft", "-f", HERE / "routers" / name / "nft")

    def _generator(self, interface: str) -> int:
        """A TAP device outside, what is written to it arrives at an interface inside; returns its file descriptor."""
        number = next(NUMBERS)
        tap, pair = f"tap{number}", f"pair{number}"
        # non-blocking: only then packets get the headroom that a network card's driver gives them
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI))
        command("ip", "link", "add", pair, "type", "veth", "peer", "name", interface, "netns", self.name)
        for link in (tap, pair):
            Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
            command("ip", "link", "set", link, "up")
        command("tc", "qdisc", "add", "dev", tap, "clsact")
        command("tc", "filter", "add", "dev", tap, "ingress", "matchall", "action", "mirred", "egress", "redirect", "dev", pair)
        return device

    @contextlib.contextmanager
    def inside(self):
        """This process, and what it starts, in the router's network namespace."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(NAMESPACES / self.name)
        try:
            yield
        finally:
            if ctypes.CDLL(None).setns(home, CLONE_NEWNET):
                raise OSError("setns")
            os.close(home)

    def softwire(self, generation: str, action: str) -> None:
        """Runs a generation's the runner as its unit does."""
        with self.inside():
            command("mount", "--bind", SYSFS / self.name, "/sys")
            try:
                command("env", "-C", HERE / "generations" / generation, "python3", "-m", "softwire", action)
            finally:
                command("umount", "/sys")

    def sent(self, down: bool) -> int:
        """How many packets have left on one side."""
        leaving = "core-out" if down else "inet-out"
        return int((SYSFS / self.name / "class/net" / leaving / "statistics/tx_packets").read_bytes())


def enter(namespace: Path) -> None:
    handle = os.open(namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(handle)


def pieces(path: Path, count: int) -> list[bytes]:
    """A file as this many pieces of equal length."""
    content = path.read_bytes()
    size = len(content) // count
    return [content[start:start + size] for start in range(0, size * count, size)]


class Case:
    """One row of the table; `frames` go round and round."""

    def __init__(self, job: dict, fields: dict, router: Router, frames: list[bytes]) -> None:
        self.name, self.down, self.leaving, self.count = fields["name"], fields["down"], fields["leaving"], fields["count"]
        self.expected = HERE / "expected" / fields["expected"]
        self.gateway = bytes.fromhex(job["gateway"])
        self.router, self.tap, self.frames = router, router.taps[self.down], frames
        self.next = 0

    def check(self) -> None:
        """Every frame once: exactly what is expected has to leave."""
        if self.leaving is None:
            return
        with self.router.inside():
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            port.bind(("core-out" if self.down else "inet-out", ETH_P_ALL))
            port.settimeout(5)
        with port:
            start, end = self.leaving
            expected = pieces(self.expected, self.count)
            for number in range(0, self.count, CAPTURED_AT_ONCE):
                wanted = expected[number:number + CAPTURED_AT_ONCE]
                self.write(self.frames[number:number + CAPTURED_AT_ONCE])
                left = []
                with contextlib.suppress(TimeoutError):
                    while len(left) < len(wanted):
                        packet = port.recv(256)
                        if packet[:6] == self.gateway:
                            left.append(packet[start:end])
                if left != wanted:
                    raise RuntimeError(f"{self.name}: what left for frame {number} and following is not what has to leave")

    def write(self, frames) -> None:
        collections.deque(map(os.write, itertools.repeat(self.tap), frames), maxlen=0)

    def measure(self, packets: int) -> float:
        """Instructions for each of this many packets, from the write to the device that they leave by."""
        frames = list(itertools.islice(itertools.cycle(self.frames), self.next, self.next + packets))
        self.next = (self.next + packets) % len(self.frames)
        target = self.router.sent(self.down) + (packets if self.leaving else 0)
        begin = time.perf_counter_ns()
        self.write(frames)
        looks = 0
        while self.router.sent(self.down) < target:
            looks += 1
            if looks > PATIENCE:
                raise RuntimeError(f"{self.name}: {target - self.router.sent(self.down)} of {packets} packets did not leave")
            time.sleep(0.001)
        return (time.perf_counter_ns() - begin) / packets


def loading_time(router: Router, generation: str) -> float:
    """Seconds of the guest's clock from the start of the runner to the end of `up`."""
    begin = time.perf_counter_ns()
    router.softwire(generation, "up")
    seconds = (time.perf_counter_ns() - begin) / 1e9
    router.softwire(generation, "down")
    return seconds


def main() -> None:
    boot()
    job = json.loads((HERE / "job.json").read_text())
    routers = {}
    for name in job["routers"]:
        begin = time.perf_counter_ns()
        routers[name] = Router(name)
        if name in job["brought_up"]:
            routers[name].softwire(name, "up")
        tell(progress=f"router {name} is up", seconds=(time.perf_counter_ns() - begin) / 1e9)
    traffic = {fields["traffic"]: pieces(HERE / "traffic" / fields["traffic"], fields["count"]) for fields in job["cases"]}
    cases = [Case(job, fields, routers[fields["router"]], traffic[fields["traffic"]]) for fields in job["cases"]]
    for case in cases:
        case.check()
        case.measure(case.count)
        tell(progress=f"{case.name}: every packet leaves as it has to")
    for number in range(job["rounds"]):
        for case in cases:
            tell(round=number, case=case.name, instructions=case.measure(job["packets"]))
        for generation in job["loads"]["generations"]:
            tell(round=number, load=generation, seconds=loading_time(routers[job["loads"]["router"]], generation))
    tell(done=True)


try:
    main()
except Exception:  # nobody is there to see a traceback of process 1
    tell(failed=traceback.format_exc())
Path("/proc/sysrq-trigger").write_text("o")
time.sleep(60)
