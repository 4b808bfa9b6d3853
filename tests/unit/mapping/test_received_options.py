# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What DHCPv6 servers send in another way than the RFCs, or leave to the client: padding, PSIDs, rules twice, containers, messages."""

from __future__ import annotations

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator
from ansible_collections.softwire.map.plugins.module_utils.mapping.dhcpv6 import domain_of, options
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError


def option(code, *contents):
    body = "".join(contents)
    return f"{code:04x}{len(body) // 2:04x}{body}"


def rule(ea="0c", ipv4="17c6336400", ipv6="3020010db80030", inside="005d000400000000", flags="00"):
    """A rule: 2001:db8:30::/48, 198.51.100.0/23 and 12 EA bits, hence a PSID of 3 bits, without excluded ports."""
    return option(89, flags, ea, ipv4, ipv6, inside)


def psid(length, left_aligned, offset="00"):
    return option(93, offset, length, left_aligned)


def decoded(text, code=None, end_user_prefix=None):
    """The domain and the warnings."""
    warned = []
    return domain_of(text, code, warned.append, end_user_prefix), warned


def refusal(text, **named):
    with pytest.raises(MapError) as caught:
        domain_of(text, **named)
    return str(caught.value)


BR = option(90, "20010db8ffff00000000000000000001")
DMR = option(91, "4020010db8ffff0000")
MAP_E, MAP_T = option(94, rule(), BR), option(95, rule(), DMR)
LW4O6 = option(96, BR)
RULE = {"ipv6_prefix": "2001:db8:30::/48", "ipv4_prefix": "198.51.100.0/23", "ea_length": 12, "psid_offset": 0, "fmr": False}
DOMAIN_E = parse_domain({"transport": "map-e", "br_address": "2001:db8:ffff::1", "rules": [RULE]})
DOMAIN_T = parse_domain({"transport": "map-t", "dmr": "2001:db8:ffff::/64", "rules": [RULE]})
PREFIX = "2001:db8:30:20::/60"  # its EA bits are 2: 198.51.100.0 with PSID 2


def test_a_line_whose_provider_pads_the_prefix():
    """As on a French line: two zero bytes behind a /48."""
    domain, warned = decoded("005f002900590018000c17c63364003020010db800300000005d000400000000005b00094020010db8ffff0000")
    assert domain == DOMAIN_T
    assert warned == ["byte 15 (rules[0].ipv6_prefix): '2001:db8:30::/48': the provider pads the prefix to 8 bytes, where 48 bits need 6; the zero bytes "
                      "are ignored (RFC 7598 section 4.1)"]
    ce = calculator.ce(domain, PREFIX)
    assert (ce["ipv4_address"], ce["psid"], ce["port_ranges"]) == ("198.51.100.0", 2, [[16384, 24575]])


@pytest.mark.parametrize("count", range(1, 11))
@pytest.mark.parametrize("inside", ["", "005d000400000000"])
def test_any_number_of_zero_bytes_up_to_a_whole_address(count, inside):
    """Four of them alone would be an option without a body, eight two of them."""
    domain, warned = decoded(option(95, rule(ipv6="3020010db80030" + "00" * count, inside=inside), DMR))
    assert domain["rules"][0]["psid_offset"] == (0 if inside else 6) and domain["rules"][0]["ipv6_prefix"] == "2001:db8:30::/48"
    assert len(warned) == 1 and f"pads the prefix to {6 + count} bytes, where 48 bits need 6" in warned[0]


