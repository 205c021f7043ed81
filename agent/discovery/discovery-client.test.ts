// DiscoveryClient against a real gRPC server over loopback.
import { Metadata } from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from '@jest/globals';
import pino from 'pino';
import type { Rejection } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { DiscoveryTestServer } from '../../test/lab/discovery-server.js';
import type { LinkState } from '../link/link.js';
import { DiscoveryClient, type DiscoveryUpdate } from './discovery-client.js';

const log = pino({ level: 'silent' });
const token = (revision: number) => ({ clusterId: 'c', compiler: 'k', revision });
const resource = (name: string) => ({ type: ResourceType.SERVICE, name, body: Buffer.from(name) });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(address?: string): Promise<DiscoveryTestServer> {
  const server = await DiscoveryTestServer.start(address);
  cleanups.push(() => server.stop());
  return server;
}

class Recorder {
  readonly updates: DiscoveryUpdate[] = [];
  readonly states: [LinkState, string][] = [];
  readonly client: DiscoveryClient;
  answer: (update: DiscoveryUpdate) => Promise<readonly Rejection[]> = () => Promise.resolve([]);
  #changed: (() => void)[] = [];

  constructor(addresses: string[], resume: ReturnType<typeof token> | null = null) {
    this.client = new DiscoveryClient({
      addresses,
      node: 'n1',
      version: 'test',
      resume,
      onUpdate: (update) => {
        this.updates.push(update);
        const answer = this.answer(update);
        this.#wake();
        return answer;
      },
      onState: (state, detail) => {
        this.states.push([state, detail]);
        this.#wake();
      },
      log,
    });
    cleanups.push(() => this.client.stop());
    this.client.start();
  }

  /** The detail of the first time the client was in `state`. */
  async until(state: LinkState): Promise<string> {
    await this.holds(() => this.states.some(([s]) => s === state));
    return this.states.find(([s]) => s === state)?.[1] ?? '';
  }

