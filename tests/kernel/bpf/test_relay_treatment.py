# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a border relay does to packets besides carrying them, on real links with the role's own guard: MSS, DSCP, ECN, the source of errors, fragments."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
import time

import packets
import pytest
import role_variables
import test_mape_links
import test_translate_links
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule
from domains import BR, CE, CE_PORT, FAR, SERVER, SHARED, TUNNEL, TUTORIAL
from kernel import command, libc
from packets import udp
from test_mape_links import class_of, forwarded, outer_header, tunnelled

REPORTER = "198.51.100.66"
IPV6_ROUTER = "2001:db8:f::99"
TUNNEL_DOMAIN = {**role_variables.TUTORIAL, "transport": "map-e", "br_address": BR}
del TUNNEL_DOMAIN["dmr"]
SOFTWIRES = {"ip6_tunnel": ("br-tun", {"domains": [TUNNEL_DOMAIN]}), "bpf": ("br-map", {})}


def syn(source, destination, source_port, destination_port, mss, flags=packets.SYN):
    """A SYN of TCP with one option, its MSS."""
    header = struct.pack("!HHIIHHHHBBH", source_port, destination_port, 1, 0, 6 << 12 | flags, 1000, 0, 0, 2, 4, mss)
    return packets.summed(source, destination, packets.TCP, header)


def mss_in(packet):
    """The MSS in a packet whose checksum has to be right."""
    assert packets.has_valid_checksum(packet)
    return struct.unpack_from("!H", packet, (20 if packet[0] >> 4 == 4 else 40) + 22)[0]


def guard(network, carrier, **variables):
    """Loads the role's guard for the softwire's device of the network."""
    device, changes = SOFTWIRES[carrier]
    text = role_variables.br_generations(**changes, **variables)[carrier]["main/guard.nft"].replace(f'"{device}"', '"map0"')
    subprocess.run(["ip", "netns", "exec", network.names["br"], "nft", "-f", "-"], input=text, text=True, check=True)


def changes(network):
    """The counters of what the guard has changed, that are not zero."""
    shown = json.loads(command("ip", "netns", "exec", network.names["br"], "nft", "-j", "list", "counters", package="nftables"))
    counters = [entry["counter"] for entry in shown["nftables"] if "counter" in entry]
    return {counter["name"]: counter["packets"] for counter in counters if counter["packets"] and counter["name"] in ("mss_lowered", "icmp_source")}


def without_guard(network):
    subprocess.run(["ip", "netns", "exec", network.names["br"], "nft", "delete table inet softwire_br_guard"], check=False, capture_output=True)


# ---- MAP-E ----

@pytest.fixture(scope="module")
def built_tunnel(pinned_mape):
    network = test_mape_links.Network(pinned_mape)
    try:
        network.up()
        yield network
    finally:
        network.down()


@pytest.fixture
def tunnel_relay(built_tunnel):
    """A border relay with its fast path, which knows the tunnel device."""
    network = built_tunnel
    network.relay.configure(TUNNEL)
    network.route()
    for device in ("eth0", "up0"):
        network.tc("filter", "del", "dev", device, "ingress")
    without_guard(network)
    network.send("far0", udp(FAR, SHARED, 53, CE_PORT, b"first"), "eth0")
    assert network.in_tunnel()[2]
    network.attach("eth0", "ingress", "mape_fast_out")
    network.attach("up0", "ingress", "mape_fast_in")
    network.relay.configure(TUNNEL)
    for link in network.links.values():
        while link.receive(lambda _packet: True, seconds=0):
            pass
    return network


def to_tunnel(network, packet):
    network.send("far0", packet, "eth0")
    return network.in_tunnel()


@pytest.mark.parametrize("variables, given, expected", [
    ({}, 1460, 1420), ({}, 1420, 1420), ({}, 536, 536), ({"mss": 1300}, 1460, 1300), ({"mss": "off"}, 1460, 1460), ({"ipv6_mtu": 1280}, 1460, 1200)])
