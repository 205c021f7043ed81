// What the agent says to the proxy about the pods whose namespaces it opens sockets in, one JSON object a message, descriptors beside it.
// One way only. Both ends are ours, of two versions perhaps: what is not understood ends the conversation.
import { z } from 'zod';
import { MAX_MESSAGE_BYTES, type MessageSocket, type MessageSocketAddon } from '../native/message-socket.js';

/** Below the run directory. */
export const POD_SOCKET = 'pods.sock';
export const VERSION = 1;

const port = z.number().int().min(1).max(65_535);
const key = z.number().int().min(1);

const beat = z.strictObject({ renew: z.string().max(4096), expire: z.string().max(4096), isFile: z.boolean() });

const message = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('hello'),
    version: z.number().int(),
    outboundPort: port,
    inboundPort: port,
    mark: z.number().int().min(1),
    /** Without a beat for so long the kernel stops redirecting. */
    aliveMs: z.number().int().min(1),
  }),
  /** Descriptors: the namespace, then one for each of `beats`, to which `renew` (base64) is written, or `expire` to end it; a file is opened anew for each. */
  z.strictObject({ type: z.literal('pod'), key, name: z.string().max(4096), beats: z.array(beat).max(2) }),
  z.strictObject({ type: z.literal('gone'), key }),
  /** All pods of now have been told. */
  z.strictObject({ type: z.literal('synced') }),
]);

export type PodMessage = z.infer<typeof message>;
export type PodHello = Extract<PodMessage, { type: 'hello' }>;
export type PodAnnouncement = Extract<PodMessage, { type: 'pod' }>;

export interface PodReceived {
  readonly message: PodMessage;
  /** The receiver's to close. */
  readonly descriptors: readonly number[];
}

export function sendPodMessage(socket: MessageSocket, said: PodMessage, descriptors: readonly number[] = []): void {
  socket.send(JSON.stringify(said), descriptors);
}

/** 'closed': the agent has. null: nothing yet. Throws on what is no message of ours; its descriptors are closed. */
export function receivePodMessage(
  socket: MessageSocket,
  addon: Pick<MessageSocketAddon, 'closeDescriptor'>,
): PodReceived | 'closed' | null {
  const received = socket.receive();
  if (received === null) return null;
  if (received.text === null) return 'closed';
  let reason = '';
  try {
    const parsed = message.safeParse(JSON.parse(received.text));
    const wanted = parsed.data?.type === 'pod' ? parsed.data.beats.length + 1 : 0;
    if (parsed.success && received.descriptors.length === wanted) return { message: parsed.data, descriptors: received.descriptors };
    reason = parsed.success ? `${received.descriptors.length} descriptors, not ${wanted}` : z.prettifyError(parsed.error).slice(0, 200);
  } catch (error) {
    reason = (error as Error).message;
  }
  for (const descriptor of received.descriptors) addon.closeDescriptor(descriptor);
  throw new Error(`the agent said what is no message of at most ${MAX_MESSAGE_BYTES} bytes about pods: ${reason}`);
}
