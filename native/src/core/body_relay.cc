// See body_relay.h.
#include "core/body_relay.h"

#include <cstring>

namespace weft {

namespace {

uint8_t* put(uint8_t* out, const void* bytes, size_t count) {
  memcpy(out, bytes, count);
  return out + count;
}

uint8_t* put_payload(uint8_t* out, const uint8_t* payload, size_t size, http1::Framing to) {
  if (size == 0 || to == http1::Framing::kNone) return out;
  if (to != http1::Framing::kChunked) return put(out, payload, size);
  out += http1::write_chunk_header(size, reinterpret_cast<char*>(out));
  out = put(out, payload, size);
  return put(out, http1::kChunkEnd.data(), http1::kChunkEnd.size());
}

}  // namespace

BodyTransfer relay_body(http1::BodyReader* reader, http1::Framing from, http1::Framing to, const uint8_t* data, size_t size,
                        uint8_t* scratch) {
  BodyTransfer transfer;
  if (reader->done()) {
    transfer.done = true;
    return transfer;
  }
  const bool in_place = from != http1::Framing::kChunked && to != http1::Framing::kChunked && to != http1::Framing::kNone;
  uint8_t* out = scratch;
  for (;;) {
    const http1::BodyStep step = reader->next(data + transfer.consumed, size - transfer.consumed);
    transfer.consumed += step.consumed;
    const uint8_t* payload = data + transfer.consumed - step.payload_size;
    if (in_place) {
      if (transfer.size == 0) transfer.bytes = payload;
      transfer.size += step.payload_size;
    } else {
      out = put_payload(out, payload, step.payload_size, to);
    }
    transfer.done = step.status == http1::BodyStatus::kDone;
    transfer.invalid = step.status == http1::BodyStatus::kInvalid;
    if (step.status != http1::BodyStatus::kPayload || (transfer.consumed == size && step.payload_size == 0)) break;
  }
  if (in_place) return transfer;
  if (transfer.done && to == http1::Framing::kChunked) {
    out += http1::write_last_chunk(reader->trailers(), reinterpret_cast<char*>(out), http1::BodyReader::kMaxTrailerBytes + 64);
  }
  transfer.bytes = scratch;
  transfer.size = static_cast<size_t>(out - scratch);
  return transfer;
}

BodyTransfer frame_payload(http1::Framing to, const void* payload, size_t size, bool end, uint8_t* scratch) {
  BodyTransfer transfer;
  transfer.done = end;
  if (to == http1::Framing::kNone) return transfer;
  if (to != http1::Framing::kChunked) {
    transfer.bytes = static_cast<const uint8_t*>(payload);
    transfer.size = size;
    return transfer;
  }
  uint8_t* out = put_payload(scratch, static_cast<const uint8_t*>(payload), size, to);
  if (end) out = put(out, http1::kLastChunk.data(), http1::kLastChunk.size());
  transfer.bytes = scratch;
  transfer.size = static_cast<size_t>(out - scratch);
  return transfer;
}

}  // namespace weft
