// Whether this kernel carries the redirection: its version, the self-test of each mode, the JIT compiler. Versions: bpf/README.md.
import { messageOf } from '../../api/message-of.js';
import { EBPF_MODES, firstWorking, isNatMode, NAT_MODES } from '../capture/modes.js';
import type { CaptureAddon, CaptureHandle } from '../native/capture.js';
import { bad, type Check, good, type HostFacts, unknown, warning } from './check.js';

interface KernelFeature {
  readonly title: string;
  /** First kernel that has all of it. */
  readonly since: readonly [major: number, minor: number];
  readonly without: string;
}

const FEATURES: readonly KernelFeature[] = [
  { title: 'pods', since: [5, 10], without: 'pods cannot be captured by eBPF' },
  { title: 'host processes', since: [5, 14], without: 'systemd services and other processes of the host cannot be captured' },
  { title: 'tcx', since: [6, 6], without: 'clsact is used in its place: the same, but a CNI that flushes clsact filters removes ours too' },
];

export function checkKernel(facts: HostFacts, addon: Pick<CaptureAddon, 'testCapture'>, bpfDir: string): readonly Check[] {
  return [...FEATURES.map((feature) => checkFeature(facts.release, feature)), ...checkModes(addon, bpfDir), checkJit(facts)];
}

function checkFeature(release: string, { title, since, without }: KernelFeature): Check {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  const version = `kernel for ${title}`;
  const wanted = since.join('.');
  if (major === undefined) return unknown(version, `the kernel calls itself "${release}"`, `${wanted} is needed`);
  if (Number(major) > since[0] || (Number(major) === since[0] && Number(minor) >= since[1]))
    return good(version, `${release}, needs ${wanted}`);
  return warning(version, `${release}: ${without}`, `a kernel from ${wanted} on has it`);
}

/**
 * What `weft agent --capture auto` would take, and why not what comes before it. `test` throws why a mode does not work.
 */
export function checkChoice(test: (mode: CaptureHandle['mode']) => void): Check {
  const title = '--capture auto';
  const { mode, faults } = firstWorking([...EBPF_MODES, ...NAT_MODES], test);
  if (mode === null) return bad(title, `takes none, connections go direct: ${faults.join('; ')}`, 'mend what one of the texts says');
  if (faults.length === 0) return good(title, `takes ${mode}`);
  const remedy = isNatMode(mode)
    ? 'what is different then: docs/fallback.md; or mend what the text says'
    : 'nothing: the same, by older hooks';
  return warning(title, `takes ${mode}, since ${faults.join('; ')}`, remedy);
}

/** tcx is tried before clsact, as the agent does; either is enough. */
function checkModes(addon: Pick<CaptureAddon, 'testCapture'>, bpfDir: string): readonly Check[] {
  const faults = EBPF_MODES.map((mode) => ({ mode, fault: faultOf(addon, mode, bpfDir) }));
  const works = faults.some(({ fault }) => fault === null);
  return faults.map(({ mode, fault }) => {
    const title = `self-test of ${mode}`;
    if (fault === null) return good(title, 'one connection each way came through scratch namespaces with its addresses');
    return warning(
      title,
      fault,
      works ? 'nothing: the other mode is used' : 'mend what the text says, or go by address translation: below',
    );
  });
}

function faultOf(addon: Pick<CaptureAddon, 'testCapture'>, mode: 'ebpf-tcx' | 'ebpf-clsact', bpfDir: string): string | null {
  try {
    addon.testCapture(mode, bpfDir);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function checkJit(facts: HostFacts): Check {
  const title = 'BPF JIT compiler';
  const value = facts.read('/proc/sys/net/core/bpf_jit_enable')?.trim() ?? null;
  // The file is only readable by root, and only there in the kernel's first network namespace; kernels built with BPF_JIT_ALWAYS_ON say 1.
  if (value === null && facts.list('/proc/sys/net/core').includes('bpf_jit_enable'))
    return unknown(title, '/proc/sys/net/core/bpf_jit_enable cannot be read', 'run this as root');
  if (value === null)
    return unknown(
      title,
      'this network namespace has no /proc/sys/net/core/bpf_jit_enable: it is the host’s alone',
      "run this in the host's own network namespace (nsenter -t 1 -n)",
    );
  if (value !== '0') return good(title, 'on');
  return warning(title, 'off: every packet of a workload runs through the interpreter', 'sysctl -w net.core.bpf_jit_enable=1');
}
