// The sockets that the proxy serves, in all workers: those for captured traffic (of the mesh namespace, of the host's processes, of each pod), for DNS
// queries and of gateways, with their TLS. Opens and closes what the generation in force wants, tries again what can't be opened, hands them to a
// successor. Knows nothing of routes.
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { hostPort } from '../../api/host-port.js';
import type { PodHello } from '../link/pod-channel.js';
import type { EngineAddon, ForwardingSpec, ListenerSettings, ListenerSpec, ListenerTlsSpec } from '../native/engine.js';
import type { MessageSocketAddon } from '../native/message-socket.js';
import type { Namespaces } from '../native/netns.js';
import { type GatewayContext, GatewayTls, HTTP_ALPN, type TicketKeys } from './gateway-tls.js';
import type { HandedSocket } from './handover/channel.js';
import type { InheritedSocket } from './handover/successor.js';
import type { Pod, PodLink } from './pod-link.js';
import { DNS_LISTENERS, type GatewayListener, isHostListener, MESH_LISTENERS, POD_LISTENERS } from './tables/gateway-ports.js';
import type { ListenerOf, WorkerPool } from './worker-pool.js';

/** How often a listener that could not be opened (its port taken, the redirection's maps not there yet) is tried again. */
const LISTEN_RETRY_MS = 1_000;
/** Tickets live for an hour at most: two rotations are long past that. */
const TICKET_KEY_ROTATION_MS = 12 * 3_600_000;

export interface OpenListener {
  readonly id: number;
  readonly name: string;
  readonly kind: ListenerSpec['kind'];
  readonly address: string;
  readonly port: number;
  /** detect on listeners for captured traffic: what its destination declares comes first. */
  readonly protocol: 'http' | 'opaque' | 'detect';
  /** Null: plain text. */
  readonly tls: ListenerTlsSpec | null;
  /** Null: of captured traffic. */
  readonly forwarding: ForwardingSpec | null;
  readonly proxyProtocol: boolean;
}

interface GatewaySettings extends ListenerSettings {
  readonly forwarding: ForwardingSpec;
}

/**
 * How this host's traffic comes here. mesh: into the namespace that this process is in; `namespaces`: for processes of the host; null: started
 * in there, with no way out. pods: by address translation in each pod's own.
 */
export type CapturedTraffic =
  | { readonly by: 'mesh'; readonly namespaces: Namespaces | null; readonly bpfDir: string }
  | { readonly by: 'pods'; readonly namespaces: Namespaces; readonly link: PodLink };

/** What a predecessor left. */
export interface Inheritance {
  readonly ticketKeys: TicketKeys;
  take(kind: HandedSocket['kind'], address: string, port: number, pod?: number): readonly InheritedSocket[];
}

/** What is wanted by the generation in force. */
export interface WantedListeners {
  readonly gateways: readonly GatewayListener[];
  /** Processes of the host itself are captured. */
  readonly hasHostProcesses: boolean;
}

export interface ListenersOptions {
  readonly addon: EngineAddon & Pick<MessageSocketAddon, 'closeDescriptor'>;
  readonly pool: WorkerPool;
  readonly captured: CapturedTraffic | null;
  readonly inheritance: Inheritance | null;
  /** Of gateways that say nothing of it. */
  readonly trustedHops: number;
  /** One after the other, and not while an update is applied. */
  readonly inTurn: (work: () => Promise<unknown>) => void;
  readonly log: Logger;
}

export class Listeners {
  private readonly tls: GatewayTls;
  private readonly toldFaults = new WeakSet<GatewayContext>();
  private readonly opened = new Map<number, OpenListener>();
  private readonly lostNames = new Set<string>();
  /** Pods in whose namespaces every worker listens. */
  private readonly joined = new Set<number>();
  /** Null: nothing is in force yet. */
  private wanted: WantedListeners | null = null;
  private retry: NodeJS.Timeout | null = null;
  private closedTexts: readonly string[] = [];

  constructor(private readonly options: ListenersOptions) {
    this.tls = new GatewayTls(options.addon, undefined, options.inheritance?.ticketKeys);
    this.rotateTicketKeysIn(TICKET_KEY_ROTATION_MS - this.tls.keys.ageMs);
  }

  get open(): readonly OpenListener[] {
    return [...this.opened.values()];
  }

  /** What should be open and is not, and why. */
  get closed(): readonly string[] {
    return this.closedTexts;
  }

  /** What a predecessor serves and this one wants to, and can't. */
  get lost(): readonly string[] {
    return [...this.lostNames];
  }

