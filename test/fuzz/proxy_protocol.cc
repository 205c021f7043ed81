// PROXY protocol headers: never outside the input, the same at any cut, and what is read is written and read back.
#include "core/sniff/proxy_protocol.h"

#include <cstdlib>
#include <cstring>
#include <memory>

using namespace weft;

namespace {

ProxyStatus parse(const uint8_t* data, size_t size, ProxyHeader* header) {
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size]);
  if (size != 0) memcpy(copy.get(), data, size);
  return parse_proxy_header(copy.get(), size, header);
}

void check_round_trip(const ProxyHeader& header) {
  for (const ProxyVersion version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    uint8_t out[kProxyHeaderCapacity];
    const size_t size = write_proxy_header(version, header.source, header.destination, out);
    ProxyHeader again;
    if (size > sizeof(out) || parse(out, size, &again) != ProxyStatus::kComplete || again.size != size) abort();
    if (again.is_local || !(again.source == header.source && again.destination == header.destination)) abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ProxyHeader whole;
  const ProxyStatus status = parse(data, size, &whole);
  if (status == ProxyStatus::kComplete && whole.size > size) abort();
  for (size_t cut = 0; cut < size && cut < kMaxProxyHeaderV2; cut++) {
    ProxyHeader part;
    const ProxyStatus early = parse(data, cut, &part);
    if (early != ProxyStatus::kIncomplete && early != status) abort();
    if (status == ProxyStatus::kComplete && cut >= whole.size && early != ProxyStatus::kComplete) abort();
  }
  if (status == ProxyStatus::kComplete && !whole.is_local) check_round_trip(whole);
  return 0;
}
