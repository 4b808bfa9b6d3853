# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a fast path off by itself, from what the tools say of a router."""

from __future__ import annotations

import json

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import fast_path

INTERFACES = {"inet": "map_br_ipv4_interface", "isp": "map_br_ipv6_interface"}
OWN = ("inet", "softwire_br_guard")
RULE = {"rule": {"expr": []}}


class Router:
    """A router with chains, {(family, table, name): (properties, whether it has rules)}, and with what tc and ip print."""

    def __init__(self, directory):
        self.generation, self.proc = directory / "main", directory / "proc"
        self.chains, self.qdiscs, self.filters, self.policies, self.is_broken = {}, {}, {}, "", False
        files = role_variables.br_generations()["bpf"]
        self.settings = json.loads(files["instance.json"])
        self.generation.mkdir()
        self.pins = directory / "pins"
        self.pins.mkdir()
        for name in ("br_fast_in", "br_fast_out"):
            (self.pins / name).touch()
        (self.generation / "guard.nft").write_text(files["main/guard.nft"])
        (self.generation / "fast").write_text(files["main/fast"].replace("/run/softwire/br/bpf/translate/programs", str(self.pins)))
        for key, value in (("all", "0"), ("inet", "2"), ("isp", "1")):
            self.write(f"sys/net/ipv4/conf/{key}/rp_filter", value)

    def write(self, name, text):
        path = self.proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def query(self, argv, as_json=True):
        if argv[1:3] == ["-j", "list"] and self.is_broken:
            return {}
        if argv == ["nft", "-j", "list", "chains"]:
            return {"nftables": [{"metainfo": {}}] + [{"chain": dict(zip(("family", "table", "name"), place), **properties)}
                                                      for place, (properties, _rules) in self.chains.items()]}
        if argv[:4] == ["nft", "-j", "list", "chain"]:
            return {"nftables": [{"metainfo": {}}, {"chain": {}}] + [RULE] * self.chains[tuple(argv[4:])][1]}
        if argv == ["ip", "xfrm", "policy"]:
            assert not as_json
            return self.policies
        assert not as_json
        return {"qdisc": self.qdiscs, "filter": self.filters}[argv[1]].get(argv[4], "")

    def obstacles(self):
        return fast_path.obstacles(self.generation, self.settings)


@pytest.fixture
def router(tmp_path, monkeypatch):
    made = Router(tmp_path)
    monkeypatch.setattr(fast_path, "query", made.query)
    monkeypatch.setattr(fast_path, "PROC", made.proc)
    return made


def hooked(hook, policy="accept", **properties):
    return {"hook": hook, "prio": 0, "type": "filter", "policy": policy, **properties}


def test_a_router_of_its_own_has_none(router):
    router.chains = {
        (*OWN, "prerouting"): (hooked("prerouting"), True), ("ip", "softwire_br_reassembly", "prerouting"): (hooked("prerouting"), True),
        ("inet", "filter", "input"): (hooked("input", "drop"), True), ("inet", "filter", "forward"): (hooked("forward"), False),
        ("inet", "filter", "helper"): ({}, True), ("bridge", "filter", "forward"): (hooked("forward"), True), ("ip", "nat", "output"): (hooked("output"), True),
        ("netdev", "limit", "lan"): (hooked("ingress", dev="lan"), True),
    }
    router.filters = {"inet": "filter protocol all pref 7593 bpf chain 0 \nfilter protocol ip pref 100 u32 chain 0 fh 800: ht divisor 1 \n"}
    router.qdiscs = {"inet": "qdisc fq_codel 0: root refcnt 2 limit 10240p\nqdisc clsact ffff: parent ffff:fff1 \n"}
    assert router.obstacles() == []


@pytest.mark.parametrize("place, properties, rules, said", [
    (("inet", "filter", "forward"), hooked("forward"), True, "has rules"),
    (("ip", "filter", "FORWARD"), hooked("forward", "drop"), False, "drops"),
    (("ip6", "raw", "PREROUTING"), hooked("prerouting"), True, "has rules"),
    (("ip", "nat", "postrouting"), hooked("postrouting"), True, "has rules"),
    (("netdev", "limit", "up"), hooked("ingress", dev="isp"), True, "has rules"),
    (("inet", "limit", "up"), hooked("ingress", dev=["lan", "inet"]), True, "has rules"),
    (("netdev", "limit", "anything"), hooked("ingress"), True, "has rules"),  # as nft 1.0.6 tells it
    (("inet", "softwire_two_guard", "prerouting"), hooked("prerouting"), True, "has rules"),
    (("ip", "softwire_br_guard", "prerouting"), hooked("prerouting"), True, "has rules"),
])
def test_chains_of_others(router, place, properties, rules, said):
    router.chains = {place: (properties, rules)}
    assert router.obstacles() == [f"nftables chain {' '.join(place)} {said}"]


def test_what_cannot_be_read_may_have_rules(router):
    router.is_broken = True
    assert router.obstacles() == ["the chains of nftables cannot be read"]


def test_tables_that_nftables_does_not_show(router):
    router.write("net/ip_tables_names", "nat\nfilter")
    router.write("net/ip6_tables_names", "")
    assert router.obstacles() == ["iptables-legacy has tables: filter, nat"]


@pytest.mark.parametrize("key, value, said", [
    ("inet", "1", ["rp_filter of inet is strict (1)"]), ("all", "1", []), ("all", "2", []), ("isp", "1", [])])
def test_a_strict_check_of_sources(router, key, value, said):
    """The greater of the two values counts, and 2 is the loose one; from the CEs the programs check."""
    router.write(f"sys/net/ipv4/conf/{key}/rp_filter", value)
    assert router.obstacles() == said


def test_ipsec(router):
    router.policies = "src 0.0.0.0/0 dst 10.0.0.0/8"
    assert router.obstacles() == ["there are IPsec policies"]


def test_filters_and_qdiscs_of_others(router):
    router.filters = {"isp": "filter protocol all pref 49152 matchall chain 0 \nfilter protocol all pref 49153 matchall chain 0 \n"}
    router.qdiscs = {"inet": "qdisc noqueue 0: root refcnt 2 \nqdisc ingress ffff: parent ffff:fff1 ---------------- \n"}
    assert router.obstacles() == [
        "inet has a qdisc ingress, beside which there is no clsact", "isp has a tc filter of its own on ingress (pref 49152)"]


def test_an_object_without_the_programs(router):
    (router.pins / "br_fast_in").unlink()
    assert router.obstacles() == ["there is no program br_fast_in"]
