// The TLS contexts by which endpoints are spoken to: one for each trust, protocol and certificate of ours, built once for all workers, kept while a generation uses it.
// Owns their handles; knows neither services nor sockets.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import type { TlsFiles } from '../../api/gen/mesh/v1/model.js';
import { messageOf } from '../../api/message-of.js';
import type { EngineAddon } from '../native/engine.js';
import { TlsFolder } from './tls-folder.js';

export interface UpstreamContextSpec {
  /** PEM; null: the CAs this host trusts. */
  readonly trust: string | null;
  /** Our own, where the endpoint asks for one; null: none. */
  readonly certificate: { readonly chain: string; readonly key: string } | null;
  /** What is offered. */
  readonly alpn: readonly string[];
  /** In place of trust and certificate, as far as they name any; null: none. */
  readonly files: TlsFiles | null;
  /** False: whoever answers is spoken to. */
  readonly isVerified: boolean;
}

/** `outdated`: why it is not of its files as they are now; null: it is. */
export type UpstreamContext =
  | { readonly ok: true; readonly context: number; readonly outdated: string | null }
  | { readonly ok: false; readonly fault: string };

/** What tables ask for while they are built. */
export interface UpstreamContexts {
  contextFor(spec: UpstreamContextSpec): UpstreamContext;
}

/** Where distributions keep the CAs they trust: Debian, Ubuntu, Alpine; Fedora, RHEL; SUSE. */
const SYSTEM_BUNDLES = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt', '/etc/ssl/ca-bundle.pem'];

export class UpstreamTls implements UpstreamContexts {
  private readonly contexts = new Map<string, UpstreamContext>();
  private readonly used = new Set<string>();
  /** By what was asked for of files: the context that it came to when they were good last. */
  private readonly lastGood = new Map<string, string>();

  constructor(
    private readonly addon: Pick<EngineAddon, 'createTlsContext' | 'releaseTlsContext'>,
    /** Whose files may be named. */
    private readonly folder: TlsFolder = new TlsFolder(null),
    private readonly systemTrust: () => string = readSystemTrust,
  ) {}

  /**
   * The same trust, protocols and certificate have the same context, so that connections and sessions outlive generations. Files are replaced one
   * after the other: while they don't go together what they were before is used.
   */
  contextFor(asked: UpstreamContextSpec): UpstreamContext {
    if (asked.files === null) return this.contextOf(digestOf(asked), asked);
    const name = digestOf(asked);
    const spec = this.withFiles(asked);
    if (typeof spec === 'string') return this.formerOf(name, spec);
    const key = digestOf(spec);
    const found = this.contextOf(key, spec);
    if (!found.ok) return this.formerOf(name, found.fault);
    this.lastGood.set(name, key);
    return found;
  }

  /** What its files came to when they were good last; the fault, where they never were. */
  private formerOf(name: string, fault: string): UpstreamContext {
    const key = this.lastGood.get(name);
    const known = key === undefined ? undefined : this.contexts.get(key);
    if (key === undefined || known?.ok !== true) return { ok: false, fault };
    this.used.add(key);
    return { ...known, outdated: fault };
  }

  private contextOf(key: string, spec: UpstreamContextSpec): UpstreamContext {
    this.used.add(key);
    const found = this.contexts.get(key) ?? this.build(spec);
    this.contexts.set(key, found);
    return found;
  }

  /** Releases what was not asked for since the last call. Tables and connections keep what they use. */
  releaseUnused(): void {
    for (const [key, entry] of this.contexts) {
      if (this.used.has(key)) continue;
      if (entry.ok) this.addon.releaseTlsContext(entry.context);
      this.contexts.delete(key);
    }
    this.used.clear();
    for (const [name, key] of this.lastGood) if (!this.contexts.has(key)) this.lastGood.delete(name);
    this.folder.forgetUnread();
  }

  /** Read what it names; or why it can't be, in words. */
  private withFiles(spec: UpstreamContextSpec): UpstreamContextSpec | string {
    if (spec.files === null) return spec;
    const { chain, key, trust } = spec.files;
    try {
      return {
        ...spec,
        files: null,
        certificate: chain === '' && key === '' ? spec.certificate : { chain: this.folder.read(chain), key: this.folder.read(key) },
        trust: trust === '' ? spec.trust : this.folder.read(trust),
      };
    } catch (error) {
      return messageOf(error);
    }
  }

  private build({ trust, alpn, certificate, isVerified }: UpstreamContextSpec): UpstreamContext {
    try {
      const context = this.addon.createTlsContext({
        role: 'client',
        certificates: certificate === null ? [] : [{ serverNames: [], chain: certificate.chain, key: certificate.key, limits: null }],
        trust: !isVerified ? null : (trust ?? this.systemTrust()),
        alpn,
        passthrough: [],
        clientCertificates: 'none',
        verifiesServer: isVerified,
        accepts: [],
        ticketKeys: null,
      });
      return { ok: true, context, outdated: null };
    } catch (error) {
      return { ok: false, fault: (error as Error).message };
    }
  }
}

function digestOf(spec: UpstreamContextSpec): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('base64');
}

/** SSL_CERT_FILE as OpenSSL reads it, else the distribution's bundle, else the one Node.js brings. */
function readSystemTrust(): string {
  const configured = process.env.SSL_CERT_FILE;
  for (const file of configured === undefined ? SYSTEM_BUNDLES : [configured]) {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      // Another distribution's.
    }
  }
  return rootCertificates.join('\n');
}
