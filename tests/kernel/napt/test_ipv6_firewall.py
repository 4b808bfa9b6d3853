# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The firewall of the LAN's native IPv6 with packets, in each layout, on the machine of test_guard.py: what calls out and what calls in."""

from __future__ import annotations

import os
import struct

import packets
import pytest
from packets import ACK, PSH, SYN
from test_guard import BR, ELSEWHERE, HOST6, MAP, MAPE, MAPT, MESH, OTHER_CE, Edge, check, ip6, tunnelled

ROUTER_ON_THE_WAY, OTHER_HOST = "2a00::99", "2001:db8:12:3400::11"
FORWARDS = [{"address": HOST6, "protocol": "tcp", "port": 443}, {"address": HOST6, "port": 53300}]
AH, ESP, HIP, ROUTING, IKE, IKE_LATER = 51, 50, 139, 43, 500, 4500
# RFC 4443 and 4890 section 4.3: what passes between hosts, the errors about known connections and what asks for nothing before; and what does not pass.
ERRORS = {"unreachable": 1, "packet too big": 2, "time exceeded": 3, "parameter problem": 4}
MOBILE = {"home agent discovery": 144, "its answer": 145, "mobile prefix solicitation": 146, "its advertisement": 147}
OF_A_LINK = {"router advertisement": 134, "neighbour advertisement": 136, "redirect": 137, "renumbering": 138, "node information": 139,
             "router discovery": 151, "experiment": 200, "unallocated": 160, "an experimental error": 100}


@pytest.fixture
def edge(request, sandbox):
    made = Edge(sandbox, request.param, ipv6_firewall="stateful", ipv6_forwards=FORWARDS)
    if made.napt != "main":  # packets for the MAP address that no translator takes look for a host of the LAN
        sandbox.run("ip", "-n", made.napt, "route", "add", "blackhole", MAP)
    yield made
    made.close()


def out(packet):
    return ("host", packet, None, ["isp"])


def answered(packet):
    """From the WAN, passes as a part of what is known."""
    return ("isp", packet, None, ["host"])


def let_in(packet, counter=None):
    return ("isp", packet, counter and f"ipv6_firewall.{counter}", ["host"])


def dropped(packet, counter, source="isp"):
    return (source, packet, f"ipv6_firewall.{counter}", [])


def tail():
    return os.urandom(8)


def udp(source, destination, sport, dport, data=b""):
    return packets.udp(source, destination, sport, dport, data + tail())


def tcp(source, destination, sport, dport, flags):
    return packets.tcp(source, destination, sport, dport, tail(), flags)


def echo(source, destination, sport, dport=packets.DISCARD):
    return packets.echo(source, destination, sport, dport, tail())


def message(source, destination, kind):
    return packets.icmp(source, destination, kind, 0, 0, tail())


def about(quoted, kind):
    """An error about a packet of the LAN, which ends in bytes of its own."""
    return packets.error(ROUTER_ON_THE_WAY, HOST6, quoted + tail(), kind, 1280 if kind == 2 else 0)


EACH_LAYOUT = pytest.mark.parametrize("edge", {**MAPE, **MESH, **MAPT}, indirect=True)
# The rules are the same in each, so what is long runs in two.
TWO_LAYOUTS = pytest.mark.parametrize("edge", ["mape_main", "jool_siit_napt_namespace"], indirect=True)


