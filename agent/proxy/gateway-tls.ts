// The TLS contexts of gateway listeners: one for each set of certificates, built once for all workers, and the ticket keys that they share.
// Owns their handles; knows neither sockets nor workers.
import { createHash, randomBytes } from 'node:crypto';
import type { EngineAddon, PeerMatch, TlsCertificateSpec } from '../native/engine.js';

/** Of one ticket key, as TlsContextSpec.ticketKeys has them. */
const TICKET_KEY_BYTES = 80;
/** What clients of HTTP listeners may choose from, best first. */
export const HTTP_ALPN: readonly string[] = ['h2', 'http/1.1'];

export type GatewayTlsAddon = Pick<EngineAddon, 'createTlsContext' | 'releaseTlsContext' | 'setTicketKeys'>;

/** What the listeners of one port ask for. */
export interface GatewayTlsSpec {
  readonly certificates: readonly TlsCertificateSpec[];
  /** Empty: whatever the client offers is not answered. */
  readonly alpn: readonly string[];
  /** Server names whose TLS goes on to the backend, as TlsContextSpec has them. */
  readonly passthrough: readonly string[];
  /** PEM; null: clients are not asked for a certificate. */
  readonly clientTrust: string | null;
  /** Clients without a good certificate are let in all the same. */
  readonly clientFallback: boolean;
  /** Those without any are. */
  readonly clientOptional: boolean;
  /** Whom of those that clientTrust vouches for; empty: all. */
  readonly clientAccepts: readonly PeerMatch[];
}

export interface GatewayContext {
  /** Null: none of the certificates can be served. */
  readonly context: number | null;
  /** What is not served, in words. */
  readonly faults: readonly string[];
}

export interface TicketKeys {
  readonly keys: Buffer;
  /** Since they were drawn or rotated. */
  readonly ageMs: number;
}

export class GatewayTls {
  private readonly contexts = new Map<string, GatewayContext>();
  /** Current, previous, next: a ticket can be resumed for a whole rotation after its key was retired. */
  private ticketKeys: Buffer;
  private drawnAt: number;

  constructor(
    private readonly addon: GatewayTlsAddon,
    private readonly random: (bytes: number) => Buffer = randomBytes,
    /** Of a predecessor, whose clients shall resume their sessions here. Others than that length are not used. */
    inherited: TicketKeys | null = null,
  ) {
    const isUsable = inherited?.keys.length === 3 * TICKET_KEY_BYTES;
    this.ticketKeys = isUsable ? inherited.keys : random(3 * TICKET_KEY_BYTES);
    this.drawnAt = performance.now() - (isUsable ? inherited.ageMs : 0);
  }

  get keys(): TicketKeys {
    return { keys: this.ticketKeys, ageMs: performance.now() - this.drawnAt };
  }

  /** The same has the same object. Its context is the caller's until keepOnly() leaves it out. */
  contextFor(spec: GatewayTlsSpec): GatewayContext {
    const key = createHash('sha256')
      .update(
        JSON.stringify([
          spec.certificates,
          spec.alpn,
          spec.passthrough,
          spec.clientTrust,
          spec.clientFallback,
          spec.clientOptional,
          spec.clientAccepts,
        ]),
      )
      .digest('base64');
    const known = this.contexts.get(key);
    if (known !== undefined) return known;
    const built = this.build(spec);
    this.contexts.set(key, built);
    return built;
  }

  /** Releases all others. Listeners and connections keep what they use; workers must have been told of the new ones. */
  keepOnly(used: ReadonlySet<GatewayContext>): void {
    for (const [key, entry] of this.contexts) {
      if (used.has(entry)) continue;
      if (entry.context !== null) this.addon.releaseTlsContext(entry.context);
      this.contexts.delete(key);
    }
  }

  /** For the next handshakes of every worker. Open sessions go on; their tickets are good for one rotation more. */
  rotateTicketKeys(): void {
    const [current, , next] = [0, 1, 2].map((index) => this.ticketKeys.subarray(index * TICKET_KEY_BYTES, (index + 1) * TICKET_KEY_BYTES));
    const rotated = Buffer.concat([next!, current!, this.random(TICKET_KEY_BYTES)]);
    this.ticketKeys.fill(0);
    this.ticketKeys = rotated;
    this.drawnAt = performance.now();
    for (const { context } of this.contexts.values()) {
      if (context !== null) this.addon.setTicketKeys(context, rotated);
    }
  }

  /** Whole, or without those certificates that OpenSSL refuses: one bad Secret must not close the port for the others. */
  private build(spec: GatewayTlsSpec): GatewayContext {
    const whole = this.create(spec);
    if (typeof whole === 'number') return { context: whole, faults: [] };
    const faults: string[] = [];
    const good = spec.certificates.filter((certificate) => {
      const alone = this.create({ ...spec, certificates: [certificate] });
      if (typeof alone === 'number') {
        this.addon.releaseTlsContext(alone);
        return true;
      }
      faults.push(`the certificate for ${certificate.serverNames.join(', ') || 'every host'} can't be served: ${alone}`);
      return false;
    });
    const rest = good.length === 0 ? whole : this.create({ ...spec, certificates: good });
    return typeof rest === 'number' ? { context: rest, faults } : { context: null, faults: [...faults, rest] };
  }

  /** The handle, or what OpenSSL says. */
  private create({
    certificates,
    alpn,
    passthrough,
    clientTrust,
    clientFallback,
    clientOptional,
    clientAccepts,
  }: GatewayTlsSpec): number | string {
    try {
      return this.addon.createTlsContext({
        role: 'server',
        certificates,
        trust: clientTrust,
        alpn,
        passthrough,
        clientCertificates: clientTrust === null ? 'none' : clientFallback ? 'fallback' : clientOptional ? 'optional' : 'required',
        verifiesServer: true,
        accepts: clientAccepts,
        ticketKeys: this.ticketKeys,
      });
    } catch (error) {
      return (error as Error).message;
    }
  }
}
