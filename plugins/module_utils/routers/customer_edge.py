# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the variables of the role map_ce to the parameters of a customer edge: one plain dict per alternative."""

from __future__ import annotations

import ipaddress

from ..mapping.port_index import nearest_ports, port_index
from ..mapping import checks
from . import jool, render
from ..mapping.domain import ce as ce_of
from ..mapping.errors import MapError
from ..mapping.isp import isp_domain
from .routing import routing

TEMPLATES = str(render.TEMPLATES / "map_ce")
TRANSLATORS = ("jool_mapt", "jool_siit")
TUNNEL = "ip6_tunnel"
IPV6_HEADER, IPV4_HEADER, TCP_HEADER = 40, 20, 20
# Seconds that an idle connection keeps its port: the least that is allowed (README, "Time-outs").
TIMEOUTS = {"tcp_established": 7440, "tcp_transitory": 240, "tcp_time_wait": 30, "udp": 120, "dns": 10, "icmp": 60}
FORWARD_KEYS = ("port", "protocol", "to_address", "to_port", "comment")


def alternatives(variables, warn=None):
    """The generation of each way to run this customer edge, the preferred one first.

    variables: the role's variables without their prefix map_ce_.
    warn: gets a text for each thing that is legal but odd.
    Returns a list of (name, {path: text}). Raises MapError.
    """
    end_user_prefix = checks.required(variables.get("end_user_prefix"), "map_ce_end_user_prefix")
    ce = ce_of(domain_of(variables, end_user_prefix), end_user_prefix,
               path="map_ce_end_user_prefix", domain_path="map_ce_domain", warn=warn)
    common = parameters(variables, ce)
    return [(name, generation(dict(common, softwire=name))) for name in softwires(variables, ce)]


def domain_of(variables, end_user_prefix):
    """The domain as it was given, or the one of the ISP that was named."""
    domain, isp = variables.get("domain"), variables.get("isp")
    if not isp:
        return checks.required(domain, "map_ce_domain")
    if domain:
        raise MapError("map_ce_isp", isp, "map_ce_domain (by default map_domain) is set, too; remove one of them")
    return isp_domain(isp, end_user_prefix, isp_path="map_ce_isp", path="map_ce_end_user_prefix")


def generation(edge):
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
    files = render.generation(TEMPLATES, plan, edge, settings(edge))
    if edge["softwire"] in TRANSLATORS:
        files[f"{namespaces['softwire']}/jool.json"] = render.as_json(jool_configuration(edge))
    return files


def jool_configuration(edge):
    ce = edge["ce"]
    if edge["softwire"] == "jool_mapt":
        return jool.mapt_ce(edge["instance"], ce, edge["wan"]["mtu"])
    ipv4_prefix = ce["ipv4_prefix"] or ce["ipv4_address"] + "/32"
    return jool.siit(edge["instance"], ce["dmr"], edge["wan"]["mtu"], [(ipv4_prefix, edge["map_prefix"])])


def settings(edge):
    """The content of instance.json: what the preflight and softwire.py want to know."""
    own = edge["layout"]["own"]
    interfaces = {
        edge["wan"]["interface"]: {
            "variable": "map_ce_wan_interface", "mtu": edge["wan"]["mtu"], "mtu_variable": "map_ce_wan_mtu",
        },
    }
    moved_to = edge["layout"]["namespaces"]["napt"]
    for index, name in enumerate(edge["lan"]["interfaces"]):
        interfaces[name] = {"variable": f"map_ce_lan_interfaces[{index}]"}
        if moved_to in own:
            addresses = [entry["address"] for entry in edge["lan"]["addresses"] if entry["interface"] == name]
            interfaces[name].update(move=moved_to, addresses=addresses)
    jool_tool = edge["softwire"] if edge["softwire"] in TRANSLATORS else None
    return {
        "role": "ce",
        "instance": edge["instance"],
        "namespaces": sorted(own),
        "namespace_variables": own,
        "interfaces": interfaces,
        "kernel_modules": [edge["softwire"]],
        "commands": ["ip", "nft", "conntrack", "sysctl", "modprobe"] + ([jool_tool] if jool_tool else []),
        "minimum_kernel": "5.10",
        "bpf": False,
        "jool": jool_tool,
        # Who has to answer after a change as before; nobody does for a DMR.
        "border_relay": edge["ce"]["br_address"],
        "networkd": {
            "wan": edge["wan"]["interface"], "address": edge["ce"]["map_address"], "device": edge["tunnel"],
        } if edge["network_backend"] == "networkd" else None,
    }


