import { describe, expect, it } from '@jest/globals';
import { loadAddon } from '../native/addon.js';
import type { HookProgram } from '../native/capture.js';
import type { Check, HostFacts } from './check.js';
import { checkConflicts } from './conflicts.js';
import { checkChoice, checkKernel } from './kernel.js';
import { linesThatUseMark } from './marks.js';
import { checkMounts } from './mounts.js';
import { checkPrivileges } from './privileges.js';

/** A host that has only what the test gives it. */
function host(
  files: Readonly<Record<string, string>>,
  commands: Readonly<Record<string, string>> = {},
  release = '6.8.0-45-generic',
): HostFacts {
  return {
    release,
    read: (path) => files[path] ?? null,
    list: (path) => Object.keys(files).flatMap((file) => (file.startsWith(`${path}/`) ? [file.slice(path.length + 1)] : [])),
    run: (command, ...args) => commands[[command, ...args].join(' ')] ?? null,
  };
}

function named(checks: readonly Check[], title: string): Check {
  const found = checks.find((check) => check.title.startsWith(title));
  if (found === undefined) throw new Error(`no check ${title} among ${checks.map((check) => check.title).join(', ')}`);
  return found;
}

const fails = (text: string) => ({
  testCapture: () => {
    throw new Error(text);
  },
});

describe('the kernel', () => {
  it.each([
    ['5.4.0', 'warning', 'warning'],
    ['5.10.0-28-amd64', 'good', 'warning'],
    ['5.14.0', 'good', 'warning'],
    ['6.1.0', 'good', 'warning'],
    ['6.18.44', 'good', 'good'],
  ])('%s: pods %s, tcx %s', (release, pods, tcx) => {
    const checks = checkKernel(host({}, {}, release), { testCapture: () => {} }, '/sys/fs/bpf/weft');
    expect([named(checks, 'kernel for pods').verdict, named(checks, 'kernel for tcx').verdict]).toEqual([pods, tcx]);
  });

  it('is well with one mode of the two', () => {
    const addon = {
      testCapture: (mode: string) => {
        if (mode === 'ebpf-tcx') throw new Error('no tcx here');
      },
    };
    const checks = checkKernel(host({}), addon, '/sys/fs/bpf/weft');
    expect(named(checks, 'self-test of ebpf-tcx')).toMatchObject({ verdict: 'warning', detail: 'no tcx here' });
    expect(named(checks, 'self-test of ebpf-clsact').verdict).toBe('good');
  });

  it('without either is no more than a warning: there is the fallback', () => {
    expect(named(checkKernel(host({}), fails('Operation not permitted'), '/x'), 'self-test of ebpf-tcx')).toMatchObject({
      verdict: 'warning',
      detail: 'Operation not permitted',
    });
  });

  it('without its JIT compiler is told to switch it on', () => {
    const checks = checkKernel(host({ '/proc/sys/net/core/bpf_jit_enable': '0\n' }), { testCapture: () => {} }, '/x');
    expect(named(checks, 'BPF JIT')).toMatchObject({ verdict: 'warning', remedy: 'sysctl -w net.core.bpf_jit_enable=1' });
  });
});

describe('the JIT switch that cannot be read', () => {
  const seen = (names: readonly string[]) => {
    const facts = { ...host({}), list: (path: string) => (path === '/proc/sys/net/core' ? names : []) };
    return named(checkKernel(facts, { testCapture: () => {} }, '/x'), 'BPF JIT');
  };

  it('is a matter of rights where it is there', () => {
    expect(seen(['bpf_jit_enable', 'somaxconn'])).toMatchObject({ verdict: 'unknown', remedy: 'run this as root' });
  });

  it('is another network namespace’s where it is not', () => {
    expect(seen(['somaxconn'])).toMatchObject({
      verdict: 'unknown',
      detail: expect.stringContaining('this network namespace has no /proc/sys/net/core/bpf_jit_enable'),
      remedy: expect.stringContaining('nsenter -t 1 -n'),
    });
  });
});

