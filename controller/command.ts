// `weft controller`: flags and environment into a configuration, signals into a graceful stop.
import { Command, Option } from 'commander';
import { createLog, LOG_LEVELS } from '../api/log.js';
import { type ControllerFlags, controllerConfig, DEFAULT_FLAGS } from './config.js';
import { startController } from './main.js';

export function controllerCommand(): Command {
  return new Command('controller')
    .description('Stores resources and nodes in etcd and distributes the model to every node.')
    .addOption(repeatable('--etcd <endpoint>', 'etcd: http(s)://host:port or unix:/path (repeatable)', 'WEFT_ETCD', DEFAULT_FLAGS.etcd))
    .addOption(new Option('--etcd-prefix <path>', 'where our keys begin').env('WEFT_ETCD_PREFIX').default(DEFAULT_FLAGS.etcdPrefix))
    .addOption(repeatable('--listen <address>', 'gRPC: host:port or unix:/path (repeatable)', 'WEFT_LISTEN', DEFAULT_FLAGS.listen))
    .addOption(
      new Option('--metrics-listen <address>', 'Prometheus, /healthz, /readyz; empty for none')
        .env('WEFT_METRICS_LISTEN')
        .default(DEFAULT_FLAGS.metricsListen),
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
    .action(run);
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
    return command.error(`error: ${error instanceof Error ? error.message : String(error)}`, { exitCode: 2 });
  }
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
    log.fatal(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
