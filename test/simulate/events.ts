// What happens when, in simulated time: a heap of events, the earliest first, those of one time in the order in which they were planned.
interface Planned {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

export class Events {
  nowMs = 0;
  private readonly heap: Planned[] = [];
  private planned = 0;

  in(ms: number, run: () => void): void {
    const { heap } = this;
    let at = heap.push({ atMs: this.nowMs + ms, order: this.planned++, run }) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(heap[at]!, heap[parent]!)) break;
      this.swap(at, parent);
      at = parent;
    }
  }

  /** Everything up to that time; what is planned for later is left. */
  runUntil(ms: number): void {
    while (this.heap.length > 0 && this.heap[0]!.atMs <= ms) {
      const next = this.take();
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = ms;
  }

  private take(): Planned {
    const { heap } = this;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      let least = at;
      for (const child of [left, left + 1]) if (child < heap.length && isBefore(heap[child]!, heap[least]!)) least = child;
      if (least === at) return first;
      this.swap(at, least);
      at = least;
    }
  }

  private swap(a: number, b: number): void {
    const { heap } = this;
    [heap[a], heap[b]] = [heap[b]!, heap[a]!];
  }
}

function isBefore(a: Planned, b: Planned): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
