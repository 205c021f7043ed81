// What requests are told apart by, where their balancer hashes: a header, a cookie, a query parameter, the path, the client's address → a hash.
// Also the cookie that is given to who has none. On a worker's thread: allocates nothing, keeps no bytes.
import { type Engine, Header } from '../native/engine.js';
import { murmur3 } from './hash.js';
import { mix } from './pick.js';
import type { RequestText } from './request-text.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { BALANCER_WORDS, BalancerWord, CookieWord, Subject } from './tables/layout.js';

const [SPACE, TAB, SEMICOLON, COMMA, EQUALS] = [0x20, 0x09, 0x3b, 0x2c, 0x3d];
/** Hexadecimal digits of the value of a cookie that is given. */
const VALUE_DIGITS = 16;
const DIGITS = Buffer.from('0123456789abcdef');

type Batch = Pick<Engine, 'header' | 'descriptors' | 'predicates' | 'arena' | 'texts'>;

/** Unsigned; -1: the request has no key. `d`: of its descriptor. */
export function keyHash(batch: Batch, tables: DecisionTables, text: RequestText, d: number, balancer: number): number {
  const { balancers } = tables;
  const row = balancer * BALANCER_WORDS;
  const subject = balancers[row + BalancerWord.Subject]!;
  if (subject === Subject.Nothing || !text.find(batch, tables, d, subject)) return -1;
  const cookie = balancers[row + BalancerWord.Cookie]!;
  if (cookie < 0) return murmur3(text.bytes, text.at, text.length, 0);
  return cookieHash(text, tables.cookies, cookie);
}

/** Of the first cookie of that name (RFC 6265 5.4; HTTP/1 may have joined several fields by ","). */
function cookieHash({ bytes, at, length }: RequestText, cookies: Int32Array, cookie: number): number {
  const end = at + length;
  const nameLength = cookies[cookie + CookieWord.NameLength]!;
  for (let i = at; i < end; i++) {
    while (i < end && (bytes[i] === SPACE || bytes[i] === TAB)) i++;
    let same = 0;
    while (same < nameLength && i + same < end && bytes[i + same] === cookies[cookie + CookieWord.Texts + same]) same++;
    const isNamed = same === nameLength && bytes[i + same] === EQUALS && i + same < end;
    const value = i + nameLength + 1;
    while (i < end && bytes[i] !== SEMICOLON && bytes[i] !== COMMA) i++;
    if (isNamed && i > value) return murmur3(bytes, value, i - value, 0);
  }
  return -1;
}

/** Whether who has no key is given a cookie. */
export function givesCookie({ balancers, cookies }: DecisionTables, balancer: number): boolean {
  const cookie = balancers[balancer * BALANCER_WORDS + BalancerWord.Cookie]!;
  return cookie >= 0 && cookies[cookie + CookieWord.PrefixLength]! > 0;
}

/**
 * Writes the line behind what `texts` has; returns the hash that its value will have when it comes back, or -1: there is no room.
 * Header.TextBytes says where the line ends.
 */
export function giveCookie({ header, texts }: Batch, { balancers, cookies }: DecisionTables, balancer: number, random: number): number {
  const cookie = balancers[balancer * BALANCER_WORDS + BalancerWord.Cookie]!;
  const prefix = cookie + CookieWord.Texts + cookies[cookie + CookieWord.NameLength]!;
  const suffix = prefix + cookies[cookie + CookieWord.PrefixLength]!;
  const end = suffix + cookies[cookie + CookieWord.SuffixLength]!;
  let at = header[Header.TextBytes]!;
  if (at + (end - prefix) + VALUE_DIGITS > texts.length - 1) return -1;
  for (let i = prefix; i < suffix; i++) texts[at++] = cookies[i]!;
  const value = at;
  let word = random;
  for (let digit = 0; digit < VALUE_DIGITS; digit++) {
    if (digit % 7 === 0) word = mix(word ^ 0x2c1b3c6d);
    texts[at++] = DIGITS[(word >>> ((digit % 7) * 4)) & 15]!;
  }
  for (let i = suffix; i < end; i++) texts[at++] = cookies[i]!;
  header[Header.TextBytes] = at;
  return murmur3(texts, value, VALUE_DIGITS, 0);
}
