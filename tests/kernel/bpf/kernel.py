# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs in the running kernel: loaded by bpftool, run by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
from ipaddress import IPv6Address
from pathlib import Path

from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule

SYSCALL = {"x86_64": 321, "aarch64": 280}
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, OBJ_GET, TEST_RUN = 1, 2, 3, 4, 7, 10
PASS, SHOT, REDIRECT = 0xFFFFFFFF, 2, 7  # TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT
CHECKSUM_COMPLETE = 1 << 2  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE
SIZES = {
    "rules": (12, 32), "config": (4, 48), "counters": (4, 8), "bindings": (24, 16), "first_fragments": (24, 4),
    "br_aliases": (32, 1), "outer": (4, 34), "begun": (8, 16), "whole": (4, 24), "treatment": (4, 4), "softwire_device": (4, 4), "dmr_route": (4, 8),
}  # of a map per CPU: the next multiple of 8
INTERNAL = "2001:db8:aaaa::/96"
MACS = bytes.fromhex("020000000001 020000000002")
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"  # EtherTypes

libc = ctypes.CDLL(None, use_errno=True)


def command(*words, package):
    """Runs a tool that must be there; says which package has it."""
    if not shutil.which(words[0]):
        raise AssertionError(f"{words[0]} is not installed: install the package {package}")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))} failed (are you root?): {done.stdout}{done.stderr}"
    return done.stdout


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
    def __init__(self, path, sizes):
        self.fd = open_pinned(path)
        self.key_size, self.value_size = sizes[path.name]

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
    """Loaded programs with their maps."""

    sizes = SIZES

    def __init__(self, directory):
        self.directory = directory
        self.programs = {path.name: open_pinned(path) for path in (directory / "programs").iterdir()}
        self.maps = {path.name: Map(path, self.sizes) for path in (directory / "maps").iterdir() if path.name in self.sizes}
        self.cpus = possible_cpus()
        # The kernel then also checks skb->csum, which hardware fills in: a wrong one is EBADMSG.
        release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        self.flags = CHECKSUM_COMPLETE if release >= (6, 17) else 0

    def forget(self, domains):
        """Forgets everything and takes the rules of these domains."""
        for name in ("rules", "bindings", "first_fragments"):
            self.maps[name].clear()
        for index in range(len(bpf_rule.COUNTERS)):
            self.maps["counters"].update(struct.pack("=I", index), bytes(8 * self.cpus), self.cpus)
        if "treatment" in self.maps:
            self.treat()
        for domain in domains:
            for rule in domain["rules"]:
                self.add("rules", bpf_rule.rule_entry(rule, domain, INTERNAL))

    def treat(self, dscp=None, lowers_mss=False):
        """What a border relay does to packets besides; nothing after forget()."""
        self.maps["treatment"].update(bytes(4), bytes.fromhex(bpf_rule.treatment(dscp, lowers_mss)))

    def add(self, name, entry):
        self.maps[name].update(bytes.fromhex(entry["key"]), bytes.fromhex(entry["value"]))

    def counted(self):
        """The counters that are not zero, by name."""
        values = {}
        for index, name in enumerate(bpf_rule.COUNTERS):
            raw = self.maps["counters"].lookup(struct.pack("=I", index), self.cpus)
            values[name] = sum(struct.unpack(f"={self.cpus}Q", raw))
        return {name: value for name, value in values.items() if value}

    def run_frame(self, program, frame, checks_sum=True, interface=0):
        """Runs a program on an Ethernet frame. Returns the verdict and what is behind the Ethernet header after it.

        checks_sum: a wrong skb->csum is an OSError, EBADMSG, where the kernel can tell.
        interface: the index of the one that the frame comes in by, of this thread's network namespace; 0: lo.
        """
        data = ctypes.create_string_buffer(frame, len(frame))
        out = ctypes.create_string_buffer(len(frame) + 128)
        context = ctypes.create_string_buffer(bytes(40) + struct.pack("=I", interface), 44) if interface else None  # struct __sk_buff
        fields = (self.programs[program], 0, len(frame), len(out), address_of(data), address_of(out))
        attributes = struct.pack("=IIIIQQIIIIQQIII", *fields, 1, 0, len(context or b""), 0, address_of(context), 0, self.flags if checks_sum else 0, 0, 0)
        verdict, _size_in, size = struct.unpack_from("=III", bpf(TEST_RUN, attributes)[1], 4)
        return verdict, out.raw[14:size]


