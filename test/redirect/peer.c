// The programs that the redirection tests run inside network namespaces: a server, a client, a probe that connects again and again, and
// a transparent proxy with the same contract as the engine's (SOCKMAP registration, beats, marks, borrowed addresses).
// One line of JSON per event on standard output, written before the next step is taken; "ready" on standard error. Started with nsenter;
// must not set up anything itself.
//   peer serve PORT                      dual-stack server: answers each connection and each datagram with {"peer","local"}; connections
//                                        are echoed afterwards, and closed by the server when it reads "q"
//   peer connect ADDRESS PORT [TIMEOUT_MS [BYTES [OPTION]]]      BYTES: sent and wanted back after the answer
//     OPTION: bind=ADDRESS | device=NAME | mptcp | from=PORT | reuse=PORT (from that source port; with reuse the server closes first)
//             | hopopts | dstopts (every packet with that IPv6 extension header, of padding)
//   peer udp ADDRESS PORT connected|unconnected                  one datagram and its answer
//   peer stream ADDRESS PORT             says its own address, then sends its standard input and prints what is echoed
//   peer probe ADDRESS PORT MS INTERVAL_MS
//   peer proxy BPF_DIR WORKERS HAIRPIN4 HAIRPIN6
//   peer odd-proxy BPF_DIR silent|misfiled                      as none should be (odd_proxy)
//   peer ping ADDRESS                    one ICMP packet
//   peer raw ADDRESS HEX                 one packet, its IP header included
//   peer nat-proxy OUTBOUND_PORT INBOUND_PORT MARK   inside a pod's namespace: for connections that address translation redirects to it
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "weft_capture.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static void must(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static socklen_t size_of(const struct sockaddr_storage *address) {
  return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static struct sockaddr_storage parse(const char *text, int port) {
  struct sockaddr_storage result = {0};
  struct sockaddr_in *v4 = (void *)&result;
  struct sockaddr_in6 *v6 = (void *)&result;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
  } else {
    must(inet_pton(AF_INET6, text, &v6->sin6_addr) == 1, text);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
  }
  return result;
}

static void format(const struct sockaddr_storage *address, char *out) {
  char text[64] = "";
  const struct sockaddr_in *v4 = (const void *)address;
  const struct sockaddr_in6 *v6 = (const void *)address;
  if (address->ss_family == AF_INET) {
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    sprintf(out, "%s:%d", text, ntohs(v4->sin_port));
  } else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof text);
    sprintf(out, "%s:%d", text, ntohs(v6->sin6_port));
  } else {
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    sprintf(out, "[%s]:%d", text, ntohs(v6->sin6_port));
  }
}

static void names(int fd, char *local, char *peer) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  must(getsockname(fd, (void *)&address, &length) == 0, "getsockname");
  format(&address, local);
  length = sizeof address;
  must(getpeername(fd, (void *)&address, &length) == 0 || errno == ENOTCONN, "getpeername");
  format(&address, peer);
}

static void set(int fd, int level, int option, int value) { must(setsockopt(fd, level, option, &value, sizeof value) == 0, "setsockopt"); }

static void spawn(void *(*body)(void *), void *argument) {
  pthread_t thread;
  must(pthread_create(&thread, NULL, body, argument) == 0, "pthread_create");
  pthread_detach(thread);
}

static void *echo(void *argument) {
  int fd = (long)argument;
  char local[96], peer[96], buffer[65536];
  names(fd, local, peer);
  int length = snprintf(buffer, sizeof buffer, "{\"peer\":\"%s\",\"local\":\"%s\"}\n", peer, local);
  while (length > 0 && write(fd, buffer, length) == length) {
    length = read(fd, buffer, sizeof buffer);
    if (length == 1 && buffer[0] == 'q') break;
  }
  close(fd);
  return NULL;
}

