// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (c) 2026 softwire.map contributors
/*
 * The MAP-E programs for BPF_PROG_TEST_RUN, which knows no tunnels and always has an Ethernet header: the outer
 * addresses come from the map `outer` and go there.
 */
#include "mape.bpf.c"

struct outer {
	__be32 local[4];
	__be32 remote[4];
	__u8 tos;
	__u8 ttl;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct outer);
} outer SEC(".maps");

/* Hands the outer addresses that a test has written to a program. */
static __always_inline int hand_in(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__u32 zero = 0;
	struct outer *outer_header = bpf_map_lookup_elem(&outer, &zero);

	if (!outer_header)
		return -1;
	/* set as a sender's, read by the program as a receiver's: remote is the destination here, the source there */
	__builtin_memcpy(key.remote_ipv6, outer_header->local, 16);
	__builtin_memcpy(key.local_ipv6, outer_header->remote, 16);
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6);
}

/* Writes down the outer addresses that a program has set. */
static __always_inline void hand_out(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__u32 zero = 0;
	struct outer *outer_header = bpf_map_lookup_elem(&outer, &zero);

	if (!outer_header || bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
		return;
	__builtin_memcpy(outer_header->local, key.remote_ipv6, 16);
	__builtin_memcpy(outer_header->remote, key.local_ipv6, 16);
	outer_header->tos = key.tunnel_tos;
	outer_header->ttl = key.tunnel_ttl;
}

SEC("tc")
int test_in(struct __sk_buff *skb)
{
	return hand_in(skb) ? TC_ACT_OK : from_ce(skb, ETH_HLEN);
}

SEC("tc")
int test_out(struct __sk_buff *skb)
{
	int verdict = to_ce(skb, ETH_HLEN);

	hand_out(skb);
	return verdict;
}

SEC("tc")
int test_mesh_in(struct __sk_buff *skb)
{
	return hand_in(skb) ? TC_ACT_OK : from_softwire(skb, ETH_HLEN);
}

SEC("tc")
int test_mesh_out(struct __sk_buff *skb)
{
	int verdict = into_softwire(skb, ETH_HLEN);

	hand_out(skb);
	return verdict;
}