def softwires(variables, ce):
    """The kernel modules that can carry the softwire, in the order in which to try them."""
    if ce["transport"] == "map-e":
        return (TUNNEL,)
    wanted = checks.one_of(variables.get("translator"), "map_ce_translator", ("auto",) + TRANSLATORS)
    if ce["rule"]["ea_length"] == 0 and ce["psid"] is not None:
        if wanted == "jool_mapt":
            raise MapError("map_ce_translator", wanted, "jool_mapt has no explicit PSID (a rule with ea_length 0); use jool_siit")
        return ("jool_siit",)
    return TRANSLATORS if wanted == "auto" else (wanted,)


def parameters(variables, ce):
    """The parameters that do not depend on the kernel module that carries the softwire."""
    instance = checks.instance(variables.get("instance"), "map_ce_instance")
    mtu = checks.integer(variables.get("wan_mtu"), "map_ce_wan_mtu", 1280, 65535)
    ipv4_mtu = mtu - (IPV6_HEADER if ce["transport"] == "map-e" else IPV6_HEADER - IPV4_HEADER)
    gateway = variables.get("wan_gateway")
    layout = layout_of(variables, ce["transport"])
    backend = backend_of(variables, layout, ce["transport"])
    tunnel = f"{instance}-tun" if ce["transport"] == "map-e" else None
    lan = lan_of(variables, ce, layout["napt_elsewhere"])
    veth = veth_of(variables, instance, ce["dmr"])
    napt_device = veth["other"]["device"] if layout["napt_elsewhere"] else tunnel or veth["main"]["device"]
    table = checks.integer(variables.get("route_table"), "map_ce_route_table", 1, 2**31 - 2)
    if 252 <= table <= 255:
        raise MapError("map_ce_route_table", table, "it and the next number must not be 253 to 255, the kernel's own tables; choose another")
    sources = nat_sources(variables, lan, ce, veth)
    forwards = port_forwards(variables, ce)
    reserved = [
        in_port_set(port, f"map_ce_reserved_ports[{index}]", ce, [])
        for index, port in enumerate(checks.listed(variables.get("reserved_ports"), "map_ce_reserved_ports"))
    ]
    edge = {
        "role": "ce",
        "instance": instance,
        "ce": ce,
        "wan": {
            "interface": checks.interface(checks.required(variables.get("wan_interface"), "map_ce_wan_interface"), "map_ce_wan_interface"),
            "gateway": str(checks.address(gateway, "map_ce_wan_gateway", 6)) if gateway else None,
            "mtu": mtu,
        },
        "lan": lan,
        "layout": layout,
        "network_backend": backend,
        "dns_servers": dns_servers(variables, backend),
        "veth": veth,
        "tunnel": tunnel,
        # Where packets of the internet enter the main namespace.
        "softwire_device": tunnel or veth["main"]["device"],
        "route_table": table,
        "softwire_table": table + 1,
        "ipv4_mtu": ipv4_mtu,
        "map_prefix": map_prefix(ce),
        # 0: what the kernel has chosen by its memory.
        "conntrack_max": checks.integer(variables.get("conntrack_max"), "map_ce_conntrack_max", 0, 2**31 - 1),
        "napt": {
            "device": napt_device,
            "lan_interfaces": lan["interfaces"],
            "sources": sources + [veth["network"]],
            "routed_networks": lan["own_networks"],
            "router_networks": [veth["network"]] if layout["napt_elsewhere"] else [],
            "mss": ipv4_mtu - IPV4_HEADER - TCP_HEADER,
            "port_forwards": forwards,
            "reserved_ports": reserved,
            "timeouts": timeouts_of(variables),
            "max_ports_per_client": checks.integer(variables.get("max_ports_per_client"), "map_ce_max_ports_per_client", 0, 65535),
            "index": index_of(ce, [forward["port"] for forward in forwards] + reserved),
        },
    }
    return dict(edge, routing=routing(edge))


def index_of(ce, static_ports):
    """How the NAPT numbers the ports of the set; the static ones stay out of its pool."""
    try:
        return port_index(ce["port_ranges"], static_ports)
    except ValueError as exc:
        raise MapError("map_ce_port_forwards and map_ce_reserved_ports", sorted(static_ports), str(exc)) from exc


def layout_of(variables, transport):
    """Which namespace does what, and the conditions by which the templates choose their lines."""
    napt = softwire = "main"
    own = {}
    if variables.get("napt_namespace"):
        napt = checks.namespace(variables["napt_namespace"], "map_ce_napt_namespace")
        own = {napt: "map_ce_napt_namespace"}
    elif transport == "map-t":
        softwire = checks.namespace(variables.get("translator_namespace"), "map_ce_translator_namespace")
        own = {softwire: "map_ce_translator_namespace"}
    return {
        "namespaces": {"napt": napt, "softwire": softwire},
        "own": own,
        "has_veth": own != {},
        "napt_elsewhere": napt != "main",
        "translates_here": transport == "map-t" and softwire == "main",
    }


