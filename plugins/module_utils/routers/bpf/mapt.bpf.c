// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 softwire.map contributors
/*
 * A stateless MAP-T border relay (RFC 7599) beside a stateless translator that cannot map ports: jool_siit.
 *
 * Jool knows one EAM entry per rule, rule IPv4 prefix <-> internal /96 + IPv4 address. The internal addresses
 * never leave the BR. These programs change the CE's address in the IPv6 packets:
 *
 *   mapt_in   tc ingress of the IPv6 interface, before Jool: the source must be the MAP address that its IPv4
 *             address and port give (RFC 7599 section 8.3); MAP address -> internal address.
 *   mapt_out  tc ingress of the loop device that Jool's output is routed to: internal address -> the MAP
 *             address that the destination port gives; then straight to the IPv6 interface.
 *
 * With check_only set mapt_in changes nothing: for jool_mapt, which maps ports but does not check sources.
 * Ethernet devices only. Linux 5.19 or later.
 */
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include "map.h"
#include "packet.h"

#define IP6_FAMILY 10 /* AF_INET6 */
#define L3 ETH_HLEN
#define SOURCE (L3 + __builtin_offsetof(struct ipv6hdr, saddr))
#define DESTINATION (L3 + __builtin_offsetof(struct ipv6hdr, daddr))

struct config {
	__be32 dmr[4]; /* the default mapping rule's prefix */
	__be32 dmr_mask[4];
	__be32 internal[3]; /* the internal /96 */
	__u8 check_only;
	__u8 zero[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct packet {
	__u32 l4;              /* offset of the upper-layer header */
	__u32 checksum;        /* offset of its checksum; 0: none */
	__u32 quoted;          /* offset of the IPv6 header that an ICMPv6 error quotes; 0: no error */
	__u32 quoted_checksum; /* offset of the quoted upper-layer checksum; 0: none */
	__be32 quoted_ce[4];   /* the CE's address in the quoted packet */
	__be16 id;             /* low 16 bits of the fragment id */
	__u16 port;            /* of the CE: port or ICMP identifier */
	__u8 protocol;
	__u8 fragment; /* not the whole datagram */
	__u8 later;    /* not its beginning */
	__u8 has_port;
};

static __always_inline int is_in_internal(const struct config *c, const struct in6_addr *address)
{
	return address->in6_u.u6_addr32[0] == c->internal[0] && address->in6_u.u6_addr32[1] == c->internal[1] &&
	       address->in6_u.u6_addr32[2] == c->internal[2];
}

static __always_inline int is_in_dmr(const struct config *c, const struct in6_addr *address)
{
	__be32 difference = 0;

	for (int i = 0; i < 4; i++)
		difference |= (address->in6_u.u6_addr32[i] & c->dmr_mask[i]) ^ c->dmr[i];
	return !difference;
}

/*
 * Reads the first 8 bytes of an upper-layer header: the port of the CE, which is the source when
 * `ce_is_source`, and where the checksum is. Without a known port has_port stays 0.
 */
static __always_inline void read_port(const __u8 *header, __u8 protocol, int ce_is_source, struct packet *p,
				      __u32 *checksum)
{
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		p->port = ce_is_source ? header[0] << 8 | header[1] : header[2] << 8 | header[3];
		p->has_port = 1;
		*checksum = protocol == IPPROTO_TCP ? 16 : 6;
	} else if (protocol == IPPROTO_ICMPV6) {
		p->port = header[4] << 8 | header[5];
		p->has_port = header[0] == ICMPV6_ECHO_REQUEST || header[0] == ICMPV6_ECHO_REPLY;
		*checksum = 2;
	}
}

/* What an ICMPv6 error quotes: a packet of the other direction. `end`: offset of the end of the packet. */
static __always_inline enum counter read_quoted(struct __sk_buff *skb, int ce_is_source, __u32 end,
						struct packet *p)
{
	struct ipv6hdr ip6;
	struct fragment_header fragment;
	__u8 header[8];
	__u32 l4, checksum = 0;
	__u16 sum;

