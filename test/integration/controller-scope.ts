// What tests of one controller begin with.
import { beforeEach } from '@jest/globals';
import type { DeleteResponse, GetResponse, ListNodesResponse, WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { ask, startTestController, type TestController, TestNode, type TestNodeOptions, TestRegistration } from './controller-lab.js';

/** An etcd and a controller over it, new for each test, and what is opened at them: all closed behind it. */
export class ControllerScope {
  readonly closing = closesAfterEach();
  etcd!: TestEtcd;
  /** A test may put another one in its place, when it has stopped this. */
  one!: TestController;

  constructor() {
    beforeEach(async () => {
      const etcd = await startEtcd();
      this.etcd = etcd;
      this.closing.push(() => etcd.stop());
      this.one = await startTestController(etcd.endpoint);
      this.closing.push(() => this.one.stop());
    });
  }

  discover(at: TestController, node: string, options: TestNodeOptions = {}): TestNode {
    const stream = new TestNode(at.address, node, options);
    this.closing.push(() => stream.close());
    return stream;
  }

  register(at: TestController, node: string, workloads: readonly string[] = []): TestRegistration {
    const registration = new TestRegistration(at.address, node, workloads.map(running));
    this.closing.push(() => registration.close());
    return registration;
  }

  wait(at: TestController, revision: number, timeoutMs = 10_000): Promise<WaitResponse> {
    return ask((done) => at.admin.wait({ revision, timeoutMs }, done));
  }

  listNodes(at: TestController): Promise<ListNodesResponse> {
    return ask((done) => at.admin.listNodes({}, done));
  }

  /** In the namespace shop. */
  remove(kind: string, name: string): Promise<DeleteResponse> {
    return ask((done) => this.one.admin.delete({ objects: [{ kind, namespace: 'shop', name }], asOf: 0 }, done));
  }

  list(kind: string): Promise<GetResponse> {
    return ask((done) => this.one.admin.get({ kind, namespace: '', name: '' }, done));
  }

  /** The first calls come while etcd is being read. */
  async ready(at: TestController): Promise<void> {
    const node = new TestNode(at.address, 'probe');
    await node.until('the first model', () => node.responses.length > 0);
    node.close();
  }
}

/** Of a workload. */
export function running(name: string) {
  return { name, addresses: ['10.1.0.1'], health: EndpointHealth.READY };
}
