// Access log records, taken out of the workers' rings → one JSON line each. On the main thread; a slow disk loses lines (counted), never time.
import { closeSync, createWriteStream, openSync, type WriteStream } from 'node:fs';
import {
  ACCESS_LOG_HEADER_BYTES,
  ACCESS_LOG_RECORD_WORDS,
  AccessLogKind,
  AccessLogRecord,
  AccessLogRing,
  COMPLETION_REASONS,
  METHODS,
} from '../native/engine.js';
import { isError, reasonOf } from './account.js';
import { TOKEN_EDGE } from './resilience/gate.js';

/** Bytes that may wait for the file. */
const MAX_WAITING_BYTES = 16 * 1_048_576;

/** By AccessLogKind. */
const PROTOCOLS = ['', 'http/1', 'tcp', 'http/2'];
const TLS_VERSIONS: Readonly<Record<number, string>> = { 771: '1.2', 772: '1.3' };

export interface AccessLogNames {
  /** Source, service and destination workload of a worker's edge. */
  edge(slot: number, row: number): { readonly source: string; readonly service: string; readonly workload: string };
  /** "shop/catalog rule 0"; null: no rule. */
  rule(ruleId: number): string | null;
}

/** Takes every whole record; calls `each` with a view that is valid until it returns. */
export function drainRing(ring: Uint8Array, each: (record: DataView, texts: Buffer) => void): void {
  const words = new Int32Array(ring.buffer, ring.byteOffset, ACCESS_LOG_HEADER_BYTES / 4);
  const capacity = ring.byteLength - ACCESS_LOG_HEADER_BYTES;
  const written = Atomics.load(words, AccessLogRing.Written) >>> 0;
  let read = Atomics.load(words, AccessLogRing.Read) >>> 0;
  while (read !== written) {
    const at = ring.byteOffset + ACCESS_LOG_HEADER_BYTES + (read % capacity);
    const size = new DataView(ring.buffer, at, 8).getInt32(AccessLogRecord.Size * 4, true);
    const record = new DataView(ring.buffer, at, size);
    if (record.getInt32(AccessLogRecord.Kind * 4, true) !== AccessLogKind.Filler) {
      const texts = ACCESS_LOG_RECORD_WORDS * 4;
      each(record, Buffer.from(ring.buffer, at + texts, size - texts));
    }
    read = (read + size) >>> 0;
    Atomics.store(words, AccessLogRing.Read, read | 0);
  }
}