	p->quoted = p->l4 + 8;
	l4 = p->quoted + sizeof(ip6);
	if (l4 > end || bpf_skb_load_bytes(skb, p->quoted, &ip6, sizeof(ip6)))
		return MAP_DROPPED_TINY;
	__builtin_memcpy(p->quoted_ce, ce_is_source ? &ip6.daddr : &ip6.saddr, 16);
	if (ip6.nexthdr == NEXTHDR_FRAGMENT) {
		if (l4 + 8 > end || bpf_skb_load_bytes(skb, l4, &fragment, 8))
			return MAP_DROPPED_TINY;
		if (fragment.offset & bpf_htons(IPV6_OFFSET))
			return MAP_PASSED; /* no port, and the checksum is elsewhere */
		ip6.nexthdr = fragment.nexthdr;
		l4 += 8;
	}
	if (l4 + 8 > end || bpf_skb_load_bytes(skb, l4, header, 8))
		return MAP_DROPPED_TINY;
	read_port(header, ip6.nexthdr, !ce_is_source, p, &checksum);
	/* a quoted packet may end before its checksum, and a zero of UDP is none */
	if (checksum && l4 + checksum + 2 <= end && !bpf_skb_load_bytes(skb, l4 + checksum, &sum, 2) &&
	    (sum || ip6.nexthdr != IPPROTO_UDP))
		p->quoted_checksum = l4 + checksum;
	return MAP_PASSED;
}

/* Finds the CE's port and what a change of its address touches. Returns MAP_PASSED or a reason to drop. */
static __always_inline enum counter read_packet(struct __sk_buff *skb, const struct ipv6hdr *ip6, int ce_is_source,
						struct packet *p)
{
	/* not skb->len: Ethernet padding is not part of the packet */
	__u32 end = L3 + sizeof(*ip6) + bpf_ntohs(ip6->payload_len), checksum = 0;
	struct fragment_header fragment;
	__u8 header[8];