  /** Until the condition is true, looking again at every update and state. */
  async holds(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

describe('DiscoveryClient', () => {
  test('gathers the chunks of a revision, applies them together and acks the last nonce', async () => {
    const server = await serve();
    const { updates } = new Recorder([server.address]);
    const stream = await server.nextStream();
    expect(await stream.next()).toEqual({
      request: { $case: 'subscribe', value: { node: 'n1', version: 'test', resume: undefined, protocol: PROTOCOL, packed: true } },
    });
    stream.send({ nonce: 1, revision: 5, full: true, more: true, resources: [resource('a')] });
    stream.send({ nonce: 2, revision: 5, full: true, token: token(5), resources: [resource('b')] });
    expect(await stream.next()).toEqual({ request: { $case: 'ack', value: { nonce: 2, revision: 5, rejected: [] } } });
    expect(updates.map((u) => [u.revision, u.full, u.resources.map((r) => r.name)])).toEqual([[5, true, ['a', 'b']]]);
  });

  test('sends rejections with the ack, and applies strictly one revision after the other', async () => {
    const server = await serve();
    const recorder = new Recorder([server.address]);
    let release: (rejections: Rejection[]) => void = () => {};
    recorder.answer = () => new Promise((resolve) => (release = resolve));
    const stream = await server.nextStream();
    await stream.next();
    stream.send({ nonce: 1, revision: 5, full: true, token: token(5) });
    stream.send({ nonce: 2, revision: 6, token: token(6), removed: [{ type: ResourceType.SERVICE, name: 'a' }] });
    await recorder.holds(() => recorder.updates.length > 0);
    await recorder.until('connected');
    expect(recorder.updates.map((u) => u.revision)).toEqual([5]);
    recorder.answer = () => Promise.resolve([]);
    const rejected = [{ type: ResourceType.SERVICE, name: 'a', error: 'no' }];
    release(rejected);
    expect(await stream.next()).toEqual({ request: { $case: 'ack', value: { nonce: 1, revision: 5, rejected } } });
    expect(await stream.next()).toEqual({ request: { $case: 'ack', value: { nonce: 2, revision: 6, rejected: [] } } });
    expect(recorder.updates[1]?.removed).toEqual([{ type: ResourceType.SERVICE, name: 'a' }]);
  });

  test('after a lost server it goes to the other one and resumes with the last applied token', async () => {
    const servers = [await serve(), await serve()];
    const recorder = new Recorder(servers.map((s) => s.address));
    const first = await Promise.race(servers.map(async (server) => ({ server, stream: await server.nextStream() })));
    await first.stream.next();
    first.stream.send({ nonce: 1, revision: 7, full: true, token: token(7) });
    await first.stream.next();
    first.server.stop();
    await recorder.until('lost');
    const other = servers.find((s) => s !== first.server) as DiscoveryTestServer;
    await recorder.holds(() => recorder.states.filter(([state]) => state === 'connected').length === 2);
    expect(recorder.client.address).toBe(other.address);
    expect(recorder.client.token).toEqual(token(7));
  });

  test('resumes with the token it was given', async () => {
    const server = await serve();
    new Recorder([server.address], token(41));
    const stream = await server.nextStream();
    expect((await stream.next()).request).toMatchObject({ $case: 'subscribe', value: { resume: token(41) } });
  });

  test('a throw while applying drops the stream and asks for everything again', async () => {
    const server = await serve();
    const recorder = new Recorder([server.address], token(3));
    recorder.answer = () => Promise.reject(new Error('broken'));
    const stream = await server.nextStream();
    await stream.next();
    stream.send({ nonce: 1, revision: 4, token: token(4) });
    const again = await server.nextStream();
    expect((await again.next()).request).toMatchObject({ $case: 'subscribe', value: { resume: undefined } });
    expect(await recorder.until('lost')).toBe('broken');
  });

  test('a delta before any snapshot is refused as a violation', async () => {
    const server = await serve();
    const recorder = new Recorder([server.address]);
    const stream = await server.nextStream();
    await stream.next();
    stream.send({ nonce: 1, revision: 4, token: token(4) });
    expect(await recorder.until('lost')).toContain('protocol violation');
    expect(recorder.updates).toEqual([]);
  });

  test('a server that is not there yet is found once it is, and the reason names what was refused', async () => {
    const address = `unix:/tmp/wag-${process.pid}-late.sock`;
    const recorder = new Recorder([address]);
    expect(await recorder.until('lost')).toMatch(/UNAVAILABLE/);
    const server = await serve(address);
    const stream = await server.nextStream();
    await stream.next();
    stream.call.sendMetadata(new Metadata());
    await recorder.until('connected');
    expect(recorder.client.error).toBe('');
  });

  test('a stream that is taken away as soon as it is served is asked for ever more slowly', async () => {
    const server = await serve();
    const { client } = new Recorder([server.address]);
    const openedAtMs: number[] = [];
    for (let i = 0; i < 6; i++) {
      const stream = await server.nextStream();
      openedAtMs.push(performance.now());
      await stream.next();
      stream.send({ nonce: 1, revision: i + 1, token: token(i + 1), full: true });
      await stream.next();
      stream.call.emit('error', { code: 10, details: 'a second agent' });
    }
    // With a fresh backoff each time: 50 to 100 ms.
    expect((openedAtMs[5] ?? 0) - (openedAtMs[4] ?? 0)).toBeGreaterThan(500);
    await client.stop();
  });

  test('what is refused still is told with every ack, to the peer of a later stream too', async () => {
    const server = await serve();
    const recorder = new Recorder([server.address]);
    const bad = { type: ResourceType.SERVICE, name: 'a', error: 'bad' };
    recorder.answer = ({ resources }) => Promise.resolve(resources.some(({ name }) => name === 'a') ? [bad] : []);
    const first = await server.nextStream();
    await first.next();
    first.send({ nonce: 1, revision: 1, token: token(1), full: true, resources: [resource('a'), resource('b')] });
    expect(await first.next()).toMatchObject({ request: { value: { rejected: [bad] } } });
    first.call.emit('error', { code: 14, details: 'gone' });
    const second = await server.nextStream();
    await second.next();
    second.send({ nonce: 1, revision: 2, token: token(2), resources: [resource('c')] });
    expect(await second.next()).toMatchObject({ request: { value: { rejected: [bad] } } });
    second.send({ nonce: 2, revision: 3, token: token(3), removed: [{ type: ResourceType.SERVICE, name: 'a' }] });
    expect(await second.next()).toMatchObject({ request: { value: { rejected: [] } } });
  });

  test('an idle stream on a ready connection counts as connected', async () => {
    const server = await serve();
    const recorder = new Recorder([server.address], token(1));
    expect(await recorder.until('connected')).toBe(server.address);
  });
});
