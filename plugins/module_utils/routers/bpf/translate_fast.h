/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (c) 2026 softwire.map contributors */
/*
 * The fast path of a MAP-T border relay (fast.h), a part of translate.bpf.c: to_ipv6 and to_ipv4 of whole packets, where they arrive.
 */
#ifndef SOFTWIRE_TRANSLATE_FAST_H
#define SOFTWIRE_TRANSLATE_FAST_H

#define ROUTE_HOLDS 250 /* jiffies: 0.25 to 2.5 s */

/* Until when, in jiffies, it is known on this CPU that the way to the DMR is by the device of the softwire. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dmr_route SEC(".maps");

/*
 * Whether the IPv6 stack would forward a packet to the device of the softwire. Asked once in a while: the answer is the same for the
 * whole DMR, and one more look at the IPv6 routes would cost a fifth of what it costs to forward a packet.
 */
static __always_inline int is_led(struct __sk_buff *skb, struct bpf_fib_lookup *fib, const struct ipv6hdr *ip6,
				  __u32 device)
{
	__u32 zero = 0;
	__u64 now = bpf_jiffies64(), *until = bpf_map_lookup_elem(&dmr_route, &zero);

	if (!until)
		return 0;
	if (now < *until)
		return 1;
	set_ipv6_flow(fib, &ip6->saddr, &ip6->daddr);
	if (!leads_to(skb, fib, sizeof(*ip6), device))
		return 0;
	*until = now + ROUTE_HOLDS;
	return 1;
}

/* What is not taken in large pieces: the kernel makes only TCP that of the other version. */
static __always_inline int is_odd_gso(struct __sk_buff *skb, __u8 protocol)
{
	return skb->gso_size && protocol != IPPROTO_TCP;
}

/* An echo with the type and the checksum of the other version. `take`, `give`: sums of what else the checksum covers, before and after. */
static __always_inline struct icmp mend_echo(__u64 header, __u8 type, __u64 take, __u64 give)
{
	__be32 word[2] = { bpf_htonl(header >> 32), bpf_htonl(header) };
	struct icmp from, to;
	__sum16 sum;

	__builtin_memcpy(&from, word, sizeof(from));
	sum = from.checksum;
	from.checksum = 0;
	to = from;
	to.type = type;
	to.checksum = mend(sum, take + words(&from, sizeof(from)), give + words(&to, sizeof(to)));
	return to;
}

/* Mends the checksum of TCP or UDP for another pair of addresses; `difference`: by bpf_csum_diff(). */
static __always_inline int mend_l4(struct __sk_buff *skb, __u32 l4, __u8 protocol, __s64 difference)
{
	return bpf_l4_csum_replace(skb, l4 + checksum_at(protocol), 0, difference,
				   BPF_F_PSEUDO_HDR | (has_no_zero(protocol) ? BPF_F_MARK_MANGLED_0 : 0));
}

static __always_inline int to_ipv6_fast(struct __sk_buff *skb)
{
	__u32 zero = 0, device = may_take(skb, ETH_P_IP, IPV4_HEADERS), length, psid;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct bpf_fib_lookup fib = {};
	struct ipv6hdr new = {};
	struct icmp echo = {};
	struct iphdr ip;
	struct rule *rule;
	__u64 header;
	__u16 port;

	if (!device || !c || read_ipv4(skb, L3, &ip, &header))
		return PASS;
	rule = rule_of(ip.daddr);
	if (!rule)
		return PASS;
	if (!is_plain(&ip) || is_odd_gso(skb, ip.protocol) || is_for_mss(skb, ip.protocol, L3 + sizeof(ip)))
		return PASS;
	if (rule_of(ip.saddr)) /* by itself: clang 14 would OR the pointer with the rest, which the verifier refuses */
		return PASS;
	if (ip.protocol == IPPROTO_UDP && !(__u16)header) /* without a checksum */
		return PASS;
	if (port_in(header, ip.protocol, 0, &port))
		return PASS;
	if (find_map_address(&rule, ip.daddr, 1, port, 0, 0, &psid, new.daddr.in6_u.u6_addr32))
		return PASS;
	length = bpf_ntohs(ip.tot_len);
	if (trim(skb, L3 + length))
		return PASS;
	embed(&c->dmr, ip.saddr, new.saddr.in6_u.u6_addr32);
	set_class(&new, class_for(ip.tos));
	new.payload_len = bpf_htons(length - sizeof(ip));
	new.nexthdr = nexthdr_of(ip.protocol);
	new.hop_limit = ip.ttl - 1;

	length = segment_length(skb, ip.protocol, sizeof(ip), length);
	set_ipv4_flow(&fib, &ip, header);
	if (!length || !leads_to(skb, &fib, length, device))
		return PASS;
	set_ipv6_flow(&fib, &new.saddr, &new.daddr);
	fib.flowinfo = *(__be32 *)&new &bpf_htonl(0x0fffffff);
	set_ports(&fib, new.nexthdr, header);
	if (!has_next_hop(skb, &fib, device, length + GROWTH))
		return PASS;

	if (ip.protocol == IPPROTO_ICMP)
		echo = mend_echo(header, header >> 56 == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY, 0,
				 words(&new.saddr, 32) + pseudo(bpf_ntohs(new.payload_len), IPPROTO_ICMPV6));
	else if (mend_l4(skb, L3 + sizeof(ip), ip.protocol,
			 bpf_csum_diff(&ip.saddr, 8, (__be32 *)&new.saddr, 32, 0)))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) || store(skb, L3, &new, sizeof(new)) ||
	    (ip.protocol == IPPROTO_ICMP && store(skb, L3 + sizeof(new), &echo, sizeof(echo))))
		return drop(MAP_OUT, MAP_DROPPED_FAILED);
	return leave(MAP_OUT, &fib);
}

