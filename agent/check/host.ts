// All checks of the host that this process runs on, in the order in which they are told. Leaves the host as it is; the self-test makes
// scratch namespaces and pins, and removes them.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { cgroupRoot } from '../capture/cgroups.js';
import { isNatMode } from '../capture/modes.js';
import { testNat } from '../capture/nat-capture.js';
import { loadAddon } from '../native/addon.js';
import { HOST_MARK } from '../native/capture.js';
import type { CheckSection, HostFacts } from './check.js';
import { checkConflicts } from './conflicts.js';
import { checkChoice, checkKernel } from './kernel.js';
import { checkMounts } from './mounts.js';
import { checkPrivileges } from './privileges.js';

export interface HostCheckOptions {
  readonly bpfDir: string;
  readonly meshNetns: string;
  /** TCP ports that the agent will bind on the host. */
  readonly ports: readonly number[];
}

/** A rule set of 100,000 lines takes nft seconds. */
const COMMAND_TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

const host: HostFacts = {
  release: release(),
  read: (path) => orElse(() => readFileSync(path, 'utf8'), null),
  list: (path) => orElse(() => readdirSync(path), []),
  run: (command, ...args) => {
    const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', timeout: COMMAND_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES });
    return status === 0 ? stdout : null;
  },
};

function orElse<T, U>(read: () => T, otherwise: U): T | U {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

function orError(action: () => void): unknown {
  try {
    action();
    return null;
  } catch (error) {
    return error;
  }
}

export function checkHost({ bpfDir, meshNetns, ports }: HostCheckOptions): readonly CheckSection[] {
  const addon = loadAddon();
  // Told twice, tried once.
  const faults = new Map<string, unknown>();
  const testCapture = (mode: 'ebpf-tcx' | 'ebpf-clsact'): void => {
    if (!faults.has(mode))
      faults.set(
        mode,
        orError(() => addon.testCapture(mode, bpfDir)),
      );
    if (faults.get(mode) !== null) throw faults.get(mode);
  };
  return [
    { title: 'Privileges', checks: checkPrivileges(host) },
    { title: 'Mounts', checks: checkMounts(host, bpfDir, meshNetns) },
    { title: 'Kernel', checks: checkKernel(host, { testCapture }, bpfDir) },
    {
      title: 'Capture',
      checks: [checkChoice((mode) => (isNatMode(mode) ? testNat(mode, addon) : testCapture(mode)))],
    },
    { title: 'Conflicts', checks: checkConflicts(host, addon, { hostMark: HOST_MARK, ports, cgroupRoot: cgroupRoot() }) },
  ];
}
