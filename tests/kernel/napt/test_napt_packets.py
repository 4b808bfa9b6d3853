"""The NAPT's ruleset with packets: every port set, every protocol, both ways."""

from __future__ import annotations

import copy
import os
import socket
import struct
import subprocess
import time

import pytest
from napt_cases import CASES, MSS, TIMEOUTS, Case
from napt_lab import (
    BEYOND, HOST, HOST2, INNER_ROUTER, OUTER_ROUTER, ROUTER, SERVER, SERVERS, SO_NO_CHECK, STRANGER, Packet, drain,
    echo_packet, error_packet, ip_packet, syn_packet, udp_packet, wait_for,
)

NOBODY = 9
with_forwards = pytest.mark.parametrize("case", [n for n in CASES if CASES[n].forwards], indirect=True, scope="module")
shared_only = pytest.mark.parametrize("case", [n for n in CASES if not CASES[n].full], indirect=True, scope="module")


def ports_of(packets):
    return {packet.sport for packet in packets}


def assert_ours(case, packets):
    """Nothing else than our address, ports of the set and right checksums."""
    for packet in packets:
        assert packet.src == case.address, "left with source %s" % packet.src
        assert packet.later or case.owns(packet.sport), "left with port %s" % packet.sport
        assert packet.ok, "left with a wrong checksum"


def grown(before, after, prefix):
    """By how much the counters whose names begin so have grown, together."""
    return sum(after[name] - before[name] for name in after if name.startswith(prefix))


def syn_fin(syn):
    """A segment that conntrack calls invalid."""
    return syn[:33] + b"\x03" + syn[34:]


def open_flow(lab, case, sport=4321, dport=NOBODY, payload=b"open", src=HOST):
    """One UDP packet out of the LAN; returns it as the server sees it."""
    lab.send("client", udp_packet(src, sport, SERVER, dport, payload))
    seen = wait_for(lab.outside, lambda p: p.payload == payload)
    assert_ours(case, [seen])
    return seen


@pytest.fixture
def sink(lab):
    """A server that swallows what it gets."""
    made = lab.udp("net", ("0.0.0.0", NOBODY))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with made:
        yield made


def test_every_port_serves_one_destination_and_the_next_flow_gets_nothing(lab, case, sink):
    wanted = case.pool()
    flows = {(1 + number) & 0xFFFF: None for number in range(len(wanted))}
    for _round in range(60):
        missing = [sport for sport, port in flows.items() if port is None]
        if not missing:
            break
        if len(missing) < 50:
            # the kernel looks for the last free ports at random, and not at all of them
            missing *= 20
        for start in range(0, len(missing), 500):
            for sport in missing[start:start + 500]:
                lab.send("client", udp_packet(HOST, sport, SERVER, NOBODY, struct.pack("!H", sport), summed=False))
            packets = drain(lab.outside)
            for packet in packets:
                flows[struct.unpack("!H", packet.payload)[0]] = packet.sport
            assert {packet.src for packet in packets} <= {case.address}
        for packet in drain(lab.outside, 0.02):
            flows[struct.unpack("!H", packet.payload)[0]] = packet.sport
    assert set(flows.values()) == wanted

    for sport in range(1000, 1050):
        lab.send("client", udp_packet(HOST2, sport, SERVER, NOBODY, b"one too many"))
    assert drain(lab.outside, 0.1) == []
    # the same port serves other destinations
    lab.send("client", udp_packet(HOST2, 1000, SERVERS[1], NOBODY, b"elsewhere"))
    assert_ours(case, [wait_for(lab.outside, lambda p: p.payload == b"elsewhere")])


def test_one_socket_shows_one_port_to_all_destinations(lab, case, sink):
    for server in SERVERS:
        lab.send("client", udp_packet(HOST, 4321, server, NOBODY, b"hello"))
    packets = drain(lab.outside, 0.1)
    assert len(packets) == 10
    assert len(ports_of(packets)) == 1
    assert_ours(case, packets)


def test_tcp_both_ways(lab, case):
    message = os.urandom(50000)
    with lab.listen("net", (SERVER, 80)) as listener, lab.connect("client", (SERVER, 80)) as client:
        server, peer = listener.accept()
        with server:
            server.settimeout(2)
            assert peer[0] == case.address
            assert case.owns(peer[1])
            for source, sink in ((client, server), (server, client)):
                source.sendall(message)
                received = b""
                while len(received) < len(message):
                    received += sink.recv(65536)
                assert received == message
    outside, inside = drain(lab.outside, 0.05), drain(lab.inside)
    assert_ours(case, outside)
    assert ports_of(outside) == {peer[1]}
    assert inside
    assert all(packet.ok for packet in inside)


