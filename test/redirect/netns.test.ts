// weft-netns, the one program that enters network namespaces for the proxy: what it leaves itself and the program it starts, and what it
// opens for whom. Fails where it cannot run.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { netnsProgram } from '../../agent/native/addon.js';
import { eventually } from '../lab/eventually.js';
import { Lab, namespaceServers, REMOTE } from './lab.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const SYS_ADMIN = 1n << 21n;
const lab = new Lab(`wnetns-${process.pid}`);

beforeAll(async () => {
  lab.up();
  await lab.serve('remote', 8080);
});
afterAll(() => lab.down());

/** Runs as what weft-netns becomes; `ask(bytes, descriptors)` is one request, answered with errno and descriptors, or null: closed. */
function script(body: string): readonly string[] {
  const text = `
    import { openSync } from 'node:fs';
    import { Socket } from 'node:net';
    import { loadAddon } from ${JSON.stringify(join(dist, 'agent/native/addon.js'))};
    const [channelFd, home] = process.env.WEFT_NETNS.split(',').map(Number);
    const addon = loadAddon();
    const channel = addon.adoptMessages(channelFd);
    const ask = async (bytes, descriptors) => {
      channel.send(String.fromCharCode(...bytes), descriptors);
      await new Promise((resolve) => channel.whenReadable(resolve));
      const { text, descriptors: sockets } = channel.receive();
      return text === null ? null : { error: text.charCodeAt(0), sockets };
    };
    ${body}
    channel.close();`;
  return [process.execPath, '--input-type=module', '-e', text];
}

function run(command: readonly string[], prefix: readonly string[] = [], flags: readonly string[] = []): unknown {
  const [first, ...words] = [...prefix, netnsProgram(), ...flags, ...command];
  return JSON.parse(execFileSync(first!, words, { encoding: 'utf8' }));
}

test('it opens TCP sockets of either family in the namespace that it is shown', () => {
  const said = run(
    script(`
      const there = openSync(${JSON.stringify(lab.path('remote'))});
      const greetings = [];
      for (const [family, address] of [[4, '127.0.0.1'], [6, '::1']]) {
        const { error, sockets } = await ask([1, family, 1, 0, 0, 0, 0, 0], [there]);
        const socket = new Socket({ fd: sockets[0] }).connect(8080, address);
        greetings.push(await new Promise((resolve) => socket.once('data', (bytes) => resolve(String(bytes)))));
        socket.destroy();
      }
      const eight = await ask([1, 4, 8, 0, 0, 0, 0, 0], [there]);
      console.log(JSON.stringify({ greetings, eight: eight.sockets.length }));`),
  ) as { greetings: string[]; eight: number };
  expect(said.greetings[0]).toContain('127.0.0.1');
  expect(said.greetings[1]).toContain('::1');
  expect(said.eight).toBe(8);
});

test('the program it starts has what a proxy needs and no way to more, in the namespace that was named', () => {
  const flags = [`--net=${lab.path('remote')}`];
  const status = "console.log(JSON.stringify(readFileSync('/proc/self/status', 'utf8')))";
  const own = [process.execPath, '--input-type=module', '-e', `import { readFileSync } from 'node:fs'; ${status}`];
  const text = run(own, [], flags) as string;
  const of = (name: string) => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(text)?.[1] ?? ''}`);
  const kept = (1n << 12n) | (1n << 39n) | (1n << 10n);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect({ set, held: of(set) }).toEqual({ set, held: kept });
  expect(text).toMatch(/^NoNewPrivs:\s*1$/m);
  const links = execFileSync(netnsProgram(), [...flags, 'ip', '-br', 'addr'], { encoding: 'utf8' });
  expect(links).toContain(REMOTE.v4);
});

test('the process it leaves has CAP_SYS_ADMIN and nothing else, holds no more than it needs, and ends with the program', async () => {
  const child = spawn(netnsProgram(), ['sleep', '61.5'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  const left = () => namespaceServers('61.5').filter((pid) => pid !== child.pid);
  try {
    const isRunning = () => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'sleep\n';
    expect(await eventually(async () => isRunning(), Boolean)).toBe(true);
    const [server] = left();
    const status = readFileSync(`/proc/${server}/status`, 'utf8');
    for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
      expect({ set, held: BigInt(`0x${new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? ''}`) }).toEqual({
        set,
        held: SYS_ADMIN,
      });
    // Standard ones, the channel, its own namespace.
    expect(readdirSync(`/proc/${server}/fd`)).toHaveLength(5);
    process.kill(server!, 'SIGTERM');
    expect(left()).toEqual([server]);
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  expect(
    await eventually(
      async () => left(),
      (some) => some.length === 0,
    ),
  ).toEqual([]);
});

test.each([
  ['CAP_SYS_ADMIN', ['setpcap', 'net_admin']],
  ['CAP_SETPCAP', ['sys_admin', 'net_admin']],
])('without %s it says so and starts nothing', (missing, held) => {
  const bounding = `--bounding-set=-all${held.map((name) => `,+${name}`).join('')}`;
  expect(() => run(script(''), ['setpriv', '--inh-caps=-all', bounding])).toThrow(
    missing === 'CAP_SYS_ADMIN' ? /CAP_SYS_ADMIN/ : /CAP_SETPCAP/,
  );
});
