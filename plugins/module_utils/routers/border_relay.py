# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the variables of the role map_br to the generation of a border relay: it knows rules, never customer edges."""

from __future__ import annotations

import ipaddress

from . import bpf_object, bpf_rule, jool, render
from ..mapping import checks
from ..mapping.domain import parse_domains
from ..mapping.errors import Faults, MapError

TEMPLATES = str(render.TEMPLATES / "map_br")
TRANSLATORS = ("jool_mapt", "jool_siit")
TUNNEL = "ip6_tunnel"
PROGRAMS = {"map-t": "mapt.bpf.c", "map-e": "mape.bpf.c"}
IPV6_HEADER = 40
TC_PREFERENCE = 7599


def alternatives(variables, warn=None):
    """The generation of each way to run this border relay, the preferred one first.

    variables: the role's variables without their prefix map_br_.
    warn: gets a text for each thing that is legal but odd.
    Returns a list of (name, {path: text or bytes}). Raises MapError.
    """
    domains = domains_of(variables, warn)
    common = parameters(variables, domains)
    programs = bpf_object.build(PROGRAMS[domains[0]["transport"]], variables.get("bpf_object"), "map_br_bpf_object")
    return [(name, generation(dict(common, softwire=name), programs)) for name in softwires(variables, domains)]


def softwires(variables, domains):
    """The kernel modules that can carry the softwires, in the order in which to try them."""
    if domains[0]["transport"] == "map-e":
        return (TUNNEL,)
    wanted = checks.one_of(variables.get("translator"), "map_br_translator", ("auto",) + TRANSLATORS)
    if any(rule["psid"] is not None for domain in domains for rule in domain["rules"]):
        if wanted == "jool_mapt":
            raise MapError("map_br_translator", wanted, "jool_mapt has no explicit PSID (a rule with psid); use jool_siit")
        return ("jool_siit",)
    return TRANSLATORS if wanted == "auto" else (wanted,)


def domains_of(variables, warn=None):
    """The checked domains; all of one transport, and with MAP-T of one translator, so of one DMR."""
    given = checks.required(checks.listed(variables.get("domains"), "map_br_domains"), "map_br_domains")
    faults = Faults()
    written = [(f"map_br_domains[{index}]", value) for index, value in enumerate(given)]
    for path, value in written:
        faults.check(checks.required, value, path)
    faults.refuse()
    domains = parse_domains(written, faults, warn)
    find_differences(domains, faults)
    faults.refuse()
    return domains


def find_differences(domains, faults):
    """Collects what differs from the first domain and must not; a value of None has a fault of its own."""
    for key, reason in (
        ("transport", "a border relay serves one transport, so use an instance for each"),
        ("dmr", "a translator serves one DMR, so use one border relay for each"),
    ):
        first = domains[0][key]
        for index, domain in enumerate(domains):
            if domain[key] != first and None not in (domain[key], first):
                faults.add(f"map_br_domains[{index}].{key}", domain[key], f"differs from map_br_domains[0].{key}, {first}; {reason}")


def parameters(variables, domains):
    """What the templates see, whichever kernel module carries the softwires."""
    instance = checks.instance(variables.get("instance"), "map_br_instance")
    map_t = domains[0]["transport"] == "map-t"
    internal = internal_prefix(variables, domains) if map_t else None
    interfaces = {
        family: checks.interface(checks.required(variables.get(name), f"map_br_{name}"), f"map_br_{name}")
        for family, name in (("ipv4", "ipv4_interface"), ("ipv6", "ipv6_interface"))
    }
    ipv4_prefixes = sorted({rule["ipv4_prefix"] for domain in domains for rule in domain["rules"]}, key=ipaddress.ip_network)
    ipv6_mtu = checks.integer(variables.get("ipv6_mtu"), "map_br_ipv6_mtu", 1280, 65535)
    common = {
        "role": "br",
        "instance": instance,
        "domains": domains,
        "interfaces": interfaces,
        "ipv6_mtu": ipv6_mtu,
        "bpf": bpf_parameters(instance, domains, internal),
        "tc_preference": TC_PREFERENCE,
    }
    if not map_t:
        return dict(
            common,
            tunnel=f"{instance}-tun",
            ipv4_mtu=ipv6_mtu - IPV6_HEADER,
            ipv4_prefixes=[{"ipv4": text} for text in ipv4_prefixes],
            br_addresses=sorted({address for domain in domains for address in domain["br_address"]}, key=ipaddress.ip_address),
            fast_path=checks.boolean(variables.get("fast_path"), "map_br_fast_path"),
        )
    return dict(
        common,
        tunnel=None,
        dmr=domains[0]["dmr"],
        internal_prefix=str(internal),
        ipv4_prefixes=[{"ipv4": text, "internal": inside(internal, text)} for text in ipv4_prefixes],
        # A veth pair: what the translator sends into its first end, the programs take from the second.
        detour={
            "enter": f"{instance}-out", "enter_mac": "02:00:5e:75:97:01",
            "leave": f"{instance}-in", "leave_mac": "02:00:5e:75:97:02",
            "enter_gateway": "fe80::99", "leave_gateway": "fe80::98",
        },
    )


