# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries whether IPv4 works through a customer edge: ping, TCP and UDP, and the source that leaves.

The packets are sent where and as those of the LAN enter the NAPT; the source is told by a STUN server (RFC 8489) or by the
connection tracking of the router.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import socket
import struct
import time

from . import flows
from .commands import StepError, run
from .namespaces import inside

PROTOCOLS = {"ping": "icmp", "TCP": "tcp", "UDP": "udp"}
STUN_SERVER = "the STUN server"
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST = 0x0001
BINDING_RESPONSE = 0x0101
MAPPED_ADDRESS = 0x0001
XOR_MAPPED_ADDRESS = 0x0020
# A query for the name servers of the root: the one question that every DNS server understands.
DNS_QUERY = struct.pack("!HHHHHH", random.randrange(65536), 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 2, 1)


class ProbeError(Exception):
    """Why something does not work; the text is for a person."""


def resolved(option, name):
    """The IPv4 address of a host. Raises ProbeError."""
    try:
        return socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0]
    except OSError as exc:
        raise ProbeError("%s: %s: has no IPv4 address: %s" % (option, name, exc)) from exc


def local_address(links, napt, ipv4_prefix):
    """The address to send from: one that the NAPT serves, best of a LAN interface.

    links: the output of "ip -json address"; napt: the NAPT's parameters. Raises ProbeError.
    """
    served = [ipaddress.ip_network(network) for network in napt["sources"] + ([ipv4_prefix] if ipv4_prefix else [])]
    found = [
        (link["ifname"] not in napt["lan_interfaces"], entry["local"])
        for link in links for entry in link.get("addr_info", [])
        if entry["family"] == "inet" and any(ipaddress.ip_address(entry["local"]) in network for network in served)
    ]
    if not found:
        raise ProbeError("this router has no address in %s, from which the NAPT takes packets" % ", ".join(napt["sources"]))
    return min(found)[1]


# STUN (RFC 8489)


def stun_request(transaction):
    return struct.pack("!HHI", BINDING_REQUEST, 0, MAGIC_COOKIE) + transaction


