// Destinations and clients whose connections stay direct, by workload.
#pragma once
#include <stdbool.h>

#include "maps.h"

// `port`: host byte order.
INLINE bool port_excluded(__u16 port, __u32 workload, enum weft_direction direction) {
  struct weft_port_key key = {.ifindex = workload, .port = port, .direction = direction};
  return bpf_map_lookup_elem(&excluded_ports, &key) != NULL;
}

// `address`: the destination outbound, the client inbound. The longest prefix decides: an inclusion within an exclusion wins.
INLINE bool network_excluded(const struct weft_address *address, __u32 workload, enum weft_direction direction) {
  struct weft_cidr_key key = {.prefix_length = 192, .ifindex = workload, .direction = direction, .address = *address};
  __u32 *excluded = bpf_map_lookup_elem(&excluded_cidrs, &key);
  return excluded && *excluded;
}
