// Filters in manifests before they leave the machine they were written on: types checked, files of modules read and put in place of their
// names, mistakes told where they stand. Loaded only where a manifest may have a Filter.
import { dirname, isAbsolute, join } from 'node:path';
import { bundleFile, bundleModule, type ModuleMistake } from '../api/filter/bundle.js';
import { checkTypes } from '../api/filter/type-check.js';
import type { Finding, ManifestFile } from '../api/gen/mesh/v1/admin.js';
import { parseSources, type SourceObject } from '../api/resources/parse.js';
import { isUnchecked } from '../api/resources/schema.js';

const MODULE = ['spec', 'module'];
const MODULE_FILE = ['spec', 'moduleFile'];
const MODULE_FILE_FIELD = /^"?moduleFile"?\s*:\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,#}]+)/;
const BLOCK = /[|>][+-]?\s*(#.*)?$/;

interface Modules {
  /** With modules in place of their files. */
  readonly files: ManifestFile[];
  readonly findings: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/** Checks every module; what is wrong with the manifests themselves is for others to say. */
export async function readModules(files: readonly ManifestFile[]): Promise<Modules> {
  const contents = new Map(files.map(({ name, content }) => [name, content]));
  const findings: Finding[] = [];
  const warnings: Finding[] = [];
  // The last first: what is put in place of a file's name moves nothing before it.
  for (const source of [...parseSources(files).sources].reverse()) {
    const { kind, apiVersion, spec } = source.value;
    if (kind !== 'Filter' || apiVersion !== 'mesh.weft.dev/v1' || !isUnchecked(spec)) continue;
    const told = (message: string): Finding => ({ file: source.file, ...source.locate(['spec'], 'key'), path: 'spec', message });
    if (typeof spec.moduleFile === 'string' && spec.module === undefined) {
      const path = isAbsolute(spec.moduleFile) ? spec.moduleFile : join(dirname(source.file), spec.moduleFile);
      const { mistakes, areTypesChecked, code } = await checkModuleFile(path);
      findings.push(...mistakes.map((mistake) => findingInFile(mistake, path)));
      if (!areTypesChecked) warnings.push(told(UNCHECKED));
      if (code !== null) contents.set(source.file, withModule(contents.get(source.file) ?? '', source, code));
    } else if (typeof spec.module === 'string') {
      const found = bundleModule(spec.module);
      const types = found.ok ? await checkTypes({ source: spec.module }) : [];
      if (types === null) warnings.push(told(UNCHECKED));
      const mistakes = [...(found.ok ? [] : found.mistakes), ...(types ?? [])];
      findings.push(...mistakes.map((mistake) => findingInManifest(mistake, source, contents.get(source.file) ?? '')));
    }
  }
  return { files: files.map(({ name }) => ({ name, content: contents.get(name) ?? '' })), findings: findings.reverse(), warnings };
}

export const UNCHECKED = 'the types of its module are not checked: TypeScript is not installed here (npm install typescript)';

interface CheckedFile {
  readonly mistakes: readonly ModuleMistake[];
  readonly areTypesChecked: boolean;
  /** JavaScript that stands for the module; null: there are mistakes. */
  readonly code: string | null;
}

export async function checkModuleFile(path: string): Promise<CheckedFile> {
  const bundled = bundleFile(path);
  if (!bundled.ok) return { mistakes: bundled.mistakes, areTypesChecked: true, code: null };
  const types = await checkTypes({ path });
  const mistakes = types ?? [];
  return { mistakes, areTypesChecked: types !== null, code: mistakes.length > 0 ? null : (bundled.source ?? '') };
}

export function findingInFile({ file, line, column, message }: ModuleMistake, path: string): Finding {
  return { file: file === '' ? path : file, line, column, path: '', message };
}

/** Of a block scalar the very place; of a text that is written otherwise where it begins. */
function findingInManifest({ line, column, message }: ModuleMistake, source: SourceObject, content: string): Finding {
  const start = source.locate(MODULE, 'value');
  const at = { file: source.file, path: 'spec.module', message };
  const lines = content.replace(/^\ufeff/, '').split('\n');
  if (!BLOCK.test(lines[start.line - 1] ?? '')) return { ...at, ...start, message: `line ${line}, column ${column}: ${message}` };
  const first = lines.slice(start.line).find((each) => each.trim() !== '') ?? '';
  return { ...at, line: start.line + line, column: column + (first.length - first.trimStart().length) };
}

/** A text of JSON is one of YAML too: on the same line, so that nothing else moves to another. */
function withModule(content: string, source: SourceObject, code: string): string {
  const { line, column } = source.locate(MODULE_FILE, 'key');
  const lines = content.split('\n');
  const text = lines[line - 1] ?? '';
  const rest = text.slice(column - 1);
  lines[line - 1] = text.slice(0, column - 1) + rest.replace(MODULE_FILE_FIELD, () => `"module": ${JSON.stringify(code)}`);
  return lines.join('\n');
}
