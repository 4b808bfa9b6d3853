# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DHCPv6 options: bytes known from elsewhere, what is ignored, the offset of what is refused, a second encoder to compare with."""

from __future__ import annotations

import ipaddress
from unittest import mock

import pytest
from ansible.utils.display import Display
from ansible_collections.softwire.map.plugins.filter.from_dhcpv6_options import from_dhcpv6_options
from ansible_collections.softwire.map.plugins.module_utils.mapping.dhcpv6 import domain_of, options, parse_lw4o6
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

MAP_E = {
    "transport": "map-e", "br_address": "2001:db8::1",
    "rules": [{"ipv6_prefix": "2001:db8::/34", "ipv4_prefix": "1.2.3.0/24", "ea_length": 16, "fmr": True}],
}
MAP_T = {**MAP_E, "transport": "map-t", "br_address": None, "dmr": "64:ff9b::/96"}
BINDING = {"ipv4_address": "192.0.2.18", "ipv6_prefix": "2001:db8:12:3400::/56", "psid_offset": 6, "psid_length": 7, "psid": 127}
LW4O6 = {"transport": "lw4o6", "br_address": ["2001:db8::1"], "binding": BINDING}
EXPLICIT = {"ipv6_prefix": "2001:db8:1::/56", "ipv4_prefix": "192.0.2.18/32", "ea_length": 0, "psid_length": 8, "psid": 0x34}

# These bytes are in the tests of other implementations.
BR = "005a001020010db8000000000000000000000001"
PORTS = "005d00040607fe00"
PREFIX = "2220010db800"


def option(code, *contents):
    body = "".join(contents)
    return f"{code:04x}{len(body) // 2:04x}{body}"


def rule(flags="01", ea="10", ipv4="1801020300", ipv6=PREFIX, inside=""):
    return option(89, flags, ea, ipv4, ipv6, inside)


def dmr(prefix="600064ff9b0000000000000000"):
    return option(91, prefix)


def ports(offset="06", length="00", psid="0000"):
    return option(93, offset, length, psid)


def bind(inside="", ipv6="3820010db8001234"):
    return option(92, "c0000212", ipv6, inside)


def refusal(text, code=None):
    with pytest.raises(MapError) as caught:
        domain_of(text, code)
    return str(caught.value)


def test_known_bytes():
    """The bytes of a BR, of a rule with its flag, lengths and prefixes, and of port parameters."""
    assert options(MAP_E)[0] == {
        "code": 94,
        "data": rule(inside=ports()) + BR,
        "option": option(94, rule(inside=ports()), BR),
    }
    assert rule(inside=PORTS) == "00590015011018010203002220010db800005d00040607fe00"
    assert options(LW4O6)[0]["data"] == BR + bind(PORTS)
    assert options(MAP_T)[0] == {"code": 95, "data": rule(inside=ports()) + dmr(), "option": option(95, rule(inside=ports()), dmr())}


def test_an_explicit_psid_stands_at_the_left():
    explicit = options({**MAP_E, "rules": [{**EXPLICIT, "psid_offset": 4}]})[0]["data"]
    assert "005d000404083400" in explicit
    assert "005d000406000000" in options(MAP_E)[0]["data"], "the PSID of EA bits is not an explicit one"


@pytest.mark.parametrize(
    "domain",
    [
        MAP_E, MAP_T, LW4O6,
        {**MAP_E, "br_address": ["2001:db8::1", "2001:db8::2"], "rules": [{**MAP_E["rules"][0], "psid_offset": 0}, EXPLICIT]},
        {**MAP_T, "rules": [{"ipv6_prefix": "2000::/3", "ipv4_prefix": "0.0.0.0/0", "ea_length": 48, "psid_offset": 0}]},
        {**LW4O6, "binding": None},
        {**LW4O6, "binding": {"ipv4_address": "192.0.2.18", "ipv6_prefix": "2001:db8::1/128"}},
    ],
)
def test_there_and_back(domain):
    encoded = options(domain)[0]
    parsed = (parse_lw4o6 if domain["transport"] == "lw4o6" else parse_domain)(domain)
    assert domain_of(encoded["option"]) == parsed
    assert domain_of(encoded["data"], encoded["code"]) == parsed
    assert options(parsed) == [encoded]


