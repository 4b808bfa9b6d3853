// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 softwire.map contributors
/*
 * A stateless MAP-T translator (RFC 7599, RFC 7915), of a customer edge or a border relay. It needs one device that leads
 * nowhere, such as a dummy: what is to be translated is routed there, translated when it leaves, and comes back in, as a
 * packet of the other protocol, for the stack to route.
 *
 *   ce_out, br_out  tc egress of the device: IPv4 -> IPv6, into the softwire
 *   ce_in, br_in    tc egress of the device: IPv6 -> IPv4, out of the softwire
 *   whole_length    the routes to the device, "encap bpf out": for echos in fragments, whose checksum needs the whole length
 *
 *   br_fast_out     tc ingress of the IPv4 interface, optional: the fast path (translate_fast.h) of a border relay to the CEs
 *   br_fast_in      tc ingress of the IPv6 interface: and from them
 *
 * The stacks on both sides do the rest: hop limit, MTU, fragmentation, errors, firewall. They have to put fragments
 * together before they route them (conntrack or tproxy in prerouting), so the first fragment always comes first.
 */
#include <linux/if_ether.h>
#include "rfc7915.h"
#include "fast.h"

#define L3 ETH_HLEN
#define EXTENSIONS 4          /* IPv6 extension headers in front of the upper layer, at most */
#define EXTENSIONS_LENGTH 256 /* and their bytes */
#define SUMMED_LENGTH 16384   /* the longest UDP packet without a checksum that gets one */
#define MOVED_LENGTH 256      /* the longest extension structure of an ICMP error (RFC 4884) that is kept */
#define OPTIONS_LENGTH 40     /* of an IPv4 header */
#define SOURCE_ROUTE_LOOSE 131
#define SOURCE_ROUTE_STRICT 137
#define FROM_BORDER_RELAY 0x10000 /* in the place of a PSID */

struct config {
	struct rule own;   /* CE: its PSID and how to get it from a port */
	__be32 address[4]; /* CE: its MAP address; of an IPv4 prefix, that of the first address */
	struct dmr dmr;
	__be32 ipv4; /* CE: its IPv4 address or prefix */
	__be32 ipv4_mask;
	__be32 substitute; /* the source of errors from routers without an IPv4 address (RFC 6791) */
	__u32 ipv6_mtu;    /* of the IPv6 domain; host byte order */
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* The last echo that was routed to the device on this CPU, before the stack cut it up: its fragments follow at once. */
struct whole {
	__be32 destination[4];
	__u16 length; /* of its upper layer */
	__u8 protocol;
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct whole);
} whole SEC(".maps");

/* What skip_extensions() has found. */
struct extensions {
	__u32 l4; /* offset of the upper layer */
	__u8 nexthdr;
	__u8 has_fragment;
	__u8 zero[2];
	struct fragment_header fragment;
};

