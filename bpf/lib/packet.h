// Reads addresses and ports of a TCP or UDP packet, or those inside an ICMP error. Nothing is decided here.
// Later fragments are not followed: they are "not TCP" and go direct, where without their first nobody takes them. What could be TCP
// and does not show its ports is unreadable: who sends it would have its connection past the proxy.
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include "maps.h"

struct packet {
  struct weft_address source, destination;
  // Network byte order.
  __u16 source_port, destination_port;
  __u8 protocol;
  bool v6;
  // SYN without ACK.
  bool first;
  // SYN with it.
  bool accepting;
  // It may be TCP, and can't be told: its header is cut in two (RFC 1858), or behind more extension headers than are followed.
  bool unreadable;
};

// Kernel 5.3: a loop that ends. RFC 8200 knows six, one of them twice; each more is 8 bytes of somebody's making.
enum { MAX_EXTENSIONS = 8 };

// Offset of what follows IPv6's extension headers at `offset`, and its protocol; 0: not the start of a datagram, or unreadable.
INLINE __u32 skip_extensions(struct __sk_buff *skb, __u32 offset, struct packet *packet) {
#pragma clang loop unroll(disable)
  for (int i = 0; i < MAX_EXTENSIONS; i++) {
    __u8 type = packet->protocol, header[4];
    if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS && type != IPPROTO_FRAGMENT) return offset;
    if (bpf_skb_load_bytes(skb, offset, header, sizeof(header))) break;
    if (type == IPPROTO_FRAGMENT && (header[2] | (header[3] & 0xf8))) return 0;
    packet->protocol = header[0];
    offset += type == IPPROTO_FRAGMENT ? 8 : (header[1] + 1) * 8;
  }
  packet->unreadable = true;
  return 0;
}

// Offset of what follows the IP header at `offset`; 0: not IP, or not the start of a datagram.
INLINE __u32 parse_ip(struct __sk_buff *skb, __u32 offset, struct packet *packet) {
  if (skb->protocol == bpf_htons(ETH_P_IP)) {
    struct iphdr ip;
    if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip))) return 0;
    if (ip.frag_off & bpf_htons(0x1fff)) return 0;
    packet->source.word[2] = packet->destination.word[2] = bpf_htonl(0xffff);
    packet->source.word[3] = ip.saddr;
    packet->destination.word[3] = ip.daddr;
    packet->protocol = ip.protocol;
    return offset + ip.ihl * 4;
  }
  if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr ip;
    if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip))) return 0;
    __builtin_memcpy(&packet->source, &ip.saddr, sizeof(packet->source));
    __builtin_memcpy(&packet->destination, &ip.daddr, sizeof(packet->destination));
    packet->protocol = ip.nexthdr;
    packet->v6 = true;
    return skip_extensions(skb, offset + sizeof(ip), packet);
  }
  return 0;
}

INLINE bool parse_packet(struct __sk_buff *skb, struct packet *packet) {
  __u32 offset = parse_ip(skb, ETH_HLEN, packet);
  if (!offset) return false;
  if (packet->protocol == IPPROTO_TCP) {
    struct tcphdr tcp;
    packet->unreadable = bpf_skb_load_bytes(skb, offset, &tcp, sizeof(tcp));
    if (packet->unreadable) return false;
    packet->source_port = tcp.source;
    packet->destination_port = tcp.dest;
    packet->first = tcp.syn && !tcp.ack;
    packet->accepting = tcp.syn && tcp.ack;
    return true;
  }
  if (packet->protocol != IPPROTO_UDP) return false;
  __u16 ports[2];
  if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports))) return false;
  packet->source_port = ports[0];
  packet->destination_port = ports[1];
  return true;
}

// The flow an ICMP error (unreachable, packet too big, …) speaks of, as a packet that would answer the one quoted.
INLINE bool parse_icmp_error(struct __sk_buff *skb, struct packet *packet) {
  struct packet outer = {}, quoted = {};
  __u32 offset = parse_ip(skb, ETH_HLEN, &outer);
  __u8 type = 0;
  if (!offset || bpf_skb_load_bytes(skb, offset, &type, 1)) return false;
  // ICMP: 3 destination unreachable (with "fragmentation needed"). ICMPv6: 1 … 4, all the errors.
  if (outer.protocol == IPPROTO_ICMP) {
    if (type != 3) return false;
  } else if (outer.protocol != IPPROTO_ICMPV6 || type < 1 || type > 4) {
    return false;
  }
  offset = parse_ip(skb, offset + 8, &quoted);
  if (!offset || quoted.protocol != IPPROTO_TCP) return false;
  __u16 ports[2];
  if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports))) return false;
  packet->source = quoted.destination;
  packet->destination = quoted.source;
  packet->source_port = ports[1];
  packet->destination_port = ports[0];
  packet->protocol = IPPROTO_TCP;
  packet->v6 = quoted.v6;
  return true;
}

// Bytes of the tuple, as the lookup helpers want to know.
INLINE __u32 to_tuple(const struct packet *packet, struct bpf_sock_tuple *tuple) {
  if (!packet->v6) {
    tuple->ipv4.saddr = packet->source.word[3];
    tuple->ipv4.daddr = packet->destination.word[3];
    tuple->ipv4.sport = packet->source_port;
    tuple->ipv4.dport = packet->destination_port;
    return sizeof(tuple->ipv4);
  }
  __builtin_memcpy(tuple->ipv6.saddr, &packet->source, 16);
  __builtin_memcpy(tuple->ipv6.daddr, &packet->destination, 16);
  tuple->ipv6.sport = packet->source_port;
  tuple->ipv6.dport = packet->destination_port;
  return sizeof(tuple->ipv6);
}
