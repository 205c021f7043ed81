// Takes a body out of one framing and puts it into another. Payload that needs no new framing is not copied.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/http1/body.h"

namespace weft {

// Output that relay_body may write for an input of `input` bytes.
constexpr size_t body_relay_capacity(size_t input) { return input + http1::BodyReader::kMaxTrailerBytes + 256; }

struct BodyTransfer {
  // To send; points into the input or into the scratch memory.
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  // Input that belonged to the body.
  size_t consumed = 0;
  bool done = false;
  bool invalid = false;
};

// `from`: the framing `reader` reads. `to`: kNone drops the payload. `scratch` has body_relay_capacity(size).
BodyTransfer relay_body(http1::BodyReader* reader, http1::Framing from, http1::Framing to, const uint8_t* data, size_t size,
                        uint8_t* scratch);

// Bare payload into a framing; kChunked needs `scratch` of body_relay_capacity(size), the others copy nothing.
BodyTransfer frame_payload(http1::Framing to, const void* payload, size_t size, bool end, uint8_t* scratch);

}  // namespace weft