@pytest.mark.parametrize(("asked", "seen"), [(None, MSS), (1000, 1000)])
def test_mss_is_lowered_in_both_directions_and_never_raised(lab, asked, seen):
    def mss(packet):
        return packet.protocol == 6 and packet.body[13] & 2 and struct.unpack("!H", packet.body[22:24])[0]

    with lab.listen("net", (SERVER, 80)) as listener:
        if asked:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, asked)
        with lab.socket("client", socket.SOCK_STREAM) as client:
            if asked:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, asked)
            client.connect((SERVER, 80))
    assert wait_for(lab.outside, mss).body[22:24] == struct.pack("!H", seen)
    assert wait_for(lab.inside, mss).body[22:24] == struct.pack("!H", seen)


@pytest.mark.parametrize("size", [100, 3000])
@pytest.mark.parametrize("summed", [True, False])
def test_udp_both_ways(lab, case, size, summed):
    message = os.urandom(size)
    with lab.udp("net", (SERVER, 5000)) as server, lab.udp("client", peer=(SERVER, 5000)) as client:
        for end in (server, client):
            end.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, int(not summed))
        client.send(message)
        received, peer = server.recvfrom(65535)
        assert received == message
        assert peer[0] == case.address
        server.sendto(message, peer)
        assert client.recv(65535) == message
    outside, inside = drain(lab.outside), drain(lab.inside)
    assert_ours(case, outside)
    assert len(outside) == (1 if size < 1472 else 3)
    for packet in outside[:1] + inside[:1]:
        assert (packet.sum != 0) == summed
        assert packet.ok


@pytest.mark.parametrize("size", [56, 3000])
def test_ping(lab, case, size):
    with lab.socket("client", socket.SOCK_RAW, socket.IPPROTO_ICMP) as client:
        client.settimeout(2)
        payload = os.urandom(size)
        request = echo_packet(HOST, SERVER, 777, payload)[20:]
        client.sendto(request, (SERVER, 0))
        reply = Packet(client.recv(65535))
        assert (reply.type, reply.sport, reply.src, reply.body[8:]) == (0, 777, SERVER, payload)
        assert reply.ok
    outside = drain(lab.outside)
    assert_ours(case, outside)
    assert len(outside) == (1 if size < 1472 else 3)


def segment_of(lab, case):
    """A TCP segment with data as the server sees it, the same as the client sent it, and the client's socket."""
    listener = lab.listen("net", (SERVER, 80))
    client = lab.connect("client", (SERVER, 80))
    client.sendall(b"x" * 600)
    outside = wait_for(lab.outside, lambda p: p.protocol == 6 and len(p.payload) == 600)
    assert_ours(case, [outside])
    return outside, client, listener


def original(case, packet):
    """What an incoming error shall quote at the client, and that the quotation is right."""
    assert packet.ok
    assert packet.quoted.header_ok
    assert packet.quoted.src == HOST
    assert packet.quoted.dst == SERVER
    return packet.quoted


def test_port_unreachable_comes_in(lab, case):
    with lab.udp("client", peer=(SERVER, 7777)) as client:
        client.send(b"anyone?")
        error = wait_for(lab.inside, lambda p: p.quoted)
        quoted = original(case, error)
        assert (error.type, error.code, error.src) == (3, 3, SERVER)
        assert (quoted.sport, quoted.dport) == (client.getsockname()[1], 7777)
        assert quoted.sum != 0
        assert quoted.sum_ok
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


def test_error_about_udp_without_checksum_comes_in(lab, case, sink):
    lab.send("client", udp_packet(HOST, 4321, SERVER, NOBODY, b"no sum", summed=False))
    seen = wait_for(lab.outside, lambda p: p.payload == b"no sum")
    lab.send("net", error_packet(SERVER, case.address, 3, 1, seen.data))
    quoted = original(case, wait_for(lab.inside, lambda p: p.quoted))
    assert (quoted.sport, quoted.sum) == (4321, 0)


@pytest.mark.parametrize("whole", [True, False])
def test_path_mtu_comes_in(lab, case, whole):
    seen, client, listener = segment_of(lab, case)
    with client, listener:
        lab.send("net", error_packet("198.51.100.9", case.address, 3, 4, seen.data if whole else seen.data[:28], mtu=1300))
        error = wait_for(lab.inside, lambda p: p.quoted)
        quoted = original(case, error)
        assert (error.type, error.code, error.word, error.mtu) == (3, 4, 0, 1300)
        assert quoted.sport == client.getsockname()[1]
        if whole:
            assert quoted.sum_ok


def test_path_mtu_reaches_the_socket(lab, case):
    IP_MTU, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 14, 10, 2
    far = SERVERS[8]
    with lab.udp("net", (far, NOBODY)), lab.udp("client", peer=(far, NOBODY)) as client:
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        client.send(b"b" * 1400)
        seen = wait_for(lab.outside, lambda p: p.dst == far)
        lab.send("net", error_packet(BEYOND, case.address, 3, 4, seen.data[:28], mtu=1300))
        wait_for(lab.inside, lambda p: p.quoted)
        assert client.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1300


