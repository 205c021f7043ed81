// Tokens by which a node joins once: made, listed, revoked, used. Only a hash of the secret is kept; that it is used once is decided by one transaction.
import { createHash, type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { parseToken, pinOf, type Token, tokenText } from '../../api/access/names.js';
import { type JoinTokenRecord, readJoinToken } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { type Keyspace, prefixEnd } from '../store/keys.js';
import { grantLease } from '../store/lease.js';
import { commit } from '../store/transaction.js';
import { hashOf, isSame } from './authenticator.js';

export type TokenUse =
  | { readonly kind: 'used' }
  /** `message` may be told to the caller. */
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'unavailable'; readonly message: string };

export interface CreatedToken {
  readonly id: string;
  readonly text: string;
  readonly record: JoinTokenRecord;
}

const NOT_VALID = 'the join token is not valid: wrong, ended, revoked, or of another mesh; make another one with weft token create';

export class JoinTokens {
  readonly #client: EtcdClient;
  readonly #keys: Keyspace;
  readonly #wallClock: () => number;

  constructor(client: EtcdClient, keys: Keyspace, wallClock: () => number) {
    this.#client = client;
    this.#keys = keys;
    this.#wallClock = wallClock;
  }

  /** Throws StoreError; a message where etcd took it not. */
  async create(node: string, ttlMs: number, createdBy: string, authority: KeyObject): Promise<CreatedToken | string> {
    const token: Token = {
      kind: 'join',
      id: randomBytes(5).toString('hex'),
      secret: randomBytes(32).toString('hex'),
      pin: pinOf(authority),
    };
    const expiresAtMs = this.#wallClock() + ttlMs;
    const record: JoinTokenRecord = { node, hash: hashOf(token.secret), expiresAtMs, createdBy, usedFor: '' };
    const key = this.#keys.joinToken(token.id);
    const lease = await grantLease(this.#client, ttlMs);
    const writes = [{ key, value: stored(record), lease }];
    const result = await commit(this.#client, { expect: new Map([[key, 0]]), writes });
    if (result.kind === 'committed') return { id: token.id, text: tokenText(token), record };
    return 'message' in result ? result.message : 'etcd did not take it: try again';
  }

  /** False: there was none. */
  async revoke(id: string): Promise<boolean | string> {
    const key = this.#keys.joinToken(id);
    const found = (await this.#client.range({ key: Buffer.from(key) })).kvs[0];
    if (found === undefined) return false;
    const result = await commit(this.#client, { expect: new Map(), writes: [{ key, value: null, lease: null }] });
    return result.kind === 'committed' ? true : 'message' in result ? result.message : 'etcd did not take it: try again';
  }

  /** In etcd, of every token for that node. Throws StoreError. */
  async keysFor(node: string): Promise<string[]> {
    const prefix = this.#keys.joinToken('');
    // Not from the view, as in use().
    const { kvs } = await this.#client.range({ key: Buffer.from(prefix), range_end: prefixEnd(prefix) });
    return kvs.filter(({ value }) => readJoinToken(value)?.node === node).map(({ key }) => key.toString());
  }

  /** For the node, with that key: the same again may come with the same key, for an answer that was lost. Throws StoreError. */
  async use(text: string, node: string, publicKey: KeyObject): Promise<TokenUse> {
    const token = parseToken(text);
    if (token === null || token.kind !== 'join') return { kind: 'refused', message: NOT_VALID };
    const key = this.#keys.joinToken(token.id);
    // Not from the view: it may have been made at another replica a moment ago.
    const found = (await this.#client.range({ key: Buffer.from(key) })).kvs[0];
    const record = found === undefined ? null : readJoinToken(found.value);
    if (found === undefined || record === null || !isSame(record.hash, hashOf(token.secret)))
      return { kind: 'refused', message: NOT_VALID };
    if (record.expiresAtMs <= this.#wallClock()) return { kind: 'refused', message: NOT_VALID };
    if (record.node !== node) return { kind: 'refused', message: `the join token is for node "${record.node}", not for "${node}"` };
    const usedFor = createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex');
    if (record.usedFor === usedFor) return { kind: 'used' };
    if (record.usedFor !== '') {
      return {
        kind: 'refused',
        message: 'the join token was used already, with another key: make another one; if the node did not use it, somebody else did',
      };
    }
    const writes = [{ key, value: stored({ ...record, usedFor }), lease: found.lease }];
    const result = await commit(this.#client, { expect: new Map([[key, Number(found.mod_revision)]]), writes });
    switch (result.kind) {
      case 'committed':
        return { kind: 'used' };
      case 'conflict':
      case 'lease-lost':
        return { kind: 'refused', message: 'the join token was used, revoked or ended at this very moment' };
      case 'too-large':
      case 'unavailable':
        return { kind: 'unavailable', message: result.message };
    }
  }
}

function stored(record: JoinTokenRecord): string {
  return JSON.stringify({ ...record, requestId: randomUUID() });
}
