// What stands before a TCP header: whoever writes IPv6 extension headers, or cuts a header in two, is captured or dropped, and never gets past
// the proxy by it. Over both modes of eBPF. Fails where it cannot run.
import { isIPv6, SocketAddress } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { POD_A, POD_B, POD_C, REMOTE } from './lab.js';
import { KINDS, Scene } from './scene.js';

const TCP = 6;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;

function bytesOf(address: string): Buffer {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = new SocketAddress({ address, family: 'ipv6' }).address.split('::');
  const words = (text: string) => text.split(':').filter((word) => word !== '');
  const zeroes = Array(8 - words(head).length - words(tail).length).fill('0');
  return Buffer.from([...words(head), ...zeroes, ...words(tail)].map((word) => word.padStart(4, '0')).join(''), 'hex');
}

/** To port 8080; without a checksum, so nobody answers it. */
const SYN = Buffer.from([0xee, 0x48, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);

/** The headers are of 8 bytes each, with nothing in them: `at` and `more` are of fragments. */
function ipv6(source: string, destination: string, headers: readonly number[], payload: Buffer, { at = 0, more = false } = {}): Buffer {
  const chain = headers.map((type, i) => {
    const next = headers[i + 1] ?? TCP;
    if (type === FRAGMENT) return Buffer.from([next, 0, at >> 5, ((at << 3) & 0xf8) | Number(more), 0, 0, 0, 7]);
    return Buffer.from(type === ROUTING ? [next, 0, 4, 0, 0, 0, 0, 0] : [next, 0, 1, 4, 0, 0, 0, 0]);
  });
  const rest = Buffer.concat([...chain, payload]);
  const head = Buffer.from([0x60, 0, 0, 0, 0, rest.length, headers[0] ?? TCP, 64]);
  return Buffer.concat([head, bytesOf(source), bytesOf(destination), rest]);
}

function ipv4(source: string, destination: string, payload: Buffer, { at = 0, more = false } = {}): Buffer {
  // The kernel writes checksum and length.
  const head = Buffer.from([0x45, 0, 0, 20 + payload.length, 0, 7, (more ? 0x20 : 0) | (at >> 8), at & 0xff, 64, TCP, 0, 0]);
  return Buffer.concat([head, bytesOf(source), bytesOf(destination), payload]);
}

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`cap-head-${kind}`);
  const { lab } = scene;

  beforeAll(() => scene.begin(kind));
  afterAll(() => scene.down());

  test.each(['hopopts', 'dstopts'])('connections with %s pass the proxy once, both ways', (option) => {
    scene.expectOnePass('a', POD_A.v6, REMOTE.v6, 8080, 'outbound', { options: { option } });
    scene.expectOnePass('remote', REMOTE.v6, POD_B.v6, 8080, 'inbound', { options: { option } });
    scene.expectOnePass('c', POD_C.v6, POD_B.v6, 8080, 'inbound', { options: { option } });
  });

  test.each([
    ['no extension header', []],
    ['each that there is', [HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION]],
    ['an atomic fragment', [FRAGMENT]],
  ] as const)('a first packet behind %s is captured', (_, headers) => {
    const before = scene.workloadCounter('b', 'captured_inbound');
    lab.sendRaw('remote', POD_B.v6, ipv6(REMOTE.v6, POD_B.v6, headers, SYN));
    expect(scene.workloadCounter('b', 'captured_inbound')).toBe(before + 1);
  });

  const cut = SYN.subarray(0, 8);
  test.each([
    ['behind more extension headers than are followed', 'v6', ipv6(POD_A.v6, REMOTE.v6, Array(9).fill(DESTINATION), SYN)],
    ['whose TCP header is cut in two, IPv6', 'v6', ipv6(POD_A.v6, REMOTE.v6, [FRAGMENT], cut, { more: true })],
    ['whose TCP header is cut in two, IPv4', 'v4', ipv4(POD_A.v4, REMOTE.v4, cut, { more: true })],
  ] as const)('a first packet %s is dropped on its way out, and counted', (_, v, packet) => {
    const before = scene.workloadCounter('a', 'dropped_unreadable');
    lab.sendRaw('a', REMOTE[v], packet);
    expect(scene.workloadCounter('a', 'dropped_unreadable')).toBe(before + 1);
  });

  test('a first packet behind more extension headers than are followed is dropped on its way in, and counted', () => {
    const before = scene.workloadCounter('b', 'dropped_unreadable');
    lab.sendRaw('remote', POD_B.v6, ipv6(REMOTE.v6, POD_B.v6, Array(9).fill(DESTINATION), SYN));
    expect(scene.workloadCounter('b', 'dropped_unreadable')).toBe(before + 1);
  });

  test('a later fragment is nobody’s, and passes', () => {
    const before = scene.workloadCounter('a', 'dropped_unreadable');
    lab.sendRaw('a', REMOTE.v4, ipv4(POD_A.v4, REMOTE.v4, cut, { at: 1 }));
    lab.sendRaw('a', REMOTE.v6, ipv6(POD_A.v6, REMOTE.v6, [FRAGMENT], cut, { at: 1 }));
    expect(scene.workloadCounter('a', 'dropped_unreadable')).toBe(before);
  });
});