def backend_of(variables, layout, transport):
    """Who makes the links, addresses and routes."""
    path = "map_ce_network_backend"
    backend = checks.one_of(variables.get("network_backend"), path, ("service", "networkd"))
    if backend == "networkd" and transport != "map-e":
        raise MapError(path, backend, "is for MAP-E only: systemd-networkd has no translator; use service")
    if backend == "networkd" and layout["own"]:
        raise MapError(path, backend, "systemd-networkd does not reach into another network namespace; "
                                      "set map_ce_napt_namespace to \"\", or use service")
    return backend


def dns_servers(variables, backend):
    path = "map_ce_dns_servers"
    servers = checks.listed(variables.get("dns_servers"), path)
    if servers and backend != "networkd":
        raise MapError(path, servers, "is for map_ce_network_backend: networkd; this router's DNS servers are set elsewhere")
    return [str(checks.any_address(server, f"{path}[{index}]")) for index, server in enumerate(servers)]


def lan_of(variables, ce, moved):
    """The LAN: its interfaces, each address with the interface it belongs to, and which networks need no NAT."""
    interfaces = [
        checks.interface(name, f"map_ce_lan_interfaces[{index}]")
        for index, name in enumerate(checks.listed(variables.get("lan_interfaces"), "map_ce_lan_interfaces"))
    ]
    checks.required(interfaces, "map_ce_lan_interfaces")
    for index, name in enumerate(interfaces):
        if name in interfaces[:index]:
            raise MapError(f"map_ce_lan_interfaces[{index}]", name, "is listed twice")
    if variables.get("wan_interface") in interfaces:
        raise MapError("map_ce_lan_interfaces", variables["wan_interface"], "is map_ce_wan_interface too; LAN and WAN need interfaces of their own")
    addresses = []
    for index, entry in enumerate(checks.listed(variables.get("lan_addresses"), "map_ce_lan_addresses")):
        path = f"map_ce_lan_addresses[{index}]"
        if isinstance(entry, dict):
            checks.keys(entry, path, ("address", "interface"), ("address", "interface"))
            interface = checks.one_of(entry["interface"], f"{path}.interface", interfaces)
            address = checks.interface_address(entry["address"], f"{path}.address")
        else:
            interface, address = interfaces[0], checks.interface_address(entry, path)
        addresses.append({"address": str(address), "version": address.version, "network": str(address.network), "interface": interface})
    if moved and not any(entry["version"] == 4 for entry in addresses):
        raise MapError("map_ce_lan_addresses", variables["lan_addresses"],
                       "needs an IPv4 address for the LAN: its interface moves into map_ce_napt_namespace and loses the one it has")
    routed = {entry["network"] for entry in addresses if entry["version"] == 6} - {"fe80::/64", "fe80::/10"}
    return {
        "interfaces": interfaces,
        "addresses": addresses,
        "ipv6_networks": sorted(routed),
        "own_networks": own_networks(addresses, ce),
    }


def own_networks(addresses, ce):
    """The LAN's networks inside the IPv4 prefix of this CE: public addresses, so they are routed without NAT."""
    if not ce["ipv4_prefix"]:
        return []
    own = ipaddress.ip_network(ce["ipv4_prefix"])
    networks = {ipaddress.ip_network(entry["network"]) for entry in addresses if entry["version"] == 4}
    return sorted(str(network) for network in networks if network.subnet_of(own))


def veth_of(variables, instance, dmr):
    """The veth pair between the main namespace and the other one."""
    network = checks.network(variables.get("veth_network"), "map_ce_veth_network", 4)
    if network.prefixlen > 30:
        raise MapError("map_ce_veth_network", str(network), "needs room for two addresses: a /30 or shorter")
    first, second = (str(network[index]) for index in (1, 2))
    in_main, in_other = f"{instance}-veth", f"{instance}-main"
    return {
        "network": str(network),
        # The same as the translator would write it as a source.
        "embedded": embedded(network, ipaddress.ip_network(dmr)) if dmr else None,
        "prefix_length": network.prefixlen,
        "main": {"device": in_main, "ipv4": first, "ipv6": "fe80::1"},
        "other": {"device": in_other, "ipv4": second, "ipv6": "fe80::2"},
    }


