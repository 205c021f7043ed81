// Names that metrics, status and logs show (workloads, services), as small integers that never change hands: a counter cell may be
// read long after its workload is gone. Bounded: what finds no room is counted and shown as "other".

export const LABEL_OTHER = 0;
export const LABEL_UNKNOWN = 1;
export const LABEL_PASSTHROUGH = 2;
/** What is in no registry, for whom only that is open. */
export const LABEL_BLACKHOLE = 3;
const FIXED = ['other', 'unknown', 'passthrough', 'blackhole'] as const;

export class Labels {
  /** Names that found no room. */
  overflowed = 0;
  private readonly ids = new Map<string, number>();
  private readonly texts: string[] = [];

  constructor(private readonly capacity: number) {
    for (const text of FIXED) this.idOf(text);
  }

  idOf(text: string): number {
    const known = this.ids.get(text);
    if (known !== undefined) return known;
    if (this.texts.length >= this.capacity) {
      this.overflowed++;
      return LABEL_OTHER;
    }
    const id = this.texts.push(text) - 1;
    this.ids.set(text, id);
    return id;
  }

  /** By id. */
  get all(): readonly string[] {
    return [...this.texts];
  }

  textOf(id: number): string {
    return this.texts[id] ?? FIXED[LABEL_OTHER];
  }
}
