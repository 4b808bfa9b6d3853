# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers the ports of a MAP port set so that the kernel's NAT sees one contiguous pool.

Linux NAT picks ports from one range only, and a MAP port set (RFC 7597 section 5.1) usually
consists of many. The NAT therefore picks an *index* out of one contiguous range, and a
stateless rewrite maps index to port on the way out and port to index on the way in.
"""

from __future__ import annotations

LAST_PORT = 65535
# Where the search for a home of the indexes starts: above the ports of common services.
PREFERRED_BASE = 16384
FULL_SET = [0, LAST_PORT]


def port_index(port_ranges, static_ports=()):
    """Return how the NAPT of a CE uses its port set.

    port_ranges: list of [low, high] (0..65535, ascending, disjoint), ``port_ranges`` of a CE.
    static_ports: ports (1..65535) of the set that always stand for themselves: forwarded to a
        host of the LAN, or reserved for a service of the router. They are not in the pool.
        A full address ([[0, 65535]]) keeps them in its pool: no one else owns a port of it,
        and conntrack tells a flow from a new connection.

    Returns a dict of JSON types:
      rewrite: bool, whether index and port differ (false: the pool holds real ports)
      pool: [low, high], the one range the kernel's NAT picks from
      count: int, how many ports that are
      ranges: list of [first index, first port, length], the pool's mapping; [] without rewrite.
        Flows keep their index, so ports are numbered as if none were static: the last ones of the
        set take the numbers of the static ones, and only those move when a static port comes or goes.
      static: the static ports, ascending

    Raises ValueError when a static port is not in the set (with the nearest ports that are),
    or when no port, or no contiguous room for the indexes, is left.
    """
    static = sorted(set(static_ports))
    for port in static:
        if not _contains(port_ranges, port):
            nearest = ", ".join(str(p) for p in nearest_ports(port, port_ranges, static))
            raise ValueError(
                "port {0} is not in the port set of this CE; the nearest free ports are {1} "
                "(RFC 7597 section 5.1)".format(port, nearest)
            )
    if [list(r) for r in port_ranges] == [FULL_SET]:
        return _plain(1, LAST_PORT, static)

    if not _without(port_ranges, [0]):
        raise ValueError("the port set is port 0 alone, which no NAPT uses: no port is left; this CE cannot share the address")
    free = _without(port_ranges, [0] + static)
    if not free:
        raise ValueError("forwarded and reserved ports use up the whole port set: no port is left for the LAN")
    if len(free) == 1:
        return _plain(free[0][0], free[0][1], static)

    ports = [port for low, high in _without(port_ranges, [0]) for port in range(low, high + 1)]
    count = len(ports) - len(static)
    taken = set(static)
    last = iter([port for port in ports[count:] if port not in taken])
    base = _index_base(len(ports), count, port_ranges, static)
    ranges = []
    for index, port in enumerate(ports[:count], base):
        port = next(last) if port in taken else port
        if ranges and port == ranges[-1][1] + ranges[-1][2]:
            ranges[-1][2] += 1
        else:
            ranges.append([index, port, 1])
    return {"rewrite": True, "pool": [base, base + count - 1], "count": count, "ranges": ranges, "static": static}


def nearest_ports(port, port_ranges, exclude=(), count=4):
    """Return the up to ``count`` ports of the set nearest to ``port``, nearest first.

    Port 0 and the ports in ``exclude`` are left out; of two equally near ones the lower is first.
    """
    taken = set(exclude)
    found = []
    for distance in range(LAST_PORT + 1):
        for candidate in sorted({port - distance, port + distance}):
            if candidate > 0 and candidate not in taken and _contains(port_ranges, candidate):
                found.append(candidate)
        if len(found) >= count:
            break
    return found[:count]


def _plain(low, high, static):
    return {"rewrite": False, "pool": [low, high], "count": high - low + 1, "ranges": [], "static": static}


def _contains(port_ranges, port):
    return port > 0 and any(low <= port <= high for low, high in port_ranges)


def _without(port_ranges, ports):
    """Cut single ports out of ascending ranges."""
    result = []
    for low, high in port_ranges:
        for port in sorted(p for p in ports if low <= p <= high):
            if low < port:
                result.append([low, port - 1])
            low = port + 1
        if low <= high:
            result.append([low, high])
    return result


def _index_base(size, count, port_ranges, static):
    """Choose the first index of `count`; of `size`, all ports of the set, where they fit, since static ports come and go.

    Best is a gap between real ports: then an index on the wire is visibly wrong, and a packet
    that is rewritten twice finds no entry and is dropped. Without one (PSID offset > PSID
    length) indexes may overlap ports of the set, but never static ports, which are their own index.
    """
    for occupied in (port_ranges, [[p, p] for p in static]):
        for wanted in (size, count):
            gaps = [[low, high] for low, high in _gaps(occupied) if high - low + 1 >= wanted]
            for low, high in gaps:
                base = max(low, PREFERRED_BASE)
                if high - base + 1 >= wanted:
                    return base
            if gaps:
                return gaps[-1][1] - wanted + 1
    raise ValueError(
        "the forwarded and reserved ports leave no {0} contiguous numbers for the NAT's pool: "
        "choose static ports nearer to each other or to the ends of the port set".format(count)
    )


def _gaps(occupied):
    """Return the ranges of 1..65535 between ascending occupied ranges."""
    gaps = []
    low = 1
    for first, last in occupied:
        if low < first:
            gaps.append([low, first - 1])
        low = max(low, last + 1)
    if low <= LAST_PORT:
        gaps.append([low, LAST_PORT])
    return gaps
