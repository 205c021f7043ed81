// Addresses a frame to mesh1 and writes into its source MAC why it comes: the only metadata that crosses a namespace.
#pragma once
#include <linux/if_ether.h>

#include "maps.h"

// Offset in the frame of the byte that carries enum weft_direction (towards mesh1) or enum weft_socket_mark (from mesh1).
enum { STEER_OFFSET = ETH_ALEN + 1 };

INLINE void address_to_mesh(struct __sk_buff *skb, const struct weft_config *config, __u32 ifindex, enum weft_direction direction) {
  __u8 macs[2 * ETH_ALEN];
  __builtin_memcpy(macs, config->mesh1_mac, ETH_ALEN);
  // 02: locally administered. The rest is for the reader of a packet capture.
  macs[ETH_ALEN] = 2;
  macs[STEER_OFFSET] = direction;
  __builtin_memcpy(macs + STEER_OFFSET + 1, &ifindex, sizeof(ifindex));
  bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
}

// No "bad" value: a frame too short to have the byte is dropped elsewhere.
INLINE __u8 steering(struct __sk_buff *skb) {
  __u8 value = 0;
  bpf_skb_load_bytes(skb, STEER_OFFSET, &value, 1);
  return value;
}
