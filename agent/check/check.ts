// What a check of this host found, and where the checks get their facts. Knows no single check.

/** bad: redirection will not work, or not for all. warning: it works, but the operator should know. unknown: could not be found out. */
export type Verdict = 'good' | 'warning' | 'bad' | 'unknown';

export interface Check {
  readonly title: string;
  readonly verdict: Verdict;
  /** What was found. */
  readonly detail: string;
  /** What to do about it; empty when there is nothing to do. */
  readonly remedy: string;
}

/** Checks that belong together, in the order in which they are told. */
export interface CheckSection {
  readonly title: string;
  readonly checks: readonly Check[];
}

/** The host as the checks see it: all that they read of it. */
export interface HostFacts {
  /** uname -r */
  readonly release: string;
  /** The file's text; null: not there or not readable. */
  read(path: string): string | null;
  /** Names in a folder; empty: not there. */
  list(path: string): readonly string[];
  /** What the command prints; null: no such command here, or it failed. */
  run(command: string, ...args: readonly string[]): string | null;
}

export function good(title: string, detail: string): Check {
  return { title, verdict: 'good', detail, remedy: '' };
}

export function warning(title: string, detail: string, remedy: string): Check {
  return { title, verdict: 'warning', detail, remedy };
}

export function bad(title: string, detail: string, remedy: string): Check {
  return { title, verdict: 'bad', detail, remedy };
}

export function unknown(title: string, detail: string, remedy: string): Check {
  return { title, verdict: 'unknown', detail, remedy };
}
