// Manifests as operators write them → validated objects and every mistake, each with its place. Pure, bounded, never throws on input.
import type { ManifestFile } from '../gen/mesh/v1/admin.js';
import type { Explained } from './explain.js';
import { type FieldPath, type Finding, formatFieldPath } from './finding.js';
import { isForeign } from './kinds.js';
import { MAX_MANIFEST_BYTES } from './limits.js';
import { objectKey, type ResourceObject } from './object.js';
import { describe, isUnchecked } from './schema.js';
import { checkObject } from './validate.js';
import { type Part, type Position, readDocuments, TextBoundError, type TreeDocument } from './yaml-tree.js';

/** Documents and list items, over all files. */
const MAX_OBJECTS = 10_000;
const MAX_FINDINGS = 1_000;

export interface ParseResult {
  /** In the order of the text. Only those without a mistake; apply nothing while there are findings. */
  readonly objects: ResourceObject[];
  readonly findings: Finding[];
  /** Refuse nothing: what of the objects has no effect, or not the usual one. */
  readonly warnings: Finding[];
}

/** An object as it was written, valid or not. */
export interface SourceObject {
  readonly file: string;
  readonly value: Readonly<Record<string, unknown>>;
  /** Of a field of the object. */
  readonly locate: (path: FieldPath, part: Part) => Position;
}

/** Multi-document YAML, JSON, and `kind: List`. Reports the mistakes of all documents, up to a bound that is itself a finding. */
export function parseManifests(files: readonly ManifestFile[]): ParseResult {
  const reading = new Reading();
  for (const file of files) reading.readFile(file);
  return reading.result();
}

/** As parseManifests, and every object as it was written, also those with mistakes and those of kinds that are Kubernetes' own. */
export function parseSources(files: readonly ManifestFile[]): ParseResult & { readonly sources: readonly SourceObject[] } {
  const sources: SourceObject[] = [];
  const reading = new Reading(sources);
  for (const file of files) reading.readFile(file);
  return { ...reading.result(), sources };
}

/** As parseManifests, with a `pause` after every document or so: a server's other callers are not kept waiting for a large file. */
export async function parseManifestsInTurns(files: readonly ManifestFile[], pause: () => Promise<void>): Promise<ParseResult> {
  const reading = new Reading();
  for (const file of files) for (const _ of reading.documentsOf(file)) await pause();
  return reading.result();
}

export type ValidateResult =
  | { readonly ok: true; readonly object: ResourceObject; readonly warnings: Finding[] }
  | { readonly ok: false; readonly findings: Finding[] };

/** For an object without text (from the store, from the Kubernetes API): findings have line 0. `name` is what stands for the file. */
export function validateObject(manifest: unknown, name = ''): ValidateResult {
  const checked = checkObject(withoutNulls(manifest, 0), { file: name, line: 0 });
  const told = ({ path, message }: Explained): Finding => ({ file: name, line: 0, column: 0, path: formatFieldPath(path), message });
  if (checked.ok) return { ok: true, object: checked.object, warnings: checked.warnings.map(told) };
  return { ok: false, findings: checked.mistakes.filter(({ isWarning }) => isWarning !== true).map(told) };
}

/** What the YAML reader does to text: a null map entry is an absent one. Depth is bounded by refusing what lies deeper. */
function withoutNulls(value: unknown, depth: number): unknown {
  if (depth > 64) return undefined;
  if (Array.isArray(value)) return value.map((item) => withoutNulls(item, depth + 1));
  if (!isUnchecked(value)) return value;
  const entries = Object.entries(value).filter(([, entry]) => entry !== null && entry !== undefined);
  return Object.fromEntries(entries.map(([key, entry]) => [key, withoutNulls(entry, depth + 1)]));
}

class Reading {
  readonly #objects: ResourceObject[] = [];
  readonly #findings: Finding[] = [];
  readonly #warnings: Finding[] = [];
  /** Where each object was first defined. */
  readonly #defined = new Map<string, string>();
  readonly #sources: SourceObject[] | null;
  #seen = 0;
  #omitted = 0;

  constructor(sources: SourceObject[] | null = null) {
    this.#sources = sources;
  }

