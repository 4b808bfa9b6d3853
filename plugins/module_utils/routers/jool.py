# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jool's atomic configuration (``jool_siit file handle``, ``jool_mapt file handle``) as plain dicts."""

from __future__ import annotations

from typing import Any

# jool_mapt loses a datagram whose IPv4 fragments all fit lowest-ipv6-mtu while the whole does not, so it is as low as may be: Jool's default.
MAPT_IPV6_MTU = 1280  # bytes


def siit(instance: str, dmr: str, ipv6_mtu: int, eamt: list[tuple[str, str]]) -> dict[str, Any]:
    """A stateless translator with an explicit address mapping table (RFC 7757).

    eamt: a list of (IPv4 prefix, IPv6 prefix).
    """
    return {
        "instance": instance,
        "framework": "netfilter",
        "global": {
            "pool6": dmr,
            # Jool's own default, 1280, fragments every full-sized packet on a 1500 network.
            "lowest-ipv6-mtu": ipv6_mtu,
            # IPv4 allows UDP without a checksum, IPv6 does not; Jool's default drops it.
            "amend-udp-checksum-zero": True,
        },
        "eamt": [{"ipv4 prefix": ipv4, "ipv6 prefix": ipv6} for ipv4, ipv6 in eamt],
    }


def mapt_ce(instance: str, ce: dict[str, Any]) -> dict[str, Any]:
    """A MAP-T customer edge of Jool 4.2; ce: the dict of the filter softwire.map.ce."""
    return {
        "instance": instance,
        "framework": "netfilter",
        "global": {
            "pool6": ce["dmr"],
            "lowest-ipv6-mtu": MAPT_IPV6_MTU,
            "map-t-type": "CE",
            "end-user-ipv6-prefix": ce["end_user_prefix"],
            "bmr": rule(ce["rule"]),
        },
        "fmrt": [rule(fmr) for fmr in ce["fmrs"]],
    }


def mapt_br(instance: str, dmr: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """A MAP-T border relay of Jool 4.2 with its forwarding mapping rule table."""
    return {
        "instance": instance,
        "framework": "netfilter",
        "global": {"pool6": dmr, "lowest-ipv6-mtu": MAPT_IPV6_MTU, "map-t-type": "BR"},
        "fmrt": [rule(entry) for entry in rules],
    }


def rule(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "ipv6 prefix": entry["ipv6_prefix"],
        "ipv4 prefix": entry["ipv4_prefix"],
        "ea-bits length": entry["ea_length"],
        "a": entry["psid_offset"],
    }
