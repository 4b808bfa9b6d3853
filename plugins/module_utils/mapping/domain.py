# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what people write in an inventory to a valid domain, and on to CEs.

The arithmetic itself, and the form of a valid domain, are in module_utils/arithmetic.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from socket import AF_INET, inet_pton
from typing import Any

from .arithmetic import Domain, ipv4_text, port_ranges, psid_length_of
from . import conflicts
from .errors import Faults, MapError, join_path

try:
    import netaddr
except ImportError:
    netaddr = None

DEFAULT_PSID_OFFSET = {"rfc7597": 6, "draft03": 4}
DMR_LENGTHS = (32, 40, 48, 56, 64, 96)

DOMAIN_KEYS = ("transport", "interface_id", "br_address", "dmr", "rules")
LW4O6_KEYS = ("transport", "br_address", "binding")
BINDING_KEYS = ("ipv4_address", "ipv6_prefix", "psid_offset", "psid_length", "psid")
RULE_KEYS = ("ipv6_prefix", "ipv4_prefix", "ea_length", "psid_offset", "psid_length", "psid", "fmr")

ALGORITHM = "RFC 7597 section 5"
PORTS = "RFC 7597 section 5.1"
BMR = "RFC 7597 section 5.2"
BR_ADDRESS = "RFC 7597 section 5.4"
DMR = "RFC 7599 section 5.1"
IPV4_EMBEDDED = "RFC 6052 section 2.2"
EXPLICIT_PSID = "RFC 7598 section 4.5"
BINDING = "RFC 7598 section 4.4"


