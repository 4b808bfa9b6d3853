# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The MAP arithmetic: from a domain and an end-user IPv6 prefix to the parameters of a CE.

Pure functions on plain data. A domain is trusted to be valid here (domain.py checks what people write). It is a dict:

  transport     "map-e" or "map-t"
  interface_id  "rfc7597" or "draft03"
  br_address    a list of IPv6 addresses (MAP-E) or None
  dmr           an IPv6 prefix (MAP-T) or None
  rules         a list of dicts: ipv6_prefix, ipv4_prefix, ea_length, psid_offset, psid_length,
                psid (an int where the PSID is explicit, else None), fmr

The letters are RFC 7597's: n, r the lengths of a rule's IPv6 and IPv4 prefix, o of its EA bits,
a the PSID offset, k the PSID length, m = 16 - a - k.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from .errors import MapError


def psid_length_of(ea_length, ipv4_length):
    """The PSID length (bits) that the EA bits imply: what is left of them after the IPv4 suffix (RFC 7597 section 5.2)."""
    return max(0, ea_length + ipv4_length - 32)


def port_ranges(psid, psid_length, psid_offset):
    """The port set of a PSID as [[low, high], ...] in ascending order (RFC 7597 section 5.1).

    psid: 0 to 2^psid_length - 1; psid_length 0 to 16; psid_offset 0 to 15; their sum is at most 16.
    A psid_length of 0 says that the address is not shared: every port.
    """
    if psid_length == 0:
        return [[0, 65535]]
    m = 16 - psid_offset - psid_length
    first = psid << m
    size = 1 << m
    # The block A = 0 holds the system ports and is left out, unless there is but one block.
    blocks = range(1, 1 << psid_offset) if psid_offset else (0,)
    step = 16 - psid_offset
    return [[(block << step) + first, (block << step) + first + size - 1] for block in blocks]


def psid_of(port, psid_length, psid_offset):
    """The PSID whose port set holds a port, or None for an excluded one (RFC 7597 section 5.1).

    With a psid_length of 0 the address is not shared, and its one port set, with the PSID 0, holds every port.
    """
    if psid_length and psid_offset and not port >> (16 - psid_offset):
        return None
    return port >> (16 - psid_offset - psid_length) & ((1 << psid_length) - 1)


def map_address(prefix, prefix_length, ipv4, psid, interface_id):
    """The MAP IPv6 address as an int (RFC 7597 section 6; draft-ietf-softwire-map-03 section 6).

    prefix: the end-user IPv6 prefix as an int, and its length in bits
    ipv4: an int. Where a CE has an IPv4 prefix, MAP-E has its base address here, MAP-T the
    complete address of the host behind the CE (RFC 7599 section 6, erratum 5225).
    psid: an int, 0 without one
    """
    if interface_id == "draft03":
        identifier = ipv4 << 24 | psid << 8
    else:
        identifier = ipv4 << 16 | psid
    # A prefix longer than 64 bits overwrites the top of the interface identifier.
    return prefix | identifier & ((1 << (128 - prefix_length)) - 1)


def ipv4_text(address):
    """An IPv4 address (int) in dotted form."""
    return inet_ntop(AF_INET, address.to_bytes(4, "big"))


def ipv6_text(address):
    """An IPv6 address (int) in canonical form (RFC 5952)."""
    # The module ipaddress takes five times as long, and a network has 100,000 CEs.
    return inet_ntop(AF_INET6, address.to_bytes(16, "big"))


def split_prefix(text, path):
    """An IPv6 prefix as people write it, as (int, length in bits). Raises MapError."""
    try:
        address, _slash, length = text.partition("/")
        value = int.from_bytes(inet_pton(AF_INET6, address), "big")
        # int() alone would take " 56", "+56" and "5_6".
        bits = int(length) if length.isdigit() and length.isascii() else -1
    except (AttributeError, TypeError, ValueError, OSError):
        value, bits = 0, -1
    if not 0 <= bits <= 128:
        reason = "must be an IPv6 prefix with its length, such as 2001:db8:12:3400::/56"
        raise MapError(path, text, reason, "RFC 4291 section 2.3")
    base = value >> (128 - bits) << (128 - bits)
    if value != base:
        reason = f"has bits set after its first {bits}: write {ipv6_text(base)}/{bits}, or the length that is meant"
        raise MapError(path, text, reason, "RFC 4291 section 2.3")
    return value, bits


