// How the CLI fails: what went wrong, what to do about it, and the exit code. No I/O.

/** 0 done, 1 refused or failed, 2 bad usage. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
/** Nobody reads what is printed any more: what a shell says of a process that SIGPIPE ended. */
export const EXIT_BROKEN_PIPE = 141;

/** An expected end of a command. `message` may have several lines; it goes to standard error as it is. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly exitCode: number = EXIT_FAILED,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
