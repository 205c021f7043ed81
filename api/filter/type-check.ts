// The types of a Filter's module, checked by the TypeScript compiler in a process of its own. Where none is installed nothing is checked.
import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative } from 'node:path';
import type { ModuleMistake } from './bundle.js';
import { typePackageFolder } from './package-folder.js';

const CHECK_TIMEOUT_MS = 60_000;
/** Of the compiler's words. */
const MAX_OUTPUT_BYTES = 1_048_576;
const DIAGNOSTIC = /^(.*?)\((\d+),(\d+)\): error (TS\d+: .*)$/;
const OPTIONS = {
  target: 'ES2022',
  // No DOM, no Node.js: what a filter lacks when it runs is unknown when it is checked.
  lib: ['ES2022'],
  types: [],
  module: 'ESNext',
  moduleResolution: 'bundler',
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  isolatedModules: true,
  allowImportingTsExtensions: true,
};

/** Null: TypeScript isn't installed. */
export async function checkTypes(
  module: { readonly source: string } | { readonly path: string },
): Promise<readonly ModuleMistake[] | null> {
  const compiler = findCompiler();
  if (compiler === null) return null;
  const folder = await mkdtemp(join(tmpdir(), 'weft-filter-'));
  try {
    await cp(join(typePackageFolder(), 'index.d.ts'), join(folder, 'types', 'index.d.ts'));
    const entry = 'path' in module ? module.path : join(folder, 'module.ts');
    if ('source' in module) await writeFile(entry, module.source);
    const compilerOptions = { ...OPTIONS, paths: { '@weft/filter': [join(folder, 'types', 'index.d.ts')] } };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [entry] }));
    const output = await run(compiler, ['-p', folder, '--pretty', 'false'], folder);
    return output.split('\n').flatMap((line) => mistakeIn(line, folder, entry));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function findCompiler(): string | null {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
  } catch {
    return null;
  }
}

/** What it says; that there are mistakes is no error. */
function run(compiler: string, args: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { cwd, timeout: CHECK_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES };
    execFile(process.execPath, [compiler, ...args], options, (error, stdout, stderr) => {
      if (error === null || stdout !== '') resolve(stdout);
      else reject(new Error(`the TypeScript compiler failed: ${stderr.trim() || error.message}`));
    });
  });
}

function mistakeIn(line: string, folder: string, entry: string): ModuleMistake[] {
  const [, file = '', row = '', column = '', message = ''] = DIAGNOSTIC.exec(line) ?? [];
  if (message === '') return [];
  const path = isAbsolute(file) ? file : join(folder, file);
  return [{ file: relative(entry, path) === '' ? '' : path, line: Number(row), column: Number(column), message }];
}
