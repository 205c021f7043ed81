// A name that the model accepts of a peer's certificate → what the engine looks for among its names.
import type { PeerMatch } from '../../native/engine.js';

export function peerMatch(name: string): PeerMatch {
  return { kind: name.startsWith('spiffe://') ? 'spiffeId' : 'dnsName', value: name };
}
