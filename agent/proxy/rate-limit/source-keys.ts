// Who clients are, as rate limits tell them apart: hashes of their namespaces and identities, by client. On the main thread.
import { type HashKey, KeyHash } from './key-hash.js';

interface Client {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** SOURCE_KEY_WORDS for each. The same text has the same words on every node with that key. */
export function sourceKeys(clients: readonly Client[], hashKey: HashKey): number[] {
  const hash = new KeyHash(hashKey);
  const known = new Map<string, readonly [number, number]>();
  const wordsOf = (text: string): readonly [number, number] => {
    let words = known.get(text);
    if (words === undefined) {
      const bytes = Buffer.from(text);
      hash.begin();
      hash.bytes(bytes, 0, bytes.length);
      hash.finish();
      words = [hash.high, hash.low];
      known.set(text, words);
    }
    return words;
  };
  return clients.flatMap(({ namespace, serviceAccount }) => [...wordsOf(namespace), ...wordsOf(`${namespace}/${serviceAccount}`)]);
}
