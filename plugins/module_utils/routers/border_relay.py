# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the checked variables of a border relay to its parameters and the files of its generations: it knows rules, never customer edges."""

from __future__ import annotations

import ipaddress
from typing import Any

from ..mapping.errors import MapError
from . import bpf_object, bpf_rule, jool, programs, render
from .br_variables import BorderRelay
from .instance import BPF, IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, JOOL, TCP_HEADER, TUNNEL, settings

TEMPLATES = str(render.TEMPLATES / "map_br")
# The folder of the templates, and the object of the programs, by what carries the softwire.
FOLDERS = {BPF: "bpf", TUNNEL: "mape", **dict.fromkeys(JOOL, "mapt")}
OBJECTS = {BPF: "translate", TUNNEL: "mape", **dict.fromkeys(JOOL, "mapt")}
LATE = (BPF, TUNNEL)  # have routes that wait for the programs
FAST_PROGRAMS = {"mape": "mape", "translate": "br"}  # what the names of an object's fast path begin with


def generations(relay: BorderRelay) -> list[tuple[str, dict[str, Any]]]:
    """The generation of each way to run this border relay, the preferred one first: (carrier, {path: text or bytes}) each. Raises MapError."""
    return [
        (carrier, generation(parameters(relay, carrier), bpf_object.read(f"{OBJECTS[carrier]}.bpf.o", relay.bpf_object, "map_br_bpf_object")))
        for carrier in relay.carriers]


def parameters(relay: BorderRelay, carrier: str) -> dict[str, Any]:
    """What the templates see; carrier: what carries the softwires."""
    ipv4_prefixes = ipv4_prefixes_of(relay)
    common = {
        "role": "br",
        "instance": relay.instance,
        "softwire": carrier,
        "domains": relay.domains,
        "interfaces": {"ipv4": relay.ipv4_interface, "ipv6": relay.ipv6_interface},
        "ipv6_mtu": relay.ipv6_mtu,
        "bpf": programs_of(relay, carrier),
        "fast_path": fast_path_of(relay, carrier),
        "mss": mss_of(relay, carrier),
        "icmp_source": str(relay.icmp_source) if relay.icmp_source else None,
        "reassembly": reassembly(relay, carrier),
    }
    if carrier == BPF:
        return dict(
            common,
            tunnel=None,
            device=softwire_device(relay.instance, carrier),
            translator={
                "device": softwire_device(relay.instance, carrier),
                "end": f"{relay.instance}-end",
                "whole_length": programs.pinned(relay.instance, "translate", "whole_length"),
            },
            dmr=relay.domains[0]["dmr"],
            ipv4_mtu=ipv4_mtu(relay, carrier),
            ipv4_prefixes=ipv4_prefixes,
        )
    if carrier == TUNNEL:
        return dict(
            common,
            tunnel=softwire_device(relay.instance, carrier),
            device=softwire_device(relay.instance, carrier),
            ipv4_mtu=ipv4_mtu(relay, carrier),
            ipv4_prefixes=ipv4_prefixes,
            br_addresses=sorted({address for domain in relay.domains for address in domain["br_address"]}, key=ipaddress.ip_address),
        )
    return dict(
        common,
        tunnel=None,
        device=softwire_device(relay.instance, carrier),
        dmr=relay.domains[0]["dmr"],
        internal_prefix=str(relay.internal_prefix),
        ipv4_prefixes=[dict(prefix, internal=inside(relay.internal_prefix, prefix["ipv4"])) for prefix in ipv4_prefixes],
        # A veth pair: what the translator sends into its first end, the programs take from the second.
        detour=detour(relay),
    )


def softwire_device(instance: str, carrier: str) -> str | None:
    """The device behind which this border relay has its customer edges; with Jool there is none."""
    return {BPF: f"{instance}-map", TUNNEL: f"{instance}-tun"}.get(carrier)


def ipv4_prefixes_of(relay: BorderRelay) -> list[dict[str, str]]:
    """The rules' IPv4 prefixes, each once, and their leading bits as a number, for nft."""
    prefixes = {ipaddress.IPv4Network(rule["ipv4_prefix"]) for domain in relay.domains for rule in domain["rules"]}
    return [{"ipv4": str(prefix), "leading_bits": hex(int(prefix.network_address) >> 32 - prefix.prefixlen)} for prefix in sorted(prefixes)]


def ipv4_mtu(relay: BorderRelay, carrier: str) -> int:
    """How long an IPv4 packet may be in the softwire, in bytes."""
    if carrier == TUNNEL:
        return relay.ipv6_mtu - IPV6_HEADER
    translated = relay.ipv6_mtu - (IPV6_HEADER - IPV4_HEADER)
    # The IPv4 stack cuts packets to fit before it is known which become fragments of IPv6.
    return translated - IPV6_FRAGMENT_HEADER if carrier == BPF else translated


