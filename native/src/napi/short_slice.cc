// See short_slice.h.
#include "napi/short_slice.h"

#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace weft {

namespace {
// The shortest there is: a worker rarely runs that long before it waits again.
constexpr unsigned long long kSliceNs = 100'000;
}  // namespace

void request_short_slice() {
  sched_attr attributes{};
  attributes.size = sizeof(attributes);
  // What it has otherwise (policy, nice value) stays.
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  attributes.sched_runtime = kSliceNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace weft
