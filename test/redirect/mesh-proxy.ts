// The real `weft proxy` process (from dist) on the lab's host, with a scripted agent that gives it workloads and services. Ends with its test.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { encodeResource } from '../../api/compile/wire.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { Endpoint, Protocol, ResourceType, Service, type Workload } from '../../api/gen/mesh/v1/model.js';
import { type ProxyState, ProxyStatusClient } from '../../api/gen/mesh/v1/status.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import type { Lab } from './lab.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
export const NODE = 'n1';

export function workloadResource(workload: Workload): Resource {
  return encodeResource({ type: ResourceType.WORKLOAD, name: `${workload.namespace}/${workload.name}`, message: workload });
}

/** An opaque service of one endpoint. */
export function serviceResources(name: string, addresses: readonly string[], endpoint: { address: string; port: number }): Resource[] {
  const service = Service.fromPartial({
    namespace: 'shop',
    name,
    hostnames: [name, `${name}.shop`, `${name}.shop.svc`, `${name}.shop.svc.cluster.local`],
    addresses: [...addresses],
    ports: [{ name: 'p', port: 80, protocol: Protocol.TCP }],
  });
  const { address, port } = endpoint;
  const message = Endpoint.fromPartial({ service: `shop/${name}`, id: '1', address, ports: [{ name: 'p', port }] });
  return [
    encodeResource({ type: ResourceType.SERVICE, name: `shop/${name}`, message: service }),
    encodeResource({ type: ResourceType.ENDPOINT, name: `shop/${name}/1`, message }),
  ];
}

export class MeshProxy {
  private revision = 0;

  private constructor(
    readonly child: ChildProcess,
    private readonly runDir: string,
    private readonly agent: DiscoveryTestServer,
    private readonly stream: ScriptedStream,
  ) {}

  /** Serves these resources when it resolves. `name`: of its run directory. `confine`: what is put before its command. */
  static async start(
    lab: Lab,
    name: string,
    resources: readonly Resource[],
    confine: (command: readonly string[]) => readonly string[] = (command) => command,
  ): Promise<MeshProxy> {
    const runDir = join(lab.folder, name);
    mkdirSync(runDir, { recursive: true });
    const agent = await DiscoveryTestServer.start(`unix:${runDir}/agent.sock`);
    return MeshProxy.launch(lab, runDir, agent, 2, resources, confine).catch((error: Error) => {
      agent.stop();
      throw error;
    });
  }

  /** Takes this one's place, and serves when it resolves; this one drains. */
  async successor(lab: Lab, workers: number, resources: readonly Resource[]): Promise<MeshProxy> {
    const next = await MeshProxy.launch(lab, this.runDir, this.agent, workers, resources, (command) => command);
    // One that ends while it is asked gives no answer.
    const serving = () =>
      next.state().then(
        ({ pid }) => pid,
        () => null,
      );
    if ((await eventually(serving, (pid) => pid === next.child.pid)) !== next.child.pid)
      throw new Error('the successor does not take over');
    return next;
  }

  private static async launch(
    lab: Lab,
    runDir: string,
    agent: DiscoveryTestServer,
    workers: number,
    resources: readonly Resource[],
    confine: (command: readonly string[]) => readonly string[],
  ): Promise<MeshProxy> {
    const flags = ['--agent', agent.address, '--node', NODE, '--workers', String(workers), '--run-dir', runDir];
    const mesh = ['--mesh-netns', lab.meshNetns, '--bpf-dir', lab.bpfDir];
    const command = confine([process.execPath, join(dist, 'cli', 'main.js'), 'proxy', ...flags, ...mesh]);
    const child = spawn('nsenter', [`--net=${lab.path('host')}`, ...command], { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the proxy ended with ${code}: ${errors}`);
    });
    ended.catch(() => undefined);
    const stream = await Promise.race([agent.nextStream(), ended]);
    await stream.next();
    const proxy = new MeshProxy(child, runDir, agent, stream);
    await Promise.race([proxy.update(resources), ended]);
    return proxy;
  }

  /** Resolves when every connection from then on is decided by them. */
  async update(resources: readonly Resource[]): Promise<void> {
    const revision = ++this.revision;
    const token = { clusterId: 'c', compiler: 'k', revision };
    this.stream.send({ nonce: revision, revision, token, full: true, resources: [...resources] });
    await this.stream.next();
  }

  state(): Promise<ProxyState> {
    const client = new ProxyStatusClient(`unix:${this.runDir}/proxy.sock`, credentials.createInsecure());
    return new Promise<ProxyState>((resolve, reject) =>
      client.get({}, (error, answer) => (error === null ? resolve(answer) : reject(error))),
    ).finally(() => client.close());
  }

  async counter(name: string): Promise<number> {
    return (await this.state()).counters.find((counter) => counter.name === name)?.value ?? 0;
  }

  async exit(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, 'exit');
    return this.child.exitCode;
  }

  async kill(): Promise<void> {
    this.agent.stop();
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}
