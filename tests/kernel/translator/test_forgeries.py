# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forged packets arrive nowhere, and each is counted under its reason; odd ones that are honest do arrive."""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import struct

import packets
import pytest
from network import BR_IPV6, EDGES, HOST, SERVER, SERVER_IN_DMR, running

ONE, TWO, THREE = EDGES["1"], EDGES["2"], EDGES["3"]
ELSEWHERE = "2001:db8:99::1"
HOP_BY_HOP, GRE, DESTINATION_OPTIONS, PADDING = 0, 47, 60, b"\x01\x04\0\0\0\0"


@pytest.fixture(scope="module")
def mesh_network(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), edges="12", mesh=True) as network:
        yield network


def other(address, bit):
    """An address that differs in one bit; bit: counted from the last, 0."""
    return str(ipaddress.ip_address(int(ipaddress.ip_address(address)) ^ 1 << bit))


def udp(source, destination, source_port, destination_port=packets.DISCARD):
    return packets.udp(source, destination, source_port, destination_port, b"forged")


def check(network, router, forged, send, honest, watched):
    """Each packet of `forged` moves its own counter and comes out nowhere; behind them an honest one does.

    forged: {what: (packet, counter or None)}; send: a function that puts a packet on its way; honest: a packet with the data "honest";
    watched: [(place, device)], the first one where the honest packet comes out.
    """
    def deviation(*cases):
        """How the counters and the packets that came out differ from what these cases should do; empty when they do not."""
        with contextlib.ExitStack() as stack:
            captures = [stack.enter_context(network.capture(*where)) for where in watched]
            with network.counted(router) as moved:
                for packet, _counter in cases:
                    send(packet)
                send(honest)
                captures[0].wait_for(lambda seen: seen.endswith(b"honest"))
            arrived = [seen.hex(" ", 4) for capture in captures for seen in capture.packets() if b"forged" in seen]
        dropped = {name: count for name, count in moved.items() if "_passed" not in name and not name.startswith("guard.from_")}
        wanted = collections.Counter(counter for _packet, counter in cases if counter)
        return f"{dropped}, not {dict(wanted)}; arrived: {arrived}" if dropped != wanted or arrived else ""

    together = deviation(*forged.values())
    if together:  # then one by one, to name it
        each = {what: deviation(case) for what, case in forged.items()}
        raise AssertionError("\n".join([f"together: {together}", *(f"{what}: {wrong}" for what, wrong in each.items() if wrong)]))