@pytest.mark.parametrize(("word", "arrives"), [(0, 0), (32, 32), (33, None)])
def test_time_exceeded_comes_in_with_its_rfc4884_length(lab, case, sink, word, arrives):
    seen = open_flow(lab, case, payload=b"y" * 100)
    extension = b"\x20\0\0\0" + struct.pack("!HBB", 8, 1, 1) + b"mpls"
    lab.send("net", error_packet(BEYOND, case.address, 11, 0, seen.data + (extension if word else b""), word=word))
    error = wait_for(lab.inside, lambda p: p.quoted)
    quoted = original(case, error)
    if arrives is not None:
        assert error.word == arrives
    assert (error.type, error.src, quoted.sport) == (11, BEYOND, 4321)
    assert quoted.sum_ok


def test_time_exceeded_about_a_ping_comes_in(lab, case):
    lab.send("client", echo_packet(HOST, SERVER, 777))
    seen = wait_for(lab.outside, lambda p: p.type == 8)
    lab.send("net", error_packet(BEYOND, case.address, 11, 0, seen.data))
    quoted = original(case, wait_for(lab.inside, lambda p: p.quoted))
    assert quoted.sport == 777
    assert quoted.sum_ok


def test_errors_go_out(lab, case, sink):
    flow = open_flow(lab, case)
    lab.send("net", udp_packet(SERVER, NOBODY, case.address, flow.sport, b"answer to nobody"))
    error = wait_for(lab.outside, lambda p: p.quoted)
    assert (error.src, error.dst, error.type, error.code) == (case.address, SERVER, 3, 3)
    assert (error.quoted.src, error.quoted.dst, error.quoted.sport, error.quoted.dport) == (
        SERVER, case.address, NOBODY, flow.sport)
    assert error.ok
    assert error.quoted.header_ok
    assert error.quoted.sum_ok


def test_errors_about_tcp_and_ping_go_out(lab, case):
    with lab.listen("net", (SERVER, 80)) as listener, lab.connect("client", (SERVER, 80)) as client:
        server, peer = listener.accept()
        with server:
            server.sendall(b"z" * 300)
            segment = wait_for(lab.inside, lambda p: p.protocol == 6 and len(p.payload) == 300)
            lab.send("client", error_packet(HOST, SERVER, 3, 4, segment.data, mtu=1200))
            error = wait_for(lab.outside, lambda p: p.quoted)
            assert (error.src, error.type, error.mtu, error.quoted.dport) == (case.address, 3, 1200, peer[1])
            assert error.ok
            assert error.quoted.sum_ok
            assert client.fileno() > 0
    lab.send("client", echo_packet(HOST, SERVER, 777))
    request = wait_for(lab.outside, lambda p: p.type == 8)
    reply = wait_for(lab.inside, lambda p: p.type == 0)
    lab.send("client", error_packet(HOST, SERVER, 11, 1, reply.data))
    error = wait_for(lab.outside, lambda p: p.quoted)
    assert (error.src, error.type, error.quoted.sport) == (case.address, 11, request.sport)
    assert error.ok
    assert error.quoted.sum_ok


@with_forwards
def test_the_routers_own_error_goes_out(lab, case):
    body = udp_packet(SERVER, 1111, case.address, case.game, b"last hop")[20:]
    lab.send("net", ip_packet(SERVER, case.address, 17, body, ttl=1))
    error = wait_for(lab.outside, lambda p: p.quoted)
    assert (error.src, error.type, error.quoted.dport) == (case.address, 11, case.game)
    assert error.ok
    assert error.quoted.sum_ok


@with_forwards
def test_the_routers_own_errors_are_few(lab, case):
    def send_last_hops():
        for number in range(100):
            lab.send("net", ip_packet(SERVER, case.address, 17, udp_packet(SERVER, 1111, case.address, case.game)[20:], ttl=1))
            lab.send("client", ip_packet(HOST, SERVER, 17, udp_packet(HOST, 1111, SERVER, NOBODY)[20:], ttl=1))
        return [len([p for p in drain(side, 0.1) if p.quoted]) for side in (lab.outside, lab.inside)]

    # the kernel's limit for each destination, which the lab lifts for the other tests; that for all of them is 1000 a second
    assert min(send_last_hops()) > 10
    lab.run("napt", "sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=1000")
    time.sleep(1.1)  # a destination had no tokens without a limit
    try:
        limited = send_last_hops()
        assert min(limited) >= 1 and max(limited) <= 10
    finally:
        lab.run("napt", "sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0")


