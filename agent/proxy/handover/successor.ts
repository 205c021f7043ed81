// The new proxy's side of a hand-over: finds the proxy that serves the run directory, takes its listening sockets, tells it when they are
// served here, and hears what it has counted. Does not open or serve listeners.
import type { Logger } from 'pino';
import { VERSION as BUILD } from '../../../api/version.js';
import type { MessageSocket, MessageSocketAddon } from '../../native/message-socket.js';
import { Channel, type HandedSocket, type Offer, VERSION } from './channel.js';
import type { Predecessors } from './predecessors.js';

const ANSWER_TIMEOUT_MS = 10_000;

/** A listening socket of the predecessor; its `slot` as in HandedSocket. */
export interface InheritedSocket {
  readonly slot: number;
  readonly descriptor: number;
}

export class Takeover {
  private readonly sockets = new Map<string, InheritedSocket[]>();

  private constructor(
    private readonly channel: Channel,
    private readonly offer: Offer,
    sockets: readonly (HandedSocket & { readonly descriptor: number })[],
    private readonly addon: MessageSocketAddon,
    private readonly predecessors: Predecessors,
    private readonly log: Logger,
  ) {
    for (const { kind, address, port, pod, slot, descriptor } of sockets) {
      const key = keyOf(kind, address, port, pod);
      this.sockets.set(key, [...(this.sockets.get(key) ?? []), { slot, descriptor }]);
    }
  }

  /** null: no proxy serves there. Throws when the one that does won't hand over. */
  static async begin(path: string, addon: MessageSocketAddon, predecessors: Predecessors, log: Logger): Promise<Takeover | null> {
    let socket: MessageSocket;
    try {
      socket = addon.connectMessages(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ECONNREFUSED') return null;
      throw error;
    }
    const channel = new Channel(socket, addon);
    const sockets: (HandedSocket & { descriptor: number })[] = [];
    try {
      if (!channel.isTrusted) throw new Error('it runs as another user');
      channel.send({ type: 'hello', version: VERSION, build: BUILD });
      const offer = await answerOf(channel, 'offer');
      while (sockets.length < offer.message.sockets) {
        channel.send({ type: 'next' });
        const { message, descriptors } = await answerOf(channel, 'sockets');
        descriptors.forEach((descriptor, index) => {
          const about = message.sockets[index];
          if (about === undefined) addon.closeDescriptor(descriptor);
          else sockets.push({ ...about, descriptor });
        });
        if (descriptors.length === 0) throw new Error('it promised more sockets than it gave');
      }
      log.info(
        { predecessor: channel.pid, build: offer.message.build, sockets: sockets.length },
        `taking over from proxy ${channel.pid} (weft ${offer.message.build}): ${sockets.length} sockets`,
      );
      return new Takeover(channel, offer.message, sockets, addon, predecessors, log);
    } catch (error) {
      for (const { descriptor } of sockets) addon.closeDescriptor(descriptor);
      channel.close();
      throw new Error(
        `proxy ${channel.pid} serves this run directory and can't be taken over from: ${(error as Error).message}. ` +
          'Stop it first, or give another --run-dir',
      );
    }
  }

  /** How many proxies have handed over to one another, up to this one. */
  get handovers(): number {
    return this.offer.handovers + 1;
  }

  get ticketKeys(): { readonly keys: Buffer; readonly ageMs: number } {
    return { keys: Buffer.from(this.offer.ticketKeys, 'base64'), ageMs: this.offer.ticketKeyAgeMs };
  }

  /** The sockets of that address, the caller's from then on; none the second time. */
  take(kind: HandedSocket['kind'], address: string, port: number, pod?: number): readonly InheritedSocket[] {
    const key = keyOf(kind, address, port, pod);
    const taken = this.sockets.get(key) ?? [];
    this.sockets.delete(key);
    return taken;
  }

  /**
   * We accept: resolves when the predecessor does not any more, and has told what it counted; false where it did not say so. Sockets that nobody
   * took are left to it alone.
   */
  async complete(): Promise<boolean> {
    this.closeSockets();
    const { pid } = this.channel;
    try {
      this.channel.send({ type: 'ready' });
      for (let type = ''; type !== 'released'; ) {
        const { message } = await answerOf(this.channel, 'counted', 'released');
        this.predecessors.hear(this.channel, message);
        type = message.type;
      }
      this.log.info({ predecessor: pid }, `taken over from proxy ${pid}: it accepts no more, and drains`);
      void this.predecessors.follow(this.channel);
      return true;
    } catch (error) {
      this.log.warn({ predecessor: pid }, `proxy ${pid} did not release its listeners: ${(error as Error).message}; if it runs, stop it`);
      this.channel.close();
      return false;
    }
  }

  /** We end before we serve: the predecessor goes on. */
  abandon(): void {
    this.closeSockets();
    this.channel.close();
  }

  private closeSockets(): void {
    for (const sockets of this.sockets.values()) for (const { descriptor } of sockets) this.addon.closeDescriptor(descriptor);
    this.sockets.clear();
  }
}

async function answerOf<T extends 'offer' | 'sockets' | 'counted' | 'released'>(channel: Channel, ...types: [T, ...T[]]) {
  const received = await channel.nextWithDescriptors(ANSWER_TIMEOUT_MS);
  if (received === null) throw new Error('it closed the connection');
  const { message, descriptors } = received;
  if (message.type === 'refused') throw new Error(message.reason);
  if (!types.some((type) => type === message.type)) throw new Error(`it said ${message.type}, not ${types.join(' or ')}`);
  return { message: message as Extract<typeof message, { type: T }>, descriptors };
}

function keyOf(kind: string, address: string, port: number, pod = -1): string {
  return `${kind} ${port} ${address} ${pod}`;
}
