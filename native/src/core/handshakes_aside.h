// TLS handshakes beside the loop (reactor_handshakes.cc).
#pragma once
#include <memory>
#include <vector>

#include "core/tenant_scheduler.h"
#include "core/tls/handshake_thread.h"

namespace weft {

struct HandshakesAside {
  // Null: none could be started.
  std::unique_ptr<HandshakeThread> thread = HandshakeThread::start();
  // Whose step is next, by what their steps have cost.
  TenantScheduler order;
  // Whose step is under way.
  TenantId paying = 0;
  // To be freed when it is over.
  std::vector<std::unique_ptr<TlsSession>> dropped;
};

}  // namespace weft
