# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DHCPv6 messages of the watcher of a line: what it sends, and what it takes of what comes (RFC 8415, RFC 7598, RFC 8026)."""

from __future__ import annotations

import socket
import struct

import packets
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import line_messages
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_messages import Refused

ROUTER, SERVER = "fe80::1:2", "fe80::1"
XID, SERVERID, DUID = b"\1\2\3", bytes.fromhex("00030001020000000001"), bytes.fromhex("0001000112345678020000000002")
MAPE = bytes.fromhex("0059000e001018c00002002820010db80000005a001020010db8ffff00000000000000000001")
PREFIX = "20010db8001234000000000000000000"


def named(value):
    return value if isinstance(value, str) else "bytes"


def option(code, body):
    return struct.pack("!HH", code, len(body)) + body


def message(*more, server=SERVERID, client=DUID, kind=7, xid=XID):
    identities = [(1, client), (2, server)]
    return bytes([kind]) + xid + b"".join(option(code, body) for code, body in identities if body is not None) + b"".join(more)


def iaprefix(preferred=100, valid=200, length=56, prefix=PREFIX, more=b""):
    return option(26, struct.pack("!IIB", preferred, valid, length) + bytes.fromhex(prefix) + more)


def ia_pd(*inner, iaid=7, renew=50, rebind=80):
    return option(25, struct.pack("!III", iaid, renew, rebind) + b"".join(inner))


def test_an_information_request_is_whole():
    """RFC 8415 section 18.2.6: MUST have elapsed time and an ORO, whose codes 32 and 83 MUST be in it (sections 21.23, 21.25)."""
    assert line_messages.information_request(XID, 0) == bytes.fromhex("0b010203 0006000a 005e005f006f00200053 000800020000")
    assert line_messages.information_request(XID, 1.5, DUID) == bytes.fromhex(
        f"0b010203 0001000e {DUID.hex()} 0006000a 005e005f006f00200053 000800020096")


@pytest.mark.parametrize("seconds, field", [(655.34, 65534), (655.36, 65535), (90000, 65535)])
def test_elapsed_time_ends_at_its_greatest(seconds, field):
    assert line_messages.information_request(XID, seconds)[-2:] == field.to_bytes(2, "big")


@pytest.mark.parametrize("body", [b"odd", b"even"])
def test_the_packet_is_one_of_our_port_to_all_servers(body):
    made = line_messages.packet(socket.inet_pton(socket.AF_INET6, ROUTER), body)
    assert made == packets.udp(ROUTER, "ff02::1:2", 546, 547, body, hop_limit=1)
    assert packets.has_valid_checksum(made)


def test_a_packet_of_a_server_is_read():
    packet = packets.udp(SERVER, ROUTER, 547, 546, b"hello")
    assert line_messages.received(packet + b"padding", False) == (SERVER, b"hello")


def spoiled(packet, at, value):
    return packet[:at] + bytes([value]) + packet[at + 1:]


GOOD = packets.udp(SERVER, ROUTER, 547, 546, b"hello")


@pytest.mark.parametrize("packet, why", [
    (packets.udp("2001:db8::1", ROUTER, 547, 546, b"hello"), "not from a link-local address"),
    (packets.udp("fec0::1", ROUTER, 547, 546, b"hello"), "not from a link-local address"),
    (packets.udp(SERVER, "2001:db8::2", 547, 546, b"hello"), "not from a link-local address"),
    (packets.udp(SERVER, "ff02::1", 547, 546, b"hello"), "not from a link-local address"),
    (packets.udp(SERVER, ROUTER, 5470, 546, b"hello"), "not from a server's port 547"),
    (spoiled(GOOD, 50, 0x41), "checksum"),
    (spoiled(spoiled(GOOD, 46, 0), 47, 0), "checksum"),
    (spoiled(GOOD, 45, 9), "checksum"),
    (GOOD[:-1], "ends too early"),
    (GOOD[:47], "ends too early"),
    (spoiled(GOOD, 5, 7), "ends too early"),
    (b"", "ends too early"),
], ids=named)
def test_a_packet_of_somebody_else_is_refused(packet, why):
    with pytest.raises(Refused, match=why):
        line_messages.received(packet, False)


def test_a_checksum_that_the_device_makes_is_not_looked_at():
    assert line_messages.received(spoiled(GOOD, 46, 0xFF), True).message == b"hello"


