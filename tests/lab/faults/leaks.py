"""What a customer edge may put on its WAN: frames as the border relays get them."""

from __future__ import annotations

import ipaddress
import struct

IPV4, IPV6 = 0x0800, 0x86DD
ICMP, IPIP, TCP, UDP, FRAGMENT, ICMPV6, OPTIONS = 1, 4, 6, 17, 44, 58, 60
ECHO = {ICMP: (0, 8), ICMPV6: (128, 129)}
ERRORS_END = 128  # ICMPv6 types below are errors (RFC 4443 section 2.1)
DMR = ipaddress.ip_network("64:ff9b::/96")


def fault(frame, edges):
    """Why a frame from a CE must not be on the wire, None for one of its softwire, "" for what is not IPv4 at all.

    edges: what the CE may be, as the filter softwire.map.ce gives it.
    """
    kind, = struct.unpack_from("!H", frame, 12)
    if kind == IPV4:
        return "bare IPv4"
    if kind != IPV6:
        return ""
    header, (source, target) = frame[14:54], (ipaddress.ip_address(frame[start:start + 16]) for start in (22, 38))
    protocol, offset, later = header[6], 54, False
    while protocol in (OPTIONS, FRAGMENT):
        later = protocol == FRAGMENT and struct.unpack_from("!H", frame, offset + 2)[0] >> 3 > 0
        length = 8 if protocol == FRAGMENT else 8 + 8 * frame[offset + 1]
        protocol, offset = frame[offset], offset + length
    if protocol == IPIP:
        inner, length = frame[offset:], 4 * (frame[offset] & 15)
        address = ipaddress.ip_address(inner[12:16])
        later = struct.unpack_from("!H", inner, 6)[0] & 0x1FFF > 0
        number = None if later else number_of(inner[9], inner[length:])
        edge = owner(edges, address, number)
        if edge is None:
            return f"{address} with port or identifier {number} inside the tunnel"
        return None if str(source) == edge["map_address"] else f"{address}, {number} from {source}"
    if protocol == ICMPV6 and frame[offset] < ERRORS_END and not any(source in ipaddress.ip_network(edge["end_user_prefix"]) for edge in edges):
        return ""  # as any IPv6 router answers what is for a prefix that is not its own any more
    if target in DMR:
        number = None if later else number_of(protocol, frame[offset:])
        for edge in edges:
            if str(source) == edge["map_address"] and owner([edge], ipaddress.ip_address(edge["ipv4_address"]), number):
                return None
        return f"translated, from {source} with port or identifier {number}"
    return ""


def number_of(protocol, payload):
    """The source port or the identifier of an echo; None where there is none."""
    if protocol in (TCP, UDP):
        return struct.unpack_from("!H", payload)[0]
    if payload[0] in ECHO.get(protocol, ()):
        return struct.unpack_from("!H", payload, 4)[0]
    return None


def has(edge, number):
    """Whether a port or identifier is in the port set of a CE."""
    return any(low <= number <= high for low, high in edge["port_ranges"])


def owner(edges, address, number):
    """The CE among these that has an IPv4 address and port; number: None where the packet has none."""
    for edge in edges:
        if ipaddress.ip_address(edge["ipv4_address"]) == address and (number is None or has(edge, number)):
            return edge
    return None
