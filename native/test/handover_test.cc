// Listeners that pass from one reactor to another, and how the first drains; messages that carry descriptors.
#include <sys/stat.h>

#include "core/message_socket.h"
#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kGet;
using test::kOk;
using test::Peer1;

ListenerSpec spec_at(uint16_t port) {
  ListenerSpec spec;
  spec.id = 1;
  parse_address("127.0.0.1", &spec.address);
  spec.protocol = Protocol::kHttp1;
  spec.port = port;
  return spec;
}

// The descriptor of the first listener; the others' are closed.
int share_first(Bench& bench) {
  int first = -1;
  for (const SharedListener& shared : bench.reactor->share_listeners()) {
    if (shared.id == 1) {
      first = shared.fd;
    } else {
      close(shared.fd);
    }
  }
  return first;
}

void answer(Bench& bench, Peer1& client, std::string_view head) {
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  CHECK(client.has(std::string(head)));
}

TEST("hand-over: both accept from a shared listener, and when the first stops, what waits and what comes is the second's") {
  Bench old;
  Bench next;
  std::string error;
  CHECK_EQ(next.reactor->adopt_listener(spec_at(old.port), share_first(old), &error), int{old.port});
  Peer1 waiting(Peer1::dial(old.port));
  next.reactor->run_once(100);
  CHECK_EQ(next.counter(Counter::DownstreamAccepted), 1.0);
  old.reactor->drain(0);
  Peer1 late(Peer1::dial(old.port));
  // Off its epoll set: the socket that lives on does not wake the one that left it.
  CHECK_EQ(old.reactor->run_once(0), 0);
  late.send(kGet);
  answer(next, late, "HTTP/1.1 200 OK");
  CHECK_EQ(old.counter(Counter::DownstreamAccepted), 0.0);
}

TEST("hand-over: a socket that is not the listener is refused and closed") {
  Bench bench;
  std::string error;
  const auto adopt = [&](uint16_t port, int fd) { return bench.reactor->adopt_listener(spec_at(port), fd, &error); };
  CHECK_EQ(adopt(static_cast<uint16_t>(bench.port + 1), share_first(bench)), -EADDRNOTAVAIL);
  uint16_t port = 0;
  const int silent = test::bound_socket(&port);
  CHECK_EQ(adopt(port, silent), -EINVAL);
  CHECK_EQ(fcntl(silent, F_GETFD), -1);
  CHECK_EQ(adopt(port, dup(0)), -EINVAL);
}

TEST("hand-over: a listener that goes serves what waits for it first") {
  Bench bench;
  Peer1 first(Peer1::dial(bench.port));
  Peer1 second(Peer1::dial(bench.port));
  first.send(kGet);
  bench.reactor->unlisten(1);
  CHECK_EQ(bench.counter(Counter::DownstreamAccepted), 2.0);
  // And lets nobody ask again.
  answer(bench, first, "connection: close");
  Peer1 late(Peer1::dial(bench.port));
  CHECK_EQ(::send(late.fd, "x", 1, MSG_NOSIGNAL), ssize_t{-1});
}

TEST("hand-over: draining, an idle client's next request is answered and told to leave; one that stays idle is closed") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  Peer1 idle(Peer1::dial(bench.port));
  client.send(kGet);
  answer(bench, client, "HTTP/1.1 200 OK");
  CHECK(!client.has("connection: close"));
  bench.reactor->drain(100);
  client.received.clear();
  client.send(kGet);
  answer(bench, client, "connection: close");
  CHECK(bench.run([&] { return client.read(), client.ended; }));
  CHECK(bench.run([&] { return idle.read(), idle.ended; }));
  CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 0.0);
}

TEST("hand-over: a client that was not told before its answer ended keeps its connection for one more request") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
  CHECK(bench.run([&] { return client.has("\r\n\r\no"); }));
  bench.reactor->drain(1000);
  upstream.send("k");
  CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  CHECK(!client.has("connection: close"));
  client.received.clear();
  client.send(kGet);
  answer(bench, client, "connection: close");
}

struct Path {
  std::string name;
  Path() {
    char folder[] = "/tmp/weft-core-XXXXXX";
    if (mkdtemp(folder) != nullptr) name = std::string(folder) + "/s";
  }
  ~Path() {
    unlink(name.c_str());
    rmdir(name.substr(0, name.size() - 2).c_str());
  }
};

TEST("message socket: messages stay whole, descriptors come with theirs, bounds hold, and the file is its owner's") {
  const Path path;
  const int server = listen_messages(path.name);
  CHECK(server >= 0);
  struct stat about;
  CHECK_EQ(stat(path.name.c_str(), &about), 0);
  CHECK_EQ(about.st_mode & 0777u, 0600u);
  CHECK_EQ(listen_messages(path.name), -EADDRINUSE);
  CHECK_EQ(accept_messages(server), -EAGAIN);
  const int client = connect_messages(path.name);
  const int peer = accept_messages(server);
  PeerProcess process;
  CHECK_EQ(peer_process(peer, &process), 0);
  CHECK_EQ(process.pid, getpid());
  CHECK_EQ(process.uid, geteuid());

  Message message;
  CHECK_EQ(receive_message(peer, &message), -EAGAIN);
  CHECK_EQ(send_message(client, "one", {}), 0);
  CHECK_EQ(send_message(client, "two", {client, server}), 0);
  CHECK_EQ(receive_message(peer, &message), 1);
  CHECK_EQ(message.text, "one");
  CHECK_EQ(message.descriptors.size(), size_t{0});
  CHECK_EQ(receive_message(peer, &message), 1);
  CHECK_EQ(message.text, "two");
  CHECK_EQ(message.descriptors.size(), size_t{2});
  for (const int fd : message.descriptors) {
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
  }
  CHECK_EQ(send_message(client, std::string(kMaxMessageBytes + 1, 'x'), {}), -EMSGSIZE);
  CHECK_EQ(send_message(client, "", {}), -EMSGSIZE);
  CHECK_EQ(send_message(client, "x", std::vector<int>(kMaxMessageDescriptors + 1, client)), -EMSGSIZE);
  // Not all senders keep to our bounds.
  CHECK_EQ(::send(client, std::string(kMaxMessageBytes + 1, 'x').data(), kMaxMessageBytes + 1, 0),
           static_cast<ssize_t>(kMaxMessageBytes + 1));
  CHECK_EQ(receive_message(peer, &message), -EMSGSIZE);
  close(client);
  CHECK_EQ(receive_message(peer, &message), 0);
  CHECK_EQ(send_message(peer, "x", {}), -EPIPE);
  close(peer);
  close(server);
  CHECK_EQ(connect_messages(path.name), -ECONNREFUSED);
  CHECK_EQ(connect_messages(path.name + "x"), -ENOENT);
  CHECK_EQ(connect_messages(std::string(200, 'x')), -ENAMETOOLONG);
}

}  // namespace
}  // namespace weft
