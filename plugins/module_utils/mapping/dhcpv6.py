# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain as the DHCPv6 options of RFC 7598, and back: one container (94, 95 or 96) that holds all others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Any, NamedTuple

from . import received
from .arithmetic import split_prefix
from .checks import address, integer, mapping, prefix
from .domain import EXPLICIT_PSID, br_addresses, parse_domain, refuse_no_port
from .errors import NO_VALUE, Faults, MapError, join_path

RULE, BR, DMR, V4V6BIND, PORTPARAMS, CONT_MAPE, CONT_MAPT, CONT_LW = range(89, 97)
NAMES = dict(zip(range(89, 97), (
    "S46_RULE", "S46_BR", "S46_DMR", "S46_V4V6BIND", "S46_PORTPARAMS", "S46_CONT_MAPE", "S46_CONT_MAPT", "S46_CONT_LW")))
SECTIONS = {
    code: f"RFC 7598 section {section}" for code, section in zip(NAMES, ("4.1", "4.2", "4.3", "4.4", "4.5", "5.1", "5.2", "5.3"))}
PRIORITY = 111
CONTAINERS = {"map-e": CONT_MAPE, "map-t": CONT_MAPT, "lw4o6": CONT_LW}
TRANSPORTS = {code: transport for transport, code in CONTAINERS.items()}
# Which options may stand directly in which one, and how many of them: at least, at most.
CONTENTS = {
    CONT_MAPE: {RULE: (1, None), BR: (1, None)},
    CONT_MAPT: {RULE: (1, None), DMR: (1, 1)},
    CONT_LW: {BR: (1, None), V4V6BIND: (0, 1)},
    RULE: {PORTPARAMS: (0, 1)},
    V4V6BIND: {PORTPARAMS: (0, 1)},
}
FMR_FLAG = 1
# A message begins with its type and a transaction id, options with a code, none of which is above 255 (RFC 8415 section 8).
FROM_SERVER = (2, 7)  # Advertise, Reply
MESSAGES = range(1, 14)
MESSAGE_HEADER = 4  # bytes
# Far above what a line needs; a container as long as an option can be takes seconds.
LARGEST_CONTAINER = 4096  # bytes
MOST_RULES = 64
LW4O6_KEYS = ("transport", "br_address", "binding")
BINDING_KEYS = ("ipv4_address", "ipv6_prefix", "psid_offset", "psid_length", "psid")
BINDING = "RFC 7598 section 4.4"


def parse_lw4o6(value: Any, path: str = "") -> dict[str, Any]:
    """A lightweight 4over6 "domain", the form in which its DHCPv6 options come and go: {transport, br_address, binding}.

    Its binding, which may be null, has the keys ipv4_address, ipv6_prefix, psid_offset (default 0), psid_length (default 0)
    and psid, which is null where the address is not shared. Raises MapError.
    """
    faults = Faults()
    fields = mapping(value, path, LW4O6_KEYS, "a lightweight 4over6 domain", faults)
    faults.refuse()
    parsed = {"transport": "lw4o6", "br_address": br_addresses(fields, path), "binding": None}
    if "binding" not in fields:
        return parsed
    path = join_path(path, "binding")
    binding = mapping(fields["binding"], path, BINDING_KEYS, "a binding", faults)
    faults.refuse()
    ipv4_address = str(address(binding.get("ipv4_address"), f"{path}.ipv4_address", 4))
    ipv6_prefix = str(prefix(binding.get("ipv6_prefix"), f"{path}.ipv6_prefix", 6, BINDING))
    offset = integer(binding.get("psid_offset", 0), f"{path}.psid_offset", 0, 15, EXPLICIT_PSID)
    length = integer(binding.get("psid_length", 0), f"{path}.psid_length", 0, 16, EXPLICIT_PSID)
    refuse_no_port(offset, length, f"{path}.psid_offset")
    psid = binding.get("psid")
    if length:
        psid = integer(psid, f"{path}.psid", 0, (1 << length) - 1, EXPLICIT_PSID)
    elif psid is not None:
        raise MapError(f"{path}.psid", psid, "needs its psid_length, an integer between 1 and 16", EXPLICIT_PSID)
    parsed["binding"] = {
        "ipv4_address": ipv4_address, "ipv6_prefix": ipv6_prefix, "psid_offset": offset, "psid_length": length, "psid": psid}
    return parsed


