# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which forwarding mapping rules a customer edge takes, and what the files of a MAP-E mesh say."""

from __future__ import annotations

import json
import re

import pytest
import role_variables
from role_variables import ip_lines

from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.isp import isp_mesh, services

MESH, TUNNEL = "ip6_tunnel_mesh", "ip6_tunnel"
ISP_PREFIXES = {"v6plus": "240b:10::/56", "ocn": "2400:4050::/56", "biglobe": "2404:7a82::/56", "nuro": "240d:f::/56"}
OTHER_RULE = {"ipv6_prefix": "2001:db8:4000::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16}
LONG_RULE = {"ipv6_prefix": "2001:db8:ff00::/56", "ipv4_prefix": "198.51.100.0/24", "ea_length": 12}


def variables(*fmrs, **changes):
    """A MAP-E customer edge in a domain of two rules; fmrs: of each, whether it is a forwarding one."""
    made = role_variables.mape("2001:db8:12:3400::/56", br_address=["2001:db8:ffff::1", "2001:db8:ffff::2"], rule={"ea_length": 16}, **changes)
    rules = [*made["domain"]["rules"], OTHER_RULE]
    return {**made, "domain": {**made["domain"], "rules": [{**rule, "fmr": fmr} for rule, fmr in zip(rules, fmrs)]}}


def made(*fmrs, **changes):
    return role_variables.ce_generations(**variables(*fmrs, **changes))


def object_of(files, name):
    loaded, = (each for each in json.loads(files["parameters.json"])["bpf"]["objects"] if each["name"] == name)
    return loaded


def mape(files):
    """What the programs of a generation are told: whether the customer edge sends directly, and the rules' comments."""
    loaded = object_of(files, "mape")
    config, = (bytes.fromhex(entry["value"]) for entry in loaded["entries"] if entry["map"] == "config")
    return config[56] == 1, [entry["comment"].split(" at ")[0] for entry in loaded["entries"] if entry["map"] == "rules"]


@pytest.mark.parametrize("fmrs, mesh, names, rules", [
    ((False, False), "auto", [TUNNEL], None),
    ((True, False), "auto", [MESH, TUNNEL], ["192.0.2.0/24"]),
    ((True, True), "auto", [MESH, TUNNEL], ["192.0.2.0/24", "198.51.100.0/24"]),
    ((False, False), True, [MESH], ["192.0.2.0/24", "198.51.100.0/24"]),
    ((False, True), "true", [MESH], ["192.0.2.0/24", "198.51.100.0/24"]),
    ((True, True), False, [TUNNEL], None),
    ((True, True), "false", [TUNNEL], None),
])
def test_the_variable_and_the_domain_say_which_rules_forward(fmrs, mesh, names, rules):
    generations = made(*fmrs, mesh=mesh)
    assert list(generations) == names
    if rules:
        assert mape(generations[MESH]) == (True, rules)
        assert json.loads(generations[MESH]["parameters.json"])["ce"]["fmrs"]


@pytest.mark.parametrize("mesh, rules", [("auto", 1), (True, 2), (False, 0)])
def test_it_is_map_ts_as_well(mesh, rules):
    domain = {**role_variables.TUTORIAL, "rules": [{**role_variables.TUTORIAL["rules"][0], "fmr": True}, OTHER_RULE]}
    generations = role_variables.ce_generations(domain=domain, mesh=mesh)
    entries = object_of(generations["bpf"], "translate")["entries"]
    assert len([entry for entry in entries if entry["map"] == "rules"]) == rules
    assert len(json.loads(generations["jool_mapt"]["main/jool.json"])["fmrt"]) == rules
    assert ("from_rule" in generations["bpf"]["main/guard.nft"]) == bool(rules)


@pytest.mark.parametrize("mesh, fault", [
    ("sometimes", "map_ce_mesh: 'sometimes': must be one of auto, true, false"), (1, "map_ce_mesh: 1: "), (None, "map_ce_mesh: ")])
def test_other_values_are_refused(mesh, fault):
    with pytest.raises(MapError, match=re.escape(fault)):
        role_variables.ce_alternatives(role_variables.ce(**variables(True, True), mesh=mesh))


@pytest.mark.parametrize("changes, reason", [
    ({"network_backend": "networkd", "napt_namespace": ""}, "is not for map_ce_network_backend: networkd"),
    ({"domain": {**variables()["domain"], "rules": [variables(True)["domain"]["rules"][0], {**LONG_RULE, "fmr": True}]}}, "needs rules with"),
])
def test_what_cannot_mesh_goes_by_the_border_relay_or_is_refused(changes, reason):
    assert list(role_variables.ce_generations(**{**variables(True, True), **changes})) == [TUNNEL]
    with pytest.raises(MapError, match=f"map_ce_mesh: True: {reason}.*leave it to auto"):
        role_variables.ce_alternatives(role_variables.ce(**{**variables(True, True), **changes, "mesh": True}))


@pytest.mark.parametrize("isp", sorted(services()))
def test_a_line_of_an_isp_takes_from_all_its_customer_edges(isp):
    """And sends to them where they are known to do so, or where somebody says it."""
    line = {"domain": {}, "isp": isp, "end_user_prefix": ISP_PREFIXES[isp], "lan_addresses": ["192.168.0.1/24"]}
    files = role_variables.ce_generations(**line)[MESH]
    sends, rules = mape(files)
    assert sends is services()[isp]["mesh"] is (isp == "v6plus")
    assert len(rules) == len(services()[isp]["rules"]) == len(isp_mesh(isp)[0])
    assert mape(role_variables.ce_generations(**line, mesh=True)[MESH])[0] is True
    assert list(role_variables.ce_generations(**line, mesh=False)) == [TUNNEL]
    # One rule of the guard for all: no packet is compared with each.
    assert files["main/guard.nft"].count('"from_rule" accept') == 1


@pytest.mark.parametrize("isp", sorted(services()))
def test_each_isp_has_evidence(isp):
    assert services()[isp]["mesh"] in (True, False) and services()[isp]["mesh_evidence"].endswith(".")


LAYOUTS = pytest.mark.parametrize("napt", ["napt", ""])


@LAYOUTS
def test_a_mesh_that_is_switched_off_is_none(napt):
    """All that differs is what the domain says of its rules."""
    switched_off, never = made(True, True, mesh=False, napt_namespace=napt)[TUNNEL], made(False, False, napt_namespace=napt)[TUNNEL]
    assert {path for path in never if switched_off[path] != never[path]} == {"parameters.json"} and set(switched_off) == set(never)


@LAYOUTS
def test_the_tunnel_comes_up_once_its_programs_are_there(napt):
    generations = made(True, True, napt_namespace=napt)
    files, static = generations[MESH], generations[TUNNEL]
    links = [line for line in ip_lines(files, "main/ip") if "ce-tun" in line]
    assert links[:2] == [["link", "add", "ce-tun", "type", "ip6tnl", "external", "mode", "ipip6"],
                         ["link", "set", "dev", "ce-tun", "mtu", "1460", "addrgenmode", "none"]]
    assert ip_lines(files, "main/ip-late")[0] == ["link", "set", "dev", "ce-tun", "up"]
    # Otherwise the same addresses, routes and rules as without a mesh.
    assert files["main/ip-late"] == static["main/ip-late"]
    assert [line for line in ip_lines(files, "main/ip") if line not in links[:2]] == [
        line for line in ip_lines(static, "main/ip") if line[0] != "link" or "ce-tun" not in line]
    attached = [(line.split()[4], int(line.split()[6]), line.split("/")[-1]) for line in files["main/tc"].splitlines() if line.startswith("filter")]
    # The NAPT's end is nearer to the LAN.
    assert [[name for hook, _preference, name in sorted(attached) if hook == way] for way in ("egress", "ingress")] == [
        ["napt_out", "mesh_out"], ["mesh_in", "napt_in"]]
    assert isinstance(files["main/mape.bpf.o"], bytes) and "main/mape.bpf.o" not in static


def test_what_the_machine_needs():
    settings = json.loads(made(True, True)[MESH]["instance.json"])
    assert (settings["minimum_kernel"], settings["kernel_modules"], settings["bpf"]) == ("5.19", ["ip6_tunnel"], True)
    assert {"tc", "bpftool"} <= set(settings["commands"])
    assert json.loads(made(True, True)[TUNNEL]["instance.json"])["minimum_kernel"] == "5.10"


def test_the_guard_leaves_other_customer_edges_to_the_program():
    generations = made(True, True)
    mesh, static = (generations[name]["main/guard.nft"] for name in (MESH, TUNNEL))
    prefixes = "2001:db8::/40, 2001:db8:4000::/40"
    assert 'ip6 saddr { 2001:db8:ffff::1, 2001:db8:ffff::2 } counter name "from_relay" accept' in mesh
    assert f'ip6 saddr {{ {prefixes} }} meta l4proto 4 counter name "from_rule" accept' in mesh
    assert 'ip6 saddr { 2001:db8:ffff::1 } counter name "from_relay" accept' in static and "from_rule" not in static
    bypassed = r"ip6 daddr \{ ([^}]*) \} meta l4proto 4 counter name .softwire_bypassed. drop"
    assert re.search(bypassed, mesh)[1] == prefixes + ", 2001:db8:ffff::1/128, 2001:db8:ffff::2/128"


def test_a_border_relay_inside_a_rule_makes_no_set_that_overlaps():
    domain = {**variables()["domain"], "br_address": "2001:db8:12::1", "rules": [{**variables(True)["domain"]["rules"][0], "fmr": True}]}
    guard = role_variables.ce_generations(**{**variables(), "domain": domain})[MESH]["main/guard.nft"]
    assert "ip6 daddr { 2001:db8::/40 } meta l4proto 4" in guard


def test_256_rules():
    rules = [{"ipv6_prefix": f"2001:db8:{number:x}::/48", "ipv4_prefix": f"10.0.{number}.0/24", "ea_length": 16, "fmr": True} for number in range(256)]
    domain = {**variables()["domain"], "rules": rules}
    files = role_variables.ce_generations(**{**variables(), "domain": domain, "end_user_prefix": "2001:db8:0:1200::/64"})[MESH]
    assert len(mape(files)[1]) == 256
