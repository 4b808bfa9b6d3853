# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a provider's server answers by HB46PP, by which Japanese providers tell a router how IPv4 crosses their IPv6 network.

HB46PP: "HTTP-Based IPv4 over IPv6 Provisioning Protocol", version 1.1, IPv6 Promotion Council. How a router comes by an answer is in
hb46pp_exchange.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .checks import address, choice, integer, is_list, prefix, text, unicast_ipv6
from .domain import parse_domain
from .errors import NO_VALUE, Faults, MapError

ANSWER = "HB46PP section 3.4"
DOMAINS = {"map_e": "map-e", "map_t": "map-t"}  # method: transport
IPIP = "ipip"
# How a router of the other methods is made; nothing here does that.
OTHERS = {
    "dslite": "DS-Lite (RFC 6333) needs a tunnel to the AFTR in dslite.aftr",
    "lw4o6": "lightweight 4over6 (RFC 7596) needs a router that does it",
    "464xlat": "464XLAT (RFC 6877) needs a CLAT with the prefix in 464xlat.nat64prefix",
    IPIP: "IPIP with a fixed IPv4 address (RFC 2473) needs an ip6tnl tunnel with the addresses in ipip",
}
LAYOUTS = ("draft03", "rfc7597")  # of map_e, by its version
AUTH = {"req": "; it wants the user and pass of the line", "bad": "; it refused the user and pass", "ok": ""}
# The parameters of a domain, as an answer calls them; its one BR address is a list of one in a domain.
NAMES = {"ipv6_prefix": "ipv6", "ipv4_prefix": "ipv4", "br_address[0]": "br", "br_address": "br"}

LONGEST_ANSWER = 2**18  # bytes; an answer with as many rules as it may have takes a third of that
DEEPEST = 16  # objects and lists inside each other
MOST_RULES = {"map_e": 256, "map_t": 200}
MOST_METHODS = 16
MOST_TUNNELS = 16
LONGEST_NAME = 254  # bytes
TTL = (600, 604800)  # seconds; the standard has the upper bound alone, and without a lower one a router would ask all the time
LONGEST_NUMBER = 20  # digits

NAME = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
METHOD = re.compile("[0-9A-Za-z_-]{1,32}")
TOKEN = re.compile("[0-9A-Fa-f]{64}")


class Choice(NamedTuple):
    """One way to set up IPv4, of those that the reader of an answer can do.

    method: map_e, map_t or ipip
    domain: of map_e and map_t, as parse_domain returns it; else None
    tunnels: of ipip, at least one {ipv6_local, ipv6_remote, ipv4}: two addresses, and the fixed IPv4 addresses as a prefix; else empty
    """

    method: str
    domain: dict[str, Any] | None
    tunnels: list[dict[str, str]]


class Answer(NamedTuple):
    """A provisioning answer. What it does not have is None.

    enabler_name, service_name, isp_name: text to show
    ttl: how long the answer is good, in seconds, between 600 and 604800
    token: what the next request hands back
    auth: what became of user and pass: req (they are wanted), bad or ok
    order: all methods that the provider offers, the one it prefers first; also such as the reader cannot do, or does not know
    choices: those that it can do, in the same order; a router takes the first that gives it a customer edge
    """

    enabler_name: str | None
    service_name: str | None
    isp_name: str | None
    ttl: int | None
    token: str | None
    auth: str | None
    order: list[str]
    choices: list[Choice]


