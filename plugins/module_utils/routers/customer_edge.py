# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the checked variables of a customer edge to its parameters, one plain dict per alternative, and its files."""

from __future__ import annotations

import ipaddress
from typing import Any

from . import bpf_rule, jool, programs, render
from .ce_variables import CustomerEdge
from .instance import BPF, IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, JOOL, MESH, TCP_HEADER, settings
from .routing import routing

TEMPLATES = str(render.TEMPLATES / "map_ce")
# Of the collection's translator, in the namespace where it is.
TRANSLATOR_FILES = {"translator.nft": "translator.nft.j2", "ip-late": "late_ip.j2"}


def generations(edge: CustomerEdge) -> list[tuple[str, dict[str, Any]]]:
    """The generation of each way to run this customer edge, the preferred one first: (carrier, {path: text or bytes}) each."""
    return [(carrier, generation(parameters(edge, carrier))) for carrier in edge.carriers]


def generation(edge: dict[str, Any]) -> dict[str, Any]:
    """The files of a customer edge with these parameters."""
    namespaces = edge["layout"]["namespaces"]
    links = {"main/ip": "main.ip.j2"}
    if edge["network_backend"] == "networkd":
        links = {
            f"main/networkd/40-{edge['tunnel']}.netdev": "tunnel.netdev.j2",
            f"main/networkd/40-{edge['tunnel']}.network": "tunnel.network.j2",
            "main/networkd/wan.conf": "wan.conf.j2",
        }
    plan = {
        **links,
        "main/sysctl": "main.sysctl.j2",
        "main/guard.nft": "guard.nft.j2",
        f"{namespaces['napt']}/napt.nft": "napt.nft.j2",
        f"{namespaces['napt']}/flows": "flows.j2",
    }
    for namespace in edge["layout"]["own"]:
        plan[f"{namespace}/ip"] = "napt.ip.j2" if namespace == namespaces["napt"] else "translator.ip.j2"
        plan[f"{namespace}/sysctl"] = "napt.sysctl.j2" if namespace == namespaces["napt"] else "forwarding.sysctl.j2"
    if edge["translator"]:
        plan.update({f"{namespaces['softwire']}/{name}": template for name, template in TRANSLATOR_FILES.items()})
    elif edge["tunnel"] and edge["network_backend"] == "service":
        plan["main/ip-late"] = "late_ip.j2"
    if edge["ipv6_firewall"]:
        plan["main/ipv6_firewall.nft"] = "ipv6_firewall.nft.j2"
    plan.update(programs.plan(edge["bpf"]))
    files = render.generation(TEMPLATES, plan, edge, machine(edge))
    files.update(programs.object_files(edge["bpf"]))
    if edge["softwire"] in JOOL:
        files[f"{namespaces['softwire']}/jool.json"] = render.as_json(jool_configuration(edge))
    return files


def jool_configuration(edge: dict[str, Any]) -> dict[str, Any]:
    ce = edge["ce"]
    if edge["softwire"] == "jool_mapt":
        return jool.mapt_ce(edge["instance"], ce)
    ipv4_prefix = ce["ipv4_prefix"] or ce["ipv4_address"] + "/32"
    return jool.siit(edge["instance"], ce["dmr"], edge["wan"]["mtu"], [(ipv4_prefix, edge["map_prefix"])])


def machine(edge: dict[str, Any]) -> dict[str, Any]:
    """The content of instance.json."""
    own, wan = edge["layout"]["own"], edge["wan"]
    interfaces: dict[str, dict[str, Any]] = {
        wan["interface"]: {"variable": "map_ce_wan_interface", "mtu": wan["mtu"], "mtu_variable": "map_ce_wan_mtu"}}
    moved_to = edge["layout"]["namespaces"]["napt"]
    for index, name in enumerate(edge["lan"]["interfaces"]):
        interfaces[name] = {"variable": f"map_ce_lan_interfaces[{index}]"}
        if moved_to in own:
            addresses = [entry["address"] for entry in edge["lan"]["addresses"] if entry["interface"] == name]
            interfaces[name].update(move=moved_to, addresses=addresses)
    commands = ["ip", "nft", "conntrack", "sysctl", "tc", "bpftool"]
    networkd = {"wan": wan["interface"], "address": edge["ce"]["map_address"], "device": edge["tunnel"]}
    return settings(
        "ce", edge["instance"], edge["softwire"], interfaces, commands, "5.19" if edge["softwire"] == MESH else "5.10", namespaces=own, bpf=True,
        border_relay=edge["ce"]["br_address"], networkd=networkd if edge["network_backend"] == "networkd" else None)


