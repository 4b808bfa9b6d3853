# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one may ask the calculator, and what the filters answer to the same."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.softwire.map.plugins.filter import ce, ces, dhcpv6_options, from_dhcpv6_options, isp_domain, owner, plan_domain, port_ranges

VECTORS = json.loads((Path(__file__).parents[1] / "unit" / "vectors" / "ce.json").read_text())
REQUIREMENTS = {"ipv4_pools": ["192.0.2.0/26", "198.51.100.0/24"], "ipv6_prefix": "2001:db8::/32", "subscribers": "5000", "ports_per_subscriber": "300",
                "psid_offset": "4", "end_user_prefix_length": "60", "transport": "map-e", "interface_id": "draft03",
                "br_address": ["2001:db9::1", "2001:db9::2"], "fmr": True}
PLAN = ["plan", "--ipv4-pools", "192.0.2.0/26", "198.51.100.0/24", "--ipv6-prefix", "2001:db8::/32", "--subscribers", "5000",
        "--ports-per-subscriber", "300", "--psid-offset", "4", "--end-user-prefix-length", "60", "--transport", "map-e",
        "--interface-id", "draft03", "--br-address", "2001:db9::1", "2001:db9::2", "--fmr"]


def asked(home):
    """[(name, arguments of softwire-map, the values it has to print as JSON, one for each line)]; writes the domains to files in home."""
    found = [("plan", PLAN, [plan_domain.plan_domain(REQUIREMENTS)])]
    for vector in VECTORS:
        domain = {"transport": "map-e", "br_address": "2a00::1", "interface_id": vector["interface_id"], "rules": [vector["rule"]]}
        file = home / f"{vector['name']}.json"
        file.write_text(json.dumps(domain))
        found += [(f"{name} {vector['name']}", arguments, answers) for name, arguments, answers in _of(domain, str(file), vector["end_user_prefix"])]
    for name, prefix in (("v6 Plus", "240b:10:2a40:9600::/64"), ("biglobe", "2404:7a82:0:3400::/64"), ("ocn", "2400:4050:1234:5600::/56")):
        domain = isp_domain.isp_domain(name, prefix)
        edge = ce.ce(domain, prefix)
        pair = f"{edge['ipv4_address']}:{edge['port_ranges'][1][0]}"
        found += [
            (f"isp {name}", ["isp", name, prefix], [domain]),
            (f"ce of isp {name}", ["ce", "--isp", name, prefix], [edge]),
            (f"ces of isp {name}", ["ces", "--isp", name, edge["end_user_prefix"]], ces.ces(domain, [edge["end_user_prefix"]])),
            (f"owner of isp {name}", ["owner", "--isp", name, pair], [owner.owner(domain, pair)]),
        ]
    return found


def _of(domain, file, prefix):
    edge = ce.ce(domain, prefix)
    address = edge["ipv4_address"]
    pairs = [f"{address}:{port}" for port in (*edge["port_ranges"][0], *edge["port_ranges"][-1], 0, 65535)] + ["203.0.113.1:80"]
    psid = ["ports", str(edge["psid"] or 0), str(edge["psid_length"]), "--psid-offset", str(edge["psid_offset"])]
    yield "ce", ["ce", "-d", file, prefix], [edge]
    yield "ces", ["ces", "-d", file, edge["end_user_prefix"]], ces.ces(domain, [edge["end_user_prefix"]])
    yield "owner", ["owner", "-d", file, *pairs], owner.owner(domain, pairs)
    yield "ports", psid, [port_ranges.port_ranges(edge["psid"] or 0, edge["psid_length"], edge["psid_offset"])]
    if domain["interface_id"] == "rfc7597":
        (option,) = dhcpv6_options.dhcpv6_options(domain)
        decoded = from_dhcpv6_options.from_dhcpv6_options(option["option"])
        yield "options", ["options", "-d", file], [option]
        yield "decode", ["decode", option["option"]], [decoded]
        yield "decode --code", ["decode", "--code", str(option["code"]), *(option["data"][at:at + 2] for at in range(0, len(option["data"]), 2))], [decoded]
        yield "ce --option", ["ce", "--option", option["option"], prefix], [edge]
