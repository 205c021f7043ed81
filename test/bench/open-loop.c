// An open-loop HTTP/1.1 load generator: requests are due at a fixed rate whatever the server does, and a latency counts from when its
// request was due, so that a stall is seen by every request it delayed (no coordinated omission). One thread, epoll.
// Usage: open-loop PORT HOST RATE CONNECTIONS SECONDS ROUTES [WARM [CORES]]. GET /svc<i>/item, i in turn below ROUTES. The first WARM
// seconds (1) are not counted. Prints one JSON line: {"count","left_out","errors","unanswered","p50","p99","p999","max"}, latencies in µs.
// It waits 5 s at the end; what is not answered by then counts with the time it has waited. Exit 1 if a connection ends.
// CORES (0): of the first so many a thread of the highest priority tells when they stood still: who is late there by 0.4 ms
// waited for no process, but for the machine, whose hypervisor gave the core to others. What was under way then, and until what had come
// meanwhile is worked off, is left out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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

enum { kMaxCores = 8, kMaxStalls = 16384 };
static const uint64_t kLookEveryNs = 700000, kStallNs = 400000, kSettleNs = 2000000;

// A core did nothing.
struct Stall {
  uint64_t from_ns, to_ns;
};
struct Watcher {
  pthread_t thread;
  int count;
  struct Stall stalls[kMaxStalls];
};
static struct Watcher* watchers;
static int watcher_count;
static atomic_int is_over;

// A request that was counted.
struct Sample {
  uint64_t due_ns, took_ns;
};
static struct Sample* samples;
static size_t sample_count, sample_room;

static struct Connection* connections;
static int idle[kMaxConnections], idle_count;
static uint64_t histogram[kBuckets], counted, left_out, errors, unanswered, max_ns;

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

static void add_sample(uint64_t due_ns, uint64_t took_ns) {
  if (sample_count == sample_room) {
    sample_room = sample_room == 0 ? 65536 : sample_room * 2;
    samples = realloc(samples, sample_room * sizeof(*samples));
  }
  samples[sample_count++] = (struct Sample){due_ns, took_ns};
}

static void* watch_core(void* context) {
  struct Watcher* watcher = context;
  for (uint64_t next = now_ns() + kLookEveryNs; !is_over && watcher->count < kMaxStalls; next = now_ns() + kLookEveryNs) {
    const struct timespec at = {.tv_sec = (time_t)(next / 1000000000ull), .tv_nsec = (long)(next % 1000000000ull)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    const uint64_t now = now_ns();
    if (now > next + kStallNs) watcher->stalls[watcher->count++] = (struct Stall){next, now};
  }
  return NULL;
}

// Without the priority it would wait for other processes, which is what is measured: then nobody looks.
static void watch_cores(int cores) {
  watchers = calloc(kMaxCores, sizeof(*watchers));
  for (int core = 0; core < cores && core < kMaxCores; core++) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &(struct sched_param){.sched_priority = 90});
    if (pthread_create(&watchers[watcher_count].thread, &attributes, watch_core, &watchers[watcher_count]) == 0) watcher_count++;
    pthread_attr_destroy(&attributes);
  }
}

static int met_stall(const struct Sample* sample) {
  for (int i = 0; i < watcher_count; i++) {
    for (int j = 0; j < watchers[i].count; j++) {
      const struct Stall* stall = &watchers[i].stalls[j];
      if (sample->due_ns < stall->to_ns + kSettleNs && sample->due_ns + sample->took_ns > stall->from_ns) return 1;
    }
  }
  return 0;
}

static void sum_up(void) {
  is_over = 1;
  for (int i = 0; i < watcher_count; i++) pthread_join(watchers[i].thread, NULL);
  for (size_t i = 0; i < sample_count; i++) {
    if (met_stall(&samples[i])) {
      left_out++;
      continue;
    }
    const uint64_t took = samples[i].took_ns;
    histogram[bucket_of(took)]++;
    counted++;
    if (took > max_ns) max_ns = took;
  }
}

static void finish(int index, uint64_t counted_from) {
  struct Connection* c = &connections[index];
  if (c->due_ns >= counted_from) {
    add_sample(c->due_ns, now_ns() - c->due_ns);
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) errors++;
  }
  c->due_ns = 0;
  idle[idle_count++] = index;
}

// What was due and is still not answered, sent or not, has waited until now at least.
static void give_up(int count, uint64_t due, uint64_t end, uint64_t every_ns, uint64_t now) {
  const size_t before = sample_count;
  for (int i = 0; i < count; i++) {
    if (connections[i].due_ns != 0) add_sample(connections[i].due_ns, now - connections[i].due_ns);
  }
  for (; due < end; due += every_ns) add_sample(due, now - due);
  unanswered = sample_count - before;
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
  if (argc < 7 || argc > 9) return 2;
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
  watch_cores(argc > 8 ? atoi(argv[8]) : 0);
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
  sum_up();
  printf("{\"count\":%lu,\"left_out\":%lu,\"errors\":%lu,\"unanswered\":%lu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}\n",
         counted, left_out, errors, unanswered, quantile_us(0.5), quantile_us(0.99), quantile_us(0.999), (double)max_ns / 1000.0);
  return 0;
}