def test_a_dmr_and_a_binding_are_padded_as_well():
    domain, warned = decoded(option(95, rule(), option(91, "4020010db8ffff000000000000000000")))
    assert domain == DOMAIN_T and warned[0].startswith("byte 34 (dmr): '2001:db8:ffff::/64': the provider pads the prefix to 15 bytes")
    domain, warned = decoded(option(96, BR, option(92, "c0000212", "3820010db800123400", psid("08", "3400"))))
    assert domain["binding"] == {"ipv4_address": "192.0.2.18", "ipv6_prefix": "2001:db8:12:3400::/56", "psid_offset": 0, "psid_length": 8, "psid": 52}
    assert warned[0].startswith("byte 32 (binding.ipv6_prefix): '2001:db8:12:3400::/56': the provider pads the prefix to 8 bytes")


@pytest.mark.parametrize(
    ("ipv6", "start"),
    [
        # More than an address, and bytes that are not zero, stand where options do.
        ("3020010db80030" + "00" * 11, "byte 36: '0400': says that option 23808 has 1024 bytes, here are 3"),
        ("3020010db800301234", "byte 24: '005d': says that option 4660 has 93 bytes, here are 6"),
        ("3020010db800300001", "byte 24: '005d': says that option 1 has 93 bytes, here are 6"),
    ],
)
def test_what_is_no_padding(ipv6, start):
    text = refusal(option(95, rule(ipv6=ipv6), DMR))
    assert text.startswith(start), text


def test_bits_after_the_length_do_not_count():
    """Those in the prefix's last byte; the IPv4 prefix is allowed to have them."""
    domain, warned = decoded(option(95, rule(ea="0c", ipv6="2f20010db80031", ipv4="17c63365ff"), DMR))
    assert (domain["rules"][0]["ipv6_prefix"], domain["rules"][0]["ipv4_prefix"]) == ("2001:db8:30::/47", "198.51.100.0/23")
    assert warned == ["byte 15 (rules[0].ipv6_prefix): '2001:db8:30::/47': the provider pads the prefix with other bits than zero after its first 47; "
                      "they are ignored (RFC 7598 section 4.1)"]
    domain, warned = decoded(option(96, BR, option(92, "c0000212", "3720010db8001235")))
    assert domain["binding"]["ipv6_prefix"] == "2001:db8:12:3400::/55" and "they are ignored (RFC 7598 section 4.4)" in warned[0]


# An explicit PSID of 2 beside EA bits that hold a PSID of 3 bits.
BESIDE = option(95, rule(inside=psid("03", "4000")), DMR)


@pytest.mark.parametrize(
    ("end_user_prefix", "said"),
    [
        (None, "is not used: each customer edge takes its PSID from its EA bits"),
        (PREFIX, None),
        ("2001:db8:30:30::/60", "is not 3, which the EA bits of the end-user prefix give, and is not used: the border relay goes by the EA bits"),
        # Of another rule, or too short to have EA bits.
        ("2001:db8:31:30::/60", None),
        ("2001:db8:30::/56", None),
    ],
)
def test_a_psid_in_the_ea_bits_decides(end_user_prefix, said):
    domain, warned = decoded(BESIDE, None, end_user_prefix)
    assert domain == DOMAIN_T
    assert warned == ([f"byte 28 (rules[0].psid): 2: {said} (RFC 7598 section 4.5)"] if said else [])


# 192.0.2.18 whole, 8 EA bits that are the PSID, and an explicit one of 52.
WHOLE = option(94, rule(ea="08", ipv4="20c0000212", inside=psid("08", "3400", "06")), BR)


