# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a router would have to see the packets that a border relay's fast path takes: such packets pass neither netfilter nor the stack.

The file "fast" of a generation has the lines that put it in; they are run where nothing is found here (map_br_fast_path: auto).
"""

from __future__ import annotations

import re
from pathlib import Path

from .commands import query
from .files import lines_of, tables

PROC = Path("/proc")
# Of nftables: where a packet that is forwarded passes, and in which families.
HOOKS, FAMILIES = ("ingress", "prerouting", "forward", "postrouting"), ("ip", "ip6", "inet", "netdev")
LAST_PREFERENCE = 7610  # of our tc filters, this and other instances'
STRICT = "1"


def obstacles(directory, settings):
    """Why the fast path stays off; texts for a person, none where it may be on.

    directory: of the generation's files for the main namespace; settings: the content of instance.json. Raises OSError.
    """
    interfaces = sorted(settings["interfaces"])
    own = {table for path in directory.glob("*.nft") for table in tables(path.read_bytes())}
    looks = (chains(own, interfaces), legacy_tables(), source_checks(settings), queues(interfaces), absent_programs(directory))
    return [text for found in looks for text in found]


def chains(own, interfaces):
    """Chains of nftables with rules, or that drop, in tables that are not our own; iptables makes such chains, too."""
    listed = query(["nft", "-j", "list", "chains"]).get("nftables")
    if listed is None:
        yield "the chains of nftables cannot be read"
    for entry in listed or []:
        chain = entry.get("chain", {})
        place = tuple(chain.get(key) for key in ("family", "table", "name"))
        if chain.get("hook") not in HOOKS or place[0] not in FAMILIES or place[:2] in own:
            continue
        devices = chain.get("dev", interfaces)  # which nft 1.0.6 does not tell
        if not set(interfaces) & set([devices] if isinstance(devices, str) else devices):
            continue
        # what cannot be read may have some
        if chain.get("policy") == "drop":
            yield "nftables chain %s %s %s drops" % place
        elif any("rule" in each for each in query(["nft", "-j", "list", "chain", *place]).get("nftables", [{"rule": None}])):
            yield "nftables chain %s %s %s has rules" % place


def legacy_tables():
    """Tables of the iptables that nftables does not show; whether they hold anything is not seen from here."""
    for name, command in (("ip_tables_names", "iptables-legacy"), ("ip6_tables_names", "ip6tables-legacy")):
        path = PROC / "net" / name
        found = path.read_text().split() if path.exists() else []
        if found:
            yield "%s has tables: %s" % (command, ", ".join(sorted(found)))


def source_checks(settings):
    """A strict check of sources from the internet, and IPsec policies."""
    for name, wanted in sorted(settings["interfaces"].items()):
        paths = [PROC / "sys/net/ipv4/conf" / key / "rp_filter" for key in ("all", name)]
        if wanted["variable"] == "map_br_ipv4_interface" and max(path.read_text().strip() for path in paths if path.exists()) == STRICT:
            yield "rp_filter of %s is strict (1)" % name
    if query(["ip", "xfrm", "policy"], as_json=False):
        yield "there are IPsec policies"


def queues(interfaces):
    """Other tc filters behind ours, and what leaves no room for any."""
    for interface in interfaces:
        # As text: not every kind of filter has JSON that can be read.
        if re.search("^qdisc ingress ", query(["tc", "qdisc", "show", "dev", interface], as_json=False), re.MULTILINE):
            yield "%s has a qdisc ingress, beside which there is no clsact" % interface
        shown = query(["tc", "filter", "show", "dev", interface, "ingress"], as_json=False)
        behind = [int(text) for text in re.findall(r"^filter .*?\bpref (\d+) ", shown, re.MULTILINE) if int(text) > LAST_PREFERENCE]
        if behind:
            yield "%s has a tc filter of its own on ingress (pref %d)" % (interface, behind[0])


def absent_programs(directory):
    """Programs that an object of somebody's own making (map_br_bpf_object) does not have."""
    for line in lines_of(directory / "fast"):
        if line[0] == "filter" and not Path(line[-1]).exists():
            yield "there is no program %s" % Path(line[-1]).name
