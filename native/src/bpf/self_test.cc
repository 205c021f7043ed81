// See self_test.h.
#include "bpf/self_test.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "bpf/capture.h"
#include "bpf/links.h"
#include "bpf/netlink.h"
#include "core/bpf_maps.h"
#include "core/socket.h"
#include "core/wait_for.h"

namespace weft::bpf {
namespace {

// Documentation prefix (RFC 5737): the namespaces lead nowhere.
constexpr const char* HOST = "192.0.2.1";
constexpr const char* POD = "192.0.2.2";
constexpr uint16_t PORT = 80;
constexpr int PATIENCE_MS = 1000;
constexpr const char* OUTSIDE = "weft-test0";
constexpr const char* INSIDE = "weft-test1";

Outcome done(int error, const char* what) { return error == 0 ? Outcome{} : failure(error, std::string("self-test: cannot ") + what); }

Outcome add_address(NetlinkSocket& netlink, uint32_t ifindex, const char* text) {
  NetlinkMessage message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = 24;
  header.ifa_index = ifindex;
  message.header(header);
  in_addr address{};
  inet_pton(AF_INET, text, &address);
  message.attribute(IFA_LOCAL, &address, sizeof address);
  message.attribute(IFA_ADDRESS, &address, sizeof address);
  return done(netlink.exchange(message), "give the scratch veth its address");
}

// There: finds the end of the veth, gives it its address, brings it up.
Outcome set_up_end(int there, const char* name, const char* address, Link& link) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(there));
  WEFT_TRY(done(find_link(netlink, std::string(name), link), "find the scratch veth"));
  WEFT_TRY(add_address(netlink, link.ifindex, address));
  NetlinkMessage message(RTM_NEWLINK, 0);
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(link.ifindex);
  info.ifi_flags = info.ifi_change = IFF_UP;
  message.header(info);
  return done(netlink.exchange(message), "bring the scratch veth up");
}

Outcome connect_pod(int host, int pod, Link& outside) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(host));
  WEFT_TRY(done(create_veth(netlink, OUTSIDE, INSIDE, pod), "make a scratch veth"));
  WEFT_TRY(set_up_end(host, OUTSIDE, HOST, outside));
  Link inside;
  return set_up_end(pod, INSIDE, POD, inside);
}

Peer peer_of(const char* text, uint16_t port) {
  Peer peer;
  parse_address(text, &peer.address);
  peer.port = port;
  return peer;
}

// Of IPv4. `result` or -errno.
Descriptor used(int result) {
  errno = result < 0 ? -result : 0;
  return Descriptor(result);
}

// Without a descriptor errno says why.
Descriptor listen_in(int there, const ListenOptions& options) {
  Descriptor opened;
  if (const Outcome outcome = open_stream_socket(there, AF_INET, opened)) return used(-outcome->code);
  return used(listen_on(opened.release(), options));
}

Descriptor connect_in(int there, const ConnectOptions& options) {
  Descriptor opened;
  if (const Outcome outcome = open_stream_socket(there, AF_INET, opened)) return used(-outcome->code);
  return used(connect_from(opened.release(), options));
}

struct Direction {
  const char* name;
  uint32_t mark;
  uint32_t listener;
  const char* client;
  const char* server;
};

// One connection, from `from`'s namespace, must come to the listener in the mesh namespace with both its addresses, and be established.
Outcome try_out(const Direction& direction, int mesh, int from, const std::string& maps) {
  const std::string what = std::string("self-test: the ") + direction.name + " connection ";
  const Descriptor listener = listen_in(mesh, {peer_of("0.0.0.0", 0), true, direction.mark});
  if (!listener) return failure(errno, what + "has no listener (transparent sockets need CAP_NET_ADMIN or CAP_NET_RAW)");
  const int registered = register_listener(maps + "/listeners", direction.listener, listener.get());
  if (registered < 0) return failure(registered, what + "has a listener that the SOCKMAP refuses");
  ConnectOptions options;
  options.to = peer_of(direction.server, PORT);
  const Descriptor client = connect_in(from, options);
  if (!wait_for(listener.get(), POLLIN, PATIENCE_MS)) return failure(ETIMEDOUT, what + "did not come to the proxy's listener");
  Descriptor accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Peer local, remote;
  if (!local_peer(accepted.get(), &local) || !remote_peer(accepted.get(), &remote)) return failure(errno, what + "was lost");
  if (!(local == options.to) || remote.address != peer_of(direction.client, 0).address) {
    return failure(EPROTO, what + "came with other addresses than it was made with");
  }
  if (!wait_for(client.get(), POLLOUT, PATIENCE_MS) || pending_error(client.get()) != 0) {
    return failure(ETIMEDOUT, what + "got no answer from the proxy");
  }
  return {};
}