@pytest.mark.parametrize("flags", [packets.SYN, packets.SYN | packets.ACK])
def test_the_mss_into_a_tunnel_is_lowered_and_never_raised(tunnel_relay, variables, given, expected, flags):
    guard(tunnel_relay, "ip6_tunnel", **variables)
    is_off = variables.get("mss") == "off"
    tunnel_relay.relay.treat(lowers_mss=not is_off)
    packet = syn(FAR, SHARED, 53, CE_PORT, given, flags)
    _outer, inner, by_device = to_tunnel(tunnel_relay, packet)
    assert mss_in(inner) == expected and by_device is not is_off
    assert given != expected or inner == forwarded(packet)
    assert changes(tunnel_relay) == ({"mss_lowered": 1} if given > expected else {})


def test_the_mss_out_of_a_tunnel_is_lowered(tunnel_relay):
    """As the device hands it on, which is of VXLAN here."""
    guard(tunnel_relay, "ip6_tunnel")
    tunnel_relay.relay.treat(lowers_mss=True)
    packet = syn(SHARED, FAR, CE_PORT, 53, 1460)
    wrapped = packets.udp(CE, BR, 4791, test_mape_links.GPE_PORT, test_mape_links.GPE + packet)
    tunnel_relay.send("down0", wrapped, "up0")
    assert mss_in(tunnel_relay.links["far0"].receive(lambda each: each[0] >> 4 == 4)) == 1420
    assert tunnel_relay.relay.counted() == {"in_passed": 1}


@pytest.mark.parametrize("lowers_mss", [True, False])
def test_the_fast_path_leaves_a_syn_out_of_a_tunnel_where_it_has_to(tunnel_relay, lowers_mss):
    tunnel_relay.relay.treat(lowers_mss=lowers_mss)
    for packet in (tunnelled(syn(SHARED, FAR, CE_PORT, 53, 1460)), tunnelled(packets.tcp(SHARED, FAR, CE_PORT, 53))):
        tunnel_relay.send("down0", packet, "up0")
        tunnel_relay.links["far0"].receive(lambda each: each[0] >> 4 == 4, seconds=0.3)
    taken = 1 if lowers_mss else 2
    assert tunnel_relay.relay.counted() == {"in_passed": taken, "in_fast": taken}


def test_a_stream_is_taken_where_its_mss_was_lowered(tunnel_relay):
    tunnel_relay.relay.treat(lowers_mss=True)
    for flags, by_device in ((packets.SYN, True), (packets.ACK, False), (packets.PSH | packets.ACK, False), (1 | packets.ACK, False)):
        assert to_tunnel(tunnel_relay, packets.tcp(FAR, SHARED, 53, CE_PORT, flags=flags))[2] is by_device


def sent_by_router(network, packet):
    """Sends an IPv6 packet from the border relay itself, as its tunnel device does."""
    def send():
        with open(f"/run/netns/{network.names['br']}", encoding="ascii") as handle:
            assert libc.setns(handle.fileno(), 0) == 0
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (packets.destination_of(packet), 0))

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()


@pytest.mark.parametrize("inner_tos, outer, expected", [(3, 2, 3), (0xBB, 0xBA, 0xBB), (2, 2, 2), (1, 1, 1), (0, 0, 0)])
def test_the_guard_mends_the_congestion_of_the_tunnel_device(tunnel_relay, inner_tos, outer, expected):
    """Which writes ECT(0) around what has met some; a device of the kind is not in every kernel."""
    guard(tunnel_relay, "ip6_tunnel")
    inner = udp(FAR, SHARED, 53, CE_PORT, tos=inner_tos)
    sent_by_router(tunnel_relay, packets.ipv6(BR, CE, packets.IPIP, inner, traffic_class=outer))
    assert tunnel_relay.in_tunnel() == (outer_header(inner, CE, expected), inner, False)


