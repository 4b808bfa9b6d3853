# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of a provider's server against a resolver and web servers on a line, good and bad ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import dns_replies
import provider_lab
import pytest
from dhcpv6_lab import run, wait
from namespaces import network_namespace
from provider_lab import NAME, ROUTER, SERVER, answered

from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp_exchange import (
    DNS_FAILED, ERROR, NO_METHOD, NO_RECORD, OK, UNKNOWN_SOURCE, Login)
from ansible_collections.softwire.map.plugins.module_utils.provider import dns_lookup, web
from ansible_collections.softwire.map.plugins.module_utils.provider.dns_lookup import Resolver
from ansible_collections.softwire.map.plugins.module_utils.provider.exchange import client_of, exchange

TOKEN = "0123456789abcdef" * 4
RULE = {"ipv6": "2001:db8:40::/42", "ipv4": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}
ANSWER = {"order": ["map_e"], "ttl": 3600, "token": TOKEN, "map_e": {"br": "2001:db8:ffff::1", "rules": [RULE]}}
BODY = json.dumps(ANSWER).encode()
REQUEST = {"vendorid": "acde48-softwire_map", "product": "softwire-map", "version": "0_1_0", "capability": "map_e,map_t,hubspoke,mesh"}
LOGIN = Login("line-1", "s3cret", NAME)
RESOLVERS = [Resolver(SERVER, True)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return provider_lab.certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory, certificates):
    made = provider_lab.Provider(tmp_path_factory.mktemp("provider"), certificates[0])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def line(lab, certificates, monkeypatch):
    """The provider as it is before each test, whose authority the router trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[1]))
    lab.record, lab.names, lab.resolver.answer = None, {NAME: SERVER}, lab.resolve
    lab.resolver.asked.clear()
    for each in (lab.plain, *lab.secure.values()):
        each.asked.clear()
        each.names.clear()
        each.reply = answered(BODY)
    return lab


def record(url, check):
    return f"v=v6mig-1 url={url} t={check}".encode()


def ask(line, *arguments, resolvers=None):
    """One exchange over the line, from the router."""
    with network_namespace(f"/run/netns/{line.client}"):
        return exchange("eth0", RESOLVERS if resolvers is None else resolvers, *arguments)


def query(web_server, index=-1):
    return dict(parse_qsl(urlsplit(web_server.asked[index][2]).query))


def test_a_verified_server_answers(line):
    line.record = record(line.url("right", "/rule.cgi?line=5"), "b")
    found = ask(line, TOKEN, LOGIN)
    assert (found.outcome, found.body, found.fault, found.warnings, found.withheld) == (OK, BODY.decode(), None, (), None)
    assert (found.resolver, found.server, found.answer.ttl, found.answer.token) == (SERVER, NAME, 3600, TOKEN)
    (asked,) = line.secure["right"].asked
    assert asked[:2] == (ROUTER, f"{NAME}:{line.ports['right']}") and asked[2].startswith("/rule.cgi?line=5&vendorid=")
    assert query(line.secure["right"]) == {"line": "5", **REQUEST, "token": TOKEN, "user": "line-1", "pass": "s3cret"}
    assert line.secure["right"].names == [NAME]
    assert line.resolver.asked == [("4over6.info", dns_replies.TXT, False), (NAME, dns_replies.AAAA, False)]


@pytest.mark.parametrize(("kind", "why"), [
    ("wrong", "the certificate of vne.example.jp is refused: Hostname mismatch, certificate is not valid for 'vne.example.jp'."),
    ("expired", "the certificate of vne.example.jp is refused: certificate has expired"),
])
def test_a_certificate_counts_where_the_provider_wants_it(line, kind, why):
    line.record = record(line.url(kind), "b")
    found = ask(line, TOKEN, LOGIN)
    assert (found.outcome, found.fault, found.server) == (ERROR, why, NAME) and not line.secure[kind].asked
    # And else it does not, which keeps user and pass here.
    line.record = record(line.url(kind), "a")
    found = ask(line, TOKEN, LOGIN)
    assert found.outcome == OK and query(line.secure[kind]) == {**REQUEST, "token": TOKEN}
    assert found.withheld == f"the provider does not have the certificate of {NAME} verified, so anybody may answer for it"


def test_an_authority_that_the_router_does_not_trust(line, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    line.record = record(line.url("right"), "b")
    found = ask(line)
    assert found.outcome == ERROR and found.fault.startswith(f"the certificate of {NAME} is refused: ")


def test_http_and_an_address_for_a_name(line):
    line.record = record(f"http://[{SERVER}]/", "a")
    found = ask(line)
    assert (found.outcome, found.server) == (OK, SERVER) and line.plain.asked[0][1] == f"[{SERVER}]"
    assert line.resolver.asked == [("4over6.info", dns_replies.TXT, False)]


@pytest.mark.parametrize(("address", "maker"), [("00:00:5e:00:53:01", "00005e"), ("02:00:5e:00:53:01", "acde48")])
def test_the_maker_is_that_of_the_interface(line, address, maker):
    run("ip", "-n", line.client, "link", "add", "wan", "address", address, "type", "veth", "peer", "name", "far")
    try:
        with network_namespace(f"/run/netns/{line.client}"):
            assert client_of("wan").vendorid == f"{maker}-softwire_map" and client_of("lo").vendorid == "acde48-softwire_map"
    finally:
        run("ip", "-n", line.client, "link", "del", "wan")


def test_redirects_are_followed_and_asked_anew(line):
    line.names["two.example.jp"] = SERVER
    line.record = record(line.url("right"), "b")
    line.secure["right"].reply = lambda handler: answered(b"", 307, Location=f"{line.url('right', '/two')}?token=x&user=y&area=3")(handler) \
        if handler.path.startswith("/rule.cgi") else answered(BODY)(handler)
    found = ask(line, TOKEN, LOGIN)
    assert found.outcome == OK and len(line.secure["right"].asked) == 2
    assert query(line.secure["right"]) == {"area": "3", **REQUEST, "token": TOKEN, "user": "line-1", "pass": "s3cret"}
    # Another name sees neither user nor pass.
    line.secure["right"].reply = answered(b"", 307, Location=f"https://two.example.jp:{line.ports['wrong']}/")
    found = ask(line, TOKEN, LOGIN)
    assert found.outcome == ERROR and found.fault.startswith("the certificate of two.example.jp is refused: ") and not line.secure["wrong"].asked
    assert found.withheld == f"the provider's server is two.example.jp, and user and pass are for {NAME}"


@pytest.mark.parametrize(("location", "check", "why", "asked"), [
    (f"http://{NAME}/", "b", "location: 'http://vne.example.jp/': is http, and the provider has the certificate verified (t=b)", 1),
    ("/rule.cgi", "b", "the servers redirect in a circle, back to vne.example.jp", 1),
    (None, "b", "location: must be the URL of the next server, since the status is 307", 1),
    ("COUNT", "a", "the servers redirect more than 5 times", 6),
    ("https://nowhere.example.jp/", "a", "nowhere.example.jp has no IPv6 address", 1),
])
def test_redirects_that_lead_nowhere(line, location, check, why, asked):
    server = line.secure["right"]
    server.reply = lambda handler: answered(b"", 307, **{} if location is None else {
        "Location": f"/{len(server.asked)}" if location == "COUNT" else location})(handler)
    line.record = record(line.url("right"), check)
    found = ask(line)
    assert found.outcome == ERROR and found.fault.startswith(why) and len(server.asked) == asked


def test_without_a_certificate_to_verify_http_may_follow(line):
    line.secure["right"].reply = answered(b"", 307, Location=f"http://{NAME}/")
    line.record = record(line.url("right"), "a")
    assert ask(line).outcome == OK and len(line.plain.asked) == 1


@pytest.mark.parametrize(("status", "body", "outcome", "why"), [
    (403, b"", UNKNOWN_SOURCE, "status: 403: the server does not know the address that asked"),
    (404, b"x", UNKNOWN_SOURCE, "status: 404: "),
    (500, BODY, ERROR, "status: 500: the server has no answer now"),
    (302, BODY, ERROR, "status: 302: "),
    (200, b"<!DOCTYPE html>", ERROR, "answer: b'<!DOCTYPE html>': is no JSON"),
    (200, b"", ERROR, "answer: b'': is no JSON"),
    (200, b'{"order": []}', NO_METHOD, "order: []: the provider has no method for this line"),
    (200, b" " * 300000 + BODY, ERROR, "answer: 262145: is its length; an answer has at most 262144 bytes"),
])
def test_other_replies(line, status, body, outcome, why):
    line.plain.reply = answered(body, status)
    line.record = record(f"http://{NAME}/", "a")
    found = ask(line)
    assert found.outcome == outcome and found.fault.startswith(why)


def test_a_faulty_method_leaves_the_good_one(line):
    body = json.dumps({**ANSWER, "order": ["map_t", "map_e"], "map_t": {"dmr": "x"}}).encode()
    line.plain.reply = answered(body)
    line.record = record(f"http://{NAME}/", "a")
    found = ask(line)
    assert found.outcome == OK and [choice.method for choice in found.answer.choices] == ["map_e"]
    assert len(found.warnings) == 1 and found.warnings[0].startswith("map_t is ignored: map_t.dmr: 'x': ")


def endless(part, pause=0.0):
    """Writes until nobody hears it any more."""
    def reply(handler):
        try:
            while True:
                handler.wfile.write(part)
                time.sleep(pause)
        except OSError:
            pass

    return reply


def body_of(reply):
    def begun(handler):
        handler.send_response(200)
        handler.end_headers()
        reply(handler)

    return begun


@pytest.mark.parametrize(("reply", "why"), [
    (body_of(endless(b"x" * 65536)), "answer: 262145: is its length"),
    (endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "the reply has no end"),
    (lambda handler: (handler.wfile.write(b"HTTP/1.1 200 OK\r\n"), endless(b"X: " + b"y" * 60000 + b"\r\n")(handler)), "the reply has no end"),
    (lambda handler: (handler.wfile.write(b"HTTP/1.1 200 OK\r\n"), endless(b"X: y\r\n" * 100)(handler)), "vne.example.jp: got more than 100 headers"),
    (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"), "vne.example.jp: "),
    (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc"), "vne.example.jp: "),
    (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "answer: b'abc': is no JSON"),
    (lambda handler: handler.wfile.write(b"\x16\x03\x01\x00"), "vne.example.jp: "),
    (lambda handler: None, "vne.example.jp: Remote end closed connection without response"),
])
def test_replies_without_sense_or_end(line, reply, why):
    line.plain.reply = reply
    line.record = record(f"http://{NAME}/", "a")
    found = ask(line)
    assert found.outcome == ERROR and found.fault.startswith(why)


@pytest.mark.parametrize("reply", [endless(b"x", 0.05), body_of(endless(b" ", 0.05)), lambda handler: time.sleep(3)])
@pytest.mark.parametrize("secure", [False, True])
def test_a_slow_server_ends_at_the_deadline(line, monkeypatch, reply, secure):
    monkeypatch.setattr(web, "SECONDS", 1.5)
    server, url = (line.secure["right"], line.url("right")) if secure else (line.plain, f"http://{NAME}/")
    server.reply = reply
    line.record = record(url, "b" if secure else "a")
    begun = time.monotonic()
    found = ask(line)
    assert (found.outcome, found.fault) == (ERROR, f"{NAME} does not answer in time") and time.monotonic() - begun >= 1.4


def test_a_server_that_is_silent_when_tls_begins(line, monkeypatch):
    monkeypatch.setattr(web, "SECONDS", 1.0)
    line.record = record(f"https://{NAME}:53/", "b")  # the resolver waits for a whole question
    assert ask(line).fault == f"{NAME} does not answer in time"


def test_a_server_that_is_dead(line):
    line.record = record(f"http://{NAME}:81/", "a")
    assert ask(line)[:4] == (ERROR, None, None, f"{NAME}: Connection refused")
    line.record = record(f"https://{NAME}:80/", "b")
    assert ask(line).fault.startswith(f"{NAME}: [SSL: ")


@pytest.mark.parametrize("address", ["::1", "fe80::1", "ff02::1", "::", "::ffff:192.0.2.1"])
def test_a_server_that_is_no_server(line, address):
    line.names[NAME] = address
    line.record = record(f"http://{NAME}/", "a")
    found = ask(line)
    assert found.outcome == ERROR and found.fault.endswith("which no server of a provider can have")


@pytest.mark.parametrize(("records", "outcome", "why"), [
    (None, NO_RECORD, f"4over6.info has no TXT record at {SERVER}: this provider has no HB46PP"),
    ([], NO_RECORD, f"4over6.info has no TXT record at {SERVER}: this provider has no HB46PP"),
    ([b"v=v6mig-1 url=http://a/ t=a", b"v=v6mig-1 url=http://b/ t=a"], DNS_FAILED, "txt: ['v=v6mig-1"),
    (b"v=spf1 -all", DNS_FAILED, "txt: 'v=spf1 -all': has -all"),
    (b"v=v6mig-1 url=http://vne.example.jp/ t=b", DNS_FAILED, "txt.url: 'http://vne.example.jp/': is http"),
])
def test_the_record(line, records, outcome, why):
    line.record = records
    found = ask(line)
    assert (found.outcome, found.resolver) == (outcome, SERVER) and found.fault.startswith(why)


def test_a_long_record_comes_over_tcp(line):
    line.record = record(f"http://{NAME}/?line=" + "5" * 100, "a") + b" x=" + b"y" * 80
    line.resolver.answer = lambda name, kind, question, over_tcp: (
        line.resolve(name, kind, question, over_tcp) if over_tcp else dns_replies.reply(question, truncated=True))
    assert ask(line).outcome == OK
    assert line.resolver.asked == [(name, kind, over_tcp) for name, kind in (("4over6.info", 16), (NAME, 28)) for over_tcp in (False, True)]


def test_resolvers_that_do_not_answer(line, monkeypatch):
    monkeypatch.setattr(dns_lookup, "SECONDS", 0.5)
    failing = {"servfail": lambda _name, _kind, question, _tcp: dns_replies.reply(question, code=dns_replies.SERVFAIL),
               "silent": lambda *arguments: None,
               "forged": lambda _name, _kind, question, _tcp: dns_replies.reply(b"\0\0" + question[2:], code=dns_replies.NXDOMAIN),
               "cut": lambda _name, _kind, question, _tcp: dns_replies.reply(question, truncated=True)}
    said = {}
    for kind, reply in failing.items():
        line.resolver.answer = reply
        said[kind] = ask(line)
    assert {found.outcome for found in said.values()} == {DNS_FAILED}
    assert said["servfail"].fault == f"4over6.info: {SERVER}: SERVFAIL" and said["silent"].fault == f"4over6.info: {SERVER}: no answer"
    assert said["forged"].fault == said["silent"].fault and said["cut"].fault == f"4over6.info: {SERVER}: is cut off over TCP as well"
    # The next one is asked, and the first is not the last word.
    line.resolver.answer, line.record = line.resolve, record(f"http://{NAME}/", "a")
    assert ask(line, resolvers=[Resolver("2001:db8:6::99", True), Resolver("::1", False), *RESOLVERS]).resolver == SERVER
    assert ask(line, resolvers=[Resolver("nonsense", True)]).outcome == DNS_FAILED


def test_a_resolver_whose_address_is_link_local(line):
    run("ip", "-n", line.server, "address", "add", "fe80::53/64", "dev", "eth0", "nodad")
    with network_namespace(f"/run/netns/{line.server}"):
        heard = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        heard.bind(("fe80::53", 53, 0, socket.if_nametoindex("eth0")))
    with heard:
        def reply():
            question, sender = heard.recvfrom(512)
            heard.sendto(dns_replies.reply(question, code=dns_replies.NXDOMAIN), sender)

        thread = threading.Thread(target=reply)
        thread.start()
        found = ask(line, resolvers=[Resolver("fe80::53", True)])
        thread.join()
    assert (found.outcome, found.resolver) == (NO_RECORD, "fe80::53")


def test_the_program_follows_its_line_without_any_right(line):
    """From no address to an answer, a token that goes back, another prefix, a dead server, and what is left after a boot."""
    directory = line.directory
    file, kept = directory / "run/softwire-provider/ce/provider.json", directory / "lib/softwire-provider/ce/answer.json"
    run("ip", "-n", line.client, "address", "del", f"{ROUTER}/64", "dev", "eth0")
    line.record = record(f"http://{NAME}/", "a")
    process, log = line.start_program()

    def until(what):
        wait(lambda: file.exists() and what(json.loads(file.read_text())), lambda: f"{file.exists() and file.read_text()}\n{log.read_text()}")
        assert process.poll() is None, log.read_text()
        return json.loads(file.read_text())

    until(lambda found: found["outcome"] is None)
    assert not line.resolver.asked
    run("ip", "-n", line.client, "address", "add", f"{ROUTER}/64", "dev", "eth0", "nodad")
    found = until(lambda found: found["outcome"] == "ok")
    assert found["answer"] == BODY.decode() and found["answered_for"] == ["2001:db8:6::/64"] and found["next"] - found["answered"] == 3600
    assert json.loads(kept.read_text())["answer"] == BODY.decode() and "token" not in query(line.plain)
    # Another prefix; the server has died.
    line.plain.reply = answered(b"", 500)
    run("ip", "-n", line.client, "address", "add", "2001:db8:7::2/64", "dev", "eth0", "nodad")
    found = until(lambda found: found["outcome"] == "error")
    assert found["asked_for"] == ["2001:db8:6::/64", "2001:db8:7::/64"] and found["answer"] == BODY.decode() and found["failing_since"]
    assert query(line.plain) == {**REQUEST, "token": TOKEN} and 600 <= found["next"] - found["asked"] < 1801
    # A person wants it to ask.
    os.kill(line.pid, signal.SIGHUP)
    wait(lambda: len(line.plain.asked) == 3, log.read_text)
    # After a boot, with the server still away.
    line.stop(process)
    file.unlink()
    process, log = line.start_program()
    found = until(lambda found: found["outcome"] == "error")
    assert found["answer"] == BODY.decode() and found["answered"] is None
    # The provider gives it up.
    line.record = None
    os.kill(line.pid, signal.SIGHUP)
    found = until(lambda found: found["outcome"] == "no_record")
    assert found["answer"] is None and not kept.exists()
    line.stop(process)
    run("ip", "-n", line.client, "address", "del", "2001:db8:7::2/64", "dev", "eth0")
