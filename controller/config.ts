// The controller's configuration: the one place that turns flags and environment into typed, checked, frozen values.
import { accessSync, constants, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { isLocalAddress } from '../api/access/secure-channel.js';
import { type HostPort, parseHostPort } from '../api/host-port.js';
import { LOG_LEVELS, type LogLevel } from '../api/log.js';
import type { AuthorityPlace } from './ca/authority.js';
import { readSealingKey } from './ca/sealed.js';
import type { ConsulAccess } from './sources/consul/consul-client.js';
import { type ClusterAccess, inClusterAccess, kubeconfigAccess } from './sources/kubernetes/cluster-access.js';
import type { ZooKeeperAccess } from './sources/zookeeper/session.js';
import type { EtcdSecretFiles } from './store/etcd-secrets.js';

export interface ControllerConfig {
  /** "http://host:port", "https://host:port" or "unix:/path". */
  readonly etcdEndpoints: readonly string[];
  readonly etcdSecrets: EtcdSecretFiles;
  /** Without a trailing slash. */
  readonly etcdPrefix: string;
  /** As gRPC writes addresses: "host:port", "[v6]:port" or "unix:/path". */
  readonly listen: readonly string[];
  /** Null: no TLS, listeners are plaintext. */
  readonly authority: AuthorityPlace | null;
  readonly certificateTtlMs: number;
  /** For so long after its end a node's certificate still renews itself. */
  readonly rejoinWindowMs: number;
  /** "<namespace>/<name>": agents' in Kubernetes. */
  readonly nodeServiceAccount: string;
  /** "<namespace>/<name>" of the ConfigMap in which agents there find whom to trust; null: none. */
  readonly publishAuthorities: string | null;
  /** "host:port"; null: no metrics. */
  readonly metricsListen: HostPort | null;
  /** Where the registry is read over HTTP; null: nowhere. */
  readonly registryListen: HostPort | null;
  readonly nodeTtlMs: number;
  readonly logLevel: LogLevel;
  readonly clusterName: string;
  /** The cluster whose objects are read; null: none. */
  readonly kubernetes: ClusterAccess | null;
  /** The catalogue that is read; null: none. */
  readonly consul: { readonly access: ConsulAccess; readonly namespace: string } | null;
  /** Of the DNS, as "address" or "address:port"; none: those of this host. */
  readonly dnsServers: readonly string[];
  /** The registry that is read; null: none. */
  readonly zookeeper: { readonly access: ZooKeeperAccess; readonly namespace: string } | null;
}

export interface ControllerFlags {
  readonly etcd: readonly string[];
  /** Paths, and a name; empty: none. */
  readonly etcdCa: string;
  readonly etcdCert: string;
  readonly etcdKey: string;
  readonly etcdUser: string;
  readonly etcdPasswordFile: string;
  readonly etcdPrefix: string;
  /** Empty: the defaults. */
  readonly listen: readonly string[];
  readonly authorityKeyFile: string;
  readonly authorityCert: string;
  readonly authorityKey: string;
  readonly nodeCertificateTtl: string;
  readonly nodeRejoinWindow: string;
  readonly nodeServiceAccount: string;
  readonly publishAuthorities: string;
  readonly insecure: boolean;
  readonly metricsListen: string;
  readonly registryListen: string;
  readonly nodeTtl: string;
  readonly logLevel: string;
  readonly clusterName: string;
  /** "in-cluster", the path of a kubeconfig, or empty. */
  readonly kubernetes: string;
  /** Empty: the kubeconfig's current one. */
  readonly kubernetesContext: string;
  /** An URL, or empty. */
  readonly consul: string;
  readonly consulTokenFile: string;
  readonly consulCa: string;
  readonly consulDatacenter: string;
  readonly consulNamespace: string;
  /** "host:port,host:port", or empty. */
  readonly zookeeper: string;
  readonly zookeeperPath: string;
  readonly zookeeperDigestFile: string;
  readonly zookeeperNamespace: string;
  readonly dnsServer: readonly string[];
}

export const DEFAULT_FLAGS: ControllerFlags = {
  etcd: ['http://127.0.0.1:2379'],
  etcdCa: '',
  etcdCert: '',
  etcdKey: '',
  etcdUser: '',
  etcdPasswordFile: '',
  etcdPrefix: '/weft',
  listen: [],
  authorityKeyFile: '',
  authorityCert: '',
  authorityKey: '',
  nodeCertificateTtl: '86400',
  nodeRejoinWindow: '604800',
  nodeServiceAccount: 'weft-system/weft-agent',
  publishAuthorities: '',
  insecure: false,
  metricsListen: '0.0.0.0:15021',
  registryListen: '',
  nodeTtl: '10',
  logLevel: 'info',
  clusterName: 'weft',
  kubernetes: '',
  kubernetesContext: '',
  consul: '',
  consulTokenFile: '',
  consulCa: '',
  consulDatacenter: '',
  consulNamespace: 'consul',
  zookeeper: '',
  zookeeperPath: '/services',
  zookeeperDigestFile: '',
  zookeeperNamespace: 'zookeeper',
  dnsServer: [],
};

/** Throws an Error that names the flag, what was expected and what was found. */
export function controllerConfig(flags: ControllerFlags, environment: NodeJS.ProcessEnv = process.env): ControllerConfig {
  const level = LOG_LEVELS.find((known) => known === flags.logLevel);
  if (level === undefined) throw new Error(`--log-level "${flags.logLevel}": expected one of ${LOG_LEVELS.join(', ')}`);
  const ttl = Number(flags.nodeTtl);
  if (!Number.isInteger(ttl) || ttl < 2 || ttl > 3_600) throw new Error(`--node-ttl "${flags.nodeTtl}": expected whole seconds, 2 to 3600`);
  const metricsListen = parseHostPort(flags.metricsListen);
  if (flags.metricsListen !== '' && metricsListen === null) {
    throw new Error(`--metrics-listen "${flags.metricsListen}": expected host:port, or nothing for no metrics`);
  }
  const registryListen = parseHostPort(flags.registryListen);
  if (flags.registryListen !== '' && registryListen === null) {
    throw new Error(`--registry-listen "${flags.registryListen}": expected host:port, or nothing for none`);
  }
  const authority = authorityPlace(flags);
  if (registryListen !== null && authority === null && !flags.insecure && !isLocalAddress(flags.registryListen)) {
    throw new Error(
      `--registry-listen ${flags.registryListen}: without an authority it would be plaintext, readable by whoever reaches it: give --authority-key-file (docs/security.md), listen on 127.0.0.1, or say --insecure`,
    );
  }
  checkNamespaced('--node-service-account', flags.nodeServiceAccount);
  const { publishAuthorities } = flags;
  if (publishAuthorities !== '') checkNamespaced('--publish-authorities', publishAuthorities);
  if (publishAuthorities !== '' && (authority === null || flags.kubernetes === '')) {
    throw new Error('--publish-authorities: needs an authority (--authority-key-file) and --kubernetes');
  }
  return Object.freeze({
    ...storeConfig(flags),
    listen: Object.freeze(listenAddresses(flags, authority !== null)),
    authority,
    certificateTtlMs: seconds('--node-certificate-ttl', flags.nodeCertificateTtl, 2),
    rejoinWindowMs: seconds('--node-rejoin-window', flags.nodeRejoinWindow, 0),
    nodeServiceAccount: flags.nodeServiceAccount,
    publishAuthorities: publishAuthorities === '' ? null : publishAuthorities,
    metricsListen,
    registryListen,
    nodeTtlMs: ttl * 1_000,
    logLevel: level,
    clusterName: flags.clusterName,
    kubernetes: kubernetesAccess(flags, environment),
    consul: consulSource(flags),
    zookeeper: zookeeperSource(flags),
    dnsServers: dnsServers(flags),
  });
}

function checkNamespaced(flag: string, value: string): void {
  if (!/^[a-z0-9-]{1,63}\/[a-z0-9.-]{1,253}$/.test(value)) throw new Error(`${flag} "${value}": expected <namespace>/<name>`);
}

const YEAR_S = 365 * 86_400;

function seconds(flag: string, value: string, least: number): number {
  const count = Number(value);
  if (value !== '' && Number.isInteger(count) && count >= least && count <= YEAR_S) return count * 1_000;
  throw new Error(`${flag} "${value}": expected whole seconds, ${least} to ${YEAR_S}`);
}

function authorityPlace({ authorityKeyFile, authorityCert, authorityKey, insecure }: ControllerFlags): AuthorityPlace | null {
  if ((authorityCert === '') !== (authorityKey === '')) throw new Error('--authority-cert and --authority-key: give both or neither');
  if (authorityCert !== '' && authorityKeyFile !== '') {
    throw new Error('--authority-key-file is for an authority in etcd, --authority-cert for one in files: give one of them');
  }
  if (authorityCert === '' && authorityKeyFile === '') return null;
  if (insecure) throw new Error('--insecure: there is an authority, so every TCP address has TLS: leave one of them out');
  if (authorityKeyFile !== '') return { kind: 'store', sealingKey: readSealingKey('--authority-key-file', authorityKeyFile) };
  return { kind: 'files', certificateFile: authorityCert, keyFile: authorityKey };
}

const PLAINTEXT =
  'without an authority it would be plaintext: give --authority-key-file (docs/security.md), listen on 127.0.0.1, or say --insecure';

/** Plaintext is for this host alone, unless somebody has said that they want it. */
function listenAddresses({ listen, insecure }: ControllerFlags, isSecure: boolean): string[] {
  const given = listen.length > 0 ? listen : [isSecure ? '0.0.0.0:15010' : '127.0.0.1:15010', 'unix:/run/weft/controller.sock'];
  const open = isSecure || insecure ? undefined : given.find((address) => !isLocalAddress(address));
  if (open === undefined) return [...given];
  throw new Error(`--listen ${open}: whoever reaches it would be an administrator, ${PLAINTEXT}`);
}

export type StoreFlags = Pick<ControllerFlags, 'etcd' | 'etcdCa' | 'etcdCert' | 'etcdKey' | 'etcdUser' | 'etcdPasswordFile' | 'etcdPrefix'>;
export type StoreConfig = Pick<ControllerConfig, 'etcdEndpoints' | 'etcdSecrets' | 'etcdPrefix'>;

/** Where etcd is and what opens it; throws as controllerConfig(). */
export function storeConfig(flags: StoreFlags): StoreConfig {
  if (!/^(\/[A-Za-z0-9._-]+)+$/.test(flags.etcdPrefix))
    throw new Error(`--etcd-prefix "${flags.etcdPrefix}": expected a path such as /weft`);
  const secure = flags.etcd.filter((endpoint) => endpoint.startsWith('https:')).length;
  if (secure !== 0 && secure !== flags.etcd.length) throw new Error('--etcd: all endpoints must be https:, or none');
  for (const endpoint of flags.etcd) checkEndpoint(endpoint);
  const given = (value: string): string | null => (value === '' ? null : value);
  const secrets = {
    ca: given(flags.etcdCa),
    cert: given(flags.etcdCert),
    key: given(flags.etcdKey),
    user: given(flags.etcdUser),
    passwordFile: given(flags.etcdPasswordFile),
  };
  if ((secrets.cert === null) !== (secrets.key === null)) throw new Error('--etcd-cert and --etcd-key: give both or neither');
  if ((secrets.user === null) !== (secrets.passwordFile === null)) {
    throw new Error('--etcd-user and --etcd-password-file: give both or neither');
  }
  if ((secrets.ca ?? secrets.cert) !== null && secure === 0) {
    throw new Error(`--etcd-ca, --etcd-cert: "${flags.etcd[0]}" is not https:, so nothing would be encrypted`);
  }
  return { etcdEndpoints: Object.freeze([...flags.etcd]), etcdSecrets: Object.freeze(secrets), etcdPrefix: flags.etcdPrefix };
}

function kubernetesAccess({ kubernetes, kubernetesContext }: ControllerFlags, environment: NodeJS.ProcessEnv): ClusterAccess | null {
  if (kubernetesContext !== '' && (kubernetes === '' || kubernetes === 'in-cluster')) {
    throw new Error('--kubernetes-context: is of a kubeconfig, name that by --kubernetes FILE');
  }
  if (kubernetes === '') return null;
  const now = (): number => performance.now();
  const found =
    kubernetes === 'in-cluster'
      ? inClusterAccess(environment.KUBERNETES_SERVICE_HOST, environment.KUBERNETES_SERVICE_PORT, now)
      : kubeconfigAccess(kubernetes, kubernetesContext === '' ? null : kubernetesContext, now);
  if (found.kind === 'fault') throw new Error(found.message);
  return found.access;
}

function consulSource({
  consul,
  consulTokenFile,
  consulCa,
  consulDatacenter,
  consulNamespace,
}: ControllerFlags): ControllerConfig['consul'] {
  if (consul === '') {
    const lone = Object.entries({ 'token-file': consulTokenFile, ca: consulCa, datacenter: consulDatacenter }).find(
      ([, value]) => value !== '',
    );
    if (lone !== undefined) throw new Error(`--consul-${lone[0]}: needs --consul, the URL of a Consul agent`);
    return null;
  }
  if (!/^https?:\/\/[^/?#\s]+\/?$/.test(consul) || !URL.canParse(consul))
    throw new Error(`--consul "${consul}": expected http://host:port or https://host:port`);
  checkNamespace('--consul-namespace', consulNamespace);
  checkReadable('--consul-token-file', consulTokenFile);
  checkReadable('--consul-ca', consulCa);
  return {
    access: {
      server: consul.replace(/\/$/, ''),
      tokenFile: consulTokenFile === '' ? null : consulTokenFile,
      caFile: consulCa === '' ? null : consulCa,
      datacenter: consulDatacenter === '' ? null : consulDatacenter,
    },
    namespace: consulNamespace,
  };
}

function zookeeperSource({
  zookeeper,
  zookeeperPath,
  zookeeperDigestFile: file,
  zookeeperNamespace,
}: ControllerFlags): ControllerConfig['zookeeper'] {
  if (zookeeper === '') return null;
  if (zookeeper.split(',').some((server) => parseHostPort(server) === null))
    throw new Error(`--zookeeper "${zookeeper}": expected host:port, or several with commas`);
  if (!/^(\/[^/\s]+)+$/.test(zookeeperPath)) throw new Error(`--zookeeper-path "${zookeeperPath}": expected a path such as /services`);
  checkNamespace('--zookeeper-namespace', zookeeperNamespace);
  checkReadable('--zookeeper-digest-file', file);
  const digest = (): string | null => (file === '' ? null : readFileSync(file, 'utf8').trim());
  return { access: { servers: zookeeper, path: zookeeperPath, digest }, namespace: zookeeperNamespace };
}

function dnsServers({ dnsServer }: ControllerFlags): readonly string[] {
  const isServer = (server: string): boolean => isIP(server) !== 0 || isIP(parseHostPort(server)?.host ?? '') !== 0;
  const bad = dnsServer.find((server) => !isServer(server));
  if (bad !== undefined) throw new Error(`--dns-server "${bad}": expected an address, address:port or [v6]:port`);
  return Object.freeze([...dnsServer]);
}

function checkNamespace(flag: string, namespace: string): void {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace)) throw new Error(`${flag} "${namespace}": expected a DNS label`);
}

function checkReadable(flag: string, file: string): void {
  try {
    if (file !== '') accessSync(file, constants.R_OK);
  } catch (error) {
    throw new Error(`${flag} "${file}": can't be read: ${(error as Error).message}`);
  }
}

function checkEndpoint(endpoint: string): void {
  const address = endpoint.replace(/^https?:\/\//, '');
  if (address.startsWith('unix:/') || parseHostPort(address) !== null) return;
  throw new Error(`--etcd "${endpoint}": expected http://host:port, https://host:port or unix:/path`);
}
