// The running proxy's side of a hand-over: serves <run-dir>/handover.sock, gives a successor copies of the listening sockets, and hears when
// it serves. Until then nothing here changes: a successor that fails leaves all as it was. Does not drain. Those that do, and whose
// successor has ended, come here too.
import { renameSync, rmSync } from 'node:fs';
import type { Logger } from 'pino';
import { VERSION as BUILD } from '../../../api/version.js';
import { MAX_MESSAGE_DESCRIPTORS, type MessageSocket, type MessageSocketAddon } from '../../native/message-socket.js';
import { Channel, type HandedSocket, type HandoverMessage, VERSION } from './channel.js';
import type { Predecessors } from './predecessors.js';

const HELLO_TIMEOUT_MS = 5_000;
const MAX_CONVERSATIONS = 4;
/** Out of descriptors, say. */
const ACCEPT_RETRY_MS = 1_000;

/** What a successor is given. */
export interface Estate {
  /** Duplicates of the listening sockets, the caller's to close. */
  shareSockets(): Promise<readonly (HandedSocket & { readonly descriptor: number })[]>;
  ticketKeys(): { readonly keys: Buffer; readonly ageMs: number };
  readonly handovers: number;
}

export class HandoverServer {
  /** A successor serves: accept no more, and tell it on this channel. */
  readonly handedOver: Promise<Channel>;
  private readonly conversations = new Set<Channel>();
  private successor: Channel | null = null;
  private isOver = false;
  private resolve: (channel: Channel) => void = () => undefined;

  private constructor(
    private readonly socket: MessageSocket,
    private readonly path: string,
    private readonly addon: MessageSocketAddon,
    private readonly estate: Estate,
    private readonly predecessors: Predecessors,
    private readonly log: Logger,
  ) {
    this.handedOver = new Promise((resolve) => {
      this.resolve = resolve;
    });
    this.socket.whenReadable(() => this.accept());
  }

  /** Under a name of its own, until publish(). Throws when the socket can't be made. */
  static start(path: string, addon: MessageSocketAddon, estate: Estate, predecessors: Predecessors, log: Logger): HandoverServer {
    const own = ownName(path);
    rmSync(own, { force: true });
    return new HandoverServer(addon.serveMessages(own), path, addon, estate, predecessors, log);
  }

  /** In the place of whoever served there before. */
  publish(): void {
    renameSync(ownName(this.path), this.path);
  }

  /** The proxy ends without a successor. Idempotent; nothing after a hand-over, when the path is the successor's. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.socket.close();
    rmSync(this.path, { force: true });
    for (const channel of this.conversations) channel.close();
  }

  private accept(): void {
    if (this.isOver) return;
    try {
      for (let peer = this.socket.accept(); peer !== null; peer = this.socket.accept()) {
        const channel = new Channel(peer, this.addon);
        if (this.conversations.size < MAX_CONVERSATIONS) void this.converse(channel);
        else channel.close();
      }
    } catch (error) {
      this.log.warn({ err: error }, `the hand-over socket can't accept: ${(error as Error).message}`);
      setTimeout(() => this.accept(), ACCEPT_RETRY_MS).unref();
      return;
    }
    this.socket.whenReadable(() => this.accept());
  }

  private async converse(channel: Channel): Promise<void> {
    this.conversations.add(channel);
    try {
      if ((await this.greet(channel)) === 'orphan') {
        this.conversations.delete(channel);
        return void this.predecessors.follow(channel);
      }
      await this.give(channel);
      if (await this.isReady(channel)) {
        this.finish(channel);
        return;
      }
      this.log.warn({ successor: channel.pid }, `proxy ${channel.pid} ended before it was ready to take over: this one goes on`);
    } catch (error) {
      const reason = (error as Error).message;
      this.log.warn({ peer: channel.pid }, `process ${channel.pid} can't take over: ${reason}; this proxy goes on`);
      refuse(channel, reason);
    }
    if (this.successor === channel) this.successor = null;
    this.conversations.delete(channel);
    channel.close();
  }

  /** Throws why not. */
  private async greet(channel: Channel): Promise<'successor' | 'orphan'> {
    // Heard first: a socket that closes with a message unread resets, and the answer would be lost.
    const hello = await expected(channel, ['hello', 'orphaned'], HELLO_TIMEOUT_MS);
    if (!channel.isTrusted) throw new Error('it runs as another user');
    if (hello.version !== VERSION)
      throw new Error(`it speaks version ${hello.version} of the hand-over, proxy ${process.pid} speaks ${VERSION}: stop that one first`);
    if (hello.type === 'orphaned') return 'orphan';
    if (this.successor !== null) throw new Error(`proxy ${this.successor.pid} is taking over already`);
    this.successor = channel;
    return 'successor';
  }

  private async give(channel: Channel): Promise<void> {
    const sockets = await this.estate.shareSockets();
    try {
      this.log.info(
        { successor: channel.pid, sockets: sockets.length },
        `proxy ${channel.pid} takes over: it is given ${sockets.length} sockets`,
      );
      const { keys, ageMs } = this.estate.ticketKeys();
      const facts = { version: VERSION, build: BUILD, handovers: this.estate.handovers, sockets: sockets.length };
      channel.send({ type: 'offer', ...facts, ticketKeys: keys.toString('base64'), ticketKeyAgeMs: ageMs });
      for (let at = 0; at < sockets.length; at += MAX_MESSAGE_DESCRIPTORS) {
        await expected(channel, ['next'], HELLO_TIMEOUT_MS);
        const some = sockets.slice(at, at + MAX_MESSAGE_DESCRIPTORS);
        channel.send(
          { type: 'sockets', sockets: some.map(({ descriptor: _, ...socket }) => socket) },
          some.map(({ descriptor }) => descriptor),
        );
      }
    } finally {
      for (const { descriptor } of sockets) this.addon.closeDescriptor(descriptor);
    }
  }

  /** However long it waits for its configuration. */
  private async isReady(channel: Channel): Promise<boolean> {
    const answer = await channel.next();
    if (answer !== null && answer.type !== 'ready') throw new Error(`it said ${answer.type}, not ready`);
    return answer !== null;
  }

  private finish(channel: Channel): void {
    if (this.isOver) {
      channel.close();
      return;
    }
    this.isOver = true;
    this.socket.close();
    this.conversations.delete(channel);
    for (const other of this.conversations) other.close();
    this.resolve(channel);
  }
}

function ownName(path: string): string {
  return `${path}.${process.pid}`;
}

async function expected<T extends HandoverMessage['type']>(
  channel: Channel,
  types: readonly [T, ...T[]],
  timeoutMs: number,
): Promise<Extract<HandoverMessage, { type: T }>> {
  const message = await channel.next(timeoutMs);
  if (message === null) throw new Error('it closed the connection');
  if (!types.some((type) => type === message.type)) throw new Error(`it said ${message.type}, not ${types[0]}`);
  return message as Extract<HandoverMessage, { type: T }>;
}

function refuse(channel: Channel, reason: string): void {
  try {
    channel.send({ type: 'refused', reason });
  } catch {
    // It is gone, or never listened.
  }
}
