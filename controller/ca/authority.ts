// The authority of the control plane: certificates of nodes, controllers and operators. Owns its keys: in etcd, sealed, made at first start by whichever
// replica is first; or in files. Decides nothing about who gets a certificate. Workloads' certificates are another authority's business.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { CLOCK_SKEW_MS, CONTROLLER_NAME, nodeUris, operatorUri, pinOf } from '../../api/access/names.js';
import type { AuthorityRecord } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import { commit } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';
import { issue, type Leaf, type Signer, selfSigned } from './certificate.js';
import { nextChangeMs, type Standing, standing } from './lifetimes.js';
import { seal, unseal } from './sealed.js';

export type AuthorityPlace =
  | { readonly kind: 'store'; readonly sealingKey: Buffer }
  /** PEM: the certificate file may hold several, the first one signs. */
  | { readonly kind: 'files'; readonly certificateFile: string; readonly keyFile: string };

export interface AuthorityParts {
  readonly place: AuthorityPlace;
  readonly client: EtcdClient;
  readonly view: StoreView;
  readonly keys: Keyspace;
  /** Of nodes' and controllers' certificates. */
  readonly certificateTtlMs: number;
  readonly wallClock: () => number;
  readonly log: Logger;
}

interface KnownAuthority {
  readonly certificate: X509Certificate;
  /** Of its key. */
  readonly pin: string;
  /** Null: another one signs. */
  readonly key: KeyObject | null;
  readonly createdAtMs: number;
}

export interface AuthorityView {
  readonly certificate: X509Certificate;
  readonly state: 'signs' | 'signs-later' | 'signed-before';
}

const DAY_MS = 86_400_000;
const AUTHORITY_LIFE_MS = 3_650 * DAY_MS;
/** An authority that has no more than this left gets its successor. */
const SUCCESSION_MS = 365 * DAY_MS;
const MAX_AUTHORITIES = 8;

export class Authority {
  readonly #parts: AuthorityParts;
  readonly #watchers = new Set<() => void>();
  #known: readonly KnownAuthority[] = [];
  #record: AuthorityRecord | null = null;
  #fault = 'the store is being read';
  #isWriting = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(parts: AuthorityParts) {
    this.#parts = parts;
    const { place, view } = parts;
    if (place.kind === 'files') this.#known = readFiles(place.certificateFile, place.keyFile);
    else view.watch(() => this.#fromStore(place.sealingKey));
    this.#changed();
  }

  /** Why nothing can be signed; null: it can. */
  get fault(): string | null {
    return this.#known.length === 0 ? this.#fault : null;
  }

  /** PEM of all that are trusted. */
  get bundle(): string[] {
    return this.fault === null ? this.#standing().trusted.map(({ certificate }) => certificate.toString()) : [];
  }

  /** Who signs; null: see `fault`. */
  get signer(): X509Certificate | null {
    return this.fault === null ? this.#standing().signer.certificate : null;
  }

  list(): AuthorityView[] {
    if (this.fault !== null) return [];
    const { signer, trusted } = this.#standing();
    const at = trusted.indexOf(signer);
    return trusted.map(({ certificate }, index) => ({
      certificate,
      state: index === at ? 'signs' : index > at ? 'signs-later' : 'signed-before',
    }));
  }

  get nextChangeMs(): number | null {
    return nextChangeMs(this.#known, this.#parts.certificateTtlMs, this.#parts.wallClock());
  }

  /** Called when what is trusted, or who signs, may have changed. */
  watch(watcher: () => void): void {
    this.#watchers.add(watcher);
  }

  /** True when it can sign, false at the timeout: the first call often comes while the controller starts. */
  whenReady(timeoutMs: number): Promise<boolean> {
    if (this.fault === null) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (isReady: boolean): void => {
        clearTimeout(timer);
        this.#watchers.delete(watcher);
        resolve(isReady);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      const watcher = (): void => {
        if (this.fault === null) finish(true);
      };
      this.#watchers.add(watcher);
    });
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#watchers.clear();
  }

