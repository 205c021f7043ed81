// For tests of the real proxy: a folder, servers and proxies that end with the test that made them.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach } from '@jest/globals';
import { closesAfterEach } from './closing.js';
import { ProxyProcess } from './proxy-process.js';

/** Made once by a test file. */
export class ProxyScope {
  readonly closing = closesAfterEach();
  #folder = '';

  constructor() {
    beforeEach(() => {
      this.#folder = mkdtempSync(join(tmpdir(), 'weft-proxy-'));
      this.closing.push(() => rmSync(this.#folder, { recursive: true, force: true }));
    });
  }

  /** Of this test; also the run directory of its proxies. */
  get folder(): string {
    return this.#folder;
  }

  /** The port, on 127.0.0.1. With the server its connections end. */
  async listen(server: Server): Promise<number> {
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.closing.push(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return (server.address() as AddressInfo).port;
  }

  /** `weft proxy`, with two workers where the flags don't say; not ready yet. */
  launchWith(...flags: string[]): ProxyProcess {
    const proxy = ProxyProcess.startWith(flags, this.#folder);
    this.closing.push(() => proxy.kill());
    return proxy;
  }

  /** The same, with `--static FILE`. */
  launch(file: string, ...flags: string[]): ProxyProcess {
    return this.launchWith('--static', file, ...flags);
  }

  /** The same as `launch`, once it serves. */
  async start(file: string, ...flags: string[]): Promise<ProxyProcess> {
    const proxy = this.launch(file, ...flags);
    await proxy.says('"ready"');
    return proxy;
  }
}
