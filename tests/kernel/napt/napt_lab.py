"""A LAN, a NAPT and an internet in three network namespaces, and the packets to try them with.

client (192.168.0.10, .11, 192.168.9.9) --lan0-- napt --ce-main-- net (198.51.100.1 to .10)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

import packets
from namespaces import network_namespace

from ansible_collections.softwire.map.plugins.module_utils.routers import programs, render
from ansible_collections.softwire.map.plugins.module_utils.softwire import info
from ansible_collections.softwire.map.plugins.module_utils.softwire.files import inverse, split_lines

LABS = itertools.count()
ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33
SO_NO_CHECK = 11
SERVERS = ["198.51.100.%d" % n for n in range(1, 11)]
SERVER = SERVERS[0]
HOST, HOST2, STRANGER = "192.168.0.10", "192.168.0.11", "192.168.9.9"
ROUTER, INNER_ROUTER = "192.168.0.1", "192.0.0.2"
ROUTER_NETWORK = "192.0.0.0/29"
OUTER_ROUTER = "192.0.0.1"
BEYOND = "203.0.113.5"


def run(*command, **options):
    """Run a command; its error text is the test's."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, "%s: %s" % (" ".join(command), done.stderr)
    return done.stdout


class Lab:
    """Three namespaces and the ruleset under test in the middle one."""

    def __init__(self, own, address):
        self.address = address
        number = next(LABS)
        self.names = {role: "napt-%d-%d-%s" % (os.getpid(), number, role) for role in ("client", "napt", "net")}
        self.instance = self.names["napt"]
        self.opened = []
        self.bpf = None
        try:
            self._build(own, address)
        except BaseException:
            self.close()
            raise

    def _build(self, own, address):
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self._link("client", "eth0", "napt", "lan0")
        self._link("napt", "ce-main", "net", "s0")
        self.ip("client", "address add %s/24 dev eth0" % HOST, "address add %s/24 dev eth0" % HOST2,
                "address add %s/24 dev eth0" % STRANGER, "route add default via 192.168.0.1")
        self.ip("napt", "address add 192.168.0.1/24 dev lan0", "address add 192.168.9.1/24 dev lan0",
                "address add 192.0.0.2/29 dev ce-main", "route add default via %s" % OUTER_ROUTER,
                *(["rule add pref 30000 iif ce-main to %s blackhole" % own] if own == address else []))
        self.ip("net", "address add %s/29 dev s0" % OUTER_ROUTER, "route add %s via 192.0.0.2" % own,
                "route add 192.168.0.0/24 via 192.0.0.2", "route add %s via 192.0.0.2" % BEYOND,
                *["address add %s/32 dev lo" % server for server in SERVERS])
        for role in self.names:
            settings = ["net.ipv4.icmp_ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
            self.run(role, "sysctl", "-q", "-w", *settings)
        self.run("napt", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                 "net.ipv4.conf.ce-main.send_redirects=0", "net.ipv4.conf.lan0.rp_filter=0", "net.ipv4.conf.ce-main.rp_filter=0")
        self.outside = self.capture("net", "s0")
        self.inside = self.capture("client", "eth0")
        self.sender = {role: self.socket(role, socket.SOCK_RAW, socket.IPPROTO_RAW) for role in self.names}
        self.opened = [self.outside, self.inside, *self.sender.values()]

    def close(self):
        self.detach()
        for opened in self.opened:
            opened.close()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _link(self, left, left_device, right, right_device):
        run("ip", "-n", self.names[left], "link", "add", left_device, "type", "veth", "peer", "name", right_device,
            "netns", self.names[right])
        for role, device in ((left, left_device), (right, right_device)):
            # checksums have to be real, and packets have to be what a wire would carry
            self.run(role, "ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
            self.ip(role, "link set %s up" % device)

    def run(self, role, *command):
        return run("ip", "netns", "exec", self.names[role], *command)

    def ip(self, role, *lines):
        run("ip", "-n", self.names[role], "-batch", "-", input="\n".join(lines) + "\n")

    def load(self, path):
        self.run("napt", "nft", "-f", str(path))

    def attach(self, bpf):
        """Loads and attaches what programs.described() has made, by the lines of the generation's own files, with pins of the lab's own."""
        bpf = self.bpf = json.loads(json.dumps(bpf).replace(bpf["pins"], tempfile.mkdtemp(prefix=self.instance)))
        run("mount", "-t", "bpf", "bpf", bpf["pins"])
        for loaded in bpf["objects"]:
            os.mkdir("%s/%s" % (bpf["pins"], loaded["name"]))
        jinja = render.environment(str(render.TEMPLATES / "map_ce"))
        lines = {name: split_lines(jinja.get_template(template).render(bpf=bpf).encode()) for name, template in programs.FILES.items()}
        for line in lines["bpftool"]:
            run("bpftool", *line, cwd=programs.bpf_object.OBJECTS)
        for line in lines["tc"]:
            self.run("napt", "tc", *line)

    def detach(self):
        if self.bpf:
            for device in {each["device"] for each in self.bpf["attached"]}:
                self.run("napt", "tc", *inverse(["qdisc", "add", "dev", device, "clsact"]))
            run("umount", self.bpf["pins"])
            os.rmdir(self.bpf["pins"])
            self.bpf = None

    def inside_of(self, role):
        return network_namespace("/run/netns/" + self.names[role])

    def socket(self, role, kind, protocol=0, bind=None, peer=None):
        with self.inside_of(role):
            made = socket.socket(socket.AF_INET, kind, protocol)
            made.settimeout(2)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if bind:
                made.bind(bind)
            if peer:
                made.connect(peer)
            return made

    def udp(self, role, bind=None, peer=None):
        return self.socket(role, socket.SOCK_DGRAM, 0, bind, peer)

    def listen(self, role, where):
        made = self.socket(role, socket.SOCK_STREAM, 0, where)
        made.listen(64)
        return made

    def connect(self, role, where, source=None):
        return self.socket(role, socket.SOCK_STREAM, 0, source, where)

    def capture(self, role, device):
        """A socket that sees the IPv4 packets a device receives."""
        with self.inside_of(role):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 27)
            made.bind((device, ETH_P_IP))
            made.setblocking(False)
            return made

    def send(self, role, packet):
        # the router's own packet, dropped on its way out, is an error of its sender
        with contextlib.suppress(PermissionError):
            self.sender[role].sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def counters(self):
        """Packets by name of the counter."""
        listed = json.loads(self.run("napt", "nft", "-j", "list", "counters", "table", "ip", "softwire_ce_napt"))["nftables"]
        rules = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
        return {**rules, **info.programs(self.bpf)}

    def forget(self):
        """No connections, no captured packets."""
        self.run("napt", "conntrack", "-F")
        drain(self.outside)
        drain(self.inside)


def drain(capture, settle=0.0):
    """The packets captured so far (and within ``settle`` seconds), parsed."""
    packets = []
    end = time.monotonic() + settle
    while True:
        try:
            packets.append(Packet(capture.recv(65535)))
        except BlockingIOError:
            if time.monotonic() >= end:
                return packets
            time.sleep(0.005)


def wait_for(capture, match, timeout=2.0):
    """The first captured packet that matches; the test fails without one."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            packet = Packet(capture.recv(65535))
        except BlockingIOError:
            time.sleep(0.002)
            continue
        if match(packet):
            return packet
    raise AssertionError("the packet did not arrive")


class Packet:
    """An IPv4 packet, whole or quoted: addresses, own ports, and whether its checksums are right."""

    def __init__(self, data):
        header = (data[0] & 15) * 4
        self.length = struct.unpack("!H", data[2:4])[0]
        self.data = data[: self.length]
        fragment = struct.unpack("!H", data[6:8])[0]
        self.fragment = bool(fragment & 0x3FFF)
        self.later = bool(fragment & 0x1FFF)
        self.ttl, self.protocol = data[8], data[9]
        self.src, self.dst = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        self.body = self.data[header:]
        self.header_ok = packets.checksum(data[:header]) == 0
        self.type = self.code = self.quoted = None
        self.sport = self.dport = None
        if self.later:
            return
        if self.protocol == 1:
            self.type, self.code = self.body[0], self.body[1]
            if self.type in (0, 8):
                self.sport = self.dport = struct.unpack("!H", self.body[4:6])[0]
            else:
                self.word, self.mtu = struct.unpack("!HH", self.body[4:8])
                self.quoted = Packet(self.body[8:])
        else:
            self.sport, self.dport = struct.unpack("!HH", self.body[:4])

    @property
    def whole(self):
        return len(self.data) == self.length and not self.fragment

    @property
    def payload(self):
        return self.body[{1: 8, 17: 8, 6: 4 * (self.body[12] >> 4) if self.protocol == 6 else 0}[self.protocol]:]

    @property
    def sum(self):
        """The transport checksum as it stands in the packet."""
        at = {1: 2, 6: 16, 17: 6}[self.protocol]
        return struct.unpack("!H", self.body[at:at + 2])[0]

    @property
    def sum_ok(self):
        """The transport checksum is right (or absent, for UDP); only for whole packets."""
        if self.protocol == 17 and self.sum == 0:
            return True
        return packets.has_valid_checksum(self.data)

    @property
    def ok(self):
        return self.header_ok and (not self.whole or self.protocol not in (1, 6, 17) or self.sum_ok)


def ip_packet(src, dst, protocol, body, ttl=64):
    return packets.ipv4(src, dst, protocol, body, ttl=ttl)


def udp_packet(src, sport, dst, dport, payload=b"", summed=True):
    """A datagram of a flow; summed: False for one without a checksum."""
    packet = packets.udp(src, dst, sport, dport, payload)
    return packet if summed else packet[:26] + b"\0\0" + packet[28:]


def syn_packet(src, sport, dst, dport):
    return packets.tcp(src, dst, sport, dport, b"", packets.SYN)


def echo_packet(src, dst, identifier, payload=b"ping", kind=packets.ICMP_ECHO_REQUEST):
    return packets.icmp(src, dst, kind, 0, identifier << 16 | 1, payload)


def error_packet(src, dst, kind, code, quoted, word=0, mtu=0):
    return packets.error(src, dst, quoted, kind, word << 16 | mtu, code)