/* Memory of this CPU, since the stack is small. */
struct scratch {
	struct extensions extensions;
	struct icmp icmp;     /* translated */
	struct ipv6hdr outer; /* the IPv6 header of a packet */
	struct ipv6hdr inner; /* and of the one that an error quotes */
	__u8 padding[128];    /* zeros */
	__u8 bytes[512 + 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* The ports of a packet as it is, or of the packet that an error quotes. An echo's identifier is both. */
struct ports {
	__u16 source;
	__u16 destination;
	__u8 known;
};

/* Where a fragment belongs. */
struct part {
	__u8 fragment; /* not the whole datagram */
	__u8 later;    /* not its beginning */
	__be16 id;     /* IPv4's, or the low 16 bits of IPv6's */
	__u8 protocol; /* of IPv4 */
};

/* What an error quotes. */
struct quote {
	__u32 at;    /* offset of its IP header */
	__u32 l4;    /* offset of its upper-layer header */
	__u32 end;   /* offset of its end: of the packet, or where an extension structure begins */
	__u32 extra; /* bytes of options or extension headers */
	__u8 protocol;
	__u8 fragment;
	__u8 later;
	__u8 has_header; /* header is there */
	__u8 header[8];  /* of the upper layer */
	struct fragment_header part;
};

/* The verifier looks once at a global function, by itself: at a loop, and with registers free for what it has to know. */
#define GLOBAL __attribute__((noinline))

/*
 * A length for a helper, which wants to know that it is 1 to some limit: `length` less 1, in a register of its own. Clang
 * would test another register than it uses, and Linux 6.1 does not learn from a comparison with 0.
 */
static __always_inline __u64 less_one(__u64 length)
{
	length--;
	asm volatile("" : "+r"(length));
	return length;
}

/* ---- reading ---- */

static __always_inline int is_echo(__u8 protocol, __u8 type)
{
	return protocol == IPPROTO_ICMP
		       ? type == ICMP_ECHO || type == ICMP_ECHOREPLY
		       : protocol == IPPROTO_ICMPV6 && (type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY);
}

static __always_inline void read_ports(const __u8 *header, __u8 protocol, struct ports *ports)
{
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		ports->source = header[0] << 8 | header[1];
		ports->destination = header[2] << 8 | header[3];
		ports->known = 1;
	} else if (is_echo(protocol, header[0])) {
		ports->source = ports->destination = header[4] << 8 | header[5];
		ports->known = 1;
	}
}

/* How much of an upper-layer header must be there, in bytes. */
static __always_inline __u32 l4_needed(__u8 protocol)
{
	return checksum_at(protocol) || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6
		       ? ports_needed(protocol)
		       : 0;
}

/* Whether IPv4 options hold a source route that is not used up (section 4.1). `length`: of the options. */
GLOBAL int has_source_route(struct __sk_buff *skb, __u32 length)
{
	__u8 options[64] = {};
	__u64 checked = less_one(length);
	__u32 at = 0;

	if (checked >= OPTIONS_LENGTH || bpf_skb_load_bytes(skb, L3 + sizeof(struct iphdr), options, checked + 1))
		return 0;
	for (int i = 0; i < OPTIONS_LENGTH && at < length; i++) {
		__u8 kind = options[at & 63], size = kind == 1 ? 1 : options[(at + 1) & 63];

		if (!kind || !size)
			return 0;
		if ((kind == SOURCE_ROUTE_LOOSE || kind == SOURCE_ROUTE_STRICT) && options[(at + 2) & 63] <= size)
			return 1;
		if (at + size >= length)
			return 0;
		at = (at + size) & 63; /* the mask changes nothing but what the verifier has to remember */
	}
	return 0;
}

/*
 * Walks over the extension headers behind an IPv6 header, a Fragment header at most last, and writes down what it finds. `at`:
 * offset of the first. Returns MAP_PASSED or a reason to drop.
 */
GLOBAL int skip_extensions(struct __sk_buff *skb, __u32 at, __u32 end, __u32 nexthdr)
{
	__u32 zero = 0, start = at;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct fragment_header none = {};
	__u8 header[4];

	if (!s)
		return MAP_DROPPED_FAILED;
	s->extensions.fragment = none;
	s->extensions.has_fragment = 0;
	for (int i = 0; i < EXTENSIONS && is_extension_header(nexthdr); i++) {
		if (at + 8 > end)
			return MAP_DROPPED_TINY;
		if (nexthdr == NEXTHDR_FRAGMENT) {
			if (bpf_skb_load_bytes(skb, at, &s->extensions.fragment, sizeof(struct fragment_header)))
				return MAP_DROPPED_TINY;
			s->extensions.has_fragment = 1;
			nexthdr = s->extensions.fragment.nexthdr;
			at += sizeof(struct fragment_header);
			break;
		}
		if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
			return MAP_DROPPED_TINY;
		if (nexthdr == NEXTHDR_ROUTING && header[3]) /* segments left */
			return MAP_DROPPED_UNTRANSLATABLE;
		nexthdr = header[0];
		at += (header[1] + 1) * 8;
		if (at - start > EXTENSIONS_LENGTH || at > end)
			return MAP_DROPPED_UNTRANSLATABLE;
	}
	s->extensions.l4 = at;
	s->extensions.nexthdr = nexthdr;
	/* without what follows a Fragment header the other fragments would not fit */
	return is_extension_header(nexthdr) ? MAP_DROPPED_UNTRANSLATABLE : MAP_PASSED;
}

/* The first 8 bytes of an ICMP message, two words, translated in memory of this CPU; see rfc7915.h. */
GLOBAL int translate_icmp(__u32 first, __u32 second, __u32 quoted_length, __u32 ipv6_mtu)
{
	__u32 zero = 0, words[2] = { first, second };
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct icmp from;

	__builtin_memcpy(&from, words, sizeof(from));
	return s ? icmp_to_icmpv6(&from, quoted_length, ipv6_mtu, &s->icmp) : -1;
}

GLOBAL int translate_icmpv6(__u32 first, __u32 second, __u32 ipv6_mtu)
{
	__u32 zero = 0, words[2] = { first, second };
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct icmp from;

	__builtin_memcpy(&from, words, sizeof(from));
	return s ? icmpv6_to_icmp(&from, ipv6_mtu, &s->icmp) : -1;
}

/* Reads the upper-layer header of a quoted packet, as far as it is there. */
static __always_inline enum counter read_quoted_header(struct __sk_buff *skb, struct quote *q, struct ports *ports)
{
	if (q->later)
		return MAP_PASSED;
	if (q->l4 + sizeof(q->header) > q->end)
		return MAP_PASSED;
	if (bpf_skb_load_bytes(skb, q->l4, q->header, sizeof(q->header)))
		return MAP_DROPPED_TINY;
	q->has_header = 1;
	read_ports(q->header, q->protocol, ports);
	return MAP_PASSED;
}

/* Some bytes of the packet, 1 to 512, in memory of this CPU; or NULL. 4 zeros follow them. */
static __always_inline __u8 *load(struct __sk_buff *skb, __u32 at, __u32 length)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	__u64 checked = less_one(length);

	if (!s || checked >= 512 || bpf_skb_load_bytes(skb, at, s->bytes, checked + 1))
		return NULL;
	__builtin_memset(s->bytes + checked + 1, 0, 4);
	return s->bytes;
}

/* The sum of some bytes of the packet, 1 to 512, folded; or -1. */
static __always_inline int sum_of(struct __sk_buff *skb, __u32 at, __u32 length)
{
	__u8 *bytes = load(skb, at, length);
	__u64 checked = less_one((length + 3) & ~3u);
	__s64 result;

	if (!bytes || checked >= 512)
		return -1;
	result = bpf_csum_diff(0, 0, (__be32 *)bytes, checked + 1, 0);
	return result < 0 ? -1 : fold((__u32)result);
}

GLOBAL int sum_part(struct __sk_buff *skb, __u32 at, __u32 length)
{
	return sum_of(skb, at, length);
}

/* The same of a whole UDP packet without a checksum. */
GLOBAL int sum_whole(struct __sk_buff *skb, __u32 at, __u32 left)
{
	__u64 sum = 0;

	for (int i = 0; i < SUMMED_LENGTH / 512 && left; i++) {
		__u32 length = left < 512 ? left : 512;
		int part = sum_of(skb, at, length);

		if (part < 0)
			return -1;
		sum += part;
		at += length;
		left -= length;
	}
	return left ? -1 : fold(sum);
}

/* ---- who it belongs to ---- */