def test_errors_quoting_what_is_not_ours_do_not_pass(lab, case):
    before = lab.counters()
    wrong = [udp_packet(case.address, port, SERVER, NOBODY, b"not mine") for port in case.foreign()]
    wrong.append(ip_packet(case.address, SERVER, 47, b"\0" * 20))
    # our port where a port stands in other packets: a later fragment, a header with options
    own = sorted(case.pool())[1]
    mine = udp_packet(case.address, own, SERVER, NOBODY, b"mine")
    wrong.append(mine[:6] + b"\0\x10" + mine[8:])
    wrong += [b"\x46" + theirs[1:20] + struct.pack("!HH", own, 0) + theirs[20:] for theirs in wrong[:1] if not case.full]
    for quoted in wrong:
        lab.send("net", error_packet(SERVER, case.address, 3, 3, quoted))
    assert drain(lab.inside, 0.05) == []
    assert drain(lab.outside) == []
    after = lab.counters()
    assert grown(before, after, "in_napt_dropped_") == (0 if case.full else len(wrong))


@with_forwards
@pytest.mark.parametrize("role", ["net", "client", "napt"])
def test_port_forward_from_outside_the_lan_and_the_router(lab, case, role):
    source = {"net": (SERVERS[1], 0), "client": (HOST2, 0), "napt": None}[role]
    with lab.listen("client", (HOST, 80)) as listener, lab.connect(role, (case.address, case.web), source) as caller:
        server, peer = listener.accept()
        with server:
            server.settimeout(2)
            caller.sendall(b"question")
            assert server.recv(100) == b"question"
            server.sendall(b"answer")
            assert caller.recv(100) == b"answer"
            if role == "net":
                assert peer[0] == SERVERS[1]
    outside = drain(lab.outside, 0.02)
    assert ports_of(outside) == ({case.web} if role == "net" else set())
    assert_ours(case, outside)


@with_forwards
def test_forwarded_host_speaks_from_its_forwarded_port(lab, case, sink):
    with lab.udp("client", (HOST, 3074)) as game:
        lab.send("net", udp_packet(SERVERS[2], 1111, case.address, case.game, b"join"))
        assert game.recvfrom(100) == (b"join", (SERVERS[2], 1111))
        game.sendto(b"hello", (SERVER, NOBODY))
        seen = wait_for(lab.outside, lambda p: p.payload == b"hello")
        assert (seen.src, seen.sport) == (case.address, case.game)


def ask(lab, role, where, source, listener):
    """A connection to a listener, and what the listener sees as its other end."""
    with lab.connect(role, where, source) as caller:
        server, peer = listener.accept()
        with server:
            server.sendall(b"welcome")
            assert caller.recv(100) == b"welcome"
    return peer


EVERYWHERE = {"net": (SERVERS[1], 0), "client": (HOST2, 0), "napt": None}


@with_forwards
@pytest.mark.parametrize("role", EVERYWHERE)
def test_reserved_port_reaches_the_router(lab, case, role):
    with lab.listen("napt", ("0.0.0.0", case.service)) as listener:
        peer = ask(lab, role, (case.address, case.service), EVERYWHERE[role], listener)
    assert role == "napt" or peer[0] == EVERYWHERE[role][0]
    outside = drain(lab.outside, 0.02)
    assert ports_of(outside) == ({case.service} if role == "net" else set())
    assert_ours(case, outside)


@with_forwards
def test_service_of_the_router_speaks_from_its_reserved_port(lab, case):
    with lab.udp("napt", ("0.0.0.0", case.service)) as service, lab.udp("net", (SERVER, 5000)) as server:
        service.sendto(b"from the service", (SERVER, 5000))
        assert server.recvfrom(100) == (b"from the service", (case.address, case.service))
        server.sendto(b"to the service", (case.address, case.service))
        assert service.recvfrom(100) == (b"to the service", (SERVER, 5000))


@with_forwards
@pytest.mark.parametrize("role", EVERYWHERE)
def test_port_forward_to_the_router(lab, case, ruleset, tmp_path, role):
    to_router = copy.copy(case)
    to_router.forwards = [{**case.forwards[0], "to_address": ROUTER}]
    path = tmp_path / "napt.nft"
    path.write_text(to_router.render(), encoding="utf-8")
    lab.load(path)
    try:
        with lab.listen("napt", ("0.0.0.0", 80)) as listener:
            peer = ask(lab, role, (case.address, case.web), EVERYWHERE[role], listener)
        assert role == "napt" or peer[0] == EVERYWHERE[role][0]
        assert_ours(case, drain(lab.outside, 0.02))
    finally:
        lab.load(ruleset)


