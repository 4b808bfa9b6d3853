# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance is doing: its counters, the ports in use, and whether the router runs what its generation says.

The module map_info and metrics.py show what it finds.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import sys
from pathlib import Path

from . import audit, drift, fast_path, keeper
from .commands import StepError, in_namespace, run
from .files import addresses, lines_of, tables
from .flows import listed, port_of, ports_and_services
from .runner import Generation

PROTOCOLS = ("tcp", "udp", "icmp")


def collect(directory, list_ports=False, audit_lines=0):
    """What the module map_info returns (see its RETURN) of the generation in a directory, which may be a link to it.

    list_ports: whether each port in use is listed, too. audit_lines: how many of the last lines of the audit trail. Changes nothing.
    What cannot be read, for want of a tool or of a part of the generation, is None and has its reason in "notices".
    """
    generation = Generation(Path(os.path.realpath(str(directory))))
    parameters = json.loads((generation.directory / "parameters.json").read_text())
    notices = []

    def tried(what, read):
        try:
            return read()
        except (StepError, OSError, ValueError) as exc:
            notices.append("%s: %s" % (what, exc))
            return None

    rules = [
        tried("counters of %s" % path.relative_to(generation.directory), functools.partial(rule_counters, namespace, path))
        for namespace in generation.namespaces for path in sorted((generation.directory / namespace).glob("*.nft"))
    ]
    return {
        "instance": generation.name,
        "role": generation.settings["role"],
        "softwire": parameters["softwire"],
        "generation": generation.directory.name,
        "parameters": parameters,
        "state": state(generation, tried("state", functools.partial(drift.differences, generation))),
        "unconfirmed": generation.paths.unconfirmed.exists(),
        "repairs": tried("repairs", functools.partial(keeper.repairs, generation.paths)),
        "audit": tried("audit", functools.partial(audit.read, generation.paths, audit_lines)),
        "rules": [counter for counters in rules for counter in counters or []],
        "translator": tried("translator", functools.partial(translator, generation)),
        "tunnel": tried("tunnel", functools.partial(tunnel, parameters["tunnel"])),
        "programs": tried("programs", functools.partial(programs, parameters.get("bpf"))),
        "fast_path": tried("fast path", functools.partial(fast_path_of, generation, parameters)),
        "ports": tried("ports", functools.partial(ports, generation, list_ports)),
        "notices": notices,
    }


def state(generation, faults):
    """Whether the router runs this generation; faults: what it lacks, None where that is not known."""
    applied = generation.paths.applied_name() or ""
    if applied != generation.directory.name:
        faults = ["%s is applied" % ("generation " + applied if applied else "no generation as a whole")] + (faults or [])
    return {"applied": applied, "equal": faults == [], "faults": faults or []}


def rule_counters(namespace, path):
    """The named counters of the tables that an nftables file makes."""
    found = []
    for family, table in tables(path.read_bytes()):
        listed = json.loads(run(in_namespace(namespace, ["nft", "-j", "list", "counters", "table", family, table])))
        found += [
            {"namespace": namespace, "rules": path.stem, "name": counter["name"], "reason": counter.get("comment", ""),
             "packets": counter["packets"], "bytes": counter["bytes"]}
            for counter in (entry["counter"] for entry in listed["nftables"] if "counter" in entry)
        ]
    return found


def translator(generation):
    """Jool's own counters by name, or None without a translator."""
    for namespace in generation.namespaces:
        name = drift.translator_of(generation.directory / namespace)
        if name:
            shown = run(in_namespace(namespace, [
                generation.settings["jool"], "-i", name, "stats", "display", "--all", "--csv", "--no-headers"]))
            return {counter: int(value) for counter, value in (line.split(",") for line in shown.splitlines())}
    return None


def tunnel(device):
    """The counters of the tunnel device, or None without one."""
    if not device:
        return None
    link = json.loads(run(["ip", "-s", "-j", "link", "show", "dev", device]))[0]
    return {"device": device, **{
        direction: {key: link["stats64"][short][key] for key in ("packets", "bytes", "errors", "dropped")}
        for direction, short in (("received", "rx"), ("sent", "tx"))
    }}


def programs(bpf, run=run):
    """The packets that the programs have counted, by what happened to them, or None without programs. run: runs the tool."""
    if not bpf:
        return None
    found = {}
    for loaded in bpf["objects"]:
        dump = json.loads(run(["bpftool", "-j", "map", "dump", "pinned", "%s/%s/maps/counters" % (bpf["pins"], loaded["name"])]))
        totals = {as_integer(entry["key"]): sum(as_integer(value["value"]) for value in entry["values"]) for entry in dump}
        found.update({name: totals[index] for index, name in enumerate(loaded["counters"])})
    return found


def fast_path_of(generation, parameters):
    """Whether the fast path is on, and why not; None where there is none."""
    wanted = parameters.get("fast_path")
    if not wanted:
        return None
    lines = [line for name in ("fast", "tc") for line in lines_of(generation.directory / "main" / name)
             if line[0] == "filter" and line[-1] in [each["program"] for each in wanted["attached"]]]
    return {
        "on": all(drift.is_attached("main", line) for line in lines),
        "obstacles": fast_path.obstacles(generation.directory / "main", generation.settings),
    }


def as_integer(digits):
    """The integer that bpftool shows as a list of bytes, "0x00" each, in the machine's own order."""
    return int.from_bytes(bytes(int(digit, 16) for digit in digits), sys.byteorder)


def ports(generation, list_ports):
    """The ports of the set that conntrack knows as in use, or None without a NAPT."""
    for namespace in generation.namespaces:
        path = generation.directory / namespace / "flows"
        if path.exists():
            return ports_in_use(namespace, path.read_bytes(), list_ports)
    return None


def ports_in_use(namespace, flows, list_ports):
    """flows: the file "flows" (bytes). A port with several connections, to different places, is one port."""
    real_ports, _services = ports_and_services(flows)
    address = next(address for address in addresses(flows) if ":" not in address)
    used = set()
    for protocol, begun, answers in listed(namespace, "-q", address):
        used.add((protocol, real_ports.get(port_of(answers, "dport")), begun["src"]))
    # Flows that began outside, at a forwarded or reserved port; where our own address answers, no host has got the flow.
    for protocol, begun, answers in listed(namespace, "-d", address):
        if answers["src"] != address:
            used.add((protocol, real_ports.get(port_of(begun, "dport")), answers["src"]))
    used = sorted((host, protocol, port) for protocol, port, host in used if port)
    by_host = collections.defaultdict(collections.Counter)
    for host, protocol, _port in used:
        by_host[host][protocol] += 1
    in_use = collections.Counter({protocol: 0 for protocol in PROTOCOLS})
    in_use.update(protocol for protocol, _port in {(protocol, port) for _host, protocol, port in used})
    found = {"address": address, "size": len(real_ports), "in_use": dict(in_use),
             "by_host": {host: dict(counts) for host, counts in by_host.items()}}
    if list_ports:
        found["list"] = [{"host": host, "protocol": protocol, "port": port} for host, protocol, port in used]
    return found
