# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains and what the arithmetic says about their CEs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain
from kernel import INTERNAL

DMR = "64:ff9b::/96"


def rule(ipv6_prefix, ipv4_prefix, ea_length, psid_offset, explicit=None):
    """A rule of a checked domain; explicit: (PSID length, PSID)."""
    implied = max(0, ea_length + int(ipv4_prefix.split("/")[1]) - 32)
    psid_length, psid = explicit or (implied, None)
    return {
        "ipv6_prefix": ipv6_prefix,
        "ipv4_prefix": ipv4_prefix,
        "ea_length": ea_length,
        "psid_offset": psid_offset,
        "psid_length": psid_length,
        "psid": psid,
        "fmr": False,
    }


def domain(*rules, interface_id="rfc7597", dmr=DMR):
    return {"transport": "map-t", "interface_id": interface_id, "br_address": None, "dmr": dmr, "rules": list(rules)}


def tunnel_domain(*rules, interface_id="rfc7597", br=("2001:db8:ffff::1",)):
    return {"transport": "map-e", "interface_id": interface_id, "br_address": list(br), "dmr": None, "rules": list(rules)}


def ce_of(fields, ea_bits=0, index=0):
    """The `ce` dict of the CE with these EA bits in a rule."""
    chosen = fields["rules"][index]
    network = IPv6Network(chosen["ipv6_prefix"])
    length = network.prefixlen + chosen["ea_length"]
    prefix = IPv6Address(int(network.network_address) | ea_bits << (128 - length))
    return Domain(fields).ce(f"{prefix}/{length}")


def internal(ipv4):
    """The internal address of an IPv4 address."""
    return str(IPv6Address(int(IPv6Network(INTERNAL).network_address) | int(IPv4Address(ipv4))))


# The domain of the Jool tutorial: a = 0, 11b -> 192.0.2.8 with PSID 27 of 5 bits, ports 55296 to 57343.
TUTORIAL = domain(rule("2001:db8:ce::/51", "192.0.2.0/24", 13, 0))
CE = "2001:db8:ce:11b:0:c000:208:1b"
CE_PORT = 55296
NEIGHBOUR = "2001:db8:ce:11a:0:c000:208:1a"  # PSID 26 of the same address
NEIGHBOUR_PORT = 26 << 11
OTHER = "2001:db8:ce:774:0:c000:23b:14"  # 192.0.2.59, PSID 20
INTERNAL_CE = internal("192.0.2.8")
SERVER = "64:ff9b::cb00:7101"  # 203.0.113.1
# The same with excluded ports: RFC 7597 appendix A, 192.0.2.18 with PSID 0x34 of 8 bits, a = 6.
EXAMPLE = domain(rule("2001:db8::/40", "192.0.2.0/24", 16, 6))
EXAMPLE_CE = "2001:db8:12:3400:0:c000:212:34"
# The same two with a tunnel.
BR = "2001:db8:ffff::1"
TUNNEL = tunnel_domain(*TUTORIAL["rules"])
TUNNEL_EXAMPLE = tunnel_domain(*EXAMPLE["rules"])
SHARED = "192.0.2.8"
FAR = "203.0.113.1"