def test_router_speaks_from_the_set(lab, case):
    with lab.udp("net", (SERVER, 5000)) as server, lab.udp("napt", peer=(SERVER, 5000)) as router:
        router.send(b"question")
        _data, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert router.recv(100) == b"answer"
    assert_ours(case, drain(lab.outside))


def test_daemon_on_a_number_of_the_nat_is_closed(lab, case):
    number = case.index["pool"][0] + 9
    port = case.index["ranges"][0][1] + 9 if case.index["rewrite"] else number
    if case.index["rewrite"]:
        first, low, _length = next(r for r in case.index["ranges"] if r[0] <= number < r[0] + r[2])
        port = low + number - first
    before = lab.counters()["unsolicited"]
    with lab.listen("napt", ("0.0.0.0", number)), lab.udp("napt", ("0.0.0.0", number)) as daemon:
        lab.send("net", syn_packet(SERVER, 1111, case.address, port))
        lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"open up"))
        assert drain(lab.outside, 0.05) == []
        daemon.setblocking(False)
        with pytest.raises(BlockingIOError):
            daemon.recv(1)
    assert lab.counters()["unsolicited"] == before + 2


@pytest.mark.parametrize("local", [True, False])
def test_unsolicited_packets_end_here_and_are_counted(lab, case, local):
    ports = [low or 1 for low, _high in case.ranges if (low or 1) not in case.index["static"]]
    if local:
        lab.ip("napt", "address add %s/32 dev lo" % case.address)
    try:
        before = lab.counters()
        for port in ports:
            lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"hello?"))
            lab.send("net", syn_packet(SERVER, 1111, case.address, port))
            lab.send("net", echo_packet(SERVER, case.address, port))
        for port in case.foreign():
            lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"hello?"))
        assert drain(lab.outside, 0.05) == []
        assert drain(lab.inside) == []
        after = lab.counters()
        counted = {name: after[name] - before[name] for name in after if after[name] != before[name] and "passed" not in name}
        outside_the_set = {"in_napt_dropped_not_own_port": len(case.foreign())} if case.foreign() else {}
        assert counted == {"unsolicited": 3 * len(ports), **outside_the_set}
    finally:
        if local:
            lab.ip("napt", "address del %s/32 dev lo" % case.address)


def seconds_left(lab, protocol, *filters):
    """What conntrack says of the one connection that matches."""
    line, = lab.run("napt", "conntrack", "-L", "-p", protocol, *filters).splitlines()
    return int(line.split()[2])


def test_idle_connections_keep_their_port_as_long_as_configured(lab, case, sink):
    def about(seconds):
        return range(seconds - 3, seconds + 1)

    with lab.listen("net", (SERVER, 80)) as listener, lab.connect("client", (SERVER, 80)) as client:
        server, _peer = listener.accept()
        with server:
            assert seconds_left(lab, "tcp") in about(TIMEOUTS["tcp_established"])
            client.close()
            assert server.recv(1) == b""
            drain(lab.outside, 0.05)
            assert seconds_left(lab, "tcp", "--state", "CLOSE_WAIT") in about(TIMEOUTS["tcp_transitory"])
    drain(lab.outside, 0.05)
    assert seconds_left(lab, "tcp", "--state", "TIME_WAIT") in about(TIMEOUTS["tcp_time_wait"])
    with lab.listen("net", (SERVER, 81)) as listener, lab.connect("client", (SERVER, 81)) as client:
        server, _peer = listener.accept()
        lab.run("net", "nft", "table ip mute { chain out { type filter hook output priority 0; ip protocol tcp drop; }; }")
        client.send(b"x")
        drain(lab.outside, 1)  # it is sent again a few times
        assert seconds_left(lab, "tcp", "--state", "ESTABLISHED") in about(TIMEOUTS["tcp_established"])
        lab.run("net", "nft", "delete table ip mute")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()  # a RST
        drain(lab.outside, 0.3)
        assert seconds_left(lab, "tcp", "--state", "CLOSE") in about(TIMEOUTS["tcp_transitory"])
    lab.send("client", syn_packet(HOST, 1234, "198.51.100.77", 80))
    drain(lab.outside, 0.05)
    assert seconds_left(lab, "tcp", "--state", "SYN_SENT") in about(TIMEOUTS["tcp_transitory"])
    lab.send("client", udp_packet(HOST, 1234, SERVER, NOBODY, b"hello"))
    seen = wait_for(lab.outside, lambda p: p.payload == b"hello")
    assert seconds_left(lab, "udp") in about(TIMEOUTS["udp"])
    lab.send("net", udp_packet(SERVER, NOBODY, case.address, seen.sport, b"hi"))
    wait_for(lab.inside, lambda p: p.protocol == 17)
    assert seconds_left(lab, "udp") in about(TIMEOUTS["udp"])
    lab.send("client", udp_packet(HOST, 1234, SERVERS[1], 53, b"name?"))
    wait_for(lab.outside, lambda p: p.payload == b"name?")
    assert seconds_left(lab, "udp", "--dport", "53") in about(TIMEOUTS["dns"])