/* Whether a port of the own address belongs to this CE. A later fragment follows the first, which was asked. */
static __always_inline enum counter check_own_port(const struct config *c, const struct ports *ports, __u16 port,
						   int later)
{
	enum counter reason;
	__u32 psid;

	if (!c->own.psid_length || later)
		return MAP_PASSED;
	if (!ports->known)
		return MAP_DROPPED_NO_PORT;
	reason = psid_of(&c->own, port, &psid);
	if (reason)
		return reason;
	return psid == bpf_ntohs(c->own.psid) ? MAP_PASSED : MAP_DROPPED_NOT_OWN_PORT;
}

static __always_inline int is_own(const struct config *c, __be32 ipv4)
{
	return (ipv4 & c->ipv4_mask) == c->ipv4;
}

static __always_inline __u32 ipv4_shift(const struct config *c)
{
	return c->own.flags & MAP_DRAFT03 ? 24 : 16;
}

/* The MAP address of one of the CE's own IPv4 addresses. */
static __always_inline void own_to_ipv6(const struct config *c, __be32 ipv4, __be32 *to)
{
	__u64 host = (__u64)bpf_ntohl(ipv4 & ~c->ipv4_mask) << ipv4_shift(c);

	to[0] = c->address[0];
	to[1] = c->address[1];
	to[2] = c->address[2] | bpf_htonl(host >> 32);
	to[3] = c->address[3] | bpf_htonl(host);
}

/* The IPv4 address of one of its own MAP addresses. Returns whether it is one. */
static __always_inline int own_to_ipv4(const struct config *c, const __be32 *address, __be32 *ipv4)
{
	__be32 own[4];

	*ipv4 = c->ipv4 | (bpf_htonl(half(address + 2) >> ipv4_shift(c)) & ~c->ipv4_mask);
	own_to_ipv6(c, *ipv4, own);
	return is_equal(own, address);
}

/* The IPv4 address behind a MAP address, which must be the one that its rule gives to the port. */
static __always_inline enum counter rule_to_ipv4(struct rule *rule, const __be32 *claimed, __be32 ipv4,
						 const struct ports *ports, __u16 port, int later, __u32 *psid)
{
	__be32 address[4];
	enum counter reason = find_map_address(&rule, ipv4, ports->known, port, later, embedded_psid(rule, claimed),
					       psid, address);

	if (reason)
		return reason;
	return is_equal(address, claimed) ? MAP_PASSED : MAP_DROPPED_SPOOFED;
}

static __always_inline struct datagram datagram_of(__be32 ce, __be32 peer, const struct part *part)
{
	struct datagram datagram = { .ce = ce, .peer = { peer }, .id = part->id, .protocol = part->protocol };

	return datagram;
}

/* The length of a fragmented echo, which its first fragment does not tell. 0: unknown. */
static __always_inline __u32 length_of_whole(const __be32 *destination, __u8 protocol)
{
	__u32 zero = 0;
	struct whole *w = bpf_map_lookup_elem(&whole, &zero);

	if (!w || w->protocol != protocol || w->destination[0] != destination[0])
		return 0;
	if (protocol == IPPROTO_ICMPV6 && !is_equal(w->destination, destination))
		return 0;
	return w->length;
}

/* ---- writing ---- */

/*
 * Moves the extension structure of an ICMP error (RFC 4884) back by `by` bytes, which become zeros: 0 to 128, even, so sums
 * stay. Returns whether there is one and it could be moved.
 */
GLOBAL int move_extension(struct __sk_buff *skb, __u32 at, __u32 end, __u32 by)
{
	__u32 length = end - at, zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	__u8 *bytes;
	__u64 checked;

	if (!s || length > MOVED_LENGTH || by > sizeof(s->padding))
		return 0;
	bytes = load(skb, at, length);
	if (!bytes)
		return 0;
	if (!by)
		return 1;
	if (bpf_skb_change_tail(skb, end + by, 0))
		return 0;
	checked = less_one(by);
	if (checked >= sizeof(s->padding) ||
	    bpf_skb_store_bytes(skb, at, s->padding, checked + 1, BPF_F_RECOMPUTE_CSUM))
		return 0;
	checked = less_one(length);
	return checked < MOVED_LENGTH &&
	       !bpf_skb_store_bytes(skb, at + by, bytes, checked + 1, BPF_F_RECOMPUTE_CSUM);
}

/*
 * Mends what stands in the upper-layer header of a quoted packet: its checksum, where it is there, and the type of an echo.
 * `old`, `new`: sums of the pseudo-header's addresses; `length`: of the quoted packet's upper layer. The error's own checksum
 * changes by what is added to `take` and `give`.
 */
