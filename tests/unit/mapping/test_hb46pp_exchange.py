# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HB46PP around an answer: the TXT record, the request and who may see user and pass, what a reply is, when to ask again."""

from __future__ import annotations

import ipaddress
import json
import random
from urllib.parse import parse_qsl, urlsplit

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError, MapErrors
from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp import no_choice, read_answer
from ansible_collections.softwire.map.plugins.module_utils.mapping.hb46pp_exchange import (
    CAPABILITIES, DNS_FAILED, ERROR, NO_METHOD, NO_RECORD, OK, REDIRECT, UNKNOWN_SOURCE, Client, Login, Reply, Server, reply_of, request_url,
    seconds_until_next, server_of, withheld)

RECORD = "v=v6mig-1 url=https://vne.example.jp/rule.cgi t=b"
SERVER = Server("https://vne.example.jp/rule.cgi", "vne.example.jp", True)
UNVERIFIED = SERVER._replace(verify=False)
CLIENT = Client("acde48-v6pc_swg_hgw", "V6MIG-ROUTER", "1_32", ("map_e", "dslite", "lw4o6", "hubspoke"))
REQUEST = "vendorid=acde48-v6pc_swg_hgw&product=V6MIG-ROUTER&version=1_32&capability=map_e,dslite,lw4o6,hubspoke"
TOKEN = "0123456789abcdef" * 4
LOGIN = Login("line-1", "s3cret_word", "vne.example.jp")
RULE = {"ipv6": "2001:db8:40::/42", "ipv4": "198.51.100.0/24", "ea_length": 14, "psid_offset": 6}
ANSWER = {"order": ["dslite", "map_e"], "ttl": 3600, "map_e": {"br": "2001:db8:ffff::1", "rules": [RULE]}}