def test_no_client_takes_more_than_its_share(lab, case, ruleset, sink, tmp_path):
    limited = tmp_path / "napt.nft"
    limited.write_text(case.render(max_ports_per_client=20), encoding="utf-8")
    lab.load(limited)
    try:
        before = lab.counters()["forward_limit"]
        private = lab.counters()["out_napt_dropped_not_own_address"]
        for _again in range(2):  # the second packet of a socket is no second connection
            for sport in range(2000, 2040):
                lab.send("client", udp_packet(HOST, sport, SERVER, NOBODY, struct.pack("!H", sport)))
        seen = drain(lab.outside, 0.1)
        assert_ours(case, seen)
        assert len(ports_of(seen)) == 20 and {struct.unpack("!H", packet.payload)[0] for packet in seen} == set(range(2000, 2020))
        assert len(seen) == 40
        assert lab.counters()["forward_limit"] == before + 40
        told = [packet for packet in drain(lab.inside) if packet.quoted]
        assert told and {(packet.src, packet.type, packet.code) for packet in told} == {(ROUTER, 3, 1)}
        for make in (syn_packet, lambda src, _sport, dst, _dport: echo_packet(src, dst, 77)):
            lab.send("client", make(HOST, 2222, SERVER, 80))
        assert drain(lab.outside, 0.05) == []
        # what it has keeps working, others have as many, and what ends makes room
        lab.send("net", udp_packet(SERVER, NOBODY, case.address, seen[0].sport, b"back"))
        assert wait_for(lab.inside, lambda p: p.payload == b"back").dport == struct.unpack("!H", seen[0].payload)[0]
        open_flow(lab, case, sport=2000, payload=b"known")
        for sport in range(3000, 3020):
            open_flow(lab, case, sport, payload=struct.pack("!H", sport), src=HOST2)
        with lab.udp("napt", peer=(SERVER, NOBODY)) as router:
            router.send(b"the router itself")
            wait_for(lab.outside, lambda p: p.payload == b"the router itself")
        lab.run("napt", "conntrack", "-D", "-p", "udp", "-s", HOST, "--sport", "2001")
        open_flow(lab, case, sport=2500, payload=b"room")
        assert lab.counters()["out_napt_dropped_not_own_address"] == private
    finally:
        lab.load(ruleset)


def test_a_limit_that_changes_holds_for_the_clients_that_are_known(lab, case, ruleset, sink, tmp_path):
    path = tmp_path / "napt.nft"
    try:
        for limit, ports in ((2, range(2000, 2010)), (4, range(3000, 3010))):
            path.write_text(case.render(max_ports_per_client=limit), encoding="utf-8")
            lab.load(path)
            for sport in ports:
                lab.send("client", udp_packet(HOST, sport, SERVER, NOBODY, struct.pack("!H", sport)))
            assert len(ports_of(drain(lab.outside, 0.1))) == limit
    finally:
        lab.load(ruleset)


@shared_only
def test_foreign_ports_and_protocols_are_counted_and_dropped(lab, case):
    before = lab.counters()
    for port in case.foreign():
        lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"hello?"))
        lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"hello?", summed=False))
        lab.send("net", syn_packet(SERVER, 1111, case.address, port))
        lab.send("net", echo_packet(SERVER, case.address, port))
    lab.send("net", ip_packet(SERVER, case.address, 47, b"\0" * 8))
    lab.send("client", ip_packet(HOST, SERVER, 47, b"\0" * 8))
    assert drain(lab.outside, 0.05) == []
    after = lab.counters()
    assert grown(before, after, "in_napt_dropped_") == 4 * len(case.foreign()) + 1
    assert grown(before, after, "out_napt_dropped_") == after["out_napt_dropped_not_own_address"] - before["out_napt_dropped_not_own_address"] == 1


def test_sources_that_may_not_use_the_softwire(lab, case):
    before = lab.counters()["forward_source"]
    lab.send("client", udp_packet(STRANGER, 1234, SERVER, NOBODY, b"stranger"))
    lab.send("client", udp_packet("10.9.9.9", 1234, SERVER, NOBODY, b"spoofed"))
    lab.send("client", syn_packet(STRANGER, 1234, SERVER, 80))
    lab.send("client", echo_packet(STRANGER, SERVER, 1234))
    assert drain(lab.outside, 0.05) == []
    assert lab.counters()["forward_source"] == before + 4
    # our address as source, from the LAN, with a number the rewrite knows; the LAN may use a prefix of our own
    lab.send("client", udp_packet(case.address, case.index["pool"][0], SERVER, NOBODY, b"spoofed"))
    assert len(drain(lab.outside, 0.05)) == (1 if case.prefix else 0)
    if not case.prefix:
        # nor with a segment that no NAT touches
        lab.send("client", syn_fin(syn_packet(case.address, case.index["pool"][0], SERVER, 80)))
        assert drain(lab.outside, 0.05) == []
        assert lab.counters()["forward_source"] == before + 6


