# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the roles as people set them: the tutorial's network, and other kinds of customer edges."""

from __future__ import annotations

import copy
import functools
import json
import shlex
from pathlib import Path

import yaml

from ansible_collections.softwire.map.plugins.module_utils.routers import deployment

ROLES = Path(__file__).resolve().parents[2] / "roles"
# The runner, as it lies in each generation.
PROGRAMS = tuple(f"softwire/{path.name}" for path in sorted((ROLES.parent / "plugins" / "module_utils" / "softwire").glob("*.py")))

TUTORIAL = {
    "transport": "map-t",
    "dmr": "64:ff9b::/96",
    "rules": [{"ipv6_prefix": "2001:db8:ce::/51", "ipv4_prefix": "192.0.2.0/24", "ea_length": 13, "psid_offset": 0}],
}


def rule_domain(interface_id="rfc7597", **rule):
    return {"transport": "map-t", "interface_id": interface_id, "dmr": "2001:db8:ffff::/64",
            "rules": [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", **rule}]}


def defaults(role):
    """The defaults of a role without their prefix, and without those that are templates."""
    values = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    return {name[len(role) + 1:]: value for name, value in values.items() if "{{" not in str(value)}


def ce(**changes):
    """The variables of the tutorial's first customer edge, with changes."""
    variables = {
        **defaults("map_ce"),
        "domain": TUTORIAL,
        "end_user_prefix": "2001:db8:ce:11a::/64",
        "wan_interface": "isp",
        "wan_gateway": "2001:db8:6::1",
        "lan_interfaces": ["lan"],
        "lan_addresses": ["192.168.0.1/24", "2001:db8:ce:11a::1/64"],
    }
    return copy.deepcopy({**variables, **changes})


def br(**changes):
    """The variables of the tutorial's border relay, with changes."""
    variables = {**defaults("map_br"), "domains": [TUTORIAL], "ipv4_interface": "inet", "ipv6_interface": "isp"}
    return copy.deepcopy({**variables, **changes})


CE_CASES = {
    "tutorial_11a": {},
    "tutorial_11b": {"end_user_prefix": "2001:db8:ce:11b::/64", "lan_addresses": ["192.168.0.1/24", "2001:db8:ce:11b::1/64"]},
    "tutorial_774": {"end_user_prefix": "2001:db8:ce:774::/64", "lan_addresses": ["192.168.0.1/24", "2001:db8:ce:774::1/64"]},
    "no_gateway": {"wan_gateway": ""},
    "link_local_gateway": {"wan_gateway": "fe80::9"},
    "mtu_1492": {"wan_mtu": 1492},
    "offset_6_with_forwards": {
        "domain": rule_domain(ea_length=16), "end_user_prefix": "2001:db8:12:3400::/56",
        "lan_addresses": ["192.168.0.1/24", "2001:db8:12:3400::1/64"],
        "port_forwards": [
            {"port": 1232, "to_address": "192.168.0.10", "to_port": 80, "protocol": "tcp", "comment": "it's the web"},
            {"port": 2257, "to_address": "192.168.0.11"},
        ],
        "reserved_ports": [64723],
    },
    "full_address": {
        "domain": rule_domain(ea_length=8), "end_user_prefix": "2001:db8:12::/48", "lan_addresses": ["192.168.0.1/24"],
    },
    "ipv4_prefix": {
        "domain": rule_domain(ea_length=4), "end_user_prefix": "2001:db8:10::/44", "lan_addresses": ["192.168.0.1/24"],
    },
    "draft03": {
        "domain": rule_domain("draft03", ea_length=16), "end_user_prefix": "2001:db8:12:3400::/56",
        "lan_addresses": ["192.168.0.1/24"],
    },
    "draft03_ipv4_prefix": {
        "domain": rule_domain("draft03", ea_length=4), "end_user_prefix": "2001:db8:10::/44", "lan_addresses": ["192.168.0.1/24"],
    },
    "explicit_psid": {
        "domain": rule_domain(ipv6_prefix="2001:db8:12:3400::/56", ipv4_prefix="192.0.2.18/32", ea_length=0, psid_length=8, psid=52),
        "end_user_prefix": "2001:db8:12:3400::/56", "lan_addresses": ["192.168.0.1/24"],
    },
    "two_lans": {
        "lan_interfaces": ["lan", "guest"],
        "lan_addresses": ["192.168.0.1/24", {"address": "10.1.0.1/16", "interface": "guest"},
                          {"address": "2001:db8:ce:11a::1/64", "interface": "guest"}],
    },
    "with_fmr": {"domain": {**TUTORIAL, "rules": [{**TUTORIAL["rules"][0], "fmr": True}]}},
}
LAYOUTS = {"napt_namespace": "napt", "translator_namespace": ""}


def mape(end_user_prefix, interface_id="rfc7597", br_address="2001:db8:ffff::1", rule=None, **changes):
    """The variables of a MAP-E customer edge; rule: what its rule has besides the prefixes."""
    prefixes = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24"}
    domain = {"transport": "map-e", "interface_id": interface_id, "br_address": br_address, "rules": [{**prefixes, **rule}]}
    return {"domain": domain, "end_user_prefix": end_user_prefix, "lan_addresses": ["192.168.0.1/24"], **changes}


MAPE_CASES = {
    "shared": mape("2001:db8:12:3400::/56", rule={"ea_length": 16}, lan_addresses=["192.168.0.1/24", "2001:db8:12:3400::1/64"]),
    "forwards": mape(
        "2001:db8:12:3400::/56", rule={"ea_length": 16}, reserved_ports=[64723],
        port_forwards=[{"port": 1232, "to_address": "192.168.0.10", "to_port": 80, "protocol": "tcp"}]),
    # As OCN has it: the identifiers of the draft, but 63 ranges and the first 1024 ports left out.
    "draft03": mape("2001:db8:12:3400::/56", "draft03", rule={"ipv6_prefix": "2001:db8::/42", "ea_length": 14, "psid_offset": 6}),
    "no_gateway": mape("2001:db8:12:3400::/56", "draft03", rule={"ea_length": 16}, wan_gateway="", wan_mtu=1492),
    "full_address": mape("2001:db8:12::/48", rule={"ea_length": 8}),
    "ipv4_prefix": mape("2001:db8:10::/44", rule={"ea_length": 4}),
    "two_brs": mape("2001:db8:12:3400::/56", br_address=["2001:db8:ffff::1", "2001:db8:ffff::2"], rule={"ea_length": 16, "fmr": True}),
    "two_lans": mape(
        "2001:db8:12:3400::/56", rule={"ea_length": 16}, lan_interfaces=["lan", "guest"],
        lan_addresses=["192.168.0.1/24", {"address": "10.1.0.1/16", "interface": "guest"},
                       {"address": "2001:db8:12:3400::1/64", "interface": "guest"}]),
}
MAPE_LAYOUTS = {"napt_namespace": "napt", "main": ""}
BR_CASES = {
    "tutorial": {},
    "one_interface": {"ipv4_interface": "isp"},
    "two_domains": {
        "domains": [TUTORIAL, {
            "transport": "map-t", "interface_id": "draft03", "dmr": "64:ff9b::/96",
            "rules": [{"ipv6_prefix": "2001:db8:4000::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16},
                      {"ipv6_prefix": "2001:db8:5000::/40", "ipv4_prefix": "203.0.113.0/24", "ea_length": 4}],
        }],
    },
    "jool_mapt": {"translator": "jool_mapt"},
    "treated": {"mss": 1300, "icmp_source": "198.51.100.66"},
    "explicit_psids": {
        "domains": [{"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
            {"ipv6_prefix": "2001:db8:1::/56", "ipv4_prefix": "192.0.2.1/32", "ea_length": 0, "psid_length": 8, "psid": 1},
            {"ipv6_prefix": "2001:db8:2::/56", "ipv4_prefix": "192.0.2.1/32", "ea_length": 0, "psid_length": 8, "psid": 2}]}],
    },
}


MAPE_BR_CASES = {
    "tunnel": {"domains": [mape("", rule={"ea_length": 16})["domain"]]},
    "treated": {"domains": [mape("", rule={"ea_length": 16})["domain"]], "mss": "off", "dscp": 46, "icmp_source": "198.51.100.66"},
}


def ce_alternatives(variables, warn=None):
    """The generations of a customer edge in order of preference, [(carrier, files)]; variables: without their prefix."""
    return deployment.read({"customer_edge": variables}, warn).alternatives


def br_alternatives(variables, warn=None):
    """The same of a border relay."""
    return deployment.read({"border_relay": variables}, warn).alternatives


@functools.lru_cache(maxsize=None)
def _made(device, changes):
    if device == "ce":
        return dict(ce_alternatives(ce(**json.loads(changes))))
    return dict(br_alternatives(br(**json.loads(changes))))


def ce_generations(**changes):
    """{softwire: files} of a customer edge; made once, so not to be changed."""
    return _made("ce", json.dumps(changes))


def br_generations(**changes):
    """{translator: files} of a border relay; made once, so not to be changed."""
    return _made("br", json.dumps(changes))


def ip_lines(files, path):
    """The lines of an "ip" file as the runner reads them."""
    split = (shlex.split(line, comments=True) for line in files[path].splitlines())
    return [line for line in split if line]


def after(line, word):
    return line[line.index(word) + 1] if word in line else None