@pytest.mark.parametrize("text", ["005e0031 ", "00:5e:00:31:", "0:5E:0:31:", " 00 5e 0031 ", "0x005e0031", "0X00 5e 0 31 "])
def test_ways_to_write_hex(text):
    body = rule(inside=ports()) + BR
    rest = ":".join(body[at:at + 2] for at in range(0, len(body), 2)) if ":" in text else body
    assert domain_of(text.replace("31", f"{len(body) // 2:02x}") + rest) == parse_domain(MAP_E)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        # Options outside a container, and those that RFC 7598 does not know, inside and outside.
        (rule() + option(1, "aabb") + option(94, rule(), BR) + BR, MAP_E),
        (option(94, option(23, "00"), rule(inside=option(200) + ports()), BR, option(65535, "ff")), MAP_E),
        # Reserved flags; bits after the IPv4 prefix; the PSID without a length; the padding of a PSID.
        (option(94, rule(flags="ff"), BR), MAP_E),
        (option(94, rule(ipv4="18010203ff"), BR), MAP_E),
        (option(94, rule(inside=ports(psid="ffff")), BR), MAP_E),
        (option(96, BR, bind(ports("06", "07", "ffff"))), LW4O6),
        # An explicit PSID, offset and all, for a CE with an IPv4 prefix.
        (option(94, rule(ea="04", inside=ports("04", "07", "fe00")), BR), {**MAP_E, "rules": [{**MAP_E["rules"][0], "ea_length": 4}]}),
    ],
)
def test_what_is_ignored(text, same):
    assert domain_of(text) == (parse_lw4o6 if same["transport"] == "lw4o6" else parse_domain)(same)


def test_a_psid_beside_ea_bits_is_not_used_and_told():
    """Whatever it is; the offset beside it is used."""
    for code, rest in ((94, BR), (95, dmr())):
        warned = []
        domain = domain_of(option(code, rule(inside=ports("04", "08", "7f00")), rule(ipv4="1801020400", ipv6="2220010db840"), rest), warn=warned.append)
        first, second = domain["rules"]
        assert (first["psid_offset"], first["psid_length"], first["psid"]) == (4, 8, None)
        assert (second["psid_offset"], second["psid_length"], second["psid"]) == (6, 8, None)
        assert warned == ["byte 27 (rules[0].psid): 127: is not used: each customer edge takes its PSID from its EA bits (RFC 7598 section 4.5)"]


def test_the_filter_warns():
    with mock.patch.object(Display, "warning") as warning:
        assert from_dhcpv6_options(option(94, rule(inside=ports("04", "08", "7f00")), BR))["rules"][0]["psid_length"] == 8
    (text,), _named = warning.call_args
    assert text.startswith("softwire.map: byte 27 (rules[0].psid): 127: is not used")


def test_an_explicit_psid_is_used_without_a_word():
    warned = []
    domain = domain_of(options({**MAP_E, "rules": [EXPLICIT]})[0]["option"], warn=warned.append)
    assert domain["rules"][0]["psid"] == 0x34 and warned == []


