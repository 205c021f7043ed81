import { afterEach, expect, test } from '@jest/globals';
import { MetricsServer } from './metrics-server.js';

const servers: MetricsServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serving(parts: { metrics?: () => Promise<string>; unready?: () => string | null; port?: number }): Promise<MetricsServer> {
  const [metrics, unready] = [parts.metrics ?? (() => Promise.resolve('weft_up 1\n')), parts.unready ?? (() => null)];
  const server = await MetricsServer.listen({ host: '127.0.0.1', port: parts.port ?? 0, metrics, unready });
  servers.push(server);
  return server;
}

async function page(server: MetricsServer, path: string, method = 'GET'): Promise<[number, string]> {
  const response = await fetch(`http://${server.address}${path}`, { method });
  return [response.status, await response.text()];
}

test('metrics in the Prometheus format, with a query or without; HEAD has no body', async () => {
  const server = await serving({});
  expect(await page(server, '/metrics')).toEqual([200, 'weft_up 1\n']);
  expect(await page(server, '/metrics?x=1')).toEqual([200, 'weft_up 1\n']);
  expect(await page(server, '/metrics', 'HEAD')).toEqual([200, '']);
  const { headers } = await fetch(`http://${server.address}/metrics`);
  expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
});

test('it lives before it is ready, and says what is missing until then', async () => {
  let missing: string | null = 'the store is being read';
  const server = await serving({ unready: () => missing });
  expect(await page(server, '/healthz')).toEqual([200, 'ok\n']);
  expect(await page(server, '/readyz')).toEqual([503, 'the store is being read\n']);
  missing = null;
  expect(await page(server, '/readyz')).toEqual([200, 'ok\n']);
});

test('other paths and methods are refused; metrics that fail are 500 with the reason', async () => {
  const server = await serving({ metrics: () => Promise.reject(new Error('no proxy')) });
  expect((await page(server, '/'))[0]).toBe(404);
  expect((await page(server, '/metrics', 'POST'))[0]).toBe(405);
  expect(await page(server, '/metrics')).toEqual([500, 'no proxy\n']);
});

test('an address that is taken is named', async () => {
  const { port } = await serving({});
  await expect(serving({ port })).rejects.toThrow(`can't serve metrics on 127.0.0.1:${port}: `);
});
