// Time and chance as the agent's links see them, so that tests can own both. No policy here.

/** `delay` cancels when `signal` aborts, and then resolves early rather than rejecting. Times are milliseconds, monotonic. */
export interface Clock {
  now(): number;
  /** Uniform in [0, 1). */
  random(): number;
  delay(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  random: Math.random,
  delay: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const finish = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = setTimeout(finish, ms);
      signal.addEventListener('abort', finish);
    }),
};
