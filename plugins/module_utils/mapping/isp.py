# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of Japanese ISPs, found by the ISP's name and the end-user prefix.

isp_rules.json holds what users of these ISPs have collected, not what the ISPs publish: each rule has a
confidence (high or medium), each ISP the evidence for the layout of its interface identifier, and for what it says of
CEs sending to each other directly (mesh).
not_map.json holds services that people take for MAP, with the ranges of their lines (confidence medium).
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

from .arithmetic import split_prefix
from .errors import MapError

RULE_KEYS = ("ipv6_prefix", "ipv4_prefix", "ea_length", "psid_offset", "psid_length")
NEAREST = 3
# One spelling for each word of a service's name.
SPELLINGS = {"プラス": "plus", "バーチャル": "virtual", "コネクト": "connect", "オプション": "option", "ひかり": "hikari", "光": "hikari",
             "ドコモ": "docomo", "ニフティ": "nifty", "ソネット": "sonet"}
# What people add to the name of a service: who sells it and on which line. None of these words tells which service it is.
# A word that holds another stands before it.
NOT_TELLING = ("docomo", "enhikari", "rakuten", "楽天", "nifty", "sonet", "gmo", "とくとくbb", "hikari", "internet", "インターネット", "ipv6", "ipoe",
               "mape", "option", "for")


@lru_cache(maxsize=None)
def services() -> dict[str, dict[str, Any]]:
    """The contents of isp_rules.json: {name: {title, aliases, rules, ...}}; read only."""
    return _read("isp_rules.json")


@lru_cache(maxsize=None)
def not_map() -> dict[str, dict[str, Any]]:
    """The contents of not_map.json: {name: {title, aliases, technique, advice, ipv6_prefixes, ...}}; read only."""
    return _read("not_map.json")


def isp_domain(isp: Any, end_user_prefix: Any, isp_path: str = "isp", path: str = "end_user_prefix") -> dict[str, Any]:
    """The domain, as parse_domain returns it, that holds the one rule of an ISP for an end-user prefix.

    isp: a name as people write it; case, width, spaces, punctuation and words such as "光" do not matter. Raises MapError.
    """
    name = service_name(isp, isp_path)
    service = services()[name]
    prefix, length = split_prefix(end_user_prefix, path)
    rule = _matching_rule(service, prefix, length)
    if rule is None:
        raise MapError(path, end_user_prefix, _outside(name, prefix, length))
    return _domain(service, rule["br_address"], [rule])


def isp_domains(isp: Any, isp_path: str = "isp") -> list[dict[str, Any]]:
    """The domains, as parse_domain returns them, that hold all rules of an ISP, one for each BR. Raises MapError."""
    service = services()[service_name(isp, isp_path)]
    by_br: dict[str, list[dict[str, Any]]] = {}
    for rule in service["rules"]:
        by_br.setdefault(rule["br_address"], []).append(rule)
    return [_domain(service, br_address, rules) for br_address, rules in by_br.items()]


def _domain(service: dict[str, Any], br_address: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    # Valid and canonical as they are: parse_domain would look at all rules of an ISP for as long as an answer from the command line takes.
    return {
        "transport": service["transport"], "interface_id": service["interface_id"], "br_address": [br_address], "dmr": None,
        "rules": [_rule(rule, fmr=False) for rule in rules],
    }


def _rule(rule: dict[str, Any], fmr: bool) -> dict[str, Any]:
    return {**{key: rule[key] for key in RULE_KEYS}, "psid": None, "fmr": fmr}


def isp_mesh(isp: Any, isp_path: str = "isp") -> tuple[list[dict[str, Any]], bool]:
    """All rules of an ISP as forwarding mapping rules, in a domain's form, and whether its CEs send to each other directly. Raises MapError.

    Where they do not, as far as is known, CEs of other makers may do so all the same.
    """
    service = services()[service_name(isp, isp_path)]
    return [_rule(rule, fmr=True) for rule in service["rules"]], service["mesh"]


def _read(name: str) -> dict[str, dict[str, Any]]:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def service_name(isp: Any, path: str) -> str:
    """The key in services() of the service that has this name, as people write it. Raises MapError."""
    names = _names()
    written = isp if isinstance(isp, str) else ""
    found = names.get(_plain(written))
    if found in services():
        return found
    if found:
        other = not_map()[found]
        raise MapError(path, isp, f"{other['title']} is {other['technique']}, not MAP: {other['advice']}")
    fault = "does not tell which service the line has" if written.strip() and not _plain(written) else "is not the name of a known service"
    close = [names[name] for name in difflib.get_close_matches(_plain(written), names)]
    near = dict.fromkeys(key if key in services() else not_map()[key]["title"] for key in close)  # several names of one service are one guess
    guess = f"did you mean {' or '.join(near)}? Otherwise " if near else ""
    known = ", ".join(f"{name} ({service['title']})" for name, service in services().items())
    raise MapError(path, isp, f"{fault}: {guess}use one of {known}, or write a domain with the ISP's rules")


@lru_cache(maxsize=None)
def _names() -> dict[str, str]:
    """{plain name: key in services() or not_map()}."""
    known = {**services(), **not_map()}
    return {_plain(name): key for key, service in known.items() for name in (key, service["title"], *service["aliases"])}


def _plain(name: str) -> str:
    """A name without what people write in different ways, and without words that do not tell which service it is."""
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))
    for written, spelling in SPELLINGS.items():
        plain = plain.replace(written, spelling)
    for word in NOT_TELLING:
        plain = plain.replace(word, "")
    return plain


def _matching_rule(service: dict[str, Any], prefix: int, length: int) -> dict[str, Any] | None:
    """The rule whose IPv6 prefix holds the end-user prefix; the rules of a service do not overlap."""
    return next((rule for rule in service["rules"] if _holds(rule["ipv6_prefix"], prefix, length)), None)


def _holds(outer: str, prefix: int, length: int) -> bool:
    """Whether a prefix as text holds another one (int, length in bits)."""
    base, bits = split_prefix(outer, "ipv6_prefix")
    return bits <= length and (prefix ^ base) >> (128 - bits) == 0


def _outside(name: str, prefix: int, length: int) -> str:
    """What an end-user prefix outside the rules of a service is likely to be, and what to do."""
    reason = f"is outside every known rule of {name}"
    for other, service in services().items():
        if _matching_rule(service, prefix, length):
            return f"{reason}: it belongs to {other} ({service['title']}), so write {other}"
    for service in not_map().values():
        if any(_holds(known, prefix, length) for known in service["ipv6_prefixes"]):
            return f"{reason}: it looks like a {service['title']} line, which is {service['technique']}, not MAP: {service['advice']}"

    def distance(rule: dict[str, Any]) -> tuple[int, int]:
        base, bits = split_prefix(rule["ipv6_prefix"], "ipv6_prefix")
        return max(128 - min(bits, length), (prefix ^ base).bit_length()), abs(prefix - base)

    nearest = ", ".join(rule["ipv6_prefix"] for rule in sorted(services()[name]["rules"], key=distance)[:NEAREST])
    return f"{reason}: look whether it is the prefix of this line, then ask the ISP for its rule and write a domain; the nearest known are {nearest}"
