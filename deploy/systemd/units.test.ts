import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const folder = join(process.cwd(), 'deploy', 'systemd');
const units = readdirSync(folder).filter((name) => name.endsWith('.service'));
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

function settings(unit: string): Map<string, string> {
  const lines = readFileSync(join(folder, unit), 'utf8').split('\n');
  return new Map(
    lines.filter((line) => /^[A-Z]\w+=/.test(line)).map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

describe('the units', () => {
  it('are one a daemon', () => {
    expect(units).toEqual(['weft-agent.service', 'weft-controller.service', 'weft-proxy@.service']);
  });

  // The summary of `npm test` names what is skipped.
  const verified = hasSystemd ? it : it.skip;
  verified.each(units)(`%s is what systemd understands${hasSystemd ? '' : ' (there is no systemd-analyze here)'}`, (unit) => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(folder, unit)], { encoding: 'utf8' });
    // Of other units of this machine it may complain too.
    expect({ status, complaints: stderr.split('\n').filter((line) => line.includes('weft')) }).toEqual({ status: 0, complaints: [] });
  });

  it('give agent and proxy the capabilities that test/redirect/privileges.test.ts proves to be enough, the proxy low ports besides, the controller none', () => {
    const given = (unit: string) => (settings(unit).get('CapabilityBoundingSet') ?? '').split(' ').sort();
    const tested = readFileSync(join(process.cwd(), 'test/redirect/privileges.test.ts'), 'utf8');
    const needed = (list: string) => {
      const [, names = ''] = new RegExp(`const ${list} = \\[(.*)\\]`).exec(tested) ?? [];
      return [...names.matchAll(/'(\w+)'/g)].map(([, name]) => `CAP_${name?.toUpperCase()}`);
    };
    expect(given('weft-agent.service')).toEqual(needed('NEEDED_BY_AGENT_AT_START').sort());
    expect(given('weft-proxy@.service')).toEqual([...needed('NEEDED_AT_START'), 'CAP_NET_BIND_SERVICE'].sort());
    expect(given('weft-controller.service')).toEqual(['']);
  });

  it('run as a user of their own, whose capabilities are ambient, with pins where that user may have them', () => {
    expect(readFileSync(join(folder, 'weft.sysusers'), 'utf8')).toMatch(/^u weft /m);
    for (const unit of units) expect(settings(unit).get('User')).toBe('weft');
    for (const unit of ['weft-agent.service', 'weft-proxy@.service']) {
      expect(settings(unit).get('AmbientCapabilities')).toBe(settings(unit).get('CapabilityBoundingSet'));
      expect(settings(unit).get('Environment')).toBe('WEFT_BPF_DIR=/run/weft/bpf/weft');
    }
    expect(settings('weft-agent.service').get('ExecStartPre')).toContain('mount -t bpf -o mode=0700 bpf /run/weft/bpf');
  });

  it('give agent and proxy no mount namespace: what the one mounts the other must see', () => {
    const isolating =
      /^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc)|Private\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|BindPaths|TemporaryFileSystem|RootDirectory|MountFlags|RestrictNamespaces)$/;
    for (const unit of ['weft-agent.service', 'weft-proxy@.service']) {
      expect([...settings(unit).keys()].filter((key) => isolating.test(key))).toEqual([]);
    }
  });

  it('are started again for as long as it takes, and may have many files open', () => {
    for (const unit of units) {
      expect({ unit, interval: settings(unit).get('StartLimitIntervalSec') }).toEqual({ unit, interval: '0' });
      expect(Number(settings(unit).get('LimitNOFILE'))).toBeGreaterThanOrEqual(65_536);
    }
  });

  it('start the proxy again when it fails, not when a successor has taken over', () => {
    expect(settings('weft-proxy@.service').get('Restart')).toBe('on-failure');
    expect(settings('weft-agent.service').get('Restart')).toBe('always');
  });
});
