/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (c) 2026 softwire.map contributors */
/*
 * What RFC 7915 translates one by one: addresses of a DMR (RFC 6052), checksums, types and codes of ICMP.
 */
#ifndef SOFTWIRE_RFC7915_H
#define SOFTWIRE_RFC7915_H

#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "map.h"
#include "packet.h"

#define PROTOCOL_DCCP 33
#define PROTOCOL_UDPLITE 136

#define IPV6_LEAST_MTU 1280
#define GROWTH 20 /* bytes, of IPv6's header over IPv4's */

/* The first 8 bytes of a message of ICMP or ICMPv6. */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	union {
		__be32 word; /* MTU or pointer of ICMPv6; identifier and sequence */
		struct {
			__u8 pointer; /* of ICMP; of ICMPv6 the length attribute, in 8 bytes */
			__u8 length;  /* length attribute of ICMP (RFC 4884), in 4 bytes */
			__be16 mtu;   /* of ICMP */
		};
	};
};

/* ---- addresses ---- */

struct dmr {
	__be32 prefix[4];
	__u8 length; /* 32, 40, 48, 56, 64 or 96 */
	__u8 zero[3];
};

/* An IPv4 address inside the DMR: its bits follow the prefix and leave out bits 64 to 71 (RFC 6052 section 2.2). */
static __always_inline void embed(const struct dmr *dmr, __be32 ipv4, __be32 *to)
{
	__u64 address = bpf_ntohl(ipv4), high = half(dmr->prefix), low = half(dmr->prefix + 2);
	__u32 length = dmr->length;

	if (length == 96) {
		low |= address;
	} else {
		__u32 behind = (length - 32) & 63; /* how many of its bits come after bit 71 */

		high |= address >> behind;
		low |= (address & ((1ull << behind) - 1)) << ((88 - length) & 63);
	}
	to[0] = bpf_htonl(high >> 32);
	to[1] = bpf_htonl(high);
	to[2] = bpf_htonl(low >> 32);
	to[3] = bpf_htonl(low);
}

static __always_inline int is_in_dmr(const struct dmr *dmr, const __be32 *address)
{
	__u64 difference = half(dmr->prefix) ^ half(address);

	if (dmr->length == 96)
		return !(difference | (dmr->prefix[2] ^ address[2]));
	return !(difference >> ((64 - dmr->length) & 63));
}

/* The IPv4 address in an address of the DMR. */
static __always_inline __be32 extract(const struct dmr *dmr, const __be32 *address)
{
	__u32 length = dmr->length, behind = (length - 32) & 63;

	if (length == 96)
		return address[3];
	return bpf_htonl(half(address) << behind |
			 (half(address + 2) & 0xffffffffffffffull) >> ((88 - length) & 63));
}

/* ---- checksums ---- */

/* The part of a pseudo-header that is not its addresses. */
static __always_inline __u64 pseudo(__u32 length, __u8 protocol)
{
	return (__u64)bpf_htonl(length) + bpf_htonl(protocol);
}

/* A checksum after `old` has become `new` in what it covers; both are sums, not folded. */
static __always_inline __sum16 mend(__sum16 checksum, __u64 old, __u64 new)
{
	return ~fold((__u64)(__u16)~checksum + (__u16)~fold(old) + fold(new));
}

/* Where the checksum stands in an upper-layer header that has one with a pseudo-header; 0: none that is known. */
static __always_inline __u32 checksum_at(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return 16;
	if (protocol == IPPROTO_UDP || protocol == PROTOCOL_UDPLITE || protocol == PROTOCOL_DCCP)
		return 6;
	return 0;
}

/* Whether a checksum of 0 means that there is none, or is not allowed, so that it is written as 0xffff (RFC 768, RFC 3828). */
static __always_inline int has_no_zero(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == PROTOCOL_UDPLITE;
}

/* ---- ICMP (sections 4.2 and 5.2) ---- */

static __always_inline int is_icmpv6_error(__u8 type)
{
	return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
}

/* The greatest plateau of RFC 1191 below the length of a packet that was too big for somebody who tells no MTU. */
static __always_inline __u32 plateau(__u32 length)
{
	return length > 32000   ? 32000
	       : length > 17914 ? 17914
	       : length > 8166  ? 8166
	       : length > 4352  ? 4352
	       : length > 2002  ? 2002
	       : length > 1492  ? 1492
				: IPV6_LEAST_MTU - GROWTH;
}

/*
 * The header of an ICMP message as one of ICMPv6, without checksum and length attribute. `quoted_length`: the total
 * length in the quoted header. Returns 0, or -1 where there is no translation.
 */
