"""What is measured at a border relay: the routers, the traffic and the cases. Only computes; guest.py carries it out.

Every router has four interfaces. Packets arrive at "inet" (from the IPv4 internet) and "core" (from the CEs), the ends
of two veth pairs; they leave by "inet-out" and "core-out", two dummy devices, always through a gateway: a CE that is a
neighbour of its own would measure the neighbour table.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import packets
import yaml

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain, port_ranges
from ansible_collections.softwire.map.plugins.module_utils.routers import deployment
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain

ROLES = Path(__file__).resolve().parents[3] / "roles"
KINDS = {"map_br": "border_relay", "map_ce": "customer_edge"}

# 25 EA bits: 17 of the IPv4 address and 8 of the PSID, so 33,554,432 possible CEs with 252 ports each.
RULE = {"ipv6_prefix": "3fff::/31", "ipv4_prefix": "198.18.0.0/15", "ea_length": 25, "psid_offset": 6}
# 8 EA bits: 256 possible CEs behind one address.
SMALL_RULE = {"ipv6_prefix": "3fff::/48", "ipv4_prefix": "198.18.0.1/32", "ea_length": 8, "psid_offset": 6}
PSIDS = 256
BR = IPv6Address("2001:db8:ffff::1")
DMR = IPv6Network("64:ff9b::/96")
UNSHARED = IPv4Network("100.64.0.0/10")  # a whole address for every CE: what tunnels without ports are compared by

SERVER, SERVER_PORT = IPv4Address("198.51.100.9"), 4000
IPV4_LENGTH = 100  # bytes of every IPv4 packet
ROUTER_MAC = bytes.fromhex("020000000001")
GATEWAY_MAC = bytes.fromhex("020000000002")
STRANGER_MAC = bytes.fromhex("020000000003")

ADDRESSES = f"""
link set lo up
link set inet address {ROUTER_MAC.hex(":")}
link set core address {ROUTER_MAC.hex(":")}
link set inet up
link set core up
link set inet-out up
link set core-out up
addr add 203.0.113.1/24 dev inet-out
neigh add 203.0.113.2 lladdr {GATEWAY_MAC.hex(":")} dev inet-out
route add default via 203.0.113.2
addr add 192.0.2.1/24 dev core-out
neigh add 192.0.2.2 lladdr {GATEWAY_MAC.hex(":")} dev core-out
addr add 2001:db8:f::1/64 dev core-out nodad
neigh add 2001:db8:f::2 lladdr {GATEWAY_MAC.hex(":")} dev core-out
route add {RULE["ipv6_prefix"]} via 2001:db8:f::2
"""


@dataclass(frozen=True)
class CE:
    """One customer edge and a port of its set."""

    ipv4: IPv4Address
    psid: int
    port: int
    map_address: IPv6Address
    unshared: IPv4Address


@dataclass(frozen=True)
class Case:
    """One measurement: this traffic through this router.

    direction: at a border relay "down", from the internet to CEs, or "up"; at a customer edge "out", from the LAN, or "in".
    leaving: the part of a packet that leaves, as a slice, which is compared with what `expected` says; None: it must not leave.
    """

    label: str
    direction: str
    count: int
    router: str
    traffic: str
    leaving: tuple[int, int] | None
    expected: str

    @property
    def name(self) -> str:
        return f"{self.router} {self.traffic}"

    @property
    def way(self) -> str:
        """The direction at a border relay that has the same interfaces."""
        return {"out": "down", "in": "up"}.get(self.direction, self.direction)


OUTER_DESTINATION = (38, 54)  # of an Ethernet frame with an IPv6 packet
IPV4_DESTINATION = (30, 34)
IPV4_SOURCE_AND_PORT = (26, 36)  # with the destination between them, of a frame with an IPv4 packet without options

GENERATOR = Case("the generator alone", "down", 32, "plain", "stranger-32", None, "")


def customer_edges(count: int) -> list[CE]:
    """This many CEs (a power of two, at most 131,072) all over the rule, each with another IPv4 address."""
    arithmetic = Domain(domain("map-e", RULE))
    rule, = arithmetic.rules
    base, length = rule.ipv6, rule.end_user_length
    edges = []
    for number in range(count):
        suffix, psid = number * (1 << rule.suffix_length) // count, number * 37 % PSIDS
        prefix = IPv6Address(base | (suffix << 8 | psid) << (128 - length))
        ce = arithmetic.ce(f"{prefix}/{length}")
        edges.append(CE(
            IPv4Address(ce["ipv4_address"]), ce["psid"], ce["port_ranges"][number % 63][0],
            IPv6Address(ce["map_address"]), UNSHARED[number],
        ))
    return edges


def domain(transport: str, rule: dict) -> dict:
    """A checked domain with one rule."""
    peer = {"br_address": str(BR)} if transport == "map-e" else {"dmr": str(DMR)}
    return parse_domain({"transport": transport, "rules": [rule], **peer})


# ---- traffic ----

def datagram(source, source_port: int, destination, destination_port: int) -> bytes:
    """A UDP packet; an IPv4 packet of it has IPV4_LENGTH bytes."""
    return packets.udp(source, destination, source_port, destination_port, bytes(IPV4_LENGTH - 28))


def frame(packet: bytes, destination: bytes = ROUTER_MAC) -> bytes:
    return destination + GATEWAY_MAC + struct.pack("!H", packets.IPV6 if packet[0] >> 4 == 6 else packets.IPV4) + packet


def to_ce(ce: CE) -> bytes:
    return frame(datagram(SERVER, SERVER_PORT, ce.ipv4, ce.port))


def to_stranger(ce: CE) -> bytes:
    """A frame that a router drops because it is for another machine."""
    return frame(datagram(SERVER, SERVER_PORT, ce.ipv4, ce.port), STRANGER_MAC)


def to_unshared(ce: CE) -> bytes:
    return frame(datagram(SERVER, SERVER_PORT, ce.unshared, ce.port))


def from_ce(ce: CE) -> bytes:
    return frame(datagram(ce.ipv4, ce.port, SERVER, SERVER_PORT))


def from_ce_map_e(ce: CE) -> bytes:
    return frame(packets.ipv6(ce.map_address, BR, packets.IPIP, datagram(ce.ipv4, ce.port, SERVER, SERVER_PORT)))


def from_ce_map_t(ce: CE) -> bytes:
    server = IPv6Address(int(DMR.network_address) | int(SERVER))
    return frame(datagram(ce.map_address, ce.port, server, SERVER_PORT))


FRAMES = {
    "stranger": to_stranger, "down": to_ce, "unshared": to_unshared,
    "up": from_ce, "map-e": from_ce_map_e, "map-t": from_ce_map_t,
}
EXPECTED = {
    "destination": lambda ce: ce.ipv4.packed,
    "map-address": lambda ce: ce.map_address.packed,
    "source": lambda ce: ce.ipv4.packed + SERVER.packed + struct.pack("!H", ce.port),
}


# ---- routers ----

def generation(role: str, given: dict) -> dict[str, bytes]:
    """The files of a router, as its role makes them of these variables (without prefix) and its defaults."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    variables = {name.removeprefix(role + "_"): value for name, value in defaults.items() if "{{" not in str(value)}
    _name, files = deployment.read({KINDS[role]: {**variables, **given}}).alternatives[0]
    return {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}


def relay(instance: str, transport: str, rule: dict, **given: object) -> dict[str, bytes]:
    """The files of a border relay."""
    return generation("map_br", {
        "instance": instance, "domains": [domain(transport, rule)], "ipv4_interface": "inet", "ipv6_interface": "core", "fast_path": False, **given})


PLAIN = {"ip": f"route add {RULE['ipv4_prefix']} via 192.0.2.2 dev core-out\n", "nft": ""}


def tunnels(count: int, shared: bool) -> dict[str, str]:
    """What a router without the collection has: a tunnel device for every CE.

    shared: CEs share addresses, so the PSID of a packet becomes its mark, and one routing table per PSID holds the CEs
    that have it. Otherwise every CE has an address of its own, and routes do all. Neither checks what comes from CEs,
    and with shared addresses fragments are lost.
    """
    lines = [f"addr add {BR}/128 dev lo"]
    if shared:
        lines += [f"rule add fwmark {psid}/{PSIDS - 1} table {1000 + psid}" for psid in range(PSIDS)]
    for number, ce in enumerate(customer_edges(count)):
        to = f"{ce.ipv4}/32 dev t{number} table {1000 + ce.psid}" if shared else f"{ce.unshared}/32 dev t{number}"
        lines += [
            f"link add t{number} type ip6tnl mode ipip6 local {BR} remote {ce.map_address} encaplimit none",
            f"link set t{number} mtu 1460 addrgenmode none up",
            f"route add {to}",
        ]
    return {"ip": "\n".join(lines) + "\n", "nft": marks() if shared else ""}


def marks() -> str:
    """nftables rules that make the PSID of a packet its mark."""
    known = ", ".join(
        f"{low}-{high} : {psid}" for psid in range(PSIDS) for low, high in port_ranges(psid, PSIDS.bit_length() - 1, RULE["psid_offset"])
    )
    return f"""
table ip demultiplex {{
    chain prerouting {{
        type filter hook prerouting priority mangle;
        ip daddr {RULE['ipv4_prefix']} meta l4proto {{ tcp, udp }} meta mark set th dport map {{ {known} }}
    }}
}}
"""


def cases(counts: list[int], tunnel_counts: list[int]) -> list[Case]:
    """Every case, what is compared side by side: first the plain router, then the others, per direction and count."""
    chosen = [GENERATOR]
    map_t_counts = {counts[0], counts[min(1, len(counts) - 1)]}
    for direction in ("down", "up"):
        for count in sorted({*counts, *tunnel_counts}):
            chosen += cases_of(direction, count, count in counts, count in map_t_counts, count in tunnel_counts)
    return chosen


def cases_of(direction: str, count: int, map_e: bool, map_t: bool, tunnel: bool) -> list[Case]:
    down = direction == "down"
    plain, encapsulated, translated = (["down"] * 3 if down else ["up", "map-e", "map-t"])
    place, expected = (OUTER_DESTINATION, "map-address") if down else (IPV4_SOURCE_AND_PORT, "source")
    plain_place, plain_expected = (IPV4_DESTINATION, "destination") if down else (place, expected)

    def case(label, router, traffic, place=place, expected=expected):
        return Case(label, direction, count, router, f"{traffic}-{count}", place, f"{expected}-{count}")

    chosen = [case("plain forwarding", "plain", plain, plain_place, plain_expected)]
    if map_e and down:
        chosen.append(case("MAP-E, fast path", "fast", encapsulated))
    if map_e:
        chosen.append(case("MAP-E, general path" if down else "MAP-E", "general", encapsulated))
    if map_t:
        chosen.append(case("MAP-T", "bpf", translated))
        chosen.append(case("MAP-T on jool_siit", "siit", translated))
    if tunnel:
        chosen.append(case("an ip6tnl device per CE, shared addresses", f"shared-{count}", encapsulated))
        chosen.append(case("an ip6tnl device per CE, an address each", f"unshared-{count}", "unshared" if down else "map-e"))
    return chosen
