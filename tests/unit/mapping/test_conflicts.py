# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules against each other, compared with looking at every pair of them."""

from __future__ import annotations

import ipaddress
import itertools

from ansible_collections.softwire.map.plugins.module_utils.mapping import conflicts
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import Faults
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def rules(draw):
    """A rule from few addresses and prefixes, so that many of them collide."""
    ipv4_length, ipv6_length = draw(st.sampled_from([29, 31, 32, 32])), draw(st.integers(120, 124))
    explicit = ipv4_length == 32 and draw(st.booleans())
    return {
        "ipv4_prefix": str(ipaddress.ip_network(f"192.0.2.{draw(st.integers(0, 15))}/{ipv4_length}", strict=False)),
        "ipv6_prefix": str(ipaddress.ip_network(f"2001:db8::{draw(st.integers(0, 255)):x}/{ipv6_length}", strict=False)),
        "psid": draw(st.integers(0, 3)) if explicit else None,
        "psid_length": draw(st.sampled_from([2, 2, 2, 3])) if explicit else 0,
        "psid_offset": draw(st.sampled_from([6, 6, 6, 4])),
    }


def collide(one, two):
    """The keys by which two rules map something twice."""
    found = {"ipv6_prefix"} if one["ipv6_prefix"] == two["ipv6_prefix"] else set()
    if ipaddress.ip_network(one["ipv4_prefix"]).overlaps(ipaddress.ip_network(two["ipv4_prefix"])):
        if one["psid"] is None or two["psid"] is None:
            found.add("ipv4_prefix")
        else:
            different = {key for key in ("psid_offset", "psid_length") if one[key] != two[key]}
            found |= different or ({"psid"} if one["psid"] == two["psid"] else set())
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(rules(), max_size=6))
def test_finds_what_looking_at_every_pair_finds(found):
    placed = [(f"rules[{index}]", rule) for index, rule in enumerate(found)]
    faults = Faults()
    conflicts.find(placed, faults)
    pairs = {(one, two): collide(found[one], found[two]) for one, two in itertools.combinations(range(len(found)), 2)}
    assert bool(faults.found) == any(pairs.values())
    # Each fault stands at the later rule of a pair that collides in this key, and names the earlier one.
    for fault in faults.found:
        where, key = fault.path.rsplit(".", 1)
        assert any(where == f"rules[{two}]" and key in keys and f"rules[{one}]" in fault.reason for (one, two), keys in pairs.items())


@settings(max_examples=150, deadline=None)
@given(st.lists(rules(), max_size=6, unique_by=lambda rule: rule["ipv6_prefix"]))
def test_nested_prefixes_are_odd(found):
    domain = {"br_address": None, "rules": found}
    nested = {
        f"rules[{index}].ipv6_prefix" for index, rule in enumerate(found)
        if any(ipaddress.ip_network(rule["ipv6_prefix"]).subnet_of(ipaddress.ip_network(other["ipv6_prefix"]))
               for other in found if other is not rule)
    }
    assert {text.partition(":")[0] for text in conflicts.oddities(domain, "") if "lies in" in text} == nested


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(124, 128)), max_size=8))
def test_coinciding_finds_what_looking_at_every_pair_finds(found):
    networks = [ipaddress.ip_network((int(ipaddress.ip_address("2001:db8::")) + low, length), strict=False) for low, length in found]
    ces = [(f"prefixes[{index}]", {"end_user_prefix": str(network), "delegated_prefix": "as given"}) for index, network in enumerate(networks)]
    reported = list(conflicts.coinciding(ces))
    pairs = {(one, two) for one, two in itertools.permutations(range(len(networks)), 2) if networks[one].subnet_of(networks[two])}
    assert {index for index, _other, _error in reported} | {other for _index, other, _error in reported} == set(itertools.chain(*pairs))
    for index, other, error in reported:
        assert (index, other) in pairs and (networks[index] == networks[other]) == ("gives the same CE" in error.reason)
        assert error.path == f"prefixes[{index}]" and f"prefixes[{other}]" in error.reason
