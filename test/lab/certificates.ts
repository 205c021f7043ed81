// For tests: authorities and certificates that OpenSSL makes, in a folder that ends with the test.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface KeyPair {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export class Certificates {
  private readonly folder = mkdtempSync(join(tmpdir(), 'wcert-'));
  private made = 0;

  /** A root that signs. */
  authority(name: string): KeyPair {
    return this.selfSigned(name, ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=keyCertSign']);
  }

  /** `names` as OpenSSL writes them: "DNS:a.test", "URI:spiffe://…". */
  issue(authority: KeyPair, ...names: readonly string[]): KeyPair {
    const { certFile, keyFile } = this.next();
    const request = join(this.folder, `${this.made}.csr`);
    const extensions = join(this.folder, `${this.made}.ext`);
    writeFileSync(extensions, `subjectAltName=${names.join(',')}\nbasicConstraints=CA:FALSE\n`);
    this.run('req', '-new', ...newKey(keyFile), '-out', request, '-subj', `/CN=${this.made}`);
    const signer = ['-CA', authority.certFile, '-CAkey', authority.keyFile, '-set_serial', String(this.made)];
    this.run('x509', '-req', '-in', request, ...signer, '-days', '2', '-out', certFile, '-extfile', extensions);
    return read(certFile, keyFile);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private selfSigned(name: string, extensions: readonly string[]): KeyPair {
    const { certFile, keyFile } = this.next();
    this.run('req', '-x509', ...newKey(keyFile), '-out', certFile, '-days', '2', '-subj', `/CN=${name}`, ...extensions);
    return read(certFile, keyFile);
  }

  private next(): { certFile: string; keyFile: string } {
    this.made++;
    return { certFile: join(this.folder, `${this.made}.crt`), keyFile: join(this.folder, `${this.made}.key`) };
  }

  private run(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'ignore' });
  }
}

function newKey(file: string): string[] {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file];
}

function read(certFile: string, keyFile: string): KeyPair {
  return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8'), certFile, keyFile };
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Of type kubernetes.io/tls; ends with "---". */
export function secretManifest(name: string, { cert, key }: Pick<KeyPair, 'cert' | 'key'>): string {
  return `
apiVersion: v1
kind: Secret
metadata: {name: ${name}}
type: kubernetes.io/tls
data:
  tls.crt: ${base64(cert)}
  tls.key: ${base64(key)}
---`;
}
