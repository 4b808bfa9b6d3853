# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the checked variables of a border relay to its parameters and the files of its generations: it knows rules, never customer edges."""

from __future__ import annotations

import ipaddress
from typing import Any

from ..mapping.errors import MapError
from . import bpf_object, bpf_rule, jool, render
from .br_variables import BorderRelay
from .instance import BPF, IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, JOOL, TUNNEL, settings

TEMPLATES = str(render.TEMPLATES / "map_br")
# The folder of the templates, and the programs, by what carries the softwire.
FOLDERS = {BPF: "bpf", TUNNEL: "mape", **dict.fromkeys(JOOL, "mapt")}
PROGRAMS = {BPF: "translate", TUNNEL: "mape", **dict.fromkeys(JOOL, "mapt")}
LATE = (BPF, TUNNEL)  # have routes that wait for the programs
TC_PREFERENCE = 7599


def generations(relay: BorderRelay) -> list[tuple[str, dict[str, Any]]]:
    """The generation of each way to run this border relay, the preferred one first: (carrier, {path: text or bytes}) each. Raises MapError."""
    return [
        (carrier, generation(parameters(relay, carrier), bpf_object.read(f"{PROGRAMS[carrier]}.bpf.o", relay.bpf_object, "map_br_bpf_object")))
        for carrier in relay.carriers]


def parameters(relay: BorderRelay, carrier: str) -> dict[str, Any]:
    """What the templates see; carrier: what carries the softwires."""
    ipv4_prefixes = sorted({rule["ipv4_prefix"] for domain in relay.domains for rule in domain["rules"]}, key=ipaddress.ip_network)
    common = {
        "role": "br",
        "instance": relay.instance,
        "softwire": carrier,
        "domains": relay.domains,
        "interfaces": {"ipv4": relay.ipv4_interface, "ipv6": relay.ipv6_interface},
        "ipv6_mtu": relay.ipv6_mtu,
        "bpf": bpf_parameters(relay, carrier),
        "tc_preference": TC_PREFERENCE,
    }
    if carrier == BPF:
        return dict(
            common,
            tunnel=None,
            device=common["bpf"]["device"],
            dmr=relay.domains[0]["dmr"],
            # The IPv4 stack cuts packets to fit before it is known which become fragments of IPv6.
            ipv4_mtu=relay.ipv6_mtu - (IPV6_HEADER - IPV4_HEADER) - IPV6_FRAGMENT_HEADER,
            ipv4_prefixes=[{"ipv4": text} for text in ipv4_prefixes],
        )
    if carrier == TUNNEL:
        return dict(
            common,
            tunnel=f"{relay.instance}-tun",
            device=f"{relay.instance}-tun",
            ipv4_mtu=relay.ipv6_mtu - IPV6_HEADER,
            ipv4_prefixes=[{"ipv4": text} for text in ipv4_prefixes],
            br_addresses=sorted({address for domain in relay.domains for address in domain["br_address"]}, key=ipaddress.ip_address),
            fast_path=relay.fast_path,
        )
    return dict(
        common,
        tunnel=None,
        device=None,
        dmr=relay.domains[0]["dmr"],
        internal_prefix=str(relay.internal_prefix),
        ipv4_prefixes=[{"ipv4": text, "internal": inside(relay.internal_prefix, text)} for text in ipv4_prefixes],
        # A veth pair: what the translator sends into its first end, the programs take from the second.
        detour={
            "enter": f"{relay.instance}-out", "enter_mac": "02:00:5e:75:97:01",
            "leave": f"{relay.instance}-in", "leave_mac": "02:00:5e:75:97:02",
            "enter_gateway": "fe80::99", "leave_gateway": "fe80::98",
        },
    )


def inside(internal: ipaddress.IPv6Network, ipv4_prefix: str) -> str:
    """The prefix that stands for an IPv4 prefix inside the internal /96."""
    prefix = ipaddress.ip_network(ipv4_prefix)
    address = ipaddress.ip_address(int(internal.network_address) | int(prefix.network_address))
    return f"{address}/{96 + prefix.prefixlen}"


def bpf_parameters(relay: BorderRelay, carrier: str) -> dict[str, Any]:
    """What the programs' maps hold. Raises MapError for a rule that the programs cannot serve."""
    internal = str(relay.internal_prefix) if carrier in JOOL else None
    entries = []
    for number, domain in enumerate(relay.domains):
        for index, rule in enumerate(domain["rules"]):
            try:
                entries.append(bpf_rule.rule_entry(rule, domain, internal))
            except ValueError as exc:
                raise MapError(f"map_br_domains[{number}].rules[{index}]", rule["ipv6_prefix"], str(exc)) from exc
    maps = {"pins": f"/run/softwire/{relay.instance}/bpf", "rules": entries, "counters": list(bpf_rule.COUNTERS.values())}
    if carrier == TUNNEL:
        return dict(maps, aliases=[alias for domain in relay.domains for alias in bpf_rule.br_alias_entries(domain)])
    dmr = relay.domains[0]["dmr"]
    if carrier == BPF:
        config = bpf_rule.translator_config(dmr, relay.ipv6_mtu)
        return dict(maps, config=config, device=f"{relay.instance}-map", end=f"{relay.instance}-end")
    return dict(maps, config=bpf_rule.config_value(dmr, internal, check_only=carrier == "jool_mapt"))


def generation(relay: dict[str, Any], programs: bytes) -> dict[str, Any]:
    """The files of a border relay with these parameters; programs: the compiled BPF object, bytes."""
    carrier = relay["softwire"]
    folder = FOLDERS[carrier]
    plan = {
        "main/ip": f"{folder}/ip.j2",
        "main/sysctl": "sysctl.j2",
        "main/guard.nft": f"{folder}/guard.nft.j2",
        "main/bpftool": f"{folder}/bpftool.j2",
        "main/tc": f"{folder}/tc.j2",
    }
    if carrier in LATE:
        plan["main/ip-late"] = f"{folder}/late_ip.j2"
    files = render.generation(TEMPLATES, plan, relay, machine(relay))
    files[f"main/{PROGRAMS[carrier]}.bpf.o"] = programs
    if carrier in JOOL:
        files["main/jool.json"] = render.as_json(jool_configuration(relay))
    return files


def jool_configuration(relay: dict[str, Any]) -> dict[str, Any]:
    if relay["softwire"] == "jool_mapt":
        rules = [rule for domain in relay["domains"] for rule in domain["rules"]]
        return jool.mapt_br(relay["instance"], relay["dmr"], rules)
    eamt = [(entry["ipv4"], entry["internal"]) for entry in relay["ipv4_prefixes"]]
    return jool.siit(relay["instance"], relay["dmr"], relay["ipv6_mtu"], eamt)


def machine(relay: dict[str, Any]) -> dict[str, Any]:
    """The content of instance.json."""
    interfaces = {
        relay["interfaces"]["ipv4"]: {"variable": "map_br_ipv4_interface"},
        relay["interfaces"]["ipv6"]: {"variable": "map_br_ipv6_interface", "mtu": relay["ipv6_mtu"], "mtu_variable": "map_br_ipv6_mtu"},
    }
    return settings("br", relay["instance"], relay["softwire"], interfaces, ["ip", "nft", "tc", "bpftool"], "5.19", bpf=True)