class TranslatorRelay(Relay):
    """mapt.bpf.c"""

    def configure(self, *domains, check_only=False):
        """Forgets everything and takes these domains, of one DMR."""
        self.forget(domains)
        config = bpf_rule.config_value(domains[0]["dmr"], INTERNAL, check_only)
        self.maps["config"].update(bytes(4), bytes.fromhex(config))

    def run(self, program, packet, padding=b""):
        """Runs a program on an IPv6 packet. Returns the verdict and the IPv6 packet after it."""
        return self.run_frame(program, MACS + IPV6 + packet + padding)


class Translator(Relay):
    """translate.bpf.c"""

    sizes = SIZES | {"config": (4, 88)}

    def configure_relay(self, *domains, ipv6_mtu=1500, icmp_source=bpf_rule.DUMMY_ADDRESS):
        """Forgets everything and becomes the border relay of these domains, of one DMR."""
        self._configure(domains, bpf_rule.translator_config(domains[0]["dmr"], ipv6_mtu, icmp_source=icmp_source))

    def configure_edge(self, ce, ipv6_mtu=1500):
        """Forgets everything and becomes a customer edge; ce: its dict."""
        mesh = {"transport": "map-t", "interface_id": ce["interface_id"], "rules": ce["fmrs"]}
        self._configure([mesh], bpf_rule.translator_config(ce["dmr"], ipv6_mtu, ce))

    def _configure(self, domains, config):
        self.forget(domains)
        self.maps["begun"].clear()
        self.maps["config"].update(bytes(4), bytes.fromhex(config))

    def run(self, program, packet):
        """Runs a program on a packet. Returns the packet of the other protocol, or None where it was dropped."""
        verdict, after = self.run_frame(program, MACS + (IPV4 if packet[0] >> 4 == 4 else IPV6) + packet)
        assert verdict in (REDIRECT, SHOT)
        return after if verdict == REDIRECT else None


class Tunnel(Relay):
    """mape.bpf.c inside tunnel_key.bpf.c: of a border relay, or of a customer edge that meshes."""

    sizes = SIZES | {"config": (4, 64)}
    prefix = "test"

    def configure(self, *domains):
        """Forgets everything and becomes the border relay of these domains."""
        self.prefix = "test"
        self._configure(domains)

    def configure_edge(self, ce, rules, br_addresses, sends=True):
        """Forgets everything and becomes a customer edge; ce: its dict; rules: the FMRs."""
        self.prefix = "test_mesh"
        self._configure([{"transport": "map-e", "interface_id": ce["interface_id"], "br_address": br_addresses, "rules": rules}])
        self.maps["config"].update(bytes(4), bytes.fromhex(bpf_rule.mesh_config(ce, br_addresses[0], sends)))

    def _configure(self, domains):
        for name in ("br_aliases", "begun"):
            self.maps[name].clear()
        self.forget(domains)
        for domain in domains:
            for entry in bpf_rule.br_alias_entries(domain):
                self.add("br_aliases", entry)

    def run_in(self, source, destination, packet, ethertype=IPV4):
        """Runs the inward program on an IPv4 packet that came in a tunnel between these IPv6 addresses. Returns the verdict."""
        outer = IPv6Address(destination).packed + IPv6Address(source).packed + bytes(2)
        self.maps["outer"].update(bytes(4), outer)
        verdict, after = self.run_frame(f"{self.prefix}_in", MACS + ethertype + packet)
        assert after == packet
        return verdict

    def run_out(self, packet, ethertype=IPV4):
        """Runs the outward program on an IPv4 packet. Returns the outer source, destination, traffic class and hop limit, or None."""
        self.maps["outer"].update(bytes(4), bytes(34))
        verdict, after = self.run_frame(f"{self.prefix}_out", MACS + ethertype + packet)
        assert after == packet
        outer = self.maps["outer"].lookup(bytes(4))
        if verdict == SHOT:
            assert outer == bytes(34)
            return None
        assert verdict == PASS
        return str(IPv6Address(outer[:16])), str(IPv6Address(outer[16:32])), outer[32], outer[33]