def options(domain: Any, path: str = "", warn: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """The container of a domain as people write it, as [{code, data, option}]; data and option in hex. Raises MapError.

    domain: for MAP-E or MAP-T, or for lightweight 4over6 (transport lw4o6, with a binding).
    """
    if isinstance(domain, Mapping) and domain.get("transport") == "lw4o6":
        parsed = parse_lw4o6(domain, path)
        body = _br_options(parsed) + _binding_option(parsed["binding"])
    else:
        parsed = parse_domain(domain, path, warn)
        if parsed["interface_id"] != "rfc7597":
            reason = "has no place in the options: a CE that reads them computes the MAP address of rfc7597"
            raise MapError("interface_id", parsed["interface_id"], reason, "RFC 7598 section 4")
        gateway = _br_options(parsed) if parsed["transport"] == "map-e" else _option(DMR, _prefix(parsed["dmr"]))
        body = b"".join(_rule_option(rule) for rule in parsed["rules"]) + gateway
    if len(body) > 0xFFFF:
        raise MapError("rules", len(parsed["rules"]), f"are {len(body)} bytes; an option holds 65535", "RFC 8415 section 21.1")
    code = CONTAINERS[parsed["transport"]]
    return [{"code": code, "data": body.hex(), "option": _option(code, body).hex()}]


def _option(code: int, body: bytes) -> bytes:
    return code.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def _prefix(text: str) -> bytes:
    """The length of an IPv6 prefix, and as many bytes as that length needs."""
    network = ip_network(text)
    return bytes([network.prefixlen]) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def _br_options(parsed: dict[str, Any]) -> bytes:
    return b"".join(_option(BR, IPv6Address(address).packed) for address in parsed["br_address"])


def _rule_option(rule: dict[str, Any]) -> bytes:
    ipv4 = ip_network(rule["ipv4_prefix"])
    flags = FMR_FLAG if rule["fmr"] else 0
    fixed = bytes([flags, rule["ea_length"], ipv4.prefixlen]) + ipv4.network_address.packed
    # A PSID length tells a CE that the PSID is explicit; otherwise the EA bits give both.
    explicit = rule["psid"] is not None
    ports = _port_parameters(rule["psid_offset"], rule["psid_length"] if explicit else 0, rule["psid"])
    return _option(RULE, fixed + _prefix(rule["ipv6_prefix"]) + ports)


def _binding_option(binding: dict[str, Any] | None) -> bytes:
    if binding is None:
        return b""
    ports = _port_parameters(binding["psid_offset"], binding["psid_length"], binding["psid"])
    return _option(V4V6BIND, IPv4Address(binding["ipv4_address"]).packed + _prefix(binding["ipv6_prefix"]) + ports)


def _port_parameters(psid_offset: int, psid_length: int, psid: int | None) -> bytes:
    """The option PORTPARAMS; on the wire the PSID stands at the left of its 16 bits."""
    left_aligned = (psid or 0) << (16 - psid_length)
    return _option(PORTPARAMS, bytes([psid_offset, psid_length]) + left_aligned.to_bytes(2, "big"))


class Option(NamedTuple):
    """An option in received bytes: its code, where its header starts, where its body starts and where that ends."""

    code: int
    start: int
    body: int
    end: int


def domain_of(text: Any, code: Any = None, warn: Callable[[str], None] | None = None, end_user_prefix: Any = None) -> dict[str, Any]:
    """The domain in what a DHCPv6 server sent, as parse_domain or parse_lw4o6 returns it.

    text: bytes, or hex as people have it, of options or of a whole Reply or Advertise; with `code` also of what one container holds.
    code: the container that is wanted. Without it option 111 decides among the valid ones, then MAP-E comes before MAP-T; lightweight
    4over6 is last in any case (RFC 8026 section 1.4).
    warn: gets a text for each thing that is ignored, or that the server does in another way than the RFCs.
    end_user_prefix: of this line; explicit PSIDs are compared with its EA bits.
    Raises MapError, whose path is the offset of the byte that is wrong.
    """
    data = octets(text)
    if end_user_prefix is not None:
        split_prefix(end_user_prefix, "end_user_prefix")
    told: list[str] = []
    domain, faults = None, Faults()
    for container in _in_order(data, code, told):
        decoder, before = _Decoder(data, end_user_prefix), len(faults.found)
        domain = faults.check(decoder.domain, container)
        if domain is not None:
            told += decoder.oddities
            break
        told.append(f"{NAMES[container.code]} is ignored: {faults.found[before]}")
    if domain is None:
        faults.refuse()
    for text in told if warn else ():
        warn(text)
    return domain


def octets(text: Any) -> bytes:
    """Hex as clients and people write it: with 0x before it; with colons or blanks between bytes, which may then have one digit."""
    if isinstance(text, bytes) and text:
        return text
    if isinstance(text, str):
        parts = [re.fullmatch("(?:0[xX])?([0-9A-Fa-f]+)", part) for part in re.split(r"[:\s]+", text.strip(": \t\r\n"))]
        digits = ["0" + part[1] if part and len(part[1]) == 1 else part and part[1] for part in parts]
        if all(part and len(part) % 2 == 0 for part in digits):
            return bytes.fromhex("".join(digits))
    raise MapError("option", text, "must be hex, two digits for each byte, such as 005e001d...", "RFC 7598 section 5")


def _in_order(data: bytes, code: Any, told: list[str]) -> list[Option]:
    """The containers to try, the best first; what stands outside containers is ignored (RFC 7598 section 5)."""
    wanted = None if code is None else integer(code, "code", CONT_MAPE, CONT_LW, "RFC 7598 section 5")
    if data[0] in MESSAGES and data[0] not in FROM_SERVER:
        raise _fault(data, 0, 1, "begins a message that is not for a client: give a Reply or an Advertise, or options alone", "RFC 8415 section 8")
    start = MESSAGE_HEADER if data[0] in FROM_SERVER else 0
    found: dict[int, Option] = {}
    second: dict[int, Option] = {}
    for option in _walk(data, start, len(data)):
        if found.setdefault(option.code, option) is not option and option.code in (*TRANSPORTS, PRIORITY):
            second.setdefault(option.code, option)
    for option in second.values():
        told.append(str(_fault(data, option.start, 2, f"is a second option {option.code}: the first one counts", "RFC 8415 section 21")))
    containers = {option.code: option for option in found.values() if option.code in TRANSPORTS}
    if wanted and not containers and not start:
        return [Option(wanted, 0, 0, len(data))]
    if not containers or wanted and wanted not in containers:
        known = ", ".join(f"{code} ({NAMES[code]})" for code in containers or TRANSPORTS)
        missing = f"no container {wanted}" if wanted and containers else "no container"
        raise _fault(data, 0, 2, f"{missing} is here: there are {known}", "RFC 7598 section 5")
    if wanted:
        return [containers[wanted]]
    preferred = _preferred(data, found.get(PRIORITY), told)
    listed = [code for code in preferred if code in containers and code != CONT_LW]
    if not listed and CONT_MAPE in containers and CONT_MAPT in containers:
        told.append(str(_fault(data, containers[CONT_MAPT].start, 2, "S46_CONT_MAPT is here beside S46_CONT_MAPE, and no option 111 that prefers "
                               "one: the first valid of MAP-E and MAP-T is taken; code chooses the other", "RFC 8026 section 1.4")))
    if CONT_LW in containers and len(containers) > 1:
        told.append(str(_fault(data, containers[CONT_LW].start, 2, "S46_CONT_LW is here too: lightweight 4over6 is not MAP, so it comes after the "
                               "others whatever option 111 says", "RFC 7596")))
    return [containers[code] for code in dict.fromkeys((*listed, CONT_MAPE, CONT_MAPT, CONT_LW)) if code in containers]


def _preferred(data: bytes, priority: Option | None, told: list[str]) -> list[int]:
    """The codes in option 111, the best first (RFC 8026 section 1.4)."""
    if priority is None:
        return []
    body = data[priority.body:priority.end]
    if len(body) % 2:
        told.append(str(_fault(data, priority.start, 2, f"option 111 is ignored: it has codes of two bytes, here are {len(body)}", "RFC 8026 section 1.4")))
        return []
    return [int.from_bytes(body[at:at + 2], "big") for at in range(0, len(body), 2)]


def _walk(data: bytes, start: int, end: int) -> Iterator[Option]:
    """The options that fill data[start:end]. Raises MapError where one is cut off."""
    while start < end:
        body = start + 4
        if body > end:
            reason = f"is no option: a code and a length are 4 bytes, here are {end - start}"
            raise _fault(data, start, end - start, reason, "RFC 8415 section 21.1")
        code, length = int.from_bytes(data[start:start + 2], "big"), int.from_bytes(data[start + 2:body], "big")
        if body + length > end:
            reason = f"says that option {code} has {length} bytes, here are {end - body}"
            raise _fault(data, start + 2, 2, reason, "RFC 8415 section 21.1")
        yield Option(code, start, body, body + length)
        start = body + length


def _fault(data: bytes, at: int, count: int, reason: str, reference: str) -> MapError:
    """What is wrong at an offset; its value are `count` bytes from there."""
    return MapError(f"byte {at}", data[at:at + count].hex() or NO_VALUE, reason, reference)


class _Decoder:
    """Turns a container into a domain, and remembers at which byte each of its values stands, and what is odd."""

    def __init__(self, data: bytes, end_user_prefix: Any) -> None:
        self.data = data
        self.end_user_prefix = end_user_prefix
        self.places: dict[str, int] = {}
        self.oddities: list[str] = []

    def domain(self, container: Option) -> dict[str, Any]:
        size = container.end - container.body
        if size > LARGEST_CONTAINER:
            reason = f"{NAMES[container.code]} has {size} bytes; no line needs more than {LARGEST_CONTAINER}"
            raise _fault(self.data, container.start, 2, reason, SECTIONS[container.code])
        self.places[""] = container.start
        inside = self._contents(container, container.body)
        if len(inside.get(RULE, ())) > MOST_RULES:
            reason = f"is one of {len(inside[RULE])} rules; no line needs more than {MOST_RULES}"
            raise _fault(self.data, inside[RULE][MOST_RULES].start, 2, reason, SECTIONS[container.code])
        written: dict[str, Any] = {"transport": TRANSPORTS[container.code]}
        if BR in inside:
            written["br_address"] = [self._br(option, f"br_address[{index}]") for index, option in enumerate(inside[BR])]
        if DMR in inside:
            written["dmr"], end = self._prefix(inside[DMR][0], inside[DMR][0].body, "dmr")
            self._refuse_rest(inside[DMR][0], end)
        if container.code == CONT_LW:
            written["binding"] = self._binding(inside[V4V6BIND][0]) if V4V6BIND in inside else None
            return self._lw4o6(written)
        written["rules"] = [self._rule(option, f"rules[{index}]") for index, option in enumerate(inside[RULE])]
        return received.domain_of(written, self._place, self.end_user_prefix, lambda error: self.oddities.append(str(error)))

    def _lw4o6(self, written: dict[str, Any]) -> dict[str, Any]:
        faults, placed = Faults(), Faults()
        parsed = faults.check(parse_lw4o6, written)
        for fault in faults.found:
            placed.add(self._place(fault.path), fault.value, fault.reason, fault.reference)
        placed.refuse()
        return parsed

    def _place(self, path: str) -> str:
        return f"byte {self.places.get(path, self.places[''])} ({path})"

    def _say(self, path: str, value: Any, reason: str, reference: str) -> None:
        self.oddities.append(str(MapError(self._place(path), value, reason, reference)))

    def _contents(self, parent: Option, start: int) -> dict[int, list[Option]]:
        """The options inside another one by their code, from a byte on. Codes that RFC 7598 does not know are ignored."""
        allowed = CONTENTS[parent.code]
        found: dict[int, list[Option]] = {}
        for option in _walk(self.data, start, parent.end):
            if option.code in allowed:
                found.setdefault(option.code, []).append(option)
            elif option.code in NAMES:
                reason = f"{NAMES[option.code]} must not stand in {NAMES[parent.code]}"
                raise _fault(self.data, option.start, 2, reason, SECTIONS[parent.code])
        for code, (least, most) in allowed.items():
            options_of_code = found.get(code, [])
            if len(options_of_code) < least:
                reason = f"{NAMES[parent.code]} has no {NAMES[code]}, which it needs"
                raise _fault(self.data, parent.start, 2, reason, SECTIONS[parent.code])
            if most is not None and len(options_of_code) > most:
                reason = f"is a second {NAMES[code]} in {NAMES[parent.code]}, which takes one"
                raise _fault(self.data, options_of_code[most].start, 2, reason, SECTIONS[parent.code])
        return found

    def _take(self, option: Option, at: int, count: int, what: str) -> bytes:
        if at + count > option.end:
            reason = f"{NAMES[option.code]} ends within its {what}: {count} bytes are needed, here are {option.end - at}"
            raise _fault(self.data, at, option.end - at, reason, SECTIONS[option.code])
        return self.data[at:at + count]

    def _refuse_rest(self, option: Option, end: int) -> None:
        if end != option.end:
            reason = f"{NAMES[option.code]} is {option.end - end} bytes longer than what it holds"
            raise _fault(self.data, end, option.end - end, reason, SECTIONS[option.code])

    def _br(self, option: Option, path: str) -> str:
        self.places[path] = option.body
        address = self._take(option, option.body, 16, "IPv6 address")
        self._refuse_rest(option, option.body + 16)
        return str(IPv6Address(address))

    def _prefix(self, option: Option, at: int, path: str) -> tuple[str, int]:
        """An IPv6 prefix, its length before it, and the offset of what follows it."""
        self.places[path] = at
        length = self._take(option, at, 1, "prefix length")[0]
        if length > 128:
            raise _fault(self.data, at, 1, f"an IPv6 prefix of {length} bits; at most 128", SECTIONS[option.code])
        count = (length + 7) // 8
        sent = int.from_bytes(self._take(option, at + 1, count, "IPv6 prefix").ljust(16, b"\0"), "big")
        network = IPv6Network((sent >> (128 - length) << (128 - length), length))
        if sent != int(network.network_address):
            # The length says where the prefix ends; what fills its last byte is padding.
            reason = f"the provider pads the prefix with other bits than zero after its first {length}; they are ignored"
            self._say(path, str(network), reason, SECTIONS[option.code])
        end = at + 1 + count
        padding = self._padding(option, end, 16 - count)
        if padding:
            reason = f"the provider pads the prefix to {count + padding} bytes, where {length} bits need {count}; the zero bytes are ignored"
            self._say(path, str(network), reason, SECTIONS[option.code])
        return str(network), end + padding

    def _padding(self, option: Option, start: int, most: int) -> int:
        """How many of the zero bytes after a prefix are no options: the least number after which port parameters or nothing follow."""
        for count in range(min(most, option.end - start) + 1):
            if self.data[start:start + count].strip(b"\0"):
                break
            try:
                codes = {inner.code for inner in _walk(self.data, start + count, option.end)}
            except MapError:
                continue
            # No option has the code 0.
            if codes <= {PORTPARAMS} or not count and 0 not in codes:
                return count
        return 0

    def _rule(self, option: Option, path: str) -> dict[str, Any]:
        flags, ea_length, length = self._take(option, option.body, 3, "flags and lengths")
        self.places.update({path: option.start, f"{path}.ea_length": option.body + 1, f"{path}.ipv4_prefix": option.body + 2})
        if length > 32:
            raise _fault(self.data, option.body + 2, 1, f"an IPv4 prefix of {length} bits; at most 32", SECTIONS[RULE])
        # The bits after the prefix are reserved: a receiver ignores them.
        ipv4 = int.from_bytes(self._take(option, option.body + 3, 4, "IPv4 prefix"), "big") >> (32 - length) << (32 - length)
        ipv6_prefix, end = self._prefix(option, option.body + 7, f"{path}.ipv6_prefix")
        ports = self._port_parameters(option, end, path)
        return {
            "ipv6_prefix": ipv6_prefix, "ipv4_prefix": f"{IPv4Address(ipv4)}/{length}", "ea_length": ea_length,
            "fmr": bool(flags & FMR_FLAG), **ports,
        }

    def _binding(self, option: Option) -> dict[str, Any]:
        address = IPv4Address(self._take(option, option.body, 4, "IPv4 address"))
        ipv6_prefix, end = self._prefix(option, option.body + 4, "binding.ipv6_prefix")
        self.places["binding.ipv4_address"] = option.body
        return {"ipv4_address": str(address), "ipv6_prefix": ipv6_prefix, **self._port_parameters(option, end, "binding")}

    def _port_parameters(self, parent: Option, start: int, path: str) -> dict[str, Any]:
        """The PSID offset, and the PSID with its length where it is explicit; nothing without the option."""
        found = self._contents(parent, start).get(PORTPARAMS)
        if not found:
            return {}
        option = found[0]
        offset, length, high, low = self._take(option, option.body, 4, "offset and PSID")
        self._refuse_rest(option, option.body + 4)
        self.places.update({f"{path}.psid_offset": option.body, f"{path}.psid_length": option.body + 1, f"{path}.psid": option.body + 2})
        if length > 16:
            raise _fault(self.data, option.body + 1, 1, f"a PSID of {length} bits; at most 16", SECTIONS[PORTPARAMS])
        if length == 0:
            return {"psid_offset": offset}
        return {"psid_offset": offset, "psid_length": length, "psid": (high << 8 | low) >> (16 - length)}
