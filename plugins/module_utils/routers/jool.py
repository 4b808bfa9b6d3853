# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jool's atomic configuration (``jool_siit file handle``, ``jool_mapt file handle``) as plain dicts."""

from __future__ import annotations

from typing import Any

# jool_mapt loses a datagram whose IPv4 fragments all fit lowest-ipv6-mtu while the whole does not, so it is as low as may be: Jool's default.
MAPT_IPV6_MTU = 1280  # bytes


def siit(instance: str, dmr: str, ipv6_mtu: int, eamt: list[tuple[str, str]], icmp_source: str | None = None) -> dict[str, Any]:
    """A stateless translator with an explicit address mapping table (RFC 7757).

    eamt: a list of (IPv4 prefix, IPv6 prefix). icmp_source: of errors from routers without an IPv4 address (RFC 6791).
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
            **error_source(icmp_source),
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


def mapt_br(instance: str, dmr: str, rules: list[dict[str, Any]], icmp_source: str | None = None) -> dict[str, Any]:
    """A MAP-T border relay of Jool 4.2 with its forwarding mapping rule table; icmp_source: as of siit()."""
    return {
        "instance": instance,
        "framework": "netfilter",
        "global": {"pool6": dmr, "lowest-ipv6-mtu": MAPT_IPV6_MTU, "map-t-type": "BR", **error_source(icmp_source)},
        "fmrt": [rule(entry) for entry in rules],
    }


def error_source(address: str | None) -> dict[str, str]:
    """Jool's pool of RFC 6791, of one address; without one it takes an address of the router's own."""
    return {"rfc6791v4-prefix": f"{address}/32"} if address else {}


def rule(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "ipv6 prefix": entry["ipv6_prefix"],
        "ipv4 prefix": entry["ipv4_prefix"],
        "ea-bits length": entry["ea_length"],
        "a": entry["psid_offset"],
    }