class Rule:
    """A rule of a domain with its prefixes as ints.

    index: its place in the domain; fields: the dict it came from, read only
    """

    def __init__(self, index, fields):
        self.index = index
        self.fields = fields
        self.ipv6, self.ipv6_length = split_prefix(fields["ipv6_prefix"], f"rules[{index}].ipv6_prefix")
        ipv4, _slash, ipv4_length = fields["ipv4_prefix"].partition("/")
        self.ipv4 = int.from_bytes(inet_pton(AF_INET, ipv4), "big")
        self.ipv4_length = int(ipv4_length)
        self.ea_length = fields["ea_length"]
        self.end_user_length = self.ipv6_length + self.ea_length
        self.psid_length = fields["psid_length"]
        self.psid = fields["psid"]
        # Of the EA bits the first p complete the IPv4 address or prefix, the rest is the PSID.
        self.suffix_length = min(self.ea_length, 32 - self.ipv4_length)
        # {PSID: what all CEs with it have in common}, filled by the domain.
        self.common = {}

    def ipv4_and_psid(self, ea_bits):
        """The IPv4 address (of a prefix: its base) and the PSID, both int, that EA bits name (RFC 7597 section 5.2)."""
        psid_bits = self.ea_length - self.suffix_length
        ipv4 = self.ipv4 | ea_bits >> psid_bits << (32 - self.ipv4_length - self.suffix_length)
        return ipv4, ea_bits & ((1 << psid_bits) - 1) if self.psid is None else self.psid

    def end_user_prefix(self, ipv4, psid):
        """The end-user prefix, an int, of the CE with an IPv4 address below this rule and a PSID (RFC 7597 section 5.2)."""
        psid_bits = self.ea_length - self.suffix_length
        suffix = ipv4 >> (32 - self.ipv4_length - self.suffix_length) & ((1 << self.suffix_length) - 1)
        ea_bits = suffix << psid_bits | psid & ((1 << psid_bits) - 1)
        return self.ipv6 | ea_bits << (128 - self.end_user_length)

    def ea_bits_below(self, version, prefix, prefix_length):
        """The EA bits (a range of int) of the CEs whose end-user prefix, or IPv4 address or prefix, lies in a prefix of that IP version or holds it.

        prefix: an int without bits after its length.
        """
        if version == 6:
            own, own_length, width, embedded = self.ipv6, self.ipv6_length, 128, self.ea_length
        else:
            own, own_length, width, embedded = self.ipv4, self.ipv4_length, 32, self.suffix_length
        common = width - min(own_length, prefix_length)
        if own >> common != prefix >> common:
            return range(0)
        # Of the EA bits those that the prefix sets, then those that it leaves open.
        given = min(max(0, prefix_length - own_length), embedded)
        first = prefix >> (width - own_length - given) & ((1 << given) - 1)
        left = self.ea_length - given
        return range(first << left, first + 1 << left)


