// Makes jest tests of the case files whose names begin with a prefix, over one proxy.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { parseCases } from './case-file.js';
import { Street } from './lane.js';

const CASES = join(process.cwd(), 'test/conformance/cases');
const CASE_MS = 20_000;

export function conformance(prefix: string): void {
  let street: Street;
  beforeAll(async () => {
    street = await Street.open();
  }, CASE_MS);
  afterAll(() => street.close());
  for (const file of readdirSync(CASES).filter((name) => name.startsWith(prefix))) {
    describe(file, () => {
      for (const played of parseCases(readFileSync(join(CASES, file), 'utf8'), file)) {
        test(played.name, () => street.play(played), CASE_MS);
      }
    });
  }
}
