// Records of the access log → JSON lines, as bytes. On the main thread, for each request: nothing is made a string, what comes again (names,
// the second) is kept as bytes. JSON.stringify of an object took as long as all else that is done for a request.
import { ACCESS_LOG_RECORD_WORDS, AccessLogKind, AccessLogRecord, COMPLETION_REASONS, METHODS } from '../native/engine.js';
import { isError, reasonOf } from './account.js';
import { ipv6Text } from './address-text.js';
import { TOKEN_EDGE } from './resilience/gate.js';

// An enum of another module is an object to the compiler: copied once.
const KIND = (AccessLogRecord.Kind as number) * 4;
const STARTED_MS = (AccessLogRecord.StartedMs as number) * 4;
const LATENCY_US = (AccessLogRecord.LatencyUs as number) * 4;
const FIRST_BYTE_US = (AccessLogRecord.FirstByteUs as number) * 4;
const STATUS = (AccessLogRecord.Status as number) * 4;
const REASON = (AccessLogRecord.Reason as number) * 4;
const TARGET = (AccessLogRecord.Target as number) * 4;
const TOKEN = (AccessLogRecord.Token as number) * 4;
const ROUTE = (AccessLogRecord.RouteId as number) * 4;
const METHOD = (AccessLogRecord.Method as number) * 4;
const ATTEMPTS = (AccessLogRecord.Attempts as number) * 4;
const RECEIVED = (AccessLogRecord.Received as number) * 4;
const SENT = (AccessLogRecord.Sent as number) * 4;
const CLIENT = (AccessLogRecord.ClientAddress as number) * 4;
const DESTINATION = (AccessLogRecord.DestinationAddress as number) * 4;
const UPSTREAM = (AccessLogRecord.UpstreamAddress as number) * 4;
const CLIENT_PORT = (AccessLogRecord.ClientPort as number) * 4;
const DESTINATION_PORT = (AccessLogRecord.DestinationPort as number) * 4;
const UPSTREAM_PORT = (AccessLogRecord.UpstreamPort as number) * 4;
const PATH = (AccessLogRecord.PathLength as number) * 4;
const AUTHORITY = (AccessLogRecord.AuthorityLength as number) * 4;
const USER_AGENT = (AccessLogRecord.UserAgentLength as number) * 4;
const REQUEST_ID = (AccessLogRecord.RequestIdLength as number) * 4;
const GRPC_MESSAGE = (AccessLogRecord.GrpcMessageLength as number) * 4;
const CLIENT_IDENTITY = (AccessLogRecord.ClientIdentityLength as number) * 4;
const GRPC_STATUS = (AccessLogRecord.GrpcStatus as number) * 4;
const TLS_VERSION = (AccessLogRecord.TlsVersion as number) * 4;
const TEXTS = ACCESS_LOG_RECORD_WORDS * 4;
const OPAQUE = AccessLogKind.Opaque as number;

/** Room for the longest line: six texts of 2,048 bytes, of which JSON may make six times as many, and names. */
const MAX_LINE_BYTES = 131_072;
const CHUNK_BYTES = 8 * MAX_LINE_BYTES;
/** Names that are kept as bytes; cleared when full. */
const MAX_NAMES = 4_096;
const TLS_VERSIONS: Readonly<Record<number, string>> = { 771: '1.2', 772: '1.3' };
/** By AccessLogKind. */
const PROTOCOLS = ['', 'http/1', 'tcp', 'http/2'].map((protocol) => Buffer.from(`"protocol":"${protocol}"`));
const METHOD_NAMES = [...METHODS, 'other'].map((method) => Buffer.from(`,"method":"${method}","authority":`));
const RESPONSE_FLAGS = COMPLETION_REASONS.map((flag) => Buffer.from(`,"response_flag":"${flag || '-'}","route":`));
const JSON_PATH = Buffer.from(',"path":');
const JSON_STATUS = Buffer.from(',"status":');
const JSON_SERVER_NAME = Buffer.from(',"server_name":');
const JSON_SOURCE = Buffer.from(',"source":');
const JSON_CLIENT = Buffer.from(',"client":"');
const JSON_IDENTITY = Buffer.from(',"client_identity":');
const JSON_DESTINATION = Buffer.from(',"destination":');
const JSON_ADDRESS = Buffer.from(',"destination_address":"');
const JSON_WORKLOAD = Buffer.from('","destination_workload":');
const JSON_ENDPOINT = Buffer.from(',"endpoint":"');
const JSON_NO_ENDPOINT = Buffer.from(',"endpoint":null,"attempts":');
const JSON_ATTEMPTS = Buffer.from('","attempts":');
const JSON_RECEIVED = Buffer.from(',"bytes_received":');
const JSON_SENT = Buffer.from(',"bytes_sent":');
const JSON_DURATION = Buffer.from(',"duration_ms":');
const JSON_FIRST_BYTE = Buffer.from(',"upstream_first_byte_ms":');
const JSON_USER_AGENT = Buffer.from(',"user_agent":');
const JSON_REQUEST_ID = Buffer.from(',"request_id":');
const TIME_END = Buffer.from('Z",');
const JSON_NULL = Buffer.from('null');
const END = Buffer.from('}\n');
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const DOT = 0x2e;
const COLON = 0x3a;
const ZERO = 0x30;

