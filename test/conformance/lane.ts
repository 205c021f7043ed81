// A gateway port and the origin behind it; plays one conversation at a time. Several lanes share the proxy, so that cuts run side by side.
import { createServer, type Server, type Socket } from 'node:net';
import type { Case } from './case-file.js';
import { Conversation, type Cut } from './conversation.js';
import { listening, ProxyProcess } from './proxy-process.js';

const LANES = 12;
/** Of one sending step; a longer one is sampled. */
const MAX_SPLITS = 40;
/** Longer cases are not sent in single bytes. */
const MAX_SINGLE_BYTES = 1_500;

export class Lane {
  port = 0;
  originPort = 0;
  private readonly server: Server;
  private readonly origins = new Set<Socket>();
  private current: Conversation | null = null;
  private probe: Conversation | null = null;

  constructor() {
    this.server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.onOrigin(socket));
  }

  async listen(): Promise<void> {
    this.originPort = await listening(this.server);
  }

  /** Rejects with a Mismatch. */
  async play(played: Case, cut: Cut): Promise<void> {
    const conversation = new Conversation(this.port, cut);
    this.current = conversation;
    try {
      await conversation.play(played);
      if (!played.endsOpen && cut.kind === 'whole') {
        await this.waitForStrays();
        conversation.expectNothingMore();
      }
    } finally {
      this.current = null;
      conversation.close();
      // The next conversation begins with connections of its own; the proxy's pooled ones are found dead.
      for (const socket of this.origins) socket.resetAndDestroy();
    }
  }

  close(): void {
    for (const socket of this.origins) socket.destroy();
    this.server.close();
  }

  /** What the proxy has sent to the origin arrives before the probe that comes after it. */
  private async waitForStrays(): Promise<void> {
    this.probe = new Conversation(this.port, { kind: 'whole' });
    try {
      await this.probe.probe();
    } finally {
      this.probe.close();
      this.probe = null;
    }
  }

  private onOrigin(socket: Socket): void {
    this.origins.add(socket);
    socket.setEncoding('latin1');
    socket.on('error', () => {});
    socket.on('data', (text: string) => {
      const played = this.probe !== null && text.startsWith('GET /probe ') ? this.probe : this.current;
      played?.onOriginData(socket, text);
    });
    socket.on('end', () => this.current?.onOriginEnd(socket));
    socket.on('close', () => {
      this.current?.onOriginEnd(socket);
      this.origins.delete(socket);
    });
  }
}

/** The proxy and its lanes. */
export class Street {
  private constructor(
    readonly proxy: ProxyProcess,
    readonly lanes: readonly Lane[],
  ) {}

  static async open(): Promise<Street> {
    const lanes = Array.from({ length: LANES }, () => new Lane());
    await Promise.all(lanes.map((lane) => lane.listen()));
    const proxy = await ProxyProcess.start(lanes.map(({ originPort }) => originPort));
    for (const [i, lane] of lanes.entries()) lane.port = proxy.ports[i]!;
    return new Street(proxy, lanes);
  }

  /** In one piece first, then cut everywhere. Rejects with what went wrong first, and how the bytes were cut then. */
  async play(played: Case): Promise<void> {
    await this.lanes[0]!.play(played, { kind: 'whole' });
    const cuts = cutsOf(played);
    const failures: string[] = [];
    const work = async (lane: Lane): Promise<void> => {
      for (let cut = cuts.pop(); cut !== undefined && failures.length === 0; cut = cuts.pop()) {
        await lane.play(played, cut).catch((error: Error) => failures.push(`${JSON.stringify(cut)}: ${error.message}`));
      }
    };
    await Promise.all(this.lanes.map(work));
    if (failures.length > 0) throw new Error(`in one piece all is well, but cut ${failures[0]}`);
    if (!this.proxy.isRunning()) throw new Error('the proxy has ended');
  }

  async close(): Promise<void> {
    for (const lane of this.lanes) lane.close();
    await this.proxy.stop();
  }
}

function cutsOf({ steps }: Case): Cut[] {
  const cuts: Cut[] = [];
  let total = 0;
  for (const [step, { kind, ...rest }] of steps.entries()) {
    if ((kind !== 'client sends' && kind !== 'origin sends') || !('bytes' in rest)) continue;
    const size = rest.bytes.length;
    total += size;
    const every = Math.max(1, (size - 1) / MAX_SPLITS);
    for (let at = 1; at < size; at += every) cuts.push({ kind: 'split', step, at: Math.floor(at) });
  }
  if (total <= MAX_SINGLE_BYTES) cuts.push({ kind: 'bytes' });
  return cuts;
}
