// Asks weft-netns for what this process may not do itself: all that it does in other network namespaces than its own begins here. Knows no
// object of the mesh. One for the process, for any of its threads, one at a time.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string>
#include <vector>

#include "bpf/descriptor.h"
#include "bpf/outcome.h"
#include "netns/protocol.h"

namespace weft::bpf {

class NetnsClient {
 public:
  static NetnsClient& instance();

  // The channel that this process was born with (WEFT_NETNS), which stays the caller's. Without one the first request starts a weft-netns
  // of this process' own, which takes CAP_SYS_ADMIN and CAP_SETPCAP.
  Outcome use(int channel);
  // A descriptor for an operation that answers with one. EPIPE: weft-netns has gone.
  Outcome ask(const netns::Request& request, std::initializer_list<int> descriptors, Descriptor& result, const std::string& path = "");
  // For one that answers with none. `status` may be null.
  Outcome tell(const netns::Request& request, std::initializer_list<int> descriptors, const std::string& path = "", int* status = nullptr);

 private:
  Outcome start();
  Outcome exchange(const netns::Request& request, std::initializer_list<int> descriptors, const std::string& path, netns::Answer* answer,
                   std::vector<int>* received);

  std::mutex mutex_;
  Descriptor channel_;
};

}  // namespace weft::bpf