  /** The pin of who signed it, of those that are trusted now; null: none of them. Says nothing of its dates. */
  issuerOf(certificate: X509Certificate): string | null {
    if (this.fault !== null) return null;
    return this.#standing().trusted.find((authority) => certificate.verify(authority.certificate.publicKey))?.pin ?? null;
  }

  /** While none can be read, nobody's trust has ended. */
  trusts(pin: string): boolean {
    return this.fault !== null || this.#standing().trusted.some((authority) => authority.pin === pin);
  }

  /** PEM. Throws when there is a `fault`. */
  issueNode(node: string, lineage: number, publicKey: KeyObject): string {
    // A server too: of its status. No name of anybody's choice stands where names of servers are looked for, the subject among them.
    return this.#issue({ commonName: 'weft node', uris: nodeUris(node, lineage), dnsNames: [], usages: ['client', 'server'], publicKey });
  }

  issueController(publicKey: KeyObject): string {
    return this.#issue({ commonName: CONTROLLER_NAME, uris: [], dnsNames: [CONTROLLER_NAME], usages: ['server', 'client'], publicKey });
  }

  issueOperator(name: string, publicKey: KeyObject, lifeMs: number): string {
    return this.#issue({ commonName: 'weft operator', uris: [operatorUri(name)], dnsNames: [], usages: ['client'], publicKey }, lifeMs);
  }

  /** The revision at which the new one stands in etcd; else why there is none. */
  async rotate(immediately: boolean): Promise<number | string> {
    const { place } = this.#parts;
    if (place.kind === 'files')
      return 'the authority is in files: put the new certificate behind the old one, then before it, and restart the controllers';
    const fault = this.fault;
    if (fault !== null) return fault;
    return this.#add(place.sealingKey, immediately);
  }

