# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what they promise holds in the domain, none is better, and every impossible one has its reason."""

from __future__ import annotations

import functools
import ipaddress

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.calculator import ce, owner
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.plan import plan_domain
from hypothesis import given, settings
from hypothesis import strategies as st

SIMPLE = {"ipv4_pools": ["192.0.2.0/24"], "ipv6_prefix": "2001:db8::/40", "subscribers": 10000}


def refusal(**changes):
    with pytest.raises(MapError) as caught:
        plan_domain({**SIMPLE, **changes})
    return str(caught.value)


def test_the_whole_plan():
    assert plan_domain(SIMPLE) == {
        "domain": parse_domain({
            "transport": "map-t", "dmr": "64:ff9b::/96",
            "rules": [{"ipv6_prefix": "2001:db8::/42", "ipv4_prefix": "192.0.2.0/24", "ea_length": 14}],
        }),
        "sharing_ratio": 64, "psid_length": 6, "psid_offset": 6, "ports_per_subscriber": 1008, "ea_lengths": [14],
        "end_user_prefix_length": 56, "capacity": 16384,
        "left_over": {"subscribers": 6384, "ports_per_address": 1024, "ipv6_prefixes": ["2001:db8:40::/42", "2001:db8:80::/41"]},
    }


@pytest.mark.parametrize(
    ("changes", "expect"),
    [
        ({"ipv4_pools": "192.0.2.0/24"}, {"capacity": 16384}),
        ({"subscribers": "16384"}, {"psid_length": 6, "capacity": 16384}),
        ({"subscribers": 16385}, {"psid_length": 7, "ports_per_subscriber": 504}),
        ({"subscribers": 256}, {"psid_length": 0, "sharing_ratio": 1, "ports_per_subscriber": 65536, "ea_lengths": [8]}),
        ({"subscribers": 1}, {"capacity": 256}),
        ({"subscribers": None, "ports_per_subscriber": 1008}, {"psid_length": 6}),
        ({"subscribers": None, "ports_per_subscriber": 1009}, {"psid_length": 5, "ports_per_subscriber": 2016}),
        ({"subscribers": None, "ports_per_subscriber": 40000}, {"psid_length": 0}),
        ({"subscribers": 300, "ports_per_subscriber": 1000}, {"psid_length": 1, "ports_per_subscriber": 32256}),
        ({"psid_offset": 0}, {"ports_per_subscriber": 1024}),
        ({"interface_id": "draft03"}, {"psid_offset": 4, "ports_per_subscriber": 960}),
        ({"ipv6_prefix": "2001:db8::/42"}, {"end_user_prefix_length": 56}),
        ({"ipv6_prefix": "2001:db8::/43"}, {"end_user_prefix_length": 60}),
        ({"ipv6_prefix": "2001:db8::/50"}, {"end_user_prefix_length": 64}),
        ({"end_user_prefix_length": 62}, {"end_user_prefix_length": 62}),
        ({"ipv4_pools": ["192.0.2.0/26", "198.51.100.0/24"]}, {"ea_lengths": [11, 13], "capacity": 10240}),
    ],
)
def test_plan(changes, expect):
    result = plan_domain({**SIMPLE, **changes})
    assert {key: result[key] for key in expect} == expect


def test_map_e_and_what_the_rules_take_over():
    domain = plan_domain({**SIMPLE, "transport": "map-e", "br_address": "2001:db9::1", "fmr": True})["domain"]
    assert (domain["transport"], domain["br_address"], domain["dmr"], domain["rules"][0]["fmr"]) == ("map-e", ["2001:db9::1"], None, True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pools": 1}, "pools: 1: is not a key of the requirements, did you mean ipv4_pools?"),
        ({"ipv4_pools": None}, "ipv4_pools: not set: is required: an IPv4 prefix, or a list of them"),
        ({"ipv4_pools": []}, "ipv4_pools: []: is required"),
        ({"ipv4_pools": ["192.0.2.0/24", "192.0.2.1/24"]}, "ipv4_pools[1]: '192.0.2.1/24': has bits set after its first 24"),
        ({"ipv4_pools": ["192.0.2.0/24", "192.0.0.0/16"]}, "ipv4_pools[1]: '192.0.0.0/16': overlaps 192.0.2.0/24 of ipv4_pools[0]"),
        ({"ipv6_prefix": None}, "ipv6_prefix: not set: must be an IPv6 prefix"),
        ({"subscribers": None}, "subscribers: not set: is required, or ports_per_subscriber, or both"),
        ({"subscribers": 0}, "subscribers: 0: must be an integer between 1 and"),
        ({"ports_per_subscriber": 65537}, "ports_per_subscriber: 65537: must be an integer between 1 and 65536"),
        ({"psid_offset": 16}, "psid_offset: 16: must be an integer between 0 and 15"),
        ({"transport": "map-x"}, "transport: 'map-x': must be one of map-e, map-t"),
        ({"transport": "map-e"}, "br_address: not set: is required for transport map-e"),
        ({"br_address": "2001:db8::1"}, "br_address: '2001:db8::1': is for transport map-e only"),
        (
            {"subscribers": 20000, "ports_per_subscriber": 1000},
            "subscribers: 20000: are too many for 256 IPv4 addresses: with 1000 ports for each subscriber and the PSID offset 6, "
            "64 subscribers share an address, so 16384 fit; add 57 addresses, or ask for fewer ports (RFC 7597 section 5.1)",
        ),
        (
            {"subscribers": 262145},
            "subscribers: 262145: are too many for 256 IPv4 addresses: with the PSID offset 6, 1024 subscribers share an address, so "
            "262144 fit; add 1 addresses, or ask for a smaller PSID offset",
        ),
        (
            {"ipv6_prefix": "2001:db8::/51"},
            "ipv6_prefix: '2001:db8::/51': has room for 8192 end-user prefixes of /64, the IPv4 pools need 16384: "
            "use an IPv6 prefix of /50 or shorter (RFC 7597 section 5.2)",
        ),
        (
            {"end_user_prefix_length": 53},
            "ipv6_prefix: '2001:db8::/40': has room for 8192 end-user prefixes of /53, the IPv4 pools need 16384: "
            "use an IPv6 prefix of /39 or shorter, or an end_user_prefix_length of 54 or more",
        ),
        ({"end_user_prefix_length": 10}, "ipv6_prefix: '2001:db8::/40': has room for 0 end-user prefixes of /10, the IPv4 pools need 16384: "
                                         "no IPv6 prefix has; use an end_user_prefix_length of 14 or more"),
    ],
)
def test_impossible(changes, text):
    assert refusal(**changes).startswith(text)


