/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (c) 2026 softwire.map contributors */
/*
 * What the fast paths of a border relay share. A fast path sits on tc ingress of an interface and takes whole packets straight to
 * the interface that they leave by, past the device of the softwire and both stacks. It takes a packet only where the general
 * path would send out the very same one; whatever would need an answer, a cut, a repair or a reason to be dropped is left to that.
 */
#ifndef SOFTWIRE_FAST_H
#define SOFTWIRE_FAST_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "map.h"
#include "packet.h"

#define IP_FAMILY 2   /* AF_INET */
#define IP6_FAMILY 10 /* AF_INET6 */
#define L4_BYTES 8    /* of an upper-layer header: what is read of it */
#define ROOM_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)
#define IPV4_HEADERS (ETH_HLEN + sizeof(struct iphdr) + L4_BYTES)
#define IPV6_HEADERS (ETH_HLEN + sizeof(struct ipv6hdr) + L4_BYTES)

/* The device of the softwire. The programs there write down where they run, and nothing is taken before that. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} softwire_device SEC(".maps");

/* What an operator wants of a border relay's packets; all zeros: nothing. */
struct treatment {
	__u8 sets_class; /* whether IPv6 headers towards the CEs get `class`, not the DSCP of IPv4 */
	__u8 class;      /* a DSCP as part of a traffic class */
	__u8 lowers_mss; /* whether netfilter lowers the MSS of TCP, and so has to see each SYN */
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct treatment);
} treatment SEC(".maps");

static __always_inline const struct treatment *wanted_treatment(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&treatment, &zero);
}

/* The traffic class of IPv6 towards a CE for a TOS octet of IPv4; ECN stays (RFC 6040 section 4.1, RFC 7915 section 4.1). */
static __always_inline __u8 class_for(__u8 tos)
{
	const struct treatment *t = wanted_treatment();

	return t && t->sets_class ? t->class | (tos & ECN_MASK) : tos;
}

/* Whether a packet is one whose MSS netfilter may lower. `l4`: offset of its upper layer. */
static __always_inline int is_for_mss(struct __sk_buff *skb, __u8 protocol, __u32 l4)
{
	const struct treatment *t;
	__u8 tcp_flags;

	if (protocol != IPPROTO_TCP)
		return 0;
	t = wanted_treatment();
	return t && t->lowers_mss &&
	       (bpf_skb_load_bytes(skb, l4 + TCP_FLAGS, &tcp_flags, sizeof(tcp_flags)) || tcp_flags & TCP_SYN);
}

static __always_inline void remember_device(struct __sk_buff *skb)
{
	__u32 zero = 0, *device = bpf_map_lookup_elem(&softwire_device, &zero);

	if (device && *device != skb->ifindex)
		*device = skb->ifindex;
}

/*
 * The device of the softwire where a frame may be taken, else 0. `headers`: how much of it has to lie in one piece. What a tc filter
 * has marked may have a route of its own, which the lookup would not see.
 */
static __always_inline __u32 may_take(struct __sk_buff *skb, __u16 ethertype, __u32 headers)
{
	__u32 zero = 0, *device = bpf_map_lookup_elem(&softwire_device, &zero);

	if (!device || skb->pkt_type || skb->vlan_present || skb->mark || skb->protocol != bpf_htons(ethertype) ||
	    (skb->data_end - skb->data < headers && bpf_skb_pull_data(skb, headers)))
		return 0;
	return *device;
}

/* Reads an IPv4 header without options and the beginning of what is behind it, for half(). `start`: its offset, a constant. */
static __always_inline int read_ipv4(struct __sk_buff *skb, __u32 start, struct iphdr *ip, __u64 *l4)
{
	struct iphdr *at = (void *)(long)skb->data + start;
	__be32 *behind = (void *)(at + 1);

	if ((void *)(behind + 2) > (void *)(long)skb->data_end)
		return -1;
	*ip = *at;
	*l4 = half(behind);
	return 0;
}

/* Whether an upper layer is one that is taken, and as long as the general path wants it. `length`: with the IPv4 header. */
static __always_inline int is_taken_protocol(__u8 protocol, __u32 length)
{
	return (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP) &&
	       length >= sizeof(struct iphdr) + ports_needed(protocol);
}

