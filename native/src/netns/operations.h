// What weft-netns does: each an operation of protocol.h, whose words are its contract. Holds no state and no namespace.
#pragma once
#include <string>
#include <vector>

#include "netns/protocol.h"

namespace weft::netns {

struct Terms {
  // Descriptor of the calling thread's own namespace, in which it is whenever it waits.
  int home = -1;
  // Else it opens sockets and nothing more.
  bool is_for_agent = false;
  // What kMount and kUnmount are for; empty: any path.
  std::string mesh_path;
};

struct Asked {
  Request request;
  std::string path;
  std::vector<int> descriptors;
};

struct Done {
  Answer answer;
  // The caller's to close.
  std::vector<int> descriptors;
};

// Whether it is a request of protocol.h, on these terms, with the descriptors and the path that it takes.
bool is_request(const Asked& asked, const Terms& terms);
// Of all but kJoin.
Done perform(const Asked& asked, const Terms& terms);

}  // namespace weft::netns
