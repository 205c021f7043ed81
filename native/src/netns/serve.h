// Opens sockets in network namespaces for a process that may not enter them. All that it does is in protocol.h: unconnected, unbound TCP
// sockets, in a namespace of which the asker has a descriptor. Keeps nothing between two requests and holds no namespace.
#pragma once

namespace weft::netns {

// Until every channel has been closed by its other end. `home`: of the calling thread's own namespace, in which it is whenever it waits.
// A channel that says anything else than protocol.h is closed.
void serve(int channel, int home);

}  // namespace weft::netns
