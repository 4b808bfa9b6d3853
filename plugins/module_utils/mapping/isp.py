# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of Japanese ISPs, found by the ISP's name and the end-user prefix.

isp_rules.json holds what users of these ISPs have collected, not what the ISPs publish: each rule has a
confidence (high or medium), each ISP the evidence for the layout of its interface identifier.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any

from .arithmetic import split_prefix
from .domain import parse_domain
from .errors import MapError

RULE_KEYS = ("ipv6_prefix", "ipv4_prefix", "ea_length", "psid_offset", "psid_length")


@lru_cache(maxsize=None)
def services() -> dict[str, dict[str, Any]]:
    """The contents of isp_rules.json: {name: {title, aliases, rules, ...}}; read only."""
    return json.loads(Path(__file__).with_name("isp_rules.json").read_text(encoding="utf-8"))


def isp_domain(isp: Any, end_user_prefix: Any, isp_path: str = "isp", path: str = "end_user_prefix") -> dict[str, Any]:
    """The domain, as parse_domain returns it, that holds the one rule of an ISP for an end-user prefix.

    isp: a name as people write it; case, spaces and hyphens do not matter. Raises MapError.
    """
    name = _service_name(isp, isp_path)
    service = services()[name]
    rule = _matching_rule(service, end_user_prefix, path)
    if rule is None:
        known = ", ".join(str(network) for network in ipaddress.collapse_addresses(ipaddress.ip_network(rule["ipv6_prefix"]) for rule in service["rules"]))
        others = [other for other, fields in services().items() if _matching_rule(fields, end_user_prefix, path)]
        advice = f"it is one of {others[0]}" if others else "ask for the rule and write a domain"
        raise MapError(path, end_user_prefix, f"is outside every known rule of {name}: {advice}; known are {known}")
    return parse_domain(
        {
            "transport": service["transport"],
            "interface_id": service["interface_id"],
            "br_address": rule["br_address"],
            "rules": [{key: rule[key] for key in RULE_KEYS}],
        }
    )


def _service_name(isp: Any, path: str) -> str:
    if isinstance(isp, str):
        for name, service in services().items():
            if _plain(isp) in {_plain(alias) for alias in (name, *service["aliases"])}:
                return name
    known = "; ".join(f"{name} ({', '.join(service['aliases'])})" for name, service in services().items())
    raise MapError(path, isp, f"is not a known ISP: write a domain with its rules, or one of these names: {known}")


def _plain(name: str) -> str:
    """A name without what people write in different ways; full-width letters become ASCII."""
    return re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", name)).casefold()


def _matching_rule(service: dict[str, Any], end_user_prefix: Any, path: str) -> dict[str, Any] | None:
    """The rule whose IPv6 prefix holds the end-user prefix; the rules of a service do not overlap."""
    prefix, prefix_length = split_prefix(end_user_prefix, path)
    for rule in service["rules"]:
        base, length = split_prefix(rule["ipv6_prefix"], path)
        if length <= prefix_length and prefix >> (128 - length) == base >> (128 - length):
            return rule
    return None