	p->l4 = L3 + sizeof(*ip6);
	p->protocol = ip6->nexthdr;
	if (p->protocol == NEXTHDR_FRAGMENT) {
		if (p->l4 + 8 > end || bpf_skb_load_bytes(skb, p->l4, &fragment, 8))
			return MAP_DROPPED_TINY;
		p->protocol = fragment.nexthdr;
		p->id = bpf_htons(bpf_ntohl(fragment.id));
		p->later = !!(fragment.offset & bpf_htons(IPV6_OFFSET));
		p->fragment = !!(fragment.offset & bpf_htons(IPV6_OFFSET | IPV6_MF));
		p->l4 += 8;
		if (p->later)
			return MAP_PASSED;
	}
	if (is_extension_header(p->protocol)) /* an IPv4 host behind a CE cannot have sent them */
		return MAP_DROPPED_NO_PORT;
	if (p->l4 + 8 > end || bpf_skb_load_bytes(skb, p->l4, header, 8))
		return MAP_DROPPED_TINY;
	read_port(header, p->protocol, ce_is_source, p, &checksum);
	if (checksum) {
		p->checksum = p->l4 + checksum;
		if (p->checksum + 2 > end)
			return MAP_DROPPED_TINY;
	}
	if (p->protocol == IPPROTO_ICMPV6 && header[0] >= ICMPV6_DEST_UNREACH && header[0] <= ICMPV6_PARAMPROB) {
		if (p->fragment) /* errors fit into 1280 bytes */
			return MAP_DROPPED_NO_PORT;
		return read_quoted(skb, ce_is_source, end, p);
	}
	return MAP_PASSED;
}

/*
 * Replaces the address at `offset` and mends the upper-layer checksum.
 *
 * skb->csum of a CHECKSUM_COMPLETE packet: with BPF_F_PSEUDO_HDR the kernel takes the difference out of it, as
 * if the address were IPv4's, whose header has a checksum of its own; BPF_F_RECOMPUTE_CSUM puts it back in.
 * Kernels that know BPF_F_IPV6 would do it in one step; this way is right on all.
 */
static __always_inline int replace_address(struct __sk_buff *skb, const struct packet *p, __u32 offset,
					   __be32 *from, __be32 *to)
{
	__s64 difference = bpf_csum_diff(from, 16, to, 16, 0);
	__u64 flags = BPF_F_PSEUDO_HDR | (p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);

	if (p->checksum && bpf_l4_csum_replace(skb, p->checksum, 0, difference, flags))
		return -1;
	return bpf_skb_store_bytes(skb, offset, to, 16, BPF_F_RECOMPUTE_CSUM);
}

/*
 * Replaces the CE's address in the packet that an ICMPv6 error quotes. The quoted checksum changes by the
 * opposite of the address, so the error's own checksum stays right; only where there is none has it to change.
 */
static __always_inline int replace_quoted(struct __sk_buff *skb, const struct packet *p, int ce_is_source,
					  __be32 *from, __be32 *to)
{
	__s64 difference = bpf_csum_diff(from, 16, to, 16, 0);
	__u32 checksum = p->quoted_checksum ? p->quoted_checksum : p->checksum;
	__u32 offset = p->quoted + (ce_is_source ? DESTINATION - L3 : SOURCE - L3);

	if (bpf_l4_csum_replace(skb, checksum, 0, difference, 0))
		return -1;
	return bpf_skb_store_bytes(skb, offset, to, 16, 0);
}

SEC("tc")
int mapt_in(struct __sk_buff *skb)
{
	__u32 zero = 0, psid;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct packet p = {};
	struct ipv6hdr ip6;
	struct rule *rule;
	enum counter reason;
	__be32 source[4], address[4], internal[4], ipv4;
	int is_router_error = 0;

	if (!c || skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, L3, &ip6, sizeof(ip6)))
		return PASS;
	if (!c->check_only && (is_in_internal(c, &ip6.saddr) || is_in_internal(c, &ip6.daddr)))
		return drop(MAP_IN, MAP_DROPPED_INTERNAL);
	if (!is_in_dmr(c, &ip6.daddr))
		return PASS;

