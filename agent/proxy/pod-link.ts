// The proxy's end of <run-dir>/pods.sock: follows which pods' namespaces the agent wants sockets in. What it was given outlives the
// agent; when one comes back, what it no longer names is gone. Opens no socket for traffic and does not beat.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type PodAnnouncement, type PodHello, type PodReceived, receivePodMessage, VERSION } from '../link/pod-channel.js';
import type { MessageSocket, MessageSocketAddon } from '../native/message-socket.js';
import type { PodBeat } from './worker-messages.js';

const RETRY_MS = 200;

export interface Pod {
  readonly key: number;
  /** For people. */
  readonly name: string;
  /** Descriptor of its network namespace. */
  readonly netns: number;
  /** None: a fail-closed pod's connections are redirected without. */
  readonly beats: readonly PodBeat[];
}

export class PodLink {
  private readonly known = new Map<number, Pod>();
  /** Named since the agent came; null: all were. */
  private named: Set<number> | null = null;
  private socket: MessageSocket | null;
  private readonly released: number[] = [];
  private isClosed = false;
  private changed: () => void = () => undefined;

  private constructor(
    private readonly path: string,
    private readonly addon: MessageSocketAddon,
    socket: MessageSocket,
    readonly hello: PodHello,
    private readonly log: Logger,
  ) {
    this.socket = socket;
  }

  /** null: no agent captures pods by address translation here (yet). Throws when it is of a version that speaks otherwise. */
  static async open(path: string, addon: MessageSocketAddon, log: Logger): Promise<PodLink | null> {
    const socket = connect(path, addon);
    if (socket === null) return null;
    const hello = await greeting(socket, addon);
    return hello === null ? null : new PodLink(path, addon, socket, hello, log);
  }

  /** Calls back at every change, never within this call or that of another method. */
  follow(changed: () => void): void {
    this.changed = changed;
    this.named = new Set();
    this.read();
  }

  /** Their descriptors are good until they come with takeReleased(). */
  get pods(): ReadonlyMap<number, Pod> {
    return this.known;
  }

  /** Descriptors that no pod has any more: the caller's to close, once no thread uses them. */
  takeReleased(): readonly number[] {
    return this.released.splice(0);
  }

  /** Idempotent. */
  close(): void {
    this.isClosed = true;
    this.socket?.close();
    this.socket = null;
  }

  private read(): void {
    const { socket } = this;
    if (socket === null) return;
    let hasChanged = false;
    let isOver = false;
    try {
      for (;;) {
        const next = receivePodMessage(socket, this.addon);
        isOver = next === 'closed';
        if (next === null || next === 'closed') break;
        hasChanged = this.take(next) || hasChanged;
      }
    } catch (error) {
      this.log.error({ err: error }, (error as Error).message);
      isOver = true;
    }
    if (isOver) this.lose();
    else socket.whenReadable(() => this.read());
    if (hasChanged) setImmediate(this.changed);
  }

  /** Returns whether the pods have changed. */
  private take({ message, descriptors }: PodReceived): boolean {
    switch (message.type) {
      case 'hello':
        return false;
      case 'pod':
        return this.add(message, descriptors);
      case 'gone':
        return this.remove(message.key);
      case 'synced':
        return this.forgetUnnamed();
    }
  }

  private forgetUnnamed(): boolean {
    const gone = [...this.known.keys()].filter((key) => this.named !== null && !this.named.has(key));
    this.named = null;
    for (const key of gone) this.remove(key);
    return gone.length > 0;
  }

  private add({ key, name, beats: told }: PodAnnouncement, [netns, ...files]: readonly number[]): boolean {
    this.named?.add(key);
    const old = this.known.get(key);
    const bytes = (text: string): Uint8Array => Buffer.from(text, 'base64');
    const beats = told.map(({ renew, expire, isFile }, i) => ({
      descriptor: files[i]!,
      isFile,
      renew: bytes(renew),
      expire: bytes(expire),
    }));
    this.known.set(key, { key, name, netns: netns!, beats });
    if (old !== undefined) this.release(old);
    return true;
  }

  private remove(key: number): boolean {
    const old = this.known.get(key);
    if (old !== undefined) this.release(old);
    return this.known.delete(key);
  }

  private release({ netns, beats }: Pod): void {
    this.released.push(netns, ...beats.map(({ descriptor }) => descriptor));
  }

  private lose(): void {
    this.socket?.close();
    this.socket = null;
    if (!this.isClosed) void this.reconnect();
  }

  private async reconnect(): Promise<void> {
    while (!this.isClosed) {
      await sleep(RETRY_MS, undefined, { ref: false });
      const socket = connect(this.path, this.addon);
      if (socket === null) continue;
      try {
        if ((await greeting(socket, this.addon)) === null) continue;
      } catch (error) {
        this.log.error({ err: error }, (error as Error).message);
        continue;
      }
      this.socket = socket;
      this.named = new Set();
      this.read();
      return;
    }
  }
}

function connect(path: string, addon: MessageSocketAddon): MessageSocket | null {
  try {
    return addon.connectMessages(path);
  } catch {
    // No agent that serves it: the usual case, and the one to wait for.
    return null;
  }
}

async function greeting(socket: MessageSocket, addon: MessageSocketAddon): Promise<PodHello | null> {
  for (;;) {
    const next = receivePodMessage(socket, addon);
    if (next !== null && next !== 'closed' && next.message.type === 'hello') {
      if (next.message.version === VERSION) return next.message;
      socket.close();
      throw new Error(`the agent speaks version ${next.message.version} about pods, this proxy ${VERSION}: upgrade the older one`);
    }
    if (next !== null) {
      socket.close();
      return null;
    }
    await new Promise<void>((resolve) => socket.whenReadable(resolve));
  }
}
