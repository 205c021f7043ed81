// The rules of the fallback on a real kernel: what nft, iptables-nft and iptables-legacy do to a pod's connections with the text that
// agent/capture/nat-rules.ts makes. Fails where it cannot run.
import { closeSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { nftBeat, recentBeat } from '../../agent/capture/nat-beat.js';
import {
  iptablesJumps,
  iptablesRemoval,
  iptablesRules,
  type NatSpec,
  NFT_REMOVAL,
  nftTable,
  RECENT,
} from '../../agent/capture/nat-rules.js';
import { writeBeat } from '../../agent/link/pod-beat.js';
import { loadAddon } from '../../agent/native/addon.js';
import { HOST_MARK } from '../../agent/native/capture.js';
import { hostPort } from '../../api/host-port.js';
import { Lab, type LabProxy, POD_A, POD_B, REMOTE } from './lab.js';

const addon = loadAddon();
const lab = new Lab(`wnat-${process.pid}`);
const listeners = { outboundPort: 15001, inboundPort: 15006, mark: HOST_MARK };
const FAMILIES = ['v4', 'v6'] as const;
const LONG_MS = 600_000;
const COMMENT = 'weft 01234567 0123456789abcdef';
const both: NatSpec = {
  outbound: true,
  inbound: true,
  failClosed: false,
  excludeOutboundPorts: [],
  excludeInboundPorts: [],
  excludeOutboundCidrs: [],
  includeOutboundCidrs: [],
  excludeInboundCidrs: [],
  includeInboundCidrs: [],
};

/** To a file or netlink socket opened in the pod's namespace. */
function write(pod: string, what: string, bytes: Buffer): void {
  const descriptor = addon.openInNamespace(lab.path(pod), what);
  writeBeat(descriptor, what !== 'netfilter', bytes);
  closeSync(descriptor);
}

interface Backend {
  readonly name: string;
  install(pod: string, spec: NatSpec): void;
  beat(pod: string): void;
  /** As after a time without a beat. */
  expire(pod: string): void;
  remove(pod: string): void;
  rules(pod: string): string;
}

const nftables: Backend = {
  name: 'nftables',
  install: (pod, spec) => lab.in(pod, 'nft', ['-f', '-'], nftTable(spec, listeners, { aliveMs: LONG_MS, heldMs: 0 }, COMMENT)),
  beat: (pod) => write(pod, 'netfilter', nftBeat(LONG_MS).renew),
  expire: (pod) => write(pod, 'netfilter', nftBeat(LONG_MS).expire),
  remove: (pod) => lab.in(pod, 'nft', ['-f', '-'], NFT_REMOVAL),
  rules: (pod) => lab.in(pod, 'nft', ['list', 'ruleset']),
};

function iptables(variant: 'nft' | 'legacy'): Backend {
  const each = (pod: string, text: (family: 4 | 6, saved: string) => string) => {
    for (const [family, v] of [
      [4, ''],
      [6, '6'],
    ] as const) {
      const saved = lab.in(pod, `ip${v}tables-${variant}-save`, []);
      lab.in(pod, `ip${v}tables-${variant}-restore`, ['--noflush'], text(family, saved));
    }
  };
  const recent = (pod: string, what: 'renew' | 'expire') => {
    for (const family of [4, 6] as const) write(pod, `xt_recent/${RECENT[family].name}`, recentBeat(family)[what]);
  };
  return {
    name: `iptables-${variant}`,
    install: (pod, spec) => {
      each(pod, (family) => iptablesRules(spec, listeners, family, LONG_MS, COMMENT));
      each(pod, (_, saved) => iptablesJumps(saved));
      // Fail-closed rules ask for no beat, so there is no file to write to.
      if (!spec.failClosed) recent(pod, 'renew');
    },
    beat: (pod) => recent(pod, 'renew'),
    expire: (pod) => recent(pod, 'expire'),
    remove: (pod) => each(pod, (_, saved) => iptablesRemoval(saved)),
    rules: (pod) => ['', '6'].map((v) => lab.in(pod, `ip${v}tables-${variant}-save`, ['-t', 'nat'])).join(''),
  };
}

const installed: [Backend, string][] = [];
function install(backend: Backend, pod: string, spec: NatSpec): void {
  backend.install(pod, spec);
  installed.push([backend, pod]);
}

let proxies: Record<'a' | 'b', LabProxy>;
/** What reached a proxy while it ran. */
function passesOf(pod: 'a' | 'b', action: () => void): string[] {
  const before = proxies[pod].passes().length;
  action();
  return proxies[pod]
    .passes()
    .slice(before)
    .map(({ direction, destination }) => `${direction} ${destination}`);
}

beforeAll(async () => {
  lab.up();
  for (const port of [8080, 8081]) for (const name of ['b', 'remote']) await lab.serve(name, port);
  proxies = { a: await lab.natProxy('a', listeners), b: await lab.natProxy('b', listeners) };
});

afterEach(() => {
  for (const [backend, pod] of installed.splice(0)) backend.remove(pod);
});
afterAll(() => lab.down());

const cases = [nftables, iptables('nft'), iptables('legacy')].flatMap((backend) =>
  FAMILIES.map((family) => [backend.name, family, backend] as const),
);

test.each(cases)(
  '%s %s: a connection is captured on its way out, knows where it was going, and leaves with the pod as its source',
  (_, v, backend) => {
    install(backend, 'a', both);
    const passes = passesOf('a', () => {
      const attempt = lab.connect('a', REMOTE[v], 8080);
      expect(attempt).toMatchObject({ error: null, peer: hostPort(REMOTE[v], 8080) });
      expect(attempt.server?.peer).toContain(POD_A[v]);
    });
    expect(passes).toEqual([`outbound ${hostPort(REMOTE[v], 8080)}`]);
    expect(proxies.a.passes().at(-1)?.source).toContain(POD_A[v]);
  },
);

test.each(cases)('%s %s: a connection is captured on its way in, and the server sees the pod itself', (_, v, backend) => {
  install(backend, 'b', both);
  const passes = passesOf('b', () => {
    const attempt = lab.connect('remote', POD_B[v], 8080, 100_000);
    expect(attempt).toMatchObject({ error: null, peer: hostPort(POD_B[v], 8080) });
    expect(attempt.server?.peer).toContain(POD_B[v]);
  });
  expect(passes).toEqual([`inbound ${hostPort(POD_B[v], 8080)}`]);
  expect(proxies.b.passes().at(-1)?.source).toContain(REMOTE[v]);
});

test.each(cases)('14: %s %s: what a pod sends to itself, and what is excluded by port, is direct', (_, v, backend) => {
  install(backend, 'b', { ...both, excludeOutboundPorts: [8081], excludeInboundPorts: [8081] });
  const passes = passesOf('b', () => {
    expect(lab.connect('b', POD_B[v], 8080).error).toBeNull();
    expect(lab.connect('b', REMOTE[v], 8081).error).toBeNull();
    expect(lab.connect('remote', POD_B[v], 8081).error).toBeNull();
  });
  expect(passes).toEqual([]);
});

test.each(cases)('14: %s %s: the longest prefix decides between excluded and captured, each way', (_, v, backend) => {
  const wide = ['10.0.0.0/8', 'fd00::/8'];
  const remote = ['10.51.2.0/24', 'fd51:2::/64'];
  install(backend, 'b', {
    ...both,
    excludeOutboundCidrs: wide,
    includeOutboundCidrs: remote,
    excludeInboundCidrs: wide,
    includeInboundCidrs: remote,
  });
  const passes = passesOf('b', () => {
    expect(lab.connect('b', REMOTE[v], 8080).error).toBeNull();
    expect(lab.connect('remote', POD_B[v], 8080).error).toBeNull();
    expect(lab.connect('a', POD_B[v], 8080).error).toBeNull();
  });
  expect(passes).toEqual([`outbound ${hostPort(REMOTE[v], 8080)}`, `inbound ${hostPort(POD_B[v], 8080)}`]);
});

test.each(cases)('17: %s %s: without a beat connections are direct, with the next they are captured again', (_, v, backend) => {
  install(backend, 'a', both);
  backend.expire('a');
  expect(passesOf('a', () => expect(lab.connect('a', REMOTE[v], 8080).error).toBeNull())).toEqual([]);
  backend.beat('a');
  expect(passesOf('a', () => expect(lab.connect('a', REMOTE[v], 8080).error).toBeNull())).toHaveLength(1);
});

test('17: the kernel ends the redirection by itself, and a beat before that prolongs it', () => {
  const life = () => {
    const { nftables: shown } = JSON.parse(lab.in('a', 'nft', ['-j', 'list', 'set', 'inet', 'weft', 'alive'])) as {
      nftables: { set?: { elem?: { elem: { timeout: number; expires: number } }[] } }[];
    };
    return shown.find(({ set }) => set !== undefined)?.set?.elem?.[0]?.elem ?? null;
  };
  install(nftables, 'a', both);
  write('a', 'netfilter', nftBeat(500).renew);
  const began = performance.now();
  expect(life()?.expires).toBeLessThanOrEqual(1);
  while (life() !== null) expect(performance.now() - began).toBeLessThan(3_000);
  expect(passesOf('a', () => expect(lab.connect('a', REMOTE.v4, 8080).error).toBeNull())).toEqual([]);
  nftables.beat('a');
  nftables.beat('a');
  expect(life()?.expires).toBeGreaterThan(LONG_MS / 1000 - 60);
});

test.each(cases)('12: %s %s: fail-closed needs no beat, and where nobody listens it refuses', (_, v, backend) => {
  const closed = { ...both, failClosed: true };
  install(backend, 'c', closed);
  if (backend === nftables) backend.expire('c');
  const attempt = lab.connect('c', REMOTE[v], 8080);
  expect(attempt.error).toBe('ECONNREFUSED');
  expect(attempt.totalMs).toBeLessThan(100);
});

test.each([nftables, iptables('nft'), iptables('legacy')].map((backend) => [backend.name, backend] as const))(
  '%s: replacing and removing leave nothing of ours and everything of others',
  (_, backend) => {
    const other = backend === nftables ? ['nft', 'add', 'table', 'inet', 'others'] : ['iptables-nft', '-t', 'nat', '-N', 'OTHERS'];
    const [command = '', ...words] = backend.name === 'iptables-legacy' ? ['iptables-legacy', '-t', 'nat', '-N', 'OTHERS'] : other;
    lab.in('c', command, words);
    backend.install('c', both);
    backend.beat('c');
    expect(backend.rules('c')).toMatch(/weft/i);
    backend.remove('c');
    expect(backend.rules('c')).not.toMatch(/weft/i);
    expect(backend.rules('c')).toMatch(/others/i);
  },
);
