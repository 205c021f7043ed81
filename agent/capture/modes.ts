// The modes of redirection, in the order in which they are tried, and the first of them that works. `weft agent` takes it, `weft check` tells it.
import { messageOf } from '../../api/message-of.js';
import type { CaptureHandle } from '../native/capture.js';
import type { NatMode } from './nat-capture.js';

export const EBPF_MODES = ['ebpf-tcx', 'ebpf-clsact'] as const;
export const NAT_MODES = ['nftables', 'iptables'] as const;

export function isNatMode(mode: CaptureHandle['mode']): mode is NatMode {
  return mode === 'nftables' || mode === 'iptables';
}

/** `test` throws why a mode does not work; none is tested after the first that does. `faults`: of those before it. `mode` null: none works. */
export function firstWorking<Mode extends CaptureHandle['mode']>(
  modes: readonly Mode[],
  test: (mode: Mode) => void,
): { readonly mode: Mode | null; readonly faults: readonly string[] } {
  const faults: string[] = [];
  for (const mode of modes) {
    try {
      test(mode);
      return { mode, faults };
    } catch (error) {
      faults.push(`${mode}: ${messageOf(error)}`);
    }
  }
  return { mode: null, faults };
}