export interface AccessLogNames {
  /** Source, service and destination workload of a worker's edge. */
  edge(slot: number, row: number): { readonly source: string; readonly service: string; readonly workload: string };
  /** "shop/catalog rule 0"; null: no rule. */
  rule(ruleId: number): string | null;
}

export class AccessLogLines {
  private readonly kept = new Map<string, Buffer>();
  private bytes = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  /** Of what was not handed out yet. */
  private start = 0;
  private at = 0;
  private second = -1;
  private secondBytes = Buffer.alloc(0);

  constructor(
    private readonly names: AccessLogNames,
    private readonly errorsOnly: boolean,
    /** Takes whole lines, which nothing writes to afterwards. */
    private readonly write: (lines: Buffer) => void,
  ) {}

  /** Hands out the lines since the last time. */
  flush(): void {
    if (this.at === this.start) return;
    this.write(this.bytes.subarray(this.start, this.at));
    this.start = this.at;
  }

  /** The line of the record at byte `at` (drainRing()), unless only errors are wanted and all went well. */
  add(records: DataView, texts: Buffer, at: number, slot: number): void {
    const status = records.getInt32(at + STATUS, true);
    const token = records.getInt32(at + TOKEN, true);
    const grpcStatus = records.getInt32(at + GRPC_STATUS, true);
    const reason = reasonOf(records.getInt32(at + TARGET, true), records.getInt32(at + REASON, true), token);
    if (this.errorsOnly && reason === 0 && !isError(status, reason) && grpcStatus <= 0) return;
    if (this.at + MAX_LINE_BYTES > CHUNK_BYTES) this.renew();
    const kind = records.getInt32(at + KIND, true);
    const pathAt = at + TEXTS;
    const authorityAt = pathAt + records.getInt32(at + PATH, true);
    const userAgentAt = authorityAt + records.getInt32(at + AUTHORITY, true);
    const requestIdAt = userAgentAt + records.getInt32(at + USER_AGENT, true);
    const grpcMessageAt = requestIdAt + records.getInt32(at + REQUEST_ID, true);
    const identityAt = grpcMessageAt + records.getInt32(at + GRPC_MESSAGE, true);
    const end = identityAt + records.getInt32(at + CLIENT_IDENTITY, true);
    this.time(records.getFloat64(at + STARTED_MS, true));
    this.put(PROTOCOLS[kind]!);
    if (kind !== OPAQUE) {
      this.put(METHOD_NAMES[records.getInt32(at + METHOD, true)] ?? METHOD_NAMES[METHODS.length]!);
      this.text(texts, authorityAt, userAgentAt);
      this.put(JSON_PATH);
      this.text(texts, pathAt, authorityAt);
      this.put(JSON_STATUS);
      this.number(status);
    } else if (userAgentAt > authorityAt) {
      this.put(JSON_SERVER_NAME);
      this.text(texts, authorityAt, userAgentAt);
    }
    if (grpcStatus >= 0) this.string(grpcOutcome(grpcStatus, texts.toString('latin1', grpcMessageAt, identityAt)));
    this.put(RESPONSE_FLAGS[reason]!);
    this.name(this.names.rule(records.getInt32(at + ROUTE, true)));
    const { source, service, workload } = this.names.edge(slot, token & TOKEN_EDGE);
    this.put(JSON_SOURCE);
    this.name(source);
    this.put(JSON_CLIENT);
    this.socket(records, at + CLIENT, records.getInt32(at + CLIENT_PORT, true));
    this.bytes[this.at++] = QUOTE;
    const tlsVersion = TLS_VERSIONS[records.getInt32(at + TLS_VERSION, true)];
    if (tlsVersion !== undefined) this.string(`,"tls_version":"${tlsVersion}"`);
    if (end > identityAt) {
      this.put(JSON_IDENTITY);
      this.text(texts, identityAt, end);
    }
    this.put(JSON_DESTINATION);
    this.name(service);
    this.put(JSON_ADDRESS);
    this.socket(records, at + DESTINATION, records.getInt32(at + DESTINATION_PORT, true));
    this.put(JSON_WORKLOAD);
    this.name(workload);
    const upstreamPort = records.getInt32(at + UPSTREAM_PORT, true);
    if (upstreamPort === 0) this.put(JSON_NO_ENDPOINT);
    else {
      this.put(JSON_ENDPOINT);
      this.socket(records, at + UPSTREAM, upstreamPort);
      this.put(JSON_ATTEMPTS);
    }
    this.number(records.getInt32(at + ATTEMPTS, true));
    this.put(JSON_RECEIVED);
    this.number(records.getFloat64(at + RECEIVED, true));
    this.put(JSON_SENT);
    this.number(records.getFloat64(at + SENT, true));
    this.put(JSON_DURATION);
    this.thousandths(records.getInt32(at + LATENCY_US, true));
    this.put(JSON_FIRST_BYTE);
    const firstByteUs = records.getInt32(at + FIRST_BYTE_US, true);
    if (firstByteUs < 0) this.put(JSON_NULL);
    else this.thousandths(firstByteUs);
    if (kind !== OPAQUE) {
      this.put(JSON_USER_AGENT);
      this.text(texts, userAgentAt, requestIdAt);
      this.put(JSON_REQUEST_ID);
      this.text(texts, requestIdAt, grpcMessageAt);
    }
    this.put(END);
  }