class Domain:
    """A domain made ready for many end-user prefixes. `fields` is the dict, read only."""

    def __init__(self, fields):
        self.fields = fields
        self.rules = [Rule(index, rule) for index, rule in enumerate(fields["rules"])]
        self._fmrs = [rule for rule in fields["rules"] if rule["fmr"]]
        by_length = {}
        for rule in self.rules:
            by_length.setdefault(rule.ipv6_length, {})[rule.ipv6] = rule
        self._longest_first = [
            (length, ((1 << length) - 1) << (128 - length), by_length[length])
            for length in sorted(by_length, reverse=True)
        ]
        # {IPv4 prefix length: {base: {explicit PSID or None: rule}}}; rules that share a base differ in their PSID.
        self._by_ipv4 = {}
        for rule in self.rules:
            self._by_ipv4.setdefault(rule.ipv4_length, {}).setdefault(rule.ipv4, {})[rule.psid] = rule

    def bmr(self, prefix, prefix_length):
        """The Rule with the longest match on an end-user prefix (an int, bits), or None (RFC 7597 section 5.2)."""
        for length, mask, rules in self._longest_first:
            if length <= prefix_length and prefix & mask in rules:
                return rules[prefix & mask]
        return None

    def ce(self, end_user_prefix, path="end_user_prefix"):
        """The parameters of the CE that has been delegated this IPv6 prefix, as one plain dict.

        A prefix longer than rule + EA bits is cut to that length: the BR takes the bits after
        the EA bits as zero. The `fmrs` and `port_ranges` of two CEs may be one object: a mesh has many of both.
        Raises MapError for a prefix that is malformed, outside every rule or too short.
        """
        prefix, prefix_length = split_prefix(end_user_prefix, path)
        rule = self.bmr(prefix, prefix_length)
        if rule is None:
            raise self._no_rule(prefix, prefix_length, end_user_prefix, path)
        length = rule.end_user_length
        if prefix_length < length:
            raise MapError(
                path, end_user_prefix,
                f"is too short for rules[{rule.index}] ({rule.fields['ipv6_prefix']} and {rule.ea_length} EA bits): "
                f"this rule needs a prefix of at least /{length}",
                "RFC 7597 section 5.2",
            )
        return self._parameters(rule, prefix >> (128 - length) << (128 - length), end_user_prefix)

    def owner(self, ipv4, port):
        """The parameters of the CE that has this IPv4 address and port (both int), or None where no CE can have them.

        That is so for an address outside every rule, for ports that the PSID offset excludes, for PSIDs that no
        explicit rule has, and for EA bits whose end-user prefix belongs to a rule with a longer match.
        The `delegated_prefix` is the end-user prefix: what has been delegated beyond it, nobody can know.
        """
        for ipv4_length, rules in self._by_ipv4.items():
            explicit = rules.get(ipv4 >> (32 - ipv4_length) << (32 - ipv4_length))
            if explicit:
                break
        else:
            return None
        # Rules of one address have the same port parameters.
        rule = next(iter(explicit.values()))
        psid = psid_of(port, rule.psid_length, rule.fields["psid_offset"])
        if psid is None:
            return None
        rule = explicit.get(None) or explicit.get(psid)
        if rule is None:
            return None
        prefix = rule.end_user_prefix(ipv4, psid)
        if self.bmr(prefix, rule.end_user_length) is not rule:
            return None
        return self._parameters(rule, prefix, None)

    def ces(self, version, prefix, prefix_length):
        """The parameters of all CEs that there can be below an IPv6 or IPv4 prefix (an int, bits), one after the other, in the order of the rules.

        A CE whose end-user prefix, or IPv4 prefix, holds the prefix is the one below it. (6, 0, 0) stands for all CEs of the domain.
        The `delegated_prefix` is the end-user prefix, as in owner().
        """
        for rule in self.rules:
            for ea_bits in rule.ea_bits_below(version, prefix, prefix_length):
                end_user_prefix = rule.ipv6 | ea_bits << (128 - rule.end_user_length)
                if self.bmr(end_user_prefix, rule.end_user_length) is rule:
                    yield self._parameters(rule, end_user_prefix, None)

    def _parameters(self, rule, prefix, delegated_prefix):
        """The dict of a CE; prefix: its end-user prefix, an int of exactly rule + EA bits."""
        length = rule.end_user_length
        ipv4, psid = rule.ipv4_and_psid(prefix >> (128 - length) & ((1 << rule.ea_length) - 1))
        if psid not in rule.common:
            rule.common[psid] = self._common(rule, psid)
        ce = rule.common[psid].copy()
        ce["end_user_prefix"] = f"{ipv6_text(prefix)}/{length}"
        ce["delegated_prefix"] = ce["end_user_prefix"] if delegated_prefix is None else delegated_prefix
        ce["rule"] = rule.fields.copy()
        ipv4_length = rule.ipv4_length + rule.suffix_length
        if ipv4_length == 32:
            ce["ipv4_address"] = ipv4_text(ipv4)
        else:
            ce["ipv4_prefix"] = f"{ipv4_text(ipv4)}/{ipv4_length}"
        ce["map_address"] = ipv6_text(map_address(prefix, length, ipv4, psid, ce["interface_id"]))
        return ce

    def _common(self, rule, psid):
        """The dict of a CE with what the CEs of one PSID have in common; the rest is None, to be filled in."""
        fields = self.fields
        ranges = port_ranges(psid, rule.psid_length, rule.fields["psid_offset"])
        return {
            "delegated_prefix": None,
            "end_user_prefix": None,
            "rule": None,
            "fmrs": self._fmrs,
            "transport": fields["transport"],
            "interface_id": fields["interface_id"],
            "ipv4_address": None,
            "ipv4_prefix": None,
            "psid": psid if rule.psid_length else None,
            "psid_length": rule.psid_length,
            "psid_offset": rule.fields["psid_offset"],
            "port_ranges": ranges,
            "port_count": len(ranges) * (ranges[0][1] - ranges[0][0] + 1),
            "sharing_ratio": 1 << rule.psid_length,
            "map_address": None,
            "br_address": fields["br_address"][0] if fields["br_address"] else None,
            "dmr": fields["dmr"],
        }

    def _no_rule(self, prefix, prefix_length, end_user_prefix, path):
        """The MapError for a prefix without a BMR; a prefix that holds a rule's prefix is only too short."""
        for rule in self.rules:
            if rule.ipv6_length > prefix_length and rule.ipv6 >> (128 - prefix_length) == prefix >> (128 - prefix_length):
                return MapError(
                    path, end_user_prefix,
                    f"is shorter than the prefix of rules[{rule.index}] ({rule.fields['ipv6_prefix']}): "
                    f"this rule needs a prefix of at least /{rule.end_user_length}",
                    "RFC 7597 section 5.2",
                )
        known = [rule.fields["ipv6_prefix"] for rule in self.rules]
        shown = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
        return MapError(
            path, end_user_prefix,
            f"is outside every rule of the domain ({shown}): add the rule of this prefix or correct the prefix",
            "RFC 7597 section 5.2",
        )
