# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of single variables: what passes, in its canonical form, and what does not."""

from __future__ import annotations

import pytest

from ansible_collections.softwire.map.plugins.module_utils.mapping import checks
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError

PASS = [
    (checks.required, (0,), 0),
    (checks.required, (False,), False),
    (checks.instance, ("ce",), "ce"),
    (checks.instance, ("a234567_90",), "a234567_90"),
    (checks.interface, ("enp0s31f6.10",), "enp0s31f6.10"),
    (checks.interface, ("ppp0",), "ppp0"),
    (checks.namespace, ("home-1.lan",), "home-1.lan"),
    (checks.listed, ((1, 2),), [1, 2]),
    (checks.integer, (5, 5, 5), 5),
    (checks.integer, ("0042", 0, 42), 42),
    (checks.interface_address, ("2001:DB8::0001/64",), "2001:db8::1/64"),
    (checks.interface_address, ("192.168.0.1/255.255.255.0",), "192.168.0.1/24"),
    (checks.address, ("2001:DB8:0::1", 6), "2001:db8::1"),
    (checks.network, ("10.0.0.0/8", 4), "10.0.0.0/8"),
    (checks.network, ("2001:DB8::/32", 6), "2001:db8::/32"),
]
FAIL = [
    (checks.required, (None,)), (checks.required, ("",)), (checks.required, ([],)), (checks.required, ({},)),
    (checks.one_of, ("c", ("a", "b"))), (checks.one_of, (["a"], ("a", "b"))),
    (checks.instance, ("",)), (checks.instance, ("1ce",)), (checks.instance, ("ce\n",)), (checks.instance, (None,)),
    (checks.interface, ("",)), (checks.interface, ("a/b",)), (checks.interface, ("eth0:1",)), (checks.interface, ('a"b',)),
    (checks.interface, ("a#b",)), (checks.interface, ("a\\b",)), (checks.interface, ("1234567890123456",)),
    (checks.namespace, ("main",)), (checks.namespace, ("..",)), (checks.namespace, ("a b",)), (checks.namespace, ("-a",)),
    (checks.listed, ("text",)), (checks.listed, (None,)), (checks.listed, ({"a": 1},)),
    (checks.integer, (4, 5, 6)), (checks.integer, (True, 0, 6)), (checks.integer, (5.0, 0, 6)), (checks.integer, ("-1", -2, 6)),
    (checks.integer, ("\u00b2", 0, 6)), (checks.integer, ("1" * 5000, 0, 6)), (checks.integer, (None, 0, 6)),
    (checks.keys, ([], ("a",), ())), (checks.keys, ({"b": 1}, ("a",), ())), (checks.keys, ({}, ("a",), ("a",))),
    (checks.address, ("192.0.2.1", 6)), (checks.address, ("2001:db8::1", 4)), (checks.address, (None, 6)),
    (checks.address, ("fe80::1%eth0", 6)), (checks.address, ("192.0.2.01", 4)), (checks.address, (1, 4)),
    (checks.interface_address, ("192.0.2.1",)), (checks.interface_address, ("192.0.2.1/33",)), (checks.interface_address, (24,)),
    (checks.interface_address, ("fe80::1%eth0/64",)),
    (checks.network, ("10.0.0.1/8", 4)), (checks.network, ("10.0.0.0/8", 6)), (checks.network, (10, 6)),
]


@pytest.mark.parametrize("check, arguments, expected", PASS)
def test_passes(check, arguments, expected):
    result = check(arguments[0], "a.path", *arguments[1:])
    assert (result if isinstance(expected, (int, list)) else str(result)) == expected


@pytest.mark.parametrize("check, arguments", FAIL)
def test_refused_with_path_and_value(check, arguments):
    with pytest.raises(MapError) as caught:
        check(arguments[0], "a.path", *arguments[1:])
    assert caught.value.path.startswith("a.path") and caught.value.reason
