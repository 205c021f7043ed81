// What `-f` names, read: files, folders (all *.yaml, *.yml and *.json below, sorted), "-" for standard input. Looks into no document.
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Finding, ManifestFile } from '../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../api/resources/finding.js';
import { MAX_MANIFEST_BYTES } from '../api/resources/limits.js';
import { manifestText } from '../api/resources/manifest-text.js';
import { EXIT_USAGE, Failure } from './failure.js';

const MANIFEST = /\.(ya?ml|json)$/i;
/** As readManifests, with the modules of Filters checked, and read from their files: a Failure with every mistake if there is one. */
export async function readCheckedManifests(paths: readonly string[]): Promise<{ files: ManifestFile[]; warnings: readonly Finding[] }> {
  const files = await readManifests(paths);
  // A compiler is loaded only where there is something for it.
  if (!files.some(({ content }) => /\bFilter\b/.test(content))) return { files, warnings: [] };
  const { readModules } = await import('./filter-modules.js');
  const read = await readModules(files);
  if (read.findings.length > 0) throw new Failure(read.findings.map(formatFinding).join('\n'));
  return read;
}

/** Throws Failure for what can't be read, for a folder without manifests and for more than MAX_MANIFEST_BYTES. */
export async function readManifests(paths: readonly string[], stdin: Readable = process.stdin): Promise<ManifestFile[]> {
  const files: ManifestFile[] = [];
  let total = 0;
  for (const path of paths) {
    for (const name of path === '-' ? ['-'] : await expand(path)) {
      const content = await read(name, stdin);
      total += Buffer.byteLength(content);
      if (total > MAX_MANIFEST_BYTES) throw new Failure(`${name}: more than 8 MiB of manifests in one go: apply them in parts`);
      files.push({ name: nameOf(name), content });
    }
  }
  return files;
}

async function expand(path: string): Promise<string[]> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => unreadable(path, error));
  if (!found.isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && MANIFEST.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  if (files.length === 0) throw new Failure(`${path}: no *.yaml, *.yml or *.json file in this folder or below`, EXIT_USAGE);
  return files.sort();
}

function read(path: string, stdin: Readable): Promise<string> {
  return (path === '-' ? readAll(stdin) : readFile(path))
    .then(manifestText)
    .catch((error: NodeJS.ErrnoException) => unreadable(nameOf(path), error));
}

function nameOf(path: string): string {
  return path === '-' ? '<stdin>' : path;
}

function unreadable(path: string, error: NodeJS.ErrnoException): never {
  const reason = error.code === 'ENOENT' ? 'no such file or folder' : error.message;
  throw new Failure(`${path}: ${reason}`, error.code === 'ENOENT' ? EXIT_USAGE : undefined);
}

async function readAll(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks);
}