def test_a_customer_edge_deceives_the_border_relay(network):
    port, four = ONE.ports[7], EDGES["4"]
    no_rule, spoofed = "in_dropped_no_rule", "in_dropped_spoofed"
    check(network, "br", {
        "another's port": (udp(ONE.map_address, SERVER_IN_DMR, THREE.ports[7]), spoofed),
        "another's PSID": (udp(THREE.map_address, SERVER_IN_DMR, port), spoofed),
        "another's IPv4 address in the interface identifier": (udp(other(ONE.map_address, 16), SERVER_IN_DMR, port), spoofed),
        "another PSID in the interface identifier only": (udp(other(ONE.map_address, 0), SERVER_IN_DMR, port), spoofed),
        "another PSID in the prefix only": (udp(other(ONE.map_address, 64), SERVER_IN_DMR, port), spoofed),
        "a bit before the IPv4 address": (udp(other(ONE.map_address, 48), SERVER_IN_DMR, port), spoofed),
        "no interface identifier": (udp(ONE.prefix, SERVER_IN_DMR, port), no_rule),
        "the customer edge's own address": (udp(ONE.wan, SERVER_IN_DMR, port), no_rule),
        "an address of no rule": (udp("2001:db8:ce:11b:0:c633:6301:1b", SERVER_IN_DMR, port), no_rule),
        "a prefix of no rule": (udp("2001:db8:cf:11b:0:c000:208:1b", SERVER_IN_DMR, port), no_rule),
        "a prefix of another rule": (udp("2001:db8:c6:11b:0:c000:208:1b", SERVER_IN_DMR, port), no_rule),
        "the DMR": (udp(SERVER_IN_DMR, SERVER_IN_DMR, port), "guard.dmr_spoofed"),
        "the DMR, to a customer edge": (udp(SERVER_IN_DMR, TWO.map_address, port, TWO.ports[0]), "guard.dmr_spoofed"),
        "port 0": (udp(four.map_address, SERVER_IN_DMR, 0), "in_dropped_port_zero"),
        "a port of nobody": (udp(four.map_address, SERVER_IN_DMR, 53), "in_dropped_excluded_port"),
        "no port": (packets.ipv6(ONE.map_address, SERVER_IN_DMR, GRE, b"\0\0\x08\0forged"), "in_dropped_no_port"),
        "an identifier of another's": (packets.echo(ONE.map_address, SERVER_IN_DMR, THREE.ports[7], data=b"forged"), spoofed),
        "to 127.0.0.1": (udp(ONE.map_address, "64:ff9b::7f00:1", port), "in_dropped_martian"),
        "an error about another's packet": (
            packets.error(ONE.map_address, SERVER_IN_DMR, udp(SERVER_IN_DMR, THREE.map_address, 9, THREE.ports[7])), "in_dropped_wrong_quote"),
    }, lambda packet: network.inject("ce1", "isp", packet, ("br", "isp")),
        packets.udp(ONE.map_address, SERVER_IN_DMR, port, packets.DISCARD, b"honest"), [("s", "inet"), ("ce2", "isp")])


def test_the_internet_deceives_the_border_relay(network):
    check(network, "br", {
        "a customer edge's address": (udp(ONE.address, TWO.address, ONE.ports[7], TWO.ports[0]), "guard.own_prefix"),
        "port 0": (udp(SERVER, EDGES["4"].address, 9, 0), "out_dropped_port_zero"),
        "a port of nobody": (udp(SERVER, EDGES["4"].address, 9, 53), "out_dropped_excluded_port"),
        "no port": (packets.ipv4(SERVER, ONE.address, GRE, b"\0\0\x08\0forged"), "out_dropped_no_port"),
        "an error about another's packet": (packets.error(SERVER, ONE.address, udp(TWO.address, SERVER, TWO.ports[7])), "out_dropped_wrong_quote"),
    }, lambda packet: network.inject("s", "inet", packet, ("br", "inet")),
        packets.udp(SERVER, ONE.address, 9, ONE.ports[0], b"honest"), [("c1", "lan"), ("ce2", "isp")])


def for_an_edge(number):
    """What somebody on the provider's network sends to the customer edge."""
    edge = EDGES[number]
    far, port, not_own, outside = SERVER_IN_DMR, edge.ports[0], "in_dropped_not_own_port", "guard.outside_domain"
    cases = {
        "an address of its prefix that it does not have": (udp(far, other(edge.map_address, 0), 9, port), None),
        "no interface identifier": (udp(far, edge.prefix, 9, port), None),
        "another's port": (udp(far, edge.map_address, 9, THREE.ports[7]), not_own),
        "an identifier of another's": (packets.echo(far, edge.map_address, THREE.ports[7], data=b"forged"), not_own),
        "no port": (packets.ipv6(far, edge.map_address, GRE, b"\0\0\x08\0forged"), "in_dropped_no_port"),
        "nobody asked": (udp(far, edge.map_address, 9, edge.ports[7]), "napt.unsolicited"),
        "from outside the domain": (udp(ELSEWHERE, edge.map_address, 9, port), outside),
        "an echo from outside the domain": (packets.echo(ELSEWHERE, edge.map_address, port, data=b"forged"), outside),
        "from 127.0.0.1": (udp("64:ff9b::7f00:1", edge.map_address, 9, port), "in_dropped_martian"),
        "from an address inside the router": (udp("64:ff9b::c000:1", edge.map_address, 9, port), "guard.inner_address"),
        "from itself": (udp(edge.map_address, edge.map_address, port, port), "guard.map_address_spoofed"),
        "to the DMR": (udp(ELSEWHERE, SERVER_IN_DMR, 9, port), "guard.softwire_bypassed"),
        "IPv4": (udp(SERVER, edge.address, 9, port), "guard.untranslated"),
        # The main namespace has no way to it, and says so to a sender whom it knows no way to but the softwire, which does not take that.
        "IPv4 to the host": (udp(SERVER, HOST, 9, port), "out_napt_dropped_not_own_address"),
        "an error about another's packet": (
            packets.error(ELSEWHERE, edge.map_address, udp(THREE.map_address, far, THREE.ports[7])), "in_dropped_wrong_quote"),
        "an error about a port of another's": (packets.error(ELSEWHERE, edge.map_address, udp(edge.map_address, far, THREE.ports[7])), not_own),
        "an error about a packet to elsewhere": (
            packets.error(ELSEWHERE, edge.map_address, udp(edge.map_address, ELSEWHERE, edge.ports[7])), "in_dropped_outside_domain"),
    }
    if not edge.napt_namespace:
        del cases["IPv4 to the host"]  # which the router forwards as it did before it was a customer edge
    return cases


