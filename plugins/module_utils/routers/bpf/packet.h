/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (c) 2026 softwire.map contributors */
/*
 * What every program knows of packets: numbers and forms of IPv4, IPv6 and ICMP, and one's complement sums.
 */
#ifndef SOFTWIRE_PACKET_H
#define SOFTWIRE_PACKET_H

#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_DEST 60
/* <linux/icmp.h> needs a libc */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

#define ECN_MASK 3   /* of a traffic class or a TOS octet; the rest is the DSCP (RFC 2474, RFC 3168) */
#define TCP_FLAGS 13 /* offset in a TCP header */
#define TCP_SYN 2

#define IPV4_DF 0x4000
#define IPV4_MF 0x2000
#define IPV4_OFFSET 0x1fff /* in units of 8 bytes */
#define IPV6_OFFSET 0xfff8
#define IPV6_MF 1

struct fragment_header {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline int is_extension_header(__u8 nexthdr)
{
	return nexthdr == NEXTHDR_HOP || nexthdr == NEXTHDR_ROUTING || nexthdr == NEXTHDR_FRAGMENT ||
	       nexthdr == NEXTHDR_DEST;
}

static __always_inline int is_icmp_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* Eight bytes as a number: half of an IPv6 address, or the beginning of an upper layer. */
static __always_inline __u64 half(const __be32 *at)
{
	return (__u64)bpf_ntohl(at[0]) << 32 | bpf_ntohl(at[1]);
}

/* How much must be there of an upper-layer header with ports: those, flags and checksum (RFC 1858 section 4), in bytes. */
static __always_inline __u32 ports_needed(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? 18 : 8;
}

/* 0.0.0.0/8, 127.0.0.0/8, multicast and what is reserved behind it: nobody's own address (RFC 1812 section 5.3.7) */
static __always_inline int is_martian(__be32 address)
{
	__u32 first = bpf_ntohl(address) >> 24;

	return !first || first == 127 || first >= 224;
}

/* ---- sums (RFC 1071), in the byte order of the packet ---- */

/* The sum of whole 4-byte words, not folded; their number is a constant. */
static __always_inline __u64 words(const void *at, __u32 length)
{
	__u64 sum = 0;
	__u32 word;

#pragma unroll
	for (__u32 offset = 0; offset < length; offset += sizeof(word)) {
		__builtin_memcpy(&word, at + offset, sizeof(word));
		sum += word;
	}
	return sum;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

#endif