def test_defaults_of_what_is_not_there():
    assert domain_of(option(94, rule(flags="00"), BR))["rules"][0] == {
        "ipv6_prefix": "2001:db8::/34", "ipv4_prefix": "1.2.3.0/24", "ea_length": 16, "psid_offset": 6, "psid_length": 8,
        "psid": None, "fmr": False,
    }
    assert domain_of(option(96, BR, bind()))["binding"] == {**BINDING, "psid_offset": 0, "psid_length": 0, "psid": None}
    assert domain_of(option(96, BR))["binding"] is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        # Not hex.
        (None, "option: not set: must be hex, two digits for each byte"),
        ("", "option: '': must be hex"),
        ("005", "option: '005': must be hex"),
        ("00:5e:000", "option: '00:5e:000': must be hex"),
        ("0x5g", "option: '0x5g': must be hex"),
        (5, "option: 5: must be hex"),
        # Truncated.
        ("005e", "byte 0: '005e': is no option: a code and a length are 4 bytes, here are 2"),
        ("005e0001", "byte 2: '0001': says that option 94 has 1 bytes, here are 0"),
        (option(94, rule(), BR)[:-2], "byte 2: '0025': says that option 94 has 37 bytes, here are 36"),
        (option(94, rule(), BR[:-2]), "byte 23: '0010': says that option 90 has 16 bytes, here are 15"),
        (option(94, rule(), BR[:-2]) + option(23, "00"), "byte 23: '0010': says that option 90 has 16 bytes, here are 15"),
        (option(94, rule(), BR, "00"), "byte 41: '00': is no option: a code and a length are 4 bytes, here are 1"),
        (option(94, rule(), BR) + "ff", "byte 41: 'ff': is no option"),
        (option(94, option(89, "0110"), BR), "byte 8: '0110': S46_RULE ends within its flags and lengths: 3 bytes are needed, here are 2"),
        (option(94, option(89, "0110180102"), BR), "byte 11: '0102': S46_RULE ends within its IPv4 prefix: 4 bytes are needed, here are 2"),
        (option(94, option(89, "01101801020300"), BR), "byte 15: S46_RULE ends within its prefix length"),
        (option(94, option(89, "011018010203002220010d"), BR), "byte 16: '20010d': S46_RULE ends within its IPv6 prefix: 5 bytes are needed, here are 3"),
        (option(94, rule(inside="005d"), BR), "byte 21: '005d': is no option"),
        (option(94, rule(), option(90, "2001")), "byte 25: '2001': S46_BR ends within its IPv6 address: 16 bytes are needed, here are 2"),
        (option(95, rule(), option(91)), "byte 25: S46_DMR ends within its prefix length: 1 bytes"),
        (option(95, rule(), dmr("600064")), "byte 26: '0064': S46_DMR ends within its IPv6 prefix: 12 bytes are needed, here are 2"),
        (option(94, rule(inside=option(93, "06")), BR), "byte 25: '06': S46_PORTPARAMS ends within its offset and PSID: 4 bytes"),
        (option(96, BR, option(92, "c000")), "byte 28: 'c000': S46_V4V6BIND ends within its IPv4 address"),
        # Over-long.
        (option(94, rule(), option(90, BR[8:], "ffff")), "byte 41: 'ffff': S46_BR is 2 bytes longer than what it holds"),
        (option(95, rule(), dmr("600064ff9b0000000000000000ff")), "byte 38: 'ff': S46_DMR is 1 bytes longer than what it holds"),
        (option(94, rule(inside=option(93, "0600000000")), BR), "byte 29: '00': S46_PORTPARAMS is 1 bytes longer than what it holds"),
        # Misnested, missing, too many.
        (option(94, rule(), BR, dmr()), "byte 41: '005b': S46_DMR must not stand in S46_CONT_MAPE (RFC 7598 section 5.1)"),
        (option(95, rule(), BR, dmr()), "byte 21: '005a': S46_BR must not stand in S46_CONT_MAPT (RFC 7598 section 5.2)"),
        (option(96, rule(), BR), "byte 4: '0059': S46_RULE must not stand in S46_CONT_LW (RFC 7598 section 5.3)"),
        (option(94, rule(), BR, PORTS), "byte 41: '005d': S46_PORTPARAMS must not stand in S46_CONT_MAPE"),
        (option(94, rule(inside=BR), BR), "byte 21: '005a': S46_BR must not stand in S46_RULE (RFC 7598 section 4.1)"),
        (option(94, rule(inside=rule()), BR), "byte 21: '0059': S46_RULE must not stand in S46_RULE"),
        (option(94, option(94, rule(), BR)), "byte 4: '005e': S46_CONT_MAPE must not stand in S46_CONT_MAPE"),
        (option(96, BR, bind(inside=BR)), "byte 40: '005a': S46_BR must not stand in S46_V4V6BIND"),
        (rule() + BR, "byte 0: '0059': no container is here: there are 94 (S46_CONT_MAPE), 95 (S46_CONT_MAPT), 96 (S46_CONT_LW)"),
        (option(94), "byte 0: '005e': S46_CONT_MAPE has no S46_RULE, which it needs"),
        (option(23, "00") + option(94, rule()), "byte 5: '005e': S46_CONT_MAPE has no S46_BR, which it needs"),
        (option(95, rule()), "byte 0: '005f': S46_CONT_MAPT has no S46_DMR, which it needs"),
        (option(96, bind()), "byte 0: '0060': S46_CONT_LW has no S46_BR, which it needs"),
        (option(95, dmr(), rule(), dmr()), "byte 38: '005b': is a second S46_DMR in S46_CONT_MAPT, which takes one"),
        (option(96, BR, bind(), bind()), "byte 40: '005c': is a second S46_V4V6BIND in S46_CONT_LW"),
        (option(94, rule(inside=ports() + ports()), BR), "byte 29: '005d': is a second S46_PORTPARAMS in S46_RULE"),
        # Values that contradict the format, MAP or each other.
        (option(94, rule(ea="31"), BR), "byte 9 (rules[0].ea_length): 49: must be an integer between 0 and 48"),
        (option(94, rule(ea="19"), BR), "byte 9 (rules[0].ea_length): 25: gives a PSID of 17 bits"),
        (option(94, rule(ipv4="2101020300"), BR), "byte 10: '21': an IPv4 prefix of 33 bits; at most 32 (RFC 7598 section 4.1)"),
        (option(94, rule(ipv6="81" + "00" * 17), BR), "byte 15: '81': an IPv6 prefix of 129 bits; at most 128"),
        (option(94, rule(), rule(ipv6="30200100000000"), BR), "byte 27 (rules[1].ipv4_prefix): '1.2.3.0/24': overlaps"),
        (option(94, rule(), rule(ipv4="1801020400"), BR), "byte 32 (rules[1].ipv6_prefix): '2001:db8::/34': is the prefix of rules[0] too"),
        (option(94, rule(inside=ports("10")), BR), "byte 25 (rules[0].psid_offset): 16: must be an integer between 0 and 15"),
        (option(94, rule(inside=ports("09")), BR), "byte 25 (rules[0].psid_offset): 9: leaves no port"),
        (option(94, rule(inside=ports("00", "11")), BR), "byte 26: '11': a PSID of 17 bits; at most 16 (RFC 7598 section 4.5)"),
        (option(94, rule(inside=PORTS), BR), "byte 26 (rules[0].psid_length): 7: contradicts the EA bits: 16 with 1.2.3.0/24 give 8"),
        (option(94, rule(ea="08", inside=PORTS), BR), "byte 27 (rules[0].psid): 127: is explicit, while the EA bits give each customer edge an IPv4"),
        (option(96, BR, bind(ports("0a", "07"))), "byte 44 (binding.psid_offset): 10: leaves no port"),
        (option(95, rule(), dmr("2120010db800")), "byte 25 (dmr): '2001:db8::/33': must have one of the lengths 32, 40, 48, 56, 64, 96"),
        (option(94, rule(), option(90, "ff02" + "00" * 14)), "byte 25 (br_address[0]): 'ff02::': must be a unicast IPv6 address"),
        (
            option(95, rule(), dmr("4020010db800000000")),
            "byte 25 (dmr): '2001:db8::/64': overlaps 2001:db8::/34 of rules[0]: an IPv6 address would stand for a CE and",
        ),
        (
            option(94, rule(ea="31", inside=ports("10")), BR),
            "2 faults:\n- byte 9 (rules[0].ea_length): 49: must be an integer between 0 and 48 (RFC 7597 section 5)\n"
            "- byte 25 (rules[0].psid_offset): 16: must be an integer between 0 and 15",
        ),
        (option(94, rule(), BR, BR), "byte 45 (br_address[1]): '2001:db8::1': is the same address as br_address[0]"),
    ],
)
def test_refused_option(text, start):
    assert refusal(text).startswith(start)