  private renew(): void {
    this.flush();
    this.bytes = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.start = 0;
    this.at = 0;
  }

  private put(from: Uint8Array): void {
    const { bytes, at } = this;
    const { length } = from;
    // The call costs more than to copy a few bytes by hand.
    if (length > 24) bytes.set(from, at);
    else for (let i = 0; i < length; i++) bytes[at + i] = from[i]!;
    this.at = at + length;
  }

  private string(text: string): void {
    this.at += this.bytes.write(text, this.at);
  }

  private name(text: string | null): void {
    if (text === null) {
      this.put(JSON_NULL);
      return;
    }
    let json = this.kept.get(text);
    if (json === undefined) {
      if (this.kept.size >= MAX_NAMES) this.kept.clear();
      json = Buffer.from(JSON.stringify(text));
      this.kept.set(text, json);
    }
    this.put(json);
  }

  /** Latin-1 bytes as a JSON string. */
  private text(from: Buffer, start: number, end: number): void {
    const { bytes } = this;
    let to = this.at;
    bytes[to++] = QUOTE;
    for (let i = start; i < end; i++) {
      const byte = from[i]!;
      if (byte < 0x20 || byte > 0x7e || byte === QUOTE || byte === BACKSLASH) {
        this.string(JSON.stringify(from.toString('latin1', start, end)));
        return;
      }
      bytes[to++] = byte;
    }
    bytes[to++] = QUOTE;
    this.at = to;
  }

  /** As Date's toISOString(). */
  private time(ms: number): void {
    const second = Math.floor(ms / 1_000);
    if (second !== this.second) {
      this.second = second;
      this.secondBytes = Buffer.from(`{"time":"${new Date(second * 1_000).toISOString().slice(0, -4)}`);
    }
    this.put(this.secondBytes);
    this.threeDigits(Math.floor(ms - second * 1_000));
    this.put(TIME_END);
  }

  /** A whole one. */
  private number(value: number): void {
    if (value > 0x7fffffff || value < 0) {
      this.string(String(value));
      return;
    }
    let digits = 1;
    for (let limit = 10; value >= limit; limit *= 10) digits++;
    let rest = value | 0;
    for (let at = this.at + digits - 1; at >= this.at; at--) {
      const tenth = (rest / 10) | 0;
      this.bytes[at] = ZERO + rest - tenth * 10;
      rest = tenth;
    }
    this.at += digits;
  }

  private threeDigits(value: number): void {
    this.bytes[this.at] = ZERO + ((value / 100) | 0);
    this.bytes[this.at + 1] = ZERO + (((value / 10) | 0) % 10);
    this.bytes[this.at + 2] = ZERO + (value % 10);
    this.at += 3;
  }

  /** µs as ms, without zeros at the end. */
  private thousandths(value: number): void {
    if (value < 0) {
      this.string(String(value / 1_000));
      return;
    }
    this.number((value / 1_000) | 0);
    const fraction = value % 1_000;
    if (fraction === 0) return;
    this.bytes[this.at++] = DOT;
    this.threeDigits(fraction);
    while (this.bytes[this.at - 1] === ZERO) this.at--;
  }

  /** `offset`: of an IPv6 address, IPv4 as v4-mapped. */
  private socket(records: DataView, offset: number, port: number): void {
    if (records.getInt32(offset) !== 0 || records.getInt32(offset + 4) !== 0 || records.getInt32(offset + 8) !== 0xffff)
      this.string(`[${ipv6Text(records, offset)}]`);
    else {
      for (let i = 12; i < 16; i++) {
        if (i > 12) this.bytes[this.at++] = DOT;
        this.number(records.getUint8(offset + i));
      }
    }
    this.bytes[this.at++] = COLON;
    this.number(port);
  }
}

function grpcOutcome(status: number, message: string): string {
  return `,"grpc_status":${status},"grpc_message":${JSON.stringify(percentDecoded(message))}`;
}

/** As it is where it is no percent-encoded UTF-8 (or was cut within it). */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
