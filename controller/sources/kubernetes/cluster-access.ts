// Where a Kubernetes API server is and how to prove who we are: the pod's service account, or a kubeconfig. Reads files, and reads them again:
// tokens and certificates are rotated under a running process. Makes no connection.
import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';

export interface Credentials {
  /** PEM; null: the system's authorities. */
  readonly ca: string | null;
  /** PEM of a client certificate and its key. */
  readonly cert: string | null;
  readonly key: string | null;
  readonly token: string | null;
}

export interface ClusterAccess {
  /** Without a trailing slash; may have a path, as behind a proxy of several clusters. */
  readonly server: string;
  /** In the place of the host's name where its certificate is verified. */
  readonly serverName: string | null;
  /** False by insecure-skip-tls-verify alone. */
  readonly isVerified: boolean;
  /** As files have them; at most `MAX_AGE_MS` old, or read now. A file that can't be read any more leaves what it said last. */
  credentials(isFresh: boolean): Credentials;
}

export type Found = { readonly kind: 'found'; readonly access: ClusterAccess } | { readonly kind: 'fault'; readonly message: string };

/** As client-go: a token of a service account is replaced when four fifths of its life are over. */
const MAX_AGE_MS = 60_000;
const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** What a pod is given. `now` in milliseconds, monotonic. */
export function inClusterAccess(
  host: string | undefined,
  port: string | undefined,
  now: () => number,
  folder = SERVICE_ACCOUNT_FOLDER,
): Found {
  if (host === undefined || host === '' || port === undefined)
    return fault(
      '--kubernetes in-cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod; name a kubeconfig',
    );
  const sources: CredentialSources = {
    ca: { file: `${folder}/ca.crt` },
    cert: null,
    key: null,
    token: { file: `${folder}/token` },
  };
  return opened(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`, null, true, sources, now, '--kubernetes in-cluster');
}

interface Literal {
  readonly value: string;
}

interface File {
  readonly file: string;
}

type CredentialSources = { readonly [Field in keyof Credentials]: Literal | File | null };

const text = z.string().min(1).optional();
const kubeconfig = z.object({
  'current-context': z.string().optional(),
  clusters: z.array(
    z.object({
      name: z.string(),
      cluster: z.object({
        server: z.string().regex(/^https?:\/\/[^\s?#]+$/, 'expected an URL such as https://host:6443'),
        'certificate-authority': text,
        'certificate-authority-data': text,
        'insecure-skip-tls-verify': z.boolean().optional(),
        'tls-server-name': text,
        'proxy-url': text,
      }),
    }),
  ),
  contexts: z.array(z.object({ name: z.string(), context: z.object({ cluster: z.string(), user: z.string().optional() }) })),
  users: z
    .array(
      z.object({
        name: z.string(),
        user: z
          .object({
            'client-certificate': text,
            'client-certificate-data': text,
            'client-key': text,
            'client-key-data': text,
            token: text,
            tokenFile: text,
            username: text,
            exec: z.unknown().optional(),
            'auth-provider': z.unknown().optional(),
          })
          .nullable(),
      }),
    )
    .nullish(),
});

type Kubeconfig = z.output<typeof kubeconfig>;
type Cluster = Kubeconfig['clusters'][number]['cluster'];
type User = NonNullable<NonNullable<Kubeconfig['users']>[number]['user']>;

/** `context` null: the current one of the file. */
export function kubeconfigAccess(path: string, context: string | null, now: () => number): Found {
  const where = `--kubernetes ${path}`;
  const read = readKubeconfig(path, where);
  if ('message' in read) return read;
  const chosen = context ?? read.config['current-context'] ?? '';
  const entry = read.config.contexts.find(({ name }) => name === chosen)?.context;
  if (entry === undefined) {
    const names = read.config.contexts.map(({ name }) => name).join(', ') || 'none';
    return fault(`${where}: no context "${chosen}" in it (it has ${names}): name one by --kubernetes-context`);
  }
  const cluster = read.config.clusters.find(({ name }) => name === entry.cluster)?.cluster;
  if (cluster === undefined) return fault(`${where}: context ${chosen} names cluster "${entry.cluster}", which the file has not`);
  const user = read.config.users?.find(({ name }) => name === entry.user)?.user ?? null;
  if (user === null && entry.user !== undefined && entry.user !== '')
    return fault(`${where}: context ${chosen} names user "${entry.user}", which the file has not`);
  const unsupported = unsupportedIn(cluster, user);
  if (unsupported !== null) return fault(`${where}: context ${chosen}: ${unsupported}`);
  const isVerified = cluster['insecure-skip-tls-verify'] !== true;
  const sources = sourcesOf(cluster, user, dirname(path));
  return opened(cluster.server.replace(/\/+$/, ''), cluster['tls-server-name'] ?? null, isVerified, sources, now, where);
}

function readKubeconfig(path: string, where: string): { readonly config: Kubeconfig } | (Found & { kind: 'fault' }) {
  let content: unknown;
  try {
    content = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return fault(`${where}: can't be read: ${(error as Error).message}`);
  }
  const result = kubeconfig.safeParse(content);
  if (result.success) return { config: result.data };
  const [issue] = result.error.issues;
  return fault(`${where}: no kubeconfig: ${issue?.path.join('.')}: ${issue?.message}`);
}