static void *answer_datagrams(void *argument) {
  int fd = (long)argument;
  char byte, peer[96], local[96], answer[256];
  struct sockaddr_storage from, own;
  socklen_t length = sizeof from;
  while (recvfrom(fd, &byte, 1, 0, (void *)&from, &length) >= 0) {
    format(&from, peer);
    length = sizeof own;
    getsockname(fd, (void *)&own, &length);
    format(&own, local);
    int size = snprintf(answer, sizeof answer, "{\"peer\":\"%s\",\"local\":\"%s\"}\n", peer, local);
    sendto(fd, answer, size, 0, (void *)&from, size_of(&from));
    length = sizeof from;
  }
  return NULL;
}

static void serve(int port) {
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  struct sockaddr_storage any = parse("::", port);
  must(bind(fd, (void *)&any, size_of(&any)) == 0 && listen(fd, 1024) == 0, "listen");
  int datagrams = socket(AF_INET6, SOCK_DGRAM, 0);
  must(bind(datagrams, (void *)&any, size_of(&any)) == 0, "bind");
  spawn(answer_datagrams, (void *)(long)datagrams);
  fputs("ready\n", stderr);
  for (;;) {
    int connection = accept(fd, NULL, NULL);
    if (connection >= 0) spawn(echo, (void *)(long)connection);
  }
}

static void limit_waiting(int fd, int timeout_ms) {
  struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  must(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0, "SO_SNDTIMEO");
  must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
}

static void prepare(int fd, int family, const char *option) {
  bool is_bound = !strncmp(option, "bind=", 5);
  if (is_bound || !strncmp(option, "reuse=", 6) || !strncmp(option, "from=", 5)) {
    const char *value = strchr(option, '=') + 1;
    struct sockaddr_storage own = is_bound ? parse(value, 0) : parse(family == AF_INET ? "0.0.0.0" : "::", atoi(value));
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    must(bind(fd, (void *)&own, size_of(&own)) == 0, option);
  }
  bool is_hop = !strcmp(option, "hopopts");
  if (is_hop || !strcmp(option, "dstopts")) {
    const unsigned char padding[8] = {0, 0, 1, 4};
    must(setsockopt(fd, IPPROTO_IPV6, is_hop ? IPV6_HOPOPTS : IPV6_DSTOPTS, padding, sizeof padding) == 0, option);
  }
  if (!strncmp(option, "device=", 7)) must(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, option + 7, strlen(option + 7)) == 0, option);
}

// Reads the server's words into `answer`, then has `bytes` echoed. NULL, or the error.
static const char *exchange(int fd, char *answer, size_t size, long bytes, bool server_closes) {
  char chunk[16384];
  memset(chunk, 'x', sizeof chunk);
  long got = read(fd, answer, size - 1);
  if (got <= 0) return got == 0 ? "EOF" : strerrorname_np(errno);
  answer[strcspn(answer, "\n")] = 0;
  for (long left = bytes; left > 0; left -= sizeof chunk) {
    long part = left < (long)sizeof chunk ? left : (long)sizeof chunk;
    if (write(fd, chunk, part) != part || recv(fd, chunk, part, MSG_WAITALL) != part) return "NOECHO";
  }
  if (server_closes && (write(fd, "q", 1) != 1 || read(fd, chunk, 1) != 0)) return "NOEOF";
  return NULL;
}

static void print_attempt(double began, double took, double total, const char *local, const char *peer, const char *error,
                          const char *answer) {
  printf("{\"began\":%.2f,\"connectMs\":%.2f,\"totalMs\":%.2f,\"local\":\"%s\",\"peer\":\"%s\",\"error\":%s%s%s,\"server\":%s}\n", began,
         took, total, local, peer, error ? "\"" : "", error ? error : "null", error ? "\"" : "", answer[0] ? answer : "null");
  fflush(stdout);
}