@st.composite
def requirements(draw):
    lengths = draw(st.lists(st.integers(18, 32), min_size=1, max_size=4))
    ipv6_length = draw(st.integers(20, 60))
    written = {
        "ipv4_pools": [f"10.{index}.0.0/{length}" for index, length in enumerate(lengths)],
        "ipv6_prefix": str(ipaddress.IPv6Network((0x2001 << 112, ipv6_length))),
        "psid_offset": draw(st.integers(0, 15)),
    }
    optional = {"subscribers": st.integers(1, 2**20), "ports_per_subscriber": st.integers(1, 65536), "end_user_prefix_length": st.integers(30, 80)}
    for key, values in optional.items():
        if draw(st.booleans()):
            written[key] = draw(values)
    if "subscribers" not in written:
        written.setdefault("ports_per_subscriber", 500)
    return written


PORTS = [format(port, "016b") for port in range(65536)]


@functools.cache
def naive_ports(length, offset):
    """The number of ports of a PSID of this length, counted port by port."""
    psid = format(min(1, length), f"0{length}b") if length else ""
    return sum(port[offset:].startswith(psid) and (not psid or not offset or "1" in port[:offset]) for port in PORTS)


def naive_psid_length(written):
    """The PSID length and its number of ports, by trying every length there is; None if none fits."""
    addresses = sum(ipaddress.ip_network(pool).num_addresses for pool in written["ipv4_pools"])
    fitting = []
    for length in range(16 - written["psid_offset"] + 1):
        ports = naive_ports(length, written["psid_offset"])
        if ports >= written.get("ports_per_subscriber", 1) and addresses * 2**length >= written.get("subscribers", 1):
            fitting.append((length, ports))
    if not fitting:
        return None
    return min(fitting) if "subscribers" in written else max(fitting)


@settings(max_examples=100, deadline=None)
@given(requirements())
def test_equals_the_naive_plan(written):
    expect = naive_psid_length(written)
    capacity = sum(ipaddress.ip_network(pool).num_addresses for pool in written["ipv4_pools"]) << (expect[0] if expect else 0)
    ipv6 = ipaddress.ip_network(written["ipv6_prefix"])
    wanted = written.get("end_user_prefix_length")
    lengths = [length for length in ([wanted] if wanted else [56, 60, 64])
               if length >= ipv6.prefixlen and 2 ** (length - ipv6.prefixlen) >= capacity]
    if expect is None or not lengths:
        with pytest.raises(MapError) as caught:
            plan_domain(written)
        assert caught.value.path == ("subscribers" if expect is None else "ipv6_prefix")
        return
    result = plan_domain(written)
    assert (result["psid_length"], result["ports_per_subscriber"]) == expect
    assert (result["capacity"], result["end_user_prefix_length"]) == (capacity, lengths[0])


@settings(max_examples=200, deadline=None)
@given(requirements(), st.data())
def test_a_plan_holds(written, data):
    try:
        result = plan_domain(written)
    except MapError:
        return
    whole = ipaddress.ip_network(written["ipv6_prefix"])
    rules = result["domain"]["rules"]
    parts = [ipaddress.ip_network(rule["ipv6_prefix"]) for rule in rules]
    parts += [ipaddress.ip_network(prefix) for prefix in result["left_over"]["ipv6_prefixes"]]
    # The rules and what is left over are the prefix, without gap or overlap.
    assert list(ipaddress.collapse_addresses(parts)) == [whole]
    assert sum(part.num_addresses for part in parts) == whole.num_addresses
    assert [rule["ipv4_prefix"] for rule in rules] == written["ipv4_pools"]
    assert sum(2 ** rule["ea_length"] for rule in rules) == result["capacity"] >= written.get("subscribers", 1)
    # Any subscriber has what was promised.
    rule = data.draw(st.sampled_from(rules))
    length = result["end_user_prefix_length"]
    first = int(ipaddress.ip_network(rule["ipv6_prefix"]).network_address)
    prefix = ipaddress.IPv6Network((first + (data.draw(st.integers(0, 2 ** rule["ea_length"] - 1)) << (128 - length)), length))
    one = ce(result["domain"], str(prefix))
    assert one["end_user_prefix"] == str(prefix)
    assert one["port_count"] == result["ports_per_subscriber"] >= written.get("ports_per_subscriber", 1)
    assert one["sharing_ratio"] == result["sharing_ratio"]
    assert owner(result["domain"], one["ipv4_address"], one["port_ranges"][-1][1]) == one
