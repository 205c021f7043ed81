// What a match asks of a request beyond host and path → bits, patterns and sets of clients, in words that the decision tests.
// Exact values are bits that the engine sets; whatever else is written by users is a pattern, tested when a rule asks for it.
import {
  type HttpMatch,
  type PathMatch,
  PathMatch_Type,
  type SourceMatch,
  type ValueMatch,
  ValueMatch_Type,
} from '../../../api/gen/mesh/v1/model.js';
import { MAX_MATCHED_NAMES, MAX_VALUES, METHODS, type PredicateSpec, type ValueSpec } from '../../native/engine.js';
import type { PatternSpec } from '../patterns.js';
import { Interner } from './interner.js';
import { ConditionWord, Subject } from './layout.js';

/** A client as rules tell it from others, at the position of its id. */
export interface Source {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
}

export class Conditions {
  readonly predicates = new Interner<PredicateSpec>(({ kind, name, value }) => JSON.stringify([kind, name, value]));
  readonly values = new Interner<ValueSpec>(({ kind, name }) => `${kind} ${name}`);
  readonly patterns = new Interner<PatternSpec>((pattern) => JSON.stringify(pattern));
  /** Bit sets of sources, `setWords` each. */
  readonly sets: number[] = [];
  readonly setWords: number;
  readonly warnings = new Set<string>();
  /** Of headers and query parameters that matches ask for. */
  private readonly names = { header: new Set<string>(), query: new Set<string>() };
  private readonly setRows = new Map<string, number>();

  constructor(private readonly sources: readonly Source[]) {
    this.setWords = Math.ceil(sources.length / 32);
  }

  /** Words of the condition; empty: everything fulfils it. `withPath`: its path is tested here, and not by where it stands. */
  wordsOf(match: HttpMatch | null, withPath: boolean): number[] {
    if (match === null) return [];
    const masks = new Map<number, { mask: number; wanted: number }>();
    const patterns: number[] = [];
    const bit = (spec: PredicateSpec, isWanted: boolean): void => {
      const index = this.predicates.add(spec);
      const word = masks.get(index >>> 5) ?? { mask: 0, wanted: 0 };
      masks.set(index >>> 5, word);
      word.mask |= 1 << (index & 31);
      if (isWanted) word.wanted |= 1 << (index & 31);
    };
    const of = (kind: 'header' | 'query', values: readonly ValueMatch[]): void => {
      for (const { name, value, type, inverted } of values) {
        if (type === ValueMatch_Type.EXACT && this.hasRoomFor(kind, name)) bit({ kind, name, value }, !inverted);
        else patterns.push(this.valueOf(kind, name), this.patternOf(type, value), inverted ? 0 : 1);
      }
    };
    of('header', match.headers);
    of('query', match.query);
    if (match.method !== '' && !(METHODS as readonly string[]).includes(match.method))
      bit({ kind: 'method', name: '', value: match.method }, true);
    if (match.grpcMethod !== '') bit({ kind: 'grpcMethod', name: '', value: match.grpcMethod }, true);
    if (withPath && match.path !== undefined) patterns.push(...this.pathTest(match.path));
    for (const [subject, value] of [
      [Subject.Authority, match.authority],
      [Subject.Scheme, match.scheme],
      [Subject.Method, match.methodPattern],
    ] as const)
      if (value !== undefined) patterns.push(subject, this.patternOf(value.type, value.value), value.inverted ? 0 : 1);
    const set = match.source === undefined ? -1 : this.setOf(match.source);
    if (masks.size + patterns.length === 0 && set < 0) return [];
    const words = new Array<number>(ConditionWord.Rest).fill(0);
    words[ConditionWord.Bits] = masks.size;
    words[ConditionWord.Patterns] = patterns.length / 3;
    words[ConditionWord.Sources] = set;
    return [...words, ...[...masks].flatMap(([word, { mask, wanted }]) => [word, mask, wanted]), ...patterns];
  }

  patternOf(type: ValueMatch_Type, value: string): number {
    const kinds = { [ValueMatch_Type.PREFIX]: 'prefix', [ValueMatch_Type.REGEX]: 'regex', [ValueMatch_Type.PRESENT]: 'any' } as const;
    return this.patterns.add({ kind: kinds[type as keyof typeof kinds] ?? 'exact', value, replacement: '' });
  }

  replacement(pattern: string, replacement: string): number {
    return this.patterns.add({ kind: 'replace', value: pattern, replacement });
  }

  /** The bit that a request has whose header is that; -1: no more can be told apart. */
  headerBit(name: string, value: string): number {
    return this.hasRoomFor('header', name) ? this.predicates.add({ kind: 'header', name, value }) : -1;
  }

  /** Subject of a header, of a query parameter or of the client's address. None is left for it: nothing is known of it, and no rule that asks for it matches. */
  valueOf(kind: ValueSpec['kind'], name: string): number {
    if (kind !== 'clientAddress' && !this.hasRoomFor(kind, name)) return Subject.Nothing;
    if (this.values.find({ kind, name }) < 0 && this.values.items.length === MAX_VALUES) {
      this.warnings.add(`${kind} ${name} is not matched by pattern: patterns are for ${MAX_VALUES} names at most`);
      return Subject.Nothing;
    }
    return this.values.add({ kind, name });
  }

  /** Beyond the engine's bound rules are without effect one by one: it would refuse all tables, of whomever they are. */
  private hasRoomFor(kind: 'header' | 'query', name: string): boolean {
    const names = this.names[kind];
    if (names.size < MAX_MATCHED_NAMES || names.has(name)) {
      names.add(name);
      return true;
    }
    this.warnings.add(`${kind} ${name} is not matched: matches are by ${MAX_MATCHED_NAMES} names at most`);
    return false;
  }

  private pathTest(path: PathMatch): number[] {
    const pattern = this.pathPattern(path);
    return pattern < 0 ? [] : [Subject.Path, pattern, 1];
  }

  /** -1: any path matches. */
  private pathPattern({ type, value, ignoreCase }: PathMatch): number {
    const quoted = value.replace(/[\\^$.|?*+()[\]{}]/g, '\\$&');
    const regex = (pattern: string): number => this.patternOf(ValueMatch_Type.REGEX, pattern);
    switch (type) {
      case PathMatch_Type.REGEX:
        return regex(`${ignoreCase ? '(?i)' : ''}${value}`);
      case PathMatch_Type.EXACT:
        return ignoreCase ? regex(`(?i)${quoted}`) : this.patternOf(ValueMatch_Type.EXACT, value);
      case PathMatch_Type.TEXT_PREFIX:
        return ignoreCase ? regex(`(?is)${quoted}.*`) : this.patternOf(ValueMatch_Type.PREFIX, value);
      default:
        return value === '/' ? -1 : regex(`(?s)${quoted}(/.*)?`);
    }
  }

  private setOf({ namespace, labels }: SourceMatch): number {
    const wanted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify([namespace, wanted]);
    const known = this.setRows.get(key);
    if (known !== undefined) return known;
    const row = this.setRows.size;
    this.setRows.set(key, row);
    const words = new Array<number>(this.setWords).fill(0);
    this.sources.forEach((source, id) => {
      const isMember =
        (namespace === '' || source.namespace === namespace) && wanted.every(([name, value]) => source.labels[name] === value);
      if (isMember) words[id >>> 5]! |= 1 << (id & 31);
    });
    this.sets.push(...words);
    return row;
  }
}
