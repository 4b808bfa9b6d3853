# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HB46PP before and after an answer: where the server is, what it is asked, what its reply is, and when to ask again.

Nothing here touches a network. Who does asks the resolver of the line itself, follows no redirect by itself, and uses IPv6 alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any, NamedTuple, Pattern
from urllib.parse import unquote_plus, urljoin, urlsplit, urlunsplit

from .checks import choice, is_list, text
from .errors import NO_VALUE, Faults, MapError
from .hb46pp import DOMAINS, TOKEN, Answer, no_choice, read_answer

DISCOVERY_NAME = "4over6.info"  # its TXT record names the server
DISCOVERY = "HB46PP section 3.1"
REQUEST = "HB46PP section 3.3"
VERSION = "v6mig-1"
LONGEST_URL = 2000  # characters

# What becomes of an exchange: of looking for the server, and of asking it.
NO_RECORD, DNS_FAILED = "no_record", "dns_failed"
OK, REDIRECT, UNKNOWN_SOURCE, NO_METHOD, ERROR = "ok", "redirect", "unknown_source", "no_method", "error"
# Seconds until the next try, at least and at most (section 3.6).
WAITS = {NO_RECORD: (3600, 10800), DNS_FAILED: (60, 600), UNKNOWN_SOURCE: (600, 1800), ERROR: (600, 1800)}
WITHOUT_TTL = (72000, 86400)

CAPABILITIES = ("464xlat", "dslite", "ipip", "lw4o6", "map_e", "map_t", "hubspoke", "mesh")
PARAMETERS = ("vendorid", "product", "version", "capability", "token", "user", "pass")
RECORD = re.compile("[ -~]{1,2000}")
# The characters of RFC 3986 but the one of a fragment, which no server sees.
URL = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
# No user; what stands in brackets is an IPv6 address, whatever urlsplit takes for one.
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::[0-9]{0,5})?")
SERVER_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
VENDORID = re.compile("[0-9A-Fa-f]{6}(-[0-9A-Za-z_]{1,24})?")
FIRMWARE = re.compile("[0-9_]{1,32}")
WORD = re.compile("[0-9A-Za-z_-]{1,32}")


class Server(NamedTuple):
    """A provisioning server. host: of the URL, in lower case; verify: whether its certificate has to be valid for that."""

    url: str
    host: str
    verify: bool


class Client(NamedTuple):
    """What a router says of itself.

    vendorid: the maker's OUI in hexadecimal, and "-" with 1 to 24 letters, digits and _ if so wanted
    product: 1 to 32 letters, digits, - and _
    version: of its software, digits with dots or _
    capability: what it can do, some of CAPABILITIES
    """

    vendorid: str
    product: str
    version: str
    capability: tuple[str, ...]


class Login(NamedTuple):
    """The user and pass of a line, and the name of the one server that may see them. Each is 1 to 32 letters, digits, - and _."""

    user: str
    password: str
    server: str


class Reply(NamedTuple):
    """What a server's reply is.

    outcome: OK, REDIRECT, UNKNOWN_SOURCE, NO_METHOD or ERROR
    answer: with OK; with NO_METHOD without choices
    server: with REDIRECT, the one to ask next, in the same way
    fault: with the other outcomes, what there is to tell
    """

    outcome: str
    answer: Answer | None = None
    server: Server | None = None
    fault: MapError | None = None


def server_of(records: Any) -> Server:
    """The server that the TXT records of 4over6.info name. Raises MapError.

    records: a list of their texts, each with its strings joined. There has to be one, v=v6mig-1 url=URL t=a, or t=b where the
    certificate is to be verified; other keys are ignored. A record that is wrong is DNS_FAILED, none at all NO_RECORD.
    """
    if not is_list(records) or len(records) != 1:
        raise MapError("txt", records, f"must be one string: {DISCOVERY_NAME} has one TXT record at a provider with HB46PP", DISCOVERY)
    record = text(records[0], "txt", RECORD, f"printable ASCII, such as v={VERSION} url=https://server.example.net/ t=b")
    fields: dict[str, str] = {}
    for word in record.split():
        key, equals, value = word.partition("=")
        if not equals or key in fields:
            raise MapError("txt", record, f"has {word}, where one {key}= with a value belongs", DISCOVERY)
        fields[key] = value
    choice(fields.get("v"), "txt.v", (VERSION,))
    faults = Faults()
    kind = faults.check(choice, fields.get("t"), "txt.t", ("a", "b"))
    server = faults.check(_server, fields.get("url"), "txt.url", kind == "b")
    faults.refuse()
    return server


def request_url(server: Server, client: Client, token: str | None = None, login: Login | None = None) -> str:
    """The URL that asks a server, for GET. Raises MapError; MapErrors with all of them where there are several faults.

    token: of the answer before, if it had one. login: left out of the URL where `withheld` says why.
    What the server's own URL has in its query stays, but for the parameters of the standard.
    """
    faults = Faults()
    maker = "an OUI of 6 hexadecimal digits, alone or with - and 1 to 24 letters, digits and _"
    parameters = {
        "vendorid": faults.check(text, client.vendorid, "vendorid", VENDORID, maker),
        "product": faults.check(text, client.product, "product", WORD, "1 to 32 letters, digits, - and _"),
        "version": faults.check(_firmware, client.version, "version"),
        "capability": faults.check(_capability, client.capability, "capability"),
    }
    if token is not None:
        parameters["token"] = faults.check(_secret, token, "token", TOKEN, "64 hexadecimal digits")
    if login:
        words = "1 to 32 letters, digits, - and _; user and pass go together"
        secrets = {"user": faults.check(_secret, login.user, "user", WORD, words), "pass": faults.check(_secret, login.password, "pass", WORD, words)}
        parameters.update({} if withheld(server, login) else secrets)
    faults.refuse()
    parts = urlsplit(server.url)
    kept = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in PARAMETERS]
    query = "&".join(kept + [f"{name}={value}" for name, value in parameters.items()])
    return urlunsplit(parts._replace(path=parts.path or "/", query=query))