@pytest.mark.parametrize(
    ("end_user_prefix", "ipv6_prefix", "said"),
    [
        (None, "2001:db8:30:3400::/56", "is explicit beside EA bits: this is the rule of the one customer edge whose EA bits are the same; "
                                        "give end_user_prefix where they are not"),
        ("2001:db8:30:3400::/56", "2001:db8:30:3400::/56", None),
        ("2001:db8:30:34ff::/64", "2001:db8:30:3400::/56", None),
        ("2001:db8:30:3500::/56", "2001:db8:30:3500::/56", "is used, though the EA bits of the end-user prefix give 53"),
        ("2001:db8:31:3500::/56", "2001:db8:30:3400::/56", None),
    ],
)
def test_a_psid_for_a_whole_address_is_used(end_user_prefix, ipv6_prefix, said):
    domain, warned = decoded(WHOLE, None, end_user_prefix)
    assert domain["rules"] == [{"ipv6_prefix": ipv6_prefix, "ipv4_prefix": "192.0.2.18/32", "ea_length": 0, "psid_offset": 6, "psid_length": 8,
                                "psid": 52, "fmr": False}]
    assert warned == ([f"byte 28 (rules[0].psid): 52: {said} (RFC 7598 section 4.5)"] if said else [])
    ce = calculator.ce(domain, ipv6_prefix)
    assert (ce["ipv4_address"], ce["psid"], ce["port_ranges"][0]) == ("192.0.2.18", 52, [1232, 1235])


def test_a_psid_beside_ea_bits_that_are_the_rest_of_the_address():
    """Nobody but the line's prefix says which address is whole."""
    text = option(94, rule(ea="08", ipv4="18c0000200", inside=psid("08", "3400", "06")), BR)
    assert refusal(text).startswith(
        "byte 28 (rules[0].psid): 52: is explicit, while the EA bits give each customer edge an IPv4 address: give end_user_prefix")
    domain, warned = decoded(text, None, "2001:db8:30:1200::/56")
    assert domain["rules"] == [{"ipv6_prefix": "2001:db8:30:1200::/56", "ipv4_prefix": "192.0.2.18/32", "ea_length": 0, "psid_offset": 6,
                                "psid_length": 8, "psid": 52, "fmr": False}]
    assert warned == []


def test_a_psid_for_an_ipv4_prefix_is_ignored():
    domain, warned = decoded(option(94, rule(ea="04", inside=psid("03", "4000", "05")), BR))
    assert (domain["rules"][0]["psid_offset"], domain["rules"][0]["psid_length"], domain["rules"][0]["psid"]) == (6, 0, None)
    assert warned == ["byte 28 (rules[0].psid): 2: is ignored with all port parameters: a customer edge of this rule has an IPv4 prefix, whose ports are "
                      "all its own (RFC 7598 section 4.5)"]


@pytest.mark.parametrize(
    "text", [option(94, rule(ea="08", ipv4="20c0000212", inside=psid("07", "3400")), BR), option(95, rule(inside=psid("04", "3000")), DMR)])
def test_a_psid_of_another_length_than_the_ea_bits_give(text):
    assert "byte 27 (rules[0].psid_length)" in refusal(text) and "contradicts the EA bits" in refusal(text)


@pytest.mark.parametrize("flags", [("00", "01"), ("01", "00"), ("01", "01"), ("00", "00")])
def test_one_rule_that_comes_twice(flags):
    first, second = flags
    third = rule(ipv4="17c6336600", ipv6="3020010db80031")
    domain, warned = decoded(option(94, rule(flags=first), rule(flags=second), third, BR))
    fmr = "01" in flags
    assert domain == parse_domain({**DOMAIN_E, "rules": [
        {**RULE, "fmr": fmr}, {**RULE, "ipv6_prefix": "2001:db8:31::/48", "ipv4_prefix": "198.51.102.0/23"}]})
    said = "forwarding (fmr) as one of them is" if fmr else "not forwarding (fmr)"
    assert warned == [f"byte 41 (rules[1].ipv6_prefix): '2001:db8:30::/48': is the rule of byte 4 (rules[0]) again: they are one, {said}"]


def test_a_rule_that_says_the_default_offset_is_the_one_that_leaves_it_out():
    domain, warned = decoded(option(94, rule(inside=""), rule(inside=psid("00", "0000", "06"), flags="01"), BR))
    assert len(domain["rules"]) == 1 and domain["rules"][0]["fmr"] and len(warned) == 1


