// How the proxy comes to the namespaces it serves without CAP_SYS_ADMIN: once the agent has said where they are, the process becomes weft-netns
// (native/src/netns), which enters the mesh namespace, leaves a process behind that opens sockets elsewhere, gives up what that takes, and
// becomes the proxy again. The rest of the proxy sees only what it was left with.
import { statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { POD_SOCKET } from '../link/pod-channel.js';
import { loadAddon } from '../native/addon.js';
import { becomeConfined, hasNamespaces, type Namespaces } from '../native/netns.js';
import type { ProxyConfig } from './config.js';
import type { CapturedTraffic } from './listeners.js';
import { PodLink } from './pod-link.js';

const POLL_MS = 100;

/**
 * Waits until the agent has made the mesh namespace, or captures pods in their own. Null: nothing captured is wanted, or `isEnding` said so
 * first. May replace the process. Throws when the agent has changed its ways since it did.
 */
export async function findTraffic(
  { mesh, runDir }: ProxyConfig,
  namespaces: Namespaces | null,
  log: Logger,
  isEnding: () => boolean,
): Promise<CapturedTraffic | null> {
  if (mesh === null) return null;
  const addon = loadAddon();
  const socket = join(runDir, POD_SOCKET);
  for (let isFirst = true; !isEnding(); isFirst = false) {
    if (isInside(mesh.netns)) return { by: 'mesh', namespaces, bpfDir: mesh.bpfDir };
    const link = await PodLink.open(socket, addon, log);
    if (link !== null && namespaces !== null) {
      log.info({ socket }, 'pods are captured by address translation in their own namespaces');
      return { by: 'pods', namespaces, link };
    }
    link?.close();
    const isMesh = isNamespace(mesh.netns);
    if (isMesh && namespaces !== null) throw new Error(`${mesh.netns} is not where this proxy was started for: start it again`);
    if (isMesh || link !== null) becomeProxy(isMesh && link === null ? mesh.netns : null);
    if (isFirst) log.info({ netns: mesh.netns, socket }, `waiting for ${mesh.netns} or ${socket}: the agent makes one of them`);
    await sleep(POLL_MS);
  }
  return null;
}

/** Where the mesh namespace is there already: before the rest of the proxy is loaded, which is loaded again afterwards. */
export function confineEarly({ mesh }: ProxyConfig): void {
  if (mesh !== null && !hasNamespaces(process.env) && isNamespace(mesh.netns) && !isInside(mesh.netns)) becomeProxy(mesh.netns);
}

/** The file that it is mounted on is there before, and may stay. <linux/magic.h> */
function isNamespace(path: string): boolean {
  const NSFS_MAGIC = 0x6e736673;
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}

function isInside(netns: string): boolean {
  return statSync('/proc/self/ns/net').ino === statSync(netns, { throwIfNoEntry: false })?.ino;
}

/** `netns`: to be entered; null: none. */
function becomeProxy(netns: string | null): never {
  return becomeConfined(netns === null ? [] : [`--net=${netns}`]);
}
