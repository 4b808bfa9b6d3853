# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role map_ce is told: every variable read, checked by itself and beside the others, into one record."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from ..mapping import checks
from ..mapping.arithmetic import Domain
from ..mapping.domain import PORTS, parse_domain
from ..mapping.errors import MapError
from ..mapping.isp import isp_domain, isp_mesh
from ..mapping.port_index import nearest_ports, port_index
from . import bpf_rule
from . import instance as instances
from .variables import Variables

# Seconds that an idle connection keeps its port: the least that is allowed (README, "Time-outs").
TIMEOUTS = {"tcp_established": 7440, "tcp_transitory": 240, "tcp_time_wait": 30, "udp": 120, "dns": 10, "icmp": 60}
LONGEST_TIMEOUT = 432000  # seconds: five days, the kernel's own limit of an established connection
ADDRESS_KEYS = ("address", "interface")
FORWARD_KEYS = ("port", "protocol", "to_address", "to_port", "comment")
IPV6_FORWARD_KEYS = ("address", "protocol", "port")
PROTOCOLS = ("tcp", "udp", "tcp_udp")
KERNEL_TABLES = range(253, 256)
MESH = {"auto": None, "true": True, "false": False}  # None: as the domain or the ISP has it


@dataclass(frozen=True)
class CustomerEdge:
    """The checked variables of a customer edge.

    ce: what the filter softwire.map.ce returns, whose fmrs are those that map_ce_mesh leaves it; index: what port_index returns.
    """

    instance: str
    ce: dict[str, Any]
    br_addresses: list[str]  # MAP-E: all of the domain
    sends_directly: bool  # to other customer edges, by the FMRs; it takes from them in any case
    carriers: tuple[str, ...]
    wan_interface: str
    wan_gateway: str | None
    wan_mtu: int
    lan_interfaces: list[str]
    lan_addresses: list[dict[str, Any]]  # address, version, network and interface of each
    own_networks: list[str]  # of the LAN, inside the CE's IPv4 prefix: public, so routed without NAT
    nat_sources: list[str]  # merged, since an nftables set refuses elements that overlap
    network_backend: str
    dns_servers: list[str]
    napt_namespace: str  # "": the main one
    translator_namespace: str
    veth_network: IPv4Network
    route_table: int
    port_forwards: list[dict[str, Any]]
    reserved_ports: list[int]
    index: dict[str, Any]
    max_ports_per_client: int
    conntrack_timeouts: dict[str, int]
    conntrack_max: int
    ipv6_forwards: list[dict[str, Any]] | None  # address, protocol and port of each; None: no firewall of the LAN's IPv6


