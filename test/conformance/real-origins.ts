// Servers of others as origins: Node's http at its laxest, and nginx. Each answers every request with 200.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listening } from './proxy-process.js';

export interface RealOrigin {
  readonly name: string;
  readonly port: number;
  stop(): Promise<void>;
}

export async function nodeOrigin(): Promise<RealOrigin> {
  const server = createHttpServer({ insecureHTTPParser: true, requireHostHeader: false }, (message, response) => {
    message.resume().on('end', () => response.end());
  });
  const port = await listening(server);
  const stop = async (): Promise<void> => {
    server.closeAllConnections();
    server.close();
  };
  return { name: 'Node', port, stop };
}

export async function nginxOrigin(): Promise<RealOrigin> {
  const folder = mkdtempSync(join(tmpdir(), 'wnginx-'));
  const held = createServer();
  const port = await listening(held);
  await new Promise((closed) => held.close(closed));
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/pid; error_log stderr; events {}
http { access_log off; ${paths} underscores_in_headers on; server { listen 127.0.0.1:${port}; return 200; } }`,
  );
  const child: ChildProcess = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.kill('SIGTERM')) await once(child, 'exit');
    rmSync(folder, { recursive: true, force: true });
  };
  for (let attempt = 0; !(await answers(port)); attempt++) {
    if (attempt === 100 || child.exitCode !== null) throw new Error('nginx does not start');
    await new Promise((later) => setTimeout(later, 20));
  }
  return { name: 'nginx', port, stop };
}

async function answers(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  const open = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(() => false);
  socket.destroy();
  return open;
}