def test_a_reply_says_all_it_has():
    found = line_messages.reply(message(
        option(94, MAPE), option(111, bytes.fromhex("005f0060005e")), option(32, b"\0\0\x0e\x10"), option(83, b"\0\0\0\x78"),
        ia_pd(iaprefix(), iaprefix(0, 0, 48, "20010db8" + 24 * "0")), option(13, b"\0\0fine"), option(23, bytes(16))))
    assert found == (
        XID, SERVERID, DUID,
        [((7, DUID), bytes.fromhex(PREFIX), 56, 100, 200), ((7, DUID), bytes.fromhex("20010db8" + 24 * "0"), 48, 0, 0)],
        {94: MAPE}, [95, 96, 94], 3600, 120, [])


@pytest.mark.parametrize("kind", [1, 2, 3, 10, 11, 13])
def test_other_messages_say_nothing(kind):
    assert line_messages.reply(message(option(94, MAPE), kind=kind)) is None


def test_nothing_says_nothing():
    assert line_messages.reply(b"") is None


@pytest.mark.parametrize("data, why", [
    (b"\7\1\2", "message that ends too early"),
    (message(server=None), "not exactly one Server Identifier"),
    (message(option(2, SERVERID)), "not exactly one Server Identifier"),
    (message(server=b"\0\1"), "not exactly one Server Identifier"),
    (message(server=bytes(131)), "not exactly one Server Identifier"),
    (message(option(1, DUID)), "Client Identifier"),
    (message(client=b""), "Client Identifier"),
    (message(option(13, b"\0\1")), "Status Code"),
    (message(option(94, MAPE))[:-1], "option that ends too early"),
    (message(b"\0\x5e\0"), "option that ends too early"),
    (message(option(25, bytes(11))), "option that ends too early"),
    (message(ia_pd(option(26, bytes(24)))), "option that ends too early"),
    (message(ia_pd(b"\0\x1a\0\x19")), "option that ends too early"),
    (message(option(23, b"") * 200), "more than 200 options"),
    (message(ia_pd(option(23, b"") * 201)), "more than 200 options"),
], ids=named)
def test_a_reply_that_is_none_is_refused(data, why):
    with pytest.raises(Refused, match=why):
        line_messages.reply(data)


def test_an_option_that_may_be_there_once_counts_once():
    """RFC 8415 section 21.1."""
    found = line_messages.reply(message(option(94, MAPE), option(94, b"other"), option(32, bytes(4)), option(32, b"\0\0\0\1")))
    assert found.containers == {94: MAPE} and found.refresh == 0


def test_options_outside_of_a_container_are_none():
    """RFC 7598 section 6."""
    found = line_messages.reply(message(option(89, bytes(20)), option(90, bytes(16)), option(96, bytes(16))))
    assert found.containers == {} and found.refused == []


@pytest.mark.parametrize("size, kept", [(4096, True), (4097, False), (54000, False)])
def test_a_container_has_a_size(size, kept):
    found = line_messages.reply(message(option(94, bytes(size)), option(95, MAPE)))
    assert (94 in found.containers) is kept and found.containers[95] == MAPE
    assert found.refused == ([] if kept else ["a container 94 of more than 4096 bytes: ignored whole"])


@pytest.mark.parametrize("body, codes", [(b"", []), (b"\0\x5e", [94]), (b"\0\x5e\0", []), (bytes(64), [0] * 32), (bytes(66), [])])
def test_priorities_are_a_list_of_codes(body, codes):
    found = line_messages.reply(message(option(111, body)))
    assert found.priority == codes and bool(found.refused) is (not codes and body != b"")


@pytest.mark.parametrize("body", [b"", b"\0\0\0", bytes(5)])
def test_times_of_a_wrong_length_are_none(body):
    found = line_messages.reply(message(option(32, body), option(83, body)))
    assert found.refresh is None and found.max_rt is None


@pytest.mark.parametrize("body, why", [
    (ia_pd(iaprefix(201, 200)), "preferred longer than valid"),
    (ia_pd(iaprefix(length=0)), "of no length"),
    (ia_pd(iaprefix(length=129)), "of no length"),
    (ia_pd(iaprefix(), renew=81, rebind=80), "T1 greater than T2"),
], ids=named)
def test_a_delegation_that_is_none_is_left_out(body, why):
    """RFC 8415 sections 21.21 and 21.22."""
    found = line_messages.reply(message(body, option(94, MAPE)))
    assert found.delegated == [] and why in found.refused[0] and found.containers == {94: MAPE}


@pytest.mark.parametrize("renew, rebind", [(0, 0), (80, 0), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_times_that_the_client_chooses_or_for_ever_are_right(renew, rebind):
    assert len(line_messages.reply(message(ia_pd(iaprefix(), renew=renew, rebind=rebind))).delegated) == 1


def test_what_is_delegated_to_nobody_is_not():
    assert line_messages.reply(message(ia_pd(iaprefix()), client=None)).delegated == []
