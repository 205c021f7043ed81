// A workload whose configuration is still on the way to the proxy. Its bound is a time, not the agent: one that dies holds up nobody.
#pragma once
#include <stdbool.h>

#include "maps.h"

INLINE bool is_held(const struct weft_workload *workload) {
  return workload->held_until_ns && bpf_ktime_get_ns() < workload->held_until_ns;
}