def stun_address(message, transaction):
    """(address, port) that a binding response tells, or None (RFC 8489 sections 5 and 14)."""
    if len(message) < 20:
        return None
    kind, length, cookie = struct.unpack("!HHI", message[:8])
    if (kind, cookie, message[8:20]) != (BINDING_RESPONSE, MAGIC_COOKIE, transaction):
        return None
    attributes, plain = message[20:20 + length], None
    while len(attributes) >= 4:
        kind, length = struct.unpack("!HH", attributes[:4])
        value = attributes[4:4 + length]
        if kind in (MAPPED_ADDRESS, XOR_MAPPED_ADDRESS) and len(value) == 8 and value[1] == 1:
            port, address = struct.unpack("!HI", value[2:])
            if kind == XOR_MAPPED_ADDRESS:
                return str(ipaddress.IPv4Address(address ^ MAGIC_COOKIE)), port ^ (MAGIC_COOKIE >> 16)
            plain = str(ipaddress.IPv4Address(address)), port
        attributes = attributes[4 + (length + 3) // 4 * 4:]
    return plain


# ping


def checksum(data):
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total ^ 0xFFFF


def echo_request(identifier, sequence):
    def packet(total):
        return struct.pack("!BBHHH", 8, 0, total, identifier, sequence) + b"softwire"

    return packet(checksum(packet(0)))


def is_reply(packet, identifier):
    """Whether an IPv4 packet is the answer to one of our echo requests."""
    icmp = packet[(packet[0] & 15) * 4:]
    return len(icmp) >= 8 and icmp[0] == 0 and struct.unpack("!H", icmp[4:6])[0] == identifier


def belongs(address, port, ce):
    """Whether an address and a port are this CE's own."""
    own = ipaddress.ip_network(ce["ipv4_prefix"] or ce["ipv4_address"])
    return ipaddress.ip_address(address) in own and any(low <= port <= high for low, high in ce["port_ranges"])


class Probe:
    """The checks of one customer edge.

    edge: the parameters of its generation; ports: {index: port} of its NAPT; options: those of the module, with addresses in place of
    names; local: to send from.
    """

    def __init__(self, edge, ports, options, local):
        self.edge, self.ports, self.options, self.local = edge, ports, options, local

    def run(self):
        return [self.check(name, getattr(self, PROTOCOLS[name])) for name in PROTOCOLS]

    def check(self, name, action):
        """One entry of the result; action returns (source or None, who saw it)."""
        fault, source, seen_by = "", None, ""
        for _attempt in range(self.options["attempts"]):
            try:
                source, seen_by = action()
                fault = ""
                break
            except (ProbeError, OSError) as exc:
                fault = "no answer within %d s" % self.options["timeout"] if isinstance(exc, socket.timeout) else str(exc)
        if source and not belongs(source[0], source[1], self.edge["ce"]):
            fault = "leaves from %s:%d, which is not of this CE (seen by %s)" % (source[0], source[1], seen_by)
        return {"name": name, "fault": fault, "source": "%s:%d" % source if source else "", "seen_by": seen_by}

    def socket(self, kind, protocol=0):
        """A socket whose packets go where those of the LAN go."""
        made = socket.socket(socket.AF_INET, kind, protocol)
        made.settimeout(self.options["timeout"])
        # A router that has another way to the internet would take that for its own packets.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.edge["napt"]["device"].encode())
        made.bind((self.local, 0))
        return made

    def conntrack(self, protocol, port, target):
        """(source, who saw it) of a flow of ours as the router itself knows it; port: its source port, or ICMP identifier."""
        try:
            found = flows.listed("main", "-p", protocol, "-s", self.local, "-d", target)  # we live in the namespace already
        except (StepError, OSError):
            return None, ""  # no tool, or a kernel without connection tracking
        for _protocol, begun, answers in found:
            if flows.port_of(begun, "sport") == port:
                index = flows.port_of(answers, "dport")
                return (answers["dst"], self.ports.get(index, index)), "conntrack"  # what is no index of ours is a port
        return None, ""

    def icmp(self):
        identifier, target = random.randrange(1, 65536), self.options["target"]
        deadline = time.monotonic() + self.options["timeout"]
        with self.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.sendto(echo_request(identifier, 1), (target, 0))
            while True:
                raw.settimeout(max(deadline - time.monotonic(), 0.01))
                packet, sender = raw.recvfrom(2048)
                if sender[0] == target and is_reply(packet, identifier):
                    return self.conntrack("icmp", identifier, target)

    def tcp(self):
        target = self.options["target"]
        with self.socket(socket.SOCK_STREAM) as stream:
            stream.connect((target, self.options["tcp_port"]))
            known = self.conntrack("tcp", stream.getsockname()[1], target)
        return self.stun_over_tcp() or known

    def stun_over_tcp(self):
        """(source, who saw it), or None where the STUN server does not serve TCP."""
        if not self.options["stun_server"]:
            return None
        transaction, answer = os.urandom(12), b""
        try:
            with self.socket(socket.SOCK_STREAM) as stream:
                stream.connect((self.options["stun_server"], self.options["stun_port"]))
                stream.sendall(stun_request(transaction))
                while len(answer) < 20 or len(answer) < 20 + struct.unpack("!H", answer[2:4])[0]:
                    received = stream.recv(2048)
                    if not received:
                        return None
                    answer += received
        except OSError:
            return None
        source = stun_address(answer, transaction)
        return source and (source, STUN_SERVER)

    def udp(self):
        if not self.options["stun_server"]:
            target = self.options["target"]
            with self.socket(socket.SOCK_DGRAM) as datagrams:
                datagrams.connect((target, self.options["udp_port"]))
                datagrams.send(DNS_QUERY)
                datagrams.recv(2048)
                return self.conntrack("udp", datagrams.getsockname()[1], target)
        transaction = os.urandom(12)
        with self.socket(socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((self.options["stun_server"], self.options["stun_port"]))
            datagrams.send(stun_request(transaction))
            source = stun_address(datagrams.recv(2048), transaction)
        if not source:
            raise ProbeError("%s:%d does not answer as a STUN server does" % (self.options["stun_server"], self.options["stun_port"]))
        return source, STUN_SERVER


def probed(instance, options):
    """What Probe.run() returns of the customer edge that runs.

    instance: its paths.Paths; options: those of the module probe. Raises ProbeError or OSError where it is not up, or a name has no address.
    """
    edge = json.loads((instance.current / "parameters.json").read_text())
    if edge["role"] != "ce":
        raise ProbeError("is no customer edge")
    options = dict(options, **{name: options[name] and resolved(name, options[name]) for name in ("target", "stun_server")})
    namespace = edge["layout"]["namespaces"]["napt"]
    ports, _services = flows.ports_and_services((instance.current / namespace / "flows").read_bytes())
    with inside(namespace):
        links = json.loads(run(["ip", "-json", "-4", "address"]))
        return Probe(edge, ports, options, local_address(links, edge["napt"], edge["ce"]["ipv4_prefix"])).run()
