// A closed-loop HTTP/1.1 load generator and the backends behind the proxy, in one thread that never sleeps while it measures: a proxy with
// a core of its own is what is waited for, and no contender pays for waking it. Every client connection has one request under way: GET
// /svc<i>/item, i in turn. Usage: closed-loop FIRST_BACKEND BACKENDS BODY_BYTES HOST ROUTES [HEADER_LINE ...] (backends on 127.0.0.1, ports
// FIRST_BACKEND …). Prints "ready". Each line "PORT CONNECTIONS MS" on its input is a run against that port, answered with one JSON line:
// {"requests","failed"}; failed: what was not answered with 200 and a whole body, connections that ended, and what had no answer 5 s after
// the end. Ends with its input.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxFds = 65536, kHeadMax = 4096, kMaxRoutes = 64, kRequestMax = 1024 };
static const uint64_t kGraceNs = 5000000000ull;

enum Role { kNone, kInput, kListener, kBackend, kClient };
struct Socket {
  enum Role role;
  uint64_t left;  // Bytes: of a backend's answer that could not be sent yet; of a client's body that are to come.
  size_t have;    // Of the head.
  int in_body;
  char head[kHeadMax];
};

static struct Socket* sockets;
static int poller;
static char *answer, requests[kMaxRoutes][kRequestMax];
static size_t answer_size, request_sizes[kMaxRoutes];
static int routes, route;
static uint64_t done, failed, under_way;
static int is_over;

static uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec;
}

static void watch(int fd, int operation, uint32_t events) {
  epoll_ctl(poller, operation, fd, &(struct epoll_event){.events = events, .data.fd = fd});
}

static void adopt(int fd, enum Role role) {
  if (fd >= kMaxFds) {
    fprintf(stderr, "too many descriptors\n");
    exit(1);
  }
  struct Socket* s = &sockets[fd];
  s->role = role;
  s->left = s->have = 0;
  s->in_body = 0;
  watch(fd, EPOLL_CTL_ADD, EPOLLIN);
}

static void drop(int fd) {
  sockets[fd].role = kNone;
  close(fd);
}

static struct sockaddr_in local(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void no_delay(int fd) { setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); }

static void listen_on(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  const struct sockaddr_in name = local(port);
  if (bind(fd, (const struct sockaddr*)&name, sizeof(name)) != 0 || listen(fd, 4096) != 0) {
    perror("bind");
    exit(1);
  }
  adopt(fd, kListener);
}

static void accept_one(int listener) {
  const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0) return;
  no_delay(fd);
  adopt(fd, kBackend);
}

