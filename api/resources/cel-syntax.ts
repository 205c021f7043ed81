// Whether a text has the form of an expression of CEL: tokens in an order that can be read. Not what it means. Owner: CEL specification, syntax.

const TOKENS = [
  String.raw`[bBrR]{0,2}(?:"""(?:\\.|[^\\])*?"""|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')`,
  String.raw`0x[0-9a-fA-F]+[uU]?|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?`,
  '[A-Za-z_][A-Za-z0-9_]*',
  String.raw`==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()[\]{}]`,
];
const TOKEN = new RegExp(`\\s*(?:(${TOKENS[0]}|${TOKENS[1]})|(${TOKENS[2]})|(${TOKENS[3]}))`, 'sy');
const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };
const BINARY = new Set(['+', '-', '*', '/', '%', '==', '!=', '<', '<=', '>', '>=', '&&', '||']);

interface Frame {
  readonly closing: string;
  /** Items with commas between them, perhaps none: of a call, a list, a map. */
  readonly isList: boolean;
  /** "?" whose ":" is still to come. */
  choices: number;
}

/** Null: it has. Else what stands where it does not belong. */
export function celFault(expression: string): string | null {
  const frames: Frame[] = [{ closing: '', isList: false, choices: 0 }];
  let isAfterValue = false;
  let previous = '';
  const text = expression.trimEnd();
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const rest = (): string => text.slice(at).trim();
    const [, literal, name, sign = ''] = TOKEN.exec(text) ?? [];
    const frame = frames.at(-1);
    if (frame === undefined || (literal ?? name ?? sign) === '') return rest();
    if (literal !== undefined || (name !== undefined && name !== 'in')) {
      if (isAfterValue) return rest();
      isAfterValue = true;
    } else if (sign in CLOSING) {
      if (isAfterValue && sign !== '[' && !/^[A-Za-z_]/.test(previous)) return rest();
      frames.push({ closing: CLOSING[sign] ?? '', isList: isAfterValue ? sign !== '[' : sign !== '(', choices: 0 });
      isAfterValue = false;
    } else if (sign !== '' && sign === frame.closing) {
      if (frame.choices > 0 || !(isAfterValue || (frame.isList && (previous in CLOSING || previous === ',')))) return rest();
      frames.pop();
      isAfterValue = true;
    } else if (!isAfterValue) {
      if (sign !== '!' && sign !== '-' && sign !== '.') return rest();
    } else {
      if (sign === '?') frame.choices++;
      else if (sign === ':' && frame.choices > 0) frame.choices--;
      else if (
        !(name === 'in' || BINARY.has(sign) || sign === '.' || (sign === ':' && frame.closing === '}') || (sign === ',' && frame.isList))
      )
        return rest();
      isAfterValue = false;
    }
    previous = literal ?? name ?? sign;
  }
  return isAfterValue && frames.length === 1 && frames[0]?.choices === 0 ? null : 'its end';
}
