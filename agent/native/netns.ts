// How a daemon and weft-netns (native/src/netns) come apart: the process becomes weft-netns, which leaves a process behind that enters network
// namespaces, gives up what that takes, and becomes the daemon again. The rest of the daemon sees only what it was left with.
import { loadAddon, netnsProgram } from './addon.js';
import type { MessageSocketAddon } from './message-socket.js';

/** Made by weft-netns: the descriptors of its channel and of the namespace that it was started in. */
const VARIABLE = 'WEFT_NETNS';

export interface Namespaces {
  /** Descriptor of the channel to weft-netns. */
  readonly channel: number;
  /** Descriptor of the host's network namespace. */
  readonly host: number;
}

/** What weft-netns left; null: this process has not been it. */
export function takeNamespaces(environment: NodeJS.ProcessEnv): Namespaces | null {
  const [, channel, host] = /^(\d+),(\d+)$/.exec(environment[VARIABLE] ?? '') ?? [];
  delete environment[VARIABLE];
  return channel === undefined || host === undefined ? null : { channel: Number(channel), host: Number(host) };
}

/** Whether takeNamespaces() has something to take. */
export function hasNamespaces(environment: NodeJS.ProcessEnv): boolean {
  return environment[VARIABLE] !== undefined;
}

/** The same process, the same command. `flags`: of weft-netns. */
export function becomeConfined(flags: readonly string[]): never {
  return loadAddon().become([netnsProgram(), ...flags, process.execPath, ...process.execArgv, ...process.argv.slice(1)]);
}

/** Calls back when weft-netns has gone. Returns how to stop; the channel is closed then. */
export function watchNamespaces(addon: MessageSocketAddon, { channel }: Namespaces, lost: () => void): () => void {
  const socket = addon.adoptMessages(channel);
  socket.whenReadable(lost);
  return () => socket.close();
}
