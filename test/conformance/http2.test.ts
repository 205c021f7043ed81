// RFC 9113 and RFC 7541 on a real proxy: every case in one write, a frame at a time behind a finished handshake, with pauses, byte by byte, and over
// TLS.
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Certificates } from '../lab/certificates.js';
import { SECTIONS } from './http2-cases.js';
import { DIALOGUES } from './http2-dialogues.js';
import { type Sections, settled } from './http2-expectations.js';
import { Client, PREFACE, settings } from './http2-wire.js';
import { listening, ProxyProcess } from './proxy-process.js';

type Case = Sections[string][number];
const WAYS = ['in one write', 'a frame at a time', 'with pauses', 'byte by byte', 'over TLS'] as const;
/** In which an origin answers what was sent so far. */
const PAUSE_MS = 8;
/** Longer cases are not sent in single bytes. */
const MAX_SINGLE_BYTES = 700;

/** The buffers between two waits are one write. */
function inOneWrite(sends: Case['sends']): Case['sends'] {
  const joined: (Buffer | Case['expects'])[] = [];
  for (const each of sends) {
    const last = joined.at(-1);
    if (Buffer.isBuffer(each) && Buffer.isBuffer(last)) joined[joined.length - 1] = Buffer.concat([last, each]);
    else joined.push(each);
  }
  return joined;
}

async function play({ sends, expects, raw = false }: Case, way: (typeof WAYS)[number], client: Client): Promise<void> {
  const steps = raw ? sends : [PREFACE, settings(), ...(way === 'in one write' ? [] : [settled]), ...sends];
  for (const step of way === 'in one write' ? inOneWrite(steps) : steps) {
    if (!Buffer.isBuffer(step)) await step(client);
    else if (way !== 'byte by byte' || step.length > MAX_SINGLE_BYTES) await client.send(step);
    else for (const byte of step) await client.send(Buffer.from([byte]));
    if (way === 'with pauses') await pause(PAUSE_MS);
  }
  await expects(client);
}

const origin = createServer((message, response) => {
  if (message.url === '/never') return;
  let body = '';
  message.setEncoding('latin1').on('data', (piece: string) => {
    body += piece;
  });
  message.on('end', () => {
    const answer =
      message.url === '/echo'
        ? body
        : message.url === '/cookie'
          ? (message.headers.cookie ?? '')
          : message.url === '/page'
            ? 'a page'
            : 'ok';
    if (message.url === '/late') setTimeout(() => response.end(answer), 50);
    else response.end(answer);
  });
});
let proxy: ProxyProcess;

const certificates = new Certificates();

beforeAll(async () => {
  const certificate = certificates.issue(certificates.authority('http2'), 'DNS:a.test');
  proxy = await ProxyProcess.start([await listening(origin)], certificate);
});
afterAll(async () => {
  await proxy.stop();
  certificates.remove();
  origin.closeAllConnections();
  origin.close();
});

const sections: Sections = Object.fromEntries([...Object.entries(SECTIONS), ...Object.entries(DIALOGUES)]);

describe.each(Object.entries(sections))('%s', (_, cases) => {
  test.each(cases.map((each) => [each.name, each] as const))('%s', async (_name, played) => {
    for (const way of WAYS) {
      const client = await Client.to(way === 'over TLS' ? proxy.securePort : proxy.ports[0]!, way === 'over TLS');
      try {
        await play(played, way, client).catch((error: Error) => {
          throw new Error(`${way}: ${error.message}`);
        });
        expect(proxy.isRunning()).toBe(true);
      } finally {
        client.close();
      }
    }
  });
});
