// `weft controller`: flags and environment into a configuration, signals into a graceful stop.
import { setFlagsFromString } from 'node:v8';
import { Command, Help, Option } from 'commander';
import { createLog, LOG_LEVELS } from '../api/log.js';
import { messageOf } from '../api/message-of.js';
import { type ControllerFlags, controllerConfig, DEFAULT_FLAGS, type StoreConfig, type StoreFlags, storeConfig } from './config.js';
import { startController } from './main.js';
import { BackupFailure, backUp, restore } from './store/backup.js';
import { EtcdClient } from './store/etcd-client.js';
import { secretsOf } from './store/etcd-secrets.js';
import { Keyspace } from './store/keys.js';

/**
 * Percent by which the heap may grow before V8 looks for garbage; of itself it lets it double. With a thousand nodes that was 416 MiB resident, now 309 (bench control,
 * with 100 changes a second): the difference was acks and heartbeats that were over.
 */
const HEAP_GROWTH = 50;
/**
 * A change that a thousand nodes ack allocates 13 MiB: one scavenge. Shared out it waits for V8's threads, and those for a core while etcd and others are at
 * work: in five pairs of runs at a load average of 2 to 3 the longest change was 172 to 307 ms, alone 129 to 244. V8 reads this at each scavenge.
 */
const SCAVENGE_ALONE = '--no-parallel-scavenge';