def test_errors_about_packets_for_a_tunnel_come_from_the_address_that_is_wanted(tunnel_relay):
    guard(tunnel_relay, "ip6_tunnel", icmp_source=REPORTER)
    packet = udp(FAR, SHARED, 53, CE_PORT, bytes(1472), fragment=0x4000)
    tunnel_relay.send("far0", packet, "eth0")
    error = tunnel_relay.links["far0"].receive(lambda each: each[0] >> 4 == 4 and each[9] == packets.ICMP)
    assert (packets.source_of(error), packets.destination_of(error), error[20:22]) == (REPORTER, FAR, bytes([3, 4]))
    assert packets.has_valid_checksum(error) and changes(tunnel_relay) == {"icmp_source": 1}


def test_other_errors_keep_their_source(tunnel_relay):
    guard(tunnel_relay, "ip6_tunnel", icmp_source=REPORTER)
    tunnel_relay.send("far0", udp(FAR, "10.9.9.9", 53, 9), "eth0")
    error = tunnel_relay.links["far0"].receive(lambda each: each[0] >> 4 == 4 and each[9] == packets.ICMP)
    assert packets.source_of(error) == "203.0.113.254" and changes(tunnel_relay) == {}


# ---- MAP-T ----

@pytest.fixture(scope="module")
def built_translator(pinned_translate):
    network = test_translate_links.Network(pinned_translate)
    try:
        network.up()
        network.relay.configure_relay(TUTORIAL)
        network.leaving()
        yield network
    finally:
        network.down()


@pytest.fixture
def translating_relay(built_translator):
    without_guard(built_translator)
    built_translator.relay.maps["dmr_route"].update(bytes(4), bytes(8 * built_translator.relay.cpus), built_translator.relay.cpus)
    for link in built_translator.links.values():
        while link.receive(lambda _packet: True, seconds=0):
            pass
    return built_translator


def both_ways(network, *sent, icmp_source=bpf_rule.DUMMY_ADDRESS, **treatment):
    """What leaves without and with the fast path, and how much of `sent` that has taken."""
    left = []
    for is_fast in (False, True):
        network.take(is_fast)
        network.relay.configure_relay(TUTORIAL, icmp_source=icmp_source)
        network.relay.treat(**treatment)
        left.append({name: [test_translate_links.without_chance(packet) for packet in found] for name, found in network.leaving(*sent).items()})
    counted = network.relay.counted()
    return *left, counted.get("in_fast", 0) + counted.get("out_fast", 0) - 2


@pytest.mark.parametrize("variables, given, expected", [
    ({}, 1460, 1432), ({}, 1432, 1432), ({"mss": 1300}, 1460, 1300), ({"mss": "off"}, 1460, 1460)])
@pytest.mark.parametrize("ends", [(FAR, SHARED, 53, CE_PORT), (CE, SERVER, CE_PORT, 53)], ids=["out", "in"])
def test_the_mss_of_translated_packets_is_lowered_and_never_raised(translating_relay, ends, variables, given, expected):
    guard(translating_relay, "bpf", **variables)
    is_off = variables.get("mss") == "off"
    packet = syn(*ends, given)
    general, fast, taken = both_ways(translating_relay, packet, lowers_mss=not is_off)
    (left,) = [packet for found in fast.values() for packet in found]
    assert (fast, taken, mss_in(left)) == (general, is_off, expected)
    assert changes(translating_relay) == ({"mss_lowered": 2} if given > expected else {})


@pytest.mark.parametrize("dscp, tos, traffic_class", [(None, 0xBB, 0xBB), (0, 0xB9, 0x01), (46, 0x02, 0xBA), (63, 0x2B, 0xFF)])
def test_translated_packets_get_the_dscp_that_is_wanted(translating_relay, dscp, tos, traffic_class):
    general, fast, taken = both_ways(translating_relay, udp(FAR, SHARED, 53, CE_PORT, tos=tos), dscp=dscp)
    assert (fast, taken) == (general, 1)
    assert class_of(fast["down0"][0]) == traffic_class


def test_what_comes_from_a_ce_keeps_its_dscp(translating_relay):
    general, fast, taken = both_ways(translating_relay, udp(CE, SERVER, CE_PORT, 53, traffic_class=0x2A), dscp=46)
    assert (fast, taken, fast["far0"][0][1]) == (general, 1, 0x2A)


