// Where the published type package lies: beside the sources, which stand in the folder above `dist` too.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Absolute. */
export function typePackageFolder(): string {
  for (const candidate of ['./package', '../../../api/filter/package']) {
    const path = fileURLToPath(new URL(candidate, import.meta.url));
    if (existsSync(`${path}/index.d.ts`)) return path;
  }
  throw new Error('api/filter/package is missing: the checkout is not whole');
}
