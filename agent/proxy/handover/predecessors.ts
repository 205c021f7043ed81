// The proxies before this one that drain still: how many connections they have, and what they count, which this one's metrics show with its
// own. The one whose place this took, and those whose successor has ended since. Does not take anything over.
import type { Logger } from 'pino';
import { Tally } from '../metrics/tally.js';
import type { Channel, HandoverMessage } from './channel.js';

const MAX_FOLLOWED = 16;

export class Predecessors {
  /** All that any proxy before this one has counted, as far as it was told. */
  readonly counted = new Tally();
  /** Of those that have drained: connections that ended by themselves, and that were cut. */
  ended = 0;
  cut = 0;
  /** Connections of each that drains. */
  private readonly open = new Map<Channel, number>();
  private isAbandoned = false;

  constructor(private readonly log: Logger) {}

  get connectionsOpen(): number {
    return [...this.open.values()].reduce((sum, open) => sum + open, 0);
  }

  /** Until it has drained, or ended; the channel is closed then. More than a few are not listened to. */
  async follow(channel: Channel): Promise<void> {
    const { pid } = channel;
    if (this.isAbandoned || this.open.size >= MAX_FOLLOWED) return channel.close();
    this.open.set(channel, 0);
    try {
      for (let message = await channel.next(); message !== null; message = await channel.next()) {
        if (this.hear(channel, message) === 'drained') return;
      }
      if (!this.isAbandoned) this.log.warn({ predecessor: pid }, `proxy ${pid} ended before it had drained`);
    } catch (error) {
      this.log.warn({ predecessor: pid }, `proxy ${pid} can't be followed: ${(error as Error).message}`);
    } finally {
      this.open.delete(channel);
      channel.close();
    }
  }

  /** Asks for the next part when it has added one. */
  hear(channel: Channel, message: HandoverMessage): 'drains' | 'drained' {
    switch (message.type) {
      case 'counted':
        this.counted.addCounted(message.counted);
        channel.send({ type: 'next' });
        return 'drains';
      case 'draining':
        this.open.set(channel, message.open);
        return 'drains';
      case 'drained':
        this.ended += message.ended;
        this.cut += message.cut;
        this.log.info(
          { predecessor: channel.pid, ended: message.ended, cut: message.cut },
          `proxy ${channel.pid} has drained: ${message.cut} connections were cut`,
        );
        return 'drained';
      default:
        return 'drains';
    }
  }

  /** They find another one to tell. */
  abandon(): void {
    this.isAbandoned = true;
    for (const channel of this.open.keys()) channel.close();
  }
}
