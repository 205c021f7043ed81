// How the agent comes to do without CAP_SYS_ADMIN and CAP_SYS_PTRACE: before anything else it becomes weft-netns, and that the agent again.
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { AgentConfig } from './config.js';
import { loadAddon } from './native/addon.js';
import { becomeConfined, hasNamespaces, takeNamespaces, watchNamespaces } from './native/netns.js';

/** capabilities(7): CAP_SYS_ADMIN and CAP_SETPCAP. */
const NEEDED = (1n << 21n) | (1n << 8n);

/** Before the rest of the agent is loaded, which is loaded again afterwards. Who lacks what it takes is told by the self-test. */
export function confineAgent({ capture, meshNetns, uninstall }: AgentConfig): void {
  if (capture === 'off' || uninstall || hasNamespaces(process.env)) return;
  const [, held = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if ((BigInt(`0x${held}`) & NEEDED) === NEEDED) becomeConfined([`--agent=${meshNetns}`]);
}

/** From here on weft-netns is asked, if the process has been it. `lost`: it has gone, and nothing can be captured any more. Returns how to stop. */
export function useConfinement(log: Logger, lost: () => void): () => void {
  const namespaces = takeNamespaces(process.env);
  if (namespaces === null) return () => undefined;
  const addon = loadAddon();
  addon.useNetns(namespaces.channel);
  addon.closeDescriptor(namespaces.host);
  return watchNamespaces(addon, namespaces, () => {
    log.fatal('weft-netns, which enters network namespaces for the agent, has ended: so does the agent');
    lost();
  });
}
