// Accepts connections and gives each its protocol. Refuses above the connection limit; rests when descriptors run out.
#pragma once
#include "core/connection.h"
#include "core/downstream.h"
#include "core/options.h"

namespace weft {

class Listener : public Connection {
 public:
  // `scope`: where its socket is; null: the proxy's own namespace.
  Listener(Reactor* reactor, int fd, const ListenerSpec& spec, SharedScope scope);
  const ListenerSpec& spec() const { return spec_; }
  const ListenerInfo& info() const { return *info_.get(); }
  void set_tenant(TenantId tenant) { tenant_ = tenant; }
  // True: it lets in others than before.
  bool set(const ListenerSettings& settings);
  void on_events(uint32_t events) override;
  void on_resume() override;
  void on_timer() override;
  // Serves the connections that the kernel has made already, then closes the socket.
  void stop();

 private:
  enum class Accepted : uint8_t { One, None, Later };
  void accept_some();
  bool find_destination(int fd, DownstreamOrigin* origin) const;
  Accepted accept_next();
  void accept_one(int fd, const struct sockaddr_storage& client);
  void admit(int fd, const DownstreamOrigin& origin, Protocol protocol);

  ListenerSpec spec_;
  Shared<ListenerInfo> info_;
};

}  // namespace weft
