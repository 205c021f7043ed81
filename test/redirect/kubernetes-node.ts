// One node of Kubernetes with a pod on it: the containers of deploy/kubernetes, a scripted controller that wants the pod captured, and whether it is.
// Owns what it starts; the order is the test's.
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { Workload } from '../../api/gen/mesh/v1/model.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import { type Container, Node, podOf } from './containers.js';
import { HOST, POD_A, REMOTE } from './lab.js';
import { workloadResource } from './mesh-proxy.js';
import { startSandbox } from './sandbox.js';
import { addressOf, Scene } from './scene.js';

const UID = '2c6b5d5e-8a3f-4c1e-9b1a-0123456789ab';
export const MESH = '/run/netns/weft-mesh';
const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const [agentPod, proxyPod, uninstallPod] = ['agent.yaml', 'proxy.yaml', 'uninstall.yaml'].map(podOf) as [
  ReturnType<typeof podOf>,
  ReturnType<typeof podOf>,
  ReturnType<typeof podOf>,
];

export class KubernetesNode {
  readonly scene: Scene;
  private node!: Node;
  private controller!: DiscoveryTestServer;
  private endSandbox: () => Promise<void> = () => Promise.resolve();
  private revision = 0;

  constructor(name: string) {
    this.scene = new Scene(name);
  }

  async up(): Promise<void> {
    const { scene } = this;
    await scene.up();
    this.endSandbox = await startSandbox(scene.lab, 'a', UID);
    const socket = `unix:${join(scene.lab.folder, 'controller.sock')}`;
    this.controller = await DiscoveryTestServer.start(socket);
    const values = { 'spec.nodeName': 'n1', 'status.hostIP': HOST.v4, HOST_IP: HOST.v4, WEFT_CONTROLLER: socket };
    this.node = await Node.start(scene.lab.folder, scene.lab.path('host'), values, join(dist, 'cli/main.js'));
  }

  async down(): Promise<void> {
    await this.node?.stop();
    this.controller?.stop();
    await this.endSandbox();
    await this.scene.down();
  }

  /** Where a path of the node is for this process. */
  path(path: string): string {
    return this.node.path(path);
  }

  /** What comes before each agent. */
  async mount(): Promise<void> {
    const mounts = this.node.start(agentPod, agentPod.initContainers![0]!);
    expect({ code: await mounts.exit, output: mounts.output }).toEqual({ code: 0, output: '' });
  }

  /** Resolves when it has captured the pod. `mode`: of --capture, where it is not the manifest's. */
  async startAgent(mode: string | null = null): Promise<Container> {
    const [spec] = agentPod.containers;
    const more = mode === null ? [] : [{ name: 'WEFT_CAPTURE', value: mode }];
    const started = this.node.start(agentPod, { ...spec!, env: [...(spec!.env ?? []), ...more] });
    const ended = started.exit.then((code) => {
      throw new Error(`the agent ended with ${code}: ${started.output}`);
    });
    ended.catch(() => undefined);
    const stream: ScriptedStream = await Promise.race([this.controller.nextStream(), ended]);
    await stream.next();
    const pod = Workload.fromPartial({
      ...this.scene.workload('a'),
      networkNamespace: '',
      podUid: UID,
      node: 'n1',
      addresses: [POD_A.v4, POD_A.v6],
    });
    const revision = ++this.revision;
    const token = { clusterId: 'c', compiler: 'k', revision };
    stream.send({ nonce: revision, revision, token, full: true, resources: [workloadResource(pod)] });
    await Promise.race([stream.next(), ended]);
    return started;
  }

  startProxy(): Container {
    return this.node.start(proxyPod, proxyPod.containers[0]!);
  }

  async uninstall(): Promise<void> {
    const uninstall = this.node.start(uninstallPod, uninstallPod.initContainers![0]!);
    expect({ code: await uninstall.exit, output: uninstall.output }).toMatchObject({ code: 0 });
  }

  /** Until a connection of the pod goes through a proxy: under the fallback from its first beat on. */
  async expectCaptured(container: Container): Promise<void> {
    await eventually(
      () => this.isCaptured(),
      Boolean,
      () => container.output,
    );
  }

  /** Whether another socket than the client's reached the server. Throws where none did. */
  isCaptured(): boolean {
    const { error, server, local } = this.scene.lab.connect('a', REMOTE.v4, 8080);
    expect(error).toBeNull();
    expect(addressOf(server?.peer ?? '')).toBe(POD_A.v4);
    return server?.peer !== local;
  }
}