@shared_only
def test_not_even_the_router_leaves_the_set(lab, case):
    # none of these opens a connection, so the NAT does not touch them
    before = lab.counters()
    low, high = case.index["pool"]
    foreign = [port for port in case.foreign() if not low <= port <= high]
    for port in foreign:
        lab.send("napt", syn_fin(syn_packet(case.address, port, SERVER, 80)))
        lab.send("napt", echo_packet(case.address, SERVER, port, kind=0))
        lab.send("napt", error_packet(case.address, SERVER, 3, 3, udp_packet(SERVER, 1111, case.address, port)))
        lab.send("napt", error_packet(case.address, SERVER, 11, 0, echo_packet(SERVER, case.address, port)))
    lab.send("napt", error_packet(case.address, SERVER, 3, 3, ip_packet(SERVER, case.address, 47, b"\0" * 20)))
    lab.send("napt", error_packet(case.address, SERVER, 5, 0, udp_packet(SERVER, 1111, case.address, 80)))
    assert drain(lab.outside, 0.05) == []
    after = lab.counters()
    assert after["out_napt_dropped_not_own_address"] == before["out_napt_dropped_not_own_address"]
    assert grown(before, after, "out_napt_dropped_") == 4 * len(foreign) + 2


def test_invalid_segments_do_not_leave_with_a_private_source(lab):
    before = lab.counters()["out_napt_dropped_not_own_address"]
    lab.send("client", syn_fin(syn_packet(HOST, 1234, SERVER, 80)))
    assert drain(lab.outside, 0.05) == []
    assert lab.counters()["out_napt_dropped_not_own_address"] == before + 1


def test_softwire_reaches_no_private_address(lab):
    before = lab.counters()["in_napt_dropped_not_own_address"]
    lab.send("net", udp_packet(SERVER, 1111, HOST, 80, b"hello?"))
    lab.send("net", udp_packet(SERVER, 1111, BEYOND, 80, b"elsewhere"))
    assert drain(lab.inside, 0.05) == []
    assert drain(lab.outside) == []
    assert lab.counters()["in_napt_dropped_not_own_address"] == before + 2


def test_the_router_behind_the_device_uses_the_softwire_and_reaches_the_lan(lab, case):
    lab.send("net", udp_packet(OUTER_ROUTER, 40000, BEYOND, 53, b"query"))
    seen = wait_for(lab.outside, lambda p: p.payload == b"query")
    assert_ours(case, [seen])
    assert seen.dst == BEYOND
    lab.send("net", udp_packet(BEYOND, 53, case.address, seen.sport, b"response"))
    back = wait_for(lab.outside, lambda p: p.payload == b"response")
    assert (back.dst, back.dport) == (OUTER_ROUTER, 40000)
    assert back.ok
    with lab.udp("client", (HOST, 5353)) as host, lab.udp("net", (OUTER_ROUTER, 5353)) as router:
        router.sendto(b"hello", (HOST, 5353))
        assert host.recvfrom(100) == (b"hello", (OUTER_ROUTER, 5353))
        host.sendto(b"hi", (OUTER_ROUTER, 5353))
        assert router.recvfrom(100) == (b"hi", (HOST, 5353))


def test_without_router_networks_nothing_but_our_address_comes_in(lab, case, ruleset, tmp_path):
    one_namespace = Case(case.ranges, case.psid_length, prefix=case.prefix, router_networks=())
    path = tmp_path / "napt.nft"
    path.write_text(one_namespace.render(), encoding="utf-8")
    lab.load(path)
    attached = lab.bpf
    lab.detach()
    lab.attach(one_namespace.programs(lab.instance))
    try:
        before = lab.counters()["in_napt_dropped_not_own_address"]
        lab.send("net", udp_packet(OUTER_ROUTER, 40000, BEYOND, 53, b"query"))
        lab.send("net", udp_packet(OUTER_ROUTER, 40000, HOST, 53, b"query"))
        assert drain(lab.outside, 0.05) == []
        assert drain(lab.inside) == []
        assert lab.counters()["in_napt_dropped_not_own_address"] == before + 2
    finally:
        lab.load(ruleset)
        lab.detach()
        lab.attach(attached)


