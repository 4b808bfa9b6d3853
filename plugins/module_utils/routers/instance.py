# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine must have for a generation: the schema of instance.json, and what can carry a softwire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..mapping.errors import MapError

BPF = "bpf"  # the collection's own translator
JOOL = ("jool_mapt", "jool_siit")
TRANSLATORS = (BPF, *JOOL)
TUNNEL = "ip6_tunnel"
MESH = "ip6_tunnel_mesh"  # the same module, and the collection's own programs
MODULES = {BPF: [], MESH: [TUNNEL]}  # of a carrier that is no kernel module itself
IPV6_HEADER, IPV6_FRAGMENT_HEADER, IPV4_HEADER, TCP_HEADER = 40, 8, 20, 20  # bytes


def carriers(role: str, transport: str, wanted: str, explicit_psid: bool) -> tuple[str, ...]:
    """What can carry a softwire, in the order in which to try it: kernel modules, or the collection's own programs.

    role: ce or br. wanted: auto or one of TRANSLATORS. explicit_psid: whether a rule has one. Raises MapError.
    """
    if transport == "map-e":
        return (TUNNEL,)
    if explicit_psid and wanted == "jool_mapt":
        raise MapError(f"map_{role}_translator", wanted, "jool_mapt has no explicit PSID (a rule with psid); use bpf or jool_siit")
    if wanted != "auto":
        return (wanted,)
    # Between two CEs a border relay of jool_mapt loses what is in fragments.
    return tuple(carrier for carrier in TRANSLATORS if carrier != "jool_mapt" or role == "ce" and not explicit_psid)


def settings(
    role: str,
    instance: str,
    carrier: str,
    interfaces: Mapping[str, Mapping[str, Any]],
    commands: list[str],
    minimum_kernel: str,
    namespaces: Mapping[str, str] | None = None,
    bpf: bool = False,
    border_relay: str | None = None,
    networkd: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of instance.json, which the preflight and the runner read.

    role: ce or br
    carrier: what carries the softwire: a kernel module, of Jool the name of its tool as well; "bpf", or "ip6_tunnel_mesh"
    interfaces: {name: {variable, and where it applies mtu, mtu_variable, move, addresses}}
    commands: what the generation needs beside the carrier's tool
    minimum_kernel: such as "5.10"
    namespaces: {network namespace of our own: the variable that names it}
    bpf: whether the kernel needs BPF
    border_relay: an IPv6 address that has to answer after a change as before
    networkd: {wan, address, device} where systemd-networkd makes the tunnel
    """
    tool = carrier if carrier in JOOL else None
    return {
        "role": role,
        "instance": instance,
        "namespaces": sorted(namespaces or {}),
        "namespace_variables": dict(namespaces or {}),
        "interfaces": {name: dict(wanted) for name, wanted in interfaces.items()},
        "kernel_modules": MODULES.get(carrier, [carrier]),
        "commands": commands + ["modprobe"] + ([tool] if tool else []),
        "minimum_kernel": minimum_kernel,
        "bpf": bpf,
        "jool": tool,
        "border_relay": border_relay,
        "networkd": dict(networkd) if networkd else None,
    }