def domain_of(written: Any, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The domain of the first method in an answer's order that is MAP-E or MAP-T, as parse_domain returns it.

    Takes what read_answer takes. Raises MapError, also where there is no such method.
    """
    answer = read_answer(written, warn=warn)
    if not answer.choices:
        raise no_choice(answer)
    method, domain, _tunnels = answer.choices[0]
    if warn and IPIP in answer.order[:answer.order.index(method)]:
        warn(str(MapError("order", answer.order, f"the provider prefers ipip, the fixed IPv4 address of this line, and {method} is used: {OTHERS[IPIP]}")))
    return domain


def read_answer(written: Any, able: tuple[str, ...] = tuple(DOMAINS), warn: Callable[[str], None] | None = None) -> Answer:
    """An answer, checked. What stands under the methods that are not in `order` or not in `able`, and unknown keys, is ignored.

    A method that is wrong is ignored where another one can be used, as it is with the containers of DHCPv6.

    written: the body of an HTTP answer, as bytes or text, or the dict in it
    able: the methods that the reader can do, some of map_e, map_t and ipip
    warn: gets a text for each thing that is legal but odd, and for each method that is ignored
    Raises MapError, whose path is the place in the answer; MapErrors with all of them where there are several faults.
    """
    fields = _object(written)
    faults = Faults()
    order = faults.check(_order, fields.get("order"), "order") or []

    def optional(key: str, check: Callable[..., Any], *arguments: Any) -> Any:
        return None if fields.get(key) is None else faults.check(check, fields[key], key, *arguments)

    names = [optional(key, _name) for key in ("enabler_name", "service_name", "isp_name")]
    ttl = optional("ttl", _ttl, warn)
    token = optional("token", _token)
    auth = optional("auth", choice, tuple(AUTH))
    choices = _choices(fields, [method for method in order if method in able], faults, warn)
    faults.refuse()
    return Answer(*names, ttl, token, auth, order, choices)


def no_choice(answer: Answer) -> MapError:
    """What there is to say where an answer has no choices."""
    if not answer.order:
        reason = "the provider has no method for this line: ask it over the line itself, with map_e and map_t in capability"
        return MapError("order", answer.order, reason + AUTH.get(answer.auth, ""), ANSWER)
    ways = ", ".join(OTHERS.get(method, f"{method} is not known here") for method in answer.order)
    return MapError("order", answer.order, f"has no method that is MAP: {ways}; set up one of these by other means, or ask the provider for MAP", ANSWER)


def _object(written: Any) -> Mapping[str, Any]:
    """The outermost object of an answer."""
    value = written
    if isinstance(written, (str, bytes)):
        if len(written) > LONGEST_ANSWER:
            raise MapError("answer", len(written), f"is its length; an answer has at most {LONGEST_ANSWER} bytes")
        try:
            body = written.decode("utf-8-sig") if isinstance(written, bytes) else str(written)
            value = json.loads(body, parse_int=_number, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            raise MapError("answer", written, f"is no JSON: {exc}; give the body of the answer as it came", ANSWER) from None
    if not isinstance(value, Mapping):
        raise MapError("answer", written, "must be an object of JSON, with order and the methods that it names", ANSWER)
    level: list[Any] = list(value.values())
    for _depth in range(DEEPEST):
        containers = [outer for outer in level if isinstance(outer, (dict, list))]
        level = [inner for outer in containers for inner in (outer.values() if isinstance(outer, dict) else outer)]
    if level:
        raise MapError("answer", NO_VALUE, f"has more than {DEEPEST} objects or lists inside each other", ANSWER)
    return value


def _number(digits: str) -> int:
    """An integer of JSON; a long one takes time as the square of its length."""
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _order(written: Any, path: str) -> list[str]:
    """The methods of an answer, each once."""
    if not is_list(written) or len(written) > MOST_METHODS:
        raise MapError(path, written, f"must be a list of at most {MOST_METHODS} methods, such as map_e; empty where there is none for this line", ANSWER)
    methods = [text(method, f"{path}[{index}]", METHOD, "the name of a method, such as map_e") for index, method in enumerate(written)]
    return list(dict.fromkeys(methods))


def _name(value: Any, path: str) -> str:
    name = text(value, path, NAME, "text without control characters")
    if len(name.encode()) > LONGEST_NAME:
        raise MapError(path, value, f"is {len(name.encode())} bytes long; at most {LONGEST_NAME}", ANSWER)
    return name


def _ttl(value: Any, path: str, warn: Callable[[str], None] | None) -> int:
    """A ttl within its bounds: one outside them is no reason to leave a line without IPv4."""
    least, most = TTL
    ttl = integer(value, path, 0, 2**31 - 1, ANSWER)
    bounded = min(max(ttl, least), most)
    if warn and bounded != ttl:
        warn(str(MapError(path, ttl, f"is taken as {bounded}: an answer is good for {least} to {most} seconds", ANSWER)))
    return bounded


def _token(value: Any, path: str) -> str:
    # It stands for the line, so it is in no message.
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise MapError(path, NO_VALUE, "must be 64 hexadecimal digits", ANSWER)
    return str(value)


def _choices(fields: Mapping[str, Any], methods: list[str], faults: Faults, warn: Callable[[str], None] | None) -> list[Choice]:
    """What an answer has of several methods, without those that are wrong; faults where all of them are."""
    choices: list[Choice] = []
    wrong: list[MapError] = []
    told: list[str] = []
    for method in methods:
        own = Faults()
        odd: list[str] = []
        read = _choice(method, fields.get(method), own, odd.append)
        if own.found:
            wrong += own.found
            told.append(f"{method} is ignored: {own.found[0]}")
        else:
            choices.append(read)
            told += odd
    if not choices:
        faults.found += wrong
        return []
    for said in told if warn else ():
        warn(said)
    return choices


def _choice(method: str, written: Any, faults: Faults, warn: Callable[[str], None]) -> Choice | None:
    """What an answer has of a method that its order names; None, and faults, where that is wrong."""
    if method == IPIP:
        return Choice(method, None, _tunnels(written, faults))
    if isinstance(written, Mapping):
        return Choice(method, _domain(method, written, faults, warn), [])
    faults.add(method, written, "must be an object with the parameters of this method, since order names it", ANSWER)
    return None


def _domain(method: str, fields: Mapping[str, Any], faults: Faults, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The domain of map_e or map_t. What is wrong is collected under the answer's own names."""
    rules = fields.get("rules")
    if is_list(rules) and len(rules) > MOST_RULES[method]:
        faults.add(f"{method}.rules", len(rules), f"is their number; an answer has at most {MOST_RULES[method]}", ANSWER)
        return None
    domain: dict[str, Any] = {"transport": DOMAINS[method]}
    fmr: bool | None = False
    if method == "map_e":
        version = fields.get("version")
        version = faults.check(integer, 0 if version is None else version, "map_e.version", 0, 1, ANSWER)
        domain["interface_id"] = None if version is None else LAYOUTS[version]
        domain["br_address"] = [fields.get("br")]
        fmr = faults.check(_mesh, fields.get("mesh"), "map_e.mesh")
    else:
        domain["dmr"] = fields.get("dmr")
    domain["rules"] = rules
    if is_list(rules):
        domain["rules"] = [_rule(rule, f"{method}.rules[{index}]", fmr, faults) for index, rule in enumerate(rules)]
    told = {fault.path for fault in faults.found}
    found = Faults()
    parsed = found.check(parse_domain, domain, method, lambda odd: warn(_renamed(odd)))
    for fault in found.found:
        path = _renamed(fault.path)
        if path not in told:
            faults.add(path, fault.value, fault.reason, fault.reference)
    return parsed


def _renamed(said: str) -> str:
    """A path of a domain, or a text that begins with one, with the answer's own names in the path."""
    path, colon, rest = said.partition(": ")
    for name, own in NAMES.items():
        path = path.replace(name, own)
    return path + colon + rest


def _mesh(value: Any, path: str) -> bool:
    """Whether customer edges send to each other directly; the standard writes 0, 1 and true."""
    if value not in (None, 0, 1):
        raise MapError(path, value, "must be 1 or true where customer edges send to each other directly, else 0 or false", ANSWER)
    return bool(value)


def _rule(fields: Any, path: str, fmr: bool | None, faults: Faults) -> dict[str, Any] | None:
    """A rule in a domain's form; parse_domain checks it."""
    if not isinstance(fields, Mapping):
        faults.add(path, fields, "must be a rule, an object with ipv6, ipv4, ea_length and psid_offset", ANSWER)
        return None
    if fields.get("psid_offset") is None:
        faults.add(f"{path}.psid_offset", None, "must be an integer between 0 and 15: an answer has no default for it", ANSWER)
    return {
        "ipv6_prefix": fields.get("ipv6"), "ipv4_prefix": fields.get("ipv4"), "ea_length": fields.get("ea_length"),
        "psid_offset": fields.get("psid_offset"), "fmr": fmr,
    }


def _tunnels(written: Any, faults: Faults) -> list[dict[str, str]]:
    """The tunnels of ipip."""
    if not is_list(written) or not 1 <= len(written) <= MOST_TUNNELS:
        faults.add(IPIP, written, f"must be a list of 1 to {MOST_TUNNELS} tunnels, since order names it", ANSWER)
        return []
    tunnels = []
    for index, fields in enumerate(written):
        path = f"{IPIP}[{index}]"
        if not isinstance(fields, Mapping):
            faults.add(path, fields, "must be a tunnel, an object with ipv6_local, ipv6_remote and ipv4", ANSWER)
            continue
        tunnels.append({
            **{key: str(faults.check(unicast_ipv6, fields.get(key), f"{path}.{key}", ANSWER)) for key in ("ipv6_local", "ipv6_remote")},
            "ipv4": str(faults.check(_fixed, fields.get("ipv4"), f"{path}.ipv4")),
        })
    return tunnels


def _fixed(value: Any, path: str) -> Any:
    """The fixed IPv4 addresses of a line as a prefix; one may stand without its length."""
    if isinstance(value, str) and "/" not in value:
        return f"{address(value, path, 4, ANSWER)}/32"
    return prefix(value, path, 4, ANSWER)
