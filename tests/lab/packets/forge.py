"""Packets that a neighbour, a client or somebody on the internet could forge, and what has to become of each kind.

A kind is a list of frames (from the network layer up), who sends them, and the counter that names the reason for
dropping them, which depends on what carries the softwire. `legit` has the packets that look like them and have to arrive.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
)
from scapy.packet import Raw

TAG, GOOD = b"forged", b"legit"
IPV6_IN, IPV4_IN, GRE, ESP, SCTP = 41, 4, 47, 50, 132
# Who sends: on the WAN of the customer edge, of its neighbour, at the server, or a client behind the customer edge.
EDGE, NEIGHBOUR, INTERNET, CLIENT = "edge", "neighbour", "internet", "client"


@dataclass(frozen=True)
class Kind:
    name: str
    sender: str
    frames: tuple
    counter: str | None  # "relay NAME" or "edge NAME"; None: it is lost without one
    counted: int = 1  # frames that are dropped; the others are no fault by themselves


@dataclass(frozen=True)
class Actors:
    """ce dicts: the edge whose part is played, one on the same IPv4 address, one on another; addresses around them; carriers.

    Of jool_mapt the edge has its NAPT in a namespace, so that the translator sees whatever comes for the end-user prefix.
    """

    edge: dict
    mate: dict
    stranger: dict
    server: str
    server_ipv6: str
    client_ipv6: str
    relay_ipv4: str
    relay_ipv6: str  # of its own interface, not its BR address
    other_br: str | None  # the BR address of another domain
    edge_carrier: str
    relay_carrier: str

    @property
    def port(self):
        return self.edge["port_ranges"][0][0] + 1

    @property
    def foreign_port(self):
        return self.mate["port_ranges"][0][0] + 1

    @property
    def excluded_port(self):
        return 80 if self.edge["psid_offset"] else None


def tag(text=TAG):
    return Raw(text + b" packet, some more bytes")


def number(address):
    return int(ipaddress.IPv6Address(address))


def joined(prefix_of, identifier_of):
    """The first 64 bits of one address and the last 64 of another."""
    return str(ipaddress.IPv6Address(number(prefix_of) >> 64 << 64 | number(identifier_of) & (1 << 64) - 1))


def flipped(address, bit):
    return str(ipaddress.IPv6Address(number(address) ^ 1 << bit))


def fragments(packet, sizes, text=TAG):
    """An IPv4 packet in fragments of these sizes, in bytes (multiples of 8); each carries the text."""
    body = bytes(packet.payload)
    body = body[: len(body) // 8 * 8] + (text * 40)[: sum(sizes)]
    made, offset = [], 0
    for index, size in enumerate(sizes):
        last = index == len(sizes) - 1
        header = packet.copy()
        header.proto = packet.proto
        header.remove_payload()
        header.flags, header.frag, header.len, header.chksum = 0 if last else "MF", offset // 8, None, None
        made.append(header / Raw(body[offset:offset + size]))
        offset += size
    return made


class Forger:
    """What both transports have in common."""

    def __init__(self, actors):
        self.a = actors
        self.me, self.far, self.map = actors.edge["ipv4_address"], actors.server, actors.edge["map_address"]

    def down(self, upper, to=None, **fields):
        return IP(src=self.far, dst=to or self.me, **fields) / upper

    def sent_from_the_internet(self, name, counter, *frames):
        return Kind(f"from the internet: {name}", INTERNET, frames, counter and f"relay {counter}")

    def from_the_internet(self):
        sent, down, stranger = self.sent_from_the_internet, self.down, self.a.stranger["ipv4_address"]
        yield sent("our own address as source", "own_prefix", IP(src=self.me, dst=stranger) / UDP(dport=9) / tag())
        yield sent("port 0", "out_dropped_port_zero", down(UDP(sport=9, dport=0) / tag()))
        yield sent("GRE", "out_dropped_no_port", down(Raw(bytes(tag())), proto=GRE))

    def inward(self):
        """Packets of the internet to this customer edge."""
        for upper in (UDP(sport=9, dport=self.a.port), TCP(sport=9, dport=self.a.port), ICMP(type=8, id=self.a.port)):
            yield self.down(upper / tag())
        yield self.down(ICMP(type=3, code=3) / IP(src=self.me, dst=self.far) / UDP(sport=self.a.port, dport=9) / tag())

    def of_a_client(self):
        """What a client of the LAN sends."""
        for upper in (UDP(sport=40001, dport=9), TCP(sport=40001, dport=9), ICMP(type=8, id=40001)):
            yield IP(src="192.168.0.4", dst=self.far) / upper / tag()
        yield IPv6(src=self.a.client_ipv6, dst=self.a.server_ipv6) / UDP(sport=40001, dport=9) / tag()


class MapE(Forger):
    """The frames of MAP-E: IPv4 in IPv6."""

    def __init__(self, actors):
        super().__init__(actors)
        self.br = actors.edge["br_address"]

    def outer(self, inner, source=None, to=None, **fields):
        return IPv6(src=source or self.map, dst=to or self.br, nh=IPV4_IN, **fields) / inner

    def upper(self, kind, port, text=TAG):
        if kind == "echo":
            return ICMP(type=8, id=port) / tag(text)
        return {"udp": UDP(sport=port, dport=9), "tcp": TCP(sport=port, dport=9)}[kind] / tag(text)

    def up(self, kind="udp", port=None, source=None, text=TAG, **fields):
        return IP(src=source or self.me, dst=self.far, **fields) / self.upper(kind, self.a.port if port is None else port, text)

    def error(self, quoted, type_=3, code=3, source=None):
        """An ICMP error about a packet that came from the server."""
        return IP(src=source or self.me, dst=self.far) / ICMP(type=type_, code=code) / quoted

    def quoted(self, port=None, to=None, **fields):
        return self.down(UDP(sport=9, dport=self.a.port if port is None else port) / tag(), to, **fields)

    def forged(self):
        a, outer, up = self.a, self.outer, self.up

        def from_edge(name, counter, *frames, counted=1):
            return Kind(name, EDGE, frames, f"relay in_dropped_{counter}" if " " not in counter else counter, counted)

        for kind in ("udp", "tcp", "echo"):
            yield from_edge(f"{kind}, port of the neighbour", "spoofed", outer(up(kind, a.foreign_port)))
            yield from_edge(f"{kind}, another shared address", "spoofed", outer(up(kind, source=flip_ipv4(self.me))))
            yield from_edge(f"{kind}, an address outside the rules", "no_rule", outer(up(kind, source="203.0.113.77")))
            yield from_edge(f"{kind}, port 0", "port_zero", outer(up(kind, 0)))
            if a.excluded_port:
                yield from_edge(f"{kind}, a port with A = 0", "excluded_port", outer(up(kind, a.excluded_port)))
        for name, source in (
            ("the neighbour's MAP address", a.mate["map_address"]),
            ("a MAP address of another shared address", a.stranger["map_address"]),
            ("interface identifier zero", joined(self.map, "::")),
            ("random interface identifier", joined(self.map, "::8c1f:77a0:13d9:e4b2")),
            ("right identifier in the neighbour's prefix", joined(a.mate["map_address"], self.map)),
            ("right identifier outside the rules", joined("2001:db8:dead::", self.map)),
            ("another PSID in the identifier", flipped(self.map, 8 if a.edge["interface_id"] == "draft03" else 0)),
            ("another IPv4 address in the identifier", flipped(self.map, 26)),
            ("identifier of the other form", joined(self.map, other_form(a.edge))),
            ("a native address", a.client_ipv6),
        ):
            yield from_edge(f"outer source: {name}", "spoofed", outer(up(), source))
        yield from_edge("error that quotes the neighbour's port", "spoofed", outer(self.error(self.quoted(a.foreign_port))))
        yield from_edge("error that quotes another address", "wrong_quote", outer(self.error(self.quoted(to=flip_ipv4(self.me)))))
        yield from_edge("error that quotes port 0", "port_zero", outer(self.error(self.quoted(0))))
        yield from_edge("error that quotes a later fragment", "no_port", outer(self.error(self.quoted(frag=100))))
        yield from_edge("error cut off inside the quoted ports", "tiny", outer(self.error(Raw(bytes(self.quoted())[:22]))))
        yield from_edge("redirect", "no_port", outer(self.error(self.quoted(), 5, 1)))
        yield from_edge("timestamp request", "no_port", outer(IP(src=self.me, dst=self.far) / ICMP(type=13, id=a.port) / tag()))
        for name, protocol in (("GRE", GRE), ("ESP", ESP), ("SCTP", SCTP), ("IPv6 in the inner packet", IPV6_IN),
                               ("IPv4 in the inner packet", IPV4_IN)):
            yield from_edge(f"inner protocol {name}", "no_port", outer(IP(src=self.me, dst=self.far, proto=protocol) / tag()))
        yield from_edge("outer source: the border relay's own address", "relay br_address_spoofed", outer(up(), self.br))
        yield from_edge("IPv6 behind next header 4", "not_ipv4", outer(Raw(bytes(IPv6(src=self.map, dst=a.server_ipv6) / UDP() / tag()))))
        yield from_edge("IPv6 in IPv6", "relay other_tunnel", IPv6(src=self.map, dst=self.br, nh=IPV6_IN) / IPv6(
            src=a.client_ipv6, dst=a.server_ipv6) / UDP(dport=9) / tag())
        yield from_edge("GRE in IPv6", "relay other_tunnel", IPv6(src=self.map, dst=self.br, nh=GRE) / Raw(b"\0\0\x08\0" + bytes(up())))
        for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
            yield from_edge(f"martian source {source}", "martian", outer(up(source=source)))
            yield from_edge(f"martian destination {source}", "martian", outer(IP(src=self.me, dst=source) / self.upper("udp", a.port)))
        yield from_edge("a private source", "no_rule", outer(up(source="192.168.0.4")))
        yield from_edge("the border relay's IPv4 address as source", "no_rule", outer(up(source=a.relay_ipv4)))
        yield from_edge("to an address of the relay that is no BR address", "other_br", outer(up(), to=a.relay_ipv6))
        if a.other_br:
            yield from_edge("to the BR address of another domain", "other_br", outer(up(), to=a.other_br))
        yield from self.fragments(from_edge)
        yield from_edge("wrong inner header checksum", "relay IpExt InCsumErrors", outer(up(chksum=0xdead)))
        yield from_edge("inner length beyond the packet", "relay IpExt InTruncatedPkts", outer(up(len=900)))
        yield from self.from_the_internet()
        yield from self.to_the_edge()
        yield from self.from_a_client()

    def fragments(self, from_edge):
        a, outer = self.a, self.outer

        def cut(identification, sizes, text=TAG):
            return fragments(self.up(id=identification, text=text), sizes, text)

        first = cut(101, (24, 24), GOOD)[0]
        second = cut(101, (24, 24))[1]
        yield from_edge("second fragment by the neighbour", "mixed_fragment", outer(first), outer(second, a.mate["map_address"]))
        first, second = cut(102, (24, 24))[0], cut(102, (24, 24), GOOD)[1]
        yield from_edge("second fragment by the neighbour, before the first", "mixed_fragment",
                        outer(second, a.mate["map_address"]), outer(first))
        yield from_edge("second fragment from no MAP address", "spoofed", outer(cut(103, (24, 24))[1], a.client_ipv6))
        yield from_edge("first fragment with the neighbour's port", "spoofed",
                        outer(fragments(self.up(port=a.foreign_port, id=104), (24, 24))[0]))
        tiny = IP(src=self.me, dst=self.far, id=105, flags="MF") / Raw(bytes(TCP(sport=a.port, dport=9))[:8])
        tiny.proto = 6
        yield from_edge("TCP header in two fragments", "tiny", outer(tiny))
        short = IP(src=self.me, dst=self.far, proto=17) / Raw(bytes(UDP(sport=a.port, dport=9))[:4])
        yield from_edge("UDP cut off inside its ports", "tiny", outer(short))
        overlapping = cut(106, (32, 32))
        overlapping[1].frag = 2
        yield from_edge("overlapping fragments", "relay IpExt ReasmOverlaps", *map(outer, overlapping))

    def from_the_internet(self):
        a, down, sent = self.a, self.down, self.sent_from_the_internet
        yield from super().from_the_internet()
        if a.excluded_port:
            yield sent("a port with A = 0", "out_dropped_excluded_port", down(UDP(sport=9, dport=a.excluded_port) / tag()))
        yield sent("redirect", "out_dropped_no_port", down(ICMP(type=5) / self.up()))
        yield sent("error that quotes another address", "out_dropped_wrong_quote",
                   down(ICMP(type=3, code=3) / self.up(source=flip_ipv4(self.me))))
        yield sent("error that quotes port 0", "out_dropped_port_zero", down(ICMP(type=3, code=3) / self.up(port=0)))

    def to_the_edge(self):
        a, down = self.a, self.down

        def sent(name, counter, inner, source=None, to=None):
            return Kind(f"to the edge: {name}", NEIGHBOUR, (self.outer(inner, source or self.br, to or self.map),), f"edge {counter}")

        def of(reason):
            """The counter of the first program that sees it: the mesh's, or the NAPT's."""
            return f"in_dropped_{reason}" if meshes else f"in_napt_dropped_{reason}"

        meshes = a.edge_carrier == "ip6_tunnel_mesh"
        right = down(UDP(sport=9, dport=a.port) / tag())
        yield sent("a tunnel from the neighbour", of("no_rule") if meshes else "outside_domain", right, a.mate["map_address"])
        yield sent("a tunnel from a native address", "outside_domain", right, a.server_ipv6)
        yield sent("a foreign port", of("not_own_port"), down(UDP(sport=9, dport=a.foreign_port) / tag()))
        yield sent("GRE", of("no_port"), down(Raw(bytes(tag())), proto=GRE))
        yield sent("redirect", of("no_port"), down(ICMP(type=5, code=1) / self.up()))
        foreign = of("not_own_address")
        yield sent("another address", foreign, down(UDP(sport=9, dport=a.port) / tag(), to=flip_ipv4(self.me)))
        yield sent("the address between the namespaces", foreign, down(UDP(sport=9, dport=a.port) / tag(), to="192.0.0.2"))
        if meshes:
            yield from self.to_the_edge_of_a_mesh(sent)
        yield sent("from the address between the namespaces", "our_address_spoofed",
                   IP(src="192.0.0.2", dst=self.me) / UDP(sport=9, dport=a.port) / tag())
        yield Kind("to the edge: IPv4 on the wire", NEIGHBOUR, (right,), "edge untranslated")

    def to_the_edge_of_a_mesh(self, sent):
        """What the neighbour, which has the same IPv4 address, may not send past the relay."""
        a, neighbour, shared = self.a, self.a.mate["map_address"], self.a.mate["ipv4_address"]

        def from_neighbour(name, counter, inner, source=neighbour, to=None):
            return sent(f"from the neighbour, {name}", counter and f"in_dropped_{counter}", inner, source, to)

        def inner(upper, source=shared, **fields):
            return IP(src=source, dst=self.me, **fields) / upper

        right = inner(UDP(sport=a.foreign_port, dport=a.port) / tag())
        for name, source in (("interface identifier zero", joined(neighbour, "::")), ("our identifier", joined(neighbour, self.map)),
                             ("another PSID in the identifier", flipped(neighbour, 8 if a.mate["interface_id"] == "draft03" else 0))):
            yield from_neighbour(name, "spoofed", right, source)
        yield from_neighbour("from a port of ours", "spoofed", inner(UDP(sport=a.port, dport=a.port) / tag()))
        yield from_neighbour("from another address", "spoofed", inner(UDP(sport=a.foreign_port, dport=a.port) / tag(), flip_ipv4(shared)))
        yield from_neighbour("for a port of its own", "not_own_port", inner(UDP(sport=a.foreign_port, dport=a.foreign_port) / tag()))
        yield from_neighbour("GRE", "no_port", inner(Raw(bytes(tag())), proto=GRE))
        yield from_neighbour("a martian", "martian", inner(UDP(sport=a.foreign_port, dport=a.port) / tag(), "127.0.0.1"))
        yield from_neighbour("error about a packet of ours to elsewhere", "wrong_quote", inner(ICMP(type=3, code=3) / self.up()))
        yield Kind("to the edge: from the neighbour, to another address of the prefix", NEIGHBOUR,
                   (self.outer(right, neighbour, joined(self.map, "::1")),), None)
        yield Kind("to the edge: from the neighbour, IPv6 in IPv6", NEIGHBOUR, (IPv6(src=neighbour, dst=self.map, nh=IPV6_IN) / IPv6(
            src=a.server_ipv6, dst=a.client_ipv6) / UDP(dport=9) / tag(),), "edge outside_domain")
        yield sent("by the relay, from a port of ours", "in_dropped_itself", inner(UDP(sport=a.port, dport=a.port) / tag(), self.me))

    def from_a_client(self):
        a = self.a
        yield Kind("client: the MAP address as source", CLIENT,
                   (IPv6(src=self.map, dst=a.server_ipv6) / UDP(sport=9, dport=9) / tag(),), "edge map_address_spoofed")
        yield Kind("client: a tunnel packet of its own", CLIENT, (self.outer(self.up(), a.client_ipv6),), "edge softwire_bypassed")
        yield Kind("client: a private source from elsewhere", CLIENT, (self.up(source="10.99.0.1"),), "edge forward_source")

    def legit(self, text):
        """(name, frame, ...) of each kind of packet that has to arrive, with this text in it."""
        a, outer, up = self.a, self.outer, self.up
        for kind in ("udp", "tcp", "echo"):
            yield f"{kind}, first port", outer(up(kind, a.edge["port_ranges"][0][0], text=text))
            yield f"{kind}, last port", outer(up(kind, a.edge["port_ranges"][-1][1], text=text))
        yield "TCP with data", outer(IP(src=self.me, dst=self.far) / TCP(sport=a.port, dport=9, flags="PA") / tag(text))
        yield "UDP without checksum", outer(IP(src=self.me, dst=self.far) / UDP(sport=a.port, dport=9, chksum=0) / tag(text))
        yield "echo reply", outer(IP(src=self.me, dst=self.far) / ICMP(type=0, id=a.port) / tag(text))
        for type_, code in ((3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (11, 1), (12, 0)):
            quoted = self.down(UDP(sport=9, dport=a.port) / tag(text))
            yield f"error {type_}/{code}", outer(self.error(quoted, type_, code))
        yield "error about TCP", outer(self.error(self.down(TCP(sport=9, dport=a.port) / tag(text))))
        yield "error about an echo", outer(self.error(self.down(ICMP(type=8, id=a.port) / tag(text))))
        yield "DSCP EF", outer(up(tos=0xb8, text=text), tc=0xb8)
        yield "congestion met", outer(up(tos=3, text=text), tc=3)
        yield "inner TTL 2", outer(up(ttl=2, text=text))
        yield "hop limit 1", outer(up(text=text), hlim=1)
        yield "as large as it may be", outer(IP(src=self.me, dst=self.far) / UDP(sport=a.port, dport=9) / Raw((text * 300)[:1432]))
        yield "with the encapsulation limit option", IPv6(src=self.map, dst=self.br, nh=60) / Raw(
            bytes([IPV4_IN, 0, 4, 1, 4, 1, 1, 0])) / up(text=text)
        yield "fragments", *map(outer, fragments(up(id=201, text=text), (24, 32, 16), text))
        yield "fragments, the last one first", *map(outer, reversed(fragments(up(id=202, text=text), (24, 32, 16), text)))


class MapT(Forger):
    """The frames of MAP-T: IPv4 translated to IPv6."""

    def __init__(self, actors):
        super().__init__(actors)
        self.dmr = ipaddress.IPv6Network(actors.edge["dmr"])
        # Beside jool_mapt the relay's programs check sources and do no more: they know no internal prefix and see nothing go out.
        self.only_checks = actors.relay_carrier == "jool_mapt"
        # The collection's own translator works behind the stack, which puts fragments together, and translates more.
        self.translates = actors.relay_carrier == "bpf"
        self.server = self.embedded(self.far)

    def embedded(self, ipv4):
        """An IPv4 address in a DMR of 96 bits."""
        return str(self.dmr.network_address + int(ipaddress.IPv4Address(ipv4)))

    def upper(self, kind, port, text=TAG):
        if kind == "echo":
            return ICMPv6EchoRequest(id=port, data=bytes(tag(text)))
        return {"udp": UDP(sport=port, dport=9), "tcp": TCP(sport=port, dport=9)}[kind] / tag(text)

    def up(self, kind="udp", port=None, source=None, text=TAG, **fields):
        return IPv6(src=source or self.map, dst=self.server, **fields) / self.upper(kind, self.a.port if port is None else port, text)

    def raw(self, protocol, body=None, source=None, to=None):
        return IPv6(src=source or self.map, dst=to or self.server, nh=protocol) / Raw(body or bytes(tag()))

    def quoted(self, port=None, to=None, text=TAG):
        """A packet that came from the server, as the edge has seen it."""
        return IPv6(src=self.server, dst=to or self.map, plen=32) / UDP(
            sport=9, dport=self.a.port if port is None else port) / tag(text)

    def error(self, quoted, error=None, source=None):
        return IPv6(src=source or self.map, dst=self.server) / (error or ICMPv6DestUnreach(code=4)) / quoted

    def forged(self):
        a, up = self.a, self.up

        def from_edge(name, counter, *frames, bpf=""):
            """bpf: what counts it where the relay has the collection's translator, and that is something else."""
            if self.translates and bpf != "":
                counter = bpf
            return Kind(name, EDGE, frames, counter and (f"relay in_dropped_{counter}" if " " not in counter else counter))

        for kind in ("udp", "tcp", "echo"):
            yield from_edge(f"{kind}, port of the neighbour", "spoofed", up(kind, a.foreign_port))
            yield from_edge(f"{kind}, the neighbour's MAP address", "spoofed", up(kind, source=a.mate["map_address"]))
            yield from_edge(f"{kind}, another IPv4 address in the identifier", "spoofed", up(kind, source=flipped(self.map, 17)))
            yield from_edge(f"{kind}, an IPv4 address outside the rules", "no_rule", up(kind, source=flipped(self.map, 40)))
            yield from_edge(f"{kind}, port 0", "port_zero", up(kind, 0))
        for name, source, counter, *bpf in (
            ("a MAP address of another shared address", a.stranger["map_address"], "spoofed"),
            ("interface identifier zero", joined(self.map, "::"), "no_rule"),
            ("random interface identifier", joined(self.map, "::8c1f:77a0:13d9:e4b2"), "no_rule"),
            ("right identifier in the neighbour's prefix", joined(a.mate["map_address"], self.map), "spoofed"),
            ("right identifier outside the rules", joined("2001:db8:dead::", self.map), "no_rule"),
            ("another PSID in the identifier", flipped(self.map, 0), "spoofed"),
            ("bits after the IPv4 address", flipped(self.map, 15), "spoofed"),
            ("bits before the IPv4 address", flipped(self.map, 50), "spoofed"),
            ("identifier of the other form", joined(self.map, other_form(a.edge)), "no_rule"),
            ("the border relay's own address", a.relay_ipv6, "no_rule"),
            ("a native address", a.client_ipv6, "no_rule"),
            ("loopback", "::1", "no_rule", None),
            ("multicast", "ff02::1", "no_rule", None),
            ("an address of the DMR", self.embedded(self.me), "no_rule", "relay dmr_spoofed"),
            ("an IPv4-mapped address", f"::ffff:{self.me}", "no_rule"),
            ("an internal address of the relay", f"64:ff9b:1:ffff::{self.me}", "no_rule" if self.only_checks else "internal", "no_rule"),
        ):
            yield from_edge(f"source: {name}", counter, up(source=source), bpf=bpf[0] if bpf else "")
        if not self.translates:  # it has none, so the stack would say that there is no way, and the edge would count that
            yield from_edge("to an internal address of the relay", None if self.only_checks else "internal",
                            self.raw(17, bytes(UDP(sport=a.port)), to="64:ff9b:1:ffff::c000:20b"))
        yield from_edge("error that quotes the neighbour's port", "spoofed", self.error(self.quoted(a.foreign_port)))
        yield from_edge("error that quotes another address", "wrong_quote", self.error(self.quoted(to=a.stranger["map_address"])), bpf="spoofed")
        yield from_edge("error of a router that quotes a wrong identifier", "no_rule",
                        self.error(self.quoted(to=joined(self.map, "::")), source=a.client_ipv6))
        yield from_edge("error of a router that quotes the neighbour's port", "wrong_quote",
                        self.error(self.quoted(a.foreign_port), source=a.client_ipv6), bpf="spoofed")
        yield from_edge("error that quotes port 0", "port_zero", self.error(self.quoted(0)))
        yield from_edge("error cut off inside the quoted ports", "tiny", self.error(Raw(bytes(self.quoted())[:44])), bpf="no_port")
        for name, type_ in (("redirect", 137), ("router solicitation", 133), ("neighbour advertisement", 136)):
            yield from_edge(name, "no_port", self.raw(58, bytes([type_, 0, 0, 0]) + bytes(20)), bpf="untranslatable")
        for name, protocol in (("GRE", GRE), ("ESP", ESP), ("SCTP", SCTP), ("IPv4 in IPv6", IPV4_IN), ("IPv6 in IPv6", IPV6_IN)):
            yield from_edge(name, "no_port", self.raw(protocol))
        for name, frame in self.extended(TAG):
            if not self.translates:
                yield from_edge(name, "no_port", frame)
        routing = IPv6(src=self.map, dst=self.server) / IPv6ExtHdrRouting(segleft=1, addresses=[self.server])
        yield from_edge("a routing header that is not used up", "no_port", routing / UDP(sport=a.port, dport=9) / tag(), bpf="untranslatable")
        yield from self.fragments(from_edge)
        yield from self.from_the_internet()
        yield from self.to_the_edge()
        yield from self.from_a_client()

    def extended(self, text):
        """Packets with IPv6 extension headers that say nothing to IPv4 (RFC 7915 section 5.1)."""
        for name, header in (("hop-by-hop options", IPv6ExtHdrHopByHop()), ("a routing header", IPv6ExtHdrRouting(segleft=0)),
                             ("destination options", IPv6ExtHdrDestOpt())):
            yield name, IPv6(src=self.map, dst=self.server) / header / UDP(sport=self.a.port, dport=9) / tag(text)

    def fragment(self, identification, index, text=TAG, port=None, source=None):
        """Fragment 0 or 1 of a datagram of 48 bytes."""
        body = bytes(UDP(sport=port or self.a.port, dport=9, len=48, chksum=0x1234)) + text * 20
        header = IPv6ExtHdrFragment(nh=17, id=identification, offset=3 * index, m=1 - index)
        return IPv6(src=source or self.map, dst=self.server) / header / Raw(body[24:48] if index else body[:24])

    def fragments(self, from_edge):
        a, cut = self.a, self.fragment
        yield from_edge("second fragment by the neighbour", "mixed_fragment",
                        cut(101, 0, GOOD), cut(101, 1, source=a.mate["map_address"]), bpf=None)
        yield from_edge("second fragment by the neighbour, before the first", "mixed_fragment",
                        cut(102, 1, GOOD, source=a.mate["map_address"]), cut(102, 0), bpf=None)
        yield from_edge("second fragment from no MAP address", "no_rule", cut(103, 1, source=a.client_ipv6), bpf=None)
        if not self.translates:  # what waits for the other fragments there is one more error in the end
            yield from_edge("first fragment with the neighbour's port", "spoofed", cut(104, 0, port=a.foreign_port))
        header = IPv6(src=self.map, dst=self.server) / IPv6ExtHdrFragment(nh=6, id=105, m=1)
        yield from_edge("TCP header in two fragments", "tiny", header / Raw(bytes(TCP(sport=a.port, dport=9))[:8]))
        yield from_edge("UDP cut off inside its ports", "tiny", self.raw(17, bytes(UDP(sport=a.port, dport=9))[:4]))

    def sent_from_the_internet(self, name, counter, *frames):
        return super().sent_from_the_internet(name, None if self.only_checks and counter.startswith("out_") else counter, *frames)

    def from_the_internet(self):
        yield from super().from_the_internet()
        yield self.sent_from_the_internet(
            "error that quotes port 0", "out_dropped_port_zero",
            self.down(ICMP(type=3, code=3) / IP(src=self.me, dst=self.far) / UDP(sport=0, dport=9) / tag()))

    def to_the_edge(self):
        a = self.a

        def sent(name, counter, upper, source=None, to=None):
            return Kind(f"to the edge: {name}", NEIGHBOUR, (IPv6(src=source or self.server, dst=to or self.map) / upper,), f"edge {counter}")

        right, neighbour = UDP(sport=9, dport=a.port) / tag(), a.mate["map_address"]
        takes_fmrs = a.edge_carrier == "jool_mapt" and a.edge["fmrs"]
        meshes = a.edge_carrier == "bpf" and a.edge["fmrs"]
        # jool_mapt does not check whether the port belongs to the neighbour; what nobody has asked for ends at the NAPT.
        yield sent("from the neighbour, from a foreign port",
                   "unsolicited" if takes_fmrs else "in_dropped_spoofed" if meshes else "outside_domain", right, neighbour)
        if meshes:
            yield from self.to_the_edge_of_a_mesh(sent)
        yield sent("from a native address", "outside_domain", right, a.server_ipv6)
        yield sent("from the address between the namespaces", "inner_address", right, self.embedded("192.0.0.2"))
        foreign = "in_dropped_not_own_port" if a.edge_carrier == "bpf" else "in_napt_dropped_not_own_port"
        yield sent("a foreign port", foreign, UDP(sport=9, dport=a.foreign_port) / tag())
        yield sent("a foreign port of TCP", foreign, TCP(sport=9, dport=a.foreign_port, flags="S") / tag())
        yield sent("a foreign echo reply", foreign, ICMPv6EchoReply(id=a.foreign_port, data=bytes(tag())))
        if takes_fmrs:
            yield sent("from the neighbour, a foreign port", "in_napt_dropped_not_own_port", UDP(sport=a.foreign_port, dport=a.foreign_port) / tag(), neighbour)
        if a.edge_carrier == "jool_mapt":  # others leave these to the LAN, as native IPv6
            sources = {"the DMR": self.server, **({"the neighbour": neighbour} if takes_fmrs else {})}
            for (name, source), (place, to) in itertools.product(sources.items(), (
                    ("interface identifier zero", joined(self.map, "::")),
                    ("random interface identifier", joined(self.map, "::8c1f:77a0:13d9:e4b2")),
                    ("another PSID in the identifier", flipped(self.map, 0)),
                    ("the client's native address", a.client_ipv6))):
                yield sent(f"from {name}, to {place}", "beside_map_address", right, source, to)
        yield Kind("to the edge: IPv4 on the wire", NEIGHBOUR, (self.down(right),), "edge untranslated")

    def to_the_edge_of_a_mesh(self, sent):
        """What the neighbour, which has the same IPv4 address, may not send past the relay."""
        a, neighbour = self.a, self.a.mate["map_address"]

        def from_neighbour(name, counter, upper, source=neighbour):
            return sent(f"from the neighbour, {name}", f"in_dropped_{counter}", upper, source)

        right = UDP(sport=a.foreign_port, dport=a.port) / tag()
        for name, source, counter in (
            ("another PSID in the identifier", flipped(neighbour, 0), "spoofed"),
            ("another IPv4 address in the identifier", flipped(neighbour, 17), "spoofed"),
            ("a bit before the IPv4 address", flipped(neighbour, 48), "spoofed"),
            ("our identifier", joined(neighbour, self.map), "spoofed"),
            ("interface identifier zero", joined(neighbour, "::"), "outside_domain"),
        ):
            yield from_neighbour(name, counter, right, source)
        yield from_neighbour("from a port of ours", "spoofed", UDP(sport=a.port, dport=a.port) / tag())
        yield from_neighbour("TCP from a port of ours", "spoofed", TCP(sport=a.port, dport=a.port) / tag())
        yield from_neighbour("an echo by its own identifier", "not_own_port", ICMPv6EchoRequest(id=a.foreign_port, data=bytes(tag())))
        yield from_neighbour("for a port of its own", "not_own_port", UDP(sport=a.foreign_port, dport=a.foreign_port) / tag())
        yield Kind("to the edge: from the neighbour, GRE", NEIGHBOUR, (self.raw(GRE, source=neighbour, to=self.map),), "edge in_dropped_no_port")

    def from_a_client(self):
        a = self.a
        yield Kind("client: the MAP address as source", CLIENT,
                   (IPv6(src=self.map, dst=a.server_ipv6) / UDP(sport=9, dport=9) / tag(),), "edge map_address_spoofed")
        yield Kind("client: a packet to the DMR of its own", CLIENT,
                   (IPv6(src=a.client_ipv6, dst=self.server) / UDP(sport=9, dport=9) / tag(),), "edge softwire_bypassed")
        yield Kind("client: a private source from elsewhere", CLIENT,
                   (IP(src="10.99.0.1", dst=self.far) / UDP(sport=9, dport=9) / tag(),), "edge forward_source")

    def legit(self, text):
        """(name, frame, ...) of each kind of packet that has to arrive, with this text in it."""
        a, up = self.a, self.up
        for kind in ("udp", "tcp", "echo"):
            yield f"{kind}, first port", up(kind, a.edge["port_ranges"][0][0] or 1, text=text)
            yield f"{kind}, last port", up(kind, a.edge["port_ranges"][-1][1], text=text)
        yield "TCP with data", IPv6(src=self.map, dst=self.server) / TCP(sport=a.port, dport=9, flags="PA") / tag(text)
        yield "echo reply", IPv6(src=self.map, dst=self.server) / ICMPv6EchoReply(id=a.port, data=bytes(tag(text)))
        for name, error in (("no route", ICMPv6DestUnreach(code=0)), ("prohibited", ICMPv6DestUnreach(code=1)),
                            ("no address", ICMPv6DestUnreach(code=3)), ("no port", ICMPv6DestUnreach(code=4)),
                            ("too big", ICMPv6PacketTooBig(mtu=1400)), ("hop limit", ICMPv6TimeExceeded(code=0)),
                            ("reassembly time", ICMPv6TimeExceeded(code=1))):
            yield f"error: {name}", self.error(self.quoted(text=text), error)
        yield "error about TCP", self.error(IPv6(src=self.server, dst=self.map) / TCP(sport=9, dport=a.port) / tag(text))
        yield "error about an echo", self.error(
            IPv6(src=self.server, dst=self.map) / ICMPv6EchoRequest(id=a.port, data=bytes(tag(text))))
        yield "error of a router on the way", self.error(self.quoted(text=text), ICMPv6TimeExceeded(code=0), a.client_ipv6)
        yield "DSCP EF", up(tc=0xb8, text=text)
        yield "congestion met", up(tc=3, text=text)
        yield "hop limit 3", up(hlim=3, text=text)
        yield "as large as it may be", IPv6(src=self.map, dst=self.server) / UDP(sport=a.port, dport=9) / Raw((text * 300)[:1452])
        yield "fragments", self.fragment(201, 0, text), self.fragment(201, 1, text)
        if self.translates:
            yield from self.extended(text)


def flip_ipv4(address):
    """Another address of the same rule."""
    return str(ipaddress.IPv4Address(int(ipaddress.IPv4Address(address)) ^ 1))


def other_form(edge):
    """The interface identifier that the other document would give (RFC 7597 section 6, draft-ietf-softwire-map-03)."""
    ipv4, psid = int(ipaddress.IPv4Address(edge["ipv4_address"])), edge["psid"]
    return str(ipaddress.IPv6Address(ipv4 << 16 | psid if edge["interface_id"] == "draft03" else ipv4 << 24 | psid << 8))


def transport(actors):
    return (MapE if actors.edge["transport"] == "map-e" else MapT)(actors)


def mutations(frames, count, seed):
    """Frames (bytes) with a few bytes changed, cut off, or with some added behind; the same for a seed."""
    chance = random.Random(seed)
    for _number in range(count):
        frame = bytearray(chance.choice(frames))
        for _change in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        length = len(frame)
        if chance.random() < 0.2:
            length = chance.randrange(8, length)
        if chance.random() < 0.1:
            frame += chance.randbytes(chance.randrange(1, 40))
        else:
            frame = frame[:length]
        yield bytes(frame[:1500])
