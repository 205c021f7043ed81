// Serves a process that may not enter network namespaces: all that is done for it is in protocol.h. Keeps nothing between two requests and
// holds no namespace.
#pragma once
#include "netns/operations.h"

namespace weft::netns {

// Until every channel has been closed by its other end. A channel that says anything else than these terms allow is closed.
void serve(int channel, const Terms& terms);

}  // namespace weft::netns
