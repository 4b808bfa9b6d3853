# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What info.py finds as text for Prometheus, for node exporter's textfile collector; softwire-metrics@.service writes it."""

from __future__ import annotations


def families(info):
    """The metrics of what info.collect() has found: (name, type, help, [(labels, value)]) each."""
    state, ports, tunnel = info["state"], info["ports"] or {}, info["tunnel"]
    yield "generation_info", "gauge", "What is deployed.", [({
        "role": info["role"], "carried_by": info["softwire"], "generation": info["generation"], "applied": state["applied"]}, 1)]
    yield "state_equal", "gauge", "Whether the router runs what the generation says.", [({}, int(state["equal"]))]
    yield "state_faults", "gauge", "What of the generation the router does not have.", [({}, len(state["faults"]))]
    repairs = info["repairs"] or {}
    yield "repairs_total", "counter", "How often something that somebody changed was put right since the boot.", [
        ({"result": result}, repairs[key]) for result, key in (("good", "repairs"), ("failed", "failures")) if repairs]
    yield "repairs_in_a_row", "gauge", "How many repairs in a row did not hold; the next ones wait longer.", [({}, repairs["in_a_row"])] if repairs else []
    yield "deployment_unconfirmed", "gauge", "Whether a deployment waits for its confirmation.", [({}, int(info["unconfirmed"]))]
    counts = info["audit"]["counts"] if info["audit"] else {}
    for name, label, description in (("deployments", "result", "How deployments ended, since the audit trail began."),
                                     ("rollbacks", "reason", "Why deployments were rolled back, since the audit trail began.")):
        yield name + "_total", "counter", description, [({label: key}, value) for key, value in counts.get(name, {}).items()]
    yield "deployments_drift_total", "counter", "How many deployments found that somebody had changed something, since the audit trail began.", [
        ({}, counts["drift"])] if counts else []
    yield "notices", "gauge", "What could not be read.", [({}, len(info["notices"]))]
    for unit in ("packets", "bytes"):
        yield "rule_%s_total" % unit, "counter", "What the rules of the guard and the NAPT have counted, by reason.", [
            ({key: rule[key] for key in ("namespace", "rules", "name")}, rule[unit]) for rule in info["rules"]]
    yield "program_packets_total", "counter", "What the programs did with packets; in: out of the softwire.", [
        ({"direction": name.split("_", 1)[0], "result": name.split("_", 1)[1]}, value)
        for name, value in (info["programs"] or {}).items()]
    fast_path = info["fast_path"] or {}
    yield "fast_path_on", "gauge", "Whether the fast path of a border relay is on.", [({}, int(fast_path["on"]))] if fast_path else []
    yield "fast_path_obstacles", "gauge", "What on the router does not see the packets that the fast path takes.", [
        ({}, len(fast_path["obstacles"]))] if fast_path else []
    yield "translator_total", "counter", "The translator's own counters.", [
        ({"counter": name}, value) for name, value in (info["translator"] or {}).items()]
    for unit in ("packets", "bytes", "errors", "dropped"):
        yield "tunnel_%s_total" % unit, "counter", "Counters of the tunnel device.", [
            ({"device": tunnel["device"], "direction": direction}, tunnel[direction][unit])
            for direction in ("received", "sent") if tunnel]
    yield "ports", "gauge", "Ports of the port set.", [({}, ports["size"])] if ports else []
    yield "ports_in_use", "gauge", "Ports of the port set in use.", [
        ({"protocol": protocol}, count) for protocol, count in ports.get("in_use", {}).items()]
    yield "host_ports_in_use", "gauge", "Ports of the port set in use, by host of the LAN.", [
        ({"host": host, "protocol": protocol}, count)
        for host, counts in ports.get("by_host", {}).items() for protocol, count in counts.items()]


def text(info):
    """The text format 0.0.4 of Prometheus. No label needs an escape: all are names of our own, addresses and protocols."""
    lines = []
    for name, kind, description, samples in families(info):
        if not samples:
            continue
        lines += ["# HELP softwire_%s %s" % (name, description), "# TYPE softwire_%s %s" % (name, kind)]
        for labels, value in samples:
            # Not "instance": Prometheus gives that one to the machine.
            pairs = ",".join('%s="%s"' % pair for pair in [("softwire", info["instance"])] + list(labels.items()))
            lines.append("softwire_%s{%s} %d" % (name, pairs, value))
    return "\n".join(lines) + "\n"