@pytest.mark.parametrize(
    ("text", "code", "start"),
    [
        (rule() + BR, 93, "code: 93: must be an integer between 94 and 96"),
        (rule() + BR, "x", "code: 'x': must be an integer between 94 and 96"),
        (rule() + BR, 95, "byte 17: '005a': S46_BR must not stand in S46_CONT_MAPT"),
        (option(94, rule(), BR), 95, "byte 0: '005e': no container 95 is here: there are 94 (S46_CONT_MAPE)"),
        (rule() + BR[:-2], "94", "byte 19: '0010': says that option 90 has 16 bytes, here are 15"),
    ],
)
def test_refused_body(text, code, start):
    assert refusal(text, code).startswith(start)


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ({**MAP_E, "interface_id": "draft03"}, "interface_id: 'draft03': has no place in the options"),
        ({**MAP_E, "rules": []}, "rules: []: must be a list of at least one rule"),
        ("map-e", "domain: 'map-e': must be a MAP domain"),
        ({**LW4O6, "rules": []}, "rules: []: is not a key of a lightweight 4over6 domain; there are transport, br_address, binding"),
        ({**LW4O6, "br_address": None}, "br_address: not set: is required for transport lw4o6"),
        ({**LW4O6, "binding": "x"}, "binding: 'x': must be a binding, a dict"),
        ({**LW4O6, "binding": {**BINDING, "ipv4_address": "192.0.2.0/24"}}, "binding.ipv4_address: '192.0.2.0/24': must be an IPv4 address"),
        ({**LW4O6, "binding": {**BINDING, "ipv6_prefix": None}}, "binding.ipv6_prefix: not set: must be an IPv6 prefix"),
        ({**LW4O6, "binding": {**BINDING, "psid": 128}}, "binding.psid: 128: must be an integer between 0 and 127"),
        ({**LW4O6, "binding": {**BINDING, "psid_length": 0}}, "binding.psid: 127: needs its psid_length"),
        ({**LW4O6, "binding": {**BINDING, "psid_offset": 10}}, "binding.psid_offset: 10: leaves no port"),
        (
            {**MAP_E, "rules": [{"ipv6_prefix": f"2001:{index:x}::/32", "ipv4_prefix": f"10.{index >> 8}.{index & 255}.0/24", "ea_length": 8}
                                for index in range(2800)]},
            "rules: 2800: are 67220 bytes; an option holds 65535",
        ),
    ],
)
def test_refused_domain(domain, text):
    with pytest.raises(MapError) as caught:
        options(domain)
    assert str(caught.value).startswith(text)