def withheld(server: Server, login: Login) -> str | None:
    """Why user and pass must not go to a server; None where they may (section 3.3)."""
    if not server.verify:
        return f"the provider does not have the certificate of {server.host} verified, so anybody may answer for it"
    if server.host != _plain(login.server):
        return f"the provider's server is {server.host}, and user and pass are for {login.server or 'no server'}"
    return None


def reply_of(server: Server, status: int, location: str | None, body: bytes, able: tuple[str, ...] = tuple(DOMAINS),
             warn: Callable[[str], None] | None = None) -> Reply:
    """What a server's reply is: its status, its header Location and its body; able and warn are those of read_answer."""
    try:
        if status == 307:
            return Reply(REDIRECT, server=_next_server(server, location))
        if status in (403, 404):
            reason = "the server does not know the address that asked: ask over the line itself, from an address of its prefix"
            return Reply(UNKNOWN_SOURCE, fault=MapError("status", status, reason, REQUEST))
        if status != 200:
            return Reply(ERROR, fault=MapError("status", status, "the server has no answer now: it is asked again later, and what is set up stays", REQUEST))
        answer = read_answer(body, able, warn)
    except MapError as exc:
        return Reply(ERROR, fault=exc)
    return Reply(OK, answer) if answer.choices else Reply(NO_METHOD, answer, fault=no_choice(answer))


def seconds_until_next(outcome: str, uniform: Callable[[float, float], float], ttl: int | None = None) -> float:
    """How long to wait until the whole exchange begins anew, with the TXT record (section 3.6).

    outcome: NO_RECORD, DNS_FAILED, or what a Reply has, but for REDIRECT. No reply at all is ERROR.
    uniform: a number between two others at random, such as random.Random().uniform
    ttl: the answer's
    It begins anew at once when the router's own IPv6 address changes. With NO_RECORD what was set up by an answer before is taken down;
    with DNS_FAILED, UNKNOWN_SOURCE and ERROR it stays.
    """
    if outcome not in (OK, NO_METHOD):
        return uniform(*WAITS[outcome])
    return uniform(*WITHOUT_TTL) if ttl is None else ttl


def _server(url: Any, path: str, verify: bool) -> Server:
    """The server of a URL that a resolver or another server gave."""
    # A query may hold user and pass, so no message has it.
    shown = url.partition("?")[0] if isinstance(url, str) else url
    host = _host(url) if isinstance(url, str) and len(url) <= LONGEST_URL and URL.fullmatch(url) else None
    if host is None:
        raise MapError(path, shown, f"must be a URL of http or https, of at most {LONGEST_URL} characters, with the name or the IPv6 address of a "
                                    "server, which is asked over IPv6 alone, such as https://server.example.net/", DISCOVERY)
    if verify and urlsplit(url).scheme == "http":
        raise MapError(path, shown, "is http, and the provider has the certificate verified (t=b): only https has one", DISCOVERY)
    return Server(url, host, verify)


def _host(url: str) -> str | None:
    """The host of a URL, in lower case and without brackets; None where it has none that can be asked, or is no URL of HTTP."""
    try:
        parts = urlsplit(url)
        found = AUTHORITY.fullmatch(parts.netloc)
        if parts.scheme not in ("http", "https") or not found or parts.port == 0:
            return None
        literal, name = found.groups()
        if literal:
            return str(IPv6Address(literal))
    except ValueError:
        return None
    name = _plain(name)
    return name if SERVER_NAME.fullmatch(name) and name.strip("0123456789.") else None


def _next_server(server: Server, location: Any) -> Server:
    """The server to which another one sends a router; whether to verify certificates is the TXT record's word for this one, too."""
    if not isinstance(location, str) or not location or len(location) > LONGEST_URL:
        raise MapError("location", NO_VALUE, "must be the URL of the next server, since the status is 307", REQUEST)
    try:
        url = urljoin(server.url, location)
    except ValueError:
        url = location
    return _server(url, "location", server.verify)


def _plain(host: str) -> str:
    """A name of a host as it is compared: in lower case, without the dot of the root."""
    return host.lower()[:-1] if host.endswith(".") else host.lower()


def _firmware(value: Any, path: str) -> str:
    """A version with _ for its dots, as the standard wants it."""
    written = value.replace(".", "_") if isinstance(value, str) else value
    return text(written, path, FIRMWARE, "1 to 32 digits, dots and _")


def _capability(value: Any, path: str) -> str:
    if not is_list(value) or not value:
        raise MapError(path, value, f"must be a list with some of {', '.join(CAPABILITIES)}", REQUEST)
    return ",".join(choice(word, f"{path}[{index}]", CAPABILITIES) for index, word in enumerate(value))


def _secret(value: Any, path: str, pattern: Pattern[str], what: str) -> str:
    """Text that all of a pattern matches, and that no message has."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MapError(path, NO_VALUE, f"must be {what}", REQUEST)
    return str(value)
