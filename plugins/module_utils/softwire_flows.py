# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What conntrack remembers of a NAPT, and what of it no longer fits new rules.

A file "flows" says what the flows of the NAPT in its namespace stand for:

    address ADDRESS                  of this customer edge: the IPv4 address of the NAPT, the MAP address
    ports INDEX PORT LENGTH          what conntrack calls INDEX is PORT on the wire, and so on for LENGTH of them
    service PROTOCOL PORT TARGET     where new connections to a port lead

A copy of this Python file lies in every generation, beside softwire.py.
"""

from __future__ import annotations

if __package__:
    from . import softwire_changes, softwire_journal
else:  # in a generation
    import softwire_changes
    import softwire_journal

# The options of conntrack for the fields that it lists.
OPTIONS = {"src": "-s", "dst": "-d", "sport": "--sport", "dport": "--dport",
           "type": "--icmp-type", "code": "--icmp-code", "id": "--icmp-id"}


def undo(flows):
    """The journal entries that forget what a file "flows" (bytes) left in the main namespace; others end with their flows."""
    return [
        {"try": ["conntrack", "-D", "-f", "ipv6" if ":" in address else "ipv4", direction, address]}
        for address in softwire_changes.addresses(flows) for direction in ("-d", "-q")  # -q: where the answers go
    ]


def forget_stale(namespace, before, after):
    """Forgets the flows that new rules would send from another port or to another place.

    before, after: the files "flows" (bytes) of the rules, which have the same addresses.
    """
    (old_ports, old_services), (ports, services) = ports_and_services(before), ports_and_services(after)
    indexes = {index for index, port in old_ports.items() if ports.get(index) != port}
    for address in softwire_changes.addresses(after):
        if ":" in address:
            continue  # no NAPT there
        if len(indexes) * 2 > len(old_ports):
            # A renumbering; one by one thousands of flows take minutes, for the few whose index means what it did.
            conntrack(namespace, "-D", "-q", address)
        elif indexes:
            for index, arguments in map(parsed, conntrack(namespace, "-L", "-q", address).splitlines()):
                if index in indexes:
                    conntrack(namespace, "-D", *arguments)
        for (protocol, port), target in old_services.items():
            if services.get((protocol, port)) != target:
                conntrack(namespace, "-D", "-p", protocol, "-d", address, "--dport", port)


def ports_and_services(flows):
    """({index: port}, {(protocol, port): target}) of a file "flows" (bytes)."""
    ports, services = {}, {}
    for kind, *words in softwire_changes.split_lines(flows):
        if kind == "ports":
            index, port, length = map(int, words)
            ports.update((index + number, port + number) for number in range(length))
        elif kind == "service":
            services[words[0], words[1]] = words[2]
    return ports, services


def parsed(line):
    """A line of "conntrack -L": the number that stands for the port of a flow from inside, and what "conntrack -D" calls it."""
    words = line.split()
    fields = [word.split("=", 1) for word in words if "=" in word]
    answers = [key for key, _value in fields].index("src", 1)
    reply = dict(fields[answers:])
    arguments = ["-p", words[0]]
    for key, value in fields[:answers]:
        arguments += [OPTIONS[key], value] if key in OPTIONS else []
    return int(reply.get("dport") or reply.get("id") or 0), arguments


def conntrack(namespace, *arguments):
    """What conntrack prints about the IPv4 flows that match; none is no error."""
    try:
        return softwire_journal.run(softwire_journal.in_namespace(namespace, ["conntrack", "-f", "ipv4"] + list(arguments)))
    except softwire_journal.StepError as exc:
        if ": 0 flow entries" not in str(exc):
            raise
        return ""
