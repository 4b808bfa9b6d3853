# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions to a domain as people write it: the parameters of a CE, of many, the owner of an address and port, a port set.

And what people write in a question, checked: for whoever asks a prepared Domain, or several, himself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import conflicts
from .arithmetic import Domain, port_ranges, split_prefix
from .checks import address, integer, is_list, prefix
from .domain import PORTS, parse_domain, refuse_no_port
from .errors import Faults, MapError

ADDRESS_AND_PORT = re.compile(r"([0-9.]+):([0-9]+)")


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
    """The parameters of the CE behind an IPv4 address and port, or None; a list of them for a list of pairs. Raises MapError.

    Address and port may be one text, as logs have them: "192.0.2.18:1232".
    """
    prepared = Domain(parse_domain(domain, domain_path, warn))
    if not is_list(ipv4_address):
        if port is None and _is_both(ipv4_address):
            return prepared.owner(*address_and_port(ipv4_address, "ipv4_address"))
        return prepared.owner(*_pair(ipv4_address, port, "ipv4_address", "port"))
    if port is not None:
        raise MapError("port", port, "is for one address; with a list of pairs each pair has its own port")
    faults = Faults()
    owners = [faults.check(_owner, prepared, pair, f"pairs[{index}]") for index, pair in enumerate(ipv4_address)]
    faults.refuse()
    return owners


def _owner(prepared: Domain, pair: Any, path: str) -> dict[str, Any] | None:
    if _is_both(pair):
        return prepared.owner(*address_and_port(pair, path))
    if not is_list(pair) or len(pair) != 2:
        raise MapError(path, pair, "must be a pair of an IPv4 address and a port, such as [192.0.2.18, 1232] or 192.0.2.18:1232")
    return prepared.owner(*_pair(*pair, f"{path}[0]", f"{path}[1]"))


def _is_both(written: Any) -> bool:
    return isinstance(written, str) and bool(ADDRESS_AND_PORT.fullmatch(written))


def _pair(written: Any, port: Any, path: str, port_path: str) -> tuple[int, int]:
    return int(address(written, path, 4)), integer(port, port_path, 0, 65535)


def address_and_port(written: Any, path: str) -> tuple[int, int]:
    """An IPv4 address and a port (0 to 65535), both int, of one text as logs have them: "192.0.2.18:1232". Raises MapError."""
    if not _is_both(written):
        raise MapError(path, written, "must be an IPv4 address and a port, such as 192.0.2.18:1232")
    return _pair(*written.split(":"), path, path)


def part(written: Any, path: str) -> tuple[int, int, int]:
    """What Domain.ces takes: the IP version and the prefix (an int, its length in bits) of an IPv6 or IPv4 prefix or an IPv4 address. Raises MapError."""
    if not isinstance(written, str) or ":" in written:
        return (6, *split_prefix(written, path))
    network = prefix(written if "/" in written else f"{address(written, path, 4)}/32", path, 4)
    return 4, int(network.network_address), network.prefixlen


def port_set(psid: Any, psid_length: Any, psid_offset: Any) -> list[list[int]]:
    """The port set of a PSID as [[low, high], ...]. Raises MapError."""
    length = integer(psid_length, "psid_length", 0, 16, PORTS)
    offset = integer(psid_offset, "psid_offset", 0, 15, PORTS)
    refuse_no_port(offset, length, "psid_offset")
    return port_ranges(integer(psid, "psid", 0, (1 << length) - 1, PORTS), length, offset)
