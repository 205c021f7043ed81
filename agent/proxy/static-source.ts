// The model from manifests on disk: reads them, compiles them with the controller's own code, and again whenever a file changes.
// A change with a mistake is told and not applied: what was served stays.
import { type FSWatcher, watch } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Logger } from 'pino';
import { compileModel } from '../../api/compile/index.js';
import { encodeResource } from '../../api/compile/wire.js';
import { formatFinding, parseManifests } from '../../api/resources/index.js';
import { manifestText } from '../../api/resources/manifest-text.js';
import type { ModelUpdate } from '../model/model.js';

/** Editors write a file in several steps: read it when they have come to rest. */
const SETTLE_MS = 50;

/** `problems` are served as their text says, `findings` are not served at all. */
export type LoadResult =
  | { readonly ok: true; readonly update: ModelUpdate; readonly problems: readonly string[] }
  | { readonly ok: false; readonly findings: readonly string[] };

/** `revision`: what the update shall be called. */
export async function loadManifests(files: readonly string[], revision: number): Promise<LoadResult> {
  const read: { name: string; content: string }[] = [];
  const findings: string[] = [];
  for (const name of files) {
    try {
      read.push({ name, content: manifestText(await readFile(name)) });
    } catch (error) {
      findings.push(`${name}: can't be read: ${(error as Error).message}`);
    }
  }
  const parsed = parseManifests(read);
  findings.push(...parsed.findings.map(formatFinding));
  if (findings.length > 0) return { ok: false, findings };
  const objects = parsed.objects.map((object) => ({ ...object, createdAtMs: 0 }));
  const compiled = compileModel({ objects, running: null, nowMs: Date.now() });
  const problems = [
    ...parsed.warnings.map(formatFinding),
    ...compiled.problems.map(({ kind, namespace, name, path, message }) => `${kind} ${namespace}/${name}: ${path}: ${message}`),
  ];
  return { ok: true, update: { full: true, resources: compiled.resources.map(encodeResource), removed: [], revision }, problems };
}

/** Calls `onChange` after files changed, never while an earlier call is unfinished. Watches folders, so that replaced files are seen. */
export class FileWatch {
  private readonly watchers: FSWatcher[] = [];
  private timer: NodeJS.Timeout | null = null;
  private isRunning = false;
  private isDirty = false;

  constructor(
    private readonly files: readonly string[],
    private readonly onChange: () => Promise<void>,
    private readonly log: Logger,
  ) {}

  async start(): Promise<void> {
    const folders = new Map<string, Set<string>>();
    for (const file of this.files) {
      // A mounted ConfigMap swaps a link: watch where the file really is too.
      for (const path of [file, await realpath(file)]) {
        const names = folders.get(dirname(path)) ?? new Set();
        folders.set(dirname(path), names.add(basename(path)));
      }
    }
    for (const [folder, names] of folders) {
      const watcher = watch(folder, (_, name) => {
        if (name === null || names.has(name) || name.startsWith('..')) this.changed();
      });
      watcher.on('error', (error) =>
        this.log.error({ err: error }, `${folder} can't be watched any more: changes are not seen; restart the proxy`),
      );
      this.watchers.push(watcher);
    }
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    for (const watcher of this.watchers) watcher.close();
  }

  private changed(): void {
    this.isDirty = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.run(), SETTLE_MS);
  }

  private async run(): Promise<void> {
    if (this.isRunning) return;
    this.isRunning = true;
    while (this.isDirty) {
      this.isDirty = false;
      await this.onChange();
    }
    this.isRunning = false;
  }
}
