// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 softwire.map contributors
/*
 * The end of a customer edge's NAPT (RFC 7597 section 8.1): nothing passes that has not the CE's own address and a port of its
 * set, whatever the rules in front of it have become. The kernel's NAT has one contiguous range of indexes; index and port are
 * exchanged here.
 *
 *   napt_out  tc egress of the interface towards the softwire: index -> port
 *   napt_in   tc ingress of the same: port -> index
 *
 * The interface has Ethernet's headers or none, as the config says. The stack has cut packets before they come out here, the first
 * fragment first; what comes in is put together behind. An address that is not shared only has its address and port 0 looked at.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include "packet.h"

/* In network byte order where wider than a byte. */
struct config {
	__be32 address; /* the CE's own IPv4 address, or the first of its prefix; 0: there is no config yet */
	__be32 router;  /* a network of the router's own behind the interface, with NAPT_ROUTER */
	__be32 router_mask;
	__be16 psid;
	__be16 first_index;
	__be16 last_index;
	__u8 host_length; /* bits of the address that differ inside the CE's own prefix; 0: it has one address */
	__u8 bits;        /* a in the upper half, m in the lower (RFC 7597 section 5.1); k is what is left of 16 */
	__u8 flags;       /* enum flag */
	__u8 zero[3];
};

enum flag {
	NAPT_EXCHANGE = 1, /* index and port differ */
	NAPT_STATIC = 2,   /* the maps of exceptions have entries */
	NAPT_ROUTER = 4,
	NAPT_SHARED = 8,    /* the address is, so that ports count */
	NAPT_ETHERNET = 16, /* the interface has Ethernet's headers */
};

/*
 * An array: to look into a hash table costs a packet more than all the rest. But a new entry overwrites the old one byte by byte, and
 * nothing foreign may pass by some bytes of each. While packets pass, addresses and PSID stay as they are: who gets others starts anew.
 * host_length, bits and flags are a byte each, and read once; whatever the indexes are, a port has to be of the set.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* The exceptions from the arithmetic: static ports, which are their own index, and those that have taken their numbers. */
struct exceptions {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be16);
	__type(value, __be16);
};
struct exceptions index_to_port SEC(".maps");
struct exceptions port_to_index SEC(".maps");

enum direction { NAPT_IN, NAPT_OUT };

