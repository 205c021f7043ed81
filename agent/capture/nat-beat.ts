// What is written to keep the fallback's redirection alive, and to end it at once: bytes for a descriptor that was opened in the pod's
// namespace. One write, no process: starting nft costs 18 ms, this some microseconds. Pure; include/uapi/linux/netfilter/nf_tables.h.
import { endianness } from 'node:os';
import { RECENT } from './nat-rules.js';

export interface Beat {
  /** Takes what is written at its start only, so it has to be opened for each write; else a netlink socket. */
  readonly isFile: boolean;
  readonly renew: Buffer;
  readonly expire: Buffer;
}

const NLM_F_REQUEST = 0x1;
const NLM_F_CREATE = 0x400;
const NLA_F_NESTED = 0x8000;
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const NFPROTO_INET = 1;
const SUBSYSTEM = 10;
const NEW_ELEMENT = (SUBSYSTEM << 8) | 12;
const DELETE_ELEMENT = (SUBSYSTEM << 8) | 14;
const isLittle = endianness() === 'LE';

/** Netlink headers are in the host's order. */
function words(...fields: readonly (readonly [value: number, bytes: 2 | 4])[]): Buffer {
  return Buffer.concat(
    fields.map(([value, bytes]) => {
      const field = Buffer.alloc(bytes);
      if (isLittle) field.writeUIntLE(value, 0, bytes);
      else field.writeUIntBE(value, 0, bytes);
      return field;
    }),
  );
}

function attribute(type: number, value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(`${value}\0`) : value;
  const padding = Buffer.alloc(-bytes.length & 3);
  return Buffer.concat([words([bytes.length + 4, 2], [type, 2]), bytes, padding]);
}

const nest = (type: number, ...attributes: readonly Buffer[]): Buffer => attribute(type | NLA_F_NESTED, Buffer.concat(attributes));

function message(type: number, flags: number, family: number, resource: number, body: Buffer): Buffer {
  // Of nfgenmsg the resource id is in network order.
  const generic = Buffer.from([family, 0, resource >> 8, resource & 0xff]);
  const length = 16 + generic.length + body.length;
  return Buffer.concat([words([length, 4], [type, 2], [NLM_F_REQUEST | flags, 2], [0, 4], [0, 4]), generic, body]);
}

function element(type: number, set: 'alive' | 'held', timeoutMs: number | null): Buffer {
  const parts = [nest(1, attribute(1, Buffer.from([6])))];
  if (timeoutMs !== null) {
    const timeout = Buffer.alloc(8);
    timeout.writeBigUInt64BE(BigInt(timeoutMs));
    parts.push(attribute(4, timeout));
  }
  const body = Buffer.concat([attribute(1, 'weft'), attribute(2, set), nest(3, nest(1, ...parts))]);
  return message(type, type === NEW_ELEMENT ? NLM_F_CREATE : 0, NFPROTO_INET, 0, body);
}

function batch(...messages: readonly Buffer[]): Buffer {
  const bound = (type: number): Buffer => message(type, 0, 0, SUBSYSTEM, Buffer.alloc(0));
  return Buffer.concat([bound(BATCH_BEGIN), ...messages, bound(BATCH_END)]);
}

/** For a netlink socket: the element of nftTable()'s set. Added first, because one that is not there (any more) can't be deleted. */
export function nftBeat(aliveMs: number): Beat {
  const fresh = element(NEW_ELEMENT, 'alive', aliveMs);
  const gone = element(DELETE_ELEMENT, 'alive', null);
  return { isFile: false, renew: batch(fresh, gone, fresh), expire: batch(fresh, gone) };
}

/** The same for a fail-closed pod, whose connections are redirected whether anybody beats or not: they wait no longer. */
export function nftRelease(): Beat {
  const release = batch(element(NEW_ELEMENT, 'held', 1_000), element(DELETE_ELEMENT, 'held', null));
  return { isFile: false, renew: release, expire: release };
}

/** For the file of xt_recent that iptablesRules() makes. */
export function recentBeat(family: 4 | 6): Beat {
  const { any } = RECENT[family];
  return { isFile: true, renew: Buffer.from(`+${any}\n`), expire: Buffer.from(`-${any}\n`) };
}

/** As nftRelease(), for the other file. */
export function recentRelease(family: 4 | 6): Beat {
  const { expire } = recentBeat(family);
  return { isFile: true, renew: expire, expire };
}