  result(): ParseResult {
    if (this.#omitted > 0) {
      this.#findings.push({ file: '', line: 0, column: 0, path: '', message: `and ${this.#omitted} more: correct these first` });
    }
    return { objects: this.#objects, findings: this.#findings, warnings: this.#warnings };
  }

  readFile(file: ManifestFile): void {
    for (const _ of this.documentsOf(file));
  }

  /** Yields after each document that was read. */
  *documentsOf(file: ManifestFile): Generator<void> {
    const bytes = Buffer.byteLength(file.content);
    if (bytes > MAX_MANIFEST_BYTES) {
      this.#report(file.name, 1, 1, [], `too large: ${bytes} bytes, at most ${MAX_MANIFEST_BYTES}; split the file`);
      return;
    }
    try {
      for (const document of readDocuments(file.content.replace(/^\ufeff/, ''))) {
        if (!this.#readDocument(file.name, document)) return;
        yield;
      }
    } catch (error) {
      if (!(error instanceof TextBoundError)) throw error;
      this.#report(file.name, error.position.line, error.position.column, [], error.message);
    }
  }

  /** False when nothing more may be read. */
  #readDocument(file: string, document: TreeDocument): boolean {
    for (const mistake of document.mistakes) this.#report(file, mistake.line, mistake.column, mistake.path, mistake.message);
    if (document.value === undefined || document.mistakes.length > 0) return true;
    return this.#readValue(file, document, document.value, []);
  }

  #readValue(file: string, document: TreeDocument, value: unknown, base: FieldPath): boolean {
    if (isUnchecked(value) && value.kind === 'List' && base.length === 0) return this.#readList(file, document, value);
    const position = document.locate(base, 'value');
    if (++this.#seen > MAX_OBJECTS) {
      this.#report(file, position.line, position.column, base, `too many objects: at most ${MAX_OBJECTS} at once; apply them in parts`);
      return false;
    }
    if (isUnchecked(value)) {
      this.#sources?.push({ file, value, locate: (path, part) => document.locate([...base, ...path], part) });
      if (isForeign(value.apiVersion, value.kind)) {
        const message = `${value.kind} is Kubernetes' own: neither checked nor kept here`;
        this.#reportField(file, document, base, { path: ['kind'], part: 'value', message, isWarning: true });
        return true;
      }
    }
    const checked = checkObject(value, { file, line: position.line });
    this.#reportFields(file, document, base, checked.ok ? checked.warnings : checked.mistakes);
    if (checked.ok) this.#keep(checked.object, document, base);
    return true;
  }

  #readList(file: string, document: TreeDocument, list: Readonly<Record<string, unknown>>): boolean {
    const { items } = list;
    if (items === undefined || !Array.isArray(items)) {
      const message = items === undefined ? 'required: the list of objects' : `expected a list, found ${describe(items)}`;
      this.#reportField(file, document, [], { path: ['items'], part: items === undefined ? 'parent' : 'value', message });
      return true;
    }
    return items.every((item: unknown, index) => this.#readValue(file, document, item, ['items', index]));
  }

  #keep(object: ResourceObject, document: TreeDocument, base: FieldPath): void {
    const key = objectKey(object.kind, object.namespace, object.name);
    const earlier = this.#defined.get(key);
    if (earlier === undefined) {
      this.#defined.set(key, `${object.source.file}:${object.source.line}`);
      this.#objects.push(object);
      return;
    }
    const message = `${object.kind} ${object.namespace}/${object.name} is already defined at ${earlier}`;
    this.#reportField(object.source.file, document, base, { path: ['metadata', 'name'], part: 'value', message });
  }

  #reportField(file: string, document: TreeDocument, base: FieldPath, mistake: Explained): void {
    this.#reportFields(file, document, base, [mistake]);
  }

  /** In the order of the text. */
  #reportFields(file: string, document: TreeDocument, base: FieldPath, mistakes: readonly Explained[]): void {
    // Finding a place costs as much as its object has fields: only what will be shown is placed.
    const shown = mistakes.slice(0, Math.max(0, MAX_FINDINGS - this.#findings.length));
    this.#omitted += mistakes.length - shown.length;
    const placed = shown.map(({ path, part, message, isWarning }) => {
      const full = [...base, ...path];
      return { path: full, message, isWarning, ...document.locate(full, part) };
    });
    placed.sort((a, b) => a.line - b.line || a.column - b.column);
    for (const { line, column, path, message, isWarning } of placed) {
      if (isWarning !== true) this.#report(file, line, column, path, message);
      else if (this.#warnings.length < MAX_FINDINGS) this.#warnings.push({ file, line, column, path: formatFieldPath(path), message });
    }
  }

  #report(file: string, line: number, column: number, path: FieldPath, message: string): void {
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push({ file, line, column, path: formatFieldPath(path), message });
    else this.#omitted++;
  }
}