/** One line, with its newline; null when `errorsOnly` and all went well. */
export function formatRecord(record: DataView, texts: Buffer, slot: number, names: AccessLogNames, errorsOnly: boolean): string | null {
  const word = (index: AccessLogRecord): number => record.getInt32(index * 4, true);
  const status = word(AccessLogRecord.Status);
  const target = word(AccessLogRecord.Target);
  const reason = reasonOf(target, word(AccessLogRecord.Reason), word(AccessLogRecord.Token));
  if (errorsOnly && reason === 0 && !isError(status, reason) && word(AccessLogRecord.GrpcStatus) <= 0) return null;
  let offset = 0;
  const next = (length: AccessLogRecord): string => {
    const from = offset;
    offset += word(length);
    return texts.toString('latin1', from, offset);
  };
  const socket = (address: AccessLogRecord, port: AccessLogRecord): string => socketText(record, address * 4, word(port));
  const kind = word(AccessLogRecord.Kind);
  const isHttp = kind !== AccessLogKind.Opaque;
  const grpcStatus = word(AccessLogRecord.GrpcStatus);
  const tlsVersion = TLS_VERSIONS[word(AccessLogRecord.TlsVersion)];
  const [path, authority, userAgent, requestId, grpcMessage, clientIdentity] = [
    next(AccessLogRecord.PathLength),
    next(AccessLogRecord.AuthorityLength),
    next(AccessLogRecord.UserAgentLength),
    next(AccessLogRecord.RequestIdLength),
    next(AccessLogRecord.GrpcMessageLength),
    next(AccessLogRecord.ClientIdentityLength),
  ];
  const { source, service, workload } = names.edge(slot, word(AccessLogRecord.Token) & TOKEN_EDGE);
  const firstByteUs = word(AccessLogRecord.FirstByteUs);
  const line = {
    time: new Date(record.getFloat64(AccessLogRecord.StartedMs * 4, true)).toISOString(),
    protocol: PROTOCOLS[kind],
    ...(isHttp
      ? { method: METHODS[word(AccessLogRecord.Method)] ?? 'other', authority, path, status }
      : authority === ''
        ? {}
        : { server_name: authority }),
    ...(grpcStatus < 0 ? {} : { grpc_status: grpcStatus, grpc_message: percentDecoded(grpcMessage) }),
    response_flag: COMPLETION_REASONS[reason] || '-',
    route: names.rule(word(AccessLogRecord.RouteId)),
    source,
    client: socket(AccessLogRecord.ClientAddress, AccessLogRecord.ClientPort),
    ...(tlsVersion === undefined ? {} : { tls_version: tlsVersion }),
    ...(clientIdentity === '' ? {} : { client_identity: clientIdentity }),
    destination: service,
    destination_address: socket(AccessLogRecord.DestinationAddress, AccessLogRecord.DestinationPort),
    destination_workload: workload,
    endpoint: word(AccessLogRecord.UpstreamPort) === 0 ? null : socket(AccessLogRecord.UpstreamAddress, AccessLogRecord.UpstreamPort),
    attempts: word(AccessLogRecord.Attempts),
    bytes_received: record.getFloat64(AccessLogRecord.Received * 4, true),
    bytes_sent: record.getFloat64(AccessLogRecord.Sent * 4, true),
    duration_ms: word(AccessLogRecord.LatencyUs) / 1000,
    upstream_first_byte_ms: firstByteUs < 0 ? null : firstByteUs / 1000,
    ...(isHttp ? { user_agent: userAgent, request_id: requestId } : {}),
  };
  return `${JSON.stringify(line)}\n`;
}

/** As it is where it is no percent-encoded UTF-8 (or was cut within it). */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function socketText(record: DataView, offset: number, port: number): string {
  const words = Array.from({ length: 8 }, (_, i) => record.getUint16(offset + 2 * i, false));
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) {
    return `${[words[6]! >> 8, words[6]! & 255, words[7]! >> 8, words[7]! & 255].join('.')}:${port}`;
  }
  return `[${new URL(`http://[${words.map((word) => word.toString(16)).join(':')}]`).hostname.slice(1, -1)}]:${port}`;
}

/** Where lines go: a file that can be reopened (log rotation), or standard output. */
export class AccessLogSink {
  /** Lines lost because the file was slow or broken. */
  dropped = 0;
  private stream: WriteStream;

  /** Throws when the file can't be opened for appending. */
  constructor(
    private readonly file: string | null,
    private readonly onError: (error: Error) => void,
  ) {
    this.stream = this.open();
  }

  write(lines: string): void {
    if (this.stream.destroyed || this.stream.writableLength > MAX_WAITING_BYTES) this.dropped += lines.split('\n').length - 1;
    else this.stream.write(lines);
  }

  /** Keeps the old file when the new one can't be opened. */
  reopen(): void {
    if (this.file === null) return;
    const old = this.stream;
    try {
      this.stream = this.open();
      old.end();
    } catch (error) {
      this.onError(error as Error);
    }
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.stream.destroyed) resolve();
      else this.stream.end(() => resolve());
    });
  }

  private open(): WriteStream {
    const fd = this.file === null ? 1 : openSync(this.file, 'a', 0o640);
    const stream = createWriteStream('', { fd, autoClose: false });
    stream.on('error', this.onError);
    stream.on('close', () => {
      if (fd !== 1) closeSync(fd);
    });
    return stream;
  }
}
