// Who goes on counting what this proxy counts while it drains: its successor, and when that has ended whoever serves the run directory then.
// What was told and confirmed is told once. Does not drain.
import type { Logger } from 'pino';
import type { MessageSocketAddon } from '../../native/message-socket.js';
import { type Counted, Tally } from '../metrics/tally.js';
import { Channel, type HandoverMessage, VERSION } from './channel.js';

const ANSWER_TIMEOUT_MS = 5_000;
/** Of one message, which may have MAX_MESSAGE_BYTES; one name takes some 10,000 at most. */
const PART_BYTES = 32_768;

export class Heir {
  /** What it has confirmed. */
  private readonly told = new Tally();

  /** `path`: where a proxy serves hand-overs. `tally`: of all until now. */
  constructor(
    private channel: Channel | null,
    private readonly path: string,
    private readonly addon: MessageSocketAddon,
    private readonly tally: () => Tally,
    private readonly log: Logger,
  ) {}

  /** Tells what has been counted since the last time, then `message`. That nobody hears it is no error: it is told the next time. */
  async tell(message: HandoverMessage): Promise<void> {
    // The one that was told the last time may have ended since.
    for (let tries = 0; tries < 2; tries++) {
      this.channel ??= this.find();
      if (this.channel === null || (await this.tellTo(this.channel, message))) return;
      this.close();
    }
  }

  close(): void {
    this.channel?.close();
    this.channel = null;
  }

  private async tellTo(channel: Channel, message: HandoverMessage): Promise<boolean> {
    try {
      const now = this.tally();
      for (const part of parts(now.since(this.told))) {
        channel.send({ type: 'counted', counted: [...part] });
        const answer = await channel.next(ANSWER_TIMEOUT_MS);
        if (answer?.type !== 'next') throw new Error(answer === null ? 'it has ended' : `it said ${answer.type}, not next`);
        this.told.keep(part, now);
      }
      channel.send(message);
      return true;
    } catch (error) {
      this.log.info({ successor: channel.pid }, `proxy ${channel.pid} counts no more of what this one drains: ${(error as Error).message}`);
      return false;
    }
  }

  private find(): Channel | null {
    try {
      const channel = new Channel(this.addon.connectMessages(this.path), this.addon);
      if (channel.isTrusted) {
        channel.send({ type: 'orphaned', version: VERSION });
        return channel;
      }
      channel.close();
    } catch {
      // Nobody serves there now.
    }
    return null;
  }
}

function* parts(all: readonly Counted[]): Generator<readonly Counted[]> {
  let part: Counted[] = [];
  let bytes = 0;
  for (const one of all) {
    part.push(one);
    bytes += JSON.stringify(one).length;
    if (bytes < PART_BYTES) continue;
    yield part;
    part = [];
    bytes = 0;
  }
  if (part.length > 0) yield part;
}
