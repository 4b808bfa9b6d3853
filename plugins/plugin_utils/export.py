# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inventory says to the rest of the network: files for DHCPv6 servers and routing daemons, each a template alone.

A template in templates/export/network sees `network_of`, and makes a file of its own name; one in templates/export/border_relay
sees `relay_of` as well, and makes a file in the folder of each border relay.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_network
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping import dhcpv6
from ansible_collections.softwire.map.plugins.module_utils.mapping.checks import text
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import NO_VALUE, Faults, MapError
from ansible_collections.softwire.map.plugins.module_utils.routers import border_relay, render
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Members, Network, Relay, read
from ansible_collections.softwire.map.plugins.plugin_utils.report import printable

TEMPLATES = Path(__file__).with_name("templates") / "export"
DUID_VARIABLE = "map_export_duid"
# A type of two bytes, and up to 128 more (RFC 8415 section 11.1).
DUID = re.compile("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){2,129}")
NAMED = 5  # hosts in a warning


@dataclass
class Offer:
    """A domain as a DHCPv6 server has it. number: from 1, the domain with the most customer edges first."""

    number: int
    members: Members
    option: dict[str, Any]
    pools: list[tuple[IPv6Network, int]] = field(default_factory=list)  # a prefix, and the length (bits) of those to delegate from it

    def has(self, prefix: IPv6Network) -> bool:
        """Whether a prefix lies in one of the pools, which are in ascending order."""
        before = bisect_right(self.pools, (prefix, 128)) - 1
        return before >= 0 and prefix.subnet_of(self.pools[before][0])


def names(relays: Iterable[str]) -> list[str]:
    """The paths of all files that there can be; relays: the hosts that are border relays."""
    return [*_templates("network"), *(f"{host}/{name}" for host in relays for name in _templates("border_relay"))]


def files(network: Network, duids: Mapping[str, str], tell: Callable[[str], None]) -> dict[str, str]:
    """The files as {path: text}; the same network always gives the same text. For `duids` and `tell` see `network_of`."""
    jinja = render.environment(str(TEMPLATES))
    seen = {**network_of(network, duids, tell), "tell": tell}
    made = {name: jinja.get_template(f"network/{name}.j2").render(seen) for name in _templates("network")}
    for relay in network.border_relays:
        for name in _templates("border_relay"):
            made[f"{relay.host}/{name}"] = jinja.get_template(f"border_relay/{name}.j2").render({**seen, **relay_of(relay)})
    return {path: content for path, content in made.items() if content.strip()}


def _templates(folder: str) -> list[str]:
    return sorted(path.stem for path in (TEMPLATES / folder).glob("*.j2"))


def duids_of(network: Network, hostvars: Mapping) -> dict[str, str]:
    """{host: its DUID} of the customer edges that have one. Raises MapError, with all faults at once; what keeps a host out is one of them."""
    faults = Faults()
    for host, reason in network.unusable:
        faults.add(f"hostvars['{host}']", NO_VALUE, reason)
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for members in network.domains:
        for _host, _other, error in members.coinciding():
            faults.add_error(error)
        for host, _ce in members.customer_edges:
            duid = faults.check(_duid_of, hostvars[host], f"hostvars['{host}'].{DUID_VARIABLE}")
            if duid and first.setdefault(duid, host) != host:
                faults.add(f"hostvars['{host}'].{DUID_VARIABLE}", duid, f"is that of {first[duid]} too; each customer edge has its own", "RFC 8415 section 11")
            if duid:
                found[host] = duid
    faults.refuse()
    return found


def _duid_of(variables: Mapping, path: str) -> str | None:
    written = read(variables, DUID_VARIABLE) if DUID_VARIABLE in variables else None
    return text(written, path, DUID, "a DUID, 3 to 130 bytes in hex with colons, such as 00:03:00:01:02:00:5e:10:00:01").lower() if written else None


