# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of MAP for the oracles of the programs: RFC 7597 sections 5 and 6, RFC 7599 sections 5 and 6, RFC 6052.

Written from the RFCs, with no arithmetic of the product. Addresses are integers, of 32 or 128 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


class Dropped(Exception):
    """A packet is dropped; reason: a word of bpf_rule.REASONS without its dropped_, or one that only the translator has."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def bits(value: int, low: int, count: int) -> int:
    """`count` bits of a value, the lowest of them being bit `low`, where the last bit of an address is bit 0."""
    return value >> low & (1 << count) - 1


def is_martian(ipv4: int) -> bool:
    """Whether no host may have the address: 0/8, 127/8, 224/3 (RFC 1812 section 5.3.7, RFC 7915 sections 4.1 and 5.1)."""
    return ipv4 >> 24 in (0, 127) or ipv4 >> 29 == 7


@dataclass(frozen=True)
class Rule:
    """A mapping rule (RFC 7597 section 5); n + o is at most 64 bits."""

    ipv6: int  # the rule IPv6 prefix, 128 bits
    n: int  # its length
    ipv4: int  # the rule IPv4 prefix, 32 bits
    r: int  # its length
    o: int  # EA bits
    a: int  # PSID offset
    k: int  # PSID length; 0: the address is not shared
    psid: int | None = None  # of an explicit PSID
    draft03: bool = False  # interface id of draft-ietf-softwire-map-03 section 6, not of RFC 7597 section 6

    @classmethod
    def of(cls, fields: dict, interface_id: str = "rfc7597") -> Rule:
        """A rule from one of a checked domain's `rules`."""
        ipv6, ipv4 = IPv6Network(fields["ipv6_prefix"]), IPv4Network(fields["ipv4_prefix"])
        return cls(
            int(ipv6.network_address), ipv6.prefixlen, int(ipv4.network_address), ipv4.prefixlen,
            fields["ea_length"], fields["psid_offset"], fields["psid_length"], fields["psid"], interface_id == "draft03",
        )

    @property
    def suffix_length(self) -> int:
        """p, the bits of the IPv4 suffix in the EA bits (RFC 7597 section 5.2)."""
        return min(self.o, 32 - self.r)

    def covers(self, ipv4: int) -> bool:
        """Whether an IPv4 address is in the rule's prefix."""
        return bits(ipv4, 32 - self.r, self.r) == bits(self.ipv4, 32 - self.r, self.r)

    def is_prefix_of(self, address: int) -> bool:
        """Whether an IPv6 address is in the rule's prefix."""
        return bits(address, 128 - self.n, self.n) == bits(self.ipv6, 128 - self.n, self.n)

    def psid_of(self, port: int | str) -> int:
        """The PSID of a port (RFC 7597 section 5.1); Dropped when no CE has the port. `port` may be the reason why it is not known."""
        if isinstance(port, str):
            raise Dropped(port)
        if port == 0:
            raise Dropped("port_zero")
        if self.a > 0 and bits(port, 16 - self.a, self.a) == 0:
            raise Dropped("excluded_port")
        return bits(port, 16 - self.a - self.k, self.k)

    def map_address(self, ipv4: int, psid: int = 0) -> int:
        """The MAP address of the CE with an IPv4 address and PSID (RFC 7597 sections 5.2 and 6).

        The interface id holds the whole address where the CE has a prefix (RFC 7599 section 6, erratum 5225).
        """
        ea_bits = bits(ipv4, 32 - self.r - self.suffix_length, self.suffix_length)
        if self.o > self.suffix_length:
            ea_bits = ea_bits << self.k | psid
        interface_id = ipv4 << 16 | psid
        return self.ipv6 | ea_bits << (128 - self.n - self.o) | interface_id << (8 if self.draft03 else 0)

    def share(self, ea_bits: int) -> tuple[int, int, int]:
        """The IPv4 address of the CE with these EA bits, its PSID, and how many bits of the address its IPv4 prefix leaves to it (section 5.2)."""
        free, psid = 32 - self.r - self.suffix_length, self.psid or 0
        if self.o > self.suffix_length:
            ea_bits, psid = ea_bits >> self.k, bits(ea_bits, 0, self.k)
        return self.ipv4 | ea_bits << free, psid, free

    def ipv4_in(self, address: int) -> int:
        """The IPv4 address in the interface id of a MAP address."""
        return bits(address, 24 if self.draft03 else 16, 32)

    def psid_in(self, address: int) -> int:
        """The PSID in the interface id of a MAP address."""
        return bits(address, 8 if self.draft03 else 0, self.k)