// Prints what became of one connection: the server's words, or the error. `began` is relative to `epoch`.
static void attempt(const char *to, int port, int timeout_ms, long bytes, double epoch, const char *option) {
  struct sockaddr_storage address = parse(to, port);
  int fd = socket(address.ss_family, SOCK_STREAM, strcmp(option, "mptcp") ? 0 : IPPROTO_MPTCP);
  must(fd >= 0, "socket");
  prepare(fd, address.ss_family, option);
  limit_waiting(fd, timeout_ms);
  double began = now_ms();
  char local[96] = "", peer[96] = "", answer[256] = "";
  const char *error = NULL;
  if (connect(fd, (void *)&address, size_of(&address)) != 0) error = errno == EINPROGRESS ? "ETIMEDOUT" : strerrorname_np(errno);
  double took = now_ms() - began;
  if (!error) {
    names(fd, local, peer);
    error = exchange(fd, answer, sizeof answer, bytes, !strncmp(option, "reuse=", 6));
  }
  print_attempt(began - epoch, took, now_ms() - began, local, peer, error, answer);
  close(fd);
}

// The same of one datagram and its answer, which an unconnected socket must get from the very address that it sent to.
static void datagram(const char *to, int port, bool is_connected) {
  struct sockaddr_storage address = parse(to, port), from;
  int fd = socket(address.ss_family, SOCK_DGRAM, 0);
  must(fd >= 0, "socket");
  limit_waiting(fd, 2000);
  double began = now_ms();
  char local[96] = "", peer[96] = "", answer[256] = "", asked[96];
  const char *error = NULL;
  if (is_connected && connect(fd, (void *)&address, size_of(&address)) != 0) error = strerrorname_np(errno);
  if (!error && sendto(fd, "?", 1, 0, is_connected ? NULL : (void *)&address, is_connected ? 0 : size_of(&address)) != 1)
    error = strerrorname_np(errno);
  socklen_t length = sizeof from;
  if (!error && recvfrom(fd, answer, sizeof answer - 1, 0, (void *)&from, &length) < 0) error = strerrorname_np(errno);
  if (!error) {
    answer[strcspn(answer, "\n")] = 0;
    names(fd, local, peer);
    format(&from, peer);
    format(&address, asked);
    if (strcmp(peer, asked)) error = "OTHERSOURCE";
  }
  print_attempt(0, 0, now_ms() - began, local, peer, error, answer);
  close(fd);
}

static int stream(const char *to, int port) {
  struct sockaddr_storage address = parse(to, port);
  int fd = socket(address.ss_family, SOCK_STREAM, 0);
  char local[96], peer[96], buffer[4096];
  must(fd >= 0 && connect(fd, (void *)&address, size_of(&address)) == 0, "connect");
  must(read(fd, buffer, sizeof buffer) > 0, "read");
  names(fd, local, peer);
  printf("%s\n", local);
  fflush(stdout);
  long size;
  while ((size = read(0, buffer, sizeof buffer)) > 0) {
    must(write(fd, buffer, size) == size && recv(fd, buffer, size, MSG_WAITALL) == size && write(1, buffer, size) == size, "echo");
  }
  return 0;
}

static void probe(const char *to, int port, int duration_ms, int interval_ms) {
  double epoch = now_ms();
  fputs("ready\n", stderr);
  for (int i = 0; i * interval_ms < duration_ms; i++) {
    double wait = epoch + i * interval_ms - now_ms();
    if (wait > 0) usleep(wait * 1000);
    attempt(to, port, 3000, 4, epoch, "");
  }
}

// ── the proxy ──
static const char *bpf_dir, *hairpin4, *hairpin6;
static int addresses;

static int open_map(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/maps/%s", bpf_dir, name);
  int fd = bpf_obj_get(path);
  must(fd >= 0, path);
  return fd;
}

static void be_transparent(int fd, int family) {
  set(fd, family == AF_INET ? SOL_IP : SOL_IPV6, family == AF_INET ? IP_TRANSPARENT : IPV6_TRANSPARENT, 1);
}

struct accepted {
  int fd;
  int inbound;
  unsigned worker;
};