function unsupportedIn(cluster: Cluster, user: User | null): string | null {
  if (cluster['proxy-url'] !== undefined) return 'proxy-url is not supported: name a server that can be reached directly';
  if ((user?.exec ?? user?.['auth-provider'] ?? null) !== null) {
    return (
      'credentials by exec or auth-provider are not supported (they run programs in the name of the controller): ' +
      'make a service account and use its token (kubectl create token), or a client certificate'
    );
  }
  if (user?.username !== undefined) return 'user name and password are not supported (Kubernetes dropped them in 1.19): use a token';
  return null;
}

function sourcesOf(cluster: Cluster, user: User | null, folder: string): CredentialSources {
  const source = (data: string | undefined, file: string | undefined): Literal | File | null => {
    if (data !== undefined) return { value: Buffer.from(data, 'base64').toString('utf8') };
    return file === undefined ? null : { file: resolve(folder, file) };
  };
  const token = user?.token === undefined ? null : { value: user.token };
  return {
    ca: source(cluster['certificate-authority-data'], cluster['certificate-authority']),
    cert: source(user?.['client-certificate-data'], user?.['client-certificate']),
    key: source(user?.['client-key-data'], user?.['client-key']),
    // The file goes first, as in client-go: the other is what it held when the kubeconfig was written.
    token: user?.tokenFile === undefined ? token : { file: resolve(folder, user.tokenFile) },
  };
}

/** Reads every file once, so that what is missing is said at the start. */
function opened(
  server: string,
  serverName: string | null,
  isVerified: boolean,
  sources: CredentialSources,
  now: () => number,
  where: string,
): Found {
  try {
    let current = readCredentials(sources);
    let readAtMs = now();
    const credentials = (isFresh: boolean): Credentials => {
      if (!isFresh && now() - readAtMs < MAX_AGE_MS) return current;
      readAtMs = now();
      try {
        current = readCredentials(sources);
      } catch {
        // Being replaced, perhaps; the server says if what we have is no longer good.
      }
      return current;
    };
    return { kind: 'found', access: { server, serverName, isVerified, credentials } };
  } catch (error) {
    return fault(`${where}: credentials can't be read: ${(error as Error).message}`);
  }
}

function readCredentials(sources: CredentialSources): Credentials {
  const read = (source: Literal | File | null): string | null => {
    if (source === null) return null;
    return 'value' in source ? source.value : readFileSync(source.file, 'utf8');
  };
  const token = read(sources.token)?.trim() ?? null;
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) throw new Error('the token is empty or no token');
  return { ca: read(sources.ca), cert: read(sources.cert), key: read(sources.key), token };
}

function fault(message: string): Found & { kind: 'fault' } {
  return { kind: 'fault', message };
}