static __always_inline int mend_quoted(struct __sk_buff *skb, const struct quote *q, __u64 old, __u64 new,
				       __u32 length, __u64 *take, __u64 *give)
{
	__u32 at = checksum_at(q->protocol);
	__sum16 sum, now;
	__u8 type;

	if (!q->has_header)
		return 0;
	if (at) {
		if (q->l4 + at + 2 > q->end)
			return 0;
		if (bpf_skb_load_bytes(skb, q->l4 + at, &sum, sizeof(sum)))
			return -1;
		if (!sum && q->protocol == IPPROTO_UDP)
			return 0;
		now = mend(sum, old, new);
		if (!now && has_no_zero(q->protocol))
			now = 0xffff;
	} else if (is_echo(q->protocol, q->header[0])) {
		at = 2;
		if (q->protocol == IPPROTO_ICMP) {
			type = q->header[0] == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
			old = 0;
			new += pseudo(length, IPPROTO_ICMPV6);
		} else {
			type = q->header[0] == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY;
			old += pseudo(length, IPPROTO_ICMPV6);
			new = 0;
		}
		if (bpf_skb_store_bytes(skb, q->l4, &type, sizeof(type), BPF_F_RECOMPUTE_CSUM))
			return -1;
		*take += q->header[0];
		*give += type;
		if (q->part.offset & bpf_htons(IPV6_OFFSET | IPV6_MF))
			return 0;
		__builtin_memcpy(&sum, q->header + 2, sizeof(sum));
		now = mend(sum, old + q->header[0], new + type);
	} else {
		return 0;
	}
	*take += sum;
	*give += now;
	return bpf_skb_store_bytes(skb, q->l4 + at, &now, sizeof(now), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int store(struct __sk_buff *skb, __u32 at, const void *from, __u32 length)
{
	return bpf_skb_store_bytes(skb, at, from, length, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int set_ethertype(struct __sk_buff *skb, __be16 protocol)
{
	return bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol), 0);
}

/* Back in by the device, as a packet of the other protocol. */
static __always_inline int hand_over(struct __sk_buff *skb, enum direction direction, int later, int router_error)
{
	remember_device(skb);
	count(direction, router_error ? MAP_PASSED_ROUTER_ERROR : later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* Puts version and traffic class into the first word of an IPv6 header. */
static __always_inline void set_class(struct ipv6hdr *ip6, __u8 tos)
{
	*(__be32 *)ip6 = bpf_htonl(6u << 28 | (__u32)tos << 20);
}

static __always_inline __u8 class_of(const struct ipv6hdr *ip6)
{
	return bpf_ntohl(*(const __be32 *)ip6) >> 20;
}

/* The stack behind takes one more from it, and a router is one hop. */
static __always_inline __u8 one_more(__u8 hops)
{
	return hops < 255 ? hops + 1 : hops;
}

/* ---- IPv4 -> IPv6 (section 4) ---- */

static __always_inline enum counter read_quoted_ipv4(struct __sk_buff *skb, __u32 at, __u32 end, struct iphdr *ip,
						     struct quote *q, struct ports *ports)
{
	q->at = at;
	q->end = end;
	if (at + sizeof(*ip) > end || bpf_skb_load_bytes(skb, at, ip, sizeof(*ip)))
		return MAP_DROPPED_TINY;
	if (ip->version != 4 || ip->ihl < 5 || at + ip->ihl * 4 > end || bpf_ntohs(ip->tot_len) < ip->ihl * 4)
		return MAP_DROPPED_TINY;
	q->extra = (ip->ihl - 5) * 4;
	q->l4 = at + ip->ihl * 4;
	q->protocol = ip->protocol;
	if (is_extension_header(ip->protocol) || ip->protocol == IPPROTO_ICMPV6)
		return MAP_DROPPED_UNTRANSLATABLE;
	q->later = !!(ip->frag_off & bpf_htons(IPV4_OFFSET));
	q->fragment = !!(ip->frag_off & bpf_htons(IPV4_OFFSET | IPV4_MF));
	return read_quoted_header(skb, q, ports);
}

/* A Fragment header for an IPv4 fragment. */
static __always_inline struct fragment_header fragment_of(const struct iphdr *ip, __u8 nexthdr)
{
	__u16 field = bpf_ntohs(ip->frag_off);
	struct fragment_header fragment = {
		.nexthdr = nexthdr,
		.offset = bpf_htons((field & IPV4_OFFSET) << 3 | !!(field & IPV4_MF)),
		.id = bpf_htonl(bpf_ntohs(ip->id)),
	};

	return fragment;
}

static __always_inline __u8 nexthdr_of(__u8 protocol)
{
	return protocol == IPPROTO_ICMP ? IPPROTO_ICMPV6 : protocol;
}

static __always_inline int to_ipv6(struct __sk_buff *skb, const int is_ce)
{
	__u32 zero = 0, l4 = L3 + sizeof(struct iphdr), end, options, length, psid = 0, *handed_over = NULL;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct iphdr ip, quoted = {};
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct ipv6hdr *new, *inner;
	struct fragment_header fragment = {};
	struct datagram datagram = {};
	struct icmp icmp = {}, icmp6 = {};
	struct ports ports = {};
	struct part part = {};
	struct quote q = {};
	struct rule *rule;
	__u8 header[8] = {};
	__u32 word[2];
	__u64 take = 0, give = 0;
	__sum16 sum;
	enum counter reason;
	int error = 0, shared, room = 0, part_sum;

	if (!c || !s || skb->protocol != bpf_htons(ETH_P_IP))
		return PASS;
	new = &s->outer;
	inner = &s->inner;
	if (bpf_skb_load_bytes(skb, L3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return drop(MAP_OUT, MAP_DROPPED_TINY);
	options = (ip.ihl - 5) * 4;
	length = bpf_ntohs(ip.tot_len);
	if (length < sizeof(ip) + options || L3 + length > skb->len)
		return drop(MAP_OUT, MAP_DROPPED_TINY);
	length -= sizeof(ip) + options;
	if (options) {
		if (has_source_route(skb, options))
			return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
		if (bpf_skb_adjust_room(skb, -(__s32)options, BPF_ADJ_ROOM_NET, ROOM_FLAGS))
			return drop(MAP_OUT, MAP_DROPPED_FAILED);
	}
	end = l4 + length;
	part.protocol = ip.protocol;
	part.id = ip.id;
	part.later = !!(ip.frag_off & bpf_htons(IPV4_OFFSET));
	part.fragment = !!(ip.frag_off & bpf_htons(IPV4_OFFSET | IPV4_MF));
	if (is_extension_header(ip.protocol) || ip.protocol == IPPROTO_ICMPV6)
		return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
	if (!part.later && l4_needed(ip.protocol)) {
		if (length < l4_needed(ip.protocol) || bpf_skb_load_bytes(skb, l4, header, sizeof(header)))
			return drop(MAP_OUT, MAP_DROPPED_TINY);
		read_ports(header, ip.protocol, &ports);
	}
	if (ip.protocol == IPPROTO_ICMP && !part.later) {
		__builtin_memcpy(&icmp, header, sizeof(icmp));
		error = is_icmp_error(icmp.type);
		if (error) {
			if (part.fragment)
				return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
			reason = read_quoted_ipv4(skb, l4 + sizeof(icmp), end, &quoted, &q, &ports);
			if (reason)
				return drop(MAP_OUT, reason);
			if (quoted.saddr != ip.daddr)
				return drop(MAP_OUT, MAP_DROPPED_WRONG_QUOTE);
		}
		__builtin_memcpy(word, header, sizeof(word));
		if (translate_icmp(word[0], word[1], bpf_ntohs(quoted.tot_len), c->ipv6_mtu))
			return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
		icmp6 = s->icmp;
	}

	/* whose it is, on both sides: an error belongs to those of the packet that it quotes */
	rule = rule_of(ip.daddr);
	if (is_ce) {
		if (!is_own(c, ip.saddr) || (error && !is_own(c, quoted.daddr)))
			return drop(MAP_OUT, MAP_DROPPED_NOT_OWN_ADDRESS);
		reason = check_own_port(c, &ports, error ? ports.destination : ports.source, part.later);
		if (reason)
			return drop(MAP_OUT, reason);
	} else {
		if (!rule)
			return drop(MAP_OUT, MAP_DROPPED_NO_RULE);
		if (is_martian(ip.saddr))
			return drop(MAP_OUT, MAP_DROPPED_MARTIAN);
	}
	shared = is_ce && c->own.psid_length;
	if (rule && rule->psid_length)
		shared = 1;
	if (part.fragment && shared) {
		datagram = datagram_of(ip.daddr, ip.saddr, &part);
		if (part.later) {
			handed_over = bpf_map_lookup_elem(&first_fragments, &datagram);
			if (!handed_over)
				return drop(MAP_OUT, MAP_DROPPED_LOST_FRAGMENT);
			psid = *handed_over;
		}
	}
	if (rule) {
		reason = find_map_address(&rule, ip.daddr, ports.known, error ? ports.source : ports.destination,
					  part.later, psid, &psid, new->daddr.in6_u.u6_addr32);
		if (reason)
			return drop(MAP_OUT, reason);
	} else {
		embed(&c->dmr, ip.daddr, new->daddr.in6_u.u6_addr32);
	}
	if (is_ce)
		own_to_ipv6(c, ip.saddr, new->saddr.in6_u.u6_addr32);
	else
		embed(&c->dmr, ip.saddr, new->saddr.in6_u.u6_addr32);
	if (part.fragment && !part.later && shared &&
	    bpf_map_update_elem(&first_fragments, &datagram, &psid, BPF_ANY))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);

	/* the packet that an error quotes; section 4.3: an error about an error is none */
	if (error && q.has_header && q.protocol == IPPROTO_ICMP && !is_echo(q.protocol, q.header[0]))
		return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
	if (error) {
		inner->saddr = new->daddr;
		if (is_ce)
			own_to_ipv6(c, quoted.daddr, inner->daddr.in6_u.u6_addr32);
		else
			embed(&c->dmr, quoted.daddr, inner->daddr.in6_u.u6_addr32);
		room = sizeof(*inner) - sizeof(quoted) - q.extra;
		if (q.fragment) {
			q.part = fragment_of(&quoted, nexthdr_of(quoted.protocol));
			room += sizeof(q.part);
		}
		if (icmp.length && (icmp6.type == ICMPV6_DEST_UNREACH || icmp6.type == ICMPV6_TIME_EXCEED)) {
			__u32 extension = q.at + icmp.length * 4, whole = icmp.length * 4 + room,
			      padding = -whole & 7;

			if (extension >= q.l4 + (q.has_header ? sizeof(q.header) : 0) && extension < end &&
			    move_extension(skb, extension, end, padding)) {
				icmp6.pointer = (whole + padding) / 8;
				q.end = extension;
				length += padding;
			}
		}
		inner->payload_len = bpf_ntohs(quoted.tot_len) - quoted.ihl * 4;
		part_sum = sum_part(skb, q.at, sizeof(quoted) + q.extra);
		if (mend_quoted(skb, &q, words(&quoted.saddr, 8), words(&inner->saddr, 32), inner->payload_len,
				&take, &give) ||
		    part_sum < 0)
			return drop(MAP_OUT, MAP_DROPPED_FAILED);
		take += part_sum;
		set_class(inner, quoted.tos);
		inner->payload_len = bpf_htons(inner->payload_len + (q.fragment ? sizeof(q.part) : 0));
		inner->nexthdr = q.fragment ? NEXTHDR_FRAGMENT : nexthdr_of(quoted.protocol);
		inner->hop_limit = quoted.ttl;
		give += words(inner, sizeof(*inner));
		if (q.fragment)
			give += words(&q.part, sizeof(q.part));
		length += room;
	}

	/* the checksum of the upper layer */
	if (ip.protocol == IPPROTO_ICMP && !part.later) {
		__u32 whole = length;

		if (part.fragment) {
			whole = length_of_whole(&ip.daddr, IPPROTO_ICMP);
			if (!whole)
				return drop(MAP_OUT, MAP_DROPPED_LOST_LENGTH);
		}
		sum = icmp.checksum;
		icmp.checksum = 0;
		take += words(&icmp, sizeof(icmp));
		give += words(&icmp6, sizeof(icmp6)) + words(&new->saddr, 32) + pseudo(whole, IPPROTO_ICMPV6);
		icmp6.checksum = mend(sum, take, give);
	} else if (!part.later && checksum_at(ip.protocol)) {
		if (ip.protocol == IPPROTO_UDP && !header[6] && !header[7]) { /* section 4.5 */
			int summed = part.fragment || skb->gso_size ? -1 : sum_whole(skb, l4, length);

			if (summed < 0)
				return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
			sum = ~fold(words(&new->saddr, 32) + pseudo(length, IPPROTO_UDP) + summed);
			if (!sum)
				sum = 0xffff;
			if (store(skb, l4 + 6, &sum, sizeof(sum)))
				return drop(MAP_OUT, MAP_DROPPED_FAILED);
		} else if (bpf_l4_csum_replace(skb, l4 + checksum_at(ip.protocol), 0,
					       bpf_csum_diff(&ip.saddr, 8, (__be32 *)&new->saddr, 32, 0),
					       BPF_F_PSEUDO_HDR |
						       (has_no_zero(ip.protocol) ? BPF_F_MARK_MANGLED_0 : 0))) {
			return drop(MAP_OUT, MAP_DROPPED_FAILED);
		}
	}

	set_class(new, is_ce ? ip.tos : class_for(ip.tos));
	new->nexthdr = nexthdr_of(ip.protocol);
	if (part.fragment) {
		fragment = fragment_of(&ip, new->nexthdr);
		new->nexthdr = NEXTHDR_FRAGMENT;
		length += sizeof(fragment);
		room = sizeof(fragment);
	}
	if (length > 0xffff)
		return drop(MAP_OUT, MAP_DROPPED_UNTRANSLATABLE);
	new->payload_len = bpf_htons(length);
	new->hop_limit = one_more(ip.ttl);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) ||
	    (room && bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_NET, ROOM_FLAGS)))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	l4 = L3 + sizeof(*new);
	if (set_ethertype(skb, bpf_htons(ETH_P_IPV6)) || store(skb, L3, new, sizeof(*new)) ||
	    (part.fragment && store(skb, l4, &fragment, sizeof(fragment))))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	if (part.fragment)
		l4 += sizeof(fragment);
	if (ip.protocol == IPPROTO_ICMP && !part.later && store(skb, l4, &icmp6, sizeof(icmp6)))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	if (error && (store(skb, l4 + sizeof(icmp6), inner, sizeof(*inner)) ||
		      (q.fragment && store(skb, l4 + sizeof(icmp6) + sizeof(*inner), &q.part, sizeof(q.part)))))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	return hand_over(skb, MAP_OUT, part.later, 0);
}

/* ---- IPv6 -> IPv4 (section 5) ---- */

static __always_inline enum counter read_quoted_ipv6(struct __sk_buff *skb, struct scratch *s, __u32 at, __u32 end,
						     struct ipv6hdr *ip6, struct quote *q, struct ports *ports)
{
	enum counter reason;

	q->at = at;
	q->end = end;
	q->l4 = at + sizeof(*ip6);
	if (q->l4 > end || bpf_skb_load_bytes(skb, at, ip6, sizeof(*ip6)))
		return MAP_DROPPED_TINY;
	if (ip6->version != 6)
		return MAP_DROPPED_TINY;
	reason = skip_extensions(skb, q->l4, end, ip6->nexthdr);
	if (reason)
		return reason;
	q->l4 = s->extensions.l4;
	q->protocol = s->extensions.nexthdr;
	q->fragment = s->extensions.has_fragment;
	q->part = s->extensions.fragment;
	if (q->protocol == IPPROTO_ICMP)
		return MAP_DROPPED_UNTRANSLATABLE;
	q->extra = q->l4 - at - sizeof(*ip6);
	if (bpf_ntohs(ip6->payload_len) < q->extra)
		return MAP_DROPPED_TINY;
	q->later = !!(q->part.offset & bpf_htons(IPV6_OFFSET));
	return read_quoted_header(skb, q, ports);
}

static __always_inline __u8 protocol_of(__u8 nexthdr)
{
	return nexthdr == IPPROTO_ICMPV6 ? IPPROTO_ICMP : nexthdr;
}

/* Total length, and what IPv4 says of fragments (section 5.1). `length`: of the upper layer. */
static __always_inline void set_length(struct iphdr *ip, __u32 length, int has_fragment,
				       const struct fragment_header *fragment)
{
	__u16 offset = bpf_ntohs(fragment->offset);

	ip->tot_len = bpf_htons(length + sizeof(*ip));
	if (has_fragment) {
		ip->id = bpf_htons(bpf_ntohl(fragment->id));
		ip->frag_off = bpf_htons(offset >> 3 | (offset & IPV6_MF ? IPV4_MF : 0));
	} else if (length + sizeof(*ip) > IPV6_LEAST_MTU - GROWTH) {
		ip->frag_off = bpf_htons(IPV4_DF);
	}
}

static __always_inline int to_ipv4(struct __sk_buff *skb, const int is_ce)
{
	__u32 zero = 0, l4 = L3 + sizeof(struct ipv6hdr), end, length, extra, psid = FROM_BORDER_RELAY;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct ipv6hdr *ip6, *quoted;
	struct iphdr new = { .version = 4, .ihl = 5 }, inner = { .version = 4, .ihl = 5 };
	struct fragment_header fragment = {};
	struct icmp icmp6 = {}, icmp = {};
	struct ports ports = {};
	struct part part = {};
	struct quote q = {};
	struct datagram datagram;
	struct rule *rule;
	const __be32 *source;
	__u8 header[8] = {}, nexthdr, has_fragment;
	__u32 word[2];
	__u64 take = 0, give = 0;
	__be32 ipv4 = 0;
	__sum16 sum;
	enum counter reason;
	int error = 0, router_error = 0, room, part_sum;

	if (!c || !s || skb->protocol != bpf_htons(ETH_P_IPV6))
		return PASS;
	ip6 = &s->outer;
	quoted = &s->inner;
	if (bpf_skb_load_bytes(skb, L3, ip6, sizeof(*ip6)) || ip6->version != 6)
		return drop(MAP_IN, MAP_DROPPED_TINY);
	if (ip6->daddr.in6_u.u6_addr8[0] == 0xff) /* the device's own multicast */
		return TC_ACT_SHOT;
	length = bpf_ntohs(ip6->payload_len);
	end = l4 + length;
	if (end > skb->len)
		return drop(MAP_IN, MAP_DROPPED_TINY);
	if (is_ce ? !own_to_ipv4(c, ip6->daddr.in6_u.u6_addr32, &new.daddr)
		  : !is_in_dmr(&c->dmr, ip6->daddr.in6_u.u6_addr32))
		return drop(MAP_IN, MAP_DROPPED_NOT_OWN_ADDRESS);
	if (!is_ce) {
		new.daddr = extract(&c->dmr, ip6->daddr.in6_u.u6_addr32);
		if (is_martian(new.daddr))
			return drop(MAP_IN, MAP_DROPPED_MARTIAN);
	}
	reason = skip_extensions(skb, l4, end, ip6->nexthdr);
	if (reason)
		return drop(MAP_IN, reason);
	l4 = s->extensions.l4;
	nexthdr = s->extensions.nexthdr;
	has_fragment = s->extensions.has_fragment;
	fragment = s->extensions.fragment;
	if (nexthdr == IPPROTO_ICMP)
		return drop(MAP_IN, MAP_DROPPED_UNTRANSLATABLE);
	extra = l4 - L3 - sizeof(*ip6);
	length -= extra;
	new.protocol = protocol_of(nexthdr);
	part.protocol = new.protocol;
	part.id = bpf_htons(bpf_ntohl(fragment.id));
	part.later = !!(fragment.offset & bpf_htons(IPV6_OFFSET));
	part.fragment = !!(fragment.offset & bpf_htons(IPV6_OFFSET | IPV6_MF));
	if (!part.later && l4_needed(nexthdr)) {
		if (length < l4_needed(nexthdr) || bpf_skb_load_bytes(skb, l4, header, sizeof(header)))
			return drop(MAP_IN, MAP_DROPPED_TINY);
		read_ports(header, nexthdr, &ports);
	}
	if (nexthdr == IPPROTO_ICMPV6 && !part.later) {
		__builtin_memcpy(&icmp6, header, sizeof(icmp6));
		error = is_icmpv6_error(icmp6.type);
		if (error) {
			if (part.fragment)
				return drop(MAP_IN, MAP_DROPPED_UNTRANSLATABLE);
			reason = read_quoted_ipv6(skb, s, l4 + sizeof(icmp6), end, quoted, &q, &ports);
			if (reason)
				return drop(MAP_IN, reason);
			if (!is_equal(quoted->saddr.in6_u.u6_addr32, ip6->daddr.in6_u.u6_addr32))
				return drop(MAP_IN, MAP_DROPPED_WRONG_QUOTE);
		}
		__builtin_memcpy(word, header, sizeof(word));
		if (translate_icmpv6(word[0], word[1], c->ipv6_mtu))
			return drop(MAP_IN, MAP_DROPPED_UNTRANSLATABLE);
		icmp = s->icmp;
	}

	/* whose it is, on both sides: an error belongs to those of the packet that it quotes */
	if (is_ce) {
		reason = check_own_port(c, &ports, error ? ports.source : ports.destination, part.later);
		if (reason)
			return drop(MAP_IN, reason);
	}
	source = error ? quoted->daddr.in6_u.u6_addr32 : ip6->saddr.in6_u.u6_addr32;
	if (is_ce && is_in_dmr(&c->dmr, source)) {
		ipv4 = extract(&c->dmr, source);
		if (is_martian(ipv4) || (!c->own.psid_length && is_own(c, ipv4)))
			return drop(MAP_IN, MAP_DROPPED_MARTIAN);
	} else {
		rule = rule_of_map_address(source, &ipv4);
		if (!rule)
			return drop(MAP_IN, is_ce ? MAP_DROPPED_OUTSIDE_DOMAIN : MAP_DROPPED_NO_RULE);
		reason = rule_to_ipv4(rule, source, ipv4, &ports, error ? ports.destination : ports.source,
				      part.later, &psid);
		if (reason)
			return drop(MAP_IN, reason);
		if (is_ce && !c->own.psid_length && is_own(c, ipv4))
			return drop(MAP_IN, MAP_DROPPED_MARTIAN);
	}
	new.saddr = ipv4;
	if (error && !is_equal(ip6->saddr.in6_u.u6_addr32, quoted->daddr.in6_u.u6_addr32)) {
		if (is_ce && is_in_dmr(&c->dmr, ip6->saddr.in6_u.u6_addr32)) {
			new.saddr = extract(&c->dmr, ip6->saddr.in6_u.u6_addr32);
			if (is_martian(new.saddr))
				return drop(MAP_IN, MAP_DROPPED_MARTIAN);
		} else {
			rule = rule_of_map_address(ip6->saddr.in6_u.u6_addr32, &new.saddr);
			if (rule)
				return drop(MAP_IN, MAP_DROPPED_WRONG_QUOTE);
			new.saddr = c->substitute;
			router_error = 1;
		}
	}
	if (part.fragment) {
		datagram = datagram_of(new.saddr, new.daddr, &part);
		if (bind_datagram(&datagram, psid, part.later))
			return drop(MAP_IN, MAP_DROPPED_MIXED_FRAGMENT);
	}

	/* the packet that an error quotes; section 5.3: an error about an error is none */
	if (error && q.has_header && q.protocol == IPPROTO_ICMPV6 && !is_echo(q.protocol, q.header[0]))
		return drop(MAP_IN, MAP_DROPPED_UNTRANSLATABLE);
	room = -(__s32)extra;
	if (error) {
		__u32 quoted_length = bpf_ntohs(quoted->payload_len) - q.extra;
		int growth = (int)sizeof(inner) - (int)sizeof(*quoted) - (int)q.extra;

		inner.saddr = new.daddr;
		inner.daddr = ipv4;
		inner.tos = class_of(quoted);
		inner.ttl = quoted->hop_limit;
		inner.protocol = protocol_of(q.protocol);
		set_length(&inner, quoted_length, q.fragment, &q.part);
		inner.check = ~fold(words(&inner, sizeof(inner)));
		if (icmp6.pointer && (icmp6.type == ICMPV6_DEST_UNREACH || icmp6.type == ICMPV6_TIME_EXCEED)) {
			__u32 extension = q.at + icmp6.pointer * 8, whole = icmp6.pointer * 8 + growth,
			      padding = whole < 128 ? 128 - whole : 0;

			if (extension >= q.l4 + (q.has_header ? sizeof(q.header) : 0) && extension < end &&
			    (whole + padding) / 4 <= 255 && move_extension(skb, extension, end, padding)) {
				icmp.length = (whole + padding) / 4;
				q.end = extension;
				length += padding;
			}
		}
		part_sum = sum_part(skb, q.at, sizeof(*quoted) + q.extra);
		if (mend_quoted(skb, &q, words(&quoted->saddr, 32), words(&inner.saddr, 8), quoted_length, &take,
				&give) ||
		    part_sum < 0)
			return drop(MAP_IN, MAP_DROPPED_FAILED);
		take += part_sum;
		give += words(&inner, sizeof(inner));
		room += growth;
	}

	/* the checksum of the upper layer */
	if (nexthdr == IPPROTO_ICMPV6 && !part.later) {
		__u32 whole = length;

		if (part.fragment) {
			whole = length_of_whole(ip6->daddr.in6_u.u6_addr32, IPPROTO_ICMPV6);
			if (!whole)
				return drop(MAP_IN, MAP_DROPPED_LOST_LENGTH);
		} else if (error) {
			whole = bpf_ntohs(ip6->payload_len) - extra;
		}
		sum = icmp6.checksum;
		icmp6.checksum = 0;
		take += words(&icmp6, sizeof(icmp6)) + words(&ip6->saddr, 32) + pseudo(whole, IPPROTO_ICMPV6);
		give += words(&icmp, sizeof(icmp));
		icmp.checksum = mend(sum, take, give);
	} else if (!part.later && checksum_at(nexthdr) &&
		   bpf_l4_csum_replace(skb, l4 + checksum_at(nexthdr), 0,
				       bpf_csum_diff((__be32 *)&ip6->saddr, 32, &new.saddr, 8, 0),
				       BPF_F_PSEUDO_HDR | (has_no_zero(nexthdr) ? BPF_F_MARK_MANGLED_0 : 0))) {
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	}

	if (error)
		length += sizeof(inner) - sizeof(*quoted) - q.extra;
	if (length + sizeof(new) > 0xffff)
		return drop(MAP_IN, MAP_DROPPED_UNTRANSLATABLE);
	new.tos = class_of(ip6);
	new.ttl = one_more(ip6->hop_limit);
	set_length(&new, length, has_fragment, &fragment);
	if (!has_fragment && !new.frag_off)
		new.id = bpf_get_prandom_u32();
	new.check = ~fold(words(&new, sizeof(new)));
	if ((room && bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_NET, ROOM_FLAGS)) ||
	    bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	l4 = L3 + sizeof(new);
	if (set_ethertype(skb, bpf_htons(ETH_P_IP)) || store(skb, L3, &new, sizeof(new)) ||
	    (nexthdr == IPPROTO_ICMPV6 && !part.later && store(skb, l4, &icmp, sizeof(icmp))) ||
	    (error && store(skb, l4 + sizeof(icmp), &inner, sizeof(inner))))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	return hand_over(skb, MAP_IN, part.later, router_error);
}

#include "translate_fast.h"

SEC("tc")
int ce_out(struct __sk_buff *skb)
{
	return to_ipv6(skb, 1);
}

SEC("tc")
int ce_in(struct __sk_buff *skb)
{
	return to_ipv4(skb, 1);
}

SEC("tc")
int br_out(struct __sk_buff *skb)
{
	return to_ipv6(skb, 0);
}

SEC("tc")
int br_in(struct __sk_buff *skb)
{
	return to_ipv4(skb, 0);
}

SEC("tc")
int br_fast_out(struct __sk_buff *skb)
{
	return to_ipv6_fast(skb);
}

SEC("tc")
int br_fast_in(struct __sk_buff *skb)
{
	return to_ipv4_fast(skb);
}

SEC("lwt_out")
int whole_length(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data;
	struct ipv6hdr *ip6 = data;
	__u32 zero = 0;
	struct whole *w = bpf_map_lookup_elem(&whole, &zero);

	if (!w || (void *)(ip + 1) > end)
		return BPF_OK;
	if (ip->version == 4) {
		if (ip->protocol != IPPROTO_ICMP)
			return BPF_OK;
		w->destination[0] = ip->daddr;
		w->length = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
		w->protocol = IPPROTO_ICMP;
	} else if ((void *)(ip6 + 1) <= end && ip6->nexthdr == IPPROTO_ICMPV6) {
		__builtin_memcpy(w->destination, &ip6->daddr, 16);
		w->length = bpf_ntohs(ip6->payload_len);
		w->protocol = IPPROTO_ICMPV6;
	}
	return BPF_OK;
}

char _license[] SEC("license") = "GPL";