describe('the mode that the agent would take', () => {
  const choice = (...broken: readonly string[]) =>
    checkChoice((mode) => {
      if (broken.includes(mode)) throw new Error(`${mode} is broken`);
    });

  it('is the first that works, and the others are told with why not', () => {
    expect(choice()).toMatchObject({ verdict: 'good', detail: 'takes ebpf-tcx' });
    expect(choice('ebpf-tcx')).toMatchObject({ verdict: 'warning', detail: 'takes ebpf-clsact, since ebpf-tcx: ebpf-tcx is broken' });
    const fallback = choice('ebpf-tcx', 'ebpf-clsact');
    expect(fallback).toMatchObject({ verdict: 'warning', remedy: expect.stringContaining('docs/fallback.md') as unknown });
    expect(fallback.detail).toBe('takes nftables, since ebpf-tcx: ebpf-tcx is broken; ebpf-clsact: ebpf-clsact is broken');
    expect(choice('ebpf-tcx', 'ebpf-clsact', 'nftables').detail).toMatch(/^takes iptables, since .*nftables is broken$/);
    expect(choice('ebpf-tcx', 'ebpf-clsact', 'nftables', 'iptables')).toMatchObject({
      verdict: 'bad',
      detail: expect.stringContaining('iptables is broken') as unknown,
    });
  });
});

describe('the mounts', () => {
  const mounts = [
    '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
    '30 22 0:26 / /sys/fs/bpf rw,nosuid - bpf bpf rw,mode=700',
    '31 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw',
    '32 22 0:28 / /run rw - tmpfs tmpfs rw',
  ].join('\n');
  const check = (bpfDir: string, text = mounts) => checkMounts(host({ '/proc/self/mountinfo': text }), bpfDir, '/run/netns/weft-mesh');

  it('are found where the agent looks for them', () => {
    expect(named(check('/sys/fs/bpf/weft'), 'BPF file system').verdict).toBe('good');
    expect(named(check('/sys/fs/bpf/weft'), 'cgroup').detail).toBe('mounted at /sys/fs/cgroup');
  });

  it('refuse pins on anything but a bpffs', () => {
    expect(named(check('/var/lib/weft'), 'BPF file system')).toMatchObject({
      verdict: 'bad',
      detail: expect.stringContaining('ext4') as unknown,
    });
  });

  it('tell that /run is private here', () => {
    expect(named(check('/sys/fs/bpf/weft'), 'network namespaces').verdict).toBe('warning');
    expect(named(check('/sys/fs/bpf/weft', mounts.replace('/run rw', '/run rw shared:5')), 'network namespaces').verdict).toBe('good');
  });
});

describe('the privileges', () => {
  const check = (capabilities: bigint, files = '1048576') =>
    checkPrivileges(
      host({
        '/proc/self/status': `Name:\tnode\nCapEff:\t${capabilities.toString(16).padStart(16, '0')}\n`,
        '/proc/self/limits': `Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 ${files}              files\n`,
      }),
    );

  it('of root are enough', () => {
    expect(check(0x1ff_ffff_ffffn).map(({ verdict }) => verdict)).toEqual(Array(6).fill('good'));
  });

  it('name the one that is missing', () => {
    for (const [name, bit] of Object.entries({ CAP_BPF: 39n, CAP_PERFMON: 38n, CAP_NET_ADMIN: 12n, CAP_SYS_ADMIN: 21n, CAP_SETPCAP: 8n })) {
      const checks = check(0x1ff_ffff_ffffn & ~(1n << bit));
      expect(checks.filter(({ verdict }) => verdict !== 'good').map(({ title, verdict }) => ({ title, verdict }))).toEqual([
        { title: name, verdict: 'bad' },
      ]);
    }
  });

  it('want descriptors for many connections', () => {
    expect(named(check(0n, '4096'), 'open files').verdict).toBe('warning');
  });
});

describe('the packet mark', () => {
  it.each([
    ['-A PREROUTING -j MARK --set-xmark 0x80000/0x80000', true],
    ['-A PREROUTING -j MARK --set-mark 0x1', true],
    ['-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000', false],
    ['-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN', false],
    ['-A CILIUM_PRE_mangle -m mark --mark 0x200/0xf00 -j TPROXY --on-port 1 --tproxy-mark 0x200/0xffffffff', false],
    ['-A X -j CONNMARK --set-xmark 0x80000/0x80000 -m mark --mark 0x80000/0xff0000', true],
    ['meta mark set meta mark | 0x00004000', false],
    ['meta mark set meta mark or 0x00080000', true],
    ['meta mark & 0x00004000 != 0x00004000 return', false],
    ['meta mark & 0x000f0000 == 0x00080000 accept', true],
    ['meta mark set 0x00000001', true],
    ['meta mark set meta mark & 0xffffbfff', false],
    ['ct mark set 0x00080000', false],
    ['100:\tfrom all fwmark 0x200/0xf00 lookup 2004', false],
    ['100:\tfrom all fwmark 0x80000/0x80000 lookup 100', true],
    ['100:\tfrom all fwmark 0x1 lookup 100', true],
    ['32766:\tfrom all lookup main', false],
  ])('%s: %p', (line, uses) => {
    expect(linesThatUseMark(line, 0x80000).length > 0).toBe(uses);
  });
});

