// The least that a proxy can spend: what a client sends goes on a connection of its own to a backend, and back, and nobody looks at it. No
// parsing, no routes, no pool, no limits, no timeouts. One thread, epoll.
// Usage: blind-relay PORT FIRST_BACKEND BACKENDS. Connections go to the backends in turn.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kMaxFds = 65536, kBytes = 256 * 1024, kEvents = 256 };
static int peer_of[kMaxFds];
static char bytes[kBytes];
static int epoll;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int fd, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

static void send_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void join(int client, int backend_port) {
  const struct sockaddr_in to = loopback(backend_port);
  const int backend = socket(AF_INET, SOCK_STREAM, 0);
  if (backend < 0 || backend >= kMaxFds || client >= kMaxFds) fail("socket");
  if (connect(backend, (const struct sockaddr*)&to, sizeof(to)) != 0) fail("connect");
  fcntl(backend, F_SETFL, O_NONBLOCK);
  send_at_once(client);
  send_at_once(backend);
  peer_of[client] = backend;
  peer_of[backend] = client;
  watch(client, EPOLLIN | EPOLLET);
  watch(backend, EPOLLIN | EPOLLET);
}

static void part(int fd) {
  const int peer = peer_of[fd];
  peer_of[fd] = peer_of[peer] = 0;
  close(fd);
  close(peer);
}

static void relay(int fd) {
  // Closed with its peer, earlier in this turn.
  if (peer_of[fd] == 0) return;
  const ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return part(fd);
  // Messages of the closed loop fit into a socket's buffer: what does not is a broken run.
  if (send(peer_of[fd], bytes, (size_t)got, MSG_NOSIGNAL) != got) part(fd);
}

int main(int count, char** words) {
  if (count != 4) {
    fprintf(stderr, "usage: blind-relay PORT FIRST_BACKEND BACKENDS\n");
    return 2;
  }
  const int first_backend = atoi(words[2]), backends = atoi(words[3]);
  const struct sockaddr_in name = loopback(atoi(words[1]));
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener, (const struct sockaddr*)&name, sizeof(name)) != 0 || listen(listener, 1024) != 0) fail("listen");
  epoll = epoll_create1(0);
  watch(listener, EPOLLIN);
  for (int next = 0;;) {
    struct epoll_event events[kEvents];
    const int ready = epoll_wait(epoll, events, kEvents, -1);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.fd != listener) {
        relay(events[i].data.fd);
        continue;
      }
      for (int client; (client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) join(client, first_backend + next++ % backends);
    }
  }
}