  #issue(leaf: Omit<Leaf, 'notBeforeMs' | 'notAfterMs'>, lifeMs = this.#parts.certificateTtlMs): string {
    const { certificate, key } = this.#standing().signer;
    if (key === null) throw new Error('the authority that signs has no key');
    const nowMs = this.#parts.wallClock();
    const notAfterMs = Math.min(nowMs + lifeMs, Date.parse(certificate.validTo));
    const signer: Signer = { certificate, key };
    return issue(signer, { ...leaf, notBeforeMs: nowMs - CLOCK_SKEW_MS, notAfterMs });
  }

  #standing(): Standing<KnownAuthority> {
    const { place, certificateTtlMs, wallClock } = this.#parts;
    const [first] = this.#known;
    // In files their order says it.
    if (place.kind === 'files' && first !== undefined) return { signer: first, trusted: this.#known };
    return standing(this.#known, certificateTtlMs, wallClock());
  }

  #fromStore(sealingKey: Buffer): void {
    const { view, log } = this.#parts;
    const { authority } = view;
    if (authority === this.#record && authority !== null) return;
    if (authority === null) {
      // A key that can't be read is no reason to replace it.
      if (view.authorityRevision > 0 || view.isRestoring || this.#isWriting) return;
      void this.#addByItself(sealingKey, true);
      return;
    }
    this.#record = authority;
    const opened = authority.authorities.map(({ certificate, key, createdAtMs }) => {
      const pem = unseal(key, sealingKey, this.#placeOf(certificate));
      return pem === null ? null : { ...readCertificate(certificate), key: createPrivateKey(pem), createdAtMs };
    });
    const isWhole = opened.every((each) => each !== null);
    this.#known = isWhole ? (opened as KnownAuthority[]) : [];
    this.#fault = 'the authority in etcd was sealed by another key: give every replica the same --authority-key-file';
    if (!isWhole) log.error(this.#fault);
    this.#changed();
  }

  /** Tried again with the next change that the store tells, at the latest a day later. */
  async #addByItself(sealingKey: Buffer, isOnly: boolean): Promise<void> {
    const done = await this.#add(sealingKey, isOnly);
    if (typeof done === 'string') this.#parts.log.warn({}, `no new authority of nodes and controllers was made: ${done}`);
  }

  /** One more, or one instead of all. Of replicas that do so at the same time the first wins. */
  async #add(sealingKey: Buffer, isOnly: boolean): Promise<number | string> {
    const { client, keys, wallClock, log, view } = this.#parts;
    const before = isOnly ? [] : (view.authority?.authorities ?? []);
    if (before.length >= MAX_AUTHORITIES)
      return `there are ${MAX_AUTHORITIES} authorities already: wait until the oldest is no longer trusted`;
    this.#isWriting = true;
    const nowMs = wallClock();
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const name = `weft control plane ${randomUUID().slice(0, 8)}`;
    const certificate = selfSigned(name, publicKey, privateKey, nowMs - CLOCK_SKEW_MS, nowMs + AUTHORITY_LIFE_MS);
    const key = seal(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), sealingKey, this.#placeOf(certificate));
    // Those that are no longer trusted go.
    const kept = before.length === 0 ? [] : standing(before, this.#parts.certificateTtlMs, nowMs).trusted;
    const value = JSON.stringify({ authorities: [...kept, { certificate, key, createdAtMs: nowMs }], requestId: randomUUID() });
    try {
      const result = await commit(client, {
        expect: new Map([[keys.authority, view.authorityRevision]]),
        writes: [{ key: keys.authority, value, lease: null }],
      });
      if (result.kind === 'committed') {
        log.info({ pin: pinOf(publicKey) }, 'a new authority of nodes and controllers was made');
        return result.revision;
      }
      return result.kind === 'conflict'
        ? 'another replica changed it at the same time: look at it again'
        : 'etcd did not take it: try again';
    } finally {
      this.#isWriting = false;
    }
  }

  /** By its certificate: a sealed key put beside another certificate does not open. */
  #placeOf(certificate: string): string {
    return `${this.#parts.keys.authority} ${pinOf(new X509Certificate(certificate).publicKey)}`;
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher();
    if (this.#timer !== null) clearTimeout(this.#timer);
    const nowMs = this.#parts.wallClock();
    const { place } = this.#parts;
    const newest = this.#known.at(-1);
    if (place.kind === 'store' && newest !== undefined && Date.parse(newest.certificate.validTo) - nowMs < SUCCESSION_MS) {
      void this.#addByItself(place.sealingKey, false);
    }
    const wake = Math.min((this.nextChangeMs ?? Number.POSITIVE_INFINITY) - nowMs, DAY_MS);
    this.#timer = setTimeout(() => this.#changed(), wake);
    this.#timer.unref();
  }
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Throws an Error that names the file. */
function readFiles(certificateFile: string, keyFile: string): KnownAuthority[] {
  const texts = readText('--authority-cert', certificateFile).match(PEM) ?? [];
  const read = texts.map(readCertificate);
  const certificates = read.map(({ certificate }) => certificate);
  const [first] = certificates;
  if (first === undefined) throw new Error(`--authority-cert ${certificateFile}: expected a certificate in PEM`);
  for (const certificate of certificates) {
    // Peers are given it as what they trust: a chain that goes on would not verify there.
    if (!certificate.ca || !certificate.checkIssued(certificate)) {
      throw new Error(`--authority-cert ${certificateFile}: ${certificate.subject} is no self-signed authority`);
    }
  }
  const key = createPrivateKey(readText('--authority-key', keyFile));
  if (!first.checkPrivateKey(key))
    throw new Error(`--authority-key ${keyFile}: is not the key of the first certificate in ${certificateFile}`);
  return read.map((each, index) => ({ ...each, key: index === 0 ? key : null, createdAtMs: 0 }));
}

function readCertificate(text: string): Pick<KnownAuthority, 'certificate' | 'pin'> {
  const certificate = new X509Certificate(text);
  return { certificate, pin: pinOf(certificate.publicKey) };
}

function readText(flag: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`${flag} ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}: check the path and who may read it`);
  }
}

const MAX_PUBLIC_KEY_BYTES = 128;

/** Of a P-256 key in DER; null: it is none. */
export function parsePublicKey(bytes: Uint8Array): KeyObject | null {
  if (bytes.length > MAX_PUBLIC_KEY_BYTES) return null;
  try {
    const key = createPublicKey({ key: Buffer.from(bytes), format: 'der', type: 'spki' });
    return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1' ? key : null;
  } catch {
    return null;
  }
}