@EACH_LAYOUT
def test_the_lan_calls_out_and_nobody_calls_in(edge):
    check(edge, {
        # segments of a connection from before the rules were loaded; what opens one is another matter
        "just loaded, a connection from before": let_in(tcp(ELSEWHERE, HOST6, 80, 6000, PSH | ACK)),
        "just loaded, a call": dropped(tcp(ELSEWHERE, HOST6, 80, 6001, SYN), "unsolicited"),
        "just loaded, a datagram": dropped(udp(ELSEWHERE, HOST6, 53, 6000), "unsolicited"),
    })
    edge.sandbox.run("nft", "delete element ip6 softwire_ce_ipv6_firewall settling { tcp }")
    asked = udp(HOST6, ELSEWHERE, 5000, 53)
    # where both are dropped, the guard's reason comes first: jool_mapt would translate it
    spoofed = ("isp", udp(OTHER_HOST, HOST6, 4000, 443), "guard.beside_map_address", []) if edge.layout == "jool_mapt_napt_namespace" else \
        dropped(udp(OTHER_HOST, HOST6, 4000, 443), "lan_source")
    check(edge, {
        "UDP": out(asked),
        "UDP, the answer": answered(udp(ELSEWHERE, HOST6, 53, 5000)),
        "UDP, to another port": dropped(udp(ELSEWHERE, HOST6, 53, 5001), "unsolicited"),
        "UDP, from another host": dropped(udp(ROUTER_ON_THE_WAY, HOST6, 53, 5000), "unsolicited"),
        "UDP, a packet was too big": answered(about(asked, ERRORS["packet too big"])),
        "TCP": out(tcp(HOST6, ELSEWHERE, 5000, 80, SYN)),
        "TCP, the answer": answered(tcp(ELSEWHERE, HOST6, 80, 5000, SYN | ACK)),
        "TCP, a call": dropped(tcp(ELSEWHERE, HOST6, 80, 22, SYN), "unsolicited"),
        "TCP, in the middle of nothing": dropped(tcp(ELSEWHERE, HOST6, 80, 22, ACK), "unsolicited"),
        "ping": out(echo(HOST6, ELSEWHERE, 777)),
        "ping, the answer": answered(echo(ELSEWHERE, HOST6, packets.DISCARD, 777)),
        "ping, an answer to nothing": dropped(echo(ELSEWHERE, HOST6, packets.DISCARD, 778), "unrelated"),
        "ping from the WAN": let_in(echo(ELSEWHERE, HOST6, 779)),
        "ping from the WAN, the answer": out(echo(HOST6, ELSEWHERE, packets.DISCARD, 779)),
        "WAN, from a host of the LAN": spoofed,
        "a forward": let_in(tcp(ELSEWHERE, HOST6, 7000, 443, SYN), "let_in"),
        "a forward, the answer": out(tcp(HOST6, ELSEWHERE, 443, 7000, SYN | ACK)),
        "a forward, UDP": dropped(udp(ELSEWHERE, HOST6, 7000, 443), "unsolicited"),
        "a forward, another host": dropped(tcp(ELSEWHERE, OTHER_HOST, 7000, 443, SYN), "unsolicited"),
        "a forward of both, TCP": let_in(tcp(ELSEWHERE, HOST6, 7000, 53300, SYN), "let_in"),
        "a forward of both, UDP": let_in(udp(ELSEWHERE, HOST6, 7000, 53300), "let_in"),
    })


@TWO_LAYOUTS
def test_icmpv6_as_rfc_4890_has_it(edge):
    known = {"UDP": udp(HOST6, ELSEWHERE, 5000, 53), "TCP": tcp(HOST6, ELSEWHERE, 5000, 80, SYN), "a ping": echo(HOST6, ELSEWHERE, 777),
             "ESP": packets.ipv6(HOST6, ELSEWHERE, ESP, os.urandom(32))}
    unknown, received = udp(HOST6, ELSEWHERE, 5999, 53), udp(ELSEWHERE, HOST6, 53, 5000)
    check(edge, {
        **{f"LAN, {name}": out(packet) for name, packet in known.items()},
        **{f"WAN, {error} about {name}": answered(about(packet, kind)) for error, kind in ERRORS.items() for name, packet in known.items()},
        **{f"WAN, {error} about nothing": dropped(about(unknown, kind), "unrelated") for error, kind in ERRORS.items()},
        **{f"LAN, {error}": out(packets.error(HOST6, ELSEWHERE, received + tail(), kind)) for error, kind in ERRORS.items()},
        **{f"WAN, {name}": let_in(message(ELSEWHERE, HOST6, kind)) for name, kind in MOBILE.items()},
        **{f"LAN, {name}": out(message(HOST6, ELSEWHERE, kind)) for name, kind in MOBILE.items()},
        **{f"WAN, {name}": dropped(message(ELSEWHERE, HOST6, kind), "icmpv6_type") for name, kind in OF_A_LINK.items()},
        **{f"LAN, {name}": dropped(message(HOST6, ELSEWHERE, kind), "icmpv6_type", "host") for name, kind in OF_A_LINK.items()},
    })


