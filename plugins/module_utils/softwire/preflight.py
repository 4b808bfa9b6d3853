# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks whether a router can run a generation; changes nothing."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from . import login, networkd
from .commands import query, succeeds

SUPPORTED = {"debian": (12, "12 (bookworm)"), "ubuntu": (22, "22.04")}
# The Debian package of each command, and of each kernel module that no stock kernel has.
PACKAGE_OF_COMMAND = {
    "bpftool": "bpftool",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "jool_siit": "jool-tools",
    "modprobe": "kmod",
    "nft": "nftables",
    "sysctl": "procps",
    "tc": "iproute2",
}
PACKAGE_OF_MODULE = {"jool_siit": "jool-dkms"}
PACKAGED_ELSEWHERE = {"jool_mapt": "distributions do not package it: install Jool 4.2 from upstream's packages"}


class Machine:
    """What a preflight wants to know about the router it runs on."""

    def __init__(self):
        self.release = os_release(Path("/etc/os-release").read_text())
        self.kernel = os.uname().release
        self.links = links([]) if self.has_command("ip") else {}

    def has_command(self, name):
        return shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is not None

    def has_module(self, name):
        if Path("/sys/module", name).exists():
            return True
        return self.has_command("modprobe") and succeeds(["modprobe", "-n", "-q", name])

    def has_bpf(self):
        return "bpf" in Path("/proc/filesystems").read_text().split()

    def has_namespace(self, name):
        return Path("/run/netns", name).exists()

    def secure_boot(self):
        """Whether the kernel refuses modules without a signature it knows."""
        lockdown = Path("/sys/kernel/security/lockdown")
        return lockdown.exists() and "[none]" not in lockdown.read_text()

    def headers_installed(self):
        return Path("/lib/modules", self.kernel, "build").exists()

    def headers_of_next(self):
        """The packages that bring the headers of every kernel to come, as the metapackages of its images bring that (linux-image-amd64)."""
        if not self.has_command("dpkg-query"):
            return []
        listed = query(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Depends}\n", "linux-image-*"], as_json=False)
        metapackages = re.findall(r"^installed linux-image-(\S+) .*\blinux-image-\d", listed, re.MULTILINE)
        return ["linux-headers-" + flavour for flavour in metapackages]


def os_release(text):
    """The fields of /etc/os-release as a dict."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, value in pairs}


def links(prefix):
    """The network interfaces by name, as "ip -json -details address" gives them."""
    return {link["ifname"]: link for link in query(["ip"] + prefix + ["-json", "-details", "address"]) if "ifname" in link}


def connection_address():
    """The address of this router that the play's own SSH connection uses, or None."""
    return (login.connection() + [None] * 4)[2]


def distribution_fault(machine):
    """Why this distribution cannot be served, or None."""
    name, version = machine.release.get("ID", "unknown"), machine.release.get("VERSION_ID", "")
    known = ", ".join("%s %s or later" % (key, text) for key, (_number, text) in sorted(SUPPORTED.items()))
    if name not in SUPPORTED:
        return "distribution %r: not supported; supported are %s" % (name, known)
    major = version.split(".")[0]
    if major.isdigit() and int(major) < SUPPORTED[name][0]:
        return "distribution %s %s: too old; supported are %s" % (name, version, known)
    return None


def kernel_fault(machine, minimum):
    """Why this kernel is too old, or None."""
    version = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in machine.kernel.split("-")[0].split(".")[:2])
    if version >= tuple(int(part) for part in minimum.split(".")):
        return None
    return "kernel %s: older than %s, which this needs; install a newer kernel" % (machine.kernel, minimum)


