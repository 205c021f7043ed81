// Real streams over a real socket; the protocol's rules are subscription.test.ts.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, type ClientDuplexStream, credentials, Server, type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, expect, test } from '@jest/globals';
import pino from 'pino';
import {
  AggregatedDiscoveryServiceClient,
  AggregatedDiscoveryServiceService,
  type DiscoveryRequest,
  type DiscoveryResponse,
} from '../../api/gen/envoy/service/discovery/v3/discovery.js';
import { listenGrpc } from '../../api/grpc/listen.js';
import { Condition } from '../../test/lab/condition.js';
import type { Model } from '../model/model.js';
import { endpoint, modelOf, service } from '../proxy/testing/models.js';
import { AdsService } from './ads-service.js';
import { TYPE_URLS } from './resources.js';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(model: Model, maxStreams?: number): Promise<{ ads: AdsService; address: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'xds-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const ads = new AdsService({ model, log: pino({ level: 'silent' }), ...(maxStreams === undefined ? {} : { maxStreams }) });
  const server = new Server();
  server.addService(AggregatedDiscoveryServiceService, ads.implementation);
  cleanups.push(() => server.forceShutdown());
  return { ads, address: await listenGrpc(server, `unix:${join(folder, 'xds.sock')}`) };
}

class Stream extends Condition {
  readonly responses: DiscoveryResponse[] = [];
  code: status | null = null;
  readonly call: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse>;

  constructor(address: string) {
    super();
    const client = new AggregatedDiscoveryServiceClient(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
    this.call = client.streamAggregatedResources();
    this.call.on('data', (response: DiscoveryResponse) => {
      this.responses.push(response);
      this.changed();
    });
    this.call.on('error', ({ code }: ServiceError) => {
      this.code = code;
      this.changed();
    });
    cleanups.push(() => {
      this.call.cancel();
      client.close();
    });
  }

  ask(names: readonly string[], responseNonce = ''): void {
    const typeUrl = TYPE_URLS.endpoints;
    this.call.write({ versionInfo: '', node: undefined, resourceNames: [...names], typeUrl, responseNonce, errorDetail: undefined });
  }
}

test('streams beyond the bound are refused, and one that ends makes room', async () => {
  const { ads, address } = await serve(modelOf(service('a', '10.0.0.1')), 2);
  const [first, second] = [new Stream(address), new Stream(address)];
  first.ask(['shop/a:80']);
  second.ask(['shop/a:80']);
  await first.until('its response', () => first.responses.length === 1);
  await second.until('its response', () => second.responses.length === 1);
  const third = new Stream(address);
  await third.until('the refusal', () => third.code !== null);
  expect([third.code, ads.counters.refusedStreams]).toEqual([status.RESOURCE_EXHAUSTED, 1]);
  first.call.end();
  await new Promise((resolve) => first.call.on('status', resolve));
  const fourth = new Stream(address);
  fourth.ask(['shop/a:80']);
  await fourth.until('its response', () => fourth.responses.length === 1);
  expect(ads.state().clients).toHaveLength(2);
});

test('bytes that are no request end their stream and no other', async () => {
  const { ads, address } = await serve(modelOf(service('a', '10.0.0.1')));
  const good = new Stream(address);
  good.ask(['shop/a:80']);
  await good.until('its response', () => good.responses.length === 1);
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  cleanups.push(() => client.close());
  for (const bytes of ['ff', '0aff', '1a05414243', '12820a', '2a03ff']) {
    const { path } = AggregatedDiscoveryServiceService.streamAggregatedResources;
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(
      path,
      (each) => each,
      (each) => each,
    );
    const ended = new Promise<number>((resolve) => call.on('error', ({ code }: ServiceError) => resolve(code)).on('data', () => {}));
    call.write(Buffer.from(bytes, 'hex'));
    expect([status.INTERNAL, status.INVALID_ARGUMENT]).toContain(await ended);
  }
  good.ask(['shop/a:80', 'shop/b:80'], good.responses[0]?.nonce);
  expect(ads.state().clients.filter(({ subscriptions }) => subscriptions.length > 0)).toHaveLength(1);
});

test('who does not answer is sent one response, and then the newest, whatever lay between', async () => {
  const model = modelOf(service('a', '10.0.0.1'), endpoint('a', 'x', '10.1.0.1'));
  const { ads, address } = await serve(model);
  const stream = new Stream(address);
  stream.ask(['shop/a:80']);
  await stream.until('its response', () => stream.responses.length === 1);
  for (let revision = 2; revision <= 500; revision++) {
    const update = { full: false, resources: [endpoint('a', 'x', `10.1.${revision >> 8}.${revision & 255}`)], removed: [], revision };
    model.apply(update);
    ads.publish(update);
  }
  stream.ask(['shop/a:80'], stream.responses[0]?.nonce);
  await stream.until('the newest', () => stream.responses.length === 2);
  expect([stream.responses[1]?.versionInfo, ads.counters.responses]).toEqual(['500', 2]);
});