def parameters(edge: CustomerEdge, carrier: str) -> dict[str, Any]:
    """What the templates see; carrier: what carries the softwire."""
    ce, transport = edge.ce, edge.ce["transport"]
    layout = layout_of(edge.napt_namespace, edge.translator_namespace, carrier)
    tunnel = f"{edge.instance}-tun" if transport == "map-e" else None
    translator = translator_of(edge) if carrier == BPF else None
    veth = veth_of(edge)
    ipv4_mtu = edge.wan_mtu - growth(transport, carrier)
    # Where the main namespace, or the one with both the NAPT and the softwire, has the softwire.
    device = tunnel or (translator["device"] if translator else veth["main"]["device"])
    br_addresses = edge.br_addresses if carrier == MESH else edge.br_addresses[:1]
    fmr_prefixes = [rule["ipv6_prefix"] for rule in ce["fmrs"]]
    routed = {entry["network"] for entry in edge.lan_addresses if entry["version"] == 6} - {"fe80::/64", "fe80::/10"}
    made = {
        "role": "ce",
        "instance": edge.instance,
        "softwire": carrier,
        "ce": ce,
        "wan": {"interface": edge.wan_interface, "gateway": edge.wan_gateway, "mtu": edge.wan_mtu},
        "lan": {
            "interfaces": edge.lan_interfaces,
            "addresses": edge.lan_addresses,
            "ipv6_networks": sorted(routed),
            "own_networks": edge.own_networks,
        },
        "layout": layout,
        "network_backend": edge.network_backend,
        "dns_servers": edge.dns_servers,
        "veth": veth,
        "tunnel": tunnel,
        "translator": translator,
        "sends_directly": edge.sends_directly,
        # IPv6: of those whose packets may come, and where MAP-E's packets go.
        "br_addresses": br_addresses,
        "fmr_prefixes": merged(fmr_prefixes) if carrier in (BPF, MESH, "jool_mapt") else [],
        "domain_prefixes": merged([*br_addresses, ce["rule"]["ipv6_prefix"], *fmr_prefixes]),
        # Where packets of the internet enter the main namespace.
        "softwire_device": veth["main"]["device"] if translator and layout["napt_elsewhere"] else device,
        "route_table": edge.route_table,
        "softwire_table": edge.route_table + 1,
        "ipv4_mtu": ipv4_mtu,
        "map_prefix": map_prefix(ce),
        # 0: what the kernel has chosen by its memory.
        "conntrack_max": edge.conntrack_max,
        # Of the LAN's native IPv6; null: none.
        "ipv6_firewall": {"forwards": edge.ipv6_forwards} if edge.ipv6_forwards is not None else None,
        "napt": {
            "device": veth["other"]["device"] if layout["napt_elsewhere"] and not translator else device,
            "lan_interfaces": edge.lan_interfaces,
            "sources": [*edge.nat_sources, veth["network"]],
            "routed_networks": edge.own_networks,
            "router_networks": [veth["network"]] if layout["napt_elsewhere"] and not translator else [],
            "router_device": veth["other"]["device"] if layout["napt_elsewhere"] and translator else None,
            "mss": ipv4_mtu - IPV4_HEADER - TCP_HEADER,
            "port_forwards": edge.port_forwards,
            "reserved_ports": edge.reserved_ports,
            "timeouts": edge.conntrack_timeouts,
            "max_ports_per_client": edge.max_ports_per_client,
            "index": edge.index,
        },
    }
    return dict(made, bpf=programs_of(made, edge.wan_mtu), routing=routing(made))