static __always_inline int to_ipv4_fast(struct __sk_buff *skb)
{
	__u32 zero = 0, device = may_take(skb, ETH_P_IPV6, IPV6_HEADERS), length, psid;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	struct ipv6hdr ip6, *at = (void *)(long)skb->data + L3;
	__be32 *behind = (void *)(at + 1);
	const struct fragment_header none = {};
	struct bpf_fib_lookup fib = {};
	struct iphdr new = { .version = 4, .ihl = 5 };
	struct ports ports = { .known = 1 };
	struct icmp echo = {};
	struct rule *rule;
	__u64 header;
	__u16 port;

	if (!device || !c || (void *)(behind + 2) > (void *)(long)skb->data_end)
		return PASS;
	ip6 = *at;
	header = half(behind);
	if (ip6.version != 6 || ip6.hop_limit < 2 || ip6.nexthdr == IPPROTO_ICMP ||
	    !is_in_dmr(&c->dmr, ip6.daddr.in6_u.u6_addr32))
		return PASS;
	new.protocol = protocol_of(ip6.nexthdr);
	if (ip6.nexthdr == IPPROTO_ICMPV6) {
		__u8 type = header >> 56;

		if (type != ICMPV6_ECHO_REQUEST && type != ICMPV6_ECHO_REPLY)
			return PASS;
		port = header >> 16;
	} else if (port_in(header, ip6.nexthdr, 1, &port)) {
		return PASS;
	}
	length = sizeof(new) + bpf_ntohs(ip6.payload_len);
	if (length > 0xffff || !is_taken_protocol(new.protocol, length) || is_odd_gso(skb, new.protocol) ||
	    is_for_mss(skb, new.protocol, L3 + sizeof(ip6)))
		return PASS;
	rule = rule_of_map_address(ip6.saddr.in6_u.u6_addr32, &new.saddr);
	if (!rule)
		return PASS;
	new.daddr = extract(&c->dmr, ip6.daddr.in6_u.u6_addr32);
	if (is_martian(new.saddr) || is_martian(new.daddr))
		return PASS;
	if (rule_of(new.daddr))
		return PASS;
	if (rule_to_ipv4(rule, ip6.saddr.in6_u.u6_addr32, new.saddr, &ports, port, 0, &psid))
		return PASS;
	if (trim(skb, L3 + length + GROWTH))
		return PASS;
	new.tos = class_of(&ip6);
	new.ttl = ip6.hop_limit - 1;
	set_length(&new, length - sizeof(new), 0, &none);

	length = segment_length(skb, new.protocol, sizeof(ip6), length + GROWTH);
	if (!length || length > c->ipv6_mtu || !is_led(skb, &fib, &ip6, device))
		return PASS;
	set_ipv4_flow(&fib, &new, header);
	if (!has_next_hop(skb, &fib, device, length - GROWTH))
		return PASS;

	if (!new.frag_off)
		new.id = bpf_get_prandom_u32();
	new.check = ~fold(words(&new, sizeof(new)));
	if (new.protocol == IPPROTO_ICMP)
		echo = mend_echo(header, header >> 56 == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY,
				 words(&ip6.saddr, 32) + pseudo(bpf_ntohs(ip6.payload_len), IPPROTO_ICMPV6), 0);
	else if (mend_l4(skb, L3 + sizeof(ip6), new.protocol,
			 bpf_csum_diff((__be32 *)&ip6.saddr, 32, &new.saddr, 8, 0)))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0) || store(skb, L3, &new, sizeof(new)) ||
	    (new.protocol == IPPROTO_ICMP &&store(skb, L3 + sizeof(new), &echo, sizeof(echo))))
		return drop(MAP_IN, MAP_DROPPED_FAILED);
	return leave(MAP_IN, &fib);
}

#endif