def read(variables: Variables, instance: str | None, warn: Callable[[str], None] | None = None) -> CustomerEdge:
    """The record of these variables. Raises MapError, with all faults at once.

    instance: its checked name. warn: gets a text for each thing that is legal but odd.
    """
    domain, ce = _ce(variables, warn)
    mesh, sends_directly = _mesh(variables, domain, ce)
    wan_mtu = variables.get("wan_mtu", checks.integer, 1280, 65535)
    if warn and wan_mtu == 24 * 60:
        warn("map_ce_wan_mtu: 1440: YAML also reads 24:00 as this number; if an address was meant, quote it")
    wan_interface = variables.required("wan_interface", checks.interface)
    lan_interfaces = _lan_interfaces(variables, wan_interface)
    lan_addresses = _lan_addresses(variables, lan_interfaces)
    napt_namespace = variables.optional("napt_namespace", checks.namespace) or ""
    if napt_namespace and _all_read(variables, "lan_addresses", lan_addresses) and not any(entry["version"] == 4 for entry in lan_addresses):
        variables.fault("lan_addresses", variables.raw("lan_addresses"),
                        "needs an IPv4 address for the LAN: its interface moves into map_ce_napt_namespace and loses the one it has")
    translator_namespace = variables.raw("translator_namespace")
    if ce and ce["transport"] == "map-t" and not variables.raw("napt_namespace"):
        translator_namespace = variables.get("translator_namespace", checks.namespace)
    backend, dns_servers = _backend(variables, ce)
    veth_network = _veth_network(variables)
    own_networks = _own_networks(lan_addresses, ce)
    nat_sources = _nat_sources(variables, lan_addresses, own_networks)
    if not napt_namespace and _all_read(variables, "lan_addresses", lan_addresses) and not nat_sources + own_networks:
        variables.faults.add("map_ce_nat_sources (or map_ce_lan_addresses)", [], "is required; set it in the inventory")
    if ce and veth_network:
        _refuse_overlaps(variables, ipaddress.ip_network(ce["ipv4_prefix"] or ce["ipv4_address"]), nat_sources, veth_network)
    forwards = _port_forwards(variables, ce, {*nat_sources, *own_networks})
    reserved = variables.each("reserved_ports", _in_port_set, ce, [])
    record = CustomerEdge(
        instance=instance,
        ce=ce,
        br_addresses=(domain or {}).get("br_address") or [],
        sends_directly=sends_directly,
        carriers=_carriers(variables, ce, mesh),
        wan_interface=wan_interface,
        wan_gateway=str(variables.optional("wan_gateway", checks.address, 6) or "") or None,
        wan_mtu=wan_mtu,
        lan_interfaces=lan_interfaces,
        lan_addresses=lan_addresses,
        own_networks=own_networks,
        nat_sources=nat_sources,
        network_backend=backend,
        dns_servers=dns_servers,
        napt_namespace=napt_namespace,
        translator_namespace=translator_namespace,
        veth_network=veth_network,
        route_table=_route_table(variables),
        port_forwards=forwards,
        reserved_ports=reserved,
        index=_index(variables, ce, [forward["port"] for forward in forwards] + reserved),
        max_ports_per_client=variables.get("max_ports_per_client", checks.integer, 0, 65535),
        conntrack_timeouts=_timeouts(variables),
        conntrack_max=variables.get("conntrack_max", checks.integer, 0, 2**31 - 1),
        ipv6_forwards=_ipv6_forwards(variables),
    )
    variables.refuse_unknown()
    variables.faults.refuse()
    return record


def domain_of(domain: Any, isp: Any, end_user_prefix: Any) -> Any:
    """The domain as it was given, or the one of the ISP that was named. Raises MapError."""
    if not isp:
        return checks.required(domain, "map_ce_domain")
    if domain:
        raise MapError("map_ce_isp", isp, "map_ce_domain (by default map_domain) is set, too; remove one of them")
    return isp_domain(isp, end_user_prefix, isp_path="map_ce_isp", path="map_ce_end_user_prefix")


