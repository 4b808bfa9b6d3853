# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every domain, and a second, naive implementation to compare with."""

from __future__ import annotations

import ipaddress

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain, port_ranges
from hypothesis import assume, given, settings
from hypothesis import strategies as st


@st.composite
def port_parameters(draw):
    psid_length = draw(st.integers(0, 16))
    return psid_length, draw(st.integers(0, min(15, 16 - psid_length)))


def bits(number, width):
    return format(number, f"0{width}b") if width else ""


@st.composite
def domain_and_prefix(draw):
    """A random domain of one rule, as normalised, and an end-user prefix inside it."""
    interface_id = draw(st.sampled_from(["rfc7597", "draft03"]))
    ipv4_length = draw(st.integers(0, 32))
    explicit = ipv4_length == 32 and draw(st.booleans())
    ea_length = 0 if explicit else draw(st.integers(0, min(48, 48 - ipv4_length)))
    psid_length = draw(st.integers(1, 16)) if explicit else max(0, ea_length + ipv4_length - 32)
    ipv6_length = draw(st.integers(0, 128 - ea_length))
    length = draw(st.integers(ipv6_length + ea_length, 128))
    prefix = draw(st.integers(0, 2**length - 1)) << (128 - length)
    ipv6 = prefix >> (128 - ipv6_length) << (128 - ipv6_length)
    ipv4 = draw(st.integers(0, 2**ipv4_length - 1)) << (32 - ipv4_length)
    domain = {
        "transport": "map-t",
        "interface_id": interface_id,
        "br_address": None,
        "dmr": "64:ff9b::/96",
        "rules": [
            {
                "ipv6_prefix": f"{ipaddress.IPv6Address(ipv6)}/{ipv6_length}",
                "ipv4_prefix": f"{ipaddress.IPv4Address(ipv4)}/{ipv4_length}",
                "ea_length": ea_length,
                "psid_offset": draw(st.integers(0, min(15, 16 - psid_length))),
                "psid_length": psid_length,
                "psid": draw(st.integers(0, 2**psid_length - 1)) if explicit else None,
                "fmr": draw(st.booleans()),
            }
        ],
    }
    return domain, f"{ipaddress.IPv6Address(prefix)}/{length}"


PORTS = [bits(port, 16) for port in range(65536)]


def naive_ports(psid, offset):
    """All ports whose bits hold the PSID after the offset, found by looking at each of the 65536."""
    return [number for number, port in enumerate(PORTS) if naive_holds(port, psid, offset)]


def naive_holds(port, psid, offset):
    excluded = "0" * offset if psid and offset else "none"
    return port.startswith(psid, offset) and not port.startswith(excluded)


def naive_ce(domain, prefix):
    """The CE by cutting strings of 0 and 1, straight from the figures of RFC 7597 sections 5 and 6."""
    rule = domain["rules"][0]
    n = int(rule["ipv6_prefix"].split("/")[1])
    r = int(rule["ipv4_prefix"].split("/")[1])
    o = rule["ea_length"]
    address = bits(int(ipaddress.IPv6Address(prefix.split("/")[0])), 128)
    ea = address[n : n + o]
    ipv4 = bits(int(ipaddress.IPv4Address(rule["ipv4_prefix"].split("/")[0])), 32)[:r] + ea
    ipv4, psid = ipv4[:32], ipv4[32:]
    if rule["psid"] is not None:
        psid = bits(rule["psid"], rule["psid_length"])
    v4 = ipv4.ljust(32, "0")
    field = psid.rjust(16, "0")
    iid = "0" * 16 + v4 + field if domain["interface_id"] == "rfc7597" else "0" * 8 + v4 + field + "0" * 8
    whole = (address[: n + o].ljust(64, "0") + iid) if n + o <= 64 else address[: n + o] + iid[n + o - 64 :]
    text = str(ipaddress.IPv4Address(int(v4, 2)))
    return {
        "end_user_prefix": int(address[: n + o].ljust(128, "0"), 2),
        "ipv4_address": text if len(ipv4) == 32 else None,
        "ipv4_prefix": None if len(ipv4) == 32 else f"{text}/{len(ipv4)}",
        "psid": int(psid, 2) if psid else None,
        "psid_length": len(psid),
        "map_address": int(whole, 2),
        "ports": naive_ports(psid, rule["psid_offset"]),
    }


