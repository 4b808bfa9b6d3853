# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a router lacks of a generation, with what the tools print pretended."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import drift, keeper, paths

SETTINGS = {"namespaces": ["napt"], "networkd": None, "jool": "jool_siit", "interfaces": {"eth0": {}, "lan": {"move": "napt"}}}
FILES = {
    "main/guard.nft": "table inet softwire_ce_guard {\n}\n",
    "main/ip": "# a comment\nlink add ce-veth type veth peer name ce-main netns napt\n",
    "main/ip-late": "addr add 192.0.0.1/29 dev ce-veth\naddr add 2001:db8::1/128 dev ce-veth nodad\n",
    "main/tc": "qdisc add dev eth0 clsact\nfilter add dev eth0 ingress pref 7599 bpf da object-pinned /run/x/a_long_name_of_a_program\n",
    "main/jool.json": '{"instance": "ce"}',
    "napt/napt.nft": "table ip softwire_ce_napt {\n}\n",
    "napt/ip": "addr add 192.0.0.2/29 dev ce-main\n",
}
MACHINE = {
    "main": {"tables": [("inet", "softwire_ce_guard"), ("ip", "filter")], "ce-veth": ["192.0.0.1", "2001:db8::1"], "eth0": []},
    "napt": {"tables": [("ip", "softwire_ce_napt")], "ce-main": ["192.0.0.2"], "lan": []},
    "translators": ["ce"],
    "clsact": ["eth0"],
    "programs": {("eth0", "ingress"): [(7599, "a_long_name_of_")]},
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """What there is: tables, links and their addresses by namespace, and the translator's instances."""
    made = copy.deepcopy(MACHINE)

    def query(argv):
        there = made[argv[1].rsplit("/", 1)[1]] if argv[0] == "nsenter" else made["main"]
        argv = argv[2:] if argv[0] == "nsenter" else argv
        if argv == ["nft", "-j", "list", "tables"]:
            tables = [{"table": {"family": family, "name": name}} for family, name in there["tables"]]
            return {"nftables": [{"metainfo": {}}, *tables]}
        if argv[:4] == ["tc", "-j", "qdisc", "show"]:
            return [{"kind": "noqueue"}, *({"kind": "clsact"} for _each in made["clsact"])]
        if argv[:5] == ["tc", "-j", "filter", "show", "dev"]:
            found = made["programs"].get(tuple(argv[5:]), [])
            return [entry for preference, name in found for entry in (
                {"pref": preference, "kind": "bpf"}, {"pref": preference, "kind": "bpf", "options": {"prog": {"name": name}}})]
        assert argv == ["ip", "-j", "addr"]
        return [{"ifname": name, "addr_info": [{"local": text} for text in found]} for name, found in there.items() if name != "tables"]

    def succeeds(argv):
        assert argv[0] == "jool_siit" and argv[3:] == ["global", "display"]
        return argv[2] in made["translators"]

    monkeypatch.setattr(drift, "NAMESPACES", tmp_path / "netns")
    (tmp_path / "netns" / "napt").mkdir(parents=True)
    monkeypatch.setattr(drift, "query", query)
    monkeypatch.setattr(drift, "succeeds", succeeds)
    return made


@pytest.fixture
def generation(tmp_path):
    def write(**settings):
        for path, text in FILES.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        return SimpleNamespace(directory=tmp_path, settings={**SETTINGS, **settings}, namespaces=["main", "napt"])

    return write


def test_nothing_is_missing(machine, generation):
    assert drift.missing(generation()) == []


@pytest.mark.parametrize("take, fault", [
    (lambda there: there["main"]["tables"].pop(0), "nftables table inet softwire_ce_guard (namespace main): missing"),
    (lambda there: there["napt"]["tables"].clear(), "nftables table ip softwire_ce_napt (namespace napt): missing"),
    (lambda there: there["main"]["ce-veth"].remove("2001:db8::1"), "address 2001:db8::1/128 (namespace main): missing"),
    (lambda there: there["main"].pop("eth0"), "interface eth0 (namespace main): missing"),
    (lambda there: there["main"].update({"lan": there["napt"].pop("lan")}), "interface lan (namespace napt): missing"),
    (lambda there: there["napt"].pop("ce-main"), "address 192.0.0.2/29 (namespace napt): missing"),
    (lambda there: there["clsact"].clear(), "clsact of eth0 (namespace main): missing"),
    (lambda there: there["programs"].clear(), "program a_long_name_of_a_program on eth0 ingress (namespace main): missing"),
    (lambda there: there["programs"].update({("eth0", "ingress"): [(7599, "another")]}),
     "program a_long_name_of_a_program on eth0 ingress (namespace main): missing"),
    (lambda there: there["programs"].update({("eth0", "ingress"): [(7600, "a_long_name_of_")]}),
     "program a_long_name_of_a_program on eth0 ingress (namespace main): missing"),
    (lambda there: there["translators"].clear(), "translator instance ce (namespace main): missing"),
])
def test_what_is_missing_is_named(machine, generation, take, fault):
    take(machine)
    assert drift.missing(generation()) == [fault]


def test_a_link_that_is_missing_lacks_its_addresses_too(machine, generation):
    del machine["main"]["ce-veth"]
    assert drift.missing(generation()) == [
        f"{what} (namespace main): missing" for what in ("link ce-veth", "address 192.0.0.1/29", "address 2001:db8::1/128")]


def test_a_namespace_that_is_gone_takes_all_with_it(machine, generation):
    (drift.NAMESPACES / "napt").rmdir()
    assert drift.missing(generation()) == ["namespace napt: missing"]
    assert drift.absent_interfaces(generation()) == ["lan"]


def test_an_interface_may_be_in_any_namespace_of_the_instance(machine, generation):
    assert drift.absent_interfaces(generation()) == []
    machine["main"]["lan"] = machine["napt"].pop("lan")
    assert drift.absent_interfaces(generation()) == []
    del machine["main"]["lan"]
    assert drift.absent_interfaces(generation()) == ["lan"]


def test_a_tunnel_of_systemd_networkd(machine, generation):
    made = generation(networkd={"device": "ce-tun", "wan": "eth0", "address": "2001:db8::1"})
    assert drift.missing(made) == ["link ce-tun (namespace main): missing"]
    machine["main"]["ce-tun"] = []
    assert drift.missing(made) == []


@pytest.mark.parametrize("torn", ["", '{"format": 1, "dig'])
def test_what_a_power_cut_has_torn_is_as_none(torn, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUN", tmp_path)
    instance = paths.Paths("ce")
    instance.run_dir.mkdir()
    monkeypatch.setattr(drift, "digests", lambda generation: {"BPF map rules": "aa"})
    instance.loaded.write_text(torn)
    instance.repairs.write_text(torn)
    assert drift.changed_contents(SimpleNamespace(paths=instance)) == ["BPF map rules"]
    assert keeper.repairs(instance) == {"repairs": 0, "failures": 0, "in_a_row": 0, "last": "", "time": None}