def test_rules_that_differ_are_two_and_errors_count_as_the_provider_does():
    text = refusal(option(94, rule(), rule(flags="01"), rule(inside=psid("00", "0000", "04")), BR))
    assert text.startswith("2 faults:\n- byte 67 (rules[2].ipv6_prefix): '2001:db8:30::/48': is the prefix of rules[0] too")
    text = refusal(option(94, rule(), rule(flags="01"), rule(ipv6="3020010db80031", ipv4="17c6336600"), rule(ipv6="3020010db80032", ipv4="17c6336600"), BR))
    assert text.startswith("byte 88 (rules[3].ipv4_prefix): '198.51.102.0/23': overlaps 198.51.102.0/23 of rules[2]")


PREFERS = "no option 111 that prefers one: the first valid of MAP-E and MAP-T is taken; code chooses the other (RFC 8026 section 1.4)"
BAD_E = option(94, rule())


@pytest.mark.parametrize(
    ("text", "domain", "said"),
    [
        (MAP_E + MAP_T, DOMAIN_E, [PREFERS]),
        (MAP_T + MAP_E, DOMAIN_E, [PREFERS]),
        (MAP_T + MAP_E + option(111, "005e005f"), DOMAIN_E, []),
        (MAP_E + option(111, "005f005e") + MAP_T, DOMAIN_T, []),
        (option(111, "005f") + MAP_E + MAP_T, DOMAIN_T, []),
        # DS-Lite (64) and a code that nobody knows; a code twice.
        (MAP_E + MAP_T + option(111, "0040ffff005f005e005f"), DOMAIN_T, []),
        (MAP_E + MAP_T + option(111, "00400058"), DOMAIN_E, [PREFERS]),
        (MAP_E + MAP_T + option(111), DOMAIN_E, [PREFERS]),
        (MAP_E + option(111, "005f"), DOMAIN_E, []),
        (MAP_E + MAP_T + option(111, "005f00"), DOMAIN_E, ["option 111 is ignored: it has codes of two bytes, here are 3", PREFERS]),
        # Lightweight 4over6 is the last, whatever is preferred.
        (LW4O6 + MAP_T + option(111, "0060005f"), DOMAIN_T, ["S46_CONT_LW is here too: lightweight 4over6 is not MAP"]),
        (MAP_E + MAP_T + LW4O6 + option(111, "0060"), DOMAIN_E, [PREFERS, "S46_CONT_LW is here too"]),
        # A malformed one is ignored, said once, and the other counts.
        (BAD_E + MAP_T + option(111, "005e005f"), DOMAIN_T, ["S46_CONT_MAPE is ignored: byte 0: '005e': S46_CONT_MAPE has no S46_BR, which it needs"]),
        (MAP_E + option(95, rule(), DMR, DMR) + option(111, "005f"), DOMAIN_E, ["S46_CONT_MAPT is ignored: byte 93: '005b': is a second S46_DMR"]),
        (option(94, rule(ea="31"), rule(ea="31"), BR) + MAP_T + option(111, "005e"), DOMAIN_T,
         ["S46_CONT_MAPE is ignored: byte 9 (rules[0].ea_length): 49: must be an integer between 0 and 48"]),
        # Of two with one code the first counts.
        (MAP_E + option(94, rule(flags="01"), BR) + option(94) * 100, DOMAIN_E,
         ["byte 50: '005e': is a second option 94: the first one counts (RFC 8415 section 21)"]),
        (MAP_E + MAP_T + option(111, "005f") + option(111, "005e"), DOMAIN_T, ["is a second option 111: the first one counts"]),
    ],
)
def test_one_of_several_containers(text, domain, said):
    found, warned = decoded(text)
    assert found == domain
    assert len(warned) == len(said), warned
    for part, warning in zip(said, warned):
        assert part in warning


def test_lightweight_4over6_where_nothing_else_is_valid():
    domain, warned = decoded(BAD_E + LW4O6)
    assert domain["transport"] == "lw4o6"
    assert len(warned) == 2 and "S46_CONT_MAPE is ignored" in warned[1]