def parse_domain(value: Any, path: str = "", warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """The domain a person wrote, checked, with every default filled in and addresses in canonical form.

    path: where the domain stands, such as "map_domain"; it precedes the paths in errors.
    warn: gets a text for each thing that is legal but odd.
    Keys that are null count as not set, so a result of this function passes through it unchanged.
    Raises MapError; MapErrors with all of them where there are several faults.
    """
    faults = Faults()
    domain, = parse_domains([(path, value)], faults, warn)
    faults.refuse()
    return domain


def parse_domains(written: list[tuple[str, Any]], faults: Faults, warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Like parse_domain, for all domains that one border relay serves; written: [(path, value)].

    Collects the faults. Only where there is none, each domain in the result is whole.
    """
    domains = [_domain(value, path, faults) for path, value in written]
    rules = []
    for (path, _value), domain in zip(written, domains):
        own = [(f"{join_path(path, 'rules')}[{index}]", rule) for index, rule in enumerate(domain["rules"]) if rule]
        if domain["dmr"]:
            conflicts.find_in_dmr(domain["dmr"], join_path(path, "dmr"), own, faults)
        rules += own
    conflicts.find(rules, faults)
    if warn and not faults.found:
        for (path, _value), domain in zip(written, domains):
            for text in conflicts.oddities(domain, path):
                warn(text)
    return domains


def _domain(value: Any, path: str, faults: Faults) -> dict[str, Any]:
    """A domain, each of its rules checked by itself. What is wrong is collected, and None in the result."""
    domain = {"transport": None, "interface_id": None, "br_address": None, "dmr": None, "rules": []}
    if isinstance(value, Mapping) and value.get("transport") == "lw4o6":
        reason = "lightweight 4over6 is not MAP: it has a binding for each customer edge, no rules; use map-e or map-t"
        faults.add(join_path(path, "transport"), "lw4o6", reason, "RFC 7596")
        return domain
    fields = mapping(value, path, DOMAIN_KEYS, "a MAP domain", faults)
    if fields is None:
        return domain
    domain["transport"] = faults.check(_choice, fields, "transport", path, ("map-e", "map-t"))
    domain["interface_id"] = faults.check(interface_id_of, fields, path)
    if domain["transport"] == "map-e":
        domain["br_address"] = faults.check(_br_address, fields, path)
    elif domain["transport"] == "map-t":
        domain["dmr"] = faults.check(_dmr, fields, path)
    rules_path = join_path(path, "rules")
    written = fields.get("rules")
    if not is_list(written) or not written:
        faults.add(rules_path, written, "must be a list of at least one rule", ALGORITHM)
        return domain
    # With a wrong interface_id the default is unknown; 0 is no fault with any PSID length.
    offset = DEFAULT_PSID_OFFSET.get(domain["interface_id"], 0)
    domain["rules"] = [_rule(rule, f"{rules_path}[{index}]", offset, faults) for index, rule in enumerate(written)]
    return domain


def parse_lw4o6(value: Any, path: str = "") -> dict[str, Any]:
    """A lightweight 4over6 "domain", the form in which its DHCPv6 options come and go: {transport, br_address, binding}.

    Its binding, which may be null, has the keys ipv4_address, ipv6_prefix, psid_offset (default 0), psid_length (default 0)
    and psid, which is null where the address is not shared. Raises MapError.
    """
    faults = Faults()
    fields = mapping(value, path, LW4O6_KEYS, "a lightweight 4over6 domain", faults)
    faults.refuse()
    parsed = {"transport": "lw4o6", "br_address": _br_address(fields, path), "binding": None}
    if "binding" not in fields:
        return parsed
    path = join_path(path, "binding")
    binding = mapping(fields["binding"], path, BINDING_KEYS, "a binding", faults)
    faults.refuse()
    address = ipv4_text(_ipv4(binding.get("ipv4_address"), f"{path}.ipv4_address"))
    ipv6_prefix = str(prefix(binding.get("ipv6_prefix"), f"{path}.ipv6_prefix", 6, BINDING))
    offset = integer(binding.get("psid_offset", 0), f"{path}.psid_offset", 0, 15, EXPLICIT_PSID)
    length = integer(binding.get("psid_length", 0), f"{path}.psid_length", 0, 16, EXPLICIT_PSID)
    _refuse_no_port(offset, length, f"{path}.psid_offset")
    psid = binding.get("psid")
    if length:
        psid = integer(psid, f"{path}.psid", 0, (1 << length) - 1, EXPLICIT_PSID)
    elif psid is not None:
        raise MapError(f"{path}.psid", psid, "needs its psid_length, an integer between 1 and 16", EXPLICIT_PSID)
    parsed["binding"] = {
        "ipv4_address": address, "ipv6_prefix": ipv6_prefix, "psid_offset": offset, "psid_length": length, "psid": psid}
    return parsed


def ce(
    domain: Any, end_user_prefix: Any, path: str = "end_user_prefix", domain_path: str = "", warn: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The parameters of one CE of a domain as people write it. Raises MapError."""
    return Domain(parse_domain(domain, domain_path, warn)).ce(end_user_prefix, path)


def ces(
    domain: Any, prefixes: Any, path: str = "prefixes", domain_path: str = "", warn: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """The parameters of many CEs of one domain, in order. Raises MapError, also where two prefixes give one CE, or one holds another."""
    prepared = Domain(parse_domain(domain, domain_path, warn))
    if not is_list(prefixes):
        raise MapError(path, prefixes, "must be a list of end-user IPv6 prefixes")
    faults = Faults()
    results = [faults.check(prepared.ce, prefix, f"{path}[{index}]") for index, prefix in enumerate(prefixes)]
    placed = [(f"{path}[{index}]", result) for index, result in enumerate(results) if result]
    for _index, _other, error in conflicts.coinciding(placed):
        faults.add_error(error)
    faults.refuse()
    return results


def owner(
    domain: Any, ipv4_address: Any, port: Any = None, domain_path: str = "", warn: Callable[[str], None] | None = None
) -> Any:
    """The parameters of the CE behind an IPv4 address and port, or None; a list of them for a list of pairs. Raises MapError."""
    prepared = Domain(parse_domain(domain, domain_path, warn))
    if not is_list(ipv4_address):
        return prepared.owner(_ipv4(ipv4_address, "ipv4_address"), integer(port, "port", 0, 65535))
    if port is not None:
        raise MapError("port", port, "is for one address; with a list of pairs each pair has its own port")
    faults = Faults()
    owners = [faults.check(_owner, prepared, pair, f"pairs[{index}]") for index, pair in enumerate(ipv4_address)]
    faults.refuse()
    return owners


def _owner(prepared: Domain, pair: Any, path: str) -> dict[str, Any] | None:
    if not is_list(pair) or len(pair) != 2:
        raise MapError(path, pair, "must be a pair of an IPv4 address and a port, such as [192.0.2.18, 1232]")
    address, port = pair
    return prepared.owner(_ipv4(address, f"{path}[0]"), integer(port, f"{path}[1]", 0, 65535))


def port_set(psid: Any, psid_length: Any, psid_offset: Any) -> list[list[int]]:
    """The port set of a PSID as [[low, high], ...]. Raises MapError."""
    length = integer(psid_length, "psid_length", 0, 16, PORTS)
    offset = integer(psid_offset, "psid_offset", 0, 15, PORTS)
    _refuse_no_port(offset, length, "psid_offset")
    return port_ranges(integer(psid, "psid", 0, (1 << length) - 1, PORTS), length, offset)


def integer(value: Any, path: str, low: int, high: int, reference: str | None = None) -> int:
    """An integer from low to high. A string of decimal digits counts, since templates make them. Raises MapError."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = int(value)
    else:
        number = None
    if number is None or not low <= number <= high:
        raise MapError(path, value, f"must be an integer between {low} and {high}", reference)
    return number


def prefix(value: Any, path: str, version: int, reference: str | None = None) -> netaddr.IPNetwork:
    """A prefix of IP version 4 or 6 with its length and without host bits. Raises MapError."""
    _require_netaddr()
    example = "192.0.2.0/24" if version == 4 else "2001:db8::/40"
    try:
        # A mask would pass netaddr, and before netaddr 1.0 an address that leaves octets out.
        if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f.:]+/[0-9]{1,3}", value):
            raise ValueError
        address = netaddr.IPAddress(value.partition("/")[0], version, flags=netaddr.INET_PTON)
        network = netaddr.IPNetwork(f"{address}/{value.partition('/')[2]}", version=version)
    except (ValueError, netaddr.AddrFormatError) as exc:
        reason = f"must be an IPv{version} prefix with its length, such as {example}"
        raise MapError(path, value, reason, reference) from exc
    if address != network.network:
        reason = f"has bits set after its first {network.prefixlen}: write {network.cidr}, or the length that is meant"
        raise MapError(path, value, reason, reference)
    return network.cidr


def merged(prefixes: list[str]) -> list[str]:
    """The fewest prefixes that hold the same addresses, ascending."""
    _require_netaddr()
    return [str(network) for network in netaddr.cidr_merge(prefixes)]


def prefixes_between(first: int, last: int) -> list[str]:
    """The fewest IPv6 prefixes that hold the addresses (int) from first to last; none where last is before first."""
    return [str(network) for network in netaddr.iprange_to_cidrs(netaddr.IPAddress(first, 6), netaddr.IPAddress(last, 6))] if first <= last else []


def interface_id_of(fields: dict, path: str = "") -> str:
    """The layout of the interface identifier, rfc7597 unless it is set. Raises MapError."""
    return _choice(fields, "interface_id", path, tuple(DEFAULT_PSID_OFFSET), default="rfc7597")


def ipv6_address(value: Any, path: str, reference: str | None = None) -> netaddr.IPAddress:
    """A unicast IPv6 address. Raises MapError."""
    _require_netaddr()
    try:
        if not isinstance(value, str):
            raise ValueError
        address = netaddr.IPAddress(value, 6, flags=netaddr.INET_PTON)
        if address.is_multicast() or not int(address):
            raise ValueError
    except (ValueError, netaddr.AddrFormatError) as exc:
        reason = "must be a unicast IPv6 address without length, such as 2001:db8:ffff::1"
        raise MapError(path, value, reason, reference) from exc
    return address


def _ipv4(value: Any, path: str) -> int:
    """An IPv4 address as an int. Raises MapError."""
    try:
        return int.from_bytes(inet_pton(AF_INET, value), "big")
    except (TypeError, ValueError, OSError) as exc:
        raise MapError(path, value, "must be an IPv4 address without length, such as 192.0.2.18") from exc


def _require_netaddr() -> None:
    if netaddr is None:
        reason = "this Python lacks the library netaddr: install it on the controller (pip install netaddr)"
        raise MapError("netaddr", sys.executable, reason)


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def mapping(value: Any, path: str, keys: tuple[str, ...], what: str, faults: Faults) -> dict[str, Any] | None:
    """The dict without its null values, and without other keys than `keys`: these are collected, since they are typing errors.

    None, and a fault, for anything but a dict.
    """
    if not isinstance(value, Mapping):
        faults.add(path or "domain", value, f"must be {what}, a dict with some of the keys {', '.join(keys)}")
        return None
    for key in value:
        if key not in keys:
            faults.add(join_path(path, str(key)), value[key], f"is not a key of {what}; there are {', '.join(keys)}")
    return {key: value[key] for key in keys if value.get(key) is not None}


def _choice(fields: dict, key: str, path: str, choices: tuple[str, ...], default: str | None = None) -> str:
    value = fields.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise MapError(join_path(path, key), value, f"must be one of {', '.join(choices)}")
    return str(value)


def _br_address(fields: dict, path: str) -> list[str]:
    """The BR addresses of a MAP-E or lightweight 4over6 domain; people write one as a string or several as a list."""
    if "dmr" in fields:
        reason = "is for transport map-t only: remove it, or set transport to map-t"
        raise MapError(join_path(path, "dmr"), fields["dmr"], reason, DMR)
    path = join_path(path, "br_address")
    written = fields.get("br_address")
    if not written:
        raise MapError(path, written, f"is required for transport {fields['transport']}: the IPv6 address of the BR", BR_ADDRESS)
    if not is_list(written):
        return [str(ipv6_address(written, path, BR_ADDRESS))]
    addresses = [str(ipv6_address(item, f"{path}[{index}]", BR_ADDRESS)) for index, item in enumerate(written)]
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise MapError(f"{path}[{index}]", address, f"is the same address as {path}[{addresses.index(address)}]")
    return addresses


def _dmr(fields: dict, path: str) -> str:
    """The DMR prefix of a MAP-T domain."""
    if "br_address" in fields:
        reason = "is for transport map-e only: a MAP-T domain reaches its BR through dmr"
        raise MapError(join_path(path, "br_address"), fields["br_address"], reason, DMR)
    path = join_path(path, "dmr")
    written = fields.get("dmr")
    if written is None:
        raise MapError(path, written, "is required for transport map-t: the IPv6 prefix of the BR", DMR)
    dmr = prefix(written, path, 6, DMR)
    if dmr.prefixlen not in DMR_LENGTHS:
        lengths = ", ".join(str(length) for length in DMR_LENGTHS)
        raise MapError(path, written, f"must have one of the lengths {lengths}", IPV4_EMBEDDED)
    if dmr.first >> 56 & 0xFF:
        raise MapError(path, written, "must have zero in its bits 64 to 71 (the ninth byte)", IPV4_EMBEDDED)
    return str(dmr)


def _rule(value: Any, path: str, default_psid_offset: int, faults: Faults) -> dict[str, Any] | None:
    """One rule, checked by itself; None where it has a fault."""
    before = len(faults.found)
    fields = mapping(value, path, RULE_KEYS, "a rule", faults)
    if fields is None:
        return None
    ipv6 = faults.check(prefix, fields.get("ipv6_prefix"), f"{path}.ipv6_prefix", 6, ALGORITHM)
    ipv4 = faults.check(prefix, fields.get("ipv4_prefix"), f"{path}.ipv4_prefix", 4, ALGORITHM)
    ea_length = faults.check(integer, fields.get("ea_length"), f"{path}.ea_length", 0, 48, ALGORITHM)
    psid_offset = faults.check(integer, fields.get("psid_offset", default_psid_offset), f"{path}.psid_offset", 0, 15, PORTS)
    fmr = fields.get("fmr", False)
    if not isinstance(fmr, bool):
        faults.add(f"{path}.fmr", fmr, "must be true or false")
    if ipv6 is not None and ea_length is not None and ipv6.prefixlen + ea_length > 128:
        reason = f"is more than {ipv6} leaves: prefix length and EA bits are at most 128 together"
        faults.add(f"{path}.ea_length", fields["ea_length"], reason, ALGORITHM)
    psid_length, psid = None, None
    if ipv4 is not None and ea_length is not None:
        psid_length, psid = faults.check(_psid, fields, path, ea_length, ipv4) or (None, None)
        if psid_length is not None and psid_offset is not None:
            faults.check(_refuse_no_port, psid_offset, psid_length, f"{path}.psid_offset")
    if len(faults.found) > before:
        return None
    return {
        "ipv6_prefix": str(ipv6),
        "ipv4_prefix": str(ipv4),
        "ea_length": ea_length,
        "psid_offset": psid_offset,
        "psid_length": psid_length,
        "psid": psid,
        "fmr": bool(fmr),
    }


def _psid(fields: dict, path: str, ea_length: int, ipv4: netaddr.IPNetwork) -> tuple[int, int | None]:
    """The PSID length of a rule, and its PSID where that is explicit."""
    implied = psid_length_of(ea_length, ipv4.prefixlen)
    written = fields.get("psid_length")
    if implied > 16:
        reason = f"gives a PSID of {implied} bits with {ipv4}; a port has 16: at most {48 - ipv4.prefixlen} EA bits"
        raise MapError(f"{path}.ea_length", fields["ea_length"], reason, PORTS)
    length = None if written is None else integer(written, f"{path}.psid_length", 0, 16, PORTS)
    if "psid" not in fields:
        if ea_length == 0 and length:
            reason = "is required with a psid_length and no EA bits: the explicit PSID of the CE"
            raise MapError(f"{path}.psid", None, reason, EXPLICIT_PSID)
        if length not in (None, implied):
            reason = f"contradicts the EA bits: {ea_length} with {ipv4} give {implied}; remove it or correct ea_length"
            raise MapError(f"{path}.psid_length", written, reason, BMR)
        return implied, None
    if ea_length or ipv4.prefixlen != 32:
        reason = f"an explicit PSID needs ea_length 0 and an IPv4 prefix of /32, not {ea_length} and {ipv4}"
        raise MapError(f"{path}.psid", fields["psid"], reason, EXPLICIT_PSID)
    if not length:
        reason = "an explicit PSID needs its length, an integer between 1 and 16"
        raise MapError(f"{path}.psid_length", written, reason, EXPLICIT_PSID)
    psid = integer(fields["psid"], f"{path}.psid", 0, 65535, EXPLICIT_PSID)
    if psid >> length:
        reason = f"is wider than its psid_length of {length}: at most {(1 << length) - 1}"
        raise MapError(f"{path}.psid", fields["psid"], reason, EXPLICIT_PSID)
    return length, psid


def _refuse_no_port(psid_offset: int, psid_length: int, path: str) -> None:
    if psid_offset + psid_length > 16:
        reason = f"leaves no port: with the PSID length {psid_length} it must be at most {16 - psid_length}"
        raise MapError(path, psid_offset, reason, PORTS)