  get ticketKeys(): TicketKeys {
    return this.tls.keys;
  }

  /** Duplicates of all listening sockets, the caller's to close. */
  async share(): Promise<readonly (HandedSocket & { readonly descriptor: number })[]> {
    const counts = new Map<string, number>();
    const countOf = (key: string): number => {
      const count = counts.get(key) ?? 0;
      counts.set(key, count + 1);
      return count;
    };
    const shared = await this.options.pool.share();
    return shared.flatMap(({ id, pod, sockmapKey, descriptor }): (HandedSocket & { readonly descriptor: number })[] => {
      if (pod !== null) return [{ ...this.podListener(id), pod, slot: countOf(`${id} ${pod}`), descriptor }];
      const listener = this.opened.get(id);
      // A successor registers its own sockets for processes of the host, a worker's in its place.
      const kind = listener?.kind;
      if (listener === undefined || (kind !== 'gateway' && kind !== 'outbound' && kind !== 'inbound')) {
        this.options.addon.closeDescriptor(descriptor);
        return [];
      }
      const { address, port } = listener;
      const slot = sockmapKey === null ? countOf(`${id}`) : Math.floor(sockmapKey / MESH_LISTENERS.length);
      return [{ kind, address, port, slot, descriptor }];
    });
  }

  /** The same in every pod. */
  private podListener(id: number): { readonly kind: 'pod-outbound' | 'pod-inbound'; readonly address: string; readonly port: number } {
    const found = POD_LISTENERS.find((listener) => listener.id === id);
    if (found === undefined || this.options.captured?.by !== 'pods') throw new Error(`listener ${id} is no pod's`);
    const { outboundPort, inboundPort } = this.options.captured.link.hello;
    return { kind: found.kind, address: found.address, port: found.kind === 'pod-outbound' ? outboundPort : inboundPort };
  }

  /** Returns what could not be opened, in words; that is tried again until it can, or is no longer wanted. */
  async reconcile(wanted: WantedListeners): Promise<readonly string[]> {
    this.wanted = wanted;
    const closed = [
      ...(await this.openMeshListeners(wanted)),
      ...(await this.openDnsListeners()),
      ...(await this.reconcilePods()),
      ...(await this.reconcileGateways(wanted.gateways)),
    ];
    this.closedTexts = closed;
    if (closed.length > 0 && this.retry === null) {
      this.retry = setTimeout(() => {
        this.retry = null;
        this.again();
      }, LISTEN_RETRY_MS);
      this.retry.unref();
    }
    return closed;
  }

  private again(): void {
    this.options.inTurn(async () => (this.wanted === null ? undefined : this.reconcile(this.wanted)));
  }

  /** Only now that there are tables: before, connections go direct rather than to a proxy that knows nothing. */
  private async openMeshListeners({ hasHostProcesses }: WantedListeners): Promise<string[]> {
    const { captured } = this.options;
    if (captured?.by !== 'mesh') return [];
    const failures: string[] = [];
    for (const [index, listener] of MESH_LISTENERS.entries()) {
      const { id, kind, address, port } = listener;
      if (isHostListener(listener) && !hasHostProcesses) this.closeListener(id);
      if (this.opened.has(id) || (isHostListener(listener) && !hasHostProcesses)) continue;
      const name = `${kind}-${address.includes(':') ? 'v6' : 'v4'}`;
      const sockmap = (slot: number) => ({ map: `${captured.bpfDir}/maps/listeners`, key: slot * MESH_LISTENERS.length + index });
      const common = { id, kind, address, port, protocol: 'detect', tls: null, forwarding: null, proxyProtocol: false } as const;
      const spec = (slot: number): ListenerSpec => ({ ...common, pod: null, sockmap: sockmap(slot) });
      const errors = await this.openListener({ ...common, name }, spec, isHostListener(listener) ? 'each' : 'shared');
      // A host without IPv6: its processes have no connections to capture.
      if (address === '::1' && errors.some((error) => /EAFNOSUPPORT|EADDRNOTAVAIL/.test(error))) continue;
      failures.push(...errors);
    }
    return failures;
  }

