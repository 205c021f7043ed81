// Counts what became of packets: by program, and for connections also by workload.
#pragma once
#include "maps.h"

INLINE void count(enum weft_program program, enum weft_reason reason) {
  __u32 key = program * WEFT_REASON_COUNT + reason;
  __u64 *value = bpf_map_lookup_elem(&counters, &key);
  if (value) (*value)++;
}

// For first packets only: a hash lookup more.
INLINE void count_connection(enum weft_program program, enum weft_reason reason, __u32 ifindex) {
  count(program, reason);
  struct weft_workload_counters *own = bpf_map_lookup_elem(&workload_counters, &ifindex);
  if (own && reason < WEFT_REASON_COUNT) own->reason[reason]++;
}