@settings(max_examples=120, deadline=None)
@given(domain_and_prefix())
def test_equals_the_naive_implementation(case):
    domain, prefix = case
    result = Domain(domain).ce(prefix)
    expect = naive_ce(domain, prefix)
    assert int(ipaddress.IPv6Network(result["end_user_prefix"]).network_address) == expect.pop("end_user_prefix")
    assert int(ipaddress.IPv6Address(result["map_address"])) == expect.pop("map_address")
    ports = [port for low, high in result["port_ranges"] for port in range(low, high + 1)]
    assert ports == expect.pop("ports")
    assert result["port_count"] == len(ports)
    assert {key: result[key] for key in expect} == expect


@st.composite
def nested_domain(draw):
    """Two rules, the second one possibly inside the first in IPv6, and both around an address; 8 EA bits at most."""
    ipv6_lengths = (draw(st.integers(20, 28)), draw(st.integers(20, 40)))
    rules = []
    for number, ipv6_length in enumerate(ipv6_lengths):
        ipv4_length = draw(st.integers(24, 32))
        ea_length = draw(st.integers(0, 8))
        psid_length = max(0, ea_length + ipv4_length - 32)
        low_bits = draw(st.integers(0, 3)) << (128 - ipv6_length)
        ipv4 = ipaddress.IPv4Address(f"192.0.{number}.0")
        rules.append({
            "ipv6_prefix": f"{ipaddress.IPv6Address(int(ipaddress.IPv6Address('2001::')) | low_bits)}/{ipv6_length}",
            "ipv4_prefix": f"{ipv4}/{ipv4_length}", "ea_length": ea_length, "psid_length": psid_length, "psid": None,
            "psid_offset": draw(st.integers(0, min(15, 16 - psid_length))), "fmr": False,
        })
    assume(rules[0]["ipv6_prefix"] != rules[1]["ipv6_prefix"])
    return {"transport": "map-e", "interface_id": "rfc7597", "br_address": ["2001:db8::1"], "dmr": None, "rules": rules}


def naive_ces(domain):
    """(end-user prefix, IPv4 address or prefix and PSID as bits, PSID offset) of every CE that the rules can have."""
    for rule in domain["rules"]:
        base, n = rule["ipv6_prefix"].split("/")
        length = int(n) + rule["ea_length"]
        for ea in range(2 ** rule["ea_length"]):
            prefix = bits(int(ipaddress.IPv6Address(base)) | ea << (128 - length), 128)[:length]
            # The rule that the CE itself would take: the longest of those whose prefix its own one starts with.
            mine = max((one for one in domain["rules"] if prefix.startswith(prefix_bits(one["ipv6_prefix"]))),
                       key=lambda one: int(one["ipv6_prefix"].split("/")[1]))
            if mine is rule:
                text = f"{ipaddress.IPv6Address(int(prefix.ljust(128, '0'), 2))}/{length}"
                yield text, prefix_bits(rule["ipv4_prefix"], 32) + prefix[int(n):], rule["psid_offset"]


def naive_owner(domain, address, port):
    """The end-user prefix behind an address and port, found by asking every CE."""
    wanted = bits(int(ipaddress.IPv4Address(address)), 32)
    owners = {text for text, v4, offset in naive_ces(domain) if wanted.startswith(v4[:32]) and naive_holds(PORTS[port], v4[32:], offset)}
    assert len(owners) <= 1
    return owners.pop() if owners else None


def prefix_bits(text, width=128):
    base, length = text.split("/")
    return bits(int(ipaddress.ip_address(base)), width)[: int(length)]


@settings(max_examples=60, deadline=None)
@given(nested_domain(), st.integers(0, 1), st.integers(0, 255), st.integers(0, 65535))
def test_owner_equals_the_naive_search(domain, third, fourth, port):
    address = f"192.0.{third}.{fourth}"
    found = Domain(domain).owner(int(ipaddress.IPv4Address(address)), port)
    assert (found and found["end_user_prefix"]) == naive_owner(domain, address, port)