// Whether it is the address of a captured workload of this host. The engine is told so by its configuration.
static bool is_captured(const struct sockaddr_storage *to) {
  const struct sockaddr_in *v4 = (const void *)to;
  const struct sockaddr_in6 *v6 = (const void *)to;
  struct weft_address key = {{0, 0, htonl(0xffff), v4->sin_addr.s_addr}};
  struct weft_workload workload;
  if (to->ss_family == AF_INET6) memcpy(&key, &v6->sin6_addr, sizeof key);
  return bpf_map_lookup_elem(addresses, &key, &workload) == 0;
}

static int dial(struct sockaddr_storage *to, struct sockaddr_storage from, int mark) {
  int fd = socket(to->ss_family, SOCK_STREAM, 0);
  const struct sockaddr_in6 *a = (void *)to, *b = (void *)&from;
  const struct sockaddr_in *c = (void *)to, *d = (void *)&from;
  int hairpin = to->ss_family == AF_INET ? c->sin_addr.s_addr == d->sin_addr.s_addr : !memcmp(&a->sin6_addr, &b->sin6_addr, 16);
  if (hairpin) {
    from = parse(to->ss_family == AF_INET ? hairpin4 : hairpin6, 0);
    mark = WEFT_DELIVER;
  }
  ((struct sockaddr_in *)&from)->sin_port = 0;
  be_transparent(fd, to->ss_family);
  set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  set(fd, SOL_SOCKET, SO_MARK, mark);
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (bind(fd, (void *)&from, size_of(&from)) == 0 && connect(fd, (void *)to, size_of(to)) == 0) return fd;
  fprintf(stderr, "dial: %s\n", strerror(errno));
  close(fd);
  return -1;
}