Outcome try_both(uint32_t mode, const CaptureLocation& location, int host, int pod) {
  Link outside;
  WEFT_TRY(connect_pod(host, pod, outside));
  CaptureOptions options;
  options.location = location;
  options.mode = mode;
  options.heartbeat_timeout_ns = 10'000'000'000;
  options.host_mark = 0x80000;
  std::unique_ptr<Capture> capture;
  WEFT_TRY(Capture::open(options, capture));
  WorkloadSpec workload;
  workload.ifindex = outside.ifindex;
  memcpy(workload.gateway_mac, outside.mac, sizeof workload.gateway_mac);
  workload.outbound = workload.inbound = true;
  workload.addresses = {POD};
  WEFT_TRY(capture->attach(workload));
  Descriptor mesh;
  WEFT_TRY(open_namespace(location.mesh_netns, mesh));
  Heartbeat heartbeat;
  const int beating = heartbeat.open(location.bpf_dir + "/maps/workers", 0, 1);
  if (beating < 0) return failure(beating, "self-test: the heartbeat map cannot be mapped");
  const std::string maps = location.bpf_dir + "/maps";
  WEFT_TRY(try_out({"outbound", WEFT_DELIVER, WEFT_LISTENER_OUTBOUND4, POD, HOST}, mesh.get(), pod, maps));
  return try_out({"inbound", WEFT_INJECT, WEFT_LISTENER_INBOUND4, HOST, POD}, mesh.get(), host, maps);
}

Outcome bring_up_loopback(int there) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(there));
  NetlinkMessage message(RTM_NEWLINK, 0);
  ifinfomsg info{};
  info.ifi_index = 1;
  info.ifi_flags = info.ifi_change = IFF_UP;
  message.header(info);
  return done(netlink.exchange(message), "bring the scratch loopback up");
}

struct Translation {
  const char* name;
  Peer listener;
  const char* client;
  const char* server;
};

// One connection, from `from`'s namespace, must come to the listener in the pod's with what it was translated from, and be established.
Outcome try_out(const Translation& translation, int pod, int from) {
  const std::string what = std::string("self-test: the ") + translation.name + " connection ";
  const Descriptor listener = listen_in(pod, {translation.listener, false, 0});
  if (!listener) return failure(errno, what + "has no listener");
  ConnectOptions options;
  options.to = peer_of(translation.server, PORT);
  const Descriptor client = connect_in(from, options);
  if (!wait_for(listener.get(), POLLIN, PATIENCE_MS)) return failure(ETIMEDOUT, what + "was not redirected to the proxy's listener");
  Descriptor accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Peer wanted, remote;
  if (!translated_peer(accepted.get(), &wanted) || !remote_peer(accepted.get(), &remote)) {
    return failure(errno, what + "has lost its original destination (SO_ORIGINAL_DST)");
  }
  if (!(wanted == options.to) || remote.address != peer_of(translation.client, 0).address) {
    return failure(EPROTO, what + "came with other addresses than it was made with");
  }
  if (!wait_for(client.get(), POLLOUT, PATIENCE_MS) || pending_error(client.get()) != 0) {
    return failure(ETIMEDOUT, what + "got no answer from the proxy");
  }
  return {};
}

}  // namespace

Outcome make_scratch_pod(ScratchPod& scratch) {
  WEFT_TRY(create_unnamed_namespace(scratch.host));
  WEFT_TRY(create_unnamed_namespace(scratch.pod));
  WEFT_TRY(bring_up_loopback(scratch.pod.get()));
  Link outside;
  return connect_pod(scratch.host.get(), scratch.pod.get(), outside);
}

Outcome test_translation(int host, int pod, uint16_t outbound_port, uint16_t inbound_port) {
  WEFT_TRY(try_out({"outbound", peer_of("127.0.0.1", outbound_port), POD, HOST}, pod, pod));
  return try_out({"inbound", peer_of("0.0.0.0", inbound_port), HOST, POD}, pod, host);
}

Outcome test_capture(uint32_t mode, const std::string& bpf_dir) {
  Descriptor host, pod, mesh;
  for (Descriptor* each : {&host, &pod, &mesh}) WEFT_TRY(create_unnamed_namespace(*each));
  const auto path = [](const Descriptor& there) { return "/proc/self/fd/" + std::to_string(there.get()); };
  const CaptureLocation location = {bpf_dir + "-test", path(mesh), path(host)};
  // Pins alone: the rest goes with the namespaces.
  const CaptureLocation pins = {location.bpf_dir, "", location.host_netns};
  // What a test that was killed left.
  WEFT_TRY(Capture::uninstall(pins));
  Outcome outcome = try_both(mode, location, host.get(), pod.get());
  Outcome cleaned = Capture::uninstall(pins);
  return outcome ? outcome : cleaned;
}

}  // namespace weft::bpf