def mss_of(relay: BorderRelay, carrier: str) -> int | None:
    """To what the MSS of TCP is lowered, in bytes; None: not at all."""
    if relay.mss == "off":
        return None
    return ipv4_mtu(relay, carrier) - IPV4_HEADER - TCP_HEADER if relay.mss == "auto" else int(relay.mss)


def reassembly(relay: BorderRelay, carrier: str) -> dict[str, Any] | None:
    """Limits of reassembly: bytes, seconds, and the names of Linux's settings for them. None with Jool, which goes its own ways."""
    if carrier in JOOL:
        return None
    # The tunnel's own packets are put together as for a host; what is to be translated by netfilter.
    ipv6 = ("net/ipv6/ip6frag_high_thresh", "net/ipv6/ip6frag_time")
    if carrier == BPF:
        ipv6 = ("net/netfilter/nf_conntrack_frag6_high_thresh", "net/netfilter/nf_conntrack_frag6_timeout")
    memory, time = zip(("net/ipv4/ipfrag_high_thresh", "net/ipv4/ipfrag_time"), ipv6)
    return {"bytes": relay.reassembly_memory << 20, "seconds": relay.reassembly_time, "memory_settings": list(memory), "time_settings": list(time)}


def detour(relay: BorderRelay) -> dict[str, str]:
    """The veth pair of a border relay with jool_siit, and its neighbours."""
    return {
        "enter": f"{relay.instance}-out", "enter_mac": "02:00:5e:75:97:01",
        "leave": f"{relay.instance}-in", "leave_mac": "02:00:5e:75:97:02",
        "enter_gateway": "fe80::99", "leave_gateway": "fe80::98",
    }


def inside(internal: ipaddress.IPv6Network, ipv4_prefix: str) -> str:
    """The prefix that stands for an IPv4 prefix inside the internal /96."""
    prefix = ipaddress.ip_network(ipv4_prefix)
    address = ipaddress.ip_address(int(internal.network_address) | int(prefix.network_address))
    return f"{address}/{96 + prefix.prefixlen}"


def programs_of(relay: BorderRelay, carrier: str) -> dict[str, Any]:
    """The programs, as programs.described() has them. Raises MapError for a rule that they cannot serve."""
    name = OBJECTS[carrier]
    attached = attachments(relay, name, hooks(relay, carrier))
    if relay.fast_path:
        attached += attachments(relay, name, fast_hooks(relay, carrier))
    comment = "The rules are all that the programs know of the customer edges."
    loaded = programs.loaded(name, comment, bpf_rule.COUNTERS, map_entries(relay, carrier))
    return programs.described(relay.instance, "main", [loaded], attached)


def fast_path_of(relay: BorderRelay, carrier: str) -> dict[str, Any] | None:
    """The fast path: its programs, and whether the router decides whether they are attached. None where there is none."""
    hooked = [] if relay.fast_path is False else fast_hooks(relay, carrier)
    return {"auto": relay.fast_path is None, "attached": attachments(relay, OBJECTS[carrier], hooked)} if hooked else None


def attachments(relay: BorderRelay, name: str, hooked: list[tuple[str, str, int, str, str]]) -> list[dict[str, Any]]:
    """Where programs of an object are attached; hooked: what hooks() returns."""
    return [
        programs.attachment(device, hook, preference, programs.pinned(relay.instance, name, program), comment)
        for device, hook, preference, program, comment in hooked]


def map_entries(relay: BorderRelay, carrier: str) -> list[dict[str, str]]:
    """What the maps of the programs hold. Raises MapError."""
    internal = str(relay.internal_prefix) if carrier in JOOL else None
    rules = []
    for number, domain in enumerate(relay.domains):
        for index, rule in enumerate(domain["rules"]):
            try:
                rules.append(bpf_rule.rule_entry(rule, domain, internal))
            except ValueError as exc:
                raise MapError(f"map_br_domains[{number}].rules[{index}]", rule["ipv6_prefix"], str(exc)) from exc
    made = programs.entries("rules", rules)
    if carrier in LATE:
        made.append(treatment_entry(relay))
    if carrier == TUNNEL:
        return made + programs.entries("br_aliases", [alias for domain in relay.domains for alias in bpf_rule.br_alias_entries(domain)])
    dmr = relay.domains[0]["dmr"]
    if carrier == BPF:
        return [programs.entry("config", programs.ONLY, translator_config(relay, dmr), f"The DMR {dmr}."), *made]
    config = bpf_rule.config_value(dmr, internal, check_only=carrier == "jool_mapt")
    return [programs.entry("config", programs.ONLY, config, f"The DMR {dmr}, and the internal prefix."), *made]