@pytest.mark.parametrize("case", ["full", "prefix"], indirect=True, scope="module")
def test_an_address_of_our_own_carries_any_protocol(lab, case):
    lab.send("client", ip_packet(HOST, SERVER, 47, b"\0" * 20))
    assert wait_for(lab.outside, lambda p: p.protocol == 47).src == case.address
    lab.send("net", ip_packet(SERVER, case.address, 47, b"\0" * 20))
    assert wait_for(lab.inside, lambda p: p.protocol == 47).dst == HOST


@pytest.mark.parametrize("case", ["prefix"], indirect=True, scope="module")
def test_hosts_numbered_from_the_prefix_are_not_translated(lab, case):
    host = "192.0.2.20"
    lab.ip("client", "address add %s/32 dev eth0" % host)
    lab.ip("napt", "route add %s/32 dev lan0" % host)
    with lab.udp("client", (host, 1234)) as client, lab.udp("net", (SERVER, 5000)) as server:
        client.sendto(b"question", (SERVER, 5000))
        assert server.recvfrom(100) == (b"question", (host, 1234))
        server.sendto(b"answer", (host, 1234))
        assert client.recv(100) == b"answer"


@shared_only
def test_nothing_from_the_softwire_goes_back_into_it(lab, case):
    # as if someone deleted the blackhole: the default route points back
    lab.ip("napt", "rule del pref 30000")
    try:
        before = lab.counters()["unsolicited"]
        port = sorted(case.pool())[3]
        lab.send("net", udp_packet(SERVER, 1111, case.address, port, b"hello?"))
        assert drain(lab.outside, 0.05) == []
        assert lab.counters()["unsolicited"] == before + 1
    finally:
        lab.ip("napt", "rule add pref 30000 iif ce-main to %s blackhole" % case.own)


def test_the_link_between_the_namespaces_is_not_the_lans(lab):
    before = lab.counters()["inner_address"]
    lab.send("client", udp_packet(HOST, 1234, OUTER_ROUTER, 22, b"let me in"))
    lab.send("client", syn_packet(HOST, 1234, OUTER_ROUTER, 22))
    lab.send("client", echo_packet(HOST, OUTER_ROUTER, 1234))
    lab.send("client", echo_packet(HOST, INNER_ROUTER, 1234))
    lab.send("client", udp_packet(OUTER_ROUTER, 1234, SERVER, NOBODY, b"as if we were the router"))
    assert drain(lab.outside, 0.05) == []
    assert [packet for packet in drain(lab.inside) if packet.protocol == 1] == []
    assert lab.counters()["inner_address"] == before + 5


def test_reload_loses_no_packet_and_no_flow(lab, case, ruleset, sink):
    flows = {}
    for sport in range(20000, 20030):
        lab.send("client", udp_packet(HOST, sport, SERVER, NOBODY, struct.pack("!H", sport)))
    for packet in drain(lab.outside, 0.05):
        flows[struct.unpack("!H", packet.payload)[0]] = packet.sport
    if len(flows) < 30:
        # a pool that is picked at random may need a second try
        flows = {sport: open_flow(lab, case, sport, payload=struct.pack("!H", sport)).sport for sport in range(20000, 20030)}
    drain(lab.inside)
    sent = 0
    seen, came = [], []
    for _reload in range(5):
        loading = subprocess.Popen(["ip", "netns", "exec", lab.names["napt"], "nft", "-f", str(ruleset)])
        while loading.poll() is None:
            for sport, port in flows.items():
                lab.send("client", udp_packet(HOST, sport, SERVER, NOBODY, struct.pack("!H", sport)))
                lab.send("net", udp_packet(SERVER, NOBODY, case.address, port, struct.pack("!H", sport)))
                sent += 1
            seen += drain(lab.outside)
            came += drain(lab.inside)
            time.sleep(0.001)
        assert loading.returncode == 0
    seen += drain(lab.outside, 0.05)
    came += drain(lab.inside)
    assert sent > 100
    out = [packet for packet in seen if packet.protocol == 17]
    into = [packet for packet in came if packet.protocol == 17]
    assert len(out) == sent
    assert len(into) == sent
    assert all(packet.sport == flows[struct.unpack("!H", packet.payload)[0]] for packet in out)
    assert all(packet.dport == struct.unpack("!H", packet.payload)[0] for packet in into)
    assert_ours(case, out)


def test_a_connection_keeps_its_time_out_across_a_reload(lab, case, ruleset, sink):
    lab.send("client", udp_packet(HOST, 1234, SERVERS[1], 53, b"name?"))
    answer = wait_for(lab.outside, lambda p: p.payload == b"name?")
    lab.load(ruleset)
    lab.send("net", udp_packet(SERVERS[1], 53, case.address, answer.sport, b"address!"))
    wait_for(lab.inside, lambda p: p.payload == b"address!")
    assert seconds_left(lab, "udp", "--dport", "53") <= TIMEOUTS["dns"]
