// google.rpc.Status with google.rpc.RetryInfo in the trailer `grpc-status-details-bin`: how a caller that is refused for now hears when to come again.
// Source: google/rpc/status.proto, google/rpc/error_details.proto. Coded by hand, to keep Google's packages out of api/.
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { Metadata } from '@grpc/grpc-js';

const TRAILER = 'grpc-status-details-bin';
const TYPE = 'type.googleapis.com/google.rpc.RetryInfo';

export function retryInfo(code: number, message: string, retryAfterMs: number): Metadata {
  const seconds = Math.floor(retryAfterMs / 1_000);
  const status = new BinaryWriter().tag(1, 0).int32(code).tag(2, 2).string(message);
  // details: Any { type_url, value: RetryInfo { retry_delay: Duration { seconds, nanos } } }
  status.tag(3, 2).fork().tag(1, 2).string(TYPE).tag(2, 2).fork().tag(1, 2).fork();
  status
    .tag(1, 0)
    .int64(seconds)
    .tag(2, 0)
    .int32((retryAfterMs - seconds * 1_000) * 1_000_000);
  status.join().join().join();
  const metadata = new Metadata();
  metadata.set(TRAILER, Buffer.from(status.finish()));
  return metadata;
}

/** Milliseconds; null: the trailers say nothing of it. */
export function retryDelayIn(trailers: Metadata): number | null {
  const [value] = trailers.get(TRAILER);
  if (!(value instanceof Uint8Array)) return null;
  try {
    const detail = field(value, 3);
    const info = detail === null ? null : field(detail, 2);
    const delay = info === null ? null : field(info, 1);
    return delay === null ? null : durationMs(delay);
  } catch {
    return null;
  }
}

function field(message: Uint8Array, wanted: number): Uint8Array | null {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === wanted && type === 2) return reader.bytes();
    reader.skip(type);
  }
  return null;
}

function durationMs(duration: Uint8Array): number {
  const reader = new BinaryReader(duration);
  let ms = 0;
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === 1) ms += Number(reader.int64()) * 1_000;
    else if (number === 2) ms += reader.int32() / 1_000_000;
    else reader.skip(type);
  }
  return ms;
}
