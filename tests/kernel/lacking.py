# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine lacks for the tests that touch a kernel."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

# Commands that the tests of a directory call, with their packages; bpftool for a border relay that is brought up.
ALWAYS = {"ip": "iproute2", "nsenter": "util-linux", "setpriv": "util-linux", "sysctl": "procps", "unshare": "util-linux"}
RELAY = {"bpftool": "bpftool", "tc": "iproute2"}
NEEDED = {
    "bpf": {**RELAY, "clang": "clang", "llvm-strip": "llvm"},
    "dhcpv6": {"kea-dhcp6": "kea-dhcp6-server", "dnsmasq": "dnsmasq-base", "dhclient": "isc-dhcp-client"},
    "exports": {"kea-dhcp6": "kea-dhcp6-server", "dnsmasq": "dnsmasq-base", "dhclient": "isc-dhcp-client", "bird": "bird2", "vtysh": "frr"},
    "line": {"kea-dhcp6": "kea-dhcp6-server", "dnsmasq": "dnsmasq-base", "dhclient": "isc-dhcp-client", "dhcpcd": "dhcpcd-base", "radvd": "radvd",
             "/lib/systemd/systemd-networkd": "systemd", "/usr/bin/python3": "python3"},
    "modules": {**RELAY, "nft": "nftables", "conntrack": "conntrack", "ping": "iputils-ping"},
    "monitoring": {**RELAY, "nft": "nftables", "conntrack": "conntrack", "ping": "iputils-ping", "prometheus": "prometheus", "promtool": "prometheus"},
    "napt": {"nft": "nftables", "conntrack": "conntrack", "ethtool": "ethtool"},
    "playbooks": {},
    "provider": {"openssl": "openssl", "/usr/bin/python3": "python3"},
    "routers": {"nft": "nftables"},
    "softwire": {**RELAY, "nft": "nftables", "conntrack": "conntrack", "ping": "iputils-ping", "systemd-analyze": "systemd"},
    "translator": {**RELAY, "nft": "nftables", "conntrack": "conntrack", "ethtool": "ethtool"},
}


def refusal(*command):
    """What a command says of its failure, empty when it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"it exits with {done.returncode}").splitlines()[-1] if done.returncode else ""


@functools.lru_cache(maxsize=None)
def lack(directory):
    """Why the tests of a directory cannot run on this machine; empty when they can."""
    if os.geteuid():
        return "needs root, for network namespaces: sudo make kernel"
    packages = {package for command, package in {**ALWAYS, **NEEDED[directory]}.items() if not shutil.which(command)}
    if packages:
        return f"needs the packages {' '.join(sorted(packages))}"
    refused = refusal("unshare", "--net", "--mount", "true")
    if refused:
        return f"needs network namespaces, which this machine refuses: {refused}"
    if "nft" in NEEDED[directory]:
        refused = refusal("unshare", "--net", "nft", "add table ip x; add chain ip x y { type nat hook postrouting priority 100; }")
        if refused:
            return f"needs a kernel with nftables: {refused}"
    if "bpftool" in NEEDED[directory]:
        refused = refusal("unshare", "--mount", "mount", "-t", "bpf", "bpf", "/sys/fs/bpf") or refusal("bpftool", "prog", "list")
        if refused:
            return f"needs a kernel with BPF: {refused}"
    return ""
