# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on a network: one plain dict, and from it a page with pictures and a Markdown file.

The picture of a shared IPv4 address is exact. Its 65,536 ports are written in rows of one block each (the ports that have
the same first `psid_offset` bits, RFC 7597 section 5.1), so that every port set is one column, and the ports that the PSID
offset excludes are the first row. A page thus has one rectangle for each CE, whatever the number of its port ranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Rule, port_ranges
from ansible_collections.softwire.map.plugins.module_utils.routers import render
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Members, Network

TEMPLATES = str(Path(__file__).with_name("templates"))
PAGES = ("report.html", "report.md")
PROTOCOLS = ("tcp", "udp", "icmp")

# Of the pictures, in their own units; all of these divide them without rest, so that no port is drawn in two places.
WIDTH, HEIGHT = 1024, 128
GAUGE = 24  # below it: how many of the ports are in use
COLOURS = 6
# With more addresses than this in a domain their pictures are small ones without names, several in a row.
LARGE = 12
# Names, in a type of fixed width.
LETTER, LINE = 6.8, 12
GRID_LINES = 128
# How many of the CEs with the most ports in use are named.
FULLEST = 10


def files(network: Network, usage: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The pages of the report as {name: text}; the same network always gives the same text. For `usage` see `content`."""
    jinja = render.environment(TEMPLATES)
    jinja.filters["markdown"] = markdown
    seen = content(network, usage)
    return {name: jinja.get_template(f"{name}.j2").render(seen) for name in PAGES}


def content(network: Network, usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the templates see.

    usage: {host: {map_address, size, in_use: {tcp, udp, icmp}}}, what each CE says about its ports, or a text that says why it does
    not; None where no router has been asked.
    """
    domains = [domain_of(number, members, usage) for number, members in enumerate(network.domains, 1)]
    faults = [printable(error) for members in network.domains for _host, _other, error in members.coinciding()]
    # A fleet makes a mistake in its domain a thousand times.
    unusable: dict[str, list[str]] = {}
    for host, reason in network.unusable:
        unusable.setdefault(printable(reason), []).append(printable(host))
    shared = [rule for domain in domains for rule in domain["rules"] if rule["psid_length"]]
    return {
        "domains": domains,
        "grids": {f"grid-{offset}-{length}": grid(offset, length)
                  for offset, length in sorted({(rule["psid_offset"], rule["psid_length"]) for rule in shared})},
        "customer_edges": sum(len(domain["customer_edges"]) for domain in domains),
        "border_relays": len({host for domain in domains for host in domain["border_relays"]}),
        "shared_addresses": sum(len(domain["addresses"]) for domain in domains),
        "faults": faults,
        "unusable": [{"hosts": hosts, "reason": reason} for reason, hosts in unusable.items()],
        "live": usage is not None,
        "width": WIDTH,
        "height": HEIGHT,
        "gauge": GAUGE if usage is not None else 0,
        "colours": COLOURS,
    }


def domain_of(number: int, members: Members, usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """One domain of the report."""
    domain = members.domain
    rules = {rule.fields["ipv6_prefix"]: rule for rule in domain.rules}
    twice = {host for pair in members.coinciding() for host in pair[:2]}
    edges = sorted(members.customer_edges, key=lambda pair: order(pair[1]))
    rows = [row_of(f"d{number}-ce{index}", host, ce, host in twice, usage) for index, (host, ce) in enumerate(edges, 1)]
    shared: dict[str, list[tuple[dict, dict]]] = {}
    for row, (_host, ce) in zip(rows, edges):
        if ce["ipv4_address"] and ce["psid"] is not None:
            shared.setdefault(ce["ipv4_address"], []).append((row, ce))
    large = len(shared) <= LARGE
    addresses = [
        address_of(f"d{number}-a{index}", address, owners, domain.rules, rules[owners[0][1]["rule"]["ipv6_prefix"]], large)
        for index, (address, owners) in enumerate(shared.items(), 1)
    ]
    for address in addresses:
        for row, _ce in shared[address["address"]]:
            row["picture"] = address["id"]
    fields = domain.fields
    return {
        "id": f"d{number}",
        "number": number,
        "transport": fields["transport"],
        "interface_id": fields["interface_id"],
        "far_end": ", ".join(fields["br_address"] or [fields["dmr"]]),
        "border_relays": [printable(host) for host in members.border_relays],
        "rules": [rule_of(rule, domain.rules, edges) for rule in domain.rules],
        "addresses": addresses,
        "large": large,
        "customer_edges": rows,
        "fullest": sorted((row for row in rows if row["usage"] and row["usage"]["fraction"]), key=lambda row: -row["usage"]["fraction"])[:FULLEST],
    }


def order(ce: Mapping[str, Any]) -> tuple[bytes, int]:
    """CEs by IPv4 address and PSID; those that coincide stay in the order of the inventory."""
    address = (ce["ipv4_address"] or ce["ipv4_prefix"]).partition("/")[0]
    return bytes(map(int, address.split("."))), ce["psid"] or 0


def row_of(identity: str, host: str, ce: Mapping[str, Any], twice: bool, usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """A CE as the report lists it."""
    return {
        "id": identity,
        "host": printable(host),
        "ipv4": ce["ipv4_address"] or ce["ipv4_prefix"],
        "psid": ce["psid"],
        "ports": ce["port_count"],
        "ranges": ranges_text(ce["port_ranges"]) if ce["psid"] is not None else "all",
        "end_user_prefix": ce["end_user_prefix"],
        "map_address": ce["map_address"],
        "fault": twice,
        "style": "twice" if twice else f"c{(ce['psid'] or 0) % COLOURS}",
        "picture": None,
        "usage": None if usage is None else usage_of(usage[host], ce),
    }


def usage_of(found: Mapping[str, Any] | str, ce: Mapping[str, Any]) -> dict[str, Any]:
    """How full a CE is; the fullest protocol counts, since each has every port for itself."""
    if isinstance(found, str):
        return {"fraction": None, "share": None, "text": printable(found)}
    if found["map_address"] != ce["map_address"]:
        return {"fraction": None, "share": None, "text": f"not known: the router runs another CE, {printable(found['map_address'])}"}
    most = max(found["in_use"][protocol] for protocol in PROTOCOLS)
    full = share(most, found["size"])
    counts = ", ".join(f"{found['in_use'][protocol]} {protocol}" for protocol in PROTOCOLS)
    return {"fraction": min(1.0, most / found["size"]), "share": full, "text": f"{full} ({counts})"}


def rule_of(rule: Rule, rules: list[Rule], edges: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A rule as the report lists it; its capacity is the number of CEs, which may have an IPv4 prefix each."""
    capacity = (1 << rule.ea_length) - sum(last - first for first, last in elsewhere(rule, rules))
    given = len({ce["end_user_prefix"] for _host, ce in edges if ce["rule"]["ipv6_prefix"] == rule.fields["ipv6_prefix"]})
    one_ipv4 = rule.ipv4_length + rule.suffix_length
    ranges = port_ranges(0, rule.psid_length, rule.fields["psid_offset"])
    return {
        **rule.fields,
        "index": rule.index,
        "sharing_ratio": 1 << rule.psid_length,
        "ports": len(ranges) * (ranges[0][1] - ranges[0][0] + 1),
        "ranges": len(ranges),
        "each": None if one_ipv4 == 32 else f"/{one_ipv4}",
        "capacity": capacity,
        "given": given,
        "share": share(given, capacity),
    }


def elsewhere(rule: Rule, rules: Iterable[Rule]) -> list[tuple[int, int]]:
    """The EA bits of a rule whose end-user prefixes belong to a rule with a longer match, as [(first, last + 1)], ascending and disjoint."""
    bits = 128 - rule.end_user_length
    inside = [
        (other.ipv6 - rule.ipv6 >> bits, (other.ipv6 - rule.ipv6 >> bits) + (1 << rule.end_user_length - other.ipv6_length))
        for other in rules
        if rule.ipv6_length < other.ipv6_length <= rule.end_user_length and other.ipv6 >> 128 - rule.ipv6_length == rule.ipv6 >> 128 - rule.ipv6_length
    ]
    found: list[tuple[int, int]] = []
    # Two prefixes are disjoint, or one holds the other, which then comes later.
    for first, last in sorted(inside, key=lambda pair: (pair[0], -pair[1])):
        if not found or first >= found[-1][1]:
            found.append((first, last))
    return found


def without_ce(rule: Rule, rules: Iterable[Rule], ipv4: int) -> list[tuple[int, int]]:
    """The PSIDs of an address below a rule that no CE can have, as [(first, last + 1)], ascending and disjoint."""
    count = 1 << rule.psid_length
    if rule.psid is not None:
        psids = sorted(other.psid for other in rules if other.psid is not None and other.ipv4 == ipv4)
        edges = [-1, *psids, count]
        return [(before + 1, after) for before, after in zip(edges, edges[1:]) if after > before + 1]
    base = rule.end_user_prefix(ipv4, 0) - rule.ipv6 >> 128 - rule.end_user_length
    cut = [(max(0, first - base), min(count, last - base)) for first, last in elsewhere(rule, rules)]
    return [(first, last) for first, last in cut if first < last]


def address_of(
    identity: str, address: str, owners: list[tuple[dict, Mapping[str, Any]]], rules: list[Rule], rule: Rule, large: bool
) -> dict[str, Any]:
    """The picture of a shared address; owners: the rows of its CEs and their `ce` dicts, by PSID."""
    count, offset = 1 << rule.psid_length, rule.fields["psid_offset"]
    # Every block but the first, which is excluded where there are several.
    top = HEIGHT / (1 << offset) if offset else 0
    blocked = without_ce(rule, rules, int.from_bytes(bytes(map(int, address.split("."))), "big"))
    by_psid: dict[int, list[dict]] = {}
    for row, _ce in owners:
        by_psid.setdefault(row["psid"], []).append(row)
    possible = count - sum(last - first for first, last in blocked)
    return {
        "id": identity,
        "address": address,
        "rule": rule.index,
        "count": count,
        "possible": possible,
        "given": len(by_psid),
        "share": share(len(by_psid), possible),
        "free": possible - len(by_psid),
        "top": shown(top),
        "excluded": f"0-{(1 << 16 - offset) - 1}" if offset else None,
        "grid": f"grid-{offset}-{rule.psid_length}",
        "blocked": [{"x": shown(first * WIDTH / count), "width": shown((last - first) * WIDTH / count),
                     "psids": str(first) if last == first + 1 else f"{first}-{last - 1}"} for first, last in blocked],
        "columns": [column_of(psid, rows, count, top, large) for psid, rows in by_psid.items()],
    }


def column_of(psid: int, rows: list[dict[str, Any]], count: int, top: float, large: bool) -> dict[str, Any]:
    """The port set of a PSID in a picture; more than one row is a fault."""
    width = WIDTH / count
    hosts = " and ".join(row["host"] for row in rows)
    used = rows[0]["usage"] and rows[0]["usage"]["fraction"]
    return {
        "x": shown(psid * width),
        "width": shown(width),
        "style": "twice" if len(rows) > 1 else rows[0]["style"],
        "row": rows[0]["id"],
        "title": f"{hosts}: PSID {psid}, {rows[0]['ports']} ports: {rows[0]['ranges']}",
        "label": label_of(hosts, psid * width, width, top) if large else None,
        "used": None if used is None else {"height": shown(used * GAUGE), "y": shown(HEIGHT + GAUGE * (1 - used)), "text": rows[0]["usage"]["text"]},
    }


def label_of(text: str, x: float, width: float, top: float) -> dict[str, Any] | None:
    """A name in its column: lying, else standing and cut, else none."""
    middle = {"x": shown(x + width / 2), "y": shown((top + HEIGHT) / 2)}
    if len(text) * LETTER + 4 <= width:
        return {**middle, "text": text, "standing": False}
    if width < LINE:
        return None
    letters = int((HEIGHT - top - 4) / LETTER)
    return {**middle, "text": text if len(text) <= letters else text[:letters - 1] + "…", "standing": True}


def grid(offset: int, psid_length: int) -> str:
    """The lines between blocks and PSIDs as the data of an SVG path, where there are not too many to be seen."""
    rows, columns = 1 << offset, 1 << psid_length
    lines = [f"M0 {shown(HEIGHT / rows * row)}H{WIDTH}" for row in range(1, rows) if rows <= GRID_LINES]
    lines += [f"M{shown(WIDTH / columns * column)} 0V{HEIGHT}" for column in range(1, columns) if columns <= GRID_LINES]
    return "".join(lines)


def ranges_text(ranges: list[list[int]]) -> str:
    """Port ranges as a person reads them; of many of them the first two and the last."""
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    return ", ".join(texts) if len(texts) <= 4 else f"{texts[0]}, {texts[1]}, ... {texts[-1]}"


def share(part: int, whole: int) -> str:
    """A part in per cent; never a rounded 0 or 100 that is not one."""
    if not part or not whole:
        return "0 %"
    if part == whole:
        return "100 %"
    per_cent = 100 * part / whole
    return "< 0.1 %" if per_cent < 0.1 else f"{min(per_cent, 99.9):.1f} %"


def shown(number: float) -> str:
    """A length in a picture."""
    return format(number, ".10g")


def printable(text: Any) -> str:
    """A text from the inventory without characters that no page can hold."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in str(text))


def markdown(text: Any) -> str:
    """A text with all that Markdown would take as markup escaped."""
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", str(text))