/* Whether the IPv4 stack would do nothing with a packet but forward it: no options, no fragment, TTL left, a sound header. */
static __always_inline int is_plain(const struct iphdr *ip)
{
	return *(const __u8 *)ip == 0x45 && !(ip->frag_off & bpf_htons(IPV4_OFFSET | IPV4_MF)) && ip->ttl > 1 &&
	       is_taken_protocol(ip->protocol, bpf_ntohs(ip->tot_len)) && fold(words(ip, sizeof(*ip))) == 0xffff &&
	       !is_martian(ip->saddr) && !is_martian(ip->daddr);
}

/*
 * Cuts off what is behind the end of a packet: Ethernet pads short frames, which every TCP acknowledgement without options is.
 * The stack would do the same. Returns 0, or -1 for a packet that is not whole. `length`: of the frame, without padding.
 */
static __always_inline int trim(struct __sk_buff *skb, __u32 length)
{
	if (skb->len == length)
		return 0;
	return skb->len < length || skb->gso_size || bpf_skb_change_tail(skb, length, 0) ? -1 : 0;
}

/*
 * The length that counts for an MTU: of the largest segment that a packet will be cut into. `header`: bytes of its IP header, which
 * begins behind Ethernet's; `length`: of the whole packet. 0: unknown.
 */
static __always_inline __u32 segment_length(struct __sk_buff *skb, __u8 protocol, __u32 header, __u32 length)
{
	__u8 data_offset = L4_BYTES << 2;

	if (!skb->gso_size)
		return length;
	if (protocol == IPPROTO_TCP && bpf_skb_load_bytes(skb, ETH_HLEN + header + 12, &data_offset, 1))
		return 0;
	return header + (data_offset >> 4) * 4 + skb->gso_size;
}

/* Asks for the route of a packet of that length that comes in by an interface. What the fib has says where it goes, and how. */
static __always_inline long ask_route(struct __sk_buff *skb, struct bpf_fib_lookup *fib, __u32 ifindex,
				      __u32 length)
{
	fib->ifindex = ifindex;
	fib->tot_len = length > 0xffff ? 0xffff : length;
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
}

/* Where routes look at ports: rules with ports, and several next hops. `l4`: the beginning of the upper layer. */
static __always_inline void set_ports(struct bpf_fib_lookup *fib, __u8 protocol, __u64 l4)
{
	fib->l4_protocol = protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return;
	fib->sport = bpf_htons(l4 >> 48);
	fib->dport = bpf_htons(l4 >> 32);
}

static __always_inline void set_ipv4_flow(struct bpf_fib_lookup *fib, const struct iphdr *ip, __u64 l4)
{
	fib->family = IP_FAMILY;
	fib->tos = ip->tos;
	fib->ipv4_src = ip->saddr;
	fib->ipv4_dst = ip->daddr;
	set_ports(fib, ip->protocol, l4);
}

/* Without ports, and without what a traffic class might decide. */
static __always_inline void set_ipv6_flow(struct bpf_fib_lookup *fib, const void *source, const void *destination)
{
	fib->family = IP6_FAMILY;
	fib->flowinfo = 0;
	__builtin_memcpy(fib->ipv6_src, source, 16);
	__builtin_memcpy(fib->ipv6_dst, destination, 16);
}

/* Whether what came in would be forwarded to the device of the softwire, whole; it needs no neighbour there. */
static __always_inline int leads_to(struct __sk_buff *skb, struct bpf_fib_lookup *fib, __u32 length, __u32 device)
{
	long result = ask_route(skb, fib, skb->ifindex, length);

	return (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       fib->ifindex == device;
}

/* Whether a packet would be forwarded, whole, to a neighbour whose address is known. `from`: the interface that it comes from. */
static __always_inline int has_next_hop(struct __sk_buff *skb, struct bpf_fib_lookup *fib, __u32 from, __u32 length)
{
	return ask_route(skb, fib, from, length) == BPF_FIB_LKUP_RET_SUCCESS;
}

/* Sends a packet to the next hop that has_next_hop() has found. IPv4 may have one of IPv6 (RFC 8950). */
static __always_inline int leave(enum direction direction, const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh next = { .nh_family = fib->family };

	count(direction, MAP_PASSED);
	count(direction, MAP_FAST);
	if (fib->family == IP_FAMILY)
		next.ipv4_nh = fib->ipv4_dst;
	else
		__builtin_memcpy(next.ipv6_nh, fib->ipv6_dst, 16);
	return bpf_redirect_neigh(fib->ifindex, &next, sizeof(next), 0);
}

/* One hop less in the IPv4 header of a packet, and its checksum to match (RFC 1141). */
static __always_inline void lower_ttl(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->ttl--;
	ip->check = check + (check >= 0xffff);
}

#endif