static void relay(int a, int b) {
  struct pollfd ends[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
  char buffer[65536];
  while ((ends[0].fd >= 0 || ends[1].fd >= 0) && poll(ends, 2, -1) > 0) {
    for (int i = 0; i < 2; i++) {
      if (!ends[i].revents) continue;
      long got = read(i ? b : a, buffer, sizeof buffer);
      if (got < 0) return;
      if (got == 0) {
        shutdown(i ? a : b, SHUT_WR);
        ends[i].fd = -1;
      } else if (write(i ? a : b, buffer, got) != got) {
        return;
      }
    }
  }
}

static void *forward(void *argument) {
  struct accepted connection = *(struct accepted *)argument;
  free(argument);
  char local[96], peer[96];
  names(connection.fd, local, peer);
  struct sockaddr_storage to, from;
  socklen_t length = sizeof to;
  int mark = 0;
  getsockname(connection.fd, (void *)&to, &length);
  length = sizeof from;
  getpeername(connection.fd, (void *)&from, &length);
  length = sizeof mark;
  getsockopt(connection.fd, SOL_SOCKET, SO_MARK, &mark, &length);
  printf("{\"direction\":\"%s\",\"source\":\"%s\",\"destination\":\"%s\",\"mark\":%d,\"worker\":%u}\n",
         connection.inbound ? "inbound" : "outbound", peer, local, mark, connection.worker);
  fflush(stdout);
  // A service whose only endpoint is its client: the proxy resolves it, so the workload meets itself.
  if (!strcmp(local, "10.96.9.11:80") || !strcmp(local, "[fd96::11]:80")) {
    to = from;
    ((struct sockaddr_in *)&to)->sin_port = htons(8080);
  }
  int upstream = dial(&to, from, connection.inbound || is_captured(&to) ? WEFT_DELIVER : WEFT_INJECT);
  if (upstream >= 0) {
    relay(connection.fd, upstream);
    close(upstream);
  } else {
    struct linger reset = {1, 0};
    setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  close(connection.fd);
  return NULL;
}

struct listening {
  int fd;
  int inbound;
  unsigned worker;
};

static void *accept_all(void *argument) {
  struct listening *listener = argument;
  for (;;) {
    struct accepted *connection = malloc(sizeof *connection);
    connection->fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    connection->inbound = listener->inbound;
    connection->worker = listener->worker;
    if (connection->fd >= 0)
      spawn(forward, connection);
    else
      free(connection);
  }
  return NULL;
}

static void listen_at(int map, unsigned worker, unsigned kind, int family) {
  struct listening *listener = malloc(sizeof *listener);
  listener->inbound = kind >= WEFT_LISTENER_INBOUND4;
  listener->worker = worker;
  listener->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set(listener->fd, SOL_SOCKET, SO_REUSEADDR, 1);
  set(listener->fd, SOL_SOCKET, SO_REUSEPORT, 1);
  be_transparent(listener->fd, family);
  // A request socket's mark is its listener's: from_pod reads it.
  set(listener->fd, SOL_SOCKET, SO_MARK, listener->inbound ? WEFT_INJECT : WEFT_DELIVER);
  struct sockaddr_storage loopback = parse(family == AF_INET ? "127.0.0.1" : "::1", listener->inbound ? 15006 : 15001);
  must(bind(listener->fd, (void *)&loopback, size_of(&loopback)) == 0 && listen(listener->fd, 1024) == 0, "listen");
  __u32 key = worker * WEFT_LISTENERS_PER_WORKER + kind;
  __u64 value = listener->fd;
  must(bpf_map_update_elem(map, &key, &value, BPF_ANY) == 0, "register a listener");
  spawn(accept_all, listener);
}

static void listen_as(int map, unsigned worker, unsigned kind) { listen_at(map, worker, kind, kind & 1 ? AF_INET6 : AF_INET); }

// Proxies as none should be. "silent": listens and never beats. "misfiled": beats, and has IPv6 sockets, which the kernel refuses for IPv4.
static void odd_proxy(int is_silent) {
  int listeners = open_map("listeners"), beats = open_map("workers");
  struct weft_worker *workers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, beats, 0);
  must(workers != MAP_FAILED, "mmap");
  for (unsigned kind = 0; kind <= WEFT_LISTENER_INBOUND6; kind += 2) listen_at(listeners, 0, kind, is_silent ? AF_INET : AF_INET6);
  workers[0].workers = 1;
  workers[0].beat_ns = is_silent ? 1 : now_ms() * 1e6;
  fputs("ready\n", stderr);
  for (; !is_silent; usleep(100000)) workers[0].beat_ns = now_ms() * 1e6;
  pause();
}

// An ICMP packet, of nobody that the mesh knows.
static void ping(const char *address) {
  struct sockaddr_storage to = parse(address, 0);
  unsigned char request[8] = {8, 0, 0xf7, 0xff};
  int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  must(sendto(fd, request, sizeof request, 0, (void *)&to, size_of(&to)) == sizeof request, "ping");
}

static void send_raw(const char *address, const char *hex) {
  struct sockaddr_storage to = parse(address, 0);
  unsigned char packet[256];
  size_t size = strlen(hex) / 2;
  must(size <= sizeof packet, hex);
  for (size_t i = 0; i < size; i++) must(sscanf(hex + 2 * i, "%2hhx", &packet[i]) == 1, hex);
  int fd = socket(to.ss_family, SOCK_RAW, IPPROTO_RAW);
  must(sendto(fd, packet, size, 0, (void *)&to, size_of(&to)) == (ssize_t)size, "raw");
}

static void proxy(unsigned count) {
  int listeners = open_map("listeners"), beats = open_map("workers");
  addresses = open_map("addresses");
  struct weft_worker *workers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, beats, 0);
  must(workers != MAP_FAILED, "mmap");
  for (unsigned kind = 0; kind <= WEFT_LISTENER_INBOUND6; kind++) {
    for (unsigned worker = 0; worker < count; worker++) listen_as(listeners, worker, kind);
  }
  for (int first = 1;; first = 0) {
    for (unsigned i = 0; i < count; i++) {
      workers[i].beat_ns = now_ms() * 1e6;
      workers[i].workers = count;
    }
    if (first) fputs("ready\n", stderr);
    usleep(100000);
  }
}

// ── the proxy of the fallback ──
// From linux/netfilter_ipv4.h, which clashes with netinet/in.h.
enum { ORIGINAL_DESTINATION = 80 };
static int nat_mark;

