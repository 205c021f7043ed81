// Destinations that a workload's connections reach directly.
#pragma once
#include "packet.h"

INLINE bool port_excluded(const struct packet *packet, __u32 ifindex, enum weft_direction direction) {
  struct weft_port_key key = {.ifindex = ifindex, .port = bpf_ntohs(packet->destination_port), .direction = direction};
  return bpf_map_lookup_elem(&excluded_ports, &key) != NULL;
}

// The longest prefix decides: an inclusion within an exclusion wins.
INLINE bool network_excluded(const struct packet *packet, __u32 ifindex) {
  struct weft_cidr_key key = {.prefix_length = 160, .ifindex = ifindex, .address = packet->destination};
  __u32 *excluded = bpf_map_lookup_elem(&excluded_cidrs, &key);
  return excluded && *excluded;
}
