// The Debian packages that building, running and testing need; finds the missing ones by what they bring, and installs those.
import { accessSync, constants, existsSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { capture, SetupError, say, step } from './console.mjs';

/** Package → what it brings: a command, or a file by absolute path. */
const PACKAGES = {
  build: {
    cmake: 'cmake',
    make: 'make',
    'g++': 'g++',
    clang: 'clang',
    llvm: 'llvm-strip',
    bpftool: 'bpftool',
    'pkg-config': 'pkg-config',
    'libbpf-dev': '/usr/include/bpf/bpf.h',
    'libelf-dev': '/usr/include/libelf.h',
    'zlib1g-dev': '/usr/include/zlib.h',
    // Debian's own Node comes without its headers; those of nodejs.org and NodeSource bring them.
    ...(realpathSync(process.execPath).startsWith('/usr/bin/') && { 'libnode-dev': '/usr/include/node/uv.h' }),
  },
  run: {
    iproute2: 'ip',
    nftables: 'nft',
    'etcd-server': 'etcd',
    'util-linux': 'nsenter',
    procps: 'sysctl',
  },
  test: {
    'etcd-client': 'etcdctl',
    nginx: 'nginx',
    haproxy: 'haproxy',
    wrk: 'wrk',
    'nghttp2-client': 'h2load',
    'nghttp2-proxy': 'nghttpx',
    'libnginx-mod-stream': '/usr/lib/nginx/modules/ngx_stream_module.so',
    openssl: 'openssl',
    systemd: '/usr/lib/systemd/systemd',
    iptables: 'iptables',
    curl: 'curl',
    chromium: 'chromium',
    python3: 'python3',
    zookeeper: '/usr/share/java/zookeeper.jar',
    'clang-format': 'clang-format',
    // The core's own tests and fuzzers run outside Node, which brings OpenSSL to the addon.
    'libssl-dev': '/usr/include/openssl/ssl.h',
  },
};

const PURPOSES = {
  build: 'build the engine and the BPF programs',
  run: 'run a mesh on this machine',
  test: 'run the tests and benchmarks',
};
/** Where Debian keeps administrators' commands; not always in the PATH of root. */
const ADMIN_PATHS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const POLICY = '/usr/sbin/policy-rc.d';

/** `purposes`: keys of PACKAGES. */
export async function installPackages(purposes) {
  process.env.PATH = [...new Set([...(process.env.PATH ?? '').split(delimiter), ...ADMIN_PATHS])].join(delimiter);
  const missing = purposes.map((purpose) => [purpose, missingOf(purpose)]).filter(([, names]) => names.length > 0);
  if (missing.length > 0) await install(missing);
  if (purposes.includes('test')) await installSanitizers();
}

function missingOf(purpose) {
  return Object.entries(PACKAGES[purpose])
    .filter(([, brings]) => !isThere(brings))
    .map(([name]) => name);
}

function isThere(brings) {
  if (brings.startsWith('/')) return existsSync(brings);
  return process.env.PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, brings), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function install(missing) {
  const names = missing.flatMap(([, each]) => each);
  refuseWhereImpossible(names);
  await step('Reading the list of Debian packages', () =>
    apt(['update'], 'Is there a network, and do /etc/apt/sources.list and the proxy settings fit?'),
  );
  for (const [purpose, each] of missing) {
    await step(`Installing what it takes to ${PURPOSES[purpose]}: ${each.join(' ')}`, () => withoutServices(() => aptInstall(each)));
  }
  const still = missing.flatMap(([purpose]) => missingOf(purpose));
  if (still.length > 0)
    throw new SetupError(`Installed, and still not found: ${still.join(' ')}. Look at the output of apt-get install ${still.join(' ')}`);
}

function refuseWhereImpossible(names) {
  const command = `apt-get install ${names.join(' ')}`;
  if (!isThere('apt-get'))
    throw new SetupError(
      `Missing: ${names.join(' ')} (Debian's names). This system has no apt-get: install them its way, then start again.`,
    );
  if (process.getuid() !== 0)
    throw new SetupError(`Missing: ${names.join(' ')}. Installing them needs root: run\n  sudo ${command}\nor start this again as root.`);
}

function aptInstall(names) {
  return apt(['install', '-y', '--no-install-recommends', ...names], `Try it by hand: apt-get install ${names.join(' ')}`);
}

async function apt(args, hint) {
  try {
    return await capture('apt-get', ['-q', ...args], { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
  } catch (error) {
    throw new SetupError(`${error.message}\n${hint}`);
  }
}

/** nginx, haproxy and etcd come with services that would start at once; nobody asked for those (policy-rc.d(8): 101 forbids). */
async function withoutServices(work) {
  const isOurs = !existsSync(POLICY);
  if (isOurs) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return await work();
  } finally {
    if (isOurs) rmSync(POLICY, { force: true });
  }
}

/** clang's sanitizer and fuzzer runtimes are named after its version. */
async function installSanitizers() {
  const runtime = (await capture('clang', ['-print-file-name=libclang_rt.asan-x86_64.a'])).trim();
  if (process.arch !== 'x64' || existsSync(runtime)) return;
  const version = /version (\d+)/.exec(await capture('clang', ['--version']))?.[1];
  const name = `libclang-rt-${version}-dev`;
  refuseWhereImpossible([name]);
  await step(`Installing clang's sanitizers: ${name}`, () => aptInstall([name]));
}

export function refuseUnsupportedSystem() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new SetupError(`Node ${process.versions.node} is too old: Weft needs Node 20 or newer.`);
  if (process.platform !== 'linux')
    throw new SetupError(
      `Weft redirects traffic with the Linux kernel: ${process.platform} has none. Use a Linux machine, or a virtual one.`,
    );
  if (!['x64', 'arm64'].includes(process.arch)) say(`Note: ${process.arch} is untested.`);
}
