// What workers of the engine's tests tell it where the test says nothing else. Plain JavaScript, since jest transforms no workers.

/** How long records are, as engine.ts has it (DESCRIPTOR_WORDS, DECISION_WORDS, COMPLETION_WORDS); record-words.test.ts holds it to that. */
export const WORDS = { descriptor: 24, decision: 22, completion: 16 };

/** Of createEngine(); limits, outstanding and counters are the test's. */
export const ENGINE = {
  tenants: new Float64Array(1024 * 7),
  // Of 4,096 endpoints and 64 services.
  connectionCounts: new Int32Array(1 + 4_096 * 2 + 64 * 4),
  accessLog: null,
  heartbeat: null,
  host: null,
  via: null,
  hairpin: { v4: '169.254.1.1', v6: 'fe80::1' },
};

/** Of createTables(): nothing is known. */
export const TABLES = {
  generation: 1,
  hosts: [],
  paths: ['/'],
  predicates: [],
  destinations: [],
  sources: [],
  sourceTwins: [],
  identities: [],
  endpoints: [],
  mutations: [],
  localReplies: [],
  values: [],
  rewrites: [],
  cors: [],
  retries: [],
  sourceTenants: [],
  destinationTenants: [],
  listenerTenants: [],
  tenantWeights: [],
  names: [],
};

/** Ends the engine when the test says so: at once, or with what runs. */
export function endWhenTold(port, engine) {
  port.on('message', (message) => {
    if (message === 'close') {
      engine.close();
      port.close();
    } else if (message === 'drain') {
      engine.drain(50);
    }
  });
}

/** Of createTables(): the endpoint with that id on the loopback. */
export function endpoint(id, port, protocol = 'http1') {
  return { id, address: '127.0.0.1', port, protocol, tls: null, connections: null };
}

/** Of listen(): a gateway's, on the loopback, where the kernel chooses. */
export function gateway(id, protocol, forwarding = null) {
  return { id, kind: 'gateway', address: '127.0.0.1', port: 0, protocol, sockmap: null, forwarding, tls: null, proxyProtocol: false };
}