def watched(network, number):
    """Where packets come out of a customer edge."""
    return [("c" + number, "lan"), *[("c" + other, "lan") for other in network.edges if other != number], ("s", "inet")]


def send_to_edge(network, number):
    return lambda packet: network.inject("br", "isp", packet, ("ce" + number, "isp"))


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_provider_deceives_a_customer_edge(network, number):
    edge = EDGES[number]
    from_another = {"from another customer edge": (udp(THREE.map_address, edge.map_address, THREE.ports[7], edge.ports[0]), "guard.outside_domain")}
    check(network, "ce" + number, {**for_an_edge(number), **from_another}, send_to_edge(network, number),
          packets.udp(SERVER_IN_DMR, edge.map_address, 9, edge.ports[0], b"honest"), watched(network, number))


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_provider_deceives_a_customer_edge_of_a_mesh(mesh_network, number):
    edge, peer = EDGES[number], EDGES["2" if number == "1" else "1"]
    mine, theirs, spoofed, outside = edge.ports[0], peer.ports[7], "in_dropped_spoofed", "in_dropped_outside_domain"
    check(mesh_network, "ce" + number, {
        **for_an_edge(number),
        "a port of another's": (udp(peer.map_address, edge.map_address, THREE.ports[7], mine), spoofed),
        "another PSID in the interface identifier": (udp(other(peer.map_address, 0), edge.map_address, theirs, mine), spoofed),
        "another's IPv4 address in the interface identifier": (udp(other(peer.map_address, 17), edge.map_address, theirs, mine), spoofed),
        "a bit before the IPv4 address": (udp(other(peer.map_address, 48), edge.map_address, theirs, mine), spoofed),
        "no interface identifier": (udp(peer.prefix, edge.map_address, theirs, mine), outside),
        "an address of another rule": (udp("2001:db8:ce:774:0:c633:6412:14", edge.map_address, theirs, mine), outside),
        "no port": (packets.ipv6(peer.map_address, edge.map_address, GRE, b"\0\0\x08\0forged"), "in_dropped_no_port"),
        "another's port": (udp(peer.map_address, edge.map_address, theirs, THREE.ports[7]), "in_dropped_not_own_port"),
    }, send_to_edge(mesh_network, number),
        packets.udp(peer.map_address, edge.map_address, theirs, mine, b"honest"), watched(mesh_network, number))


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_lan_does_not_get_past_the_napt(network, number):
    edge = EDGES[number]
    host6, table = edge.prefix + "4", "translator" if edge.napt_namespace else "guard"
    check(network, "ce" + number, {
        "from the MAP address": (udp(edge.map_address, BR_IPV6, edge.ports[7]), f"{table}.map_address_spoofed"),
        "from the MAP address to the DMR": (udp(edge.map_address, SERVER_IN_DMR, edge.ports[7]), f"{table}.map_address_spoofed"),
        "to the DMR": (udp(host6, SERVER_IN_DMR, edge.ports[7]), f"{table}.softwire_bypassed"),
        "to the MAP address": (udp(host6, edge.map_address, 9, edge.ports[0]), f"{table}.not_by_wan"),
        "to the MAP address from the DMR": (udp(SERVER_IN_DMR, edge.map_address, 9, edge.ports[0]), f"{table}.not_by_wan"),
        "IPv4 from the edge's own address": (udp(edge.address, SERVER, edge.ports[7]), "napt.forward_source"),
        "IPv4 from an address inside the router": (udp("192.0.0.2", SERVER, edge.ports[7]), f"{'napt' if edge.napt_namespace else 'guard'}.inner_address"),
        "IPv4 from a network that may not use the softwire": (udp("10.9.8.7", SERVER, edge.ports[7]), "napt.forward_source"),
    }, lambda packet: network.inject("c" + number, "lan", packet, (network.napt(number), "lan")),
        packets.udp(host6, BR_IPV6, 9, 9, b"honest"), [("br", "isp"), ("s", "inet")])


