/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (c) 2026 softwire.map contributors */
/*
 * What every transport's border relay programs share: the rules, the arithmetic of RFC 7597 section 5
 * (port -> PSID, IPv4 address + PSID -> MAP address) and the counters.
 *
 * plugins/module_utils/routers/bpf_rule.py writes the map entries and names the counters; tests/kernel/bpf keeps
 * both sides equal. Everything wider than a byte is in network byte order, except the length of the key.
 */
#ifndef SOFTWIRE_MAP_H
#define SOFTWIRE_MAP_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

/* ---- rules: the longest match of an IPv4 address ---- */

/*
 * Several explicit PSID rules may share one IPv4 address. The first of them has the /32 as its key, the
 * others the address and their PSID (length 48): psid_offset and psid_length are equal for all of them
 * (RFC 7597 section 5.1), so the /32 says how to get the PSID from a port, and the PSID finds the rule.
 */
struct rule_key {
	__u32 length; /* of what follows, in bits: the rule's IPv4 prefix length, or 48 */
	__be32 address;
	__be16 psid;
	__u16 zero;
};

enum rule_flag {
	MAP_DRAFT03 = 1,       /* interface id of draft-ietf-softwire-map-03, not of RFC 7597 section 6 */
	MAP_FULL_ADDRESS = 2,  /* an IPv4-prefix CE's id holds its complete address (RFC 7599 erratum 5225) */
	MAP_EXPLICIT_PSID = 4, /* only `psid` belongs to this rule */
};

struct rule {
	__be64 prefix;      /* the rule IPv6 prefix, its first 64 bits */
	__be32 peer[4];     /* the BR's side: MAP-E the (first) BR address, MAP-T the internal /96 */
	__u8 prefix_length; /* n, of the rule IPv6 prefix; n + o <= 64 */
	__u8 ipv4_length;   /* r */
	__u8 ea_length;     /* o */
	__u8 psid_offset;   /* a */
	__u8 psid_length;   /* k; 0: the address is not shared and its ports do not matter */
	__u8 flags;         /* enum rule_flag */
	__be16 psid;        /* of an explicit PSID rule */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct rule_key);
	__type(value, struct rule);
} rules SEC(".maps");

/* ---- counters: [direction][what happened] ---- */

enum direction {
	MAP_IN,  /* from the CEs */
	MAP_OUT, /* to the CEs */
};

enum counter {
	MAP_PASSED,                /* checked, or mapped, and let through */
	MAP_PASSED_LATER_FRAGMENT, /* the same, a fragment without ports */
	MAP_PASSED_ROUTER_ERROR,   /* an ICMPv6 error of a router about a packet to a MAP address */
	MAP_PASSED_TO_STACK,       /* mapped, but routed by the stack: no route, or packet too big */
	MAP_DROPPED_NO_RULE,       /* the address is in no rule */
	MAP_DROPPED_NO_PORT,       /* a shared address, and no port in the packet; or extension headers */
	MAP_DROPPED_TINY,          /* cut off before the ports or the checksum */
	MAP_DROPPED_PORT_ZERO,
	MAP_DROPPED_EXCLUDED_PORT,   /* a port below 2^(16 - a): A = 0, nobody's */
	MAP_DROPPED_OTHER_PSID,      /* no explicit PSID rule has this PSID */
	MAP_DROPPED_SPOOFED,         /* the source is not the MAP address of its IPv4 address and port */
	MAP_DROPPED_WRONG_QUOTE,     /* an ICMP error that quotes the packet of somebody else */
	MAP_DROPPED_INTERNAL,        /* an internal address on the wire */
	MAP_DROPPED_MIXED_FRAGMENT,  /* its datagram belongs to another CE */
	MAP_DROPPED_LOST_FRAGMENT,   /* the first fragment has not been seen */
	MAP_DROPPED_FAILED,          /* the packet could not be changed */
	MAP_DROPPED_NOT_IPV4,        /* MAP-E: no IPv4 packet in the tunnel */
	MAP_DROPPED_MARTIAN,         /* MAP-E: an IPv4 source or destination that no host may have */
	MAP_DROPPED_OTHER_BR,        /* MAP-E: for another address of the router than its domain's BR address */
	MAP_DROPPED_NOT_OWN_ADDRESS, /* from or to an address that is not the CE's own, or to none of the DMR */
	MAP_DROPPED_NOT_OWN_PORT,    /* the CE's own address, but another CE's port */
	MAP_DROPPED_OUTSIDE_DOMAIN,  /* to a CE, neither from the DMR nor from a rule */
	MAP_DROPPED_UNTRANSLATABLE,  /* MAP-T: what RFC 7915 has no translation for */
	MAP_DROPPED_LOST_LENGTH,     /* MAP-T: an echo in fragments whose whole length is not known */
	MAP_DROPPED_ITSELF,          /* MAP-E: from a CE to itself */
	MAP_FAST,                    /* of those that passed: taken by the fast path */
	MAP_COUNTERS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MAP_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum direction direction, enum counter counter)
{
	__u32 index = direction * MAP_COUNTERS + counter;
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		++*value;
}