  /** Queries come by sockmap alone, which an older agent has not made. */
  private async openDnsListeners(): Promise<string[]> {
    const { captured } = this.options;
    if (captured?.by !== 'mesh') return [];
    const map = `${captured.bpfDir}/maps/dns_listeners`;
    if (!existsSync(map)) return [];
    const failures: string[] = [];
    for (const [index, { id, kind, address, port }] of DNS_LISTENERS.entries()) {
      if (this.opened.has(id)) continue;
      const name = `dns-${address.includes(':') ? 'v6' : 'v4'}`;
      const common = { id, kind, address, port, tls: null, forwarding: null, proxyProtocol: false } as const;
      const spec = (slot: number): ListenerSpec => ({
        ...common,
        pod: null,
        protocol: 'opaque',
        sockmap: { map, key: slot * DNS_LISTENERS.length + index },
      });
      failures.push(...(await this.openListener({ ...common, name, protocol: 'opaque' }, spec)));
    }
    return failures;
  }

  /** The model is in force; which pods there are says the agent, whenever it knows. */
  followPods(): void {
    if (this.options.captured?.by !== 'pods') return;
    this.options.captured.link.follow(() => this.again());
  }

  /** Resolves when fail-open pods go direct: with this proxy nobody is left to serve them. */
  async leavePods(): Promise<void> {
    if (this.options.captured?.by !== 'pods') return;
    this.options.captured.link.close();
    await this.options.pool.expirePods();
  }

  /** The last connection has ended: which pods there are is no matter any more. */
  stopFollowingPods(): void {
    if (this.options.captured?.by === 'pods') this.options.captured.link.close();
  }

  /** The beats begin when all workers listen. */
  private async reconcilePods(): Promise<string[]> {
    if (this.options.captured?.by !== 'pods') return [];
    const { link, namespaces } = this.options.captured;
    const released = link.takeReleased();
    const wanted = new Map(link.pods);
    const failures: string[] = [];
    for (const key of [...this.joined].filter((known) => !wanted.has(known))) {
      this.joined.delete(key);
      await this.options.pool.leavePod(key);
    }
    for (const pod of wanted.values()) {
      if (this.joined.has(pod.key)) continue;
      const listeners = podListeners(pod, link.hello, namespaces.channel).map((listener) => ({
        listener,
        inherited: this.options.inheritance?.take(listener.kind, listener.address, listener.port, pod.key) ?? [],
      }));
      const error = await this.options.pool.joinPod(pod.key, listeners);
      if (error === null) this.joined.add(pod.key);
      else failures.push(`the proxy can't listen in ${pod.name}: ${error}`);
    }
    await this.options.pool.setPodBeats([...wanted.values()].filter(({ key }) => this.joined.has(key)).flatMap(({ beats }) => beats));
    for (const descriptor of released) this.options.addon.closeDescriptor(descriptor);
    return failures;
  }

  private async reconcileGateways(wanted: readonly GatewayListener[]): Promise<string[]> {
    const contexts = new Set<GatewayContext>();
    const listeners = wanted.flatMap((listener) => {
      const tls = this.tlsOf(listener, contexts);
      if (tls === 'none can be served') return [];
      const { trustedHops, forwardClientCert: clientCert, proxyProtocol } = listener;
      const settings = { tls, forwarding: { trustedHops: trustedHops ?? this.options.trustedHops, clientCert }, proxyProtocol };
      return listener.sockets.map(({ id, address }) => ({ ...listener, id, address, settings }));
    });
    const keep = new Map(listeners.map(({ id, protocol }) => [id, protocol]));
    for (const { id, kind, protocol } of [...this.opened.values()]) {
      if (kind === 'gateway' && keep.get(id) !== protocol) this.closeListener(id);
    }
    const failures: string[] = [];
    for (const { id, name, port, address, protocol, settings } of listeners) {
      const open = this.opened.get(id);
      if (open !== undefined) {
        await this.resetListener(open, settings);
        continue;
      }
      const wantedListener: OpenListener = { id, name, kind: 'gateway', address, port, protocol, ...settings };
      const errors = await this.openListener(wantedListener, () => gatewaySpec(wantedListener));
      // A host without IPv6 still has its "every address".
      if (address === '::' && this.opened.size > 0 && errors.some((error) => /EAFNOSUPPORT|EADDRNOTAVAIL/.test(error))) continue;
      failures.push(...errors);
    }
    this.tls.keepOnly(contexts);
    return failures;
  }