static void *nat_forward(void *argument) {
  struct accepted connection = *(struct accepted *)argument;
  free(argument);
  struct sockaddr_storage to = {0};
  socklen_t length = sizeof to;
  char local[96], peer[96], destination[96];
  names(connection.fd, local, peer);
  int is_v6 = local[0] == '[';
  must(getsockopt(connection.fd, is_v6 ? SOL_IPV6 : SOL_IP, ORIGINAL_DESTINATION, &to, &length) == 0, "SO_ORIGINAL_DST");
  format(&to, destination);
  printf("{\"direction\":\"%s\",\"source\":\"%s\",\"destination\":\"%s\",\"mark\":0,\"worker\":0}\n",
         connection.inbound ? "inbound" : "outbound", peer, destination);
  fflush(stdout);
  int upstream = socket(to.ss_family, SOCK_STREAM, 0);
  set(upstream, SOL_SOCKET, SO_MARK, nat_mark);
  if (connect(upstream, (void *)&to, size_of(&to)) == 0) relay(connection.fd, upstream);
  close(upstream);
  close(connection.fd);
  return NULL;
}

static void *nat_accept(void *argument) {
  struct listening *listener = argument;
  for (;;) {
    struct accepted *connection = malloc(sizeof *connection);
    *connection = (struct accepted){accept(listener->fd, NULL, NULL), listener->inbound, 0};
    must(connection->fd >= 0, "accept");
    spawn(nat_forward, connection);
  }
  return NULL;
}

static void nat_proxy(int outbound, int inbound, int mark) {
  static const char *const any[] = {"127.0.0.1", "::1", "0.0.0.0", "::"};
  nat_mark = mark;
  for (int i = 0; i < 4; i++) {
    struct sockaddr_storage at = parse(any[i], i >= 2 ? inbound : outbound);
    struct listening *listener = malloc(sizeof *listener);
    *listener = (struct listening){socket(at.ss_family, SOCK_STREAM, 0), i >= 2, 0};
    set(listener->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (at.ss_family == AF_INET6) set(listener->fd, SOL_IPV6, IPV6_V6ONLY, 1);
    must(bind(listener->fd, (void *)&at, size_of(&at)) == 0 && listen(listener->fd, 1024) == 0, "listen");
    spawn(nat_accept, listener);
  }
  fputs("ready\n", stderr);
  pause();
}

int main(int count, char **words) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *role = count > 1 ? words[1] : "";
  if (!strcmp(role, "serve") && count == 3) serve(atoi(words[2]));
  if (!strcmp(role, "connect") && count >= 4) {
    attempt(words[2], atoi(words[3]), count > 4 ? atoi(words[4]) : 3000, count > 5 ? atol(words[5]) : 4, now_ms(),
            count > 6 ? words[6] : "");
    return 0;
  }
  if (!strcmp(role, "udp") && count == 5) {
    datagram(words[2], atoi(words[3]), !strcmp(words[4], "connected"));
    return 0;
  }
  if (!strcmp(role, "stream") && count == 4) return stream(words[2], atoi(words[3]));
  if (!strcmp(role, "probe") && count == 6) {
    probe(words[2], atoi(words[3]), atoi(words[4]), atoi(words[5]));
    return 0;
  }
  if (!strcmp(role, "proxy") && count == 6) {
    bpf_dir = words[2];
    hairpin4 = words[4];
    hairpin6 = words[5];
    proxy(atoi(words[3]));
  }
  if (!strcmp(role, "odd-proxy") && count == 4) {
    bpf_dir = words[2];
    odd_proxy(!strcmp(words[3], "silent"));
  }
  if (!strcmp(role, "ping") && count == 3) {
    ping(words[2]);
    return 0;
  }
  if (!strcmp(role, "raw") && count == 4) {
    send_raw(words[2], words[3]);
    return 0;
  }
  if (!strcmp(role, "nat-proxy") && count == 5) nat_proxy(atoi(words[2]), atoi(words[3]), atoi(words[4]));
  fprintf(stderr, "see the top of peer.c\n");
  return 2;
}
