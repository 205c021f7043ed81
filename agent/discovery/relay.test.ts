// The relay over a real gRPC stream on a unix socket, and the catalog behind it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClientDuplexStream, credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import pino from 'pino';
import { type DiscoveryRequest, type DiscoveryResponse, DiscoveryClient as DiscoveryStub } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { EncodedDiscoveryService } from '../../api/grpc/encoded-discovery.js';
import { Catalog } from './catalog.js';
import { Relay } from './relay.js';
import { SnapshotStore } from './snapshot-store.js';

const token = (revision: number, clusterId = 'c') => ({ clusterId, compiler: 'k', revision });
const resource = (name: string, body = name) => ({ type: ResourceType.SERVICE, name, body: Buffer.from(body) });
const none: ReadonlySet<string> = new Set();

function apply(catalog: Catalog, revision: number, names: readonly string[], full = false, removed: readonly string[] = []): void {
  const removedNames = removed.map((name) => ({ type: ResourceType.SERVICE, name }));
  catalog.apply({ revision, token: token(revision), full, resources: names.map((name) => resource(name)), removed: removedNames }, none);
}

describe('Catalog', () => {
  test('a delta sums up what changed since, and a removed name that came back is no removal', () => {
    const catalog = new Catalog();
    apply(catalog, 1, ['a', 'b'], true);
    apply(catalog, 2, ['c'], false, ['a']);
    apply(catalog, 3, ['a'], false, ['b']);
    const delta = catalog.since(token(1));
    expect(delta?.resources.map(({ name }) => name).sort()).toEqual(['a', 'c']);
    expect(delta?.removed.map(({ name }) => name)).toEqual(['b']);
    expect(catalog.since(token(3))).toEqual({ resources: [], removed: [] });
  });

  test('gives no delta to another cluster, to a newer reader, or to one from before the last snapshot', () => {
    const catalog = new Catalog();
    apply(catalog, 5, ['a'], true);
    expect(catalog.since(token(5, 'other'))).toBeNull();
    expect(catalog.since(token(6))).toBeNull();
    expect(catalog.since(token(4))).toBeNull();
  });

  test('a node that is told of more or less goes on by deltas, also at one revision; a reader that was told of other things then gets all', () => {
    const catalog = new Catalog();
    const tell = (revision: number, compiler: string, names: readonly string[], removed: readonly string[], full = false): void =>
      catalog.apply(
        {
          revision,
          token: { ...token(revision), compiler },
          full,
          resources: names.map((name) => resource(name)),
          removed: removed.map((name) => ({ type: ResourceType.SERVICE, name })),
        },
        none,
      );
    tell(1, 'k.a', ['a'], [], true);
    tell(3, 'k.b', ['b'], []);
    tell(3, 'k.c', ['c'], ['a']);
    const names = (revision: number, compiler: string) => {
      const delta = catalog.since({ ...token(revision), compiler });
      return delta === null ? null : [delta.resources.map(({ name }) => name), delta.removed.map(({ name }) => name)];
    };
    expect(names(1, 'k.a')).toEqual([['b', 'c'], ['a']]);
    // Told by an agent that went before, of a revision that this one never saw.
    expect(names(2, 'k.a')).toEqual([['b', 'c'], ['a']]);
    expect(names(3, 'k.b')).toEqual([['c'], ['a']]);
    expect(names(3, 'k.c')).toEqual([[], []]);
    expect(names(2, 'k.b')).toBeNull();
    expect(names(3, 'k.a')).toBeNull();
  });

  test('keeps the last good version of what is withheld', () => {
    const catalog = new Catalog();
    apply(catalog, 1, ['a'], true);
    const update = { revision: 2, token: token(2), full: true, resources: [resource('a', 'bad')], removed: [] };
    catalog.apply(update, new Set([`${ResourceType.SERVICE}/a`]));
    expect([...catalog.resources()].map(({ body }) => body.toString())).toEqual(['a']);
  });
});

describe('SnapshotStore', () => {
  test('a snapshot without what was refused has everything asked for again, a whole one does not', async () => {
    const stateDir = mkdtempSync(join(tmpdir(), 'wag-snapshot-'));
    const store = new SnapshotStore({ stateDir, node: 'n', log: pino({ level: 'silent' }) });
    const catalog = new Catalog();
    const stored = async () => {
      store.schedule(catalog);
      await store.flush();
      return (await store.load())?.token;
    };
    catalog.apply(
      { revision: 1, token: token(1), full: true, resources: [resource('a')], removed: [] },
      new Set([`${ResourceType.SERVICE}/a`]),
    );
    expect(await stored()).toEqual({ ...token(1), compiler: '' });
    apply(catalog, 2, ['a']);
    expect(await stored()).toEqual(token(2));
    rmSync(stateDir, { recursive: true });
  });
});