def internal_prefix(variables, domains):
    """The /96 that stands for the CEs between translator and programs; nobody else may use it."""
    path = "map_br_internal_prefix"
    internal = checks.network(variables.get("internal_prefix"), path, 6)
    if internal.prefixlen != 96 or internal.network_address.packed[8]:
        raise MapError(path, str(internal), "must be a /96 with bits 64 to 71 zero", "RFC 6052 section 2.2")
    if internal.overlaps(ipaddress.ip_network(domains[0]["dmr"])):
        raise MapError(path, str(internal), f"overlaps the DMR {domains[0]['dmr']}; it must be a prefix that nobody uses")
    for rule in (rule for domain in domains for rule in domain["rules"]):
        if internal.overlaps(ipaddress.ip_network(rule["ipv6_prefix"])):
            raise MapError(path, str(internal), f"overlaps the rule {rule['ipv6_prefix']}; it must be a prefix that nobody uses")
    return internal


def inside(internal, ipv4_prefix):
    """The prefix that stands for an IPv4 prefix inside the internal /96."""
    prefix = ipaddress.ip_network(ipv4_prefix)
    address = ipaddress.ip_address(int(internal.network_address) | int(prefix.network_address))
    return f"{address}/{96 + prefix.prefixlen}"


def bpf_parameters(instance, domains, internal):
    """What the programs' maps hold; internal: None for MAP-E."""
    internal = str(internal) if internal else None
    entries = []
    for number, domain in enumerate(domains):
        for index, rule in enumerate(domain["rules"]):
            try:
                entries.append(bpf_rule.rule_entry(rule, domain, internal))
            except ValueError as exc:
                raise MapError(f"map_br_domains[{number}].rules[{index}]", rule["ipv6_prefix"], str(exc)) from exc
    maps = {"pins": f"/run/softwire/{instance}/bpf", "rules": entries, "counters": list(bpf_rule.COUNTERS.values())}
    if internal is None:
        return dict(maps, aliases=[alias for domain in domains for alias in bpf_rule.br_alias_entries(domain)])
    dmr = domains[0]["dmr"]
    return dict(maps, config={
        name: bpf_rule.config_value(dmr, internal, check_only=name == "jool_mapt") for name in TRANSLATORS
    })


def generation(relay, programs):
    """The files of a border relay with these parameters; programs: the compiled BPF object, bytes."""
    folder = "mape" if relay["softwire"] == TUNNEL else "mapt"
    plan = {
        "main/ip": f"{folder}/ip.j2",
        "main/sysctl": "sysctl.j2",
        "main/guard.nft": f"{folder}/guard.nft.j2",
        "main/bpftool": f"{folder}/bpftool.j2",
        "main/tc": f"{folder}/tc.j2",
    }
    if relay["softwire"] == TUNNEL:
        plan["main/ip-late"] = f"{folder}/late_ip.j2"
    files = render.generation(TEMPLATES, plan, relay, settings(relay))
    files[f"main/{folder}.bpf.o"] = programs
    if relay["softwire"] in TRANSLATORS:
        files["main/jool.json"] = render.as_json(jool_configuration(relay))
    return files


def jool_configuration(relay):
    if relay["softwire"] == "jool_mapt":
        rules = [rule for domain in relay["domains"] for rule in domain["rules"]]
        return jool.mapt_br(relay["instance"], relay["dmr"], relay["ipv6_mtu"], rules)
    eamt = [(entry["ipv4"], entry["internal"]) for entry in relay["ipv4_prefixes"]]
    return jool.siit(relay["instance"], relay["dmr"], relay["ipv6_mtu"], eamt)


def settings(relay):
    """The content of instance.json: what the preflight and softwire.py want to know."""
    jool_tool = relay["softwire"] if relay["softwire"] in TRANSLATORS else None
    return {
        "role": "br",
        "instance": relay["instance"],
        "namespaces": [],
        "namespace_variables": {},
        "interfaces": {
            relay["interfaces"]["ipv4"]: {"variable": "map_br_ipv4_interface"},
            relay["interfaces"]["ipv6"]: {
                "variable": "map_br_ipv6_interface", "mtu": relay["ipv6_mtu"], "mtu_variable": "map_br_ipv6_mtu",
            },
        },
        "kernel_modules": [relay["softwire"]],
        "commands": ["ip", "nft", "tc", "bpftool", "modprobe"] + ([jool_tool] if jool_tool else []),
        "minimum_kernel": "5.19",
        "bpf": True,
        "jool": jool_tool,
        "border_relay": None,
        "networkd": None,
    }
