# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the variables of the role map_br to a generation: every refusal with its text, and what the files say."""

from __future__ import annotations

import ipaddress
import json

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.routers import border_relay, br_variables
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import Faults, MapError, MapErrors

TUTORIAL = role_variables.TUTORIAL
MAP_E = {"transport": "map-e", "br_address": "2001:db8:ffff::1",
         "rules": [{"ipv6_prefix": "2001:db8:5000::/40", "ipv4_prefix": "203.0.113.0/24", "ea_length": 16}]}
EXPLICIT = role_variables.BR_CASES["explicit_psids"]["domains"]


def other(**rule):
    """A second domain beside the tutorial's."""
    return {"transport": "map-t", "dmr": TUTORIAL["dmr"],
            "rules": [{"ipv6_prefix": "2001:db8:4000::/40", "ipv4_prefix": "198.51.100.0/24", "ea_length": 16, **rule}]}


# variables -> path, value and a part of the reason
REFUSALS = {
    "no domains": ({"domains": []}, "map_br_domains", "[]", "is required"),
    "domains not a list": ({"domains": TUTORIAL}, "map_br_domains", "{", "must be a list"),
    "no domain in the inventory": ({"domains": [{}]}, "map_br_domains[0]", "{}", "is required"),
    "wrong rule": (
        {"domains": [TUTORIAL, other(ea_length=49)]}, "map_br_domains[1].rules[0].ea_length", "49", "between 0 and 48"),
    "map-e": ({"domains": [TUTORIAL, MAP_E]}, "map_br_domains[1].transport", "'map-e", "map-t"),
    "two DMRs": (
        {"domains": [TUTORIAL, {**other(), "dmr": "2001:db8:ffff::/64"}]}, "map_br_domains[1].dmr", "'2001:db8:ffff::/64",
        "differs from map_br_domains[0].dmr, 64:ff9b::/96"),
    "one IPv4 prefix in two domains": (
        {"domains": [TUTORIAL, other(ipv4_prefix="192.0.2.128/25")]}, "map_br_domains[1].rules[0].ipv4_prefix", "'192.0.2.128/25",
        "overlaps 192.0.2.0/24 of map_br_domains[0].rules[0]"),
    "a prefix too long for the programs": (
        {"domains": [TUTORIAL, other(ipv6_prefix="2001:db8:4000::/56")]}, "map_br_domains[1].rules[0]", "'2001:db8:4000::/56",
        "at most /64"),
    "translator": ({"translator": "ebpf"}, "map_br_translator", "'ebpf", "must be one of auto, bpf, jool_mapt, jool_siit"),
    "explicit PSID": ({"domains": EXPLICIT, "translator": "jool_mapt"}, "map_br_translator", "'jool_mapt", "use bpf or jool_siit"),
    "instance": ({"instance": "relay-1"}, "map_br_instance", "'relay-1", "at most 10 characters"),
    "internal IPv4": ({"internal_prefix": "10.0.0.0/8"}, "map_br_internal_prefix", "'10.0.0.0/8", "must be an IPv6 prefix"),
    "internal length": ({"internal_prefix": "fd00::/64"}, "map_br_internal_prefix", "'fd00::/64", "must be a /96 with bits 64 to 71 zero"),
    "internal bits 64 to 71": (
        {"internal_prefix": "fd00:0:0:0:100::/96"}, "map_br_internal_prefix", "'fd00::100:0:0:0/96", "must be a /96 with bits 64 to 71 zero"),
    "internal is the DMR": ({"internal_prefix": "64:ff9b::/96"}, "map_br_internal_prefix", "'64:ff9b::/96", "overlaps the DMR 64:ff9b::/96"),
    "internal in a rule": (
        {"internal_prefix": "2001:db8:ce:1::/96"}, "map_br_internal_prefix", "'2001:db8:ce:1::/96", "overlaps the rule 2001:db8:ce::/51"),
    "no IPv4 interface": ({"ipv4_interface": ""}, "map_br_ipv4_interface", "''", "is required"),
    "no IPv6 interface": ({"ipv6_interface": None}, "map_br_ipv6_interface", "not set", "is required"),
    "interface": ({"ipv6_interface": "enp 1"}, "map_br_ipv6_interface", "'enp 1", "the name of a network interface"),
    "mtu": ({"ipv6_mtu": 1200}, "map_br_ipv6_mtu", "1200", "between 1280 and 65535"),
    "fast path": ({"fast_path": "on"}, "map_br_fast_path", "'on", "must be one of auto, true, false"),
    "mss word": ({"mss": "on"}, "map_br_mss", "'on", "must be auto or off, or an integer between 536 and 1460"),
    "mss true": ({"mss": True}, "map_br_mss", "True", "must be auto or off, or an integer between 536 and 1460"),
    "mss small": ({"mss": 535}, "map_br_mss", "535", "between 536 and 1460"),
    "mss large": ({"mss": "1461"}, "map_br_mss", "'1461", "between 536 and 1460"),
    "dscp": ({"dscp": 64}, "map_br_dscp", "64", "must be copy, or an integer between 0 and 63"),
    "dscp name": ({"dscp": "ef"}, "map_br_dscp", "'ef", "must be copy, or an integer between 0 and 63"),
    "dscp with Jool": ({"dscp": 0, "translator": "jool_siit"}, "map_br_dscp", "0", "cannot be set with Jool, which loses DSCP; use map_br_translator: bpf"),
    "source of errors": ({"icmp_source": "2001:db8::1"}, "map_br_icmp_source", "'2001:db8::1", "must be an IPv4 address"),
    "source of errors that nobody has": ({"icmp_source": "127.0.0.1"}, "map_br_icmp_source", "'127.0.0.1", "is no address that a host on"),
    "multicast source of errors": ({"icmp_source": "224.0.0.1"}, "map_br_icmp_source", "'224.0.0.1", "is no address that a host on the internet can have"),
    "source of errors in a rule": (
        {"icmp_source": "192.0.2.1"}, "map_br_icmp_source", "'192.0.2.1", "lies in 192.0.2.0/24 of map_br_domains[0].rules[0]"),
    "memory": ({"reassembly_memory": 3}, "map_br_reassembly_memory", "3", "between 4 and 4096"),
    "time": ({"reassembly_time": 31}, "map_br_reassembly_time", "31", "between 1 and 30"),
    "object of which": ({"bpf_object": "/no/such.o"}, "map_br_bpf_object", "'/no/such.o", "has the programs of one translator; say which"),
    "object": ({"bpf_object": "/no/such.o", "translator": "bpf"}, "map_br_bpf_object", "'/no/such.o", "cannot be read on the controller: No such file"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    variables, path, value, reason = REFUSALS[name]
    with pytest.raises(MapError) as caught:
        role_variables.br_alternatives(role_variables.br(**variables))
    assert str(caught.value).startswith(f"{path}: {value}"), str(caught.value)
    assert reason in str(caught.value)


def test_every_fault_of_every_domain_is_listed_at_once():
    same_prefixes = {"transport": "map-t", "dmr": "2001:db8:ffff::/64", "rules": [{**TUTORIAL["rules"][0], "fmr": "on"}, TUTORIAL["rules"][0]]}
    with pytest.raises(MapErrors) as caught:
        role_variables.br_alternatives(role_variables.br(domains=[TUTORIAL, MAP_E, same_prefixes]))
    assert [fault.path for fault in caught.value.faults] == [
        "map_br_domains[2].rules[0].fmr", "map_br_domains[2].rules[1].ipv6_prefix", "map_br_domains[2].rules[1].ipv4_prefix",
        "map_br_domains[1].transport", "map_br_domains[2].dmr",
    ]
    assert "is the prefix of map_br_domains[0].rules[0] too" in str(caught.value)


def test_explicit_psids_of_one_address_in_two_domains():
    one, two = ({**EXPLICIT[0], "rules": [rule]} for rule in EXPLICIT[0]["rules"])
    faults = Faults()
    assert br_variables.domains_of([one, two], faults)[1]["rules"][0]["psid"] == 2 and faults.found == []
    br_variables.domains_of([one, {**two, "rules": [{**two["rules"][0], "psid": 1}]}], faults)
    assert [fault.reason for fault in faults.found] == [
        "is the PSID of map_br_domains[0].rules[0] too: both would have the same ports of 192.0.2.1/32"]


def test_what_is_odd_is_a_warning():
    warned = []
    br_variables.domains_of([{**MAP_E, "br_address": "2001:db8:5000::1"}], Faults(), warned.append)
    assert warned == ["map_br_domains[0].br_address: '2001:db8:5000::1': lies in 2001:db8:5000::/40 of map_br_domains[0].rules[0]: "
                      "never delegate the end-user prefix around it"]


@pytest.mark.parametrize("variable", sorted(role_variables.br()))
@pytest.mark.parametrize("value", [None, 5, "\u00b2", [None], {"a": 1}, ["x"], [{}]], ids=str)
def test_no_value_ends_in_a_traceback(variable, value, monkeypatch):
    monkeypatch.setattr(border_relay.render, "generation", lambda *_arguments: {})
    try:
        role_variables.br_alternatives(role_variables.br(**{variable: value}))
    except MapError as exc:
        assert "map_br_" in exc.path


@pytest.fixture(params=role_variables.BR_CASES)
def generations(request):
    return role_variables.br_generations(**role_variables.BR_CASES[request.param])


def test_every_file_is_made(generations):
    for name, files in generations.items():
        programs = "main/translate.bpf.o" if name == "bpf" else "main/mapt.bpf.o"
        assert set(files) == {
            "instance.json", "parameters.json", *role_variables.PROGRAMS, "main/ip", "main/sysctl", "main/guard.nft",
            "main/bpftool", "main/tc", programs, *(("main/ip-late", "main/fast") if name == "bpf" else ("main/jool.json",))}
        assert files[programs][:4] == b"\x7fELF"


def test_each_translator_is_in_its_settings(generations):
    for name, files in generations.items():
        settings = json.loads(files["instance.json"])
        if name == "bpf":
            assert (settings["jool"], settings["kernel_modules"], settings["bpf"]) == (None, [], True)
        else:
            assert settings["jool"] == name and settings["kernel_modules"] == [name] and name in settings["commands"]
        assert settings["minimum_kernel"] == "5.19"
        assert settings["interfaces"]["isp"] == {"variable": "map_br_ipv6_interface", "mtu": 1500, "mtu_variable": "map_br_ipv6_mtu"}


def test_the_programs_know_every_rule_and_only_check_beside_jool_mapt(generations):
    for name, files in generations.items():
        domains = json.loads(files["parameters.json"])["domains"]
        updates = [line.split() for line in files["main/bpftool"].splitlines() if line.startswith("map update")]
        config = [words for words in updates if words[3].endswith("/config")]
        assert len(config) == 1
        assert len([words for words in updates if words[3].endswith("/rules")]) == sum(len(domain["rules"]) for domain in domains)
        if name == "bpf":
            assert "/br_in\n" in files["main/tc"] and "/br_out\n" in files["main/tc"]
            continue
        assert config[0][-4] == ("01" if name == "jool_mapt" else "00")
        assert "mapt_in" in files["main/tc"]
        assert ("mapt_out" in files["main/tc"]) is (name == "jool_siit")


def test_every_ipv4_prefix_ends_here(generations):
    for files in generations.values():
        domains = json.loads(files["parameters.json"])["domains"]
        for prefix in {rule["ipv4_prefix"] for domain in domains for rule in domain["rules"]}:
            assert files["main/ip"].count(f"route add blackhole {prefix} ") == 1
            assert files["main/guard.nft"].count(f'ip saddr {prefix} counter name "own_prefix" drop') == 1


@pytest.mark.parametrize("case", sorted(set(role_variables.BR_CASES) - {"jool_mapt"}))
def test_jool_siit_has_an_entry_per_ipv4_prefix_inside_the_internal_one(case):
    files = role_variables.br_generations(**role_variables.BR_CASES[case])["jool_siit"]
    jool, parameters = json.loads(files["main/jool.json"]), json.loads(files["parameters.json"])
    internal = ipaddress.ip_network(parameters["internal_prefix"])
    assert [entry["ipv4 prefix"] for entry in jool["eamt"]] == [entry["ipv4"] for entry in parameters["ipv4_prefixes"]]
    for entry in jool["eamt"]:
        ipv4, ipv6 = ipaddress.ip_network(entry["ipv4 prefix"]), ipaddress.ip_network(entry["ipv6 prefix"])
        assert ipv6.subnet_of(internal) and 32 - ipv4.prefixlen == 128 - ipv6.prefixlen
        assert int(ipv6.network_address) & 0xFFFFFFFF == int(ipv4.network_address)
        assert f"route add {ipv6} via " in files["main/ip"] or f"route add {ipv6.network_address} via " in files["main/ip"]
    assert jool["global"]["pool6"] == parameters["dmr"] and jool["global"]["lowest-ipv6-mtu"] == parameters["ipv6_mtu"]


def test_jool_gets_no_packet_with_ect_1(generations):
    """It would lose them where the internet is behind a gateway."""
    for name, files in generations.items():
        rule = f"ip6 daddr {TUTORIAL['dmr']} ip6 ecn ect1 ip6 ecn set ect0"
        assert files["main/guard.nft"].count(rule) == (1 if name in ("jool_siit", "jool_mapt") else 0)


def test_jool_mapt_has_the_rules():
    files = role_variables.br_generations(**role_variables.BR_CASES["two_domains"], translator="jool_mapt")["jool_mapt"]
    jool = json.loads(files["main/jool.json"])
    assert jool["fmrt"] == [
        {"ipv6 prefix": "2001:db8:ce::/51", "ipv4 prefix": "192.0.2.0/24", "ea-bits length": 13, "a": 0},
        {"ipv6 prefix": "2001:db8:4000::/40", "ipv4 prefix": "198.51.100.0/24", "ea-bits length": 16, "a": 4},
        {"ipv6 prefix": "2001:db8:5000::/40", "ipv4 prefix": "203.0.113.0/24", "ea-bits length": 4, "a": 4},
    ]
    assert jool["global"] == {"pool6": "64:ff9b::/96", "lowest-ipv6-mtu": 1280, "map-t-type": "BR"}


@pytest.mark.parametrize("translator, case, names", [
    ("auto", "tutorial", ["bpf", "jool_siit"]), ("auto", "explicit_psids", ["bpf", "jool_siit"]),
    ("jool_siit", "tutorial", ["jool_siit"]), ("jool_mapt", "tutorial", ["jool_mapt"])])
def test_only_who_asks_for_jool_mapt_gets_it(translator, case, names):
    assert list(role_variables.br_generations(**role_variables.BR_CASES[case], translator=translator)) == names


def test_one_interface_is_named_once():
    files = role_variables.br_generations(**role_variables.BR_CASES["one_interface"])["jool_siit"]
    assert files["main/sysctl"].count("accept_ra") == 1
    assert list(json.loads(files["instance.json"])["interfaces"]) == ["isp"]


def test_the_tunnel_has_one_neighbour_for_all_addresses():
    """Without a gateway each IPv4 address in use is an entry of the neighbour table."""
    files = role_variables.br_generations(domains=[MAP_E])["ip6_tunnel"]
    assert "route add 203.0.113.0/24 via 192.0.0.8 dev br-tun onlink\n" in files["main/ip-late"]


@pytest.mark.parametrize("fast_path, place", [("auto", "main/fast"), (True, "main/tc"), ("true", "main/tc"), (False, None), ("false", None)])
@pytest.mark.parametrize("case, carrier, names", [
    ({"domains": [MAP_E]}, "ip6_tunnel", ("mape_fast_out", "mape_fast_in")), ({}, "bpf", ("br_fast_out", "br_fast_in")), ({}, "jool_siit", None)])
def test_who_decides_on_the_fast_path(fast_path, place, case, carrier, names):
    """With auto the router does, by a file of its own; what has one object's programs on one interface has two places there."""
    for interface in ("isp", "inet"):
        files = role_variables.br_generations(**case, ipv4_interface=interface, fast_path=fast_path)[carrier]
        found = {path: [line.split() for line in files[path].splitlines() if "_fast_" in line and line[0] != "#"]
                 for path in ("main/fast", "main/tc") if path in files}
        assert {path for path, lines in found.items() if lines} == ({place} if place and names else set())
        if place and names:
            to, back = found[place]
            assert (to[3], to[-1].rsplit("/", 1)[1], back[3], back[-1].rsplit("/", 1)[1]) == (interface, names[0], "isp", names[1])
            assert to[6] != back[6]


@pytest.mark.parametrize("variables, carrier, mss", [
    ({}, "bpf", 1432), ({}, "jool_siit", 1440), ({"domains": [MAP_E]}, "ip6_tunnel", 1420), ({"ipv6_mtu": 9000}, "bpf", 8932),
    ({"mss": 1300}, "bpf", 1300), ({"mss": "536"}, "jool_siit", 536), ({"mss": "off"}, "bpf", None), ({"mss": False}, "jool_siit", None)])
def test_the_mss_is_what_fits_the_softwire_or_what_is_wanted(variables, carrier, mss):
    """YAML reads off as false."""
    files = role_variables.br_generations(**variables)[carrier]
    assert json.loads(files["parameters.json"])["mss"] == mss
    assert f"tcp option maxseg size > {mss} tcp option maxseg size set {mss} counter name \"mss_lowered\"\n" in files["main/guard.nft"] or mss is None
    assert ("maxseg" in files["main/guard.nft"]) is (mss is not None)


def treatment(files):
    """What the programs are told: DSCP of IPv6, and whether netfilter lowers the MSS."""
    (line,) = [line for line in files["main/bpftool"].splitlines() if "/maps/treatment " in line]
    return line.rsplit(" value hex ", 1)[1]


@pytest.mark.parametrize("variables, value", [
    ({}, "00 00 01 00"), ({"mss": "off"}, "00 00 00 00"), ({"dscp": 0}, "01 00 01 00"), ({"dscp": "46", "mss": False}, "01 b8 00 00"),
    ({"dscp": 63}, "01 fc 01 00")])
@pytest.mark.parametrize("carrier, case", [("bpf", {}), ("ip6_tunnel", {"domains": [MAP_E]})])
def test_the_programs_are_told_what_is_wanted(variables, value, carrier, case):
    assert treatment(role_variables.br_generations(**case, **variables)[carrier]) == value


def test_where_a_dscp_is_wanted_jool_is_no_alternative():
    assert list(role_variables.br_generations(dscp=46)) == ["bpf"]


@pytest.mark.parametrize("variables, source, expected", [({}, "c0 00 00 08", None), ({"icmp_source": "198.51.100.66"}, "c6 33 64 42", "198.51.100.66/32")])
def test_translators_report_errors_of_ipv6_routers_from_the_address_that_is_wanted(variables, source, expected):
    files = role_variables.br_generations(**variables)
    (config,) = [line for line in files["bpf"]["main/bpftool"].splitlines() if "/maps/config " in line]
    assert config.endswith(f"{source} dc 05 00 00 00 00 00 00")
    mapt = role_variables.br_generations(translator="jool_mapt", **variables)["jool_mapt"]
    for made in (files["jool_siit"], mapt):
        assert json.loads(made["main/jool.json"])["global"].get("rfc6791v4-prefix") == expected


def test_errors_about_every_rule_get_the_source_that_is_wanted():
    for carrier, case in (("bpf", {}), ("jool_siit", {}), ("ip6_tunnel", {"domains": [MAP_E]})):
        rules = role_variables.br_generations(**case, icmp_source="198.51.100.66")[carrier]["main/guard.nft"]
        prefix, bits = ("203.0.113.0/24", "0xcb0071") if case else ("192.0.2.0/24", "0xc00002")
        assert f'ip daddr {prefix} ip saddr set 198.51.100.66 counter name "icmp_source" accept\n' in rules
        assert f'@th,192,24 {bits} ip saddr set 198.51.100.66 counter name "icmp_source" accept\n' in rules
        assert "icmp_source" not in role_variables.br_generations(**case)[carrier]["main/guard.nft"]


@pytest.mark.parametrize("case, carrier, ipv6", [
    ({"domains": [MAP_E]}, "ip6_tunnel", ("net/ipv6/ip6frag_high_thresh", "net/ipv6/ip6frag_time")),
    ({}, "bpf", ("net/netfilter/nf_conntrack_frag6_high_thresh", "net/netfilter/nf_conntrack_frag6_timeout")), ({}, "jool_siit", None)])
@pytest.mark.parametrize("variables, values", [({}, (64 << 20, 15)), ({"reassembly_memory": 4, "reassembly_time": 30}, (4194304, 30))])
def test_reassembly_has_the_limits_that_are_wanted(case, carrier, ipv6, variables, values):
    settings = dict(line.split(" = ") for line in role_variables.br_generations(**case, **variables)[carrier]["main/sysctl"].splitlines() if " = " in line)
    found = {name: value for name, value in settings.items() if "frag" in name}
    names = ("net/ipv4/ipfrag_high_thresh", "net/ipv4/ipfrag_time", *ipv6) if ipv6 else ()
    assert found == dict(zip(names, map(str, values * 2)))


def test_the_tunnel_needs_a_kernel_whose_tunnel_keys_have_the_source():
    files = role_variables.br_generations(domains=[MAP_E])["ip6_tunnel"]
    assert json.loads(files["instance.json"])["minimum_kernel"] == "5.19"
