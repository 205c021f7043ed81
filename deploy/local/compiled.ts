// Where the compiled programs lie that the lab starts as processes: seen from dist/deploy/local, and from the sources under jest.
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const IS_COMPILED = HERE.endsWith('/dist/deploy/local/');
const REPOSITORY = fileURLToPath(new URL(IS_COMPILED ? '../../../' : '../../', import.meta.url));

/** "cli/main.js" → its absolute path below dist. */
export function compiled(path: string): string {
  return `${REPOSITORY}dist/${path}`;
}

/** A file of the repository that isn't compiled. */
export function source(path: string): string {
  return `${REPOSITORY}${path}`;
}
