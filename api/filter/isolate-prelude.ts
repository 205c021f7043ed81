// Evaluated in a filter's context before its module: takes away what reaches beyond the heap's limit, and makes of plain texts what hooks
// are given, of what they return a plain text. Runs among hostile code: nothing that comes out of it is believed (outcome.ts).

/** A script whose value is a function: exports of the module → the function that calls a hook. */
export const PRELUDE = `(function () {
  'use strict';
  const { parse, stringify } = JSON;
  const { freeze, defineProperty } = Object;
  const text = String;
  // Memory outside the heap, other threads' memory, and code that no one has checked.
  for (const name of ['ArrayBuffer', 'SharedArrayBuffer', 'DataView', 'Atomics', 'WebAssembly', 'WeakRef', 'FinalizationRegistry',
    'Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'Float32Array',
    'Float64Array', 'BigInt64Array', 'BigUint64Array', 'eval', 'Function', 'console', 'escape', 'unescape']) delete globalThis[name];

  class Headers {
    #fields;
    constructor(fields) { this.#fields = fields; }
    get(name) { const values = this.getAll(name); return values.length === 0 ? null : values.join(', '); }
    getAll(name) { const lower = text(name).toLowerCase(); return this.#fields.filter((field) => field[0] === lower).map((field) => field[1]); }
    has(name) { return this.getAll(name).length > 0; }
    entries() { return this.#fields.map((field) => [field[0], field[1]]); }
  }

  function headOf(lines) {
    const pseudo = { __proto__: null };
    const fields = [];
    for (const line of lines.split('\\n')) {
      const colon = line.indexOf(': ', 1);
      if (colon < 0) continue;
      const name = line.slice(0, colon).toLowerCase();
      if (name[0] === ':') pseudo[name] = line.slice(colon + 2);
      else if (name === 'host') pseudo[':authority'] ??= line.slice(colon + 2);
      else fields.push([name, line.slice(colon + 2)]);
    }
    return { pseudo, headers: freeze(new Headers(fields)) };
  }

  function bodyOf(content, latin1) {
    return latin1 === null ? null : freeze({ size: latin1.length, text: () => content, latin1: () => latin1 });
  }

  function requestOf(lines, body, meta) {
    const { pseudo, headers } = headOf(lines);
    const [workload, destination, port] = parse(meta);
    return freeze({
      method: pseudo[':method'] ?? '', path: pseudo[':path'] ?? '', authority: pseudo[':authority'] ?? '', headers,
      source: freeze({
        address: pseudo[':source-address'] ?? '', workload, namespace: workload === null ? null : workload.split('/')[0],
        identity: pseudo[':source-identity'] ?? null,
      }),
      destination: freeze({ name: destination, port }), body,
    });
  }

  function call(hook, argument) {
    try {
      const result = hook(argument);
      if (result !== null && typeof result === 'object' && typeof result.then === 'function')
        return stringify({ error: 'the hook is asynchronous: it must return at once' });
      return stringify({ result: result === undefined ? null : result }) ?? '{}';
    } catch (error) {
      let told = 'it threw';
      try { told = text(error !== null && typeof error === 'object' && error.stack || error).split('\\n    at call (weft')[0].slice(0, 1000); } catch {}
      return stringify({ error: told });
    }
  }

  return (exported) => {
    const hooks = [exported.onRequest, exported.onResponse];
    return (kind, head, content, latin1, meta, answer) => {
      const hook = hooks[kind];
      if (typeof hook !== 'function') return '{}';
      const body = bodyOf(content, latin1);
      const request = requestOf(head, kind === 0 ? body : null, meta);
      if (kind === 0) return call(hook, request);
      const { pseudo, headers } = headOf(answer);
      return call(hook, freeze({ status: Number(pseudo[':status']), headers, request, body }));
    };
  };
})()`;