def extended(packet, *headers):
    """An IPv6 packet with extension headers of 8 bytes each: [(kind, the last six bytes)]."""
    protocol, payload = packet[6], packet[packets.IPV6_HEADER:]
    for kind, rest in reversed(headers):
        protocol, payload = kind, bytes([protocol, 0]) + rest + payload
    return packets.ipv6(packets.source_of(packet), packets.destination_of(packet), protocol, payload)


EXTENSIONS = pytest.mark.parametrize("headers", [
    [(HOP_BY_HOP, PADDING)],
    [(DESTINATION_OPTIONS, PADDING)],
    [(HOP_BY_HOP, PADDING), (DESTINATION_OPTIONS, PADDING)],
    [(packets.FRAGMENT, struct.pack("!HI", 0, 0x1234))],
    [(DESTINATION_OPTIONS, PADDING), (packets.FRAGMENT, struct.pack("!HI", 0, 0x1234))],
], ids=["hop-by-hop", "destination", "both", "atomic fragment", "destination, atomic fragment"])


@EXTENSIONS
@pytest.mark.parametrize("number", ["1", "2"])
def test_extension_headers_and_atomic_fragments(network, number, headers):
    """RFC 7915 section 5.1: they go, the packet arrives; to a customer edge and from it."""
    edge = EDGES[number]
    with network.udp("c" + number) as (client, server):
        near, far = server.getpeername()[1], server.getsockname()[1]
        packet = packets.udp(SERVER_IN_DMR, edge.map_address, far, near, b"with more headers")
        network.inject("br", "isp", extended(packet, *headers), ("ce" + number, "isp"))
        assert client.recv(100) == b"with more headers"
        packet = packets.udp(edge.map_address, SERVER_IN_DMR, near, far, b"back with more headers")
        network.inject("ce" + number, "isp", extended(packet, *headers), ("br", "isp"))
        assert server.recv(100) == b"back with more headers"


@pytest.mark.parametrize("number", ["1", "2"])
def test_fragments_in_any_order(network, number):
    """The later ones have no port; to a customer edge and from it."""
    edge, data = EDGES[number], bytes(range(256)) * 8
    with network.udp("c" + number) as (client, server):
        near, far = server.getpeername()[1], server.getsockname()[1]
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            pieces = packets.fragments(packets.udp(SERVER_IN_DMR, edge.map_address, far, near, data), [800, 800])
            for place in order:
                network.inject("br", "isp", pieces[place], ("ce" + number, "isp"))
            assert client.recv(65535) == data
            pieces = packets.fragments(packets.udp(edge.map_address, SERVER_IN_DMR, near, far, data), [800, 800])
            for place in order:
                network.inject("ce" + number, "isp", pieces[place], ("br", "isp"))
            assert server.recv(65535) == data