export function controllerCommand(): Command {
  return withStore(new Command('controller'))
    .description('Run the controller: stores resources and nodes in etcd, distributes the model to every node.')
    .addOption(
      repeatable(
        '--listen <address>',
        'gRPC: host:port or unix:/path, repeatable (default: port 15010, on 127.0.0.1 without an authority; unix:/run/weft/controller.sock)',
        'WEFT_LISTEN',
        DEFAULT_FLAGS.listen,
      ),
    )
    .addOption(
      optional(
        '--authority-key-file <path>',
        'turns TLS on: 32 bytes (openssl rand -hex 32) that seal the keys of the authority of nodes and controllers in etcd; the same at every replica',
        'WEFT_AUTHORITY_KEY_FILE',
      ),
    )
    .addOption(
      optional('--authority-cert <path>', 'turns TLS on: an authority of your own, PEM; several: the first signs', 'WEFT_AUTHORITY_CERT'),
    )
    .addOption(optional('--authority-key <path>', 'its key, PEM', 'WEFT_AUTHORITY_KEY'))
    .addOption(
      new Option('--node-certificate-ttl <seconds>', 'life of a node’s certificate; it renews itself when two thirds are over')
        .env('WEFT_NODE_CERTIFICATE_TTL')
        .default(DEFAULT_FLAGS.nodeCertificateTtl),
    )
    .addOption(
      new Option('--node-rejoin-window <seconds>', 'for so long after its end a node’s certificate still renews itself')
        .env('WEFT_NODE_REJOIN_WINDOW')
        .default(DEFAULT_FLAGS.nodeRejoinWindow),
    )
    .addOption(
      new Option('--node-service-account <ns/name>', 'whose tokens agents in Kubernetes join with')
        .env('WEFT_NODE_SERVICE_ACCOUNT')
        .default(DEFAULT_FLAGS.nodeServiceAccount),
    )
    .addOption(
      optional(
        '--publish-authorities <ns/name>',
        'keep a ConfigMap with the authorities (ca.crt), for agents in Kubernetes to know whom to trust',
        'WEFT_PUBLISH_AUTHORITIES',
      ),
    )
    .addOption(
      new Option('--insecure', 'listen in plaintext on other addresses than loopback: whoever reaches them is an administrator')
        .env('WEFT_INSECURE')
        .default(DEFAULT_FLAGS.insecure),
    )
    .addOption(
      new Option('--metrics-listen <address>', 'Prometheus, /healthz, /readyz; empty for none')
        .env('WEFT_METRICS_LISTEN')
        .default(DEFAULT_FLAGS.metricsListen),
    )
    .addOption(
      new Option(
        '--registry-listen <address>',
        'HTTP, over TLS where there is an authority: services and endpoints as JSON, for viewers (default: none)',
      )
        .env('WEFT_REGISTRY_LISTEN')
        .default(DEFAULT_FLAGS.registryListen),
    )
    .addOption(
      new Option('--node-ttl <seconds>', 'how long a silent node counts as alive').env('WEFT_NODE_TTL').default(DEFAULT_FLAGS.nodeTtl),
    )
    .addOption(
      new Option('--log-level <level>', 'least severe to log').choices(LOG_LEVELS).env('WEFT_LOG_LEVEL').default(DEFAULT_FLAGS.logLevel),
    )
    .addOption(new Option('--cluster-name <name>', 'names this mesh in logs').env('WEFT_CLUSTER_NAME').default(DEFAULT_FLAGS.clusterName))
    .addOption(
      new Option('--kubernetes <place>', 'read a cluster: in-cluster (the pod’s service account), or the path of a kubeconfig')
        .env('WEFT_KUBERNETES')
        .default(DEFAULT_FLAGS.kubernetes),
    )
    .addOption(
      new Option('--kubernetes-context <name>', 'context of the kubeconfig (default: its current one)')
        .env('WEFT_KUBERNETES_CONTEXT')
        .default(DEFAULT_FLAGS.kubernetesContext),
    )
    .addOption(
      new Option('--consul <url>', 'read a Consul catalogue: http(s)://host:port of an agent')
        .env('WEFT_CONSUL')
        .default(DEFAULT_FLAGS.consul),
    )
    .addOption(
      new Option('--consul-token-file <path>', 'an ACL token with service:read and node:read')
        .env('WEFT_CONSUL_TOKEN_FILE')
        .default(DEFAULT_FLAGS.consulTokenFile),
    )
    .addOption(
      new Option('--consul-ca <path>', 'authorities of its certificate, PEM (default: the system’s)')
        .env('WEFT_CONSUL_CA')
        .default(DEFAULT_FLAGS.consulCa),
    )
    .addOption(
      new Option('--consul-datacenter <name>', 'which one (default: the agent’s)')
        .env('WEFT_CONSUL_DATACENTER')
        .default(DEFAULT_FLAGS.consulDatacenter),
    )
    .addOption(
      new Option('--consul-namespace <name>', 'where its services are put')
        .env('WEFT_CONSUL_NAMESPACE')
        .default(DEFAULT_FLAGS.consulNamespace),
    )
    .addOption(
      new Option('--zookeeper <servers>', 'read services registered in ZooKeeper: host:port, with commas')
        .env('WEFT_ZOOKEEPER')
        .default(DEFAULT_FLAGS.zookeeper),
    )
    .addOption(
      new Option('--zookeeper-path <path>', 'the znode whose children are the services')
        .env('WEFT_ZOOKEEPER_PATH')
        .default(DEFAULT_FLAGS.zookeeperPath),
    )
    .addOption(
      new Option('--zookeeper-digest-file <path>', 'user:password of digest authentication')
        .env('WEFT_ZOOKEEPER_DIGEST_FILE')
        .default(DEFAULT_FLAGS.zookeeperDigestFile),
    )
    .addOption(
      new Option('--zookeeper-namespace <name>', 'where its services are put')
        .env('WEFT_ZOOKEEPER_NAMESPACE')
        .default(DEFAULT_FLAGS.zookeeperNamespace),
    )
    .addOption(
      repeatable(
        '--dns-server <address>',
        'who resolves the names of ServiceEntries: address, address:port or [v6]:port (repeatable; default: as /etc/resolv.conf)',
        'WEFT_DNS_SERVER',
        DEFAULT_FLAGS.dnsServer,
      ),
    )
    .action(run)
    .addCommand(backupCommand())
    .addCommand(restoreCommand());
}

function backupCommand(): Command {
  return withStore(new Command('backup'))
    .description('Write all that the mesh keeps in etcd to one file, as of one revision. Secrets are in it: only its owner may read it.')
    .argument('<file>')
    .action(async (file: string, _: StoreFlags, command: Command) => {
      await withStoreOf(command, async (client, keys) => {
        const { keys: count, revision } = await backUp(client, keys, file, Date.now());
        process.stdout.write(`${file}: ${count} keys as of revision ${revision}\n`);
      });
    });
}

