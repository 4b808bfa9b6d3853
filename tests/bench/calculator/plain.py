# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters ces and owner as one writes them with netaddr, without a thought for speed: what the benchmark compares with."""

from __future__ import annotations

import netaddr


def port_ranges(psid, k, a):
    if k == 0:
        return [[0, 65535]]
    m = 16 - a - k
    blocks = range(1, 2**a) if a else [0]
    return [[(block << (16 - a)) + (psid << m), (block << (16 - a)) + (psid << m) + 2**m - 1] for block in blocks]


def networks(domain):
    """[(IPv6 network, IPv4 network, rule)]"""
    return [(netaddr.IPNetwork(rule["ipv6_prefix"]), netaddr.IPNetwork(rule["ipv4_prefix"]), rule) for rule in domain["rules"]]


def ce(domain, rules, delegated):
    prefix = netaddr.IPNetwork(delegated)
    ipv6, ipv4, rule = max((found for found in rules if prefix in found[0]), key=lambda found: found[0].prefixlen)
    length = ipv6.prefixlen + rule["ea_length"]
    end_user = netaddr.IPNetwork(f"{prefix.network}/{length}").cidr
    ea = end_user.first >> (128 - length) & (2 ** rule["ea_length"] - 1)
    suffix_length = min(rule["ea_length"], 32 - ipv4.prefixlen)
    psid_bits = rule["ea_length"] - suffix_length
    address = netaddr.IPAddress(ipv4.first | ea >> psid_bits << (32 - ipv4.prefixlen - suffix_length), 4)
    psid = ea & (2**psid_bits - 1) if rule["psid"] is None else rule["psid"]
    identifier = int(address) << 16 | psid if domain["interface_id"] == "rfc7597" else int(address) << 24 | psid << 8
    whole = ipv4.prefixlen + suffix_length == 32
    ranges = port_ranges(psid, rule["psid_length"], rule["psid_offset"])
    return {
        "delegated_prefix": delegated,
        "end_user_prefix": str(end_user),
        "rule": dict(rule),
        "fmrs": [dict(other) for other in domain["rules"] if other["fmr"]],
        "transport": domain["transport"],
        "interface_id": domain["interface_id"],
        "ipv4_address": str(address) if whole else None,
        "ipv4_prefix": None if whole else f"{address}/{ipv4.prefixlen + suffix_length}",
        "psid": psid if rule["psid_length"] else None,
        "psid_length": rule["psid_length"],
        "psid_offset": rule["psid_offset"],
        "port_ranges": ranges,
        "port_count": sum(high - low + 1 for low, high in ranges),
        "sharing_ratio": 2 ** rule["psid_length"],
        "map_address": str(netaddr.IPAddress(end_user.first | identifier & (2 ** (128 - length) - 1), 6)),
        "br_address": domain["br_address"][0] if domain["br_address"] else None,
        "dmr": domain["dmr"],
    }


def ces(domain, prefixes):
    rules = networks(domain)
    results = [ce(domain, rules, prefix) for prefix in prefixes]
    assert len({result["end_user_prefix"] for result in results}) == len(results)
    return results


def owner(domain, pairs):
    rules = networks(domain)
    return [owner_of(domain, rules, netaddr.IPAddress(address), port) for address, port in pairs]


def owner_of(domain, rules, address, port):
    for ipv6, ipv4, rule in rules:
        a, k = rule["psid_offset"], rule["psid_length"]
        psid = port >> (16 - a - k) & (2**k - 1)
        if address not in ipv4 or k and a and not port >> (16 - a) or rule["psid"] not in (None, psid):
            continue
        suffix_length = min(rule["ea_length"], 32 - ipv4.prefixlen)
        psid_bits = rule["ea_length"] - suffix_length
        suffix = (int(address) - ipv4.first) >> (32 - ipv4.prefixlen - suffix_length)
        length = ipv6.prefixlen + rule["ea_length"]
        ea = suffix << psid_bits | psid & (2**psid_bits - 1)
        result = ce(domain, rules, f"{netaddr.IPAddress(ipv6.first | ea << (128 - length), 6)}/{length}")
        return result if result["rule"] == rule else None
    return None