def test_the_roles_refuse_lightweight_4over6():
    with pytest.raises(MapError) as caught:
        parse_domain(LW4O6, "map_domain")
    assert str(caught.value).startswith("map_domain.transport: 'lw4o6': lightweight 4over6 is not MAP")


@st.composite
def port_parameters(draw, implied=None):
    psid_length = draw(st.integers(0, 16)) if implied is None else implied
    return draw(st.integers(0, min(15, 16 - psid_length))), psid_length


def prefixes(bits):
    network = ipaddress.IPv4Network if bits == 32 else ipaddress.IPv6Network
    return st.integers(0, bits).flatmap(lambda length: st.integers(0, 2**length - 1).map(
        lambda number: str(network((number << (bits - length), length)))))


def half(first_bit):
    """IPv6 prefixes with this first bit, so that a DMR and a rule never overlap."""
    return st.integers(1, 128).flatmap(lambda length: st.integers(0, 2 ** (length - 1) - 1).map(
        lambda number: str(ipaddress.IPv6Network((first_bit << 127 | number << (128 - length), length)))))


def of_customers(text):
    """Whether customers can have these addresses; a longer prefix may also hold some that they cannot."""
    network = ipaddress.ip_network(text)
    first, last = network.network_address, network.broadcast_address
    kinds = ("is_multicast", "is_loopback", "is_link_local")
    return not (any(getattr(first, kind) and getattr(last, kind) for kind in kinds)
                or network.version == 4 and (last.packed[0] == 0 or first.packed[0] >= 240))


@st.composite
def rules(draw):
    ipv6_prefix, ipv4_prefix = draw(half(1).filter(of_customers)), draw(prefixes(32).filter(of_customers))
    ipv6_length, ipv4_length = (int(text.split("/")[1]) for text in (ipv6_prefix, ipv4_prefix))
    written = {"ipv6_prefix": ipv6_prefix, "ipv4_prefix": ipv4_prefix, "fmr": draw(st.booleans())}
    if ipv4_length == 32 and draw(st.booleans()):
        offset, length = draw(port_parameters())
        assume(length)
        return {**written, "ea_length": 0, "psid_offset": offset, "psid_length": length, "psid": draw(st.integers(0, 2**length - 1))}
    ea_length = draw(st.integers(0, min(48 - ipv4_length, 128 - ipv6_length, 48)))
    return {**written, "ea_length": ea_length, "psid_offset": draw(port_parameters(max(0, ea_length + ipv4_length - 32)))[0]}