def embedded(network, dmr):
    """An IPv4 network inside the DMR: its bits follow the prefix, but leave out bits 64 to 71 (RFC 6052 section 2.2)."""
    bits = f"{int(dmr.network_address):0128b}"[: dmr.prefixlen] + f"{int(network.network_address):032b}"[: network.prefixlen]
    if dmr.prefixlen <= 64 < len(bits):
        bits = bits[:64] + 8 * "0" + bits[64:]
    return str(ipaddress.IPv6Network((int(bits.ljust(128, "0"), 2), len(bits))))


def nat_sources(variables, lan, ce, veth):
    """The IPv4 networks that may use the softwire: the LAN's, unless the variable names others."""
    given = checks.listed(variables.get("nat_sources"), "map_ce_nat_sources")
    if given:
        sources = [str(checks.network(value, f"map_ce_nat_sources[{index}]", 4)) for index, value in enumerate(given)]
    else:
        networks = {entry["network"] for entry in lan["addresses"] if entry["version"] == 4}
        sources = sorted(networks - set(lan["own_networks"]))
    if not lan["own_networks"]:
        checks.required(sources, "map_ce_nat_sources (or map_ce_lan_addresses)")
    # Merged, since an nftables set refuses elements that overlap.
    sources = [str(network) for network in ipaddress.collapse_addresses(map(ipaddress.ip_network, sources))]
    own = ipaddress.ip_network(ce["ipv4_prefix"] or ce["ipv4_address"])
    for used in [*sources, str(own)]:
        if ipaddress.ip_network(used).overlaps(ipaddress.ip_network(veth["network"])):
            raise MapError("map_ce_veth_network", veth["network"], f"overlaps {used}; choose a network that nobody uses", "RFC 7335")
    for source in sources:
        if ipaddress.ip_network(source).overlaps(own):
            raise MapError("map_ce_nat_sources", source, f"overlaps this CE's own {own}; a LAN needs addresses of its own")
    return sources


def timeouts_of(variables):
    """Seconds by name; five days, the kernel's own limit of an established connection, are the most."""
    path = "map_ce_conntrack_timeouts"
    given = checks.keys(variables.get("conntrack_timeouts"), path, tuple(TIMEOUTS), ())
    return {**TIMEOUTS, **{name: checks.integer(value, f"{path}.{name}", 1, 432000) for name, value in given.items()}}


def port_forwards(variables, ce):
    """The checked port forwards; none outside the port set, none twice."""
    forwards, taken = [], {}
    for index, entry in enumerate(checks.listed(variables.get("port_forwards"), "map_ce_port_forwards")):
        path = f"map_ce_port_forwards[{index}]"
        checks.keys(entry, path, FORWARD_KEYS, ("port", "to_address"))
        protocol = checks.one_of(entry.get("protocol", "tcp_udp"), f"{path}.protocol", ("tcp", "udp", "tcp_udp"))
        port = in_port_set(entry["port"], f"{path}.port", ce, [forward["port"] for forward in forwards])
        for one in protocol.split("_"):
            if (port, one) in taken:
                raise MapError(f"{path}.port", port, f"is forwarded by {taken[port, one]} already ({one})")
            taken[port, one] = path
        forwards.append({
            "port": port,
            "protocol": protocol,
            "to_address": str(checks.address(entry["to_address"], f"{path}.to_address", 4)),
            "to_port": checks.integer(entry.get("to_port", port), f"{path}.to_port", 1, 65535),
            "comment": comment_of(entry.get("comment", ""), f"{path}.comment"),
        })
    return forwards


def comment_of(value, path):
    if not isinstance(value, str) or len(value) > 100 or any(not char.isprintable() or char in "\"\\" for char in value):
        raise MapError(path, value, "must be at most 100 printable characters without quotation marks and backslashes")
    # nftables counts bytes, and takes 128 of them.
    return value.encode()[:100].decode(errors="ignore")


def in_port_set(value, path, ce, taken):
    port = checks.integer(value, path, 1, 65535)
    if not any(low <= port <= high for low, high in ce["port_ranges"]):
        free = ", ".join(map(str, nearest_ports(port, ce["port_ranges"], taken)))
        raise MapError(path, port, f"is not in this CE's port set; the nearest free ports of the set are {free}", "RFC 7597 section 5.1")
    return port


def map_prefix(ce):
    """What the translator maps the IPv4 address or prefix to, as RFC 7757 wants it: the bits follow the prefix at once."""
    if ce["ipv4_address"]:
        return ce["map_address"] + "/128"
    ipv4_position = 80 if ce["interface_id"] == "rfc7597" else 72
    length = ipv4_position + ipaddress.ip_network(ce["ipv4_prefix"]).prefixlen
    return f"{ce['map_address']}/{length}"
