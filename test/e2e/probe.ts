// A client process for the fault tests: calls a service over and over, one line of JSON per call, on the kernel's monotonic clock, which
// all processes share. Usage: node probe.js HOST new|kept INTERVAL_MS
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { ShopAnswer } from '../../deploy/local/shop/protocol.js';

export interface ProbeLine {
  /** Milliseconds of process.hrtime(), which is CLOCK_MONOTONIC. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly workload: string;
  /** The server saw the client's own port: no proxy stood between. */
  readonly direct: boolean;
  readonly localPort: number;
  /** Empty when answered. */
  readonly error: string;
}

const TIMEOUT_MS = 2_000;

export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function call(host: string, agent: http.Agent | false): Promise<ProbeLine> {
  const beganMs = monotonicMs();
  return new Promise((resolve) => {
    let localPort = 0;
    const end = (workload: string, direct: boolean, error: string) =>
      resolve({ beganMs, endedMs: monotonicMs(), workload, direct, localPort, error });
    const request = http.get(
      { host, path: '/', agent, family: 4, timeout: TIMEOUT_MS, headers: { 'x-shop-request': 'probe/0' } },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.once('error', (error) => end('', false, error.message));
        response.once('end', () => {
          if (response.statusCode !== 200) return end('', false, `status ${response.statusCode}: ${text}`);
          const answer = JSON.parse(text) as ShopAnswer;
          end(answer.workload, answer.peerPort === localPort, '');
        });
      },
    );
    request.once('socket', (socket) => {
      if (socket.connecting) socket.once('connect', () => (localPort = socket.localPort ?? 0));
      else localPort = socket.localPort ?? 0;
    });
    request.once('timeout', () => request.destroy(new Error(`no answer for ${TIMEOUT_MS} ms`)));
    request.once('error', (error) => end('', false, error.message));
  });
}

async function main(host: string, mode: string, intervalMs: number): Promise<void> {
  const agent = mode === 'kept' ? new http.Agent({ keepAlive: true, maxSockets: 1 }) : false;
  for (;;) {
    process.stdout.write(`${JSON.stringify(await call(host, agent))}\n`);
    await delay(intervalMs);
  }
}

if (process.argv[1]?.endsWith('/probe.js') === true)
  await main(process.argv[2] ?? '', process.argv[3] ?? 'new', Number(process.argv[4] ?? 1));
