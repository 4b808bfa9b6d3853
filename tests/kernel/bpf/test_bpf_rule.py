# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bpf_rule: bytes, names and refusals."""

from __future__ import annotations

import re

import pytest
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule
from bpf_objects import PROGRAMS
from domains import domain, rule, tunnel_domain
from kernel import INTERNAL, command


def enum(name, header="map.h"):
    """The names of an enum of the header, in their order."""
    text = re.sub(r"/\*.*?\*/", "", (PROGRAMS / header).read_text(encoding="utf-8"), flags=re.DOTALL)
    body = re.search(rf"enum {name} \{{(.*?)\}}", text, re.DOTALL).group(1)
    return [item.strip() for item in body.split(",") if item.strip()]


def test_the_counters_are_those_of_the_header():
    names = [name.removeprefix("MAP_").lower() for name in enum("counter")]
    assert names == [*bpf_rule.REASONS, "counters"]
    directions = [name.removeprefix("MAP_").lower() for name in enum("direction")]
    assert directions == ["in", "out"]
    assert bpf_rule.COUNTERS == [f"{direction}_{name}" for direction in directions for name in names[:-1]]


def test_the_napt_has_the_counters_and_flags_of_its_source():
    names = [name.removeprefix("NAPT_").lower() for name in enum("counter", "napt.bpf.c")]
    assert names == [*bpf_rule.NAPT_REASONS, "counters"]
    assert enum("direction", "napt.bpf.c") == ["NAPT_IN", "NAPT_OUT"]
    assert bpf_rule.NAPT_COUNTERS == [f"{direction}_napt_{name}" for direction in ("in", "out") for name in names[:-1]]
    assert enum("flag", "napt.bpf.c") == [
        f"NAPT_EXCHANGE = {bpf_rule.NAPT_EXCHANGE}", f"NAPT_STATIC = {bpf_rule.NAPT_STATIC}", f"NAPT_ROUTER = {bpf_rule.NAPT_ROUTER}",
        f"NAPT_SHARED = {bpf_rule.NAPT_SHARED}", f"NAPT_ETHERNET = {bpf_rule.NAPT_ETHERNET}"]


def test_the_flags_are_those_of_the_header():
    assert enum("rule_flag") == [
        f"MAP_DRAFT03 = {bpf_rule.DRAFT03}", f"MAP_FULL_ADDRESS = {bpf_rule.FULL_ADDRESS}", f"MAP_EXPLICIT_PSID = {bpf_rule.EXPLICIT_PSID}",
    ]


def test_an_entry():
    fields = domain(rule("2001:db8:ce::/51", "192.0.2.0/24", 13, 0))
    assert bpf_rule.rule_entry(fields["rules"][0], fields, INTERNAL) == {
        "key": "18 00 00 00 c0 00 02 00 00 00 00 00",
        "value": "20 01 0d b8 00 ce 00 00 20 01 0d b8 aa aa 00 00 00 00 00 00 00 00 00 00 33 18 0d 00 05 00 00 00",
        "comment": "192.0.2.0/24 at 2001:db8:ce::/51, 13 EA bits, PSID of 5 bits, offset 0, rfc7597",
    }


def test_an_entry_of_a_tunnel_has_the_first_br_address():
    fields = tunnel_domain(rule("2001:db8:ce::/51", "192.0.2.0/24", 4, 0), br=["2001:db8:ffff::1", "2001:db8:ffff::2"])
    assert bpf_rule.rule_entry(fields["rules"][0], fields) == {
        "key": "18 00 00 00 c0 00 02 00 00 00 00 00",
        "value": "20 01 0d b8 00 ce 00 00 20 01 0d b8 ff ff 00 00 00 00 00 00 00 00 00 01 33 18 04 00 00 00 00 00",
        "comment": "192.0.2.0/24 at 2001:db8:ce::/51, 4 EA bits, rfc7597",
    }
    assert bpf_rule.br_alias_entries(fields) == [{
        "key": "20 01 0d b8 ff ff 00 00 00 00 00 00 00 00 00 02 20 01 0d b8 ff ff 00 00 00 00 00 00 00 00 00 01",
        "value": "01",
        "comment": "2001:db8:ffff::2 is a BR address as 2001:db8:ffff::1 is",
    }]


def test_the_config():
    assert bpf_rule.config_value("2001:db8:ffff::/64", INTERNAL, True) == (
        "20 01 0d b8 ff ff 00 00 00 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff 00 00 00 00 00 00 00 00 "
        "20 01 0d b8 aa aa 00 00 00 00 00 00 01 00 00 00"
    )


def test_explicit_psid_rules_of_one_address_have_keys_of_their_own():
    fields = domain(*(rule(f"2001:db8:{psid}::/64", "192.0.2.1/32", 0, 6, (8, psid)) for psid in (5, 6)))
    entries = [bpf_rule.rule_entry(each, fields, INTERNAL) for each in fields["rules"]]
    assert [entry["key"] for entry in entries] == ["20 00 00 00 c0 00 02 01 00 00 00 00", "30 00 00 00 c0 00 02 01 00 06 00 00"]
    assert [entry["value"][-11:] for entry in entries] == ["08 04 00 05", "08 04 00 06"]
    assert entries[1]["comment"] == "192.0.2.1/32 at 2001:db8:6::/64, 0 EA bits, PSID 6 of 8 bits, offset 6, rfc7597"


@pytest.mark.parametrize("ipv6_prefix, ea_length", [("2001:db8::/56", 16), ("2001:db8::/80", 0)])
def test_end_user_prefixes_longer_than_64_are_refused(ipv6_prefix, ea_length):
    fields = domain(rule(ipv6_prefix, "192.0.2.0/24", ea_length, 6))
    with pytest.raises(ValueError, match=r"serves prefixes of at most /64; use a shorter prefix or fewer EA bits \(RFC 7597"):
        bpf_rule.rule_entry(fields["rules"][0], fields, INTERNAL)


def test_bpftool_takes_the_entries(relay, tmp_path):
    fields = domain(rule("2001:db8:ce::/51", "192.0.2.0/24", 13, 0))
    relay.configure(fields)
    rules, config = relay.maps["rules"], relay.maps["config"]
    (key,) = rules.keys()
    expected = rules.lookup(key), config.lookup(bytes(4))
    rules.clear()
    config.update(bytes(4), bytes(48))
    entry = bpf_rule.rule_entry(fields["rules"][0], fields, INTERNAL)
    value = bpf_rule.config_value(fields["dmr"], INTERNAL, False)
    batch = tmp_path / "batch"
    batch.write_text(
        f"# {entry['comment']}\n"
        f"map update pinned {relay.directory}/maps/rules key hex {entry['key']} value hex {entry['value']}\n"
        f"map update pinned {relay.directory}/maps/config key hex 00 00 00 00 value hex {value}\n",
        encoding="ascii",
    )
    command("bpftool", "batch", "file", str(batch), package="bpftool")
    assert (rules.lookup(key), config.lookup(bytes(4))) == expected
