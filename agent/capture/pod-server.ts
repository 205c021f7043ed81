// Serves <run-dir>/pods.sock: gives every proxy of this host the namespaces of the pods that are captured by address translation, and
// what keeps that alive. Proxies open sockets there and beat; when the last one has gone the redirection ends at once.
import { closeSync, rmSync } from 'node:fs';
import { writeBeat } from '../link/pod-beat.js';
import { type PodHello, sendPodMessage, VERSION } from '../link/pod-channel.js';
import type { MessageSocket, MessageSocketAddon } from '../native/message-socket.js';
import type { CaptureLog } from './capture.js';
import type { Beat } from './nat-beat.js';

/** Proxy and successor, and one that is slow to go. */
const MAX_PROXIES = 8;
/** Out of descriptors, say. */
const ACCEPT_RETRY_MS = 1_000;

export interface ServedPod {
  readonly key: number;
  readonly name: string;
  /** Of its network namespace; the server's to close. */
  readonly netns: number;
  /** Where and what to write; the server's to close. */
  readonly beats: readonly (Beat & { readonly descriptor: number })[];
}

export class PodServer {
  private readonly pods = new Map<number, ServedPod>();
  private readonly proxies = new Set<MessageSocket>();
  private isComplete = false;
  private isClosed = false;

  private constructor(
    private readonly socket: MessageSocket,
    private readonly hello: Omit<PodHello, 'type' | 'version'>,
    private readonly log: CaptureLog,
  ) {
    this.socket.whenReadable(() => this.accept());
  }

  /** The caller knows that no other agent serves there. Throws when the socket can't be made. */
  static start(path: string, addon: MessageSocketAddon, hello: Omit<PodHello, 'type' | 'version'>, log: CaptureLog): PodServer {
    rmSync(path, { force: true });
    return new PodServer(addon.serveMessages(path), hello, log);
  }

  get hasProxies(): boolean {
    return this.proxies.size > 0;
  }

  /** In the place of what was served under that key. */
  add(pod: ServedPod): void {
    this.close(this.pods.get(pod.key));
    this.pods.set(pod.key, pod);
    for (const proxy of [...this.proxies]) this.tell(proxy, () => announce(proxy, pod));
  }

  remove(key: number): void {
    this.close(this.pods.get(key));
    if (!this.pods.delete(key)) return;
    for (const proxy of [...this.proxies]) this.tell(proxy, () => sendPodMessage(proxy, { type: 'gone', key }));
  }

  /**
   * These pods are all there are: what a proxy has from an agent before and is not among them is gone. Before, it would let go of pods
   * that are only not named yet. Idempotent.
   */
  complete(): void {
    if (this.isComplete) return;
    this.isComplete = true;
    for (const proxy of [...this.proxies]) this.tell(proxy, () => sendPodMessage(proxy, { type: 'synced' }));
  }

  /** Proxies keep what they were given, and the file stays: it says that there may be rules in pods. Idempotent. */
  stop(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.socket.close();
    for (const proxy of this.proxies) proxy.close();
    for (const pod of this.pods.values()) this.close(pod);
    this.pods.clear();
  }

  private accept(): void {
    if (this.isClosed) return;
    try {
      for (let peer = this.socket.accept(); peer !== null; peer = this.socket.accept()) {
        const isTrusted = peer.uid === 0 || peer.uid === process.geteuid?.();
        if (isTrusted && this.proxies.size < MAX_PROXIES) this.greet(peer);
        else peer.close();
      }
    } catch (error) {
      this.log.warn({ err: error }, `proxies can't be told about pods: ${(error as Error).message}`);
      setTimeout(() => this.accept(), ACCEPT_RETRY_MS).unref();
      return;
    }
    this.socket.whenReadable(() => this.accept());
  }

  private greet(proxy: MessageSocket): void {
    this.proxies.add(proxy);
    this.tell(proxy, () => {
      sendPodMessage(proxy, { type: 'hello', version: VERSION, ...this.hello });
      for (const pod of this.pods.values()) announce(proxy, pod);
      if (this.isComplete) sendPodMessage(proxy, { type: 'synced' });
    });
    if (this.proxies.has(proxy)) this.watch(proxy);
  }

  /** It says nothing: whatever is there to read is its end. */
  private watch(proxy: MessageSocket): void {
    proxy.whenReadable(() => {
      this.forget(proxy);
      if (this.proxies.size === 0) this.expire();
    });
  }

  /** One that does not read comes again and is told all. */
  private tell(proxy: MessageSocket, say: () => void): void {
    try {
      say();
    } catch (error) {
      this.log.warn({ proxy: proxy.pid, err: error }, `proxy ${proxy.pid} does not take what it is told about pods`);
      this.forget(proxy);
    }
  }

  private forget(proxy: MessageSocket): void {
    this.proxies.delete(proxy);
    proxy.close();
  }

  /** Nobody listens any more: connections go direct from now on, not only when the last beat is too long ago. */
  private expire(): void {
    for (const { beats } of this.pods.values()) {
      for (const { descriptor, isFile, expire } of beats) writeBeat(descriptor, isFile, expire);
    }
  }

  private close(pod: ServedPod | undefined): void {
    if (pod === undefined) return;
    closeSync(pod.netns);
    for (const { descriptor } of pod.beats) closeSync(descriptor);
  }
}

function announce(proxy: MessageSocket, { key, name, netns, beats }: ServedPod): void {
  const told = beats.map(({ renew, expire, isFile }) => ({ renew: renew.toString('base64'), expire: expire.toString('base64'), isFile }));
  sendPodMessage(proxy, { type: 'pod', key, name, beats: told }, [netns, ...beats.map(({ descriptor }) => descriptor)]);
}
