// The program of a filter's process: one module in one context, that sees texts and gives texts. Given to Node.js as source (-e), so that it
// reads no file: imports nothing of ours. Descriptor 3 is its owner's: the module, then a beat now and then; the ones above carry calls.
import { Socket } from 'node:net';
import process from 'node:process';
import vm from 'node:vm';

// Twins of frames.ts and outcome.ts.
const MAX_CALLS_BYTES = 16 * 1024 * 1024;
const MAX_RESULT_BYTES = 8 * 1024 * 1024;
/** Answers leave as soon as they are so many bytes or so late: whoever waits sees that calls end. */
const FLUSH_BYTES = 256 * 1024;
const FLUSH_MS = 2;
const FIRST_CHANNEL = 4;

/** Kind (0: request, 1: response), head, body, what else is known of the request, head of the answer. */
type Call = readonly [id: number, kind: number, head: string, body: string | null, meta: string, answer: string];
type Invoke = (kind: number, head: string, text: string | null, latin1: string | null, meta: string, answer: string) => unknown;
interface Module {
  readonly prelude: string;
  readonly code: string;
  readonly exportsName: string;
  readonly channels: number;
}

function send(socket: Socket, message: unknown): void {
  const json = Buffer.from(JSON.stringify(message));
  const header = Buffer.allocUnsafe(4);
  header.writeUInt32LE(json.length);
  socket.write(Buffer.concat([header, json]));
}

function read(socket: Socket, onMessage: (message: unknown) => void, onEnd: () => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (piece: Buffer) => {
    rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    while (rest.length >= 4) {
      const length = rest.readUInt32LE(0);
      if (length > MAX_CALLS_BYTES) process.exit(1);
      if (rest.length < 4 + length) return;
      const json = rest.toString('utf8', 4, 4 + length);
      rest = rest.subarray(4 + length);
      onMessage(JSON.parse(json));
    }
  });
  socket.on('close', onEnd);
  socket.on('error', onEnd);
}

/** The context has no object of this realm, and this realm no way to make code of text (--disallow-code-generation-from-strings). */
function load({ prelude, code, exportsName }: Module): Invoke {
  const context = vm.createContext(Object.create(null), { codeGeneration: { strings: false, wasm: false } });
  const start = vm.runInContext(prelude, context, { filename: 'weft' }) as (exported: unknown) => Invoke;
  const exported: unknown = vm.runInContext(`${code}\n${exportsName}`, context, { filename: 'filter.js' });
  return start(exported);
}

function serve(socket: Socket, invoke: Invoke): void {
  read(
    socket,
    (message) => {
      let answers: unknown[] = [];
      let bytes = 0;
      let flushed = process.hrtime.bigint();
      for (const [id, kind, head, body, meta, answer] of message as readonly Call[]) {
        const began = process.hrtime.bigint();
        // Decoded here: the context has nothing to do so with.
        const text = body === null ? null : Buffer.from(body, 'latin1').toString('utf8');
        let result = invoke(kind, head, text, body, meta, answer);
        const ended = process.hrtime.bigint();
        if (typeof result !== 'string') result = '{"error":"the hook returned what can\'t be told"}';
        if ((result as string).length > MAX_RESULT_BYTES) result = '{"error":"the hook returned more than 8 MiB"}';
        answers.push([id, result, Number((ended - began) / 1000n)]);
        bytes += (result as string).length;
        if (bytes < FLUSH_BYTES && ended - flushed < BigInt(FLUSH_MS * 1e6)) continue;
        send(socket, answers);
        answers = [];
        bytes = 0;
        flushed = ended;
      }
      if (answers.length > 0) send(socket, answers);
      // Of a worker that has drained: the others go on.
    },
    () => socket.destroy(),
  );
}

// A signal to the whole group of the proxy's processes: the proxy drains, and needs its filters until it has.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);

const owner = new Socket({ fd: 3 });
read(
  owner,
  (message) => {
    if (message === 'beat') return send(owner, { heapBytes: process.memoryUsage().heapUsed });
    try {
      const module = message as Module;
      const invoke = load(module);
      for (let channel = 0; channel < module.channels; channel++) serve(new Socket({ fd: FIRST_CHANNEL + channel }), invoke);
      send(owner, { ready: true });
    } catch (error) {
      let text = 'it threw what has no text';
      try {
        text = String((error as { stack?: unknown } | null)?.stack ?? error).slice(0, 2000);
      } catch {}
      send(owner, { error: text });
    }
  },
  () => process.exit(0),
);