@pytest.mark.parametrize("source", [bpf_rule.DUMMY_ADDRESS, REPORTER])
def test_errors_of_ipv6_routers_come_from_the_address_that_is_wanted(translating_relay, source):
    """RFC 6791."""
    error = packets.error(IPV6_ROUTER, SERVER, udp(SERVER, CE, 53, CE_PORT), packets.ICMPV6_TIME_EXCEEDED)
    general, fast, taken = both_ways(translating_relay, error, icmp_source=source)
    assert (fast, taken) == (general, 0)
    (left,) = fast["far0"]
    assert (packets.source_of(left), left[20]) == (source, packets.ICMP_TIME_EXCEEDED) and packets.has_valid_checksum(left)


@pytest.mark.parametrize("variables, source", [({}, "203.0.113.254"), ({"icmp_source": REPORTER}, REPORTER)])
def test_errors_of_the_relay_come_from_the_address_that_is_wanted(translating_relay, variables, source):
    guard(translating_relay, "bpf", **variables)
    too_big = udp(FAR, SHARED, 53, CE_PORT, bytes(1473 - 28), fragment=0x4000)
    general, fast, taken = both_ways(translating_relay, too_big)
    assert (fast, taken) == (general, 0)
    (left,) = fast["far0"]
    assert (packets.source_of(left), left[20:22]) == (source, bytes([3, 4])) and packets.has_valid_checksum(left)


def test_errors_for_a_ce_come_from_the_address_that_is_wanted(translating_relay):
    guard(translating_relay, "bpf", icmp_source=REPORTER)
    general, fast, _taken = both_ways(translating_relay, udp(CE, "64:ff9b::c633:6407", CE_PORT, 53))  # there is no route for it
    assert fast == general
    (left,) = fast["down0"]
    assert (packets.source_of(left), packets.destination_of(left)) == ("64:ff9b::c633:6442", CE) and packets.has_valid_checksum(left)


# ---- fragments ----

def halves(source, destination, count, first_size):
    """First fragments of as many datagrams, whose rest never comes."""
    whole = udp(source, destination, 53, 9, bytes(2000))
    return [packets.fragments(whole, [first_size], identification)[0] for identification in range(1000, 1000 + count)]


def comes_through(network, packet, link, seconds):
    """Whether a datagram in fragments does, once or within some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        for piece in packets.fragments(packet, [1400]):
            network.send(piece)
        if network.links[link].receive(test_translate_links.is_telling, seconds=0.5):
            return True
        if time.monotonic() > deadline:
            return False


LIMITS = {
    "memory": ({"reassembly_memory": 4, "reassembly_time": 10}, False), "time": ({"reassembly_memory": 4, "reassembly_time": 1}, True),
    "defaults": ({}, True),
}


@pytest.mark.parametrize("variables, arrives", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("link, sent, lost", [
    ("down0", udp(FAR, SHARED, 53, CE_PORT, bytes(2000)), halves("203.0.113.9", SHARED, 3000, 1400)),
    ("far0", udp(CE, SERVER, CE_PORT, 53, bytes(2000)), halves(CE, "64:ff9b::cb00:7109", 3000, 1400))], ids=["out", "in"])
def test_fragments_that_never_become_whole_keep_others_out_within_the_limits(translating_relay, variables, arrives, link, sent, lost):
    """3000 of them take more than 4 MiB, and less than 64."""
    translating_relay.take(False)
    translating_relay.relay.configure_relay(TUTORIAL)
    lines = role_variables.br_generations(**variables)["bpf"]["main/sysctl"].splitlines()
    translating_relay.sysctl(*(line.replace(" = ", "=") for line in lines if "frag" in line and " = " in line))
    for packet in lost:
        translating_relay.send(packet)
    assert comes_through(translating_relay, sent, link, seconds=20 if arrives else 0) is arrives
    if not arrives:  # what waits would be in the way of the next test
        assert comes_through(translating_relay, sent, link, seconds=30)
