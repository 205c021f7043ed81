// The access log between the workers' rings and its file: what a line says is the formatter's (native/test/access_log_lines_test.cc).
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { type AccessLogLines, Missing, type Taken } from '../native/access-log.js';
import { AccessLog } from './access-log.js';
import { AccessLogFile } from './access-log-file.js';

let folder: string;
let file: string;
const errors: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-access-log-'));
  file = join(folder, 'log');
  errors.length = 0;
  jest.useFakeTimers({ doNotFake: ['setImmediate', 'nextTick', 'queueMicrotask'] });
});
afterEach(() => {
  jest.useRealTimers();
  rmSync(folder, { recursive: true });
});

/** A ring here is lines that wait: "label:rule:text". */
class Records implements AccessLogLines {
  readonly waiting: string[][] = [[], []];
  private readonly labels = new Map<string, string>();
  private readonly rules = new Map<string, string>();

  setLabel(id: number, json: string): void {
    this.labels.set(String(id), json);
  }
  setRule(id: number, json: string): void {
    this.rules.set(String(id), json);
  }
  forgetRules(): void {
    this.rules.clear();
  }
  take(ring: Uint8Array, _edges: Int32Array, out: Uint8Array, at: number): Taken {
    const records = this.waiting[ring[0]!]!;
    let end = at;
    for (; records.length > 0; records.shift()) {
      const [label, rule, text] = records[0]!.split(':') as [string, string, string];
      if (!this.labels.has(label)) return { end, missing: Missing.Label, id: Number(label) };
      if (!this.rules.has(rule)) return { end, missing: Missing.Rule, id: Number(rule) };
      const line = Buffer.from(`${this.labels.get(label)} ${this.rules.get(rule)} ${text}\n`);
      if (end + line.length > out.length) return { end, missing: Missing.Room, id: 0 };
      out.set(line, end);
      end += line.length;
    }
    return { end, missing: Missing.Nothing, id: 0 };
  }
}

function started(records: Records, path: string | null = file) {
  const asked: string[] = [];
  let generation = {};
  const log = new AccessLog(
    path,
    records,
    {
      rings: () => [0, 1].map((ring) => ({ accessLog: Uint8Array.of(ring), cells: { edges: new Int32Array(0) } })),
      generation: () => generation,
      label: (id) => {
        asked.push(`label ${id}`);
        return `shop/"${id}"`;
      },
      rule: (id) => {
        asked.push(`rule ${id}`);
        return id === 0 ? null : `rule ${id}`;
      },
    },
    (error) => errors.push(error.message),
  );
  const publish = (): void => {
    generation = {};
  };
  return { log, asked, publish };
}

test('what waits in the rings of all workers is written with the names that are asked for once', async () => {
  const records = new Records();
  const { log, asked } = started(records);
  records.waiting[0]!.push('1:2:a', '1:0:b');
  records.waiting[1]!.push('1:2:c');
  await log.close();
  expect(readFileSync(file, 'utf8')).toBe('"shop/\\"1\\"" "rule 2" a\n"shop/\\"1\\"" null b\n"shop/\\"1\\"" "rule 2" c\n');
  expect(asked).toEqual(['label 1', 'rule 2', 'rule 0']);
  expect(log.lost).toBe(0);
});

test('a rule may be another one in the next generation, a label may not', async () => {
  const records = new Records();
  const { log, asked, publish } = started(records);
  records.waiting[0]!.push('1:2:a');
  jest.advanceTimersByTime(20);
  publish();
  records.waiting[0]!.push('1:2:b');
  await log.close();
  expect(asked).toEqual(['label 1', 'rule 2', 'rule 2']);
});

test('lines leave the rings at once and reach the file in one write, a tenth of a second later', async () => {
  const records = new Records();
  const { log } = started(records);
  for (let turn = 0; turn < 4; turn++) {
    records.waiting[0]!.push(`1:2:${turn}`);
    jest.advanceTimersByTime(20);
    expect(records.waiting[0]).toEqual([]);
  }
  await new Promise(setImmediate);
  expect(readFileSync(file, 'utf8')).toBe('');
  jest.advanceTimersByTime(20);
  while (readFileSync(file, 'utf8') === '') await new Promise(setImmediate);
  expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(5);
  await log.close();
});

