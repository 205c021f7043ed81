import { expect, test } from '@jest/globals';
import { nftBeat } from './nat-beat.js';
import { countersByReason } from './nat-capture.js';

test('the counters of nft become those of the reasons, in their order', () => {
  const counter = (name: string, packets: number) => ({ counter: { family: 'inet', name, table: 'weft', handle: 1, packets, bytes: 60 } });
  const listed = {
    nftables: [
      { metainfo: { version: '1.0.6' } },
      counter('outbound_captured', 7),
      counter('inbound_captured', 5),
      counter('outbound_bypass_stale_worker', 2),
      counter('inbound_bypass_stale_worker', 1),
      counter('of_somebody_else', 9),
    ],
  };
  const reasons = ['captured_outbound', 'captured_inbound', 'flow', 'bypass_stale_worker'];
  expect(countersByReason(JSON.stringify(listed), reasons)).toEqual([7, 5, 0, 3]);
});

test('a beat is a batch of whole netlink messages', () => {
  const { renew, expire } = nftBeat(1_000);
  for (const [bytes, messages] of [
    [renew, 5],
    [expire, 4],
  ] as const) {
    let at = 0;
    let count = 0;
    for (; at < bytes.length; count++) {
      const length = bytes.readUInt32LE(at);
      expect(length % 4).toBe(0);
      at += length;
    }
    expect([at, count]).toEqual([bytes.length, messages]);
  }
});