describe('Relay', () => {
  const cleanups: (() => unknown)[] = [];
  const catalog = new Catalog();
  let relay: Relay;
  let address = '';
  let timesCurrent = 0;
  beforeEach(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'wag-relay-'));
    timesCurrent = 0;
    relay = new Relay({ catalog, log: pino({ level: 'silent' }), ackTimeoutMs: 30, onCurrent: () => timesCurrent++ });
    const server = new Server();
    server.addService(EncodedDiscoveryService, relay.implementation);
    address = `unix:${join(folder, 's')}`;
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    });
    cleanups.push(() => {
      relay.close();
      server.forceShutdown();
      rmSync(folder, { recursive: true, force: true });
    });
  });
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  function subscribe(): { call: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse>; next: () => Promise<DiscoveryResponse> } {
    const client = new DiscoveryStub(address, credentials.createInsecure());
    cleanups.push(() => client.close());
    const call = client.stream();
    call.on('error', () => {});
    call.write({ request: { $case: 'subscribe', value: { node: 'p', version: 't', resume: undefined, protocol: 0, packed: false } } });
    const chunks = call[Symbol.asyncIterator]() as AsyncIterator<DiscoveryResponse>;
    return { call, next: async () => (await chunks.next()).value as DiscoveryResponse };
  }
  const ack = (call: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse>, { nonce, revision }: DiscoveryResponse): void => {
    call.write({ request: { $case: 'ack', value: { nonce, revision, rejected: [] } } });
  };

  test('a reader that does not ack is waited for once, skips revisions, and counts again when it acks', async () => {
    apply(catalog, 1, ['a'], true);
    const { call, next } = subscribe();
    const first = await next();
    apply(catalog, 2, ['b']);
    relay.publish();
    expect((await relay.acked(2)).map(({ name }) => name)).toEqual(['proxy']);
    expect(relay.isStalled).toBe(true);
    apply(catalog, 3, ['c']);
    relay.publish();
    // Not waited for: well within the time-out of 30 ms this settles in the same turn.
    expect((await relay.acked(3))[0]?.error).toContain('did not ack revision 3');
    ack(call, first);
    const second = await next();
    expect(second).toMatchObject({ revision: 3, full: false });
    expect(second.resources.map(({ name }) => name)).toEqual(['b', 'c']);
    ack(call, second);
    apply(catalog, 4, ['d']);
    const third = next();
    relay.publish();
    ack(call, await third);
    expect(relay.isStalled).toBe(false);
  });

  test('a large snapshot comes in chunks of one revision', async () => {
    const names = Array.from({ length: 5_201 }, (_, i) => `s${i}`);
    apply(catalog, 10, names, true);
    const { next } = subscribe();
    const chunks = [await next(), await next()];
    expect(chunks.map(({ more, full, revision, resources }) => [more, full, revision, resources.length])).toEqual([
      [true, true, 10, 5_000],
      [false, true, 10, 201],
    ]);
  });

  test('large resources are spread over messages that gRPC takes', async () => {
    const resources = Array.from({ length: 5 }, (_, i) => resource(`big${i}`, 'x'.repeat(900_000)));
    catalog.apply({ revision: 20, token: token(20), full: true, resources, removed: [] }, new Set());
    const { next } = subscribe();
    const chunks = [];
    do chunks.push(await next());
    while (chunks.at(-1)?.more);
    expect(chunks.map(({ resources: part }) => part.length)).toEqual([1, 1, 1, 1, 1]);
  });

  test('after the store was replaced a lower revision is waited for like any other', async () => {
    apply(catalog, 500, ['a'], true);
    const { call, next } = subscribe();
    ack(call, await next());
    expect(await relay.acked(500)).toEqual([]);
    apply(catalog, 3, ['b'], true);
    relay.publish();
    expect((await relay.acked(3)).map(({ name }) => name)).toEqual(['proxy']);
  });

  test('a proxy is current when it has acked the present revision, not an older one', async () => {
    apply(catalog, 600, ['a'], true);
    const { call, next } = subscribe();
    const first = await next();
    apply(catalog, 601, ['b']);
    relay.publish();
    ack(call, first);
    const second = await next();
    expect(timesCurrent).toBe(0);
    ack(call, second);
    expect(await relay.acked(601)).toEqual([]);
    expect(timesCurrent).toBe(1);
  });

  test('with no reader an ack is not waited for', async () => {
    expect(await relay.acked(99)).toEqual([]);
  });
});
