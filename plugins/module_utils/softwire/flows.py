# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows of a NAPT as conntrack knows them: how to read them, and how they follow new rules.

A file "flows" says what the flows of the NAPT in its namespace stand for:

    address ADDRESS                  of this customer edge: the IPv4 address of the NAPT, the MAP address
    ports INDEX PORT LENGTH          what conntrack calls INDEX is PORT on the wire, and so on for LENGTH of them
    service PROTOCOL PORT TARGET     where new connections to a port lead
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .commands import StepError, in_namespace, run
from .files import addresses, split_lines

# Before conntrack on the way in (priority -200), after NAT on the way out (100): both see indexes.
HOLD = """
table ip softwire_{instance}_moving {{
    set addresses {{ type ipv4_addr; elements = {{ {addresses} }}; }}
    set indexes {{ type inet_service; elements = {{ {indexes} }}; }}
    chain ingress {{
        type filter hook prerouting priority -251; policy accept;
        ip daddr @addresses meta l4proto {{ tcp, udp }} th dport @indexes drop
    }}
    chain egress {{
        type filter hook postrouting priority 149; policy accept;
        ip saddr @addresses meta l4proto {{ tcp, udp }} th sport @indexes drop
    }}
}}
"""


def forgetting(flows):
    """The journal entries that forget what a file "flows" (bytes) left in the main namespace; others end with their flows."""
    return [
        {"try": ["conntrack", "-D", "-f", "ipv6" if ":" in address else "ipv4", direction, address]}
        for address in addresses(flows) for direction in ("-d", "-q")  # -q: where the answers go
    ]


class Changes:
    """What a reload changes for the flows of a namespace.

    before, after: the files "flows" (bytes) of the old and the new rules, which have the same addresses.
    """

    def __init__(self, before, after):
        self.addresses = [address for address in addresses(after) if ":" not in address]  # no NAPT of IPv6
        (old, self.old_services), (new, self.services) = ports_and_services(before), ports_and_services(after)
        indexes = {port: index for index, port in new.items()}
        self.indexes = sorted(index for index in old.keys() | new.keys() if old.get(index) != new.get(index))
        self.moves = {index: indexes.get(old[index]) for index in self.indexes if index in old}

    def holding_rules(self, instance):
        """nftables rules that let nothing pass between the old and the new meaning of an index; "" where nothing changes."""
        if not self.moves:
            return ""
        return HOLD.format(instance=instance, addresses=", ".join(self.addresses), indexes=", ".join(map(str, self.indexes)))

    def apply(self, namespace):
        """Gives flows the new indexes of their ports; forgets those whose port is gone, or whose service leads elsewhere. Raises StepError."""
        for address in self.addresses:
            # Connections from outside first: the index of a forwarded port may stand for another port from now on.
            for (protocol, port), target in self.old_services.items():
                if self.services.get((protocol, port)) != target:
                    conntrack(namespace, "-D", "-p", protocol, "-d", address, "--dport", port)
            if self.moves:
                argv = [sys.executable, "-B", "-m", "softwire.conntrack", address]
                run(in_namespace(namespace, argv), str(Path(__file__).parents[1]), json.dumps(self.moves))


def ports_and_services(flows):
    """({index: port}, {(protocol, port): target}) of a file "flows" (bytes)."""
    ports, services = {}, {}
    for kind, *words in split_lines(flows):
        if kind == "ports":
            index, port, length = map(int, words)
            ports.update((index + offset, port + offset) for offset in range(length))
        elif kind == "service":
            services[words[0], words[1]] = words[2]
    return ports, services


def conntrack(namespace, *arguments):
    """What the tool conntrack prints about the IPv4 flows that match; none is no error. Raises StepError, OSError without the tool."""
    try:
        return run(in_namespace(namespace, ["conntrack", "-f", "ipv4"] + list(arguments)))
    except StepError as exc:
        if ": 0 flow entries" not in str(exc):
            raise
        return ""


def listed(namespace, *selectors):
    """The IPv4 flows that match: (protocol, fields of the packets of the one who began, fields of the answers) each."""
    return [parsed(line) for line in conntrack(namespace, "-L", *selectors).splitlines()]


def parsed(line):
    """A line of "conntrack -L", as listed() has it."""
    words = line.split()
    fields = [word.split("=", 1) for word in words if "=" in word]
    answers = [key for key, _value in fields].index("src", 1)
    return words[0], dict(fields[:answers]), dict(fields[answers:])


def port_of(fields, key):
    """The port of that name ("sport", "dport") among fields, or an echo's identifier, which serves as one; 0 where there is neither."""
    return int(fields.get(key) or fields.get("id") or 0)