def test_all_containers_are_malformed():
    assert refusal(BAD_E + option(95, rule())).startswith(
        "2 faults:\n- byte 0: '005e': S46_CONT_MAPE has no S46_BR, which it needs (RFC 7598 section 5.1)\n"
        "- byte 30: '005f': S46_CONT_MAPT has no S46_DMR, which it needs")


def test_the_container_that_is_wanted():
    assert decoded(MAP_E + MAP_T + option(111, "005e"), 95) == (DOMAIN_T, [])
    assert decoded(MAP_E, 94) == decoded(MAP_E[8:], 94) == (DOMAIN_E, [])
    assert refusal(MAP_E + option(95, rule()), code=95).startswith("byte 50: '005f': S46_CONT_MAPT has no S46_DMR")


# A Reply: type, transaction id, the identifiers of client and server, a delegated prefix, the name server.
DELEGATED = option(26, "0000070800000e103820010db8003020000000000000000000")
REPLY = ("07112233" + option(1, "00030001020000000001") + option(2, "00030001020000000002") + option(25, "00000001", "00" * 8, DELEGATED)
         + MAP_T + option(23, "20010db8" + "00" * 12))


@pytest.mark.parametrize("text", [REPLY, "02" + REPLY[2:], "0x" + REPLY, ":".join(REPLY[at:at + 2] for at in range(0, len(REPLY), 2)), bytes.fromhex(REPLY)])
def test_a_whole_message(text):
    assert decoded(text) == (DOMAIN_T, [])
    assert decoded(text, 95) == (DOMAIN_T, [])


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("01" + REPLY[2:], "byte 0: '01': begins a message that is not for a client: give a Reply or an Advertise, or options alone (RFC 8415 section 8)"),
        ("0d" + REPLY[2:], "byte 0: '0d': begins a message"),
        ("07112233", "byte 0: '0711': no container is here"),
        ("07", "byte 0: '07': no container is here"),
        ("07112233" + option(23, "00"), "byte 0: '0711': no container is here"),
        (REPLY[:-2], "byte 122: '0010': says that option 23 has 16 bytes, here are 15"),
        (b"", "option: b'': must be hex"),
    ],
)
def test_refused_messages(text, start):
    refused = refusal(text)
    assert refused.startswith(start), refused


def test_a_message_without_the_container_that_is_wanted():
    assert refusal(REPLY, code=94).startswith("byte 0: '0711': no container 94 is here: there are 95 (S46_CONT_MAPT)")
    assert refusal("07112233" + option(23, "00"), code=94).startswith("byte 0: '0711': no container is here")


def many(count, filler=""):
    return option(94, *(rule(ipv6=f"3020010db8{index:04x}", ipv4=f"17c6{index:02x}6400", inside=filler) for index in range(count)), BR)


def test_sizes():
    assert len(domain_of(many(64))["rules"]) == 64
    assert refusal(many(65)).startswith("byte 1156: '0059': is one of 65 rules; no line needs more than 64 (RFC 7598 section 5.1)")
    filler = option(200, "00" * 4096)
    assert refusal(option(94, filler, rule(), BR)).startswith("byte 0: '005e': S46_CONT_MAPE has 4146 bytes; no line needs more than 4096")
    assert decoded(option(94, filler, rule(), BR) + MAP_T)[0] == DOMAIN_T


def test_the_line_is_checked_before_anything_else():
    assert refusal(MAP_E, end_user_prefix="2001:db8:30:20::1/60").startswith("end_user_prefix: '2001:db8:30:20::1/60': has bits set after its first 60")


def test_what_is_decoded_can_be_sent_again():
    for text in (WHOLE, BESIDE, MAP_E, many(3)):
        domain = domain_of(text)
        assert domain_of(options(domain)[0]["option"]) == domain
