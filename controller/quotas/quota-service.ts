// Quotas.Lease: the streams by which nodes lease shares of the limits that all keep together. One elected replica answers; the others end each
// stream, so that its node asks the next replica. Owns streams and terms; who gets what is the ledger's.
import { type handleBidiStreamingCall, type ServerDuplexStream, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { nodeNameFault } from '../../api/access/names.js';
import type { LeaseRequest, LeaseResponse } from '../../api/gen/mesh/v1/quota.js';
import { principalOf, refusalAsNode } from '../access/principal.js';
import type { Clock } from '../clock.js';
import { Election, type ElectionParts, type Term } from '../store/election.js';
import { QuotaLedger } from './quota-ledger.js';

type LeaseCall = ServerDuplexStream<LeaseRequest, LeaseResponse>;

export interface QuotaParts extends Omit<ElectionParts, 'name' | 'random' | 'observe' | 'clock'> {
  readonly clock: Clock;
  /** How long what a silent node holds is kept for it. */
  readonly graceMs: number;
  readonly log: Logger;
}

/** Bounds what one request makes a controller do. */
const MAX_KEYS = 65_536;
const MAX_NAME = 1_024;

export class QuotaService {
  private readonly election: Election;
  private readonly calls = new Set<LeaseCall>();
  private ledger: QuotaLedger | null = null;

  constructor(private readonly parts: QuotaParts) {
    const { log } = parts;
    this.election = new Election({
      ...parts,
      name: 'quotas',
      random: Math.random,
      observe: {
        elected: () => log.info('this replica shares out the rate limits of the mesh'),
        over: (reason) => {
          if (reason !== null)
            log.warn({ reason }, 'this replica no longer shares out the rate limits of the mesh; one will be elected again');
        },
      },
    });
    this.election.start((term) => this.lead(term));
  }

  readonly lease: handleBidiStreamingCall<LeaseRequest, LeaseResponse> = (call) => {
    const { ledger } = this;
    if (ledger === null) {
      call.on('error', () => {});
      fail(call, status.UNAVAILABLE, 'another replica shares out rate limits: ask that one');
      return;
    }
    this.calls.add(call);
    let holder: string | null = null;
    const close = (): void => {
      if (!this.calls.delete(call)) return;
      if (holder !== null) ledger.left(holder);
    };
    call.on('data', (request: LeaseRequest) => {
      const mistake = mistakeIn(request) ?? (holder !== null && holder !== nameOf(request) ? 'a stream is of one holder' : null);
      if (mistake !== null) return fail(call, status.INVALID_ARGUMENT, mistake);
      const refused = refusalAsNode(principalOf(call), request.node);
      if (refused !== null) return fail(call, status.PERMISSION_DENIED, refused);
      holder = nameOf(request);
      // A reader that takes nothing goes on with what it has: its next report is answered.
      if (this.calls.has(call) && call.writableLength === 0) call.write(ledger.report(holder, request));
    });
    call.on('end', () => {
      close();
      call.end();
    });
    for (const event of ['error', 'cancelled', 'close']) call.on(event, close);
  };

  async stop(): Promise<void> {
    await this.election.stop();
  }

  /** Until the term is over. */
  private lead({ signal }: Term): Promise<void> {
    const { clock, graceMs } = this.parts;
    this.ledger = new QuotaLedger({ now: clock.now, graceMs });
    return new Promise((resolve) => {
      const end = (): void => {
        this.ledger = null;
        for (const call of [...this.calls]) fail(call, status.UNAVAILABLE, 'another replica shares out rate limits from now on');
        this.calls.clear();
        resolve();
      };
      if (signal.aborted) end();
      else signal.addEventListener('abort', end, { once: true });
    });
  }
}

function nameOf({ node, holder }: LeaseRequest): string {
  return `${node}/${holder}`;
}

function mistakeIn({ node, holder, limits }: LeaseRequest): string | null {
  const misnamed = nodeNameFault(node);
  if (misnamed !== null) return misnamed;
  if (holder === '' || holder.length > MAX_NAME) return 'expected the name of a holder';
  const keys = limits.reduce((sum, limit) => sum + limit.keys.length, 0);
  if (keys > MAX_KEYS) return `${keys} keys of one holder, at most ${MAX_KEYS}`;
  return limits.some(({ limit }) => limit === '' || limit.length > MAX_NAME) ? 'expected the name of a limit' : null;
}

function fail(call: LeaseCall, code: status, details: string): void {
  call.emit('error', { code, details });
}
