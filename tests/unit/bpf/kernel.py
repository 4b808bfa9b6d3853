# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs in the running kernel: built by clang, loaded by bpftool, run by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sysconfig
from pathlib import Path

from ansible_collections.softwire.map.plugins.plugin_utils import bpf_rule
from packets import ETHERNET

SOURCE = Path(__file__).resolve().parents[3] / "roles" / "map_br" / "files" / "bpf" / "mapt.bpf.c"
SYSCALL = {"x86_64": 321, "aarch64": 280}
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, OBJ_GET, TEST_RUN = 1, 2, 3, 4, 7, 10
PASS, SHOT, REDIRECT = 0xFFFFFFFF, 2, 7  # TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT
CHECKSUM_COMPLETE = 1 << 2  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE
SIZES = {"rules": (12, 32), "config": (4, 48), "counters": (4, 8), "bindings": (24, 16), "first_fragments": (24, 4)}
INTERNAL = "2001:db8:aaaa::/96"

libc = ctypes.CDLL(None, use_errno=True)


def command(*words, package):
    """Runs a tool that must be there; says which package has it."""
    if not shutil.which(words[0]):
        raise AssertionError(f"{words[0]} is not installed: install the package {package}")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))} failed (are you root?): {done.stdout}{done.stderr}"
    return done.stdout


def build(target):
    headers = "/usr/include/" + (sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu")
    flags = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", f"-I{headers}"]
    command("clang", *flags, "-c", str(SOURCE), "-o", str(target), package="clang (and libbpf-dev)")


def load(target, directory):
    """Mounts a BPF file system on a directory and loads and pins the object there, as a border relay does."""
    command("mount", "-t", "bpf", "bpf", str(directory), package="mount")
    command("bpftool", "prog", "loadall", str(target), f"{directory}/programs", "pinmaps", f"{directory}/maps", package="bpftool")


def unmount(directory):
    command("umount", str(directory), package="mount")


def bpf(number, attributes):
    """The system call. Returns its result and the attributes after it; raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(SYSCALL[platform.machine()], number, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({number}): {os.strerror(ctypes.get_errno())}")
    return result, buffer.raw


def address_of(buffer):
    return ctypes.addressof(buffer) if buffer is not None else 0


def open_pinned(path):
    name = ctypes.create_string_buffer(str(path).encode())
    return bpf(OBJ_GET, struct.pack("=QII", address_of(name), 0, 0))[0]


def possible_cpus():
    last = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


class Map:
    def __init__(self, path):
        self.fd = open_pinned(path)
        self.key_size, self.value_size = SIZES[path.name]

    def call(self, number, key, value):
        """A map command; value is given, or room for one, or None."""
        key, value = (None if part is None else ctypes.create_string_buffer(part, len(part)) for part in (key, value))
        bpf(number, struct.pack("=IxxxxQQQ", self.fd, address_of(key), address_of(value), 0))
        return None if value is None else value.raw

    def update(self, key, value, count=1):
        assert (len(key), len(value)) == (self.key_size, self.value_size * count)
        self.call(MAP_UPDATE, key, value)

    def lookup(self, key, count=1):
        return self.call(MAP_LOOKUP, key, bytes(self.value_size * count))

    def keys(self):
        key, found = None, []
        while True:
            try:
                key = self.call(MAP_NEXT_KEY, key, bytes(self.key_size))
            except FileNotFoundError:
                return found
            found.append(key)

    def clear(self):
        for key in self.keys():
            self.call(MAP_DELETE, key, None)


class Relay:
    """The loaded programs with their maps."""

    def __init__(self, directory):
        self.directory = directory
        self.programs = {name: open_pinned(directory / "programs" / name) for name in ("mapt_in", "mapt_out")}
        self.maps = {name: Map(directory / "maps" / name) for name in SIZES}
        self.cpus = possible_cpus()
        # The kernel then also checks skb->csum, which hardware fills in: a wrong one is EBADMSG.
        release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        self.flags = CHECKSUM_COMPLETE if release >= (6, 17) else 0

    def configure(self, *domains, check_only=False):
        """Forgets everything and takes these domains, of one DMR."""
        for name in ("rules", "bindings", "first_fragments"):
            self.maps[name].clear()
        for index in bpf_rule.COUNTERS:
            self.maps["counters"].update(struct.pack("=I", index), bytes(8 * self.cpus), self.cpus)
        for domain in domains:
            for rule in domain["rules"]:
                entry = bpf_rule.rule_entry(rule, domain, INTERNAL)
                self.maps["rules"].update(bytes.fromhex(entry["key"]), bytes.fromhex(entry["value"]))
        config = bpf_rule.config_value(domains[0]["dmr"], INTERNAL, check_only)
        self.maps["config"].update(bytes(4), bytes.fromhex(config))

    def counted(self):
        """The counters that are not zero, by name."""
        values = {}
        for index, name in bpf_rule.COUNTERS.items():
            raw = self.maps["counters"].lookup(struct.pack("=I", index), self.cpus)
            values[name] = sum(struct.unpack(f"={self.cpus}Q", raw))
        return {name: value for name, value in values.items() if value}

    def run(self, program, packet, padding=b""):
        """Runs a program on an IPv6 packet in an Ethernet frame. Returns the verdict and the IPv6 packet after it."""
        frame = ETHERNET + packet + padding
        data = ctypes.create_string_buffer(frame, len(frame))
        out = ctypes.create_string_buffer(len(frame))
        fields = (self.programs[program], 0, len(frame), len(frame), address_of(data), address_of(out))
        attributes = struct.pack("=IIIIQQIIIIQQIII", *fields, 1, 0, 0, 0, 0, 0, self.flags, 0, 0)
        verdict = struct.unpack_from("=I", bpf(TEST_RUN, attributes)[1], 4)[0]
        return verdict, out.raw[len(ETHERNET) :]
