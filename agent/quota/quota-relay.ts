// Passes on what the node's proxies say of shares of rate limits to the controller that coordinates, and its answers to them: each proxy's stream
// is a stream of its own there. Knows neither limits nor shares; without a controller proxies go on with what they have.
import type { ServerDuplexStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type LeaseRequest, type LeaseResponse, QuotasClient } from '../../api/gen/mesh/v1/quota.js';
import { Link, type LinkSecurity, type LinkSession } from '../link/link.js';

type ProxyStream = ServerDuplexStream<LeaseRequest, LeaseResponse>;
type ControllerLink = Link<QuotasClient, LeaseRequest, LeaseResponse>;

/** A proxy and its successor during an upgrade, and room for a mistake. */
const MAX_STREAMS = 8;

export interface QuotaRelayOptions {
  readonly addresses: readonly string[];
  readonly node: string;
  /** None: plaintext. */
  readonly security?: LinkSecurity | undefined;
  readonly log: Logger;
}

export class QuotaRelay {
  private readonly links = new Map<ProxyStream, ControllerLink>();

  constructor(private readonly options: QuotaRelayOptions) {}

  get implementation(): UntypedServiceImplementation {
    return { lease: (call: ProxyStream) => this.accept(call) };
  }

  async close(): Promise<void> {
    const links = [...this.links.values()];
    for (const call of this.links.keys()) call.end();
    this.links.clear();
    await Promise.all(links.map((link) => link.stop()));
  }

  private accept(call: ProxyStream): void {
    // An error event is followed by 'cancelled' or 'end', which do the work.
    call.on('error', () => {});
    if (this.links.size >= MAX_STREAMS) {
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${MAX_STREAMS} proxies on one agent` });
      return;
    }
    let open: LinkSession<LeaseRequest, LeaseResponse>['call'] | null = null;
    const link: ControllerLink = new Link({
      name: 'controller quotas',
      addresses: this.options.addresses,
      hint: 'check that a controller runs there; rate limits of the mesh are held by the shares that this node has',
      connect: (address, credentials, channel) => new QuotasClient(address, credentials, channel),
      open: (client) => client.lease(),
      session: async ({ call: stream, signal }) => {
        open = stream;
        stream.on('data', (response: LeaseResponse) => call.write(response));
        if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
        open = null;
      },
      // Whoever coordinates is rarely the first address.
      returns: false,
      security: this.options.security,
      log: this.options.log,
    });
    this.links.set(call, link);
    const leave = (): void => {
      if (this.links.delete(call)) void link.stop();
    };
    call.on('data', (request: LeaseRequest) => {
      // What can't be sent now is not sent later: the next report says all of it again.
      if (open !== null && !open.writableNeedDrain) open.write({ ...request, node: this.options.node });
    });
    call.on('end', () => {
      leave();
      call.end();
    });
    call.on('cancelled', leave);
    link.start();
  }
}
