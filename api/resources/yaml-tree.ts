// YAML and JSON text → documents of plain JSON with a position for every field. Knows nothing of kinds. Input is untrusted: everything is bounded.
import { isIPv6 } from 'node:net';
import {
  type Alias,
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  Parser,
  type YAMLMap,
} from 'yaml';
import type { FieldPath } from './finding.js';
import { describe } from './schema.js';

const MAX_DEPTH = 64;
/** The parser stacks at most two tokens a level, and the document. */
const MAX_PARSER_STACK = 2 * MAX_DEPTH + 8;
/** Of one document, aliases expanded: what a billion-laughs document runs into. */
const MAX_NODES = 200_000;
/** Of one document: resolving one reads the whole document. */
const MAX_ALIASES = 100;
/** Of one document. About 800 bytes each in the tree (measured). */
const MAX_LEXEMES = 600_000;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Position {
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

export interface TreeMistake extends Position {
  readonly path: FieldPath;
  readonly message: string;
}

/** Which part of a field is meant: its value, its key, or the object it is missing from. */
export type Part = 'value' | 'key' | 'parent';

export interface TreeDocument {
  /** Undefined for an empty document. Map entries of null are left out, as Kubernetes does. */
  readonly value: Json | undefined;
  readonly mistakes: readonly TreeMistake[];
  readonly locate: (path: FieldPath, part: Part) => Position;
}

/** The text as a whole can't be read on: too deep or too large. What came before it stays good. */
export class TextBoundError extends Error {
  constructor(
    message: string,
    readonly position: Position,
  ) {
    super(message);
  }
}

/** Yields the documents in order, lazily, so that the caller can stop. A document with mistakes has no value. Throws TextBoundError. */
export function* readDocuments(text: string): Generator<TreeDocument> {
  const json = readJson(text);
  if (json === null) yield* readYaml(text);
  else yield json;
}

/** One object as programs write it, at a tenth of what its tree costs. Null: it is anything else, or has what the tree is needed for to refuse it. */
function readJson(text: string): TreeDocument | null {
  const start = text.search(/\S/);
  if (text[start] !== '{') return null;
  let members = 0;
  let nodes = 0;
  const unfit = new Error();
  const read = (value: unknown, depth: number): Json => {
    if (++nodes > MAX_NODES || depth > MAX_DEPTH) throw unfit;
    if (Array.isArray(value)) return value.map((item) => read(item, depth + 1));
    if (typeof value === 'number' && !Number.isFinite(value)) throw unfit;
    if (typeof value !== 'object' || value === null) return value as Json;
    const result: { [key: string]: Json } = {};
    for (const [name, item] of Object.entries(value)) {
      if (name === '__proto__' || name === '<<') throw unfit;
      members++;
      const json = read(item, depth + 1);
      if (json !== null) result[name] = json;
    }
    return result;
  };
  let value: Json;
  try {
    value = read(JSON.parse(text), 0);
  } catch {
    return null;
  }
  // A field that is given twice was parsed once.
  if (members !== membersIn(text)) return null;
  const before = text.slice(0, start).split('\n');
  const begin = { line: before.length, column: (before.at(-1) ?? '').length + 1 };
  let tree: TreeDocument | undefined;
  const locate = (path: FieldPath, part: Part): Position => {
    if (path.length === 0) return begin;
    for (tree of tree === undefined ? readYaml(text) : []) break;
    return tree?.locate(path, part) ?? begin;
  };
  return { value, mistakes: [], locate };
}

/** How many members the objects of a JSON text have, as they are written. */
function membersIn(text: string): number {
  let count = 0;
  let isText = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') isText = !isText;
    else if (isText && character === '\\') at++;
    else if (!isText && character === ':') count++;
  }
  return count;
}

function* readYaml(text: string): Generator<TreeDocument> {
  const lines = new LineCounter();
  const tokens = boundedTokens(text, lines);
  const composer = new Composer({
    version: '1.2',
    schema: 'core',
    // Quadratic in the library (20 s for 40,000 keys); JsonReader finds them.
    uniqueKeys: false,
    strict: true,
    prettyErrors: false,
    logLevel: 'silent',
  });
  for (const document of composer.compose(tokens)) yield readDocument(document, lines, text);
}

/**
 * The composer recurses, and V8 aborts the process when a regular expression is first compiled at the end of the stack (Node 20, measured with
 * a megabyte of "["): so the parser's own stack is bounded before anything is composed.
 */
function* boundedTokens(text: string, lines: LineCounter): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  let offset = 0;
  let lexemes = 0;
  const refuse = (message: string): never => {
    throw new TextBoundError(message, positionOf(lines, offset));
  };
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) {
      yield token;
      if (token.type === 'document') lexemes = 0;
    }
    offset = parser.offset;
    if (parser.stack.length > MAX_PARSER_STACK) refuse(`nested too deeply: at most ${MAX_DEPTH} levels`);
    if (++lexemes > MAX_LEXEMES) refuse(`too large: more than ${MAX_LEXEMES} YAML tokens in one document`);
  }
  yield* parser.end();
}

function positionOf(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(1, line), column: Math.max(1, col) };
}

function readDocument(document: Document.Parsed, lines: LineCounter, text: string): TreeDocument {
  const at = (offset: number): Position => positionOf(lines, offset);
  // What the library finds behind the first one follows from it: a template of Helm's had one for each word.
  const mistakes: TreeMistake[] = document.errors.slice(0, 1).map((error) => {
    return { ...at(error.pos[0]), path: [], message: syntaxMessage(error, text) };
  });
  const locate = (path: FieldPath, part: Part): Position => at(offsetOf(document, path, part));
  if (mistakes.length > 0) return { value: undefined, mistakes, locate };
  const value = new JsonReader(document, (node, path, message) => mistakes.push({ ...at(startOf(node) ?? 0), path, message })).read();
  return { value, mistakes, locate };
}

