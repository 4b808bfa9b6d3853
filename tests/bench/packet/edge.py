"""The customer edge in the benchmark: its routers, and the frames of a flow between a host of its LAN and a server.

The host has a forwarded port, so that it is known in advance by which port it speaks. The NAPT in front of the softwire is the
same for every row, and part of what is measured.
"""
from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import packets
import workload

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain

# One customer edge of the 33 million: the one with the IPv4 suffix 9 and the PSID 37.
PREFIX_LENGTH = 56
PREFIX = f"{IPv6Address(int(IPv6Address(workload.RULE['ipv6_prefix'].split('/')[0])) | (9 << 8 | 37) << (128 - PREFIX_LENGTH))}/{PREFIX_LENGTH}"
HOST, HOST_PORT = IPv4Address("192.168.0.2"), 8080
SERVER_IN_DMR = IPv6Address(int(workload.DMR.network_address) | int(workload.SERVER))

# The host is behind a gateway, like everything in this benchmark.
ADDRESSES = f"""
addr add 192.168.0.1/24 dev inet
route add {HOST} via 203.0.113.2 dev inet-out
route add default via 2001:db8:f::2
"""
# name of the router: (label, transport, translator)
ROUTERS = {
    "edge_bpf": ("MAP-T", "map-t", "bpf"),
    "edge_siit": ("MAP-T on jool_siit", "map-t", "jool_siit"),
    "edge_mape": ("MAP-E", "map-e", "auto"),
}
OUTER_ADDRESSES = (22, 54)  # of an Ethernet frame with an IPv6 packet
OUTER_ADDRESSES_AND_PORT = (22, 56)
IPV4_ADDRESSES_AND_PORT = (26, 36)  # of a frame with an IPv4 packet without options


def edge(transport: str) -> dict:
    """What the filter softwire.map.ce returns."""
    return Domain(workload.domain(transport, workload.RULE)).ce(PREFIX)


def port() -> int:
    """The forwarded port."""
    return edge("map-t")["port_ranges"][3][1]


def generation(name: str) -> dict[str, bytes]:
    """The files of a customer edge, as the role makes them."""
    _label, transport, translator = ROUTERS[name]
    return workload.generation("map_ce", {
        "instance": name, "domain": workload.domain(transport, workload.RULE), "end_user_prefix": PREFIX, "translator": translator,
        "wan_interface": "core", "lan_interfaces": ["inet"], "lan_addresses": ["192.168.0.1/24"],
        "napt_namespace": "", "translator_namespace": f"{name}_t",
        "port_forwards": [{"protocol": "udp", "port": port(), "to_address": str(HOST), "to_port": HOST_PORT}],
    })


# Each flow is to another port of the server: any number that differs by flow serves, such as the port of some other CE.

def from_host(other: workload.CE) -> bytes:
    return workload.frame(workload.datagram(HOST, HOST_PORT, workload.SERVER, other.port))


def translated(other: workload.CE) -> bytes:
    return workload.frame(workload.datagram(SERVER_IN_DMR, other.port, edge("map-t")["map_address"], port()))


def encapsulated(other: workload.CE) -> bytes:
    ce = edge("map-e")
    inner = workload.datagram(workload.SERVER, other.port, ce["ipv4_address"], port())
    return workload.frame(packets.ipv6(workload.BR, ce["map_address"], packets.IPIP, inner))


def to_relay(_other: workload.CE) -> bytes:
    return IPv6Address(edge("map-e")["map_address"]).packed + workload.BR.packed


def to_dmr(_other: workload.CE) -> bytes:
    return IPv6Address(edge("map-t")["map_address"]).packed + SERVER_IN_DMR.packed + port().to_bytes(2, "big")


def to_host(other: workload.CE) -> bytes:
    return workload.SERVER.packed + HOST.packed + other.port.to_bytes(2, "big")


FRAMES = {"lan": from_host, "edge-t": translated, "edge-e": encapsulated}
EXPECTED = {"relay": to_relay, "dmr": to_dmr, "host": to_host}


def cases(count: int) -> list[workload.Case]:
    """Out of the LAN and back into it; count: of flows."""
    chosen = []
    for name, (label, transport, _translator) in ROUTERS.items():
        tunnel = transport == "map-e"
        chosen += [
            workload.Case(label, "out", count, name, f"lan-{count}", OUTER_ADDRESSES if tunnel else OUTER_ADDRESSES_AND_PORT,
                          f"{'relay' if tunnel else 'dmr'}-{count}"),
            workload.Case(label, "in", count, name, f"edge-{'e' if tunnel else 't'}-{count}", IPV4_ADDRESSES_AND_PORT, f"host-{count}"),
        ]
    return chosen