	reason = read_packet(skb, &ip6, 1, &p);
	if (reason)
		return drop(MAP_IN, reason);
	__builtin_memcpy(source, &ip6.saddr, 16);
	rule = rule_of_map_address(source, &ipv4);
	if (!rule && p.quoted) { /* not from a CE: a router on the way to one, whose packet it quotes */
		is_router_error = 1;
		__builtin_memcpy(source, p.quoted_ce, 16);
		rule = rule_of_map_address(source, &ipv4);
	}
	if (!rule)
		return drop(MAP_IN, MAP_DROPPED_NO_RULE);
	reason = find_map_address(&rule, ipv4, p.has_port, p.port, p.later, embedded_psid(rule, source), &psid,
				  address);
	if (reason)
		return drop(MAP_IN, reason);
	if (!is_equal(address, source))
		return drop(MAP_IN, is_router_error ? MAP_DROPPED_WRONG_QUOTE : MAP_DROPPED_SPOOFED);
	if (p.quoted && !is_equal(address, p.quoted_ce))
		return drop(MAP_IN, MAP_DROPPED_WRONG_QUOTE);
	if (p.fragment && rule->psid_length) {
		struct datagram datagram = { .ce = ipv4, .id = p.id, .protocol = p.protocol };

		__builtin_memcpy(datagram.peer, &ip6.daddr, 16);
		if (bind_datagram(&datagram, psid, p.later))
			return drop(MAP_IN, MAP_DROPPED_MIXED_FRAGMENT);
	}
	if (!c->check_only) {
		__builtin_memcpy(internal, rule->peer, 12);
		internal[3] = ipv4;
		if (p.quoted && replace_quoted(skb, &p, 1, address, internal))
			return drop(MAP_IN, MAP_DROPPED_FAILED);
		if (!is_router_error && replace_address(skb, &p, SOURCE, address, internal))
			return drop(MAP_IN, MAP_DROPPED_FAILED);
	}
	count(MAP_IN, is_router_error ? MAP_PASSED_ROUTER_ERROR : p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return PASS;
}

/*
 * Sends a packet on without a second pass through the stack: Jool has already lowered the hop limit, and the
 * BR is one hop. Anything but a plain way out is left to the stack (which lowers the hop limit again): its
 * ICMPv6 errors say "no route", and "packet too big" where the route's MTU is smaller than the loop's.
 */
static __always_inline int send(struct __sk_buff *skb, const struct ipv6hdr *ip6, const struct packet *p,
				const __be32 *destination)
{
	struct bpf_fib_lookup fib = { .family = IP6_FAMILY, .ifindex = skb->ifindex, .l4_protocol = p->protocol };
	struct bpf_redir_neigh next = { .nh_family = IP6_FAMILY };
	__u32 length = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	__u8 data_offset = 5 << 4;
	long result;

	if (skb->gso_size) { /* what counts is the length of the segments it will be cut into */
		if (p->protocol == IPPROTO_TCP && bpf_skb_load_bytes(skb, p->l4 + 12, &data_offset, 1))
			return drop(MAP_OUT, MAP_DROPPED_FAILED);
		length = p->l4 - L3 + (p->protocol == IPPROTO_TCP ? (data_offset >> 4) * 4 : 8) + skb->gso_size;
	}
	fib.tot_len = length > 0xffff ? 0xffff : length;
	__builtin_memcpy(fib.ipv6_src, &ip6->saddr, 16);
	__builtin_memcpy(fib.ipv6_dst, destination, 16);
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH) {
		count(MAP_OUT, MAP_PASSED_TO_STACK);
		return PASS;
	}
	__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, 16);
	return bpf_redirect_neigh(fib.ifindex, &next, sizeof(next), 0);
}

SEC("tc")
int mapt_out(struct __sk_buff *skb)
{
	__u32 zero = 0, psid, later_psid = 0, *handed_over;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct packet p = {};
	struct ipv6hdr ip6;
	struct rule *rule;
	struct datagram datagram = {};
	enum counter reason;
	__be32 internal[4], address[4];

	if (!c || skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, L3, &ip6, sizeof(ip6)))
		return PASS;
	if (!is_in_internal(c, &ip6.daddr)) /* the loop device's own neighbour discovery, and the like */
		return PASS;

	reason = read_packet(skb, &ip6, 0, &p);
	if (reason)
		return drop(MAP_OUT, reason);
	__builtin_memcpy(internal, &ip6.daddr, 16);
	rule = rule_of(internal[3]);
	if (!rule)
		return drop(MAP_OUT, MAP_DROPPED_NO_RULE);
	datagram.ce = internal[3];
	__builtin_memcpy(datagram.peer, &ip6.saddr, 16);
	datagram.id = p.id;
	datagram.protocol = p.protocol;
	if (p.later && rule->psid_length) {
		handed_over = bpf_map_lookup_elem(&first_fragments, &datagram);
		if (!handed_over)
			return drop(MAP_OUT, MAP_DROPPED_LOST_FRAGMENT);
		later_psid = *handed_over;
	}
	reason = find_map_address(&rule, internal[3], p.has_port, p.port, p.later, later_psid, &psid, address);
	if (reason)
		return drop(MAP_OUT, reason);
	if (p.quoted && !is_equal(internal, p.quoted_ce))
		return drop(MAP_OUT, MAP_DROPPED_WRONG_QUOTE);
	if (p.fragment && !p.later && rule->psid_length &&
	    bpf_map_update_elem(&first_fragments, &datagram, &psid, BPF_ANY))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	if (p.quoted && replace_quoted(skb, &p, 0, internal, address))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	if (replace_address(skb, &p, DESTINATION, internal, address))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	count(MAP_OUT, p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return send(skb, &ip6, &p, address);
}

char _license[] SEC("license") = "GPL";