def interface_faults(machine, settings, ours):
    """What is wrong with the interfaces that a generation uses; ours: the running instance's namespaces.

    settings: the content of instance.json; "interfaces" maps a name to {"mtu": int, "variable": str}
    or {"move": namespace, "addresses": [...], "variable": str}.
    """
    faults = []
    if not machine.has_command("ip"):
        return faults  # looked at again once it is installed
    connection = connection_address()
    for name, wanted in sorted(settings["interfaces"].items()):
        link = machine.links.get(name)
        moved = link is None
        for namespace in ours if moved else ():
            link = link or links(["-n", namespace]).get(name)
        where = "%s: %s" % (wanted["variable"], name)
        if link is None:
            faults.append("%s: this router has no such network interface; it has %s" % (
                where, ", ".join(sorted(set(machine.links) - {"lo"})) or "none"))
            continue
        if wanted.get("mtu") and link["mtu"] < wanted["mtu"]:
            faults.append("%s: its MTU is %d, less than %s: %d; give the interface's own" % (
                where, link["mtu"], wanted["mtu_variable"], wanted["mtu"]))
        if wanted.get("move") and not moved:
            faults += ["%s: %s" % (where, reason) for reason in move_faults(name, link, wanted, connection)]
    return faults


def move_faults(name, link, wanted, connection):
    """Why an interface must not be moved into a namespace."""
    advice = "; use the other layout (map_ce_napt_namespace: \"\"), which moves no interface"
    addresses = {address["local"]: address for address in link["addr_info"] if address["scope"] == "global"}
    if connection in addresses or str(connection).endswith("%" + name):  # a link-local address names its link
        yield "it carries this connection (%s): moving it would cut the play off%s" % (connection, advice)
        return
    kind = link.get("linkinfo", {}).get("info_kind")
    if kind == "bridge":
        yield "it is a bridge, which cannot be moved to another namespace" + advice
    if Path("/sys/class/net", name, "phy80211").exists():
        yield "it is a Wi-Fi interface, which cannot be moved alone" + advice
    if link.get("master"):
        yield "it is a port of %s: moving it would take it out%s" % (link["master"], advice)
    lost = sorted(
        "%s/%d" % (local, address["prefixlen"]) for local, address in addresses.items()
        if not address.get("dynamic") and "%s/%d" % (local, address["prefixlen"]) not in wanted["addresses"]
    )
    if lost:
        yield "moving it would lose its address %s; list it in map_ce_lan_addresses, or remove it first" % ", ".join(lost)


def networkd_faults(settings):
    """Why systemd-networkd cannot make the links that a generation wants of it."""
    wanted = settings["networkd"]
    if not wanted or networkd.file_of(wanted["wan"]):
        return []
    return ["map_ce_network_backend: networkd: systemd-networkd does not configure %s (networkctl status %s names no "
            ".network file); let it, or use map_ce_network_backend: service" % (wanted["wan"], wanted["wan"])]


def metrics_faults(role, directory):
    """Why node exporter would not find metrics in a directory."""
    if os.path.isdir(directory):
        return []
    return ["map_%s_metrics_directory: %s: there is no such directory on this router; install the package "
            "prometheus-node-exporter, or name the directory that your exporter reads" % (role, directory)]


def namespace_faults(machine, settings, ours):
    """Namespaces that exist but are not the running instance's own."""
    return [
        "%s: %s: a network namespace of this name exists and is not ours; choose another name or remove it"
        % (settings["namespace_variables"][name], name)
        for name in settings["namespaces"] if machine.has_namespace(name) and name not in ours
    ]


def missing(machine, settings):
    """(packages to install, what no package of the distribution brings)."""
    packages, faults = set(), []
    for kind, names, package_of, has in (
        ("command", settings["commands"], PACKAGE_OF_COMMAND, machine.has_command),
        ("kernel module", settings["kernel_modules"], PACKAGE_OF_MODULE, machine.has_module),
    ):
        for name in names:
            if has(name):
                continue
            if name in package_of:
                packages.add(package_of[name])
            else:
                faults.append("%s %s: missing; %s" % (kind, name, PACKAGED_ELSEWHERE.get(name, "this kernel does not have it")))
    if "jool-dkms" in packages:
        if machine.secure_boot():
            faults.append("kernel module jool_siit: Secure Boot refuses modules that DKMS builds unsigned; "
                          "enrol a signing key for DKMS (mokutil) or disable Secure Boot")
        if not machine.headers_installed():
            packages.add("linux-headers-%s" % machine.kernel)
        packages.update(machine.headers_of_next())  # without them the next kernel comes without the module
    if settings["bpf"] and not machine.has_bpf():
        faults.append("BPF: this kernel is built without it (CONFIG_BPF_SYSCALL); boot a kernel of the distribution")
    return sorted(packages), faults