def translator_config(relay: BorderRelay, dmr: str) -> str:
    return bpf_rule.translator_config(dmr, relay.ipv6_mtu, icmp_source=str(relay.icmp_source or bpf_rule.DUMMY_ADDRESS))


def treatment_entry(relay: BorderRelay) -> dict[str, str]:
    """What the programs do to headers, and leave to netfilter."""
    dscp = "that of IPv4" if relay.dscp is None else str(relay.dscp)
    syn = "the fast path takes every packet of TCP" if relay.mss == "off" else "netfilter lowers the MSS"
    return programs.entry("treatment", programs.ONLY, bpf_rule.treatment(relay.dscp, relay.mss != "off"), f"DSCP towards the CEs: {dscp}; {syn}.")


def hooks(relay: BorderRelay, carrier: str) -> list[tuple[str, str, int, str, str]]:
    """Device, hook, preference, name and comment of each program."""
    first = programs.SOFTWIRE
    if carrier == BPF:
        device = softwire_device(relay.instance, carrier)
        return [
            (device, "egress", first, "br_out", "What is routed here is translated when it leaves, and comes back in: to the MAP address of its CE,"),
            (device, "egress", first + 1, "br_in", "and out of the softwire, where it comes from the CE of its address and port."),
        ]
    if carrier == TUNNEL:
        tunnel = softwire_device(relay.instance, carrier)
        return [
            (tunnel, "ingress", first, "mape_in", "Checks what comes from the CEs."),
            (tunnel, "egress", first, "mape_out", "Computes the MAP address of what goes to them."),
        ]
    made = [(relay.ipv6_interface, "ingress", first, "mapt_in", "Checks what comes from the CEs before the translator sees it.")]
    if carrier == "jool_siit":
        links = detour(relay)
        made += [
            (links["leave"], "ingress", first, "mapt_out", "Computes the MAP address of what goes to the CEs."),
            (links["enter"], "ingress", first, "mapt_in", "Errors of this router itself come back here (the route to the DMR)."),
        ]
    return made


def fast_hooks(relay: BorderRelay, carrier: str) -> list[tuple[str, str, int, str, str]]:
    """The same of the fast path; nothing with Jool, which has none."""
    name = OBJECTS[carrier]
    if name not in FAST_PROGRAMS:
        return []
    prefix, first = FAST_PROGRAMS[name], programs.FAST_PATH[name]
    return [
        (relay.ipv4_interface, "ingress", first, f"{prefix}_fast_out", "Takes whole packets for the CEs straight from where they arrive to where they leave,"),
        (relay.ipv6_interface, "ingress", first + 1, f"{prefix}_fast_in", "and those from them. Whatever else there is goes the general way."),
    ]


def generation(relay: dict[str, Any], compiled: bytes) -> dict[str, Any]:
    """The files of a border relay with these parameters; compiled: the BPF object."""
    carrier = relay["softwire"]
    folder = FOLDERS[carrier]
    plan = {
        "main/ip": f"{folder}/ip.j2",
        "main/sysctl": "sysctl.j2",
        "main/guard.nft": f"{folder}/guard.nft.j2",
        **programs.plan(relay["bpf"]),
    }
    if carrier in LATE:
        plan["main/ip-late"] = f"{folder}/late_ip.j2"
    if relay["fast_path"] and relay["fast_path"]["auto"]:
        plan["main/fast"] = "fast.j2"
    files = render.generation(TEMPLATES, plan, relay, machine(relay))
    files[f"main/{OBJECTS[carrier]}.bpf.o"] = compiled
    if carrier in JOOL:
        files["main/jool.json"] = render.as_json(jool_configuration(relay))
    return files


def jool_configuration(relay: dict[str, Any]) -> dict[str, Any]:
    if relay["softwire"] == "jool_mapt":
        rules = [rule for domain in relay["domains"] for rule in domain["rules"]]
        return jool.mapt_br(relay["instance"], relay["dmr"], rules, relay["icmp_source"])
    eamt = [(entry["ipv4"], entry["internal"]) for entry in relay["ipv4_prefixes"]]
    return jool.siit(relay["instance"], relay["dmr"], relay["ipv6_mtu"], eamt, relay["icmp_source"])


def machine(relay: dict[str, Any]) -> dict[str, Any]:
    """The content of instance.json."""
    interfaces = {
        relay["interfaces"]["ipv4"]: {"variable": "map_br_ipv4_interface"},
        relay["interfaces"]["ipv6"]: {"variable": "map_br_ipv6_interface", "mtu": relay["ipv6_mtu"], "mtu_variable": "map_br_ipv6_mtu"},
    }
    return settings("br", relay["instance"], relay["softwire"], interfaces, ["ip", "nft", "tc", "bpftool"], "5.19", bpf=True)
