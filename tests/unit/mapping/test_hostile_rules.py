# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody on the line can send in a provider's place: whatever it is, a domain or the one error, soon, and nothing is kept of it."""

from __future__ import annotations

import gc
import json
import random
import sys
import time

import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping.dhcpv6 import parse_lw4o6
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError
from ansible_collections.softwire.map.plugins.module_utils.mapping.rule_sources import domain_of

COUNT = 1500  # of each; 0.1 to 0.6 ms for one
LINES = (None, "2001:db8:12:3400::/56")


def option(code, body):
    return code.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


RULE = option(89, bytes.fromhex("011018c00002002820010db800005d000406083400"))
PADDED = option(89, bytes.fromhex("000c17c63364003020010db800300000005d000400034000"))
WHOLE = option(89, bytes.fromhex("000820c63364123020010db80031005d000406083400"))
BR, DMR = option(90, bytes.fromhex("20010db8ffff00000000000000000001")), option(91, bytes.fromhex("4020010db8ffff0000"))
MESSAGE = (b"\x07abc" + option(2, bytes(10)) + option(94, RULE + RULE + PADDED + WHOLE + BR) + option(95, RULE + PADDED + DMR)
           + option(96, BR + option(92, bytes.fromhex("c00002123820010db8001234"))) + option(111, b"\0\x5f\0\x5e\0\x60"))
STRING = ("MAPE=fmr,type=map-e,ealen=16,prefix4len=24,prefix6len=40,ipv4prefix=192.0.2.0,ipv6prefix=2001:db8::,offset=6,psidlen=8,psid=13312,"
          "br=2001:db8:ffff::1, type=map-e,ealen=8,prefix4len=32,prefix6len=48,ipv4prefix=198.51.100.18,ipv6prefix=2001:db8:100::,offset=6,"
          "psidlen=8,psid=0x3400,br=2001:db8:ffff::1")
ENTRY = {"brIpv6Address": "2001:db8:ffff::1", "ipv6Prefix": "2001:db8::", "ipv6PrefixLength": "40", "ipv4Prefix": "192.0.2.0",
         "ipv4PrefixLength": "24", "eaBitLength": "16", "psIdOffset": 4, "psId": "52"}
ANSWER = {"basicMapRules": [ENTRY, {**ENTRY, "ipv6Prefix": "2001:db8:100::", "ipv4Prefix": "198.51.100.18", "ipv4PrefixLength": 32, "eaBitLength": 8},
                            {**ENTRY, "brIpv6Address": "2001:db8:ffff::2"}]}
ODD = (None, True, -1, 0, 3.5, 129, 10**40, 1e400, "", "52", "2001:db8::", "192.0.2.0", "\ud800", " 7", "٣", "x" * 5000, [], {}, [[]], {"a": {}})


def mutated_bytes(chance, original):
    octets = bytearray(original)
    for _change in range(chance.choice((1, 1, 2, 4, 16))):
        at, kind = chance.randrange(len(octets) or 1), chance.random()
        if kind < 0.6 and octets:
            octets[at] = chance.choice((0, 1, 255, chance.randrange(256)))
        elif kind < 0.8:
            del octets[at:at + chance.randrange(1, 9)]
        else:
            octets[at:at] = chance.choice((bytes(chance.randrange(256) for _byte in range(chance.randrange(40))), bytes(chance.randrange(20)), RULE, BR))
    return bytes(octets)


def messages(chance):
    octets = mutated_bytes(chance, MESSAGE[chance.choice((0, 4)):])
    return chance.choice((octets, octets.hex(), octets.hex(":"), f"0x{octets.hex()}"))


def strings(chance):
    return mutated_bytes(chance, STRING.encode()).decode("utf-8", "replace")


def texts(chance):
    """JSON whose characters have changed."""
    return mutated_bytes(chance, chance.choice((json.dumps(ANSWER), f"v6plus({json.dumps(ANSWER)});")).encode()).decode("utf-8", "replace")


def answers(chance):
    """JSON whose values have changed."""
    answer = json.loads(json.dumps(ANSWER))
    for _change in range(chance.choice((1, 1, 2, 4))):
        rules = answer["basicMapRules"]
        entry = chance.choice(rules) if rules else {}
        kind = chance.random()
        if kind < 0.8 and isinstance(entry, dict):
            entry[chance.choice(list(ENTRY))] = chance.choice(ODD) if kind < 0.6 else str(chance.randrange(-1, 130))
        elif kind < 0.9:
            rules.append(chance.choice((*ODD, dict(ENTRY))))
        elif entry:
            rules.remove(entry)
    return chance.choice((answer, json.dumps(answer)))


def outcome(made, chance):
    """What becomes of one: the domain, which is a checked one, or the error."""
    code = chance.choice((None, None, None, 94, 95, 96)) if made is messages else None
    warned = []
    try:
        domain = domain_of(made(chance), code, chance.choice(LINES), warned.append)
    except MapError as exc:
        return str(exc)
    assert all(isinstance(text, str) and text for text in warned)
    assert (parse_lw4o6 if domain["transport"] == "lw4o6" else parse_domain)(domain) == domain
    return domain


@pytest.mark.parametrize("made", [messages, strings, texts, answers])
def test_whatever_comes(made):
    """Both ends are seen, and the second half leaves no more behind than the first."""
    chance = random.Random(7)
    outcomes = {str: 0, dict: 0}
    kept = []
    for _half in range(2):
        for _one in range(COUNT // 2):
            outcomes[type(outcome(made, chance))] += 1
        gc.collect()
        kept.append(sys.getallocatedblocks())
    assert min(outcomes.values()) > COUNT // 200, outcomes
    assert kept[1] - kept[0] < 1000, kept


def test_the_largest_that_can_come():
    """Of the size of a datagram: refused before it costs anything."""
    rules = b"".join(option(89, bytes([0, 16, 24, 10, index >> 8, index & 255, 0, 48, 0x20, 1, 0xd, 0xb8, index >> 8, index & 255])) for index in range(3000))
    before = time.process_time()
    for container in (option(94, rules + BR), option(94, bytes(60000)), option(94, option(89, RULE[4:18] + bytes(4000)) + BR)):
        with pytest.raises(MapError):
            domain_of(container)
    largest = (json.dumps({"basicMapRules": [ENTRY] * 1000}), '{"basicMapRules":[{"psIdOffset":' + "9" * 200000 + "}]}", f"{STRING} " * 1000,
               f"{STRING}{',br=::1' * 20000}", f"{STRING},{'typ=,' * 40000}", "{" * 200000, "[" * 200000, "0:" * 100000)
    for text in largest:
        with pytest.raises(MapError):
            domain_of(text)
    assert time.process_time() - before < 0.5
