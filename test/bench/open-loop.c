// An open-loop HTTP/1.1 load generator: requests are due at a fixed rate whatever the server does, and a latency counts from when its
// request was due, so that a stall is seen by every request it delayed (no coordinated omission). One thread, epoll.
// Usage: open-loop PORT HOST RATE CONNECTIONS SECONDS ROUTES [WARM]. GET /svc<i>/item, i in turn below ROUTES. The first WARM seconds (1)
// are not counted. Prints one JSON line: {"count","errors","unanswered","p50","p99","p999","max"}, latencies in µs. It waits 5 s at the
// end; what is not answered by then counts with the time it has waited. Exit 1 if a connection ends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxConnections = 4096, kHeadMax = 16 * 1024 };
enum { kSubBits = 7, kSub = 1 << kSubBits, kBuckets = 40 * kSub };  // Within 0.8 % of the value, as HdrHistogram at two digits.
static const uint64_t kGraceNs = 5000000000ull;

struct Connection {
  int fd;
  uint64_t due_ns;    // Of the request under way.
  int64_t body_left;  // -1: the head is not whole yet.
  size_t have;
  char head[kHeadMax];
};

static struct Connection* connections;
static int idle[kMaxConnections], idle_count;
static uint64_t histogram[kBuckets], counted, errors, unanswered, max_ns;

static uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec;
}

static int bucket_of(uint64_t value) {
  if (value < kSub) return (int)value;
  const int shift = 63 - __builtin_clzll(value) - kSubBits;
  const int at = (shift + 1) * kSub + (int)((value >> shift) - kSub);
  return at < kBuckets ? at : kBuckets - 1;
}

static uint64_t value_of(int bucket) {
  if (bucket < kSub) return (uint64_t)bucket;
  return ((uint64_t)(bucket % kSub + kSub)) << (bucket / kSub - 1);
}

static double quantile_us(double q) {
  uint64_t rank = (uint64_t)(q * (double)counted), sum = 0;
  for (int i = 0; i < kBuckets; i++) {
    sum += histogram[i];
    if (sum > rank) return (double)value_of(i) / 1000.0;
  }
  return (double)max_ns / 1000.0;
}

static int dial(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (struct sockaddr*)&name, sizeof(name)) != 0) {
    perror("connect");
    exit(1);
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

static void count_unanswered(uint64_t waited_ns) {
  histogram[bucket_of(waited_ns)]++;
  counted++;
  unanswered++;
  if (waited_ns > max_ns) max_ns = waited_ns;
}

static void finish(int index, uint64_t counted_from) {
  struct Connection* c = &connections[index];
  if (c->due_ns >= counted_from) {
    const uint64_t took = now_ns() - c->due_ns;
    histogram[bucket_of(took)]++;
    counted++;
    if (took > max_ns) max_ns = took;
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) errors++;
  }
  c->due_ns = 0;
  idle[idle_count++] = index;
}

// What was due and is still not answered, sent or not, has waited until now at least.
static void give_up(int count, uint64_t due, uint64_t end, uint64_t every_ns, uint64_t now) {
  for (int i = 0; i < count; i++) {
    if (connections[i].due_ns != 0) count_unanswered(now - connections[i].due_ns);
  }
  for (; due < end; due += every_ns) count_unanswered(now - due);
}

static void receive(int index, uint64_t counted_from) {
  struct Connection* c = &connections[index];
  char scratch[65536];
  for (;;) {
    if (c->body_left < 0) {
      const ssize_t got = recv(c->fd, c->head + c->have, kHeadMax - 1 - c->have, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0 || c->due_ns == 0) {
        fprintf(stderr, "a connection ended in mid-exchange\n");
        exit(1);
      }
      c->have += (size_t)got;
      c->head[c->have] = 0;
      const char* end = strstr(c->head, "\r\n\r\n");
      if (end == NULL) continue;
      const char* length = strcasestr(c->head, "\r\ncontent-length:");
      c->body_left = (length == NULL ? 0 : atoll(length + 17)) - (int64_t)(c->have - (size_t)(end + 4 - c->head));
    } else {
      const size_t want = (uint64_t)c->body_left < sizeof(scratch) ? (size_t)c->body_left : sizeof(scratch);
      const ssize_t got = recv(c->fd, scratch, want, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) exit(1);
      c->body_left -= got;
    }
    if (c->body_left != 0) continue;
    finish(index, counted_from);
    return;
  }
}

int main(int argc, char** argv) {
  if (argc != 7 && argc != 8) return 2;
  const int port = atoi(argv[1]), count = atoi(argv[4]), routes = atoi(argv[6]);
  const uint64_t every_ns = (uint64_t)(1e9 / atof(argv[3]));
  if (count > kMaxConnections) return 2;
  prctl(PR_SET_TIMERSLACK, 1);
  connections = calloc((size_t)count, sizeof(*connections));
  const int poll = epoll_create1(0);
  for (int i = 0; i < count; i++) {
    connections[i].fd = dial(port);
    idle[idle_count++] = i;
    epoll_ctl(poll, EPOLL_CTL_ADD, connections[i].fd, &(struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i});
  }
  const uint64_t warm_ns = (uint64_t)(1e9 * (argc > 7 ? atof(argv[7]) : 1));
  const uint64_t begin = now_ns(), counted_from = begin + warm_ns, end = counted_from + (uint64_t)(atof(argv[5]) * 1e9);
  uint64_t due = begin;
  int route = 0;
  for (;;) {
    uint64_t now = now_ns();
    while (due <= now && due < end && idle_count > 0) {
      struct Connection* c = &connections[idle[--idle_count]];
      char request[512];
      const int size = snprintf(request, sizeof(request), "GET /svc%d/item HTTP/1.1\r\nHost: %s\r\n\r\n", route, argv[2]);
      route = (route + 1) % routes;
      c->due_ns = due;
      c->have = 0;
      c->body_left = -1;
      if (send(c->fd, request, (size_t)size, MSG_NOSIGNAL) != size) {
        perror("send");
        return 1;
      }
      due += every_ns;
    }
    if (due >= end && idle_count == count) break;
    now = now_ns();
    if (now > end + kGraceNs) {
      give_up(count, due, end, every_ns, now);
      break;
    }
    const uint64_t wait = due >= end || idle_count == 0 ? 100000000ull : due > now ? due - now : 0;
    const struct timespec timeout = {.tv_sec = 0, .tv_nsec = (long)wait};
    struct epoll_event events[256];
    const int ready = epoll_pwait2(poll, events, 256, &timeout, NULL);
    for (int i = 0; i < ready; i++) receive((int)events[i].data.u32, counted_from);
  }
  printf("{\"count\":%lu,\"errors\":%lu,\"unanswered\":%lu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}\n", counted, errors,
         unanswered, quantile_us(0.5), quantile_us(0.99), quantile_us(0.999), (double)max_ns / 1000.0);
  return 0;
}