  /** Null: plain text. `used` gets the context, so that it is kept. Certificates that can't be served are told once. */
  private tlsOf(
    { name, protocol, passthrough, certificates, clientTrust, clientFallback, clientOptional, clientAccepts }: GatewayListener,
    used: Set<GatewayContext>,
  ): ListenerTlsSpec | null | 'none can be served' {
    const rest: ListenerTlsSpec | null = passthrough.length > 0 ? { mode: 'passthrough', context: null } : null;
    if (certificates === null || (certificates.length === 0 && rest !== null)) return rest;
    const alpn = protocol === 'http' ? HTTP_ALPN : [];
    const found = this.tls.contextFor({ certificates, passthrough, clientTrust, clientFallback, clientOptional, clientAccepts, alpn });
    used.add(found);
    if (!this.toldFaults.has(found)) for (const fault of found.faults) this.options.log.error({ listener: name }, `${name}: ${fault}`);
    this.toldFaults.add(found);
    if (found.context === null) return rest ?? 'none can be served';
    return { mode: rest === null ? 'terminate' : 'by-server-name', context: found.context };
  }

  /** Connections that are open go on with what they began with. */
  private async resetListener(open: OpenListener, settings: GatewaySettings): Promise<void> {
    const news = newsOf(open, settings);
    if (news.length === 0) return;
    await this.options.pool.setListener(open.id, settings);
    this.opened.set(open.id, { ...open, ...settings });
    this.options.log.info({ listener: open.name }, `${open.name} ${news.join(', ')}`);
  }

  private closeListener(id: number): void {
    if (!this.opened.delete(id)) return;
    this.options.pool.unlisten(id);
  }

  private async openListener(listener: OpenListener, specOf: ListenerOf, ports: 'shared' | 'each' = 'shared'): Promise<string[]> {
    const { port, error } = await this.listen(listener, specOf, ports);
    if (error === null) {
      this.opened.set(listener.id, { ...listener, port });
      this.options.log.info({ listener: listener.name }, `${listener.name} listens on ${hostPort(listener.address, port)}`);
      return [];
    }
    return [`${listener.name} can't listen on ${hostPort(listener.address, listener.port)}: ${error}`];
  }

  private async listen({ id, name, kind, address, port }: OpenListener, specOf: ListenerOf, ports: 'shared' | 'each') {
    const inherited =
      kind === 'gateway' || kind === 'outbound' || kind === 'inbound' ? (this.options.inheritance?.take(kind, address, port) ?? []) : [];
    const answer = await this.options.pool.listen(id, specOf, ports, inherited);
    if (answer.error === null || inherited.length === 0) return answer;
    this.options.log.warn({ listener: name }, `${name} can't go on with the predecessor's sockets and opens its own: ${answer.error}`);
    const own = await this.options.pool.listen(id, specOf, ports);
    if (own.error !== null) this.lostNames.add(name);
    return own;
  }

  private rotateTicketKeysIn(ms: number): void {
    setTimeout(
      () => {
        this.tls.rotateTicketKeys();
        this.rotateTicketKeysIn(TICKET_KEY_ROTATION_MS);
      },
      Math.max(0, ms),
    ).unref();
  }
}

/** IPv4 and IPv6 of each: what a pod sends is redirected to its loopback, what it is sent to the interface where that arrives. */
function podListeners({ key, netns }: Pod, { outboundPort, inboundPort, mark }: PodHello, sockets: number) {
  const common = {
    protocol: 'detect',
    sockmap: null,
    forwarding: null,
    tls: null,
    proxyProtocol: false,
    pod: { key, netns, sockets, mark },
  } as const;
  return POD_LISTENERS.map(({ id, kind, address }) => ({
    ...common,
    id,
    kind,
    address,
    port: kind === 'pod-outbound' ? outboundPort : inboundPort,
  }));
}

function gatewaySpec({ id, address, port, protocol, tls, forwarding, proxyProtocol }: OpenListener): ListenerSpec {
  return { id, kind: 'gateway', pod: null, address, port, protocol, sockmap: null, forwarding, tls, proxyProtocol };
}

/** What is other than before, in words. */
function newsOf(before: OpenListener, { tls, forwarding: { trustedHops, clientCert }, proxyProtocol }: GatewaySettings): string[] {
  const news: string[] = [];
  if (before.tls?.context !== tls?.context)
    news.push(`has ${tls === null ? 'no TLS any more' : tls.mode === 'passthrough' ? 'TLS that passes through' : 'new certificates'}`);
  if (before.forwarding?.trustedHops !== trustedHops || before.forwarding.clientCert !== clientCert)
    news.push(`believes ${trustedHops} proxies in front, and forwards client certificates as ${clientCert}`);
  if (before.proxyProtocol !== proxyProtocol)
    news.push(proxyProtocol ? 'takes only what begins with a PROXY header' : 'takes no PROXY headers any more');
  return news;
}
