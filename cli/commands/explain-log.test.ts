import { expect, test } from '@jest/globals';
import { readLogLine } from './explain-log.js';

const GIVEN = { from: '', gateway: '', headers: [], body: undefined };
const LINE = {
  method: 'GET',
  authority: 'shop.test',
  path: '/a?b',
  status: 404,
  source: 'shop/cart',
  client: '10.1.9.9:40000',
  destination_address: '10.0.0.1:443',
};

test("a workload's request is one in the mesh, and at a gateway where TLS ended", () => {
  const captured = readLogLine(JSON.stringify(LINE), GIVEN).request;
  expect(captured).toMatchObject({ from: 'shop/cart', url: 'http://10.0.0.1:443/a?b' });
  const atGateway = readLogLine(JSON.stringify({ ...LINE, tls_version: 'TLSv1.3' }), GIVEN).request;
  expect(atGateway).toMatchObject({ from: '', url: 'https://shop.test:443/a?b', client: '10.1.9.9' });
});
