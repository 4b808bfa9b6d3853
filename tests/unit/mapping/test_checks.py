# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single values: what passes, in its canonical form, and what does not."""

from __future__ import annotations

import pytest

from ansible_collections.softwire.map.plugins.module_utils.mapping import checks
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import NO_VALUE, Faults, MapError, did_you_mean

PASS = [
    (checks.required, (0,), 0),
    (checks.required, (False,), False),
    (checks.instance, ("ce",), "ce"),
    (checks.instance, ("a234567_90",), "a234567_90"),
    (checks.interface, ("enp0s31f6.10",), "enp0s31f6.10"),
    (checks.interface, ("ppp0",), "ppp0"),
    (checks.namespace, ("home-1.lan",), "home-1.lan"),
    (checks.listed, ((1, 2),), [1, 2]),
    (checks.boolean, ("Yes",), True),
    (checks.boolean, (False,), False),
    (checks.choice, ("a", ("a", "b")), "a"),
    (checks.integer, (5, 5, 5), 5),
    (checks.integer, ("0042", 0, 42), 42),
    (checks.interface_address, ("2001:DB8::0001/64",), "2001:db8::1/64"),
    (checks.interface_address, ("192.168.0.1/255.255.255.0",), "192.168.0.1/24"),
    (checks.interface_address, ("192.168.0.0/31",), "192.168.0.0/31"),
    (checks.interface_address, ("2001:db8::/128",), "2001:db8::/128"),
    (checks.address, ("2001:DB8:0::1", 6), "2001:db8::1"),
    (checks.address, ("192.0.2.1",), "192.0.2.1"),
    (checks.unicast_ipv6, ("2001:DB8::1",), "2001:db8::1"),
    (checks.prefix, ("10.0.0.0/8", 4), "10.0.0.0/8"),
    (checks.prefix, ("2001:DB8::/32", 6), "2001:db8::/32"),
]
FAIL = [
    (checks.required, (None,)), (checks.required, ("",)), (checks.required, ([],)), (checks.required, ({},)),
    (checks.choice, ("c", ("a", "b"))), (checks.choice, (["a"], ("a", "b"))), (checks.choice, (None, ("a",))),
    (checks.boolean, (1,)), (checks.boolean, ("on",)), (checks.boolean, (None,)),
    (checks.instance, ("",)), (checks.instance, ("1ce",)), (checks.instance, ("ce\n",)), (checks.instance, (None,)),
    *((checks.interface, (name,)) for name in (
        "", "a/b", "eth0:1", 'a"b', "a#b", "a\\b", "1234567890123456", None, 5, "lo", "all", "default", ".", "..", "-6", "eth0.100@eth0", "eth0 ",
        "\u00e9th\u00e9rnetportal")),
    (checks.namespace, ("main",)), (checks.namespace, ("..",)), (checks.namespace, ("a b",)), (checks.namespace, ("-a",)),
    (checks.absolute_path, ("a/b",)), (checks.absolute_path, ("/a\n",)), (checks.absolute_path, (None,)),
    (checks.listed, ("text",)), (checks.listed, (None,)), (checks.listed, ({"a": 1},)),
    (checks.integer, (4, 5, 6)), (checks.integer, (True, 0, 6)), (checks.integer, (5.0, 0, 6)), (checks.integer, ("-1", -2, 6)),
    (checks.integer, ("\u00b2", 0, 6)), (checks.integer, ("1" * 5000, 0, 6)), (checks.integer, (None, 0, 6)),
    (checks.address, ("192.0.2.1", 6)), (checks.address, ("2001:db8::1", 4)), (checks.address, (None, 6)),
    (checks.address, ("fe80::1%eth0", 6)), (checks.address, ("192.0.2.01", 4)), (checks.address, (1, 4)), (checks.address, ("192.0.2.1 ", 4)),
    (checks.unicast_ipv6, ("::",)), (checks.unicast_ipv6, ("ff02::1",)), (checks.unicast_ipv6, ("192.0.2.1",)),
    (checks.interface_address, ("192.0.2.1",)), (checks.interface_address, ("192.0.2.1/33",)), (checks.interface_address, (24,)),
    (checks.interface_address, ("fe80::1%eth0/64",)), (checks.interface_address, ("192.168.1.0/24",)),
    (checks.interface_address, ("192.168.1.255/24",)), (checks.interface_address, ("2001:db8::/64",)),
    (checks.prefix, ("10.0.0.1/8", 4)), (checks.prefix, ("10.0.0.0/8", 6)), (checks.prefix, (10, 6)), (checks.prefix, ("10.0.0.0", 4)),
    (checks.prefix, ("10.0.0.0/255.0.0.0", 4)), (checks.prefix, ("2001:db8::/129", 6)), (checks.prefix, ("2001:db8::%eth0/64", 6)),
]


@pytest.mark.parametrize("check, arguments, expected", PASS)
def test_passes(check, arguments, expected):
    result = check(arguments[0], "a.path", *arguments[1:])
    assert (result if isinstance(expected, (int, list)) else str(result)) == expected


@pytest.mark.parametrize("check, arguments", FAIL)
def test_refused_with_path_and_value(check, arguments):
    with pytest.raises(MapError) as caught:
        check(arguments[0], "a.path", *arguments[1:])
    assert caught.value.path == "a.path" and caught.value.value == arguments[0] and caught.value.reason


@pytest.mark.parametrize("value, shown", [
    (None, "not set"), ("", "''"), (5, "5"), (True, "True"), (["a "], "['a ']"),
    ("2400:4050::/56 ", "'2400:4050::/56 '"), ("eth0\n", r"'eth0\n'"), ("OCN\u00a0", r"'OCN\xa0'"), ("OCN\u3000\u5149", "'OCN\\u3000\u5149'"),
    ("it's", '"it\'s"'), ("x" * 100, "'" + "x" * 75 + "...'"), ([10**9] * 20, "[1000000000" + ", 1000000000" * 5 + ", 1000..."),
])
def test_a_value_is_shown_so_that_nothing_hides(value, shown):
    assert str(MapError("a.path", value, "is wrong")) == f"a.path: {shown}: is wrong"
    assert len(shown) <= 80


def test_a_fault_of_a_name_shows_no_value():
    assert str(MapError("map_ce_prot_forwards", NO_VALUE, "unknown")) == "map_ce_prot_forwards: unknown"


def test_keys_that_are_near_another_one_say_so():
    faults = Faults()
    assert checks.mapping({"ea_lenght": 16, "x": 1, "psid": None}, "rules[0]", ("ea_length", "psid"), "a rule", faults) == {}
    assert [str(fault) for fault in faults.found] == [
        "rules[0].ea_lenght: 16: is not a key of a rule, did you mean ea_length?",
        "rules[0].x: 1: is not a key of a rule; there are ea_length, psid"]
    assert did_you_mean("zzz", ("ea_length",)) == ""