function syntaxMessage(error: { readonly message: string }, text: string): string {
  const hint = /\{\{.*\}\}/.test(text) ? '; if this is a template, render it first' : '';
  return `not valid YAML: ${error.message.split('\n')[0] ?? ''}${hint}`;
}

type NodeMistake = (node: Node | null, path: FieldPath, message: string) => void;

/** One document's tree into JSON: aliases followed, bounds kept. */
class JsonReader {
  readonly #document: Document.Parsed;
  readonly #report: NodeMistake;
  readonly #targets = new Map<Alias, Node | undefined>();
  #nodes = 0;

  constructor(document: Document.Parsed, report: NodeMistake) {
    this.#document = document;
    this.#report = report;
  }

  read(): Json | undefined {
    const { contents } = this.#document;
    if (contents === null) return undefined;
    const value = this.#value(contents, [], 0);
    if (this.#nodes > MAX_NODES) this.#report(contents, [], `too large: more than ${MAX_NODES} values in one document, aliases expanded`);
    return value === null ? undefined : value;
  }

  #value(node: unknown, path: FieldPath, depth: number): Json {
    if (++this.#nodes > MAX_NODES) return null;
    if (isAlias(node)) return this.#alias(node, path, depth);
    if (isScalar(node)) return this.#scalar(node, path);
    if (depth > MAX_DEPTH) {
      this.#report(node as Node, path, `nested too deeply: at most ${MAX_DEPTH} levels`);
      return null;
    }
    if (isSeq(node)) return node.items.map((item, index) => addressOf(item) ?? this.#value(item, [...path, index], depth + 1));
    if (isMap(node)) return this.#map(node, path, depth);
    return null;
  }

  #alias(alias: Alias, path: FieldPath, depth: number): Json {
    if (!this.#targets.has(alias) && this.#targets.size < MAX_ALIASES) this.#targets.set(alias, alias.resolve(this.#document));
    const target = this.#targets.get(alias);
    if (target !== undefined && depth <= MAX_DEPTH) return this.#value(target, path, depth + 1);
    if (target !== undefined) this.#report(alias, path, `nested too deeply: at most ${MAX_DEPTH} levels`);
    else if (this.#targets.has(alias)) this.#report(alias, path, `alias *${alias.source} has no anchor before it`);
    else this.#report(alias, path, `too many aliases: at most ${MAX_ALIASES} in one document`);
    return null;
  }

  #scalar(node: Node & { readonly value: unknown }, path: FieldPath): Json {
    const { value } = node;
    if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    this.#report(node, path, `expected a value of JSON, found ${describe(value)}`);
    return null;
  }

  #map(map: YAMLMap, path: FieldPath, depth: number): Json {
    const result: { [key: string]: Json } = {};
    const seen = new Set<string>();
    for (const { key, value } of map.items) {
      const name = keyText(key);
      if (name === null || name === '__proto__' || name === '<<') {
        this.#report(key as Node | null, path, `expected a field name, found ${name === null ? 'a key that is not text' : name}`);
        continue;
      }
      if (seen.has(name)) {
        this.#report(key as Node | null, [...path, name], 'this field is given twice in the same object');
        continue;
      }
      seen.add(name);
      const json = this.#value(value, [...path, name], depth + 1);
      if (json !== null) result[name] = json;
    }
    return result;
  }
}

/** `[2001:db8::]` is one address, not a map without a value (as Kubernetes reads it). */
function addressOf(item: unknown): string | null {
  if (!isMap(item) || item.items.length !== 1) return null;
  const [pair] = item.items;
  const value = pair?.value;
  if (value !== null && value !== undefined && !(isScalar(value) && value.value === null)) return null;
  const text = `${keyText(pair?.key)}:`;
  return isIPv6(text) ? text : null;
}

/** The text of a key; null when it is a list, a map or an alias. Numbers and booleans are text in JSON too. */
function keyText(key: unknown): string | null {
  if (!isScalar(key)) return null;
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value));
}

/** Offset of a field's part; of the deepest enclosing object where the path leads nowhere. */
function offsetOf(document: Document.Parsed, path: FieldPath, part: Part): number {
  let node: unknown = document.contents;
  let offset = startOf(document.contents) ?? 0;
  const depth = part === 'parent' ? path.length - 1 : path.length;
  for (let index = 0; index < depth; index++) {
    const step = child(document, node, path[index] ?? '');
    if (step === null) return offset;
    node = step.value;
    const keyOffset = startOf(step.key);
    const wantsKey = part === 'key' && index === depth - 1;
    offset = (wantsKey ? keyOffset : startOf(step.value)) ?? keyOffset ?? offset;
  }
  return offset;
}

function child(document: Document.Parsed, node: unknown, segment: string | number): { key: unknown; value: unknown } | null {
  const target = isAlias(node) ? node.resolve(document) : node;
  if (isSeq(target) && typeof segment === 'number')
    return segment < target.items.length ? { key: null, value: target.items[segment] } : null;
  if (isMap(target)) return target.items.find((pair) => keyText(pair.key) === String(segment)) ?? null;
  return null;
}

function startOf(node: unknown): number | null {
  const range = (node as Partial<Node> | null | undefined)?.range;
  return range?.[0] ?? null;
}
