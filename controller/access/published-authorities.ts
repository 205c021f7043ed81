// The authorities as a ConfigMap of Kubernetes, `ca.crt`: how agents there know whom to trust at first contact. Owns that one object; every replica writes the
// same.
import type { Logger } from 'pino';
import type { Authority } from '../ca/authority.js';
import { ApiClient } from '../sources/kubernetes/api-client.js';
import type { ClusterAccess } from '../sources/kubernetes/cluster-access.js';

const DEADLINE_MS = 5_000;
const MAX_BYTES = 1_048_576;
const RETRY_MS = 5_000;
/** Somebody may have deleted it. */
const REPEAT_MS = 600_000;
const NOT_FOUND = 404;

export class PublishedAuthorities {
  readonly #client: ApiClient;
  readonly #authority: Authority;
  readonly #namespace: string;
  readonly #name: string;
  readonly #log: Logger;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | null = null;
  #isWriting = false;
  #isLogged = false;

  /** `place`: "<namespace>/<name>". */
  constructor(access: ClusterAccess, authority: Authority, place: string, log: Logger) {
    const [namespace = '', name = ''] = place.split('/');
    this.#client = new ApiClient(access);
    this.#authority = authority;
    this.#namespace = namespace;
    this.#name = name;
    this.#log = log;
    authority.watch(() => void this.#write());
    void this.#write();
  }

  close(): void {
    this.#closing.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#client.close();
  }

  async #write(): Promise<void> {
    const { bundle } = this.#authority;
    if (bundle.length === 0 || this.#isWriting || this.#closing.signal.aborted) return;
    this.#isWriting = true;
    const fault = await this.#put(bundle.join(''));
    this.#isWriting = false;
    const place = `${this.#namespace}/${this.#name}`;
    if (fault !== null && !this.#isLogged)
      this.#log.error(`the authorities can't be published in ConfigMap ${place}: ${fault}; agents that have not joined yet wait for it`);
    this.#isLogged = fault !== null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#closing.signal.aborted) return;
    // The bundle may have changed while it was written.
    const isOld = this.#authority.bundle.join('') !== bundle.join('');
    this.#timer = setTimeout(() => void this.#write(), isOld ? 0 : fault === null ? REPEAT_MS : RETRY_MS);
    this.#timer.unref();
  }

  /** Null: it stands there. */
  async #put(text: string): Promise<string | null> {
    const collection = `/api/v1/namespaces/${encodeURIComponent(this.#namespace)}/configmaps`;
    const options = { deadlineMs: DEADLINE_MS, maxBytes: MAX_BYTES, signal: this.#closing.signal };
    const data = { 'ca.crt': text };
    const patch = { contentType: 'application/merge-patch+json', body: { data } } as const;
    const patched = await this.#client.patch(`${collection}/${encodeURIComponent(this.#name)}`, patch, options);
    if (patched.kind === 'ok') return null;
    if (patched.status !== NOT_FOUND) return patched.message;
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace: this.#namespace, name: this.#name }, data };
    const created = await this.#client.post(collection, body, options);
    return created.kind === 'ok' ? null : created.message;
  }
}