function restoreCommand(): Command {
  return withStore(new Command('restore'))
    .description('Make etcd hold what a backup does. Controllers may run: nodes hear of it when it is whole.')
    .argument('<file>')
    .option('--replace', 'although objects stand there already: those that the file does not hold are deleted', false)
    .action(async (file: string, { replace }: { replace: boolean }, command: Command) => {
      await withStoreOf(command, async (client, keys) => {
        const { written, deleted, unchanged } = await restore(client, keys, file, replace);
        process.stdout.write(`${file}: ${written} keys written, ${deleted} deleted, ${unchanged} as they were\n`);
      });
    });
}

/** How a command reaches etcd: the same flags for each. */
function withStore(command: Command): Command {
  return command
    .configureHelp({ optionDescription })
    .addOption(repeatable('--etcd <endpoint>', 'etcd: http(s)://host:port or unix:/path (repeatable)', 'WEFT_ETCD', DEFAULT_FLAGS.etcd))
    .addOption(new Option('--etcd-prefix <path>', 'where our keys begin').env('WEFT_ETCD_PREFIX').default(DEFAULT_FLAGS.etcdPrefix))
    .addOption(optional('--etcd-ca <file>', 'authorities of etcd’s certificates, PEM; else the system’s', 'WEFT_ETCD_CA'))
    .addOption(optional('--etcd-cert <file>', 'our certificate for etcd, PEM; read again when it is rotated', 'WEFT_ETCD_CERT'))
    .addOption(optional('--etcd-key <file>', 'its key', 'WEFT_ETCD_KEY'))
    .addOption(optional('--etcd-user <name>', 'log in to etcd', 'WEFT_ETCD_USER'))
    .addOption(optional('--etcd-password-file <file>', 'its password', 'WEFT_ETCD_PASSWORD_FILE'));
}

/** Nothing is said of a default that is nothing. */
function optionDescription(option: Option): string {
  const { defaultValue, description, envVar } = option;
  const isNothing = defaultValue === '' || defaultValue === false || (Array.isArray(defaultValue) && defaultValue.length === 0);
  if (!isNothing) return new Help().optionDescription(option);
  return envVar === undefined ? description : `${description} (env: ${envVar})`;
}

function optional(flags: string, description: string, variable: string): Option {
  return new Option(flags, description).env(variable).default('');
}

/** For commands that end: says what failed, exits 1 or 2. */
async function withStoreOf(command: Command, use: (client: EtcdClient, keys: Keyspace) => Promise<void>): Promise<void> {
  let client: EtcdClient;
  let config: StoreConfig;
  try {
    // The parent takes its flags wherever they stand, behind a subcommand too.
    config = storeConfig(command.optsWithGlobals<StoreFlags>());
    client = new EtcdClient({ endpoints: config.etcdEndpoints, secrets: secretsOf(config.etcdSecrets) });
  } catch (error) {
    return command.error(`error: ${messageOf(error)}`, { exitCode: 2 });
  }
  try {
    await use(client, new Keyspace(config.etcdPrefix));
  } catch (error) {
    if (!(error instanceof BackupFailure)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

/** In the environment the values are separated by commas. */
function repeatable(flags: string, description: string, variable: string, fallback: readonly string[]): Option {
  const option = new Option(flags, description).env(variable).default(fallback);
  return option.argParser((value: string, previous: readonly string[]) => [
    ...(previous === fallback ? [] : previous),
    ...value.split(','),
  ]);
}

async function run(flags: ControllerFlags, command: Command): Promise<void> {
  let config: ReturnType<typeof controllerConfig>;
  try {
    config = controllerConfig(flags);
  } catch (error) {
    return command.error(`error: ${messageOf(error)}`, { exitCode: 2 });
  }
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH}`);
  setFlagsFromString(SCAVENGE_ALONE);
  const log = createLog('controller', config.logLevel);
  // Before anything is opened: a signal during the start must not leave a socket behind.
  const stopSignal = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  try {
    const controller = await startController(config, log);
    log.info({ signal: await stopSignal }, 'controller stops');
    await controller.stop();
  } catch (error) {
    log.fatal(messageOf(error));
    process.exitCode = 1;
  }
}