def _ce(variables: Variables, warn: Callable[[str], None] | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The checked domain, and what it gives this customer edge."""
    domain, isp = variables.raw("domain"), variables.raw("isp")
    end_user_prefix = variables.get("end_user_prefix", checks.required)
    if end_user_prefix is None:
        if domain and not isp:
            variables.faults.check(parse_domain, domain, "map_ce_domain")
        return None, None
    written = variables.faults.check(domain_of, domain, isp, end_user_prefix)
    parsed = variables.faults.check(parse_domain, written, "map_ce_domain", warn) if written is not None else None
    if parsed is None:
        return None, None
    return parsed, variables.faults.check(Domain(parsed).ce, end_user_prefix, "map_ce_end_user_prefix")


def _mesh(variables: Variables, domain: Mapping[str, Any] | None, ce: dict[str, Any] | None) -> tuple[bool | None, bool]:
    """Writes the FMRs that map_ce_mesh leaves into `ce`. Returns the variable's value (None: auto), and whether packets are sent by them."""
    written = variables.raw("mesh")
    name = variables.faults.check(checks.choice, str(written).lower() if isinstance(written, bool) else written, "map_ce_mesh", tuple(MESH))
    if not name or not domain or not ce:
        return None, False
    mesh, isp = MESH[name], variables.raw("isp")
    if mesh is False:
        ce["fmrs"] = []
        return mesh, False
    if isp:
        ce["fmrs"], sends_directly = isp_mesh(isp, "map_ce_isp")
        return mesh, bool(mesh) or sends_directly
    if mesh:
        ce["fmrs"] = domain["rules"]
    return mesh, bool(ce["fmrs"])


def _carriers(variables: Variables, ce: Mapping[str, Any] | None, mesh: bool | None) -> tuple[str, ...]:
    wanted = variables.get("translator", checks.choice, ("auto", *instances.TRANSLATORS))
    if not ce or not wanted:
        return ()
    if ce["transport"] == "map-e":
        return _tunnels(variables, ce, mesh)
    explicit = ce["rule"]["psid"] is not None
    carriers = variables.faults.check(instances.carriers, "ce", ce["transport"], wanted, explicit) or ()
    if instances.BPF not in carriers or not any(map(bpf_rule.is_too_long, ce["fmrs"])):
        return carriers
    if wanted == instances.BPF:
        variables.fault("translator", wanted, "serves forwarding mapping rules (fmr: true) with end-user prefixes of at most /64, and one of the "
                                              "domain has longer ones; leave it to auto, or take fmr away from that rule", "RFC 7597 section 5.2")
    return tuple(carrier for carrier in carriers if carrier != instances.BPF)


def _tunnels(variables: Variables, ce: Mapping[str, Any], mesh: bool | None) -> tuple[str, ...]:
    """What carries MAP-E: where there are FMRs the programs first, and the tunnel to the border relay where those cannot be had."""
    if not ce["fmrs"]:
        return (instances.TUNNEL,)
    reason, reference = None, None
    if any(map(bpf_rule.is_too_long, ce["fmrs"])):
        reason, reference = "needs rules with end-user prefixes of at most /64, and one of the domain has longer ones", "RFC 7597 section 5.2"
    elif variables.raw("network_backend") == "networkd":
        reason = "is not for map_ce_network_backend: networkd, of which not every version can make such a device; use service"
    if not mesh:
        return (instances.TUNNEL,) if reason else (instances.MESH, instances.TUNNEL)
    if reason:
        variables.fault("mesh", mesh, f"{reason}; or leave it to auto", reference)
    return (instances.MESH,)


def _lan_interfaces(variables: Variables, wan_interface: str | None) -> list[str]:
    interfaces = variables.each("lan_interfaces", checks.interface)
    written = variables.raw("lan_interfaces")
    if not written:
        variables.get("lan_interfaces", checks.required)
    for index, name in enumerate(interfaces):
        if name in interfaces[:index]:
            variables.faults.add(f"map_ce_lan_interfaces[{index}]", name, "is listed twice")
    if wan_interface and wan_interface in interfaces:
        variables.fault("lan_interfaces", wan_interface, "is map_ce_wan_interface too; LAN and WAN need interfaces of their own")
    return interfaces


def _lan_addresses(variables: Variables, interfaces: list[str]) -> list[dict[str, Any]]:
    """Each address with the interface that it belongs to; a bare one belongs to the first."""

    def entry_of(entry: Any, path: str) -> dict[str, Any] | None:
        interface = interfaces[0] if interfaces else None
        if isinstance(entry, Mapping):
            fields = checks.mapping(entry, path, ADDRESS_KEYS, "an address", variables.faults)
            interface = variables.faults.check(checks.required, fields.get("interface"), f"{path}.interface")
            if interface and interfaces:
                interface = variables.faults.check(checks.choice, interface, f"{path}.interface", interfaces)
            entry, path = checks.required(fields.get("address"), f"{path}.address"), f"{path}.address"
        address = checks.interface_address(entry, path)
        return {"address": str(address), "version": address.version, "network": str(address.network), "interface": interface}

    return variables.each("lan_addresses", entry_of)


def _all_read(variables: Variables, name: str, entries: list[Any]) -> bool:
    """Whether no entry of a list was refused, which has a fault of its own."""
    written = variables.raw(name)
    return checks.is_list(written) and len(written) == len(entries)


def _own_networks(addresses: list[dict[str, Any]], ce: Mapping[str, Any] | None) -> list[str]:
    """The LAN's networks inside the IPv4 prefix of this CE."""
    if not ce or not ce["ipv4_prefix"]:
        return []
    own = ipaddress.ip_network(ce["ipv4_prefix"])
    networks = {ipaddress.ip_network(entry["network"]) for entry in addresses if entry["version"] == 4}
    return sorted(str(network) for network in networks if network.subnet_of(own))


def _nat_sources(variables: Variables, addresses: list[dict[str, Any]], own_networks: list[str]) -> list[str]:
    """The IPv4 networks that may use the softwire: the LAN's, unless the variable names others."""
    given = variables.each("nat_sources", checks.prefix, 4)
    sources = given or [
        ipaddress.ip_network(entry["network"]) for entry in addresses if entry["version"] == 4 and entry["network"] not in own_networks]
    return [str(network) for network in ipaddress.collapse_addresses(sources)]


def _refuse_overlaps(variables: Variables, own: IPv4Network, sources: list[str], veth_network: IPv4Network) -> None:
    for used in [*sources, str(own)]:
        if ipaddress.ip_network(used).overlaps(veth_network):
            variables.fault("veth_network", str(veth_network), f"overlaps {used}; choose a network that nobody uses", "RFC 7335")
    for source in sources:
        if ipaddress.ip_network(source).overlaps(own):
            variables.fault("nat_sources", source, f"overlaps this CE's own {own}; a LAN needs addresses of its own")


def _backend(variables: Variables, ce: Mapping[str, Any] | None) -> tuple[str | None, list[str]]:
    """Who makes the links, addresses and routes; and the DNS servers, which only systemd-networkd takes."""
    backend = variables.get("network_backend", checks.choice, ("service", "networkd"))
    servers = [str(server) for server in variables.each("dns_servers", checks.address)]
    if servers and backend == "service":
        variables.fault("dns_servers", variables.raw("dns_servers"),
                        "is for map_ce_network_backend: networkd; this router's DNS servers are set elsewhere")
    if backend == "networkd" and ce and ce["transport"] != "map-e":
        variables.fault("network_backend", backend, "is for MAP-E only: systemd-networkd has no translator; use service")
    elif backend == "networkd" and variables.raw("napt_namespace"):
        variables.fault("network_backend", backend, "systemd-networkd does not reach into another network namespace; "
                                                    "set map_ce_napt_namespace to \"\", or use service")
    return backend, servers


def _veth_network(variables: Variables) -> IPv4Network | None:
    network = variables.get("veth_network", checks.prefix, 4)
    if network and network.prefixlen > 30:
        variables.fault("veth_network", str(network), "needs room for two addresses: a /30 or shorter")
        return None
    return network


def _route_table(variables: Variables) -> int | None:
    table = variables.get("route_table", checks.integer, 1, 2**31 - 2)
    if table in KERNEL_TABLES or table is not None and table + 1 in KERNEL_TABLES:
        variables.fault("route_table", table, "it and the next number must not be 253 to 255, the kernel's own tables; choose another")
    return table


def _timeouts(variables: Variables) -> dict[str, int]:
    """Seconds by name."""
    path, faults = variables.path("conntrack_timeouts"), variables.faults
    given = checks.mapping(variables.raw("conntrack_timeouts"), path, tuple(TIMEOUTS), "the time-outs", faults) or {}
    return {**TIMEOUTS, **{name: faults.check(checks.integer, value, f"{path}.{name}", 1, LONGEST_TIMEOUT) for name, value in given.items()}}


def _port_forwards(variables: Variables, ce: Mapping[str, Any] | None, networks: set[str]) -> list[dict[str, Any]]:
    """The port forwards; none outside the port set, none twice, none to where no host of the LAN is.

    networks: those of the LAN.
    """
    faults, forwards = variables.faults, []
    taken: dict[tuple[int, str], str] = {}

    def forward_of(entry: Any, path: str) -> dict[str, Any] | None:
        before = len(faults.found)
        fields = checks.mapping(entry, path, FORWARD_KEYS, "a port forward", faults)
        if fields is None:
            return None
        protocol = faults.check(checks.choice, fields.get("protocol", "tcp_udp"), f"{path}.protocol", PROTOCOLS)
        port = faults.check(_required_port, fields.get("port"), f"{path}.port", ce, [forward["port"] for forward in forwards])
        to_address = faults.check(_required_address, fields.get("to_address"), f"{path}.to_address", networks)
        to_port = faults.check(checks.integer, fields.get("to_port", port if port else 1), f"{path}.to_port", 1, 65535)
        comment = faults.check(_comment, fields.get("comment", ""), f"{path}.comment")
        for one in (protocol or "").split("_") if port else ():
            if (port, one) in taken:
                faults.add(f"{path}.port", port, f"is forwarded by {taken[port, one]} already ({one})")
            taken[port, one] = path
        if len(faults.found) > before:
            return None
        forwards.append({"port": port, "protocol": protocol, "to_address": to_address, "to_port": to_port, "comment": comment})
        return forwards[-1]

    return variables.each("port_forwards", forward_of)


def _required_port(value: Any, path: str, ce: Mapping[str, Any] | None, taken: list[int]) -> int:
    return _in_port_set(checks.required(value, path), path, ce, taken)


def _required_address(value: Any, path: str, networks: set[str]) -> str:
    """The address of a host in one of the LAN's networks; where none is known, each may be."""
    address = checks.address(checks.required(value, path), path, 4)
    if networks and not any(address in ipaddress.ip_network(network) for network in networks):
        raise MapError(path, value, f"lies in no network of the LAN ({', '.join(sorted(networks))}); correct it, "
                                    "or add its network to map_ce_nat_sources")
    return str(address)


def _ipv6_forwards(variables: Variables) -> list[dict[str, Any]] | None:
    """What the firewall of the LAN's IPv6 lets in; None without that firewall."""
    faults = variables.faults
    firewall = variables.get("ipv6_firewall", checks.choice, ("none", "stateful"))

    def forward_of(entry: Any, path: str) -> dict[str, Any] | None:
        before = len(faults.found)
        fields = checks.mapping(entry, path, IPV6_FORWARD_KEYS, "an IPv6 forward", faults)
        if fields is None:
            return None
        address = faults.check(checks.required, fields.get("address"), f"{path}.address")
        port = faults.check(checks.required, fields.get("port"), f"{path}.port")
        forward = {
            "address": address and str(faults.check(checks.unicast_ipv6, address, f"{path}.address")),
            "protocol": faults.check(checks.choice, fields.get("protocol", "tcp_udp"), f"{path}.protocol", PROTOCOLS),
            "port": port and faults.check(checks.integer, port, f"{path}.port", 1, 65535),
        }
        return None if len(faults.found) > before else forward

    forwards = variables.each("ipv6_forwards", forward_of)
    if forwards and firewall == "none":
        variables.fault("ipv6_forwards", variables.raw("ipv6_forwards"),
                        "is for map_ce_ipv6_firewall: stateful; without it the role keeps nothing out, so there is nothing to let in")
    return forwards if firewall == "stateful" else None


def _comment(value: Any, path: str) -> str:
    if not isinstance(value, str) or len(value) > 100 or any(not char.isprintable() or char in "\"\\" for char in value):
        raise MapError(path, value, "must be at most 100 printable characters without quotation marks and backslashes")
    # nftables counts bytes, and takes 128 of them.
    return value.encode()[:100].decode(errors="ignore")


def _in_port_set(value: Any, path: str, ce: Mapping[str, Any] | None, taken: list[int]) -> int:
    """A port of this CE's set; without a CE any port."""
    port = checks.integer(value, path, 1, 65535)
    if ce and not any(low <= port <= high for low, high in ce["port_ranges"]):
        free = ", ".join(map(str, nearest_ports(port, ce["port_ranges"], taken)))
        raise MapError(path, port, f"is not in this CE's port set; the nearest free ports of the set are {free}", PORTS)
    return port


def _index(variables: Variables, ce: Mapping[str, Any] | None, static_ports: list[int]) -> dict[str, Any]:
    """How the NAPT uses the port set; the static ports stay out of its pool."""
    if not ce:
        return {}
    try:
        return port_index(ce["port_ranges"], static_ports)
    except ValueError as exc:
        if static_ports:
            variables.faults.add("map_ce_port_forwards and map_ce_reserved_ports", sorted(static_ports), str(exc))
        else:
            variables.fault("end_user_prefix", ce["delegated_prefix"], str(exc), PORTS)
        return {}
