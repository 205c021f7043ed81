// Where a reactor listens: in its own network namespace and, by weft-netns, in those of pods and of the host.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/dns_listener.h"
#include "core/reactor.h"

namespace weft {

int Reactor::open_scope(const ListenerSpec& spec, SharedScope* scope, std::string* error) {
  *error = "open the namespace of the listener";
  const bool is_pod = spec.place == ListenerPlace::kPod;
  if (namespace_sockets_ == nullptr) {
    namespace_sockets_ = NamespaceSockets::open(is_pod ? spec.pod.sockets : options_.host.sockets);
    if (namespace_sockets_ == nullptr) return -errno;
    watch(namespace_sockets_->fd(), kNamespaceSockets);
  }
  if (is_pod) {
    for (const auto& [key, known] : pods_) {
      if (key == spec.pod.key) *scope = known;
    }
    if (*scope != nullptr) return 0;
    *scope = SocketScope::open(spec.pod.netns, spec.pod.mark);
    if (*scope == nullptr) return -errno;
    pods_.emplace_back(spec.pod.key, *scope);
    return 0;
  }
  if (host_scope_ == nullptr) host_scope_ = SocketScope::open(options_.host.netns, options_.host.mark);
  if (host_scope_ == nullptr) return -errno;
  *scope = host_scope_;
  // The maps may appear after the engine.
  *error = "open " + options_.host.flows;
  return host_flows_.open(options_.host.flows);
}

int Reactor::listen_in(const SocketScope& scope, const ListenOptions& options) const {
  const int fd = namespace_sockets_->open_now(scope, is_mapped(options.at.address) ? AF_INET : AF_INET6);
  return fd < 0 ? fd : listen_on(fd, options);
}

int Reactor::listen_dns(const ListenerSpec& spec, std::string* error) {
  *error = "listen";
  const int fd = DnsListener::open(spec.address, spec.port);
  if (fd < 0) return fd;
  const int result = spec.sockmap.empty() ? 0 : register_listener(spec.sockmap, spec.sockmap_key, fd);
  if (result < 0) {
    ::close(fd);
    *error = "register in " + spec.sockmap;
    return result;
  }
  auto* listener = new DnsListener(this, fd, spec.id);
  dns_listeners_.push_back(listener);
  adopt(listener);
  Peer local;
  local_peer(fd, &local);
  return local.port;
}

int Reactor::listen(const ListenerSpec& spec, std::string* error) {
  if (spec.kind == ListenerKind::Dns) return listen_dns(spec, error);
  ListenOptions options;
  options.at = {spec.address, spec.port};
  SharedScope scope;
  if (spec.place != ListenerPlace::kOwn) {
    if (const int result = open_scope(spec, &scope, error); result < 0) return result;
  } else {
    options.transparent = spec.is_captured();
    // Answers to captured clients go to the local pod; answers to captured callers go back as if the pod had sent them.
    options.mark = spec.kind == ListenerKind::Outbound ? kMarkValueDeliver : spec.kind == ListenerKind::Inbound ? kMarkValueInject : 0;
  }
  const int fd = scope == nullptr ? open_listener(options) : listen_in(*scope, options);
  if (fd < 0) {
    *error = "listen";
    return fd;
  }
  if (!spec.sockmap.empty()) {
    const int result = register_listener(spec.sockmap, spec.sockmap_key, fd);
    if (result < 0) {
      ::close(fd);
      *error = "register in " + spec.sockmap;
      return result;
    }
  }
  return add_listener(spec, fd, std::move(scope));
}

int Reactor::adopt_listener(const ListenerSpec& spec, int fd, std::string* error) {
  *error = "adopt";
  SharedScope scope;
  int result = spec.place == ListenerPlace::kOwn ? 0 : open_scope(spec, &scope, error);
  if (result == 0) {
    const int sibling = scope == nullptr ? open_stream_socket(AF_INET) : namespace_sockets_->open_now(*scope, AF_INET);
    result = sibling < 0 ? sibling : check_listener(fd, {spec.address, spec.port}, sibling);
    if (sibling >= 0) ::close(sibling);
  }
  if (result == 0) return add_listener(spec, fd, std::move(scope));
  ::close(fd);
  return result;
}

int Reactor::add_listener(const ListenerSpec& spec, int fd, SharedScope scope) {
  Peer local;
  local_peer(fd, &local);
  ListenerSpec kept = spec;
  kept.port = local.port;
  auto* listener = new Listener(this, fd, kept, std::move(scope));
  listener->set_tenant(TenantScheduler::checked(tables_->listener_tenant(spec.id)));
  listeners_.push_back(listener);
  adopt(listener);
  return local.port;
}

std::vector<SharedListener> Reactor::share_listeners() const {
  std::vector<SharedListener> shared;
  for (const Listener* listener : listeners_) {
    const ListenerSpec& spec = listener->spec();
    // A successor opens its own there.
    if (spec.place == ListenerPlace::kHost) continue;
    const int fd = fcntl(listener->fd(), F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) shared.push_back({spec.id, spec.pod.key, spec.sockmap.empty() ? -1 : int64_t{spec.sockmap_key}, fd});
  }
  return shared;
}

bool Reactor::set_listener(int32_t id, const ListenerSettings& settings) {
  bool found = false;
  bool lets_in_others = false;
  for (Listener* listener : listeners_) {
    if (listener->spec().id != id) continue;
    lets_in_others |= listener->set(settings);
    found = true;
  }
  if (lets_in_others) retire_connections(id);
  return found;
}

// They were let in by what holds no more: new ones must come as it is wanted now. What is under way is not cut.
void Reactor::retire_connections(int32_t id) {
  connections_.for_each([id](Connection* connection) {
    if (connection->listener_id() == id) static_cast<Downstream*>(connection)->retire();
  });
}

void Reactor::unlisten(int32_t id) {
  std::erase_if(dns_listeners_, [id](DnsListener* listener) {
    if (listener->id() != id) return false;
    listener->stop();
    return true;
  });
  for (auto at = listeners_.begin(); at != listeners_.end();) {
    if ((*at)->spec().id == id) {
      (*at)->stop();
      at = listeners_.erase(at);
    } else {
      ++at;
    }
  }
  retire_connections(id);
  if (!deciding_) reap();
}

void Reactor::leave_pod(int64_t key) {
  const auto known = std::find_if(pods_.begin(), pods_.end(), [key](const auto& pod) { return pod.first == key; });
  if (known == pods_.end()) return;
  const SharedScope scope = known->second;
  pods_.erase(known);
  std::erase_if(listeners_, [&](Listener* listener) {
    if (listener->info().scope != scope) return false;
    close(listener);
    return true;
  });
  for (PoolLink* link : pool_.idle_unless([&](const UpstreamTarget& target) { return target.connect.scope != scope; })) link->give_up();
  connections_.for_each([&](Connection* connection) {
    if (!connection->is_downstream() || static_cast<Downstream*>(connection)->origin().listener->scope != scope) return;
    // Its end comes as an event, as any other. Without linger no socket stays behind to hold the namespace.
    set_abortive_close(connection->fd());
    ::shutdown(connection->fd(), SHUT_RDWR);
  });
  if (!deciding_) reap();
}

}  // namespace weft