@dataclass(frozen=True)
class TunnelRule(Rule):
    """The same for MAP-E: the interface id of a CE with an IPv4 prefix holds the prefix, with zeros behind it (RFC 7597 section 6)."""

    def map_address(self, ipv4: int, psid: int = 0) -> int:
        free = 32 - self.r - self.suffix_length
        return super().map_address(ipv4 >> free << free, psid)


class Rules:
    """The rules of a BR, or the FMRs of a CE."""

    def __init__(self, rules: Iterable[Rule]):
        # the longest match first (RFC 7597 section 5); of explicit PSIDs at one address the first stays first
        self.rules = sorted(rules, key=lambda rule: -rule.r)

    def of(self, ipv4: int) -> Rule | None:
        """The rule of an IPv4 address. Of explicit PSIDs any: offset and length are those of all (RFC 7597 section 5.1)."""
        return next((rule for rule in self.rules if rule.covers(ipv4)), None)

    def with_psid(self, rule: Rule, psid: int) -> Rule:
        """The rule itself, or the one with the explicit PSID among those of its address."""
        if rule.psid is None:
            return rule
        for other in self.rules:
            if (other.ipv4, other.r, other.psid) == (rule.ipv4, rule.r, psid):
                return other
        raise Dropped("other_psid")

    def map_address(self, rule: Rule, ipv4: int, port: int | str) -> int:
        """The MAP address of an IPv4 address in a rule and a port. `port` may be the reason why it is not known."""
        psid = 0
        if rule.k:
            psid = rule.psid_of(port)
            rule = self.with_psid(rule, psid)
        return rule.map_address(ipv4, psid)

    def claimed(self, address: int) -> Rule | None:
        """The rule of which an IPv6 address claims to be a MAP address: its IPv4 address is in the rule, and it in the rule's prefix.

        Explicit PSIDs of one IPv4 address have prefixes of their own, of which any may be meant.
        """
        for draft03, low in ((False, 16), (True, 24)):
            rule = self.of(bits(address, low, 32))
            if rule and rule.draft03 == draft03 and (rule.psid is not None or rule.is_prefix_of(address)):
                return rule
        return None

    def sender(self, rule: Rule, address: int, port: int | str | None) -> tuple[int, int]:
        """The IPv4 address and PSID of a MAP address that a rule has to give for a source port (RFC 7599 section 8.2 and 8.3).

        port: None in a later fragment, whose PSID is that of the address. The PSID of an address that is not shared is 0.
        """
        ipv4, psid = rule.ipv4_in(address), 0
        if rule.k:
            psid = rule.psid_in(address) if port is None else rule.psid_of(port)
            rule = self.with_psid(rule, psid)
        if rule.map_address(ipv4, psid) != address:
            raise Dropped("spoofed")
        return ipv4, psid


class DefaultRule:
    """The DMR: IPv4 addresses in IPv6 addresses (RFC 6052 section 2.2) of a prefix of 32, 40, 48, 56, 64 or 96 bits."""

    def __init__(self, prefix: str):
        network = IPv6Network(prefix)
        self.length = network.prefixlen
        self.prefix = int(network.network_address)
        # the eight bits from bit 64 on stay free, but for a /96, which leaves none
        self.before = 32 if self.length == 96 else max(0, min(32, 64 - self.length))

    def holds(self, address: int) -> bool:
        """Whether an IPv6 address is in the prefix."""
        return bits(address, 128 - self.length, self.length) == bits(self.prefix, 128 - self.length, self.length)

    def embed(self, ipv4: int) -> int:
        """The IPv6 address of an IPv4 address."""
        after = 32 - self.before
        address = self.prefix
        if self.before:
            address |= bits(ipv4, after, self.before) << (128 - self.length - self.before)
        if after:
            address |= bits(ipv4, 0, after) << (56 - after)
        return address

    def extract(self, address: int) -> int:
        """The IPv4 address in an IPv6 address; what lies beside it is ignored (RFC 6052 section 2.3)."""
        after = 32 - self.before
        high = bits(address, 128 - self.length - self.before, self.before) if self.before else 0
        return high << after | (bits(address, 56 - after, after) if after else 0)
