// The version of this build, read once from package.json. Owns nothing else.
import { readFileSync } from 'node:fs';

/** From the sources package.json is one folder up, from dist/api two. */
function readVersion(): string {
  for (const candidate of ['../package.json', '../../package.json']) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8'));
      if (isManifest(manifest)) return manifest.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`no package.json of weft beside ${import.meta.url}: the installation is incomplete`);
}

function isManifest(value: unknown): value is { name: 'weft'; version: string } {
  return typeof value === 'object' && value !== null && 'name' in value && value.name === 'weft' && 'version' in value;
}

/** Semantic version, e.g. "0.1.0". */
export const VERSION: string = readVersion();
