// Which rules of a firewall or routing policy use a bit of the packet mark: text of `nft list ruleset`, `iptables-save` and `ip rule`.

/** A number as these tools print them. */
const NUMBER = '(0x[0-9a-f]+|[0-9]+)';
const ALL = 0xffff_ffff;

/** The lines that read or write any of `bits` in the mark, trimmed. */
export function linesThatUseMark(text: string, bits: number): readonly string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => maskOf(line).some((mask) => (mask & bits) !== 0));
}

/** The bits that each part of a line touches. */
function maskOf(line: string): readonly number[] {
  return [...iptables(line), ...nft(line), ...ipRule(line)];
}

/** "--mark 0x4000/0x4000", "--set-xmark 0x1/0xffffffff", "--or-mark 0x4000", "--ctmark" is another mark and not meant. */
function iptables(line: string): readonly number[] {
  const pattern = new RegExp(`--(mark|set-mark|set-xmark|or-mark|xor-mark|and-mark) ${NUMBER}(?:/${NUMBER})?`, 'gi');
  return [...line.matchAll(pattern)].map(([, option, value, mask]) => {
    if (mask !== undefined) return Number(mask);
    if (option === 'and-mark') return ~Number(value) & ALL;
    return option === 'or-mark' || option === 'xor-mark' ? Number(value) : ALL;
  });
}

/** "meta mark set meta mark | 0x00004000", "meta mark & 0x1 == 0x1", "meta mark 0x00000003", "ct mark" is another mark. */
function nft(line: string): readonly number[] {
  if (line.startsWith('-A ') || !/\bmeta mark\b/.test(line)) return [];
  const masked = [...line.matchAll(new RegExp(`meta mark (?:set )?(?:meta mark )?(and|or|xor|&|\\||\\^) ${NUMBER}`, 'gi'))];
  if (masked.length > 0) {
    // "mark set mark and M" clears the rest; "mark and M == V" only reads M.
    return masked.map(([part, operator, value]) => {
      const isAnd = operator === 'and' || operator === '&';
      return isAnd && / set /.test(part) ? ~Number(value) & ALL : Number(value);
    });
  }
  return new RegExp(`mark (?:set )?(?:== |!= )?${NUMBER}`, 'i').test(line) ? [ALL] : [];
}

/** "100: from all fwmark 0x200/0xf00 lookup 2004" */
function ipRule(line: string): readonly number[] {
  const pattern = new RegExp(`fwmark ${NUMBER}(?:/${NUMBER})?`, 'gi');
  return [...line.matchAll(pattern)].map(([, , mask]) => (mask === undefined ? ALL : Number(mask)));
}
