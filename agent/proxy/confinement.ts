// How the proxy comes to the namespaces it serves without CAP_SYS_ADMIN: once the agent has said where they are, the process becomes weft-netns
// (native/src/netns), which enters the mesh namespace, leaves a process behind that opens sockets elsewhere, gives up what that takes, and
// becomes the proxy again. The rest of the proxy sees only what it was left with.
import { existsSync, fstatSync, type Stats, statfsSync, statSync } from 'node:fs';
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
const WATCH_MS = 500;

type Mesh = NonNullable<ProxyConfig['mesh']>;

/**
 * Waits until the agent has made its redirection into the mesh namespace, or captures pods in their own. Null: nothing captured is wanted, or
 * `isEnding` said so first. May replace the process. Throws when the agent has changed its ways since it did.
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
    const link = await PodLink.open(socket, addon, log);
    if (link !== null && namespaces !== null && isOwn(fstatSync(namespaces.host))) {
      log.info({ socket }, 'pods are captured by address translation in their own namespaces');
      return { by: 'pods', namespaces, link };
    }
    link?.close();
    const isMesh = link === null && leadsToMesh(mesh);
    if (isMesh && isInside(mesh)) return { by: 'mesh', namespaces, bpfDir: mesh.bpfDir };
    if (isMesh || link !== null) {
      if (namespaces !== null) throw new Error(`the agent captures otherwise than when this proxy was started: start it again`);
      becomeProxy(isMesh ? mesh.netns : null);
    }
    if (isFirst) log.info({ netns: mesh.netns, socket }, `waiting for ${mesh.netns} or ${socket}: the agent makes one of them`);
    await sleep(POLL_MS);
  }
  return null;
}

/** Where the mesh namespace is in use already: before the rest of the proxy is loaded, which is loaded again afterwards. */
export function confineEarly({ mesh }: ProxyConfig): void {
  if (mesh !== null && !hasNamespaces(process.env) && leadsToMesh(mesh) && !isInside(mesh)) becomeProxy(mesh.netns);
}

/**
 * Calls back, once, when the agent has gone over to the other way of capturing, or has removed its redirection: what this proxy serves leads to it no
 * longer, and the capabilities to follow have been given up. An agent that is away changes nothing. Returns how to stop.
 */
export function watchTraffic({ mesh }: ProxyConfig, captured: CapturedTraffic | null, changed: () => void): () => void {
  if (mesh === null || captured === null) return () => undefined;
  const isGone = captured.by === 'mesh' ? () => !isInside(mesh) : () => leadsToMesh(mesh);
  const timer = setInterval(() => {
    if (!isGone()) return;
    clearInterval(timer);
    changed();
  }, WATCH_MS).unref();
  return () => clearInterval(timer);
}

/** A namespace alone says nothing: Kubernetes' init container makes one for any agent. Only one that captures by eBPF pins maps. */
function leadsToMesh({ netns, bpfDir }: Mesh): boolean {
  return isNamespace(netns) && existsSync(join(bpfDir, 'maps/workers'));
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

function isInside({ netns }: Mesh): boolean {
  return isOwn(statSync(netns, { throwIfNoEntry: false }));
}

function isOwn(namespace: Stats | undefined): boolean {
  return statSync('/proc/self/ns/net').ino === namespace?.ino;
}

/** `netns`: to be entered; null: none. */
function becomeProxy(netns: string | null): never {
  return becomeConfined(netns === null ? [] : [`--net=${netns}`]);
}
