// A Filter's module in TypeScript → one script without imports. Synchronous and remembered, as manifests are checked and compiled so.
// Reads no file but what it is told to; checks no types (type-check.ts).
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import type * as Esbuild from 'esbuild';

export const HOOKS = ['onRequest', 'onResponse'] as const;
/** Of the script. A manifest holds 1 MiB. */
const MAX_SCRIPT_BYTES = 512 * 1024;
const REMEMBERED = 256;
/** The syntax of every Node.js that Weft runs on. */
const TARGET = 'es2022';
/** `import()` and `require` become calls of what isn't there. */
const SUPPORTED = { 'dynamic-import': false, 'import-meta': false };
/** In which the script leaves what the module exports. */
export const EXPORTS_NAME = 'weftFilter';

export interface ModuleMistake {
  /** Of the module, from 1; empty file: of the module itself. */
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

export type Bundled =
  | { readonly ok: true; readonly code: string; readonly onRequest: boolean; readonly onResponse: boolean }
  | { readonly ok: false; readonly mistakes: readonly ModuleMistake[] };

const known = new Map<string, Bundled>();

/** A module by itself: it imports the types of @weft/filter and nothing else. */
export function bundleModule(source: string): Bundled {
  const key = createHash('sha256').update(source).digest('base64');
  let bundled = known.get(key);
  if (bundled === undefined) {
    bundled = bundle({ stdin: { contents: source, loader: 'ts', sourcefile: MODULE } });
    if (known.size === REMEMBERED) known.delete(known.keys().next().value as string);
    known.set(key, bundled);
  }
  return bundled;
}

/** With the files that it imports by relative paths. Returns the source that stands for all of them. */
export function bundleFile(path: string): Bundled & { readonly source?: string } {
  return bundle({ entryPoints: [path] });
}

const MODULE = 'module.ts';

type Entry = { readonly stdin: { contents: string; loader: 'ts'; sourcefile: string } } | { readonly entryPoints: string[] };

let loaded: typeof Esbuild | null = null;

/**
 * Only where there is a module: proxies, controllers and the CLI import this file and mostly see none. Its synchronous calls each in a process of
 * their own: one that serves them all from a thread beside this one is gone for ever once it is ended. It looks when it is loaded.
 */
function esbuild(): typeof Esbuild {
  if (loaded === null) {
    process.env.ESBUILD_WORKER_THREADS = '0';
    loaded = createRequire(import.meta.url)('esbuild') as typeof Esbuild;
  }
  return loaded;
}

function bundle(entry: Entry): Bundled & { readonly source?: string } {
  const { buildSync, transformSync } = esbuild();
  try {
    const built = buildSync({
      ...entry,
      bundle: true,
      write: false,
      format: 'esm',
      metafile: true,
      outfile: 'filter.js',
      platform: 'neutral',
      target: TARGET,
      supported: SUPPORTED,
      tsconfigRaw: {},
      charset: 'utf8',
      logLevel: 'silent',
    });
    const source = built.outputFiles[0]?.text ?? '';
    const [output] = Object.values(built.metafile.outputs);
    const inputs = 'stdin' in entry ? Object.keys(built.metafile.inputs).filter((path) => path !== MODULE) : [];
    // What esbuild leaves to whoever runs it: URLs.
    const [alien] = [...inputs, ...(output?.imports ?? []).map(({ path }) => path)];
    if (alien !== undefined) return refuse(`it imports ${alien}: a module stands alone, but for the types of @weft/filter`);
    const exported = output?.exports ?? [];
    const [onRequest, onResponse] = HOOKS.map((hook) => exported.includes(hook)) as [boolean, boolean];
    if (!onRequest && !onResponse) return refuse(`it exports none of ${HOOKS.join(', ')}: there is nothing to call`);
    const { code } = transformSync(source, { format: 'iife', globalName: EXPORTS_NAME, target: TARGET, supported: SUPPORTED });
    const bytes = Buffer.byteLength(code);
    if (bytes > MAX_SCRIPT_BYTES) return refuse(`too large: ${bytes} bytes as a script, at most ${MAX_SCRIPT_BYTES}`);
    return { ok: true, code, onRequest, onResponse, source };
  } catch (error) {
    const { errors } = error as Partial<Esbuild.BuildFailure>;
    if (!Array.isArray(errors)) return refuse(`the bundler failed: ${(error as Error).message}`);
    return { ok: false, mistakes: errors.map(mistakeOf) };
  }
}

function refuse(message: string): Bundled {
  return { ok: false, mistakes: [{ file: '', line: 1, column: 1, message }] };
}

function mistakeOf({ text, location }: Esbuild.Message): ModuleMistake {
  const isOwn = location === null || location.file === MODULE;
  const message = text.startsWith('Could not resolve') ? `${text}: a module imports the types of @weft/filter, and files beside it` : text;
  return { file: isOwn ? '' : location.file, line: location?.line ?? 1, column: (location?.column ?? 0) + 1, message };
}
