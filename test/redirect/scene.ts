// One lab with its redirection and its proxy, and what is expected of a connection in it. Shared by the tests that run over every kind of
// capture; owns the capture and the proxy, starts nothing by itself.
import { basename } from 'node:path';
import { expect } from '@jest/globals';
import { Capture, type CaptureOptions } from '../../agent/capture/capture.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../api/host-port.js';
import { type Addresses, type ClientOptions, Lab, type LabProxy, type Pass, POD_A, POD_B, POD_C, REMOTE, type Shape } from './lab.js';

/** What the acceptance tests run over. WEFT_CAPTURE_KINDS chooses some of them. */
const ALL_KINDS = ['ebpf-tcx', 'ebpf-clsact'] as const;
export type Kind = (typeof ALL_KINDS)[number];
export const KINDS: readonly Kind[] = ALL_KINDS.filter((kind) => process.env.WEFT_CAPTURE_KINDS?.split(',').includes(kind) ?? true);

const silent = { info() {}, warn() {} };
export const log = process.env.WEFT_TEST_LOG === undefined ? silent : { info: console.error, warn: console.error };

/** The address without the port. */
export function addressOf(text: string): string {
  return text.slice(0, text.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

export function portOf(text: string): number {
  return Number(text.slice(text.lastIndexOf(':') + 1));
}

/** Who connects where, by the names of the lab's namespaces. */
export const PLACES: Readonly<Record<string, Addresses>> = { a: POD_A, b: POD_B, c: POD_C, remote: REMOTE };

/** One connection: what its client saw, and what the proxy. */
export interface Result {
  /** The client's address as the server sees it; empty: no server was reached. */
  readonly server: string;
  readonly local: string;
  readonly error: string | null;
  readonly connectMs: number;
  readonly passes: readonly Pass[];
}

export class Scene {
  readonly lab: Lab;
  capture!: Capture;
  proxy!: LabProxy;

  constructor(name: string, shape: Shape = 'routed') {
    this.lab = new Lab(`${name}-${process.pid}`, shape);
  }

  get location(): Pick<CaptureOptions, 'bpfDir' | 'meshNetns' | 'hostNetns'> {
    return { bpfDir: this.lab.bpfDir, meshNetns: this.lab.meshNetns, hostNetns: this.lab.path('host') };
  }

  /** Namespaces, links, and a server on port 8080 of each. */
  async up(): Promise<void> {
    this.lab.up();
    for (const name of ['a', 'b', 'c', 'remote']) await this.lab.serve(name, 8080);
  }

  async down(): Promise<void> {
    await this.capture?.close();
    await Capture.uninstall(this.location);
    await this.lab.down();
  }

  /** `probes`: cgroups of the host whose processes are. */
  async open(mode: CaptureOptions['mode'], options: { probes?: readonly string[]; holdMs?: number } = {}): Promise<Capture> {
    const { probes = [], ...rest } = options;
    const probesFrom = probes.map((path) => `/${basename(path)}`);
    this.capture = await Capture.open({ ...this.location, mode, heartbeatTimeoutMs: 1000, log, probesFrom, ...rest });
    return this.capture;
  }

  /** With the pods captured and a proxy that serves them. */
  async begin(mode: CaptureOptions['mode']): Promise<void> {
    await this.up();
    await this.open(mode);
    await this.capture.reconcile(this.enrolled());
    this.proxy = await this.lab.proxy();
  }

  workload(name: string, capture: Partial<CaptureSpec> = {}): Workload {
    const spec = CaptureSpec.fromPartial({ outbound: true, inbound: true, ...capture });
    return Workload.fromPartial({ namespace: 'shop', name, networkNamespace: this.lab.path(name), capture: spec });
  }

  /** Pods A and B. */
  enrolled(): Workload[] {
    return [this.workload('a'), this.workload('b')];
  }

  connect(from: string, to: string, port = 8080, options: ClientOptions = {}): Result {
    const before = this.proxy.passes().length;
    const { server, local, error, connectMs } = this.lab.connect(from, to, port, 4, options);
    return { server: server === null ? '' : addressOf(server.peer), local, error, connectMs, passes: this.proxy.passes().slice(before) };
  }

  /** Through the proxy exactly once, with the original destination; the server sees `seenAs`, and the proxy as its source too unless `source` says another. */
  expectOnePass(
    from: string,
    seenAs: string,
    to: string,
    port: number,
    direction: Pass['direction'],
    expected: { destination?: string; source?: string; options?: ClientOptions } = {},
  ): void {
    const before = this.bypasses();
    const result = this.connect(from, to, port, expected.options);
    // Where there is none, this shows why: how the workloads stood, and what was counted.
    const workloads = this.capture.state().workloads.map(({ workload, state, detail }) => `${workload} ${state} ${detail}`);
    expect({ result, passes: result.passes.length, bypasses: this.bypasses(), workloads }).toMatchObject({
      result: { error: null, server: seenAs },
      passes: 1,
      bypasses: before,
    });
    const [pass] = result.passes;
    expect(pass).toMatchObject({
      direction,
      destination: expected.destination ?? hostPort(to, port),
      mark: direction === 'outbound' ? 1 : 2,
    });
    if (expected.source === undefined) expect(pass?.source).toBe(result.local);
    else expect(addressOf(pass?.source ?? '')).toBe(expected.source);
  }

  expectDirect(from: string, seenAs: string, to: string, port = 8080, options: ClientOptions = {}): void {
    expect(this.connect(from, to, port, options)).toMatchObject({ error: null, server: seenAs, passes: [] });
  }

  /** Over all programs and workloads. */
  counter(name: string): number {
    return this.capture.state().counters.find((counter) => counter.name === name)?.value ?? 0;
  }

  workloadCounter(workload: string, name: string): number {
    const counters = this.capture.state().workloads.find((state) => state.workload === `shop/${workload}`)?.counters ?? [];
    return counters.find((counter) => counter.name === name)?.value ?? 0;
  }

  async changed(isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      await new Promise<void>((resolve) => {
        const unsubscribe = this.capture.onChange(() => {
          unsubscribe();
          resolve();
        });
      });
    }
  }

  /** Why connections went direct, so that a failure names its cause. */
  private bypasses(): unknown {
    // Not dropped_no_workload: the last packets of a connection may come after its workload was taken off the list.
    return this.capture
      .state()
      .counters.filter(({ name }) => /[.](bypass|refused|held|assign_failed|dropped_(foreign|unparsed))/.test(name));
  }
}
