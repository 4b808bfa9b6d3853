// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 softwire.map contributors
/*
 * MAP-E (RFC 7597) without state on one collect-metadata tunnel device, `ip6tnl external`, which takes the outer
 * addresses of every packet from a program and shows them to one. Of a border relay:
 *
 *   mape_in   tc ingress of the tunnel device, after decapsulation: the outer source must be the MAP address that
 *             the inner source and port give, the outer destination the domain's BR address (section 8.1).
 *   mape_out  tc egress of the tunnel device, after IPv4 forwarding: says where the packet goes, to the MAP address
 *             that the destination and its port give. A packet that it has not seen cannot leave the device.
 *   mape_fast_out, mape_fast_in
 *             the fast path (fast.h), optional: tc ingress of the IPv4 interface, where it encapsulates in place, and of
 *             the IPv6 interface, where it decapsulates.
 *
 * And of a customer edge whose rules are forwarding mapping rules (FMR), at the same places:
 *
 *   mesh_in   the outer source must be a BR address, or the MAP address that an FMR gives for the inner source and
 *             port; the outer destination is the CE's MAP address, the inner one its own address and port.
 *   mesh_out  to the MAP address that an FMR gives for the destination and its port, or else to the BR.
 *
 * Linux 5.19 or later: a tunnel key has both addresses.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "map.h"
#include "packet.h"
#include "fast.h"

#define HOP_LIMIT 64
#define ECN_ECT_1 1               /* the bit that congestion has, too */
#define LOOPBACK 1                /* what the router itself sends "comes from" the interface lo */
#define FROM_BORDER_RELAY 0x10000 /* in the place of a PSID */

/* What a customer edge is. */
struct config {
	struct rule own;   /* its PSID and how to get it from a port; peer: the BR that it sends to */
	__be32 address[4]; /* its MAP address */
	__be32 ipv4;       /* its IPv4 address or prefix */
	__be32 ipv4_mask;
	__u32 sends; /* whether it sends to other CEs directly; it takes from them in any case */
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* A further BR address of a domain: CEs may send to it. `first` is the one in the rules. */
struct br_alias {
	__be32 address[4];
	__be32 first[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct br_alias);
	__type(value, __u8);
} br_aliases SEC(".maps");

struct packet {
	struct iphdr ip;
	__u32 start; /* offset of the IPv4 header */
	__u8 ce_is_source;
	__u8 fragment; /* not the whole datagram */
	__u8 later;    /* not its beginning */
};

/* The CE of a packet. */
struct ce {
	struct rule *rule;
	__be32 ipv4;
	__u32 psid;
	__be32 address[4];
};

/* Reads the IPv4 header. Returns MAP_PASSED or a reason to drop. */
static __always_inline enum counter read_header(struct __sk_buff *skb, __u32 start, int ce_is_source,
						struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + start;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return MAP_DROPPED_NOT_IPV4;
	if ((void *)(ip + 1) <= end) /* nearly always, and a call costs more */
		p->ip = *ip;
	else if (bpf_skb_load_bytes(skb, start, &p->ip, sizeof(p->ip)))
		return MAP_DROPPED_TINY;
	if (p->ip.version != 4 || p->ip.ihl < 5)
		return MAP_DROPPED_NOT_IPV4;
	p->start = start;
	p->ce_is_source = ce_is_source;
	p->later = !!(p->ip.frag_off & bpf_htons(IPV4_OFFSET));
	p->fragment = !!(p->ip.frag_off & bpf_htons(IPV4_OFFSET | IPV4_MF));
	return MAP_PASSED;
}

/* The CE's port in what an ICMP error quotes: the beginning of a packet of the other direction. */
static __always_inline enum counter quoted_port(struct __sk_buff *skb, const struct packet *p, __u32 quoted,
						__u32 end, __u16 *port)
{
	struct iphdr ip;
	__be32 header[2];
	__u32 l4;

	if (bpf_skb_load_bytes(skb, quoted, &ip, sizeof(ip)))
		return MAP_DROPPED_TINY;
	if ((p->ce_is_source ? ip.daddr : ip.saddr) != (p->ce_is_source ? p->ip.saddr : p->ip.daddr))
		return MAP_DROPPED_WRONG_QUOTE;
	if (ip.ihl < 5 || ip.frag_off & bpf_htons(IPV4_OFFSET))
		return MAP_DROPPED_NO_PORT;
	l4 = quoted + ip.ihl * 4;
	if (l4 + sizeof(header) > end || bpf_skb_load_bytes(skb, l4, header, sizeof(header)))
		return MAP_DROPPED_TINY;
	return port_in(half(header), ip.protocol, !p->ce_is_source, port);
}

/* The CE's port in a packet that is no later fragment. Returns MAP_PASSED or a reason to drop. */
static __always_inline enum counter packet_port(struct __sk_buff *skb, const struct packet *p, __u16 *port)
{
	/* not skb->len: what is behind the end of the packet is not part of it */
	__u32 end = p->start + bpf_ntohs(p->ip.tot_len), l4 = p->start + p->ip.ihl * 4;
	__be32 header[2];

	if (l4 + ports_needed(p->ip.protocol) > end || bpf_skb_load_bytes(skb, l4, header, sizeof(header)))
		return MAP_DROPPED_TINY;
	if (p->ip.protocol == IPPROTO_ICMP && is_icmp_error(bpf_ntohl(header[0]) >> 24))
		return quoted_port(skb, p, l4 + 8, end, port);
	return port_in(half(header), p->ip.protocol, p->ce_is_source, port);
}

/*
 * Finds the CE that an IPv4 address and the port of a packet belong to. `later_psid` is what is known of a later
 * fragment, which has no port.
 */
static __always_inline enum counter find_ce(struct __sk_buff *skb, const struct packet *p, __u32 later_psid,
					    struct ce *ce)
{
	enum counter reason;
	__u16 port = 0;