static __always_inline int icmp_to_icmpv6(const struct icmp *from, __u32 quoted_length, __u32 ipv6_mtu,
					  struct icmp *to)
{
	__u32 mtu;

	to->type = ICMPV6_DEST_UNREACH;
	to->code = 0;
	to->checksum = 0;
	to->word = 0;
	switch (from->type) {
	case ICMP_ECHO:
	case ICMP_ECHOREPLY:
		to->type = from->type == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
		to->code = from->code;
		to->word = from->word;
		return 0;
	case ICMP_TIME_EXCEEDED:
		to->type = ICMPV6_TIME_EXCEED;
		to->code = from->code;
		return 0;
	case ICMP_PARAMETERPROB:
		if (from->code && from->code != 2)
			return -1;
		to->type = ICMPV6_PARAMPROB;
		switch (from->pointer) {
		case 0:
		case 1: /* version, type of service */
			to->word = bpf_htonl(from->pointer);
			return 0;
		case 2:
		case 3: /* total length */
			to->word = bpf_htonl(4);
			return 0;
		case 8: /* time to live */
			to->word = bpf_htonl(7);
			return 0;
		case 9: /* protocol */
			to->word = bpf_htonl(6);
			return 0;
		case 12 ... 15:
			to->word = bpf_htonl(8);
			return 0;
		case 16 ... 19:
			to->word = bpf_htonl(24);
			return 0;
		}
		return -1;
	case ICMP_DEST_UNREACH:
		break;
	default:
		return -1;
	}
	switch (from->code) {
	case 0:
	case 1:
	case 5 ... 8:
	case 11:
	case 12:
		return 0; /* no route */
	case 2:
		to->type = ICMPV6_PARAMPROB; /* unknown next header */
		to->code = 1;
		to->word = bpf_htonl(6);
		return 0;
	case 3:
		to->code = 4; /* port */
		return 0;
	case 4:
		mtu = bpf_ntohs(from->mtu);
		mtu = (mtu ? mtu : plateau(quoted_length)) + GROWTH;
		if (mtu > ipv6_mtu)
			mtu = ipv6_mtu;
		to->type = ICMPV6_PKT_TOOBIG;
		to->word = bpf_htonl(mtu < IPV6_LEAST_MTU ? IPV6_LEAST_MTU : mtu);
		return 0;
	case 9:
	case 10:
	case 13:
	case 15:
		to->code = 1; /* prohibited */
		return 0;
	}
	return -1;
}

/* The other way. */
static __always_inline int icmpv6_to_icmp(const struct icmp *from, __u32 ipv6_mtu, struct icmp *to)
{
	__u32 word = bpf_ntohl(from->word);

	to->type = ICMP_DEST_UNREACH;
	to->code = 1;
	to->checksum = 0;
	to->word = 0;
	switch (from->type) {
	case ICMPV6_ECHO_REQUEST:
	case ICMPV6_ECHO_REPLY:
		to->type = from->type == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY;
		to->code = from->code;
		to->word = from->word;
		return 0;
	case ICMPV6_TIME_EXCEED:
		to->type = ICMP_TIME_EXCEEDED;
		to->code = from->code;
		return 0;
	case ICMPV6_PKT_TOOBIG:
		if (word > ipv6_mtu)
			word = ipv6_mtu;
		if (word < IPV6_LEAST_MTU)
			word = IPV6_LEAST_MTU;
		to->code = 4;
		to->mtu = bpf_htons(word - GROWTH);
		return 0;
	case ICMPV6_PARAMPROB:
		if (from->code == 1) {
			to->code = 2; /* protocol */
			return 0;
		}
		if (from->code)
			return -1;
		to->type = ICMP_PARAMETERPROB;
		to->code = 0;
		switch (word) {
		case 0:
		case 1:
			to->pointer = word;
			return 0;
		case 4:
		case 5: /* payload length */
			to->pointer = 2;
			return 0;
		case 6:
			to->pointer = 9;
			return 0;
		case 7:
			to->pointer = 8;
			return 0;
		case 8 ... 23:
			to->pointer = 12;
			return 0;
		case 24 ... 39:
			to->pointer = 16;
			return 0;
		}
		return -1;
	case ICMPV6_DEST_UNREACH:
		break;
	default:
		return -1;
	}
	if (from->code > 4)
		return -1;
	if (from->code == 1)
		to->code = 10; /* prohibited */
	else if (from->code == 4)
		to->code = 3; /* port */
	return 0;
}

#endif