def growth(transport: str, carrier: str) -> int:
    """How much longer the softwire makes an IPv4 packet, in bytes: without the collection's translator, a whole one."""
    if transport == "map-e":
        return IPV6_HEADER
    # The IPv4 stack cuts packets to fit before it is known which become fragments of IPv6.
    return IPV6_HEADER - IPV4_HEADER + (IPV6_FRAGMENT_HEADER if carrier == BPF else 0)


def translator_of(edge: CustomerEdge) -> dict[str, str]:
    """The device of the collection's translator and its other end; the program of the routes that lead there."""
    return {
        "device": f"{edge.instance}-map",
        "end": f"{edge.instance}-end",
        "whole_length": programs.pinned(edge.instance, "translate", "whole_length"),
    }


def merged(prefixes: list[str]) -> list[str]:
    """IPv6 prefixes without those inside others: an nftables set refuses elements that overlap."""
    return [str(network) for network in ipaddress.collapse_addresses(map(ipaddress.IPv6Network, prefixes))]


def programs_of(made: dict[str, Any], wan_mtu: int) -> dict[str, Any]:
    """The programs, as programs.described() has them. made: the parameters without them; wan_mtu: bytes."""
    instance, ce, translator = made["instance"], made["ce"], made["translator"]
    # The NAPT may be elsewhere than the tunnel, but its end is the tunnel.
    namespace = "main" if made["tunnel"] else made["layout"]["namespaces"]["napt"]
    device = made["tunnel"] or made["napt"]["device"]
    router_network = None if made["tunnel"] else next(iter(made["napt"]["router_networks"]), None)
    # A tunnel has no link layer, veth pairs have Ethernet's.
    loaded = [napt_of(ce, made["napt"]["index"], router_network, has_ethernet=not made["tunnel"])]
    filters = [
        (device, "egress", programs.NAPT_OUT, "napt", "napt_out", "Index to port; nothing leaves but from our own address and ports."),
        (device, "ingress", programs.NAPT_IN, "napt", "napt_in", "Port to index; nothing comes in but for them."),
    ]
    if translator:
        loaded.append(translate_of(ce, wan_mtu))
        filters[1:1] = [
            (device, "egress", programs.SOFTWIRE, "translate", "ce_out",
             "What is routed here is translated when it leaves, and comes back in: IPv4 to IPv6,"),
            (device, "egress", programs.SOFTWIRE + 1, "translate", "ce_in", "and IPv6 to IPv4."),
        ]
    if made["softwire"] == MESH:
        loaded.append(mape_of(ce, made["br_addresses"], made["sends_directly"]))
        filters[1:1] = [
            (device, "egress", programs.SOFTWIRE, "mape", "mesh_out",
             "To the customer edge that a rule gives, or to the border relay." if made["sends_directly"] else "To the border relay."),
            (device, "ingress", programs.SOFTWIRE, "mape", "mesh_in",
             "From the border relay anything, from another customer edge what a rule's arithmetic gives it."),
        ]
    return programs.described(instance, namespace, loaded, [
        programs.attachment(where, hook, preference, programs.pinned(instance, name, program), comment)
        for where, hook, preference, name, program, comment in filters])


def napt_of(ce: dict[str, Any], index: dict[str, Any], router_network: str | None, has_ethernet: bool) -> dict[str, Any]:
    """The object of the NAPT's end; the arguments are those of bpf_rule.napt_config."""
    config = bpf_rule.napt_config(ce, index, router_network, has_ethernet)
    return programs.loaded("napt", "The end of the NAPT: our address, and the arithmetic of our ports.", bpf_rule.NAPT_COUNTERS, [
        # The exceptions first: the config says whether there are any.
        *(programs.entry(name, **each) for name, each in bpf_rule.napt_exceptions(ce, index)),
        programs.entry("config", programs.ONLY, config, "Our address, how ports and indexes go together."),
    ])


