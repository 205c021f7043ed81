// What a proxy and its successor say to each other, one JSON object a message, listening sockets beside it. Both ends are ours, of two
// versions perhaps: `hello` and `offer` agree on VERSION, and what is not understood ends the conversation.
import { z } from 'zod';
import { MAX_MESSAGE_BYTES, MAX_MESSAGE_DESCRIPTORS, type MessageSocket, type MessageSocketAddon } from '../../native/message-socket.js';
import { counted } from '../metrics/tally.js';

/** Of this protocol. A proxy that speaks another is not taken over from. */
export const VERSION = 2;

const count = z.number().int().min(0);

/** A listening socket, in the order of the descriptors of its message. */
const handedSocket = z.strictObject({
  kind: z.enum(['gateway', 'outbound', 'inbound', 'pod-outbound', 'pod-inbound']),
  /** Of the kinds pod-…: PodScope.key. */
  pod: count.optional(),
  address: z.string().max(64),
  port: z.number().int().min(1).max(65_535),
  /** Which of the sockets that share the address it is: the worker's that opened it, and for captured traffic its place in the SOCKMAP. */
  slot: count.max(65_535),
});
export type HandedSocket = z.infer<typeof handedSocket>;

const message = z.discriminatedUnion('type', [
  // The successor's:
  z.strictObject({ type: z.literal('hello'), version: count, build: z.string().max(64) }),
  /** The sockets, or what was counted, came: it wants more. */
  z.strictObject({ type: z.literal('next') }),
  /** It accepts connections. The other must stop. */
  z.strictObject({ type: z.literal('ready') }),
  // The predecessor's:
  z.strictObject({
    type: z.literal('offer'),
    version: count,
    build: z.string().max(64),
    /** How many proxies have handed over to one another until now. */
    handovers: count,
    sockets: count.max(65_535),
    ticketKeys: z.string().max(1024),
    ticketKeyAgeMs: z.number().min(0),
  }),
  z.strictObject({ type: z.literal('sockets'), sockets: z.array(handedSocket).max(MAX_MESSAGE_DESCRIPTORS) }),
  z.strictObject({ type: z.literal('refused'), reason: z.string().max(1024) }),
  /** What its metrics grew by since it said so last; the first time, all of it. */
  z.strictObject({ type: z.literal('counted'), counted: z.array(counted) }),
  /** It accepts no more. */
  z.strictObject({ type: z.literal('released') }),
  z.strictObject({ type: z.literal('draining'), open: count }),
  z.strictObject({ type: z.literal('drained'), ended: count, cut: count }),
  /** Of one whose successor has ended: it drains still, and goes on as one whose successor hears it. */
  z.strictObject({ type: z.literal('orphaned'), version: count }),
]);
export type HandoverMessage = z.infer<typeof message>;
export type Offer = Extract<HandoverMessage, { type: 'offer' }>;

export interface Received {
  readonly message: HandoverMessage;
  /** The receiver's to close. */
  readonly descriptors: readonly number[];
}

export class Channel {
  private wake: () => void = () => undefined;
  private isClosed = false;

  constructor(
    private readonly socket: MessageSocket,
    private readonly addon: Pick<MessageSocketAddon, 'closeDescriptor'>,
  ) {}

  get pid(): number {
    return this.socket.pid;
  }

  /** Of root or our own user: nobody else has a say in our listeners. */
  get isTrusted(): boolean {
    return this.socket.uid === 0 || this.socket.uid === process.geteuid?.();
  }

  /** Throws when the other end is gone or does not read. */
  send(message: HandoverMessage, descriptors: readonly number[] = []): void {
    this.socket.send(JSON.stringify(message), descriptors);
  }

  /** null: the other end has closed, or this one has. Throws on what is no message, or when none came in time. */
  async next(timeoutMs: number | null = null): Promise<HandoverMessage | null> {
    const received = await this.nextWithDescriptors(timeoutMs);
    for (const descriptor of received?.descriptors ?? []) this.addon.closeDescriptor(descriptor);
    return received?.message ?? null;
  }

  async nextWithDescriptors(timeoutMs: number | null = null): Promise<Received | null> {
    const deadline = timeoutMs === null ? null : performance.now() + timeoutMs;
    while (!this.isClosed) {
      const received = this.socket.receive();
      if (received !== null) return received.text === null ? null : this.parse(received.text, received.descriptors);
      const leftMs = deadline === null ? null : deadline - performance.now();
      if (leftMs !== null && leftMs <= 0) throw new Error(`it said nothing for ${timeoutMs} ms`);
      await this.readable(leftMs);
    }
    return null;
  }

  /** Idempotent. */
  close(): void {
    this.isClosed = true;
    this.socket.close();
    this.wake();
  }

  private parse(text: string, descriptors: readonly number[]): Received {
    let reason = '';
    try {
      const parsed = message.safeParse(JSON.parse(text));
      if (parsed.success) return { message: parsed.data, descriptors };
      reason = z.prettifyError(parsed.error).slice(0, 200);
    } catch (error) {
      reason = (error as Error).message;
    }
    for (const descriptor of descriptors) this.addon.closeDescriptor(descriptor);
    throw new Error(`it said what is no hand-over message of at most ${MAX_MESSAGE_BYTES} bytes: ${reason}`);
  }

  private readable(timeoutMs: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = timeoutMs === null ? null : setTimeout(() => this.wake(), timeoutMs);
      this.wake = () => {
        if (timer !== null) clearTimeout(timer);
        resolve();
      };
      this.socket.whenReadable(() => this.wake());
    });
  }
}
