// The kernel's time slice of a worker's thread.
#pragma once

namespace weft {

// Asks that the calling thread, when it wakes, need not wait for the end of another's slice (EEVDF: a shorter slice preempts; Linux 6.12,
// kernel/sched/fair.c). Needs no privilege. Older kernels ignore it; a failure changes nothing.
void request_short_slice();

}  // namespace weft