enum counter {
	NAPT_PASSED,                /* the CE's own address and port */
	NAPT_PASSED_LATER_FRAGMENT, /* the same of its first fragment; inwards, the address alone */
	NAPT_PASSED_ROUTER,         /* between the LAN and the router itself, behind the same interface */
	NAPT_DROPPED_NOT_OWN_ADDRESS,
	NAPT_DROPPED_NOT_OWN_PORT,  /* a port of another CE, an index that stands for none, or port 0 */
	NAPT_DROPPED_NO_PORT,       /* a shared address, and a protocol or ICMP message without a port */
	NAPT_DROPPED_TINY,          /* cut off before the ports or the checksum */
	NAPT_DROPPED_WRONG_QUOTE,   /* an ICMP error about a packet that is not the CE's */
	NAPT_DROPPED_LOST_FRAGMENT, /* out, and its first fragment has not left */
	NAPT_DROPPED_FAILED,        /* the packet could not be changed, or the program has no config */
	NAPT_COUNTERS
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * NAPT_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct datagram {
	__be32 source;
	__be32 destination;
	__be16 id;
	__u8 protocol;
	__u8 zero;
};

/* The datagrams whose first fragment has left; the others follow at once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct datagram);
	__type(value, __u8);
} first_fragments SEC(".maps");

/* Where the port is that stands for the CE, and the checksum over it. */
struct place {
	__u32 port;     /* offset */
	__u32 checksum; /* offset */
	__u32 outer;    /* offset of the checksum of an ICMP error around them; 0: no error */
	__be16 old;     /* what stands there */
	__u8 protocol;
	__u8 is_unsummed; /* UDP without a checksum, or one that an error does not quote */
};

#define TCP_NEEDED 18   /* ports, flags and checksum (RFC 1858 section 4), bytes */
#define UPPER_NEEDED 8  /* of UDP and ICMP */
#define TCP_CHECKSUM 16 /* offsets in the headers */
#define UDP_CHECKSUM 6
#define ICMP_CHECKSUM 2
#define ICMP_ID 4
#define ICMP_LENGTH 5 /* of what an error quotes, in words (RFC 4884 section 3) */

static __always_inline int finish(enum direction direction, enum counter counter)
{
	__u32 index = direction * NAPT_COUNTERS + counter;
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		++*value;
	return counter <= NAPT_PASSED_ROUTER ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* ---- the arithmetic of RFC 7597 section 5.1 ---- */

/* The config as one packet finds it; in host byte order, but for the address. */
struct own {
	__be32 address;
	__u32 host_length;
	__u32 a, k, m, psid;
	__u32 first_index, last_index;
	__u8 flags;
};

/* Each field is read once, for it may change meanwhile. */
static __always_inline void read_config(const volatile struct config *c, struct own *o)
{
	__u32 bits = c->bits;

	o->address = c->address;
	o->host_length = c->host_length & 31;
	o->a = bits >> 4;
	o->m = bits & 15;
	o->k = (16 - o->a - o->m) & 31;
	o->psid = bpf_ntohs(c->psid);
	o->first_index = bpf_ntohs(c->first_index);
	o->last_index = bpf_ntohs(c->last_index);
	o->flags = c->flags;
}

static __always_inline int is_own_address(const struct own *o, __be32 address)
{
	return !(bpf_ntohl(address ^ o->address) >> o->host_length);
}

static __always_inline int is_own_port(const struct own *o, __u32 port)
{
	if (!port || port > 0xffff || (o->a && !(port >> (16 - o->a))))
		return 0;
	return ((port >> o->m) & ((1u << o->k) - 1)) == o->psid;
}

/* The ports of the set in order, without port 0, have the numbers from this one on; a number is A and M, without the PSID. */
static __always_inline __u32 first_number(const struct own *o)
{
	return o->a ? 1u << o->m : !o->psid;
}

/* The port of an index, or 0. Whatever the maps hold, it is a port of the set. */
static __always_inline __u32 port_of(const struct own *o, __u32 index)
{
	__u32 port = index, number;
	__be16 key = bpf_htons(index), *exception = NULL;

	if (o->flags & NAPT_STATIC)
		exception = bpf_map_lookup_elem(&index_to_port, &key);
	if (exception) {
		port = bpf_ntohs(*exception);
	} else if (o->flags & NAPT_EXCHANGE) {
		if (index < o->first_index || index > o->last_index)
			return 0;
		number = index - o->first_index + first_number(o);
		port = number >> o->m << (16 - o->a) | o->psid << o->m | (number & ((1u << o->m) - 1));
	}
	return is_own_port(o, port) ? port : 0;
}

/* The index of a port, or 0. */
static __always_inline __u32 index_of(const struct own *o, __u32 port)
{
	__be16 key = bpf_htons(port), *exception = NULL;

	if (!is_own_port(o, port))
		return 0;
	if (o->flags & NAPT_STATIC)
		exception = bpf_map_lookup_elem(&port_to_index, &key);
	if (exception)
		return bpf_ntohs(*exception);
	if (!(o->flags & NAPT_EXCHANGE))
		return port;
	return (port >> (16 - o->a) << o->m | (port & ((1u << o->m) - 1))) - first_number(o) + o->first_index;
}

/* ---- packets ---- */

/* The beginning of a packet: IPv4's header, and 8 bytes that are the upper layer's where there are no options. */
struct beginning {
	struct iphdr ip;
	__u8 header[UPPER_NEEDED];
};

/* Reads the IPv4 header and what is behind it. `link`: its offset. Returns 0 if there is none. */
static __always_inline int read_beginning(struct __sk_buff *skb, __u32 link, struct beginning *packet)
{
	const __u16 *there = (void *)(long)skb->data + link;

	/* nearly always, and a call costs more; in halves, for there are machines whose verifier wants them aligned */
	if ((void *)there + sizeof(*packet) <= (void *)(long)skb->data_end)
		__builtin_memcpy(packet, there, sizeof(*packet));
	else if (bpf_skb_load_bytes(skb, link, packet, sizeof(*packet)) &&
		 bpf_skb_load_bytes(skb, link, &packet->ip, sizeof(packet->ip)))
		return 0;
	return packet->ip.version == 4 && packet->ip.ihl >= 5;
}

/*
 * Finds the port in a TCP or UDP header, or the identifier in an echo. `header`: its first 8 bytes; `l4`: its offset. Returns
 * whether there is one.
 */
static __always_inline int find_place(struct place *place, __u8 protocol, const __u8 *header, __u32 l4,
				      const int is_destination)
{
	__u32 at = is_destination ? 2 : 0;

	place->protocol = protocol;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		__builtin_memcpy(&place->old, header + at, sizeof(place->old));
		place->port = l4 + at;
		place->checksum = l4 + (protocol == IPPROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM);
		place->is_unsummed = protocol == IPPROTO_UDP && !header[UDP_CHECKSUM] && !header[UDP_CHECKSUM + 1];
		return 1;
	}
	if (protocol == IPPROTO_ICMP && (header[0] == ICMP_ECHO || header[0] == ICMP_ECHOREPLY)) {
		__builtin_memcpy(&place->old, header + ICMP_ID, sizeof(place->old));
		place->port = l4 + ICMP_ID;
		place->checksum = l4 + ICMP_CHECKSUM;
		return 1;
	}
	return 0;
}

/*
 * Finds the port in the packet that an ICMP error quotes, which travelled the other way. `icmp`: offset of the error; `end`: of
 * the end of the packet; `length`: what RFC 4884 says. Returns NAPT_PASSED or a reason to drop.
 */
static __always_inline enum counter find_quoted(struct __sk_buff *skb, const struct own *o, __u32 icmp, __u32 end,
						__u8 length, const enum direction direction, struct place *place)
{
	__u32 at = icmp + UPPER_NEEDED, l4;
	struct iphdr ip;
	__u8 header[UPPER_NEEDED];

	if (length && at + length * 4 < end)
		end = at + length * 4;
	if (at + sizeof(ip) > end || bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return NAPT_DROPPED_TINY;
	if (!is_own_address(o, direction == NAPT_OUT ? ip.daddr : ip.saddr))
		return NAPT_DROPPED_WRONG_QUOTE;
	if (ip.frag_off & bpf_htons(IPV4_OFFSET))
		return NAPT_DROPPED_NO_PORT;
	l4 = at + ip.ihl * 4;
	/* RFC 792: 8 bytes, at least */
	if (l4 + sizeof(header) > end || bpf_skb_load_bytes(skb, l4, header, sizeof(header)))
		return NAPT_DROPPED_TINY;
	if (!find_place(place, ip.protocol, header, l4, direction == NAPT_OUT))
		return NAPT_DROPPED_NO_PORT;
	if (place->checksum + 2 > end)
		place->is_unsummed = 1;
	place->outer = icmp + ICMP_CHECKSUM;
	return NAPT_PASSED;
}

/* Exchanges the port in a quoted packet. The error's checksum needs no change where the quoted one takes it. */
static __always_inline int exchange_quoted(struct __sk_buff *skb, const struct place *place, __be16 new)
{
	__sum16 sum;

	if (place->is_unsummed)
		return bpf_l4_csum_replace(skb, place->outer, place->old, new, sizeof(new));
	if (bpf_skb_load_bytes(skb, place->checksum, &sum, sizeof(sum)))
		return -1;
	sum = ~fold((__u64)(__u16)~sum + (__u16)~place->old + new);
	if (!sum && place->protocol == IPPROTO_UDP)
		sum = 0xffff;
	return bpf_skb_store_bytes(skb, place->checksum, &sum, sizeof(sum), 0);
}

/* Puts another port into the packet. */
static __always_inline int exchange(struct __sk_buff *skb, const struct place *place, __be16 new)
{
	/* what no checksum covers changes the sum over the packet */
	__u64 flags = place->is_unsummed && !place->outer ? BPF_F_RECOMPUTE_CSUM : 0;
	__be16 *port;

	if (place->outer) {
		if (exchange_quoted(skb, place, new))
			return -1;
	} else if (!place->is_unsummed &&
		   bpf_l4_csum_replace(skb, place->checksum, place->old, new,
				       (place->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0) | sizeof(new))) {
		return -1;
	}
	/* it is even and below 256, which the verifier wants to see */
	port = (void *)(long)skb->data + (place->port & 0xfe);
	if (flags || (void *)(port + 1) > (void *)(long)skb->data_end)
		return bpf_skb_store_bytes(skb, place->port, &new, sizeof(new), flags);
	*port = new;
	return 0;
}

static __always_inline enum counter pass(struct __sk_buff *skb, const struct config *c,
					 const enum direction direction)
{
	struct beginning packet = {};
	struct iphdr *ip = &packet.ip;
	struct place place = {};
	struct own own;
	__u32 link, l4, other, is_shared;
	__u8 mark = 1;
	__be16 new;
	enum counter reason;

	read_config(c, &own);
	link = own.flags & NAPT_ETHERNET ? ETH_HLEN : 0;
	is_shared = own.flags & NAPT_SHARED;
	if (!read_beginning(skb, link, &packet))
		return NAPT_DROPPED_TINY;
	if (!is_own_address(&own, direction == NAPT_OUT ? ip->saddr : ip->daddr)) {
		if (own.flags & NAPT_ROUTER &&
		    ((direction == NAPT_OUT ? ip->daddr : ip->saddr) & c->router_mask) == c->router)
			return NAPT_PASSED_ROUTER;
		return NAPT_DROPPED_NOT_OWN_ADDRESS;
	}
	struct datagram datagram = {
		.source = ip->saddr, .destination = ip->daddr, .id = ip->id, .protocol = ip->protocol
	};
	if (ip->frag_off & bpf_htons(IPV4_OFFSET)) {
		if (direction == NAPT_OUT && is_shared && !bpf_map_lookup_elem(&first_fragments, &datagram))
			return NAPT_DROPPED_LOST_FRAGMENT;
		return NAPT_PASSED_LATER_FRAGMENT;
	}
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_ICMP)
		return is_shared ? NAPT_DROPPED_NO_PORT : NAPT_PASSED;
	l4 = link + ip->ihl * 4;
	if (l4 + (ip->protocol == IPPROTO_TCP ? TCP_NEEDED : UPPER_NEEDED) > skb->len)
		return NAPT_DROPPED_TINY;
	if (ip->ihl > 5 && bpf_skb_load_bytes(skb, l4, packet.header, sizeof(packet.header)))
		return NAPT_DROPPED_TINY;
	if (!is_shared) {
		__u32 first = direction == NAPT_OUT ? 0 : 2;

		return packet.header[first] | packet.header[first + 1] || ip->protocol == IPPROTO_ICMP
			       ? NAPT_PASSED
			       : NAPT_DROPPED_NOT_OWN_PORT;
	}
	if (ip->protocol == IPPROTO_ICMP && is_icmp_error(packet.header[0])) {
		reason = find_quoted(skb, &own, l4, skb->len, packet.header[ICMP_LENGTH], direction, &place);
		if (reason)
			return reason;
	} else if (!find_place(&place, ip->protocol, packet.header, l4, direction == NAPT_IN)) {
		return NAPT_DROPPED_NO_PORT;
	}
	other = direction == NAPT_OUT ? port_of(&own, bpf_ntohs(place.old)) : index_of(&own, bpf_ntohs(place.old));
	if (!other)
		return NAPT_DROPPED_NOT_OWN_PORT;
	new = bpf_htons(other);
	if (new != place.old && exchange(skb, &place, new))
		return NAPT_DROPPED_FAILED;
	if (direction == NAPT_OUT && ip->frag_off & bpf_htons(IPV4_MF) &&
	    bpf_map_update_elem(&first_fragments, &datagram, &mark, BPF_ANY))
		return NAPT_DROPPED_FAILED;
	return NAPT_PASSED;
}

static __always_inline int run(struct __sk_buff *skb, const enum direction direction)
{
	__u32 zero = 0;
	struct config *c;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	c = bpf_map_lookup_elem(&config, &zero);
	/* an array has its entry from the beginning, all zeros */
	return finish(direction, c && c->address ? pass(skb, c, direction) : NAPT_DROPPED_FAILED);
}

SEC("tc")
int napt_out(struct __sk_buff *skb)
{
	return run(skb, NAPT_OUT);
}

SEC("tc")
int napt_in(struct __sk_buff *skb)
{
	return run(skb, NAPT_IN);
}

char _license[] SEC("license") = "GPL";
