import { expect, test } from '@jest/globals';
import { StatusResponse, type TrafficEdge } from '../../api/gen/mesh/v1/status.js';
import { splitOf, TrafficReader } from './traffic.js';

const PLACES = [
  { workload: 'shop/web', node: 'node-a', addresses: ['10.0.1.1', 'fd00::1'] },
  { workload: 'shop/v1', node: 'node-a', addresses: ['10.0.1.2'] },
  { workload: 'shop/v2', node: 'node-b', addresses: ['10.0.2.1'] },
];

function edge(parts: Partial<TrafficEdge>): Partial<TrafficEdge> {
  return {
    source: 'shop/web',
    destination: 'shop/catalog:80',
    destinationWorkload: 'shop/v1',
    direction: 'outbound',
    requests: 1,
    ...parts,
  };
}

function status(edges: readonly Partial<TrafficEdge>[]): StatusResponse {
  return StatusResponse.fromPartial({ node: 'n', proxy: { traffic: [...edges] } });
}

test('a row says whether its requests stayed on their node', () => {
  const rows = new TrafficReader(PLACES).rows([
    status([edge({}), edge({ destinationWorkload: 'shop/v2' }), edge({ destinationWorkload: '192.0.2.1:80' })]),
  ]);
  expect(rows.map((row) => [row.answeredBy, row.path])).toEqual([
    ['192.0.2.1:80', 'unknown'],
    ['shop/v1', 'same node'],
    ['shop/v2', 'outbound→inbound'],
  ]);
});

test('passes of all nodes are summed by caller and answerer, whether a proxy knows them by name or by address', () => {
  const passes = new TrafficReader(PLACES).passes([
    status([edge({ requests: 3 }), edge({ requests: 2, destinationWorkload: '10.0.2.1:8080' })]),
    status([edge({ direction: 'inbound', source: 'fd00::1', destinationWorkload: 'shop/v2', requests: 2, errors: 1 })]),
  ]);
  expect(passes).toEqual({
    outbound: new Map([
      ['shop/web shop/v1', 3],
      ['shop/web shop/v2', 2],
    ]),
    inbound: new Map([['shop/web shop/v2', 2]]),
    errors: 1,
  });
});

test('the split counts the given workloads alone, and names the one that answered nothing', () => {
  const rows = new TrafficReader(PLACES).rows([status([edge({ requests: 9 }), edge({ destinationWorkload: 'shop/cart', requests: 5 })])]);
  expect(splitOf(rows, ['shop/v1', 'shop/v2'])).toEqual(
    new Map([
      ['shop/v1', 9],
      ['shop/v2', 0],
    ]),
  );
});