// A proxy sends one request at a time on a connection, and here none has a body: what ends with an empty line is a whole one.
static void serve(int fd) {
  struct Socket* s = &sockets[fd];
  if (s->left == 0) {
    const ssize_t got = recv(fd, s->head + s->have, kHeadMax - s->have, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return drop(fd);
    s->have += (size_t)got;
    if (s->have < 4 || memcmp(s->head + s->have - 4, "\r\n\r\n", 4) != 0) {
      if (s->have == kHeadMax) drop(fd);
      return;
    }
    s->have = 0;
    s->left = answer_size;
  }
  const int waited = s->left != answer_size;
  const ssize_t sent = send(fd, answer + (answer_size - s->left), s->left, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return drop(fd);
  if (sent > 0) s->left -= (uint64_t)sent;
  if (s->left != 0 || waited) watch(fd, EPOLL_CTL_MOD, s->left != 0 ? EPOLLOUT : EPOLLIN);
}

static void ask(int fd) {
  struct Socket* s = &sockets[fd];
  s->have = 0;
  s->in_body = 0;
  route = route + 1 < routes ? route + 1 : 0;
  if (send(fd, requests[route], request_sizes[route], MSG_NOSIGNAL) != (ssize_t)request_sizes[route]) {
    failed++;
    return drop(fd);
  }
  under_way++;
}

static void ended(int fd, int is_good) {
  under_way--;
  if (is_good) {
    done++;
  } else {
    failed++;
  }
  if (is_over || !is_good) return drop(fd);
  ask(fd);
}

static void hear(int fd) {
  struct Socket* s = &sockets[fd];
  if (!s->in_body) {
    const ssize_t got = recv(fd, s->head + s->have, kHeadMax - 1 - s->have, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return ended(fd, 0);
    s->have += (size_t)got;
    s->head[s->have] = 0;
    const char* end = memmem(s->head, s->have, "\r\n\r\n", 4);
    if (end == NULL) {
      if (s->have == kHeadMax - 1) ended(fd, 0);
      return;
    }
    const char* length = strcasestr(s->head, "\r\ncontent-length:");
    const size_t beyond = s->have - (size_t)(end + 4 - s->head);
    const uint64_t size = length == NULL ? 0 : strtoull(length + 17, NULL, 10);
    if (memcmp(s->head, "HTTP/1.1 200", 12) != 0 || size == 0 || beyond > size) return ended(fd, 0);
    s->in_body = 1;
    s->left = size - beyond;
  }
  while (s->left != 0) {
    // Counted, not copied.
    const ssize_t got = recv(fd, NULL, s->left, MSG_TRUNC);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return ended(fd, 0);
    s->left -= (uint64_t)got;
  }
  ended(fd, 1);
}

static int turn(int timeout_ms) {
  struct epoll_event events[256];
  const int count = epoll_wait(poller, events, 256, timeout_ms);
  int has_input = 0;
  for (int i = 0; i < count; i++) {
    const int fd = events[i].data.fd;
    switch (sockets[fd].role) {
      case kInput:
        has_input = 1;
        break;
      case kListener:
        accept_one(fd);
        break;
      case kBackend:
        serve(fd);
        break;
      case kClient:
        hear(fd);
        break;
      case kNone:
        break;
    }
  }
  return has_input;
}

static void dial(int port, int connections) {
  const struct sockaddr_in name = local(port);
  for (int i = 0; i < connections; i++) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr*)&name, sizeof(name)) != 0) {
      perror("connect");
      exit(1);
    }
    no_delay(fd);
    adopt(fd, kClient);
    ask(fd);
  }
}

static void run(int port, int connections, int ms) {
  done = failed = under_way = 0;
  is_over = 0;
  dial(port, connections);
  const uint64_t end = now_ns() + (uint64_t)ms * 1000000ull;
  while (now_ns() < end && under_way != 0) turn(0);
  is_over = 1;
  while (under_way != 0 && now_ns() < end + kGraceNs) turn(0);
  failed += under_way;
  for (int fd = 0; fd < kMaxFds; fd++) {
    if (sockets[fd].role == kClient) drop(fd);
  }
  printf("{\"requests\":%lu,\"failed\":%lu}\n", done, failed);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const size_t body = strtoul(argv[3], NULL, 10);
  routes = atoi(argv[5]);
  if (body == 0 || routes < 1 || routes > kMaxRoutes) return 2;
  answer = malloc(256 + body);
  answer_size = (size_t)snprintf(answer, 256, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
  memset(answer + answer_size, 'x', body);
  answer_size += body;
  for (int i = 0; i < routes; i++) {
    int size = snprintf(requests[i], kRequestMax, "GET /svc%d/item HTTP/1.1\r\nHost: %s\r\n", i, argv[4]);
    for (int line = 6; line < argc && size < kRequestMax; line++)
      size += snprintf(requests[i] + size, (size_t)(kRequestMax - size), "%s\r\n", argv[line]);
    if (size < kRequestMax) size += snprintf(requests[i] + size, (size_t)(kRequestMax - size), "\r\n");
    if (size >= kRequestMax) return 2;
    request_sizes[i] = (size_t)size;
  }
  sockets = calloc(kMaxFds, sizeof(*sockets));
  poller = epoll_create1(0);
  for (int i = 0; i < atoi(argv[2]); i++) listen_on(atoi(argv[1]) + i);
  adopt(STDIN_FILENO, kInput);
  setvbuf(stdin, NULL, _IONBF, 0);
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (!turn(-1)) continue;
    char line[256];
    int port, connections, ms;
    if (fgets(line, sizeof(line), stdin) == NULL) return 0;
    if (sscanf(line, "%d %d %d", &port, &connections, &ms) != 3) return 2;
    run(port, connections, ms);
  }
}
