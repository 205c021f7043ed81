// HalfSipHash-1-3 with a 64-bit result (github.com/veorq/SipHash), over bytes where they lie: what tells one count from another. Its key is not
// told to clients, so none of them finds a text that is counted as another's. Allocates nothing.

/** Two 32-bit words. */
export type HashKey = readonly [number, number];

export class KeyHash {
  /** The result, when finish() has returned. */
  high = 0;
  low = 0;
  private v0 = 0;
  private v1 = 0;
  private v2 = 0;
  private v3 = 0;
  private length = 0;

  constructor(private readonly key: HashKey) {}

  begin(): void {
    const [k0, k1] = this.key;
    this.v0 = k0;
    this.v1 = k1 ^ 0xee;
    this.v2 = 0x6c796765 ^ k0;
    this.v3 = 0x74656462 ^ k1;
    this.length = 0;
  }

  word(word: number): void {
    this.v3 ^= word;
    this.round();
    this.v0 ^= word;
    this.length += 4;
  }

  /** With their length, so that the texts of two keys are not another two's. */
  bytes(bytes: Uint8Array, at: number, length: number): void {
    this.word(length);
    const whole = at + (length & ~3);
    let from = at;
    for (; from < whole; from += 4) this.word(bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24));
    if (from === at + length) return;
    let rest = 0;
    for (let shift = 0; from < at + length; from++, shift += 8) rest |= bytes[from]! << shift;
    this.word(rest);
  }

  finish(): void {
    const last = (this.length & 0xff) << 24;
    this.v3 ^= last;
    this.round();
    this.v0 ^= last;
    this.v2 ^= 0xee;
    this.rounds();
    this.high = this.v1 ^ this.v3;
    this.v1 ^= 0xdd;
    this.rounds();
    this.low = this.v1 ^ this.v3;
  }

  private rounds(): void {
    this.round();
    this.round();
    this.round();
  }

  private round(): void {
    let { v0, v1, v2, v3 } = this;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    this.v0 = v0;
    this.v1 = v1;
    this.v2 = v2;
    this.v3 = v3;
  }
}