def network_of(network: Network, duids: Mapping[str, str], tell: Callable[[str], None]) -> dict[str, Any]:
    """What every template sees.

    duids: {host: the DUID by which a DHCPv6 server knows this customer edge}
    tell: gets a text for each thing that the files leave out
    """
    offers = _offers(network, tell)
    _share_out(offers)
    domains = {
        offer.number: {
            "number": offer.number,
            "transport": offer.members.domain.fields["transport"],
            "prefixes": [rule["ipv6_prefix"] for rule in offer.members.domain.fields["rules"]],
            "option": offer.option,
        } for offer in offers}
    pools = sorted((*pool, offer.number) for offer in offers for pool in offer.pools)
    edges = [
        {
            "host": printable(host),
            "domain": domains[offer.number],
            "duid": duids.get(host),
            "prefix": ce["delegated_prefix"],
            "in_pool": offer.has(ip_network(ce["delegated_prefix"])),
        } for offer in offers for host, ce in offer.members.customer_edges]
    return {
        "domains": list(domains.values()),
        "pools": [
            {"prefix": str(prefix.network_address), "length": prefix.prefixlen, "delegated_length": length, "domain": domains[number]}
            for prefix, length, number in pools],
        # Those that have a DUID, and those of which a server knows nothing but the prefix that it delegates.
        "known": [edge for edge in edges if edge["duid"]],
        "unknown": [edge for edge in edges if not edge["duid"]],
        "listed": listed,
    }


def relay_of(relay: Relay) -> dict[str, Any]:
    """What the templates of a border relay see of it beside the network."""
    far_ends = {address for domain in relay.domains for address in domain["br_address"] or [domain["dmr"]]}
    return {
        "host": printable(relay.host),
        "instance": relay.instance,
        "device": border_relay.softwire_device(relay.instance, relay.carrier),
        "ipv4_prefixes": [str(prefix) for prefix in sorted({ip_network(rule["ipv4_prefix"]) for domain in relay.domains for rule in domain["rules"]})],
        "ipv6_prefixes": [str(prefix) for prefix in sorted(map(ip_network, far_ends))],
    }


def listed(hosts: Iterable[str]) -> str:
    """Hosts as a warning names them."""
    hosts = list(hosts)
    return ", ".join(hosts[:NAMED]) + (f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else "")


def _offers(network: Network, tell: Callable[[str], None]) -> list[Offer]:
    """The domains that the options can say."""
    offers: list[Offer] = []
    for members in sorted(network.domains, key=lambda members: -len(members.customer_edges)):
        try:
            option, = dhcpv6.options(members.domain.fields)
        except MapError as exc:
            hosts = [printable(host) for host, _ce in members.customer_edges]
            tell(f"export: the files for DHCPv6 servers leave out the domain of {listed(hosts or members.border_relays)}: {exc}")
        else:
            offers.append(Offer(len(offers) + 1, members, option))
    return offers


def _share_out(offers: list[Offer]) -> None:
    """Gives each domain the prefixes below its rules, none to two of them: a longer prefix inside goes to its own rule, an equal one to the first."""
    claims: dict[IPv6Network, tuple[Offer, int]] = {}
    for offer in offers:
        for rule in offer.members.domain.rules:
            claims.setdefault(IPv6Network((rule.ipv6, rule.ipv6_length)), (offer, rule.end_user_length))
    relays = {ip_network(address) for offer in offers for address in offer.members.domain.fields["br_address"] or ()}
    order = sorted({*claims, *relays})
    for prefix, (offer, length) in claims.items():
        inside = takewhile(prefix.supernet_of, islice(order, bisect_right(order, prefix), None))
        holes = {hole if hole.prefixlen <= length else hole.supernet(new_prefix=length) for hole in inside}
        offer.pools += ((part, length) for part in _without(prefix, holes))
    for offer in offers:
        offer.pools.sort()


def _without(prefix: IPv6Network, holes: set[IPv6Network]) -> Iterator[IPv6Network]:
    """What is left of a prefix outside of others that lie in it, as prefixes, ascending."""
    if not holes:
        yield prefix
    elif prefix not in holes:
        for half in prefix.subnets():
            yield from _without(half, {hole for hole in holes if hole.subnet_of(half)})
