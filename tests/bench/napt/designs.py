"""The designs side by side: this collection's, the two yardsticks, and four that others have shipped.

Each is the rules one would write by hand for it, kept to what the NAPT needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from ansible_collections.softwire.map.plugins.module_utils.mapping.calculator import ce as ce_of
from ansible_collections.softwire.map.plugins.module_utils.routers import customer_edge, deployment

ROLE = Path(__file__).resolve().parents[3] / "roles" / "map_ce"
LAN = "192.168.0.0/24"
DEVICE = "ce-main"
NFT = ("nft", "-f")
IPTABLES = ("iptables-nft-restore",)
THIS, MASQUERADE, PLAIN = "softwire.map", "masquerade", "plain forwarding"

# Port count: EA bits, PSID offset, an end-user prefix of the rule below
SETS = {
    240: {"ea_length": 16, "psid_offset": 4, "end_user_prefix": "2001:db8:12:3400::/56"},
    1008: {"ea_length": 14, "psid_offset": 6, "end_user_prefix": "2001:db8:12:3400::/54"},
    2048: {"ea_length": 13, "psid_offset": 0, "end_user_prefix": "2001:db8:12:3000::/53"},
}


@dataclass(frozen=True)
class Design:
    """command: what loads the rules; address, ports: where the flows it serves may come from; programs: of an instance, beside the rules."""

    name: str
    command: tuple
    rules: str
    address: str | None
    ports: frozenset
    programs: Callable | None = None


def this_design(count):
    """What the role renders for a port set, and the CE it is for."""
    variables = {
        name.removeprefix("map_ce_"): value
        for name, value in yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()).items()
    }
    chosen = dict(SETS[count])
    prefix = chosen.pop("end_user_prefix")
    domain = {
        "transport": "map-e",
        "br_address": "2001:db8:ffff::1",
        "rules": [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", **chosen}],
    }
    variables.update(domain=domain, end_user_prefix=prefix, wan_interface="wan0", lan_interfaces=["lan0"],
                     lan_addresses=["192.168.0.1/24"])
    ce = ce_of(domain, prefix)
    assert ce["port_count"] == count
    [(_, files)] = deployment.read({"customer_edge": variables}).alternatives
    parameters = json.loads(files["parameters.json"])
    end = {**parameters, "tunnel": None, "layout": {"namespaces": {"napt": "napt"}}}
    return files["napt/napt.nft"], ce, lambda instance: customer_edge.programs_of({**end, "instance": instance}, 1500)


def nft_table(*rules):
    lines = [f'oifname "{DEVICE}" meta l4proto {{ tcp, udp }} {rule}' for rule in rules]
    return "table ip bench\nflush table ip bench\ntable ip bench {\n" \
        "  chain source_nat {\n    type nat hook postrouting priority srcnat; policy accept;\n    " \
        + "\n    ".join(lines) + "\n  }\n}\n"


def iptables_table(rules):
    lines = [f"-A POSTROUTING -o {DEVICE} -p {protocol} {rule}" for rule in rules for protocol in ("tcp", "udp")]
    return "*nat\n:POSTROUTING ACCEPT [0:0]\n" + "\n".join(lines) + "\nCOMMIT\n"


def designs(count):
    """All designs for a port set of this many ports, this collection's first."""
    rendered, ce, programs = this_design(count)
    address, ranges = ce["ipv4_address"], ce["port_ranges"]
    ports = frozenset(port for low, high in ranges for port in range(low, high + 1))
    spans = [f"{low}-{high}" for low, high in ranges]
    last = len(spans)
    spread = ", ".join(f"{i} : {address} . {span}" for i, span in enumerate(spans))
    nth = [f"-m statistic --mode nth --every {last - i} --packet 0 -j SNAT --to-source {address}:{span}"
           for i, span in enumerate(spans)]
    full = [f"-m connlimit --connlimit-daddr --connlimit-upto {high - low + 1} -j SNAT --to-source {address}:{low}-{high}"
            for low, high in ranges]
    return [
        Design(THIS, NFT, rendered, address, ports, programs),
        Design("first range only", NFT, nft_table(*(f"snat to {address}:{span}" for span in spans)), address, ports),
        Design("statistic nth", IPTABLES, iptables_table(nth), address, ports),
        Design("connlimit roll-over", IPTABLES, iptables_table(full), address, ports),
        Design("numgen", NFT, nft_table(f"snat ip to numgen inc mod {last} map {{ {spread} }}"), address, ports),
        Design(MASQUERADE, NFT, nft_table("masquerade"), "192.0.0.2", frozenset(range(1, 65536))),
        Design(PLAIN, NFT, "table ip bench\n", None, frozenset()),
    ]
