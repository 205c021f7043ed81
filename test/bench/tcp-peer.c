// Both ends of the opaque TCP benchmark. One thread, epoll. A client sends a byte count (8 bytes, host order); the server answers with
// that many bytes and closes.
// Usage: tcp-peer serve PORT | tcp-peer load PORT CONNECTIONS BYTES SECONDS ADDRESS. `load` prints {"connections","bytes"}; exit 1 if a
// byte lacks.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxFds = 65536, kPiece = 256 * 1024 };
// Not the server's: to a mesh, a client that calls itself is a case apart.
static const char kClientAddress[] = "127.0.77.2";
static uint64_t left[kMaxFds];
static unsigned char is_told[kMaxFds];
static char piece[kPiece];

static double now_s(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static struct sockaddr_in socket_name(const char* address, int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address)};
}

static void give(int fd) {
  if (!is_told[fd]) {
    const ssize_t got = recv(fd, &left[fd], sizeof(left[fd]), 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got != sizeof(left[fd])) {
      close(fd);
      return;
    }
    is_told[fd] = 1;
  }
  while (left[fd] > 0) {
    const ssize_t sent = send(fd, piece, left[fd] < kPiece ? left[fd] : kPiece, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) break;
    left[fd] -= (uint64_t)sent;
  }
  close(fd);
}

static int serve(int port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  struct sockaddr_in name = socket_name("127.0.0.1", port);
  if (bind(listener, (struct sockaddr*)&name, sizeof(name)) != 0 || listen(listener, 1024) != 0) {
    perror("bind");
    return 1;
  }
  const int poll = epoll_create1(0);
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
  for (;;) {
    struct epoll_event events[256];
    const int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd != listener) {
        give(events[i].data.fd);
        continue;
      }
      const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (fd < 0 || fd >= kMaxFds) continue;
      is_told[fd] = 0;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd});
    }
  }
}

static void start(int poll, const char* address, int port, uint64_t bytes) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in name = socket_name(address, port), source = socket_name(kClientAddress, 0);
  const int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
  bind(fd, (struct sockaddr*)&source, sizeof(source));
  if (fd < 0 || fd >= kMaxFds || connect(fd, (struct sockaddr*)&name, sizeof(name)) != 0) {
    perror("connect");
    exit(1);
  }
  if (send(fd, &bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes)) exit(1);
  left[fd] = bytes;
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
}

static int load(const char* address, int port, int connections, uint64_t bytes, double seconds) {
  const int poll = epoll_create1(0);
  const double end = now_s() + seconds;
  uint64_t done = 0, total = 0;
  int open = 0;
  for (; open < connections; open++) start(poll, address, port, bytes);
  while (open > 0) {
    struct epoll_event events[256];
    const int count = epoll_wait(poll, events, 256, 5000);
    if (count == 0) {
      fprintf(stderr, "%d connections stand still\n", open);
      return 1;
    }
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      const ssize_t got = recv(fd, piece, kPiece, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) continue;
      if (got > 0) {
        left[fd] -= (uint64_t)got;
        total += (uint64_t)got;
        continue;
      }
      if (got < 0 || left[fd] != 0) {
        fprintf(stderr, "a connection ended %lu bytes early\n", left[fd]);
        return 1;
      }
      close(fd);
      done++;
      if (now_s() < end)
        start(poll, address, port, bytes);
      else
        open--;
    }
  }
  printf("{\"connections\":%lu,\"bytes\":%lu}\n", done, total);
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return serve(atoi(argv[2]));
  if (argc == 7 && strcmp(argv[1], "load") == 0)
    return load(argv[6], atoi(argv[2]), atoi(argv[3]), strtoull(argv[4], NULL, 10), atof(argv[5]));
  return 2;
}
