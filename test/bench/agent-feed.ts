// What a node's agent is to its proxy, for a benchmark: a discovery stream on a unix socket that carries one generation of the
// configuration after the other. All are compiled and encoded before: what is measured shares the machine with this process.
import { join } from 'node:path';
import { compileModel } from '../../api/compile/index.js';
import { encodeResource } from '../../api/compile/wire.js';
import { DiscoveryResponse, type Resource, type ResourceName } from '../../api/gen/mesh/v1/discovery.js';
import { EncodedDiscoveryService } from '../../api/grpc/encoded-discovery.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { formatFinding, parseManifests } from '../../api/resources/index.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';
import type { ProxySetup } from './http1-proxies.js';
import { yaml } from './manifests.js';

/** A node's whole configuration as manifests; `generation` from 0, any number of them. */
export type Manifests = (port: number, firstBackend: number, generation: number) => object[];

export class AgentFeed {
  /** Encoded: resources and what is removed. From generation i to i + 1, the last one to generation 0. */
  private deltas: Uint8Array[] = [];
  private stream: ScriptedStream | null = null;
  private subscribed: Promise<void> = Promise.resolve();
  private revision = 0;
  private timer: NodeJS.Timeout | undefined;

  private constructor(
    private readonly server: DiscoveryTestServer,
    private readonly configuration: Manifests,
    private readonly generations: number,
  ) {}

  static async start(folder: string, configuration: Manifests, generations: number): Promise<AgentFeed> {
    const address = `unix:${join(folder, 'agent.sock')}`;
    return new AgentFeed(await DiscoveryTestServer.start(address, EncodedDiscoveryService), configuration, generations);
  }

  /** Our proxy with one worker, configured by this feed. `flags`: of Node's. */
  proxy(main: string, nodeFlags: readonly string[] = []): ProxySetup {
    return {
      name: 'weft',
      command: (folder, port, firstBackend) => {
        this.offer(port, firstBackend);
        const flags = ['--node', 'bench', '--workers', '1', '--shutdown-timeout', '100', '--log-level', 'warn'];
        return [process.execPath, ...nodeFlags, main, 'proxy', '--agent', this.server.address, '--run-dir', folder, ...flags];
      },
      worker: (pid) => pid,
    };
  }

  /** Sends the next generation at once and then every `everyMs`, until stopUpdates(). */
  startUpdates(everyMs: number): void {
    this.sendNext();
    this.timer = setInterval(() => this.sendNext(), everyMs);
  }

  stopUpdates(): void {
    clearInterval(this.timer);
  }

  stop(): void {
    this.stopUpdates();
    this.server.stop();
  }

  /** Resolves when the proxy decides by the first generation. */
  async connected(): Promise<void> {
    await this.subscribed;
    await this.acked();
  }

  /** Sends the next generation. Resolves when the proxy decides by it. */
  async apply(): Promise<void> {
    this.sendNext();
    await this.acked();
  }

  private async acked(): Promise<void> {
    for (;;) {
      const request = (await this.stream?.next())?.request;
      if (request?.$case !== 'ack' || request.value.revision < this.revision) continue;
      if (request.value.rejected.length > 0) throw new Error(`the proxy refuses ${JSON.stringify(request.value.rejected[0])}`);
      return;
    }
  }

  private offer(port: number, firstBackend: number): void {
    const all = Array.from({ length: this.generations }, (_, i) => compiled(this.configuration(port, firstBackend, i)));
    const first = encoded({ resources: all[0]! });
    this.deltas = all.map((from, i) => encoded(deltaOf(from, all[(i + 1) % all.length]!)));
    this.subscribed = this.server.nextStream().then((stream) => {
      this.stream = stream;
      this.send(first, true);
    });
  }

  private sendNext(): void {
    this.send(this.deltas[(this.revision - 1) % this.deltas.length]!, false);
  }

  private send(content: Uint8Array, full: boolean): void {
    if (this.stream === null) throw new Error('the proxy has not asked for its configuration yet');
    this.revision++;
    const revision = this.revision;
    const token = { clusterId: 'bench', compiler: 'bench', revision };
    // Fields may come in pieces.
    this.stream.sendEncoded(Buffer.concat([encoded({ nonce: revision, revision, token, full, protocol: PROTOCOL }), content]));
  }
}

function encoded(part: Partial<DiscoveryResponse>): Uint8Array {
  return DiscoveryResponse.encode(DiscoveryResponse.create(part)).finish();
}

function compiled(manifests: object[]): Resource[] {
  const parsed = parseManifests([{ name: 'bench.yaml', content: yaml(manifests) }]);
  if (parsed.findings.length > 0) throw new Error(parsed.findings.map(formatFinding).join('\n'));
  const objects = parsed.objects.map((object) => ({ ...object, createdAtMs: 0 }));
  return compileModel({ objects, running: null, nowMs: 0 }).resources.map(encodeResource);
}

function deltaOf(from: readonly Resource[], to: readonly Resource[]): { resources: Resource[]; removed: ResourceName[] } {
  const key = ({ type, name }: ResourceName): string => `${type} ${name}`;
  const had = new Map(from.map((resource) => [key(resource), Buffer.from(resource.body)]));
  const has = new Set(to.map(key));
  return {
    resources: to.filter((resource) => had.get(key(resource))?.equals(resource.body) !== true),
    removed: from.filter((resource) => !has.has(key(resource))).map(({ type, name }) => ({ type, name })),
  };
}
