// The public test vectors beside the checkout (../shared/testdata): of others, and not in this repository. Where they are not there, what reads
// them is skipped, and `npm test` counts it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, test } from '@jest/globals';

const FOLDER = new URL('../../../shared/testdata/', import.meta.url);

export const hasTestdata = existsSync(FOLDER);

/** In place of Jest's, where the vectors are read. */
export const withTestdata = hasTestdata ? { describe, test } : { describe: describe.skip, test: test.skip };

/** @param path e.g. `bookinfo/networking/virtual-service-all-v1.yaml`; throws where it is not there. */
export function testdata(path: string): string {
  return readFileSync(new URL(path, FOLDER), 'utf8');
}

/** Names of the files of a folder and of those in it, `[]` where the vectors are not there. */
export function testdataFiles(folder: string): string[] {
  return hasTestdata ? readdirSync(new URL(`${folder}/`, FOLDER), { recursive: true, encoding: 'utf8' }) : [];
}
