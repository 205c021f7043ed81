// Runs the sample shop in a lab: starts its pods and talks to their control sockets.
import { existsSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { compiled } from '../compiled.js';
import { type Lab, LabError } from '../lab.js';
import { SHOP_POD_PORT, SHOP_PODS, type ShopPod } from './plan.js';
import type { PodOptions } from './pod.js';
import type { LoadOrder, LoadProgress, PodReport } from './protocol.js';

const POD_PROGRAM = compiled('deploy/local/shop/pod.js');
const START_TIMEOUT_MS = 30_000;

export class Shop {
  constructor(readonly lab: Lab) {}

  /** Returns when every pod listens. */
  async start(): Promise<void> {
    await Promise.all(SHOP_PODS.map((pod) => this.#startPod(pod)));
  }

  async #startPod(pod: ShopPod): Promise<void> {
    const options: PodOptions = {
      workload: pod.name,
      service: pod.service,
      version: pod.version,
      port: SHOP_POD_PORT,
      addresses: [pod.v4, pod.v6],
      calls: pod.calls,
      controlSocket: this.lab.layout.podControlSocket(pod.name),
    };
    const started = await this.lab.startInPod(pod.name, `pod-${pod.name}`, [process.execPath, POD_PROGRAM, JSON.stringify(options)]);
    for (let waited = 0; !existsSync(options.controlSocket); waited += 5) {
      if (started.exit !== null) throw new LabError(`pod ${pod.name} ended at once. Its last words:\n${started.lastLines()}`);
      if (waited > START_TIMEOUT_MS)
        throw new LabError(`pod ${pod.name} does not listen after 30 s. Its last words:\n${started.lastLines()}`);
      await delay(5);
    }
  }

  reports(): Promise<PodReport[]> {
    return Promise.all(SHOP_PODS.map((pod) => this.#ask<PodReport>(pod.name, 'GET', '/report')));
  }

  startLoad(pod: string, order: LoadOrder): Promise<LoadProgress> {
    return this.#ask(pod, 'POST', '/load', order);
  }

  stopLoad(pod: string): Promise<LoadProgress> {
    return this.#ask(pod, 'POST', '/stop');
  }

  /** Sends a fixed load and returns when its last answer is there. */
  async runLoad(pod: string, order: LoadOrder & { readonly requests: number }, timeoutMs: number): Promise<void> {
    await this.startLoad(pod, order);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const progress = await this.#ask<LoadProgress>(pod, 'GET', '/load');
      if (!progress.running) return;
      if (performance.now() > deadline)
        throw new LabError(`the load of ${pod} is not through after ${timeoutMs / 1000} s: ${progress.sent} of ${order.requests} sent`);
      await delay(20);
    }
  }

  #ask<Answer>(pod: string, method: string, path: string, body: unknown = null): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        { socketPath: this.lab.layout.podControlSocket(pod), method, path, agent: false, timeout: 10_000 },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.once('error', reject);
          response.once('end', () => {
            const text = Buffer.concat(chunks).toString();
            if ((response.statusCode ?? 500) < 300) resolve(JSON.parse(text) as Answer);
            else reject(new LabError(`pod ${pod}: ${method} ${path}: ${response.statusCode} ${text}`));
          });
        },
      );
      request.once('timeout', () => request.destroy(new Error(`pod ${pod} does not answer on its control socket`)));
      request.once('error', reject);
      request.end(body === null ? undefined : JSON.stringify(body));
    });
  }
}