/* other tc filters of the interface stay in force */
#define PASS TC_ACT_UNSPEC

static __always_inline int drop(enum direction direction, enum counter reason)
{
	count(direction, reason);
	return TC_ACT_SHOT;
}

/* ---- fragments: what is needed to give a fragment without ports to the right CE ---- */

/*
 * A datagram as an IPv4 host sees it. An IPv6 fragment's id is cut to its low 16 bits, as the translation to
 * IPv4 does: what will share a reassembly queue in the IPv4 Internet shares an entry here.
 */
struct datagram {
	__be32 ce;      /* the IPv4 address of the CE's side */
	__be32 peer[4]; /* the other side: IPv6, or IPv4 and three zeros */
	__be16 id;
	__u8 protocol;
	__u8 zero;
};

struct binding {
	__u64 seen; /* ns, when its last fragment passed */
	__u32 psid;
	__u32 zero;
};

/* How many datagrams a CE has begun with a later fragment, in a time in which those are held. */
struct beginnings {
	__u64 since; /* ns */
	__u32 count;
	__u32 zero;
};

struct ce_name {
	__be32 ipv4;
	__u32 psid;
};

#define MAP_REASSEMBLY_NS 30000000000ull /* how long Linux holds a fragment: net.ipv4.ipfrag_time */
#define MAP_BEGINNINGS 64 /* one id of a thousand, which is all that a CE can keep others from using */

/* from the CEs: the first fragment seen, in any order, binds the datagram to its CE */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct datagram);
	__type(value, struct binding);
} bindings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ce_name);
	__type(value, struct beginnings);
} begun SEC(".maps");

/* to the CEs: the BR's own fragments leave first one first, so this is a hand-over to the later ones */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct datagram);
	__type(value, __u32);
} first_fragments SEC(".maps");

/*
 * Whether a CE may begin a datagram by a later fragment. It proves nothing: without a port it might be anybody's of the CEs that
 * share the address, and a datagram that is bound to one is closed to the others.
 */
static __always_inline int may_begin(__be32 ipv4, __u32 psid, __u64 now)
{
	struct ce_name name = { .ipv4 = ipv4, .psid = psid };
	struct beginnings fresh = { .since = now, .count = 1 };
	struct beginnings *beginnings = bpf_map_lookup_elem(&begun, &name);

	if (!beginnings || now - beginnings->since >= MAP_REASSEMBLY_NS)
		return !bpf_map_update_elem(&begun, &name, &fresh, BPF_ANY);
	if (beginnings->count >= MAP_BEGINNINGS)
		return 0;
	beginnings->count++;
	return 1;
}

/* Binds a datagram to a PSID, or says that another PSID has it (-1). `later`: by a later fragment. */
static __always_inline int bind_datagram(const struct datagram *datagram, __u32 psid, int later)
{
	struct binding fresh = { .seen = bpf_ktime_get_ns(), .psid = psid };
	struct binding *binding = bpf_map_lookup_elem(&bindings, datagram);

	if (!binding || (binding->psid != psid && fresh.seen - binding->seen >= MAP_REASSEMBLY_NS)) {
		if (later && !may_begin(datagram->ce, psid, fresh.seen))
			return -1;
		if (binding) {
			binding->psid = psid;
			binding->seen = fresh.seen;
			return 0;
		}
		if (!bpf_map_update_elem(&bindings, datagram, &fresh, BPF_NOEXIST))
			return 0;
		binding = bpf_map_lookup_elem(&bindings, datagram); /* another CPU was faster */
		if (!binding)
			return -1;
	}
	if (binding->psid != psid)
		return -1;
	binding->seen = fresh.seen;
	return 0;
}

/* ---- the arithmetic of RFC 7597 section 5 ---- */

/* The rule of an IPv4 address, or NULL. Of explicit PSID rules that share the address: the first. */
static __always_inline struct rule *rule_of(__be32 address)
{
	struct rule_key key = { .length = 32, .address = address };

	return bpf_map_lookup_elem(&rules, &key);
}

/* The rule of an IPv4 address and a PSID, `rule` being that of the address; NULL when the PSID is in none. */
static __always_inline struct rule *rule_of_psid(struct rule *rule, __be32 address, __u32 psid)
{
	struct rule_key key = { .length = 48, .address = address, .psid = bpf_htons(psid) };

	if (!(rule->flags & MAP_EXPLICIT_PSID) || rule->psid == key.psid)
		return rule;
	rule = bpf_map_lookup_elem(&rules, &key);
	return rule && rule->psid == key.psid ? rule : NULL;
}

/* The PSID of a port of a shared address (section 5.1). Returns MAP_PASSED or why there is none. */
static __always_inline enum counter psid_of(const struct rule *rule, __u16 port, __u32 *psid)
{
	__u32 a = rule->psid_offset & 15, k = rule->psid_length & 31;

	if (!port)
		return MAP_DROPPED_PORT_ZERO;
	if (a && !((__u32)port >> (16 - a)))
		return MAP_DROPPED_EXCLUDED_PORT;
	*psid = ((__u32)port >> ((16 - a - k) & 31)) & ((1u << k) - 1);
	return MAP_PASSED;
}

