// Pods on one bridge answer each other past the host, which then has seen one direction of a connection: a firewall that drops what
// conntrack calls invalid would end it. So the proxy's packets go to such a neighbour as the workload's own would. By connection, not by
// address: nobody's frame says where another's packets go. An entry that was evicted costs only this: the packets take the host's path.
#pragma once
#include <linux/if_ether.h>

#include "packet.h"

INLINE struct weft_neighbour_key neighbour_key(__u32 ifindex, const struct weft_address *address, __u16 port, __u16 own_port) {
  return (struct weft_neighbour_key){.ifindex = ifindex, .address = *address, .port = port, .own_port = own_port};
}

// A packet that opens a connection on the way to the workload: SYN or SYN-ACK.
INLINE void remember_neighbour(struct __sk_buff *skb, const struct packet *packet, const struct weft_workload *workload) {
  struct weft_neighbour neighbour = {};
  if (bpf_skb_load_bytes(skb, ETH_ALEN, neighbour.mac, ETH_ALEN)) return;
  __u8 differs = 0;
  for (int i = 0; i < ETH_ALEN; i++) differs |= neighbour.mac[i] ^ workload->gateway_mac[i];
  struct weft_neighbour_key key = neighbour_key(workload->ifindex, &packet->source, packet->source_port, packet->destination_port);
  if (differs) {
    bpf_map_update_elem(&neighbours, &key, &neighbour, BPF_ANY);
  } else {
    bpf_map_delete_elem(&neighbours, &key);
  }
}

// Where a packet in the workload's name goes. The first goes by the host, which resolves an address that has changed hands.
INLINE const __u8 *next_hop(const struct packet *packet, const struct weft_workload *workload) {
  if (packet->first) return workload->gateway_mac;
  struct weft_neighbour_key key = neighbour_key(workload->ifindex, &packet->destination, packet->destination_port, packet->source_port);
  struct weft_neighbour *neighbour = bpf_map_lookup_elem(&neighbours, &key);
  return neighbour ? neighbour->mac : workload->gateway_mac;
}