def mape_of(ce: dict[str, Any], br_addresses: list[str], sends_directly: bool) -> dict[str, Any]:
    """The object of a MAP-E mesh. br_addresses: of the domain; sends_directly: whether packets are sent to other customer edges."""
    mesh = {"transport": "map-e", "interface_id": ce["interface_id"], "br_address": br_addresses, "rules": ce["fmrs"]}
    config = bpf_rule.mesh_config(ce, br_addresses[0], sends_directly)
    return programs.loaded("mape", "What the tunnel device asks for the outer addresses of each packet.", bpf_rule.COUNTERS, [
        programs.entry("config", programs.ONLY, config, "What is this customer edge's own."),
        *programs.entries("rules", [bpf_rule.rule_entry(rule, mesh) for rule in ce["fmrs"]]),
        *programs.entries("br_aliases", bpf_rule.br_alias_entries(mesh)),
    ])


def translate_of(ce: dict[str, Any], wan_mtu: int) -> dict[str, Any]:
    """The object of the collection's translator."""
    mesh = {"transport": "map-t", "interface_id": ce["interface_id"], "rules": ce["fmrs"]}
    return programs.loaded("translate", "The translator of MAP-T.", bpf_rule.COUNTERS, [
        programs.entry("config", programs.ONLY, bpf_rule.translator_config(ce["dmr"], wan_mtu, ce), "What is this customer edge's own."),
        *programs.entries("rules", [bpf_rule.rule_entry(rule, mesh) for rule in ce["fmrs"]]),
    ])


def layout_of(napt: str, translator: str, carrier: str) -> dict[str, Any]:
    """Which namespace does what, and the conditions by which the templates choose their lines."""
    translator_elsewhere = carrier in JOOL and not napt
    softwire = translator if translator_elsewhere else napt or "main" if carrier == BPF else "main"
    own = {napt: "map_ce_napt_namespace"} if napt else {translator: "map_ce_translator_namespace"} if translator_elsewhere else {}
    return {
        "namespaces": {"napt": napt or "main", "softwire": softwire},
        "own": own,
        "has_veth": own != {},
        "napt_elsewhere": bool(napt),
        "translates_here": carrier in JOOL and not translator_elsewhere,
    }


def veth_of(edge: CustomerEdge) -> dict[str, Any]:
    """The veth pair between the main namespace and the other one."""
    network, dmr = edge.veth_network, edge.ce["dmr"]
    return {
        "network": str(network),
        # The same as the translator would write it as a source.
        "embedded": embedded(network, ipaddress.IPv6Network(dmr)) if dmr else None,
        "prefix_length": network.prefixlen,
        "main": {"device": f"{edge.instance}-veth", "ipv4": str(network[1]), "ipv6": "fe80::1"},
        "other": {"device": f"{edge.instance}-main", "ipv4": str(network[2]), "ipv6": "fe80::2"},
    }


def embedded(network: ipaddress.IPv4Network, dmr: ipaddress.IPv6Network) -> str:
    """An IPv4 network inside the DMR: its bits follow the prefix, but leave out bits 64 to 71 (RFC 6052 section 2.2)."""
    bits = f"{int(dmr.network_address):0128b}"[: dmr.prefixlen] + f"{int(network.network_address):032b}"[: network.prefixlen]
    if dmr.prefixlen <= 64 < len(bits):
        bits = bits[:64] + 8 * "0" + bits[64:]
    return str(ipaddress.IPv6Network((int(bits.ljust(128, "0"), 2), len(bits))))


def map_prefix(ce: dict[str, Any]) -> str:
    """What the translator maps the IPv4 address or prefix to, as RFC 7757 wants it: the bits follow the prefix at once."""
    if ce["ipv4_address"]:
        return ce["map_address"] + "/128"
    ipv4_position = 80 if ce["interface_id"] == "rfc7597" else 72
    length = ipv4_position + ipaddress.ip_network(ce["ipv4_prefix"]).prefixlen
    return f"{ce['map_address']}/{length}"