	if (ce->rule->psid_length && !p->later) {
		reason = packet_port(skb, p, &port);
		if (reason)
			return reason;
	}
	return find_map_address(&ce->rule, ce->ipv4, 1, port, p->later, later_psid, &ce->psid, ce->address);
}

/* The name of a fragmented datagram. */
static __always_inline struct datagram datagram_of(const struct packet *p)
{
	struct datagram datagram = {
		.ce = p->ce_is_source ? p->ip.saddr : p->ip.daddr,
		.peer = { p->ce_is_source ? p->ip.daddr : p->ip.saddr },
		.id = p->ip.id,
		.protocol = p->ip.protocol,
	};

	return datagram;
}

static __always_inline int is_br_address(const struct rule *rule, const __be32 *address)
{
	struct br_alias alias;

	if (is_equal(rule->peer, address))
		return 1;
	__builtin_memcpy(alias.address, address, 16);
	__builtin_memcpy(alias.first, rule->peer, 16);
	return !!bpf_map_lookup_elem(&br_aliases, &alias);
}

/* Whether a packet out of the tunnel comes from its CE, and to the domain's BR address (section 8.1). */
static __always_inline enum counter check_outer(const struct ce *ce, const __be32 *source,
						const __be32 *destination)
{
	if (!is_equal(ce->address, source))
		return MAP_DROPPED_SPOOFED;
	return is_br_address(ce->rule, destination) ? MAP_PASSED : MAP_DROPPED_OTHER_BR;
}

/* A packet out of the tunnel. `start`: offset of the IPv4 header. */
static __always_inline int from_ce(struct __sk_buff *skb, __u32 start)
{
	struct bpf_tunnel_key outer = {};
	struct packet p = {};
	struct ce ce = {};
	struct datagram datagram;
	enum counter reason = read_header(skb, start, 1, &p);

	if (reason)
		return drop(MAP_IN, reason);
	if (bpf_skb_get_tunnel_key(skb, &outer, sizeof(outer), BPF_F_TUNINFO_IPV6))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	if (is_martian(p.ip.saddr) || is_martian(p.ip.daddr))
		return drop(MAP_IN, MAP_DROPPED_MARTIAN);
	ce.ipv4 = p.ip.saddr;
	ce.rule = rule_of(ce.ipv4);
	if (!ce.rule)
		return drop(MAP_IN, MAP_DROPPED_NO_RULE);
	reason = find_ce(skb, &p, embedded_psid(ce.rule, outer.remote_ipv6), &ce);
	if (!reason)
		reason = check_outer(&ce, outer.remote_ipv6, outer.local_ipv6);
	if (reason)
		return drop(MAP_IN, reason);
	if (p.fragment && ce.rule->psid_length) {
		datagram = datagram_of(&p);
		if (bind_datagram(&datagram, ce.psid, p.later))
			return drop(MAP_IN, MAP_DROPPED_MIXED_FRAGMENT);
	}
	remember_device(skb);
	count(MAP_IN, p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return PASS;
}

/*
 * Finds the CE that a packet goes to; a later fragment goes where its first one went. The rule of its address is known.
 * A PSID that is in no rule is handed over as well.
 */
static __always_inline enum counter find_destination(struct __sk_buff *skb, const struct packet *p, struct ce *ce)
{
	struct datagram datagram = {};
	__u32 *handed_over = NULL;
	enum counter reason;
	int divided = p->fragment && ce->rule->psid_length;

	if (divided) {
		datagram = datagram_of(p);
		handed_over = p->later ? bpf_map_lookup_elem(&first_fragments, &datagram) : NULL;
		if (p->later && !handed_over)
			return MAP_DROPPED_LOST_FRAGMENT;
	}
	reason = find_ce(skb, p, handed_over ? *handed_over : 0, ce);
	if (reason && reason != MAP_DROPPED_OTHER_PSID)
		return reason;
	if (divided && !p->later && bpf_map_update_elem(&first_fragments, &datagram, &ce->psid, BPF_ANY))
		return MAP_DROPPED_FAILED;
	return reason;
}

/* Tells the tunnel device the outer addresses of a packet and their DSCP, of `class`; it copies ECN by itself. */
static __always_inline int set_outer(struct __sk_buff *skb, __u8 class, const __be32 *source,
				     const __be32 *destination)
{
	struct bpf_tunnel_key outer = { .tunnel_ttl = HOP_LIMIT, .tunnel_tos = class };

	__builtin_memcpy(outer.remote_ipv6, destination, 16);
	__builtin_memcpy(outer.local_ipv6, source, 16);
	return bpf_skb_set_tunnel_key(skb, &outer, sizeof(outer), BPF_F_TUNINFO_IPV6);
}

/* A packet into the tunnel. */
static __always_inline int to_ce(struct __sk_buff *skb, __u32 start)
{
	struct packet p = {};
	struct ce ce = {};
	enum counter reason = read_header(skb, start, 0, &p);

	if (reason)
		return drop(MAP_OUT, reason);
	ce.ipv4 = p.ip.daddr;
	ce.rule = rule_of(ce.ipv4);
	if (!ce.rule)
		return drop(MAP_OUT, MAP_DROPPED_NO_RULE);
	reason = find_destination(skb, &p, &ce);
	if (reason)
		return drop(MAP_OUT, reason);
	if (set_outer(skb, class_for(p.ip.tos), ce.rule->peer, ce.address))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	remember_device(skb);
	count(MAP_OUT, p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return PASS;
}

SEC("tc")
int mape_in(struct __sk_buff *skb)
{
	return from_ce(skb, 0);
}

SEC("tc")
int mape_out(struct __sk_buff *skb)
{
	return to_ce(skb, 0);
}

/* ---- a customer edge ---- */

/* Whether the near end of a packet, as ce_is_source says, is the CE itself. Returns MAP_PASSED or why not. */
static __always_inline enum counter check_own(struct __sk_buff *skb, const struct config *c, const struct packet *p)
{
	__be32 near = p->ce_is_source ? p->ip.saddr : p->ip.daddr;
	enum counter reason;
	__u32 psid = 0;
	__u16 port = 0;

	if ((near & c->ipv4_mask) != c->ipv4)
		return MAP_DROPPED_NOT_OWN_ADDRESS;
	if (!c->own.psid_length || p->later)
		return MAP_PASSED;
	reason = packet_port(skb, p, &port);
	if (!reason)
		reason = psid_of(&c->own, port, &psid);
	if (reason)
		return reason;
	return psid == bpf_ntohs(c->own.psid) ? MAP_PASSED : MAP_DROPPED_NOT_OWN_PORT;
}

/* A packet out of the tunnel: checks where it comes from. ce_is_source is set. */
static __always_inline enum counter check_far(struct __sk_buff *skb, const struct config *c, const struct packet *p,
					      const __be32 *outer_source)
{
	struct ce ce = { .ipv4 = p->ip.saddr, .rule = rule_of(p->ip.saddr) };
	struct datagram datagram;
	enum counter reason;

	if (is_br_address(&c->own, outer_source)) {
		/* a later fragment may be from another CE of the address */
		if (!(p->later && c->own.psid_length) && !check_own(skb, c, p))
			return MAP_DROPPED_ITSELF;
		ce.psid = FROM_BORDER_RELAY;
	} else {
		if (!ce.rule)
			return MAP_DROPPED_NO_RULE;
		reason = find_ce(skb, p, embedded_psid(ce.rule, outer_source), &ce);
		if (reason)
			return reason;
		if (!is_equal(ce.address, outer_source))
			return MAP_DROPPED_SPOOFED;
		if (is_equal(ce.address, c->address))
			return MAP_DROPPED_ITSELF;
	}
	if (p->fragment && ce.rule && ce.rule->psid_length) {
		datagram = datagram_of(p);
		if (bind_datagram(&datagram, ce.psid, p->later))
			return MAP_DROPPED_MIXED_FRAGMENT;
	}
	return MAP_PASSED;
}

/* A packet out of the tunnel. `start`: offset of the IPv4 header. */
static __always_inline int from_softwire(struct __sk_buff *skb, __u32 start)
{
	struct bpf_tunnel_key outer = {};
	struct packet p = {};
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	enum counter reason = read_header(skb, start, 0, &p);

	if (reason)
		return drop(MAP_IN, reason);
	if (!c || bpf_skb_get_tunnel_key(skb, &outer, sizeof(outer), BPF_F_TUNINFO_IPV6))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	if (!is_equal(c->address, outer.local_ipv6))
		return drop(MAP_IN, MAP_DROPPED_NOT_OWN_ADDRESS);
	if (is_martian(p.ip.saddr) || is_martian(p.ip.daddr))
		return drop(MAP_IN, MAP_DROPPED_MARTIAN);
	reason = check_own(skb, c, &p);
	if (reason)
		return drop(MAP_IN, reason);
	p.ce_is_source = 1;
	reason = check_far(skb, c, &p, outer.remote_ipv6);
	if (reason)
		return drop(MAP_IN, reason);
	count(MAP_IN, p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return PASS;
}

/* A packet into the tunnel. */
static __always_inline int into_softwire(struct __sk_buff *skb, __u32 start)
{
	struct packet p = {};
	struct ce ce = {};
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	enum counter reason = read_header(skb, start, 1, &p);

	if (reason)
		return drop(MAP_OUT, reason);
	if (!c)
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	reason = check_own(skb, c, &p);
	if (reason)
		return drop(MAP_OUT, reason);
	p.ce_is_source = 0;
	ce.ipv4 = p.ip.daddr;
	__builtin_memcpy(ce.address, c->own.peer, 16);
	if (c->sends)
		ce.rule = rule_of(ce.ipv4);
	if (ce.rule) {
		reason = find_destination(skb, &p, &ce);
		if (reason && reason != MAP_DROPPED_OTHER_PSID)
			return drop(MAP_OUT, reason);
		if (is_equal(ce.address, c->address))
			return drop(MAP_OUT, MAP_DROPPED_ITSELF);
	}
	if (set_outer(skb, p.ip.tos, c->address, ce.address))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	count(MAP_OUT, p.later ? MAP_PASSED_LATER_FRAGMENT : MAP_PASSED);
	return PASS;
}

SEC("tc")
int mesh_in(struct __sk_buff *skb)
{
	return from_softwire(skb, 0);
}

SEC("tc")
int mesh_out(struct __sk_buff *skb)
{
	return into_softwire(skb, 0);
}

/* ---- a border relay's fast path ---- */

#define TUNNEL_HEADERS (IPV4_HEADERS + sizeof(struct ipv6hdr))

/* As find_ce, for a packet that is_plain(). `header`: the beginning of its upper layer. */
static __always_inline enum counter find_ce_fast(const struct iphdr *ip, __u64 header, int ce_is_source,
						 struct ce *ce)
{
	__u16 port = 0;
	enum counter reason = port_in(header, ip->protocol, ce_is_source, &port);

	return reason ? reason : find_map_address(&ce->rule, ce->ipv4, 1, port, 0, 0, &ce->psid, ce->address);
}

/* Puts the outer header in front and takes one from the TTL. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct iphdr *inner, const struct ce *ce)
{
	__u8 class = class_for(inner->tos);
	struct ipv6hdr outer = {
		.version = 6,
		.priority = class >> 4,
		.flow_lbl = { class << 4 },
		.payload_len = inner->tot_len,
		.nexthdr = IPPROTO_IPIP,
		.hop_limit = HOP_LIMIT,
	};
	struct ipv6hdr *at = (void *)(long)skb->data + ETH_HLEN;
	struct iphdr *ip = (void *)(at + 1);

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	__builtin_memcpy(&outer.saddr, ce->rule->peer, 16);
	__builtin_memcpy(&outer.daddr, ce->address, 16);
	*at = outer;
	/* an IPv4 header sums up to nothing before and after, so skb->csum changes by the outer header only */
	bpf_csum_update(skb, fold(words(&outer, sizeof(outer))));
	lower_ttl(ip);
	return 0;
}

SEC("tc")
int mape_fast_out(struct __sk_buff *skb)
{
	__u32 device = may_take(skb, ETH_P_IP, IPV4_HEADERS), length;
	struct bpf_fib_lookup fib = {};
	struct iphdr ip;
	struct ce ce = {};
	__u64 header;

	if (!device || read_ipv4(skb, ETH_HLEN, &ip, &header))
		return PASS;
	ce.ipv4 = ip.daddr;
	ce.rule = rule_of(ce.ipv4);
	if (!ce.rule)
		return PASS;
	if (!is_plain(&ip) || is_for_mss(skb, ip.protocol, ETH_HLEN + sizeof(ip)))
		return PASS;
	if (rule_of(ip.saddr)) /* by itself: clang 14 would OR the pointer with the rest, which the verifier refuses */
		return PASS;
	if (find_ce_fast(&ip, header, 0, &ce) || trim(skb, ETH_HLEN + bpf_ntohs(ip.tot_len)))
		return PASS;
	length = segment_length(skb, ip.protocol, sizeof(ip), bpf_ntohs(ip.tot_len));
	set_ipv4_flow(&fib, &ip, header);
	if (!length || !leads_to(skb, &fib, length, device))
		return PASS;
	set_ipv6_flow(&fib, ce.rule->peer, ce.address);
	fib.l4_protocol = IPPROTO_IPIP;
	fib.sport = fib.dport = 0;
	if (!has_next_hop(skb, &fib, LOOPBACK, length + sizeof(struct ipv6hdr)))
		return PASS;
	if (bpf_skb_adjust_room(skb, sizeof(struct ipv6hdr), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return PASS;
	if (encapsulate(skb, &ip, &ce))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	return leave(MAP_OUT, &fib);
}

/*
 * Takes the outer header away, in two steps: skb->protocol has to become IPv4, and only Linux 6.3 has a flag for that. One is 20
 * bytes behind the Ethernet header, the other the 20 that an IPv6 header has more than IPv4's. Returns 0, -1 for a packet that is
 * as it was, or -2.
 */
static __always_inline int decapsulate(struct __sk_buff *skb)
{
	struct iphdr *ip;

	if (bpf_skb_adjust_room(skb, -20, BPF_ADJ_ROOM_MAC, ROOM_FLAGS))
		return -1;
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return -2;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -2;
	lower_ttl(ip);
	return 0;
}

/* Whether the tunnel device would leave an inner header as it is, and drop nothing, for what the outer one says of congestion (RFC 6040). */
static __always_inline int keeps_ecn(const struct ipv6hdr *outer, __u8 tos)
{
	__u8 ecn = outer->flow_lbl[0] >> 4 & ECN_MASK;

	return !(ecn & ECN_ECT_1) || ecn == (tos & ECN_MASK);
}

SEC("tc")
int mape_fast_in(struct __sk_buff *skb)
{
	__u32 device = may_take(skb, ETH_P_IPV6, TUNNEL_HEADERS), length;
	struct bpf_fib_lookup fib = {};
	struct ipv6hdr *outer;
	struct iphdr ip;
	struct ce ce = {};
	__u64 header;
	int result;

	/* what GRO has merged keeps SKB_GSO_IPXIP6 when the outer header goes (Linux 6.1) */
	if (!device || skb->gso_size || read_ipv4(skb, ETH_HLEN + sizeof(*outer), &ip, &header))
		return PASS;
	outer = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(outer + 1) > (void *)(long)skb->data_end)
		return PASS;
	if (outer->version != 6 || outer->nexthdr != IPPROTO_IPIP || outer->payload_len != ip.tot_len ||
	    !keeps_ecn(outer, ip.tos))
		return PASS;
	ce.ipv4 = ip.saddr;
	ce.rule = rule_of(ce.ipv4);
	if (!ce.rule)
		return PASS;
	if (!is_plain(&ip) || is_for_mss(skb, ip.protocol, ETH_HLEN + sizeof(*outer) + sizeof(ip)))
		return PASS;
	if (rule_of(ip.daddr))
		return PASS;
	if (find_ce_fast(&ip, header, 1, &ce) ||
	    check_outer(&ce, outer->saddr.in6_u.u6_addr32, outer->daddr.in6_u.u6_addr32))
		return PASS;
	length = bpf_ntohs(ip.tot_len);
	set_ipv4_flow(&fib, &ip, header);
	if (trim(skb, ETH_HLEN + sizeof(*outer) + length) || !has_next_hop(skb, &fib, device, length))
		return PASS;
	result = decapsulate(skb);
	if (result)
		return result == -1 ? PASS : drop(MAP_IN, MAP_DROPPED_FAILED);
	return leave(MAP_IN, &fib);
}

char _license[] SEC("license") = "GPL";
