// How our processes log: JSON lines by pino on standard error, the level from the command line. Standard output is for results and access logs.
import { destination, type Logger, pino, stdTimeFunctions } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** `name`: the process, e.g. "proxy". Written at once, so that the last line before a crash is there. */
export function createLog(name: string, level: LogLevel): Logger {
  return pino(
    { name, level, timestamp: stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    destination({ fd: 2, sync: true }),
  );
}