@st.composite
def domains(draw):
    address = st.integers(1, 0xFE << 120).map(lambda number: str(ipaddress.IPv6Address(number)))
    transport = draw(st.sampled_from(["map-e", "map-t", "lw4o6"]))
    written = {"transport": transport}
    if transport == "map-t":
        written["dmr"] = draw(half(0).map(lambda text: str(ipaddress.ip_network(f"{text.split('/')[0]}/64", strict=False))))
    else:
        written["br_address"] = draw(st.lists(address, min_size=1, max_size=3, unique=True))
    if transport == "lw4o6":
        offset, length = draw(port_parameters())
        psid = draw(st.integers(0, 2**length - 1)) if length else None
        ipv4 = str(ipaddress.IPv4Address(draw(st.integers(0, 2**32 - 1))))
        binding = {"ipv4_address": ipv4, "ipv6_prefix": draw(prefixes(128)), "psid_offset": offset, "psid_length": length, "psid": psid}
        return {**written, "binding": draw(st.sampled_from([binding, None]))}
    found = draw(st.lists(rules(), min_size=1, max_size=3))
    for index, one in enumerate(found):
        for other in found[:index]:
            assume(one["ipv6_prefix"] != other["ipv6_prefix"])
            assume(not ipaddress.ip_network(one["ipv4_prefix"]).overlaps(ipaddress.ip_network(other["ipv4_prefix"])))
    return {**written, "rules": found}


def naive_option(code, bits):
    """An option from a string of 0 and 1, from the figures of RFC 7598."""
    return format(code, "016b") + format(len(bits) // 8, "016b") + bits


def naive_prefix(text):
    address, length = text.split("/")
    bits = format(int(ipaddress.IPv6Address(address)), "0128b")[: int(length)]
    return format(int(length), "08b") + bits + "0" * (-len(bits) % 8)


def naive_ports(fields):
    psid = "" if fields.get("psid") is None else format(fields["psid"], f"0{fields['psid_length']}b")
    return naive_option(93, format(fields["psid_offset"], "08b") + format(len(psid), "08b") + psid.ljust(16, "0"))


def naive_container(domain):
    body = ""
    for one in domain.get("rules", []):
        address, length = one["ipv4_prefix"].split("/")
        body += naive_option(89, "0000000" + str(int(one["fmr"])) + format(one["ea_length"], "08b") + format(int(length), "08b")
                             + format(int(ipaddress.IPv4Address(address)), "032b") + naive_prefix(one["ipv6_prefix"]) + naive_ports(one))
    for address in domain.get("br_address", []):
        body += naive_option(90, format(int(ipaddress.IPv6Address(address)), "0128b"))
    if "dmr" in domain:
        body += naive_option(91, naive_prefix(domain["dmr"]))
    if domain.get("binding"):
        one = domain["binding"]
        body += naive_option(92, format(int(ipaddress.IPv4Address(one["ipv4_address"])), "032b")
                             + naive_prefix(one["ipv6_prefix"]) + naive_ports(one))
    bits = naive_option({"map-e": 94, "map-t": 95, "lw4o6": 96}[domain["transport"]], body)
    return "".join(format(int(bits[at:at + 4], 2), "x") for at in range(0, len(bits), 4))


@settings(max_examples=150, deadline=None)
@given(domains())
def test_equals_the_naive_encoder_and_comes_back(domain):
    encoded = options(domain)[0]["option"]
    assert encoded == naive_container(domain)
    assert domain_of(encoded) == (parse_lw4o6 if domain["transport"] == "lw4o6" else parse_domain)(domain)


@settings(max_examples=150, deadline=None)
@given(domains(), st.data())
def test_a_broken_option_is_refused_or_decoded_and_nothing_else(domain, data):
    """Whatever changes on the way: a MapError that names a byte within the bytes, or a domain that can be encoded again."""
    octets = bytearray.fromhex(options(domain)[0]["option"])
    for _change in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    octets = octets[: data.draw(st.integers(1, len(octets)))]
    try:
        decoded = domain_of(octets.hex())
    except MapError as exc:
        assert exc.path.startswith("byte ")
        assert 0 <= int(exc.path.split()[1]) <= len(octets)
        return
    assert domain_of(options(decoded)[0]["option"]) == decoded


@settings(max_examples=150, deadline=None)
@given(domains(), st.data())
def test_a_truncated_option_is_refused(domain, data):
    text = options(domain)[0]["option"]
    at = data.draw(st.integers(1, len(text) // 2 - 1))
    assert refusal(text[: 2 * at]).startswith("byte ")
