# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark's pure parts: which CEs are in the traffic, whether the packets are sound, the arithmetic of the table."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import packets
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "packet"))

import edge  # noqa: E402
import job  # noqa: E402
import report  # noqa: E402
import workload  # noqa: E402

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain  # noqa: E402


@pytest.mark.parametrize("count", [32, 1024, 8192])
def test_every_ce_in_the_traffic_is_another(count):
    edges = workload.customer_edges(count)
    for attribute in ("ipv4", "map_address", "unshared"):
        assert len({getattr(ce, attribute) for ce in edges}) == count
    assert len({ce.psid for ce in edges}) == min(count, workload.PSIDS)
    assert all(ce.ipv4 in IPv4Network(workload.RULE["ipv4_prefix"]) for ce in edges)


def test_the_rule_is_one_of_33_million():
    rule, = Domain(workload.domain("map-e", workload.RULE)).rules
    assert (1 << rule.ea_length, rule.psid_length) == (33_554_432, 8)
    small, = Domain(workload.domain("map-e", workload.SMALL_RULE)).rules
    assert (1 << small.ea_length, small.psid_length) == (256, 8)


@pytest.mark.parametrize("kind", workload.FRAMES)
def test_checksums_are_right_and_sizes_equal(kind):
    frames = [workload.FRAMES[kind](ce) for ce in workload.customer_edges(32)]
    assert len({len(frame) for frame in frames}) == 1
    for frame in frames:
        packet = frame[14 + packets.IPV6_HEADER if kind == "map-e" else 14:]
        assert len(packet) == workload.IPV4_LENGTH + (packets.IPV6_HEADER - packets.IPV4_HEADER if kind == "map-t" else 0)
        assert packets.has_valid_checksum(packet)


@pytest.mark.parametrize(("kind", "length"), [("lan", 0), ("edge-t", 20), ("edge-e", 40)])
def test_the_flows_of_a_customer_edge_are_many_and_sound(kind, length):
    frames = [edge.FRAMES[kind](other) for other in workload.customer_edges(32)]
    assert len(set(frames)) == 32
    for frame in frames:
        assert len(frame) == 14 + workload.IPV4_LENGTH + length
        assert packets.has_valid_checksum(frame[14 + packets.IPV6_HEADER if kind == "edge-e" else 14:])


def test_what_has_to_leave_a_customer_edge_is_where_the_case_looks():
    other, ce = workload.customer_edges(32)[5], edge.edge("map-t")
    assert ce["psid"] == 37 and edge.port() in ce["port_ranges"][3]
    start, end = edge.OUTER_ADDRESSES_AND_PORT
    out = workload.frame(workload.datagram(ce["map_address"], edge.port(), edge.SERVER_IN_DMR, other.port))
    assert out[start:end] == edge.to_dmr(other)
    start, end = edge.OUTER_ADDRESSES
    out = workload.frame(packets.ipv6(edge.edge("map-e")["map_address"], workload.BR, packets.IPIP, bytes(100)))
    assert out[start:end] == edge.to_relay(other)
    start, end = edge.IPV4_ADDRESSES_AND_PORT
    assert workload.frame(workload.datagram(workload.SERVER, other.port, edge.HOST, edge.HOST_PORT))[start:end] == edge.to_host(other)


def test_the_job_has_every_router_and_file_that_its_cases_name():
    work, files = job.job([32], [32], 1, 32)
    assert {case["router"] for case in work["cases"]} | {"load"} == set(work["routers"])
    for case in work["cases"]:
        assert len(files[f"traffic/{case['traffic']}"]) == case["size"] * case["count"]
        start, end = case["leaving"] or (0, 0)
        assert not case["leaving"] or len(files[f"expected/{case['expected']}"]) == (end - start) * case["count"]
    assert {name.split("/")[1] for name in files if name.startswith("generations/")} >= set(work["brought_up"]) >= set(edge.ROUTERS)


def test_what_has_to_leave_is_where_the_case_looks():
    ce = workload.customer_edges(32)[5]
    start, end = workload.IPV4_DESTINATION
    assert workload.to_ce(ce)[start:end] == workload.EXPECTED["destination"](ce) == ce.ipv4.packed
    start, end = workload.IPV4_SOURCE_AND_PORT
    assert workload.from_ce(ce)[start:end] == workload.EXPECTED["source"](ce)
    start, end = workload.OUTER_DESTINATION
    towards = workload.frame(packets.ipv6(workload.BR, ce.map_address, packets.IPIP, bytes(100)))
    assert towards[start:end] == workload.EXPECTED["map-address"](ce)


def test_the_marks_hold_every_port_that_a_ce_may_have():
    assert workload.marks().count(" : ") == workload.PSIDS * 63
    assert "1024-1027 : 0, 2048-2051 : 0" in workload.marks()


def test_tunnels_of_shared_addresses_have_a_rule_per_psid():
    shared, unshared = workload.tunnels(32, shared=True), workload.tunnels(32, shared=False)
    assert shared["ip"].count("rule add fwmark") == workload.PSIDS and shared["ip"].count("type ip6tnl") == 32
    assert "rule add" not in unshared["ip"] and unshared["nft"] == ""
    assert f"route add {IPv4Address('100.64.0.1')}/32 dev t1" in unshared["ip"]


def test_every_count_has_its_plain_forwarding():
    cases = job.cases([32, 8192], [32, 1024])
    plain = {(case.direction, case.count) for case in cases if case.router == "plain" and case != workload.GENERATOR}
    assert {(case.way, case.count) for case in cases} == plain
    assert len({case.name for case in cases}) == len(cases)


def measured(costs):
    return [{"round": number, "case": name, "instructions": cost} for number, entry in enumerate(costs) for name, cost in entry.items()]


def test_ratios_are_taken_within_a_round():
    cases = [workload.GENERATOR, *(case for case in workload.cases([32], []) if case.name in ("plain down-32", "fast down-32"))]
    names = [case.name for case in cases]
    rounds = [dict(zip(names, costs)) for costs in ((1000, 2000, 2400), (1000, 4000, 4400), (1000, 2000, 2600))]
    plain, fast = report.rows(cases, measured(rounds))
    assert (plain.ratio, plain.own_ratio) == (1, 1)
    assert (fast.instructions, fast.ratio, fast.lowest, fast.highest) == (2600, 1.2, 1.1, 1.3)
    assert fast.own_ratio == pytest.approx(1.4)
    assert report.missed([plain, fast]) == []
    slow = [dict(zip(names, (1000, 2000, 2501)))]
    assert [row.label for row in report.missed(report.rows(cases, measured(slow)))] == ["MAP-E, fast path"]


def test_loading_is_compared_within_a_round():
    entries = [{"round": number, "load": name, "seconds": seconds}
               for number, pair in enumerate(((2, 1), (4, 4), (3, 2))) for name, seconds in zip(("load25", "load8"), pair)]
    assert report.loads(entries) == (3, 1.5, 1, 2)
