// The ends of the redirection benchmark, and a threaded transparent relay for the shapes that are compared with ours.
// Usage: redirect-peer serve PORT: a connection's first byte says what it wants, 'e' every byte back, 's' the count of all at its end.
// redirect-peer round-trip|connection ADDRESS PORT COUNT: median of a byte there and back on one connection, or of each with its connect.
// redirect-peer stream ADDRESS PORT BYTES: one connection, until the server has told the count.
// redirect-peer relay PORT MARK: accepts what TPROXY hands it, dials the original destination from the client's address.
// The clients print microseconds: of a round trip, of a connection, of a MiB.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kPiece = 256 * 1024, kMiB = 1 << 20 };

static void must(int ok, const char* what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static double now_us(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec * 1e6 + (double)at.tv_nsec * 1e-3;
}

static struct sockaddr_in socket_name(const char* address, int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address)};
}

static void enable(int fd, int level, int option, int value) {
  must(setsockopt(fd, level, option, &value, sizeof(value)) == 0, "setsockopt");
}

static void spawn(void* (*body)(void*), int fd) {
  pthread_t thread;
  must(pthread_create(&thread, NULL, body, (void*)(intptr_t)fd) == 0, "pthread_create");
  pthread_detach(thread);
}

static void accept_all(int port, int transparent, void* (*body)(void*)) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  enable(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  if (transparent) enable(listener, SOL_IP, IP_TRANSPARENT, 1);
  const struct sockaddr_in name = socket_name("0.0.0.0", port);
  must(bind(listener, (const struct sockaddr*)&name, sizeof(name)) == 0 && listen(listener, 1024) == 0, "listen");
  puts("ready");
  fflush(stdout);
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    enable(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    spawn(body, fd);
  }
}

static void* answer(void* argument) {
  const int fd = (int)(intptr_t)argument;
  static __thread char piece[kPiece];
  char wish = 0;
  uint64_t count = 0;
  ssize_t got = read(fd, &wish, 1);
  if (wish == 'e' && write(fd, &wish, 1) == 1) {
    while ((got = read(fd, piece, kPiece)) > 0 && write(fd, piece, (size_t)got) == got) continue;
  } else if (wish == 's') {
    while ((got = read(fd, piece, kPiece)) > 0) count += (uint64_t)got;
    if (write(fd, &count, sizeof(count)) != sizeof(count)) fputs("nobody wants the count\n", stderr);
  }
  close(fd);
  return NULL;
}

static int dial(const char* address, int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const struct sockaddr_in name = socket_name(address, port);
  enable(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  must(connect(fd, (const struct sockaddr*)&name, sizeof(name)) == 0, "connect");
  return fd;
}

static void there_and_back(int fd) {
  char byte = 'e';
  must(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1 && byte == 'e', "a byte there and back");
}

static int ascending(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return x < y ? -1 : x > y;
}

static double median_of(double* values, int count) {
  qsort(values, (size_t)count, sizeof(*values), ascending);
  return values[count / 2];
}

static double round_trip(const char* address, int port, int count) {
  double* took = calloc((size_t)count, sizeof(*took));
  const int fd = dial(address, port);
  there_and_back(fd);
  for (int i = 0; i < count; i++) {
    const double began = now_us();
    there_and_back(fd);
    took[i] = now_us() - began;
  }
  return median_of(took, count);
}

static double connection(const char* address, int port, int count) {
  double* took = calloc((size_t)count, sizeof(*took));
  for (int i = 0; i < count; i++) {
    const double began = now_us();
    const int fd = dial(address, port);
    there_and_back(fd);
    took[i] = now_us() - began;
    close(fd);
  }
  return median_of(took, count);
}

static double stream(const char* address, int port, uint64_t bytes) {
  static char piece[kPiece];
  const int fd = dial(address, port);
  must(write(fd, "s", 1) == 1, "write");
  const double began = now_us();
  for (uint64_t left = bytes; left > 0;) {
    const ssize_t sent = write(fd, piece, left < kPiece ? left : kPiece);
    must(sent > 0, "write");
    left -= (uint64_t)sent;
  }
  shutdown(fd, SHUT_WR);
  uint64_t count = 0;
  must(read(fd, &count, sizeof(count)) == sizeof(count) && count == bytes, "every byte arrives");
  return (now_us() - began) / ((double)bytes / kMiB);
}

static int mark;

static void* relay(void* argument) {
  const int near = (int)(intptr_t)argument;
  struct sockaddr_in to, from;
  socklen_t length = sizeof(to);
  getsockname(near, (struct sockaddr*)&to, &length);
  length = sizeof(from);
  getpeername(near, (struct sockaddr*)&from, &length);
  from.sin_port = 0;
  const int far = socket(AF_INET, SOCK_STREAM, 0);
  enable(far, SOL_IP, IP_TRANSPARENT, 1);
  enable(far, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  enable(far, SOL_SOCKET, SO_MARK, mark);
  enable(far, IPPROTO_TCP, TCP_NODELAY, 1);
  must(bind(far, (struct sockaddr*)&from, sizeof(from)) == 0 && connect(far, (struct sockaddr*)&to, sizeof(to)) == 0, "relay: connect");
  static __thread char piece[65536];
  struct pollfd ends[2] = {{near, POLLIN, 0}, {far, POLLIN, 0}};
  while ((ends[0].fd >= 0 || ends[1].fd >= 0) && poll(ends, 2, -1) > 0) {
    for (int i = 0; i < 2; i++) {
      if (ends[i].revents == 0) continue;
      const int other = i == 0 ? far : near;
      const ssize_t got = read(ends[i].fd, piece, sizeof(piece));
      if (got > 0 && write(other, piece, (size_t)got) == got) continue;
      shutdown(other, SHUT_WR);
      ends[i].fd = -1;
    }
  }
  close(near);
  close(far);
  return NULL;
}

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const char* role = argc > 1 ? argv[1] : "";
  if (argc == 3 && strcmp(role, "serve") == 0) accept_all(atoi(argv[2]), 0, answer);
  if (argc == 4 && strcmp(role, "relay") == 0) {
    mark = atoi(argv[3]);
    accept_all(atoi(argv[2]), 1, relay);
  }
  if (argc != 5) return 2;
  const int port = atoi(argv[3]);
  if (strcmp(role, "round-trip") == 0) printf("%.3f\n", round_trip(argv[2], port, atoi(argv[4])));
  if (strcmp(role, "connection") == 0) printf("%.3f\n", connection(argv[2], port, atoi(argv[4])));
  if (strcmp(role, "stream") == 0) printf("%.3f\n", stream(argv[2], port, strtoull(argv[4], NULL, 10)));
  return 0;
}