test('more lines than all chunks hold come out whole and in order', async () => {
  const records = new Records();
  const { log } = started(records);
  const text = 'x'.repeat(8_000);
  const count = 2_500;
  for (let i = 0; i < count; i++) records.waiting[0]!.push(`1:2:${i} ${text}`);
  await log.close();
  const lines = readFileSync(file, 'utf8').split('\n');
  expect(lines).toHaveLength(count + 1);
  expect(lines.slice(0, -1).every((line, i) => line.endsWith(` ${i} ${text}`))).toBe(true);
});

test('after a rotation lines go to a new file', async () => {
  const records = new Records();
  const { log } = started(records);
  renameSync(file, `${file}.1`);
  log.reopen();
  records.waiting[0]!.push('1:2:a');
  await log.close();
  expect(readFileSync(file, 'utf8')).toBe('"shop/\\"1\\"" "rule 2" a\n');
  expect(readFileSync(`${file}.1`, 'utf8')).toBe('');
  rmSync(file);
  log.reopen();
  expect(existsSync(file)).toBe(false);
});

test('a file that can not be opened is told by its name, with what to do', () => {
  expect(() => new AccessLogFile(join(folder, 'none', 'access.log'), () => undefined)).toThrow(
    /^can't open .*\/none\/access\.log: ENOENT\. Make its folder/,
  );
});

test('a file that is being written to is closed when that is done; where no new one can be made the old one goes on', async () => {
  const log = new AccessLogFile(file, (error) => errors.push(error.message));
  const give = (line: string): void => {
    const chunk = log.take()!;
    log.give(chunk, chunk.write(line));
  };
  give('a\n');
  renameSync(file, `${file}.1`);
  log.reopen();
  give('b\n');
  await log.idle();
  expect(readFileSync(`${file}.1`, 'utf8')).toBe('a\n');
  renameSync(folder, `${folder}.away`);
  log.reopen();
  renameSync(`${folder}.away`, folder);
  expect(errors).toEqual([expect.stringContaining('ENOENT')]);
  give('c\n');
  await log.idle();
  expect(readFileSync(file, 'utf8')).toBe('b\nc\n');
  log.close();
});

test('reopened twice while it is being written to, it leaves no descriptor open', async () => {
  const log = new AccessLogFile(file, (error) => errors.push(error.message));
  const open = (): number =>
    readdirSync('/proc/self/fd').filter((descriptor) => {
      const path = `/proc/self/fd/${descriptor}`;
      return existsSync(path) && readlinkSync(path) === file;
    }).length;
  const chunk = log.take()!;
  log.give(chunk, chunk.write('a\n'));
  log.reopen();
  log.reopen();
  await log.idle();
  expect(open()).toBe(1);
  log.close();
  expect(open()).toBe(0);
});

test('lines that the file does not take are counted, and it is told once', async () => {
  const full = new AccessLogFile('/dev/full', (error) => errors.push(error.message));
  for (const lines of ['a\nb\n', 'c\n']) {
    const chunk = full.take()!;
    full.give(chunk, chunk.write(lines));
  }
  await full.idle();
  expect(full.lost).toBe(3);
  expect(errors).toEqual([expect.stringContaining('ENOSPC')]);
  full.close();
});

test('no more waits for the file than its chunks, which are used again', async () => {
  const log = new AccessLogFile(file, (error) => errors.push(error.message));
  const chunks: Buffer[] = [];
  for (let chunk = log.take(); chunk !== null; chunk = log.take()) chunks.push(chunk);
  expect(chunks.reduce((sum, { length }) => sum + length, 0)).toBe(16 * 1_048_576);
  for (const chunk of chunks) log.give(chunk, chunk.write('line\n'));
  expect(log.take()).toBeNull();
  await log.idle();
  expect(readFileSync(file, 'utf8')).toBe('line\n'.repeat(chunks.length));
  expect(chunks).toContain(log.take());
  log.close();
});