/*
 * The CE's port in the first 8 bytes of an upper-layer header, as half() reads them: port or ICMP identifier. A number, since clang would
 * choose between addresses of bytes, which the verifier refuses.
 */
static __always_inline enum counter port_in(__u64 header, __u8 protocol, int ce_is_source, __u16 *port)
{
	__u8 type = header >> 56;

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
		*port = header >> (ce_is_source ? 48 : 32);
	else if (protocol == IPPROTO_ICMP && (type == ICMP_ECHO || type == ICMP_ECHOREPLY))
		*port = header >> 16;
	else
		return MAP_DROPPED_NO_PORT;
	return MAP_PASSED;
}

/* The MAP address of the CE with this IPv4 address and PSID (sections 5.2, 6), 128 bits. */
static __always_inline void map_address(const struct rule *rule, __be32 ipv4, __u32 psid, __be32 *to)
{
	__u32 n = rule->prefix_length, o = rule->ea_length, r = rule->ipv4_length, k = rule->psid_length;
	__u64 address = bpf_ntohl(ipv4), high = bpf_be64_to_cpu(rule->prefix), low;
	__u64 ea = address & (0xffffffffull >> (r & 63)); /* the IPv4 suffix, p = 32 - r bits */

	if (o + r < 32) { /* the CE has an IPv4 prefix: the first o bits of the suffix are its own */
		__u32 host = (32 - r - o) & 31;

		ea >>= host;
		if (!(rule->flags & MAP_FULL_ADDRESS))
			address = address >> host << host;
	}
	if (o) /* an explicit PSID is not in the prefix */
		high |= (ea << (k & 31) | psid) << ((64 - n - o) & 63);
	low = rule->flags & MAP_DRAFT03 ? address << 24 | psid << 8 : address << 16 | psid;
	to[0] = bpf_htonl(high >> 32);
	to[1] = bpf_htonl(high);
	to[2] = bpf_htonl(low >> 32);
	to[3] = bpf_htonl(low);
}

/* Whether two IPv6 addresses are the same. */
static __always_inline int is_equal(const __be32 *a, const __be32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

/* The IPv4 address in the interface id of a MAP address. */
static __always_inline __be32 embedded(const __be32 *map_address, int draft03)
{
	__u64 low = (__u64)bpf_ntohl(map_address[2]) << 32 | bpf_ntohl(map_address[3]);

	return bpf_htonl(low >> (draft03 ? 24 : 16));
}

/* The PSID in the interface id of a MAP address. */
static __always_inline __u32 embedded_psid(const struct rule *rule, const __be32 *map_address)
{
	__u32 low = bpf_ntohl(map_address[3]);

	return (rule->flags & MAP_DRAFT03 ? low >> 8 : low) & ((1u << (rule->psid_length & 31)) - 1);
}

/* Whether an address is inside the rule IPv6 prefix. */
static __always_inline int is_inside(const struct rule *rule, const __be32 *address)
{
	__u32 n = rule->prefix_length;
	__u64 high = (__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]);

	return !n || !((high ^ bpf_be64_to_cpu(rule->prefix)) >> ((64 - n) & 63));
}

/*
 * The rule of an address that claims to be a MAP address, by the IPv4 address in its interface id, which is
 * returned too. Only the form, the prefix and the IPv4 address are looked at: the caller compares all bits.
 */
static __always_inline struct rule *rule_of_map_address(const __be32 *claimed, __be32 *ipv4)
{
	for (int draft03 = 0; draft03 < 2; draft03++) {
		*ipv4 = embedded(claimed, draft03);
		struct rule *rule = rule_of(*ipv4);

		if (!rule || !!(rule->flags & MAP_DRAFT03) != draft03)
			continue;
		/* explicit PSID rules of one address have prefixes of their own */
		if (rule->flags & MAP_EXPLICIT_PSID || is_inside(rule, claimed))
			return rule;
	}
	return NULL;
}

/*
 * The MAP address that the rule of an IPv4 address gives to a port; `rule` becomes that of the PSID. A later fragment has no port
 * but `later_psid`. Returns MAP_PASSED or why there is none.
 */
static __always_inline enum counter find_map_address(struct rule **rule, __be32 ipv4, int has_port, __u16 port,
						     int later, __u32 later_psid, __u32 *psid, __be32 *address)
{
	enum counter reason;

	*psid = 0;
	if ((*rule)->psid_length) {
		if (later) {
			*psid = later_psid;
		} else {
			if (!has_port)
				return MAP_DROPPED_NO_PORT;
			reason = psid_of(*rule, port, psid);
			if (reason)
				return reason;
		}
		*rule = rule_of_psid(*rule, ipv4, *psid);
		if (!*rule)
			return MAP_DROPPED_OTHER_PSID;
	}
	map_address(*rule, ipv4, *psid, address);
	return MAP_PASSED;
}

#endif