def refusal(function, *arguments):
    with pytest.raises(MapError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(("record", "server"), [
    (RECORD, SERVER),
    ("v=v6mig-1 url=https://vne.example.jp/rule.cgi t=a", UNVERIFIED),
    ("v=v6mig-1 url=http://vne.example.jp t=a", Server("http://vne.example.jp", "vne.example.jp", False)),
    ("  t=b  url=HTTPS://VNE.Example.JP.:8443/a?b=c=d  v=v6mig-1 new=1 ", Server("HTTPS://VNE.Example.JP.:8443/a?b=c=d", "vne.example.jp", True)),
    ("v=v6mig-1 url=http://[2001:db8::1]:80/ t=a", Server("http://[2001:db8::1]:80/", "2001:db8::1", False)),
    ("v=v6mig-1 url=http://hgw_1/ t=a", Server("http://hgw_1/", "hgw_1", False)),
])
def test_a_record_names_the_server(record, server):
    assert server_of([record]) == server


@pytest.mark.parametrize(("records", "start"), [
    ([], "txt: []: must be one string: 4over6.info has one TXT record at a provider with HB46PP (HB46PP section 3.1)"),
    ([RECORD, RECORD], "txt: ['v=v6mig-1 url="),
    (RECORD, "txt: 'v=v6mig-1 url=https://vne.example.jp/rule.cgi t=b': must be one string"),
    (None, "txt: not set: must be one string"),
    ([None], "txt: not set: must be printable ASCII, such as v=v6mig-1 url=https://server.example.net/ t=b"),
    ([RECORD.encode()], "txt: b'v=v6mig-1"),
    ([RECORD + "\n"], "txt: 'v=v6mig-1 url=https://vne.example.jp/rule.cgi t=b\\n': must be printable ASCII"),
    ([RECORD + " x=" + "9" * 2000], "txt: 'v=v6mig-1"),
    (["v=spf1 -all"], "txt: 'v=spf1 -all': has -all, where one -all= with a value belongs"),
    ([RECORD + " t=b"], "txt: 'v=v6mig-1 url=https://vne.example.jp/rule.cgi t=b t=b': has t=b, where one t= with a value belongs"),
    (["url=https://vne.example.jp/ t=b"], "txt.v: not set: must be one of v6mig-1"),
    (["v=v6mig-2 url=x t=c"], "txt.v: 'v6mig-2': must be one of v6mig-1"),
    (["v=v6mig-1 url=https://vne.example.jp/"], "txt.t: not set: must be one of a, b"),
    (["v=v6mig-1 url=x t=B"], "2 faults:\n- txt.t: 'B': must be one of a, b\n- txt.url: 'x': must be a URL of http or https, of at most"),
    (["v=v6mig-1 t=b"], "txt.url: not set: must be a URL of http or https, of at most 2000 characters, with the name or the IPv6 address of a server, which"),
    (["v=v6mig-1 url=http://vne.example.jp/ t=b"], "txt.url: 'http://vne.example.jp/': is http, and the provider has the certificate verified (t=b)"),
    *(([f"v=v6mig-1 url={url} t=a"], f"txt.url: '{url}': must be a URL of http or https, ") for url in (
        "ftp://vne.example.jp/", "file:///etc/passwd", "//vne.example.jp/", "http:vne.example.jp", "http:///x", "http://user:word@vne.example.jp/",
        "http://vne.example.jp/#x", "http://vne.example.jp/<x>", "http://vne.example.jp:99999/", "http://vne.example.jp:65536/", "http://vne.example.jp:x/",
        "http://vne.example.jp:0/", "http://192.0.2.1/", "http://1/", "http://-vne.example.jp/", "http://vne.example.jp../", "http://vne%2eexample.jp/",
        "http://[2001:db8::1/", "http://[2001:db8::g]/", "http://[fe80::1%25eth0]/", "http://[::ffff:192.0.2.300]/", "http://[v1.x]/",
        "http://[vne.example.jp]/", "http://[2001:db8::1]x/", "http://2001:db8::1/", "http://[192.0.2.1]/")),
])
def test_a_record_that_is_wrong(records, start):
    assert refusal(server_of, records).startswith(start)


def test_a_query_is_in_no_message():
    assert "s3cret" not in refusal(server_of, ["v=v6mig-1 url=ftp://vne.example.jp/?pass=s3cret t=a"])
    assert "s3cret" not in str(reply_of(SERVER, 307, "http://vne.example.jp/?pass=s3cret", b"").fault)
    assert "s3cret" not in str(reply_of(SERVER, 307, "https://vne.example.jp/?pass=s3cret" + "9" * 2000, b"").fault)


@pytest.mark.parametrize(("url", "asked"), [
    ("https://vne.example.jp/rule.cgi", f"https://vne.example.jp/rule.cgi?{REQUEST}"),
    ("https://vne.example.jp", f"https://vne.example.jp/?{REQUEST}"),
    ("https://vne.example.jp:8443/a/?", f"https://vne.example.jp:8443/a/?{REQUEST}"),
    ("http://[2001:db8::1]/a?line=5&x", f"http://[2001:db8::1]/a?line=5&x&{REQUEST}"),
    # What another server has put there, of what we say ourselves.
    ("https://vne.example.jp/a?version=2&line=5&us%65r=x&pass=y&token=z", f"https://vne.example.jp/a?line=5&{REQUEST}"),
])
def test_the_request(url, asked):
    assert request_url(Server(url, "vne.example.jp", True), CLIENT) == asked


def test_what_a_router_says_of_itself():
    client = Client("ACDE48", "softwire-map", "0.1.0", CAPABILITIES)
    assert dict(parse_qsl(urlsplit(request_url(SERVER, client, TOKEN)).query)) == {
        "vendorid": "ACDE48", "product": "softwire-map", "version": "0_1_0", "capability": "464xlat,dslite,ipip,lw4o6,map_e,map_t,hubspoke,mesh",
        "token": TOKEN}


@pytest.mark.parametrize(("changed", "start"), [
    ({"vendorid": "acde4"}, "vendorid: 'acde4': must be an OUI of 6 hexadecimal digits, alone or with - and 1 to 24 letters, digits and _"),
    ({"vendorid": "acde48-" + "x" * 25}, "vendorid: 'acde48-"),
    ({"vendorid": "acde48-a-b"}, "vendorid: 'acde48-a-b'"),
    ({"vendorid": None}, "vendorid: not set"),
    ({"product": "a b"}, "product: 'a b': must be 1 to 32 letters, digits, - and _"),
    ({"product": "x" * 33}, "product: 'x"),
    ({"product": "a&user=b"}, "product: 'a&user=b'"),
    ({"version": "1.0-rc1"}, "version: '1_0-rc1': must be 1 to 32 digits, dots and _"),
    ({"version": 5}, "version: 5: must be"),
    ({"capability": ()}, "capability: (): must be a list with some of 464xlat, dslite"),
    ({"capability": "map_e"}, "capability: 'map_e': must be a list"),
    ({"capability": ("map_e", "map-t")}, "capability[1]: 'map-t': must be one of 464xlat, dslite"),
])
def test_a_router_that_says_nonsense(changed, start):
    assert refusal(request_url, SERVER, CLIENT._replace(**changed)).startswith(start)


def test_all_faults_of_a_request_come_at_once_without_secrets():
    with pytest.raises(MapErrors) as caught:
        request_url(UNVERIFIED, Client("", "", "", ()), "s3cret", Login("s3cret user", "s3cret pass", ""))
    assert [fault.path for fault in caught.value.faults] == ["vendorid", "product", "version", "capability", "token", "user", "pass"]
    assert "s3cret" not in str(caught.value)
    assert refusal(request_url, SERVER, CLIENT, None, LOGIN._replace(password="")) == (
        "pass: must be 1 to 32 letters, digits, - and _; user and pass go together (HB46PP section 3.3)")


def test_user_and_pass_go_to_the_verified_server_of_that_name_alone():
    assert request_url(SERVER, CLIENT, TOKEN, LOGIN).endswith(f"&token={TOKEN}&user=line-1&pass=s3cret_word")
    assert withheld(SERVER, LOGIN) is None and withheld(SERVER, LOGIN._replace(server="VNE.example.jp.")) is None
    other = "the provider's server is vne.example.jp, and user and pass are for "
    for server, name, why in (
            (UNVERIFIED, LOGIN.server, "the provider does not have the certificate of vne.example.jp verified, so anybody may answer for it"),
            (SERVER, "example.jp", other + "example.jp"),
            (SERVER, "evil.vne.example.jp", other + "evil.vne.example.jp"),
            (SERVER, "", other + "no server"),
            (server_of(["v=v6mig-1 url=https://evil.example.jp/vne.example.jp?vne.example.jp t=b"]), LOGIN.server,
             "the provider's server is evil.example.jp, and user and pass are for vne.example.jp")):
        login = LOGIN._replace(server=name)
        assert withheld(server, login) == why
        asked = request_url(server, CLIENT, TOKEN, login)
        assert asked == request_url(server, CLIENT, TOKEN) and "user" not in asked and "pass" not in asked


def test_a_server_sends_nobody_elsewhere_with_user_and_pass():
    """Not even where it has put them into the URL itself."""
    sent = reply_of(SERVER, 307, request_url(SERVER, CLIENT, TOKEN, LOGIN).replace("vne", "evil"), b"").server
    assert request_url(sent, CLIENT, TOKEN, LOGIN) == f"https://evil.example.jp/rule.cgi?{REQUEST}&token={TOKEN}"


def test_an_answer():
    said = []
    body = json.dumps({**ANSWER, "ttl": 0}).encode()
    assert reply_of(SERVER, 200, None, body, warn=said.append) == Reply(OK, read_answer(body))
    assert len(said) == 1
    assert reply_of(SERVER, 200, "https://ignored.example.net/", json.dumps(ANSWER).encode(), ("map_t",)).outcome == NO_METHOD


@pytest.mark.parametrize("answer", [{"order": []}, {"order": [], "auth": "bad", "ttl": 3600}, {"order": ["dslite"], "dslite": {"aftr": "x"}}])
def test_no_method_for_this_line(answer):
    reply = reply_of(SERVER, 200, None, json.dumps(answer).encode())
    assert (reply.outcome, reply.answer, str(reply.fault)) == (NO_METHOD, read_answer(answer), str(no_choice(read_answer(answer))))


@pytest.mark.parametrize(("location", "url", "host"), [
    ("https://two.example.jp/x?y=1", "https://two.example.jp/x?y=1", "two.example.jp"),
    ("/other", "https://vne.example.jp/other", "vne.example.jp"),
    ("?line=5", "https://vne.example.jp/rule.cgi?line=5", "vne.example.jp"),
    ("//[2001:db8::2]:8443/", "https://[2001:db8::2]:8443/", "2001:db8::2"),
])
@pytest.mark.parametrize("server", [SERVER, UNVERIFIED])
def test_a_redirect(server, location, url, host):
    assert reply_of(server, 307, location, b"{}") == Reply(REDIRECT, server=Server(url, host, server.verify))


def test_a_redirect_does_not_take_the_certificate_away():
    assert str(reply_of(SERVER, 307, "http://vne.example.jp/", b"").fault).startswith("location: 'http://vne.example.jp/': is http, and the provider has")
    assert reply_of(UNVERIFIED, 307, "http://vne.example.jp/", b"").server.url == "http://vne.example.jp/"


@pytest.mark.parametrize(("status", "location", "body", "outcome", "start"), [
    (403, None, b"", UNKNOWN_SOURCE, "status: 403: the server does not know the address that asked: ask over the line itself"),
    (404, None, b"{}", UNKNOWN_SOURCE, "status: 404: "),
    (500, None, b"", ERROR, "status: 500: the server has no answer now: it is asked again later, and what is set up stays (HB46PP section 3.3)"),
    (302, "https://two.example.jp/", b"", ERROR, "status: 302: "),
    (204, None, b"", ERROR, "status: 204: "),
    (200, None, b"", ERROR, "answer: b'': is no JSON"),
    (200, None, b"{}", ERROR, "order: not set: must be a list"),
    (307, None, b"", ERROR, "location: must be the URL of the next server, since the status is 307"),
    (307, "", b"", ERROR, "location: must be"),
    (307, "ftp://two.example.jp/", b"", ERROR, "location: 'ftp://two.example.jp/': must be a URL of http or https, "),
    (307, "http://[2001:db8::1/", b"", ERROR, "location: 'http://[2001:db8::1/': must be a URL of http or https, "),
    (307, "https://two.example.jp/\r\nX: y", b"", ERROR, "location: 'https://two.example.jp/"),
])
def test_other_replies(status, location, body, outcome, start):
    reply = reply_of(SERVER, status, location, body)
    assert reply[:3] == (outcome, None, None) and str(reply.fault).startswith(start)


@pytest.mark.parametrize(("outcome", "least", "most"), [
    (NO_RECORD, 3600, 3 * 3600), (DNS_FAILED, 60, 600), (UNKNOWN_SOURCE, 600, 1800), (ERROR, 600, 1800), (OK, 20 * 3600, 24 * 3600),
    (NO_METHOD, 20 * 3600, 24 * 3600),
])
def test_when_to_ask_again(outcome, least, most):
    """Spread over all of the time; with a ttl, after an answer, exactly then."""
    waits = [seconds_until_next(outcome, random.Random(seed).uniform) for seed in range(300)]
    span = most - least
    assert least <= min(waits) < least + span / 20 and most - span / 20 < max(waits) <= most
    answered = outcome in (OK, NO_METHOD)
    assert seconds_until_next(outcome, random.Random(1).uniform, 700) == (700 if answered else waits[1])


def test_what_comes_from_the_network_is_an_outcome_and_nothing_else():
    """2,000 records and as many replies with changes: a MapError that can be shown, or a server that can be asked."""
    dice = random.Random(46)
    signs = "".join(map(chr, range(32, 127))) + "\x00\n\xe9\u3000\ud800"
    outcomes = set()

    def changed(text):
        letters = list(text)
        for _change in range(dice.randint(1, 3)):
            start = dice.randrange(len(letters))
            letters[start:start + dice.randint(0, 2)] = dice.choice([dice.choice(signs), "//", "[", "]:", "%25", " t=a", ""])
        return "".join(letters)

    for _round in range(2000):
        location = changed("https://[2001:db8::2]:8443/x?y=1")
        status = dice.choice([200, 307, 307, 307, 403, 500, -1])
        reply = reply_of(SERVER, status, location, changed(json.dumps(ANSWER)).encode(errors="replace"))
        outcomes.add(reply.outcome)
        assert (reply.fault is None) == (reply.outcome in (OK, REDIRECT)) and str(reply.fault)
        servers = [reply.server] if reply.server else []
        try:
            servers.append(server_of([changed(RECORD)]))
        except MapError as exc:
            outcomes.add("refused")
            assert str(exc)
        else:
            outcomes.add("named")
        for server in servers:
            asked = urlsplit(request_url(server, CLIENT, TOKEN))
            assert asked.scheme in ("http", "https") and asked.query.endswith(f"{REQUEST}&token={TOKEN}")
            host = asked.hostname.rstrip(".")
            assert (str(ipaddress.ip_address(host)) if ":" in host else host) == server.host
            assert asked.scheme == "https" or not server.verify
    assert outcomes == {OK, REDIRECT, UNKNOWN_SOURCE, ERROR, NO_METHOD, "refused", "named"}
