// ClientHello sniffing: never outside its input; and once it has said complete or invalid, more bytes change nothing.
#include "core/sniff/client_hello.h"

#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/sniff/protocol.h"

using namespace weft;

namespace {

SniffStatus sniff(const uint8_t* data, size_t size, ClientHello* hello) {
  // Exactly as long as it says, so that a read past the end is seen.
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size]);
  if (size != 0) memcpy(copy.get(), data, size);
  return sniff_client_hello(copy.get(), size, hello);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ClientHello whole;
  const SniffStatus status = sniff(data, size, &whole);
  const FirstBytes protocol = detect_protocol(data, size);
  // Cuts near both ends; all of them would be quadratic.
  for (size_t cut = 0; cut < size; cut += cut < 64 || size - cut < 64 ? 1 : size / 32 + 1) {
    ClientHello part;
    const SniffStatus early = sniff(data, cut, &part);
    if (early != SniffStatus::kIncomplete && early != status) abort();
    if (early == SniffStatus::kComplete && (part.name() != whole.name() || part.protocols() != whole.protocols())) abort();
    const FirstBytes guess = detect_protocol(data, cut);
    if (guess != FirstBytes::kUndecided && guess != protocol) abort();
  }
  return 0;
}
