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

  (hasSystemd ? it : it.skip).each(units)('%s is what systemd understands', (unit) => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(folder, unit)], { encoding: 'utf8' });
    // Of other units of this machine it may complain too.
    expect({ status, complaints: stderr.split('\n').filter((line) => line.includes('weft')) }).toEqual({ status: 0, complaints: [] });
  });

  it('give the agent the capabilities that test/redirect/privileges.test.ts proves to be enough, the proxy low ports besides, the controller none', () => {
    const of = (unit: string) => settings(unit).get('CapabilityBoundingSet');
    const tested = readFileSync(join(process.cwd(), 'test/redirect/privileges.test.ts'), 'utf8');
    const [, list = ''] = /const NEEDED = \[(.*)\]/.exec(tested) ?? [];
    const needed = [...list.matchAll(/'(\w+)'/g)].map(([, name]) => `CAP_${name?.toUpperCase()}`).join(' ');
    expect(of('weft-agent.service')).toBe(needed);
    expect(of('weft-proxy@.service')).toBe(`${needed} CAP_NET_BIND_SERVICE`);
    expect(of('weft-controller.service')).toBe('');
  });

  it('leave the proxy, with pods-only.conf, the capabilities that the same test proves to be enough in the mesh namespace', () => {
    const tested = readFileSync(join(process.cwd(), 'test/redirect/privileges.test.ts'), 'utf8');
    const [, list] = /const NEEDED_INSIDE = \[(.*)\]/.exec(tested) ?? [];
    const needed = [...(list ?? '').matchAll(/'(\w+)'/g)].map(([, name]) => `+${name}`);
    expect(needed).not.toEqual([]);
    const [launch = '', proxy = ''] = (settings('pods-only.conf').get('ExecStart') ?? '').split(' /usr/bin/env ');
    expect(launch).toBe(
      `/usr/bin/nsenter --net=/run/netns/weft-mesh /usr/bin/setpriv --inh-caps=-all --bounding-set=-all,${needed.join(',')}`,
    );
    expect(`/usr/bin/env ${proxy}`).toBe(settings('weft-proxy@.service').get('ExecStart'));
  });

  it('give agent and proxy no mount namespace: what the one mounts the other must see', () => {
    const isolating =
      /^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc)|Private\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|BindPaths|TemporaryFileSystem|RootDirectory|MountFlags|RestrictNamespaces)$/;
    for (const unit of ['weft-agent.service', 'weft-proxy@.service']) {
      expect([...settings(unit).keys()].filter((key) => isolating.test(key))).toEqual([]);
    }
  });

  it('start the proxy again when it fails, not when a successor has taken over', () => {
    expect(settings('weft-proxy@.service').get('Restart')).toBe('on-failure');
    expect(settings('weft-agent.service').get('Restart')).toBe('always');
  });
});