@settings(max_examples=200, deadline=None)
@given(nested_domain(), st.data())
def test_ces_below_a_prefix_equal_the_naive_search(domain, data):
    """In a prefix that is one of a rule's or of a CE's, cut or with bits after it; in all of them, too."""
    version = data.draw(st.sampled_from([4, 6]))
    width = 128 if version == 6 else 32
    every = list(naive_ces(domain))
    bases = [prefix_bits(text) if version == 6 else v4[:32] for text, v4, _offset in every]
    bases += [prefix_bits(rule[f"ipv{version}_prefix"], width) for rule in domain["rules"]]
    length = data.draw(st.integers(0, width))
    prefix = (data.draw(st.sampled_from(bases)) + data.draw(st.sampled_from(["0" * width, "01" * 64, "1" * width])))[:length]
    found = list(Domain(domain).ces(version, int(prefix.ljust(width, "0"), 2), length))
    held = [prefix_bits(text) if version == 6 else v4[:32] for text, v4, _offset in every]
    expect = [text for (text, _v4, _offset), own in zip(every, held) if own.startswith(prefix) or prefix.startswith(own)]
    assert [one["end_user_prefix"] for one in found] == expect
    whole = list(Domain(domain).ces(6, 0, 0))
    assert [one["end_user_prefix"] for one in whole] == [text for text, _v4, _offset in every]
    assert whole == [Domain(domain).ce(one["end_user_prefix"]) for one in whole]


@settings(max_examples=200, deadline=None)
@given(domain_and_prefix(), st.data())
def test_owner_gives_the_ce_back_for_each_of_its_ports(case, data):
    domain = Domain(case[0])
    result = domain.ce(case[1])
    result["delegated_prefix"] = result["end_user_prefix"]
    low, high = data.draw(st.sampled_from(result["port_ranges"]))
    network = ipaddress.ip_network(result["ipv4_prefix"] or result["ipv4_address"])
    address = int(network[0]) + data.draw(st.integers(0, network.num_addresses - 1))
    assert domain.owner(address, data.draw(st.integers(low, high))) == result


@settings(max_examples=300, deadline=None)
@given(domain_and_prefix(), st.data())
def test_what_stands_after_the_ea_bits_does_not_matter(case, data):
    domain, prefix = case
    one = Domain(domain).ce(prefix)
    base, length = one["end_user_prefix"].split("/")
    rest = data.draw(st.integers(0, 2 ** (128 - int(length)) - 1))
    other = Domain(domain).ce(f"{ipaddress.IPv6Address(int(ipaddress.IPv6Address(base)) | rest)}/128")
    del one["delegated_prefix"], other["delegated_prefix"]
    assert one == other


@settings(max_examples=150, deadline=None)
@given(port_parameters(), st.integers(0, 65535))
def test_a_port_belongs_to_exactly_one_psid_or_is_excluded(parameters, port):
    psid_length, offset = parameters
    # Only the PSID that the port's own bits name can hold it; its neighbours stand for all others.
    named = (port >> (16 - offset - psid_length)) & (2**psid_length - 1)
    near = {psid % 2**psid_length for psid in (0, named - 1, named, named + 1, 2**psid_length - 1)}
    holders = [psid for psid in near if any(low <= port <= high for low, high in port_ranges(psid, psid_length, offset))]
    excluded = psid_length > 0 and offset > 0 and port < 2 ** (16 - offset)
    assert holders == ([] if excluded else [named])


@settings(max_examples=20, deadline=None)
@given(port_parameters())
def test_port_sets_are_disjoint_and_of_the_size_of_the_formula(parameters):
    k, a = parameters
    m = 16 - a - k
    size = 2 ** (16 - k) - (2**m if a and k else 0)
    seen = bytearray(65536)
    for psid in range(2**k):
        ranges = port_ranges(psid, k, a)
        assert sum(high - low + 1 for low, high in ranges) == size
        assert ranges == sorted(ranges)
        for low, high in ranges:
            assert not any(seen[low : high + 1])
            seen[low : high + 1] = b"\1" * (high - low + 1)
    assert sum(seen) == size * 2**k
