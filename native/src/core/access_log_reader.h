// The other end of the access log's ring (access_log.h): takes records out, on one thread of its own.
#pragma once
#include <cstddef>
#include <cstdint>

namespace weft {

class AccessLogReader {
 public:
  // Memory that an AccessLog takes.
  AccessLogReader(uint8_t* memory, size_t bytes);
  // The oldest record, 8-byte aligned, with its texts; null: there is none. The same until release().
  const uint8_t* next();
  // The writer may have its place.
  void release();

 private:
  void advance(uint32_t size);

  uint32_t* words_;
  const uint8_t* data_;
  uint32_t mask_;
  uint32_t read_;
  uint32_t written_;
};

}  // namespace weft
