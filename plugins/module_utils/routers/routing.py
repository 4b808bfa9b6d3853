# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes and policy rules of a customer edge, each with what it is for; the templates write them for ip and for systemd-networkd."""

from __future__ import annotations

from typing import Any

LAST_METRIC = 4294967294
# Priorities of the policy rules; the kernel's own are 0, 32766 (table main) and 32767.
OWN_NETWORKS, UNSOLICITED, LAN_MAIN, LAN_SOFTWIRE, ROUTER = 29999, 30000, 31000, 31001, 40000


def routing(edge: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The routes and rules of a customer edge, in the order in which they are added.

    edge: the parameters of a customer edge.
    Returns lists by what they belong to: "softwire" and "wan" in the main namespace; "napt" and "translator" in a namespace of
    their own, empty where there is none; "late", where the softwire's device is, for once everything else is there. An entry is a
    dict whose keys are the words of ip-route(8) or ip-rule(8): {"kind": "route", "why", "to", and where they matter "type",
    "program" (its path), "via", "dev", "mtu" (bytes, or "lock" and bytes), "table", "metric"}, or {"kind": "rule", "why", "pref",
    "iif", and "to", "type", "lookup", "suppress_prefixlength"}.
    """
    layout = edge["layout"]
    translator_elsewhere = layout["has_veth"] and not layout["napt_elsewhere"]
    late = []
    if edge["translator"]:
        late = to_programs(edge)
        # Until there is a way into the softwire, the rules would let the LAN go by another default route.
        late += [] if layout["napt_elsewhere"] else by_lan(edge)
    if edge["tunnel"]:
        late = [route("Everything goes into the tunnel.", "default", dev=edge["tunnel"], table=edge["softwire_table"])]
    return {
        "softwire": to_napt(edge) if layout["napt_elsewhere"] else from_lan(edge),
        "wan": wan(edge),
        "napt": napt(edge) if layout["napt_elsewhere"] else [],
        "translator": translator(edge) if translator_elsewhere else [],
        "late": late,
    }


def to_napt(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """Main namespace, where the NAPT has another."""
    here, there = edge["veth"]["main"]["device"], edge["veth"]["other"]
    own_traffic = "IPv4 of this router itself, where nothing else routes it. What passes through must not come here: it would go round in a loop."
    if edge["translator"]:
        first = route("What comes for the MAP address goes to the translator.", edge["map_prefix"], via=there["ipv6"], dev=here)
    else:
        first = route("What comes out of the softwire goes to the NAPT.", own_address(edge), via=there["ipv4"], dev=here)
    entries = [
        first,
        route(own_traffic, "default", via=there["ipv4"], dev=here, table=edge["route_table"]),
        rule(own_traffic, ROUTER, "lo", lookup=edge["route_table"]),
        *(route("Native IPv6 of the LAN.", network, via=there["ipv6"], dev=here) for network in edge["lan"]["ipv6_networks"]),
    ]
    if edge["tunnel"]:
        entries += [no_other_way(edge), rule("What the NAPT sends goes into the tunnel.", LAN_SOFTWIRE, here, lookup=edge["softwire_table"])]
    return entries


def from_lan(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """Main namespace, where the NAPT is in it."""
    table, veth = edge["softwire_table"], edge["veth"]
    if edge["translator"]:
        return unsolicited(edge)
    if edge["tunnel"]:
        default = no_other_way(edge)
    else:
        default = route(mtu_of(edge), "default", via=veth["other"]["ipv4"], dev=veth["main"]["device"], mtu=edge["ipv4_mtu"], table=table)
    entries = [*unsolicited(edge), default, *by_lan(edge)]
    if not edge["tunnel"]:
        entries.append(route("What comes for the MAP address goes to the translator.", edge["map_prefix"],
                             via=veth["other"]["ipv6"], dev=veth["main"]["device"]))
    return entries


def no_other_way(edge: dict[str, Any]) -> dict[str, Any]:
    """Main namespace, with a tunnel: where there is no way into it."""
    return route("Nothing takes another way before the tunnel is up, or once it is gone.",
                 "default", type="unreachable", table=edge["softwire_table"], metric=LAST_METRIC)


def by_lan(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """Main namespace, where the NAPT is in it: who takes the softwire."""
    table = edge["softwire_table"]
    why = "The LAN takes the softwire even where this router has another default route; the router itself only where it has none."
    entries = []
    for interface in edge["lan"]["interfaces"]:
        entries += [rule(why, LAN_MAIN, interface, lookup="main", suppress_prefixlength=0), rule(why, LAN_SOFTWIRE, interface, lookup=table)]
    return [*entries, rule(why, ROUTER, "lo", lookup=table)]


def to_programs(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the device of the programs is: what they translate, in both directions."""
    device, program = edge["napt"]["device"], edge["translator"]["whole_length"]
    table = {} if edge["layout"]["napt_elsewhere"] else {"table": edge["softwire_table"]}
    return [
        route(f"Everything goes into the softwire. A fragment of {edge['ipv4_mtu']} bytes is an IPv6 packet of {edge['wan']['mtu']} bytes on the WAN.",
              "default", program=program, dev=device, mtu=f"lock {edge['ipv4_mtu']}", **table),
        route("What comes for the MAP address comes out of it.", edge["map_prefix"], program=program, dev=device),
    ]


def wan(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """Main namespace: towards the provider."""
    ce, gateway = edge["ce"], edge["wan"]["gateway"]
    entries = [route("The way to the border relay.", ce["dmr"] or ce["br_address"], via=gateway, dev=edge["wan"]["interface"])] if gateway else []
    return [*entries, route("What comes for an unused part of the end-user prefix must not go back to the WAN by the default route.",
                            ce["end_user_prefix"], type="unreachable", metric=LAST_METRIC)]


def napt(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """The namespace of the LAN and the NAPT."""
    here, there = edge["veth"]["other"]["device"], edge["veth"]["main"]
    default = [] if edge["translator"] else [route(mtu_of(edge), "default", via=there["ipv4"], dev=here, mtu=edge["ipv4_mtu"])]
    return [
        *default,
        *unsolicited(edge),
        route("Native IPv6 of the LAN.", "default", via=there["ipv6"], dev=here),
    ]


def translator(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """The namespace of the translator."""
    here, there = edge["veth"]["other"]["device"], edge["veth"]["main"]
    return [
        route("Translated to IPv4: to the NAPT.", own_address(edge), via=there["ipv4"], dev=here),
        route("Translated to IPv6: to the WAN.", "default", via=there["ipv6"], dev=here),
        route("What the translator does not take must not go back by the default route.", edge["map_prefix"], type="unreachable"),
    ]


def unsolicited(edge: dict[str, Any]) -> list[dict[str, Any]]:
    """What the softwire brings and no connection of the NAPT takes, in the NAPT's namespace."""
    device = edge["napt"]["device"]
    why = ("Drop unsolicited packets even without the NAPT's rules, which drop and count them first: they would go back where they came "
           "from, round and round until their TTL ends. From elsewhere the address stays reachable: its other ports are other customer edges.")
    return [
        *(rule("Public addresses of our own prefix need no NAT.", OWN_NETWORKS, device, to=network, lookup="main")
          for network in edge["lan"]["own_networks"]),
        rule(why, UNSOLICITED, device, to=own_address(edge), type="blackhole"),
    ]


def own_address(edge: dict[str, Any]) -> str:
    """The IPv4 address or prefix of the customer edge."""
    return edge["ce"]["ipv4_address"] or edge["ce"]["ipv4_prefix"]


def mtu_of(edge: dict[str, Any]) -> str:
    return f"An IPv4 packet of {edge['ipv4_mtu']} bytes is an IPv6 packet of {edge['wan']['mtu']} bytes on the WAN."


def route(why: str, to: str, **words: object) -> dict[str, Any]:
    return {"kind": "route", "why": why, "to": to, **words}


def rule(why: str, pref: int, iif: str, **words: object) -> dict[str, Any]:
    return {"kind": "rule", "why": why, "pref": pref, "iif": iif, **words}