describe('conflicts', () => {
  const quiet = { '/proc/sys/net/ipv4/ip_local_port_range': '32768\t60999\n' };
  const options = { hostMark: 0x80000, ports: [15_011, 15_020], cgroupRoot: '/sys/fs/cgroup' };
  const hooks = (...programs: readonly HookProgram[]) => ({
    listHookPrograms: () => [...programs],
    captureNames: () => ({ programs: ['from_pod', 'to_pod'], reasons: [] }),
  });
  const check = (files: Readonly<Record<string, string>>, addon = hooks(), commands = { 'ip rule': '0: from all lookup local' }) =>
    checkConflicts(host({ ...quiet, ...files }, commands), addon, options);

  it('are none on a quiet host', () => {
    expect(check({}).filter(({ verdict }) => verdict !== 'good')).toEqual([]);
  });

  it('are another mesh that redirects the same pods', () => {
    const conflist = JSON.stringify({ name: 'k8s', plugins: [{ type: 'calico' }, { type: 'istio-cni' }] });
    expect(named(check({ '/etc/cni/net.d/10-calico.conflist': conflist }), 'other meshes')).toMatchObject({
      verdict: 'bad',
      detail: expect.stringContaining('istio-cni') as unknown,
    });
    expect(named(check({ '/etc/cni/net.d/10-x.conf': 'not JSON' }), 'other meshes').verdict).toBe('good');
  });

  it('are programs of others, not ours', () => {
    const ours = { hook: 'tcx-ingress', place: 'veth1', program: 'from_pod' };
    expect(named(check({}, hooks(ours)), 'BPF programs of others on interfaces').verdict).toBe('good');
    const cilium = { hook: 'tcx-ingress', place: 'lxc1', program: 'cil_from_contai' };
    expect(named(check({}, hooks(ours, cilium)), 'BPF programs of others on interfaces')).toMatchObject({
      verdict: 'warning',
      detail: 'cil_from_contai on lxc1 (tcx-ingress)',
    });
  });

  it('are a socket load balancer, which translates before the proxy sees', () => {
    const socket = { hook: 'cgroup-connect4', place: '/sys/fs/cgroup', program: 'cil_sock4_conne' };
    expect(named(check({}, hooks(socket)), 'BPF programs of others on the root cgroup')).toMatchObject({
      verdict: 'warning',
      remedy: 'Cilium: socketLB.hostNamespaceOnly=true',
    });
  });

  it('are rules on our mark, source ports and listeners', () => {
    const files = {
      '/proc/sys/net/ipv4/ip_local_port_range': '1024\t65535\n',
      '/proc/net/tcp':
        '  sl  local_address rem_address   st\n   0: 00000000:3AAC 00000000:0000 0A 00000000\n   1: 0100007F:3AA3 0100007F:1111 01 0\n',
    };
    const checks = check(files, hooks(), { 'ip rule': '100: from all fwmark 0x80000/0x80000 lookup 100' });
    expect(named(checks, 'packet mark').verdict).toBe('warning');
    expect(named(checks, 'source ports').verdict).toBe('warning');
    expect(named(checks, 'TCP ports')).toMatchObject({ verdict: 'warning', detail: 'in use: 15020' });
  });

  it('that cannot be found out are told as such', () => {
    const addon = {
      ...hooks(),
      listHookPrograms: () => {
        throw new Error('cannot ask (Operation not permitted)');
      },
    };
    expect(named(checkConflicts(host(quiet), addon, options), 'BPF programs of others').verdict).toBe('unknown');
    expect(named(checkConflicts(host(quiet), addon, options), 'packet mark').verdict).toBe('unknown');
  });
});

describe('the hooks of this machine', () => {
  it('can be listed, cgroups too', () => {
    expect(Array.isArray(loadAddon().listHookPrograms(null, null))).toBe(true);
    expect(() => loadAddon().listHookPrograms(null, '/nowhere')).toThrow(/cannot open the cgroup \/nowhere/);
    expect(() => loadAddon().listHookPrograms('/nowhere', null)).toThrow(/ENOENT|nowhere/);
  });
});