@TWO_LAYOUTS
def test_ipsec_extension_headers_and_fragments(edge):
    upper = udp(ELSEWHERE, HOST6, 53, 5000)[packets.IPV6_HEADER:]
    authenticated = bytes([packets.UDP]) + struct.pack("!BxxII", 4, 1, 1) + bytes(12) + upper  # RFC 4302 section 2
    routed = bytes([packets.UDP]) + bytes(7) + upper  # type 0
    first, second = packets.fragments(udp(ELSEWHERE, HOST6, 53, 5000, os.urandom(1600)), [1400])
    check(edge, {
        "ESP": let_in(packets.ipv6(ELSEWHERE, HOST6, ESP, os.urandom(32)), "ipsec_in"),
        "HIP": let_in(packets.ipv6(ELSEWHERE, HOST6, HIP, os.urandom(40)), "ipsec_in"),
        "AH": let_in(packets.ipv6(ELSEWHERE, HOST6, AH, authenticated), "ipsec_in"),
        "IKE": let_in(udp(ELSEWHERE, HOST6, 4000, IKE), "ipsec_in"),
        "IKE goes on": let_in(udp(ELSEWHERE, HOST6, 4000, IKE_LATER), "ipsec_in"),
        "from IKE's port": dropped(udp(ELSEWHERE, HOST6, IKE, 4000), "unsolicited"),
        "GRE": dropped(packets.ipv6(ELSEWHERE, HOST6, 47, bytes(4) + tail()), "unsolicited"),
        "a call": out(udp(HOST6, ELSEWHERE, 5000, 53)),
        "the answer's first fragment": ("isp", first, None, []),
        "the answer's last fragment": answered(second),
        "an answer with a routing header": dropped(packets.ipv6(ELSEWHERE, HOST6, ROUTING, routed), "routing_header"),
        "a call with a routing header": dropped(packets.ipv6(HOST6, ELSEWHERE, ROUTING, routed), "routing_header", "host"),
    })


@EACH_LAYOUT
def test_the_softwire_s_own_packets_are_exempt(edge):
    """Only the guard's counters move, for what it lets in and what not."""
    if edge.layout in {**MAPE, **MESH}:
        check(edge, {
            "the border relay": ("isp", tunnelled(BR, MAP), "guard.from_relay", []),
            "another customer edge": ("isp", tunnelled(OTHER_CE, MAP), "guard.from_rule" if edge.layout in MESH else "guard.outside_domain", []),
        })
        return
    check(edge, {
        "the DMR": ("isp", ip6("64:ff9b::cb00:7105", MAP), "guard.from_dmr", []),
        "another customer edge": ("isp", ip6(OTHER_CE, MAP), "guard.from_rule" if "mapt" in edge.layout else "guard.outside_domain", []),
        "an error of a router on the way": ("isp", packets.error(ELSEWHERE, MAP, ip6(MAP, ELSEWHERE)), None, []),
    })
    if edge.napt == "main":  # as Jool would send it, from its namespace
        edge.sandbox.run("ip", "-n", "xlat", "addr", "add", f"{MAP}/128", "dev", "lo")
        edge.sandbox.run("ip", "netns", "exec", "xlat", "python3", "-c",
                         "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x' * 8, ('2a00::1', 9))")
        assert any(data.endswith(b"x" * 8) for data in edge._received(edge.sockets["isp"]))
