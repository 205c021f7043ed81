// A closed-loop HTTP/1.1 load generator and the backends behind the proxy, in one thread that never sleeps while it measures: a proxy with
// a core of its own is what is waited for, and no contender pays for waking it. Every client connection has one request under way: GET
// /svc<i>/item, i in turn. Usage: closed-loop FIRST_BACKEND BACKENDS BODY_BYTES HOST ROUTES [HEADER_LINE ...] (backends on 127.0.0.1, ports
// FIRST_BACKEND …). Prints "ready". Each line "PORT CONNECTIONS MS KIND" on its input is a run against that port, answered with one line of
// JSON: {"requests","failed","why"}; failed: what was not answered with 200 and a whole body, connections that ended, and what had no
// answer 5 s after the end; why: of the first, empty if there is none. Ends with its input. KIND: plain; kept: the same over TLS 1.3; full,
// resumed: with a connection for each request, which the proxy ends with close_notify, and on which no session is offered, or that of a
// ticket that came before, which must be taken (the first of CONNECTIONS have none). All with the same cipher and group; the certificate
// is not verified.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxFds = 65536, kHeadMax = 4096, kMaxRoutes = 64, kRequestMax = 1024, kMaxTickets = 1024, kScratch = 65536 };
static const uint64_t kGraceNs = 5000000000ull;

enum Role { kNone, kInput, kListener, kBackend, kClient };
enum Kind { kPlain, kKept, kResumed, kFull };
static const char* const kKinds[] = {"plain", "kept", "resumed", "full"};

struct Socket {
  enum Role role;
  SSL* ssl;  // Of a client over TLS.
  int had_ticket;
  int is_waiting;  // With its request, for the handshake.
  int route;
  uint64_t left;  // Bytes: of a backend's answer that could not be sent yet; of a client's body that are to come.
  size_t have;    // Of the head.
  int in_body;
  char head[kHeadMax];
};

static struct Socket* sockets;
static int poller;
static char *answer, requests[kMaxRoutes][kRequestMax], scratch[kScratch];
static size_t answer_size, request_sizes[kMaxRoutes];
static int routes, route;
static const char* host;
static uint64_t done, failed, under_way;
// Of the first that failed: the line that it was answered with, or what became of its connection.
static char why[256];
static int is_over;
// Of the run.
static enum Kind kind;
static struct sockaddr_in proxy;
static SSL_CTX* context;
static SSL_SESSION* tickets[kMaxTickets];
static int ticket_count;

static int is_one_request_each(void) { return kind == kResumed || kind == kFull; }

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
  if (sockets[fd].ssl != NULL) {
    // Else OpenSSL takes the session for broken, and its tickets.
    SSL_set_shutdown(sockets[fd].ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(sockets[fd].ssl);
    sockets[fd].ssl = NULL;
  }
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

// -1: nothing now; 0: the end. Over TLS only close_notify is one; what is else wrong is -2. `out` null: counted, not copied.
static ssize_t receive(struct Socket* s, int fd, char* out, size_t size) {
  if (s->ssl == NULL) {
    const ssize_t got = recv(fd, out, size, out == NULL ? MSG_TRUNC : 0);
    return got >= 0 ? got : errno == EAGAIN ? -1 : -2;
  }
  const int got = SSL_read(s->ssl, out == NULL ? scratch : out, (int)(size < kScratch ? size : kScratch));
  if (got > 0) return got;
  const int error = SSL_get_error(s->ssl, got);
  return error == SSL_ERROR_WANT_READ ? -1 : error == SSL_ERROR_ZERO_RETURN ? 0 : -2;
}

static void fail(int fd) {
  const struct Socket* s = &sockets[fd];
  const char* reason = s->have != 0 ? s->head : errno == 0 || errno == EAGAIN ? "closed without an answer" : strerror(errno);
  if (failed++ == 0) snprintf(why, sizeof(why), "%.*s", (int)strcspn(reason, "\r\n\"\\"), reason);
  under_way--;
  drop(fd);
}

static void send_request(int fd) {
  struct Socket* s = &sockets[fd];
  const int size = (int)request_sizes[s->route];
  s->is_waiting = 0;
  if (s->ssl == NULL) {
    if (send(fd, requests[s->route], (size_t)size, MSG_NOSIGNAL) != size) fail(fd);
    return;
  }
  const int sent = SSL_write(s->ssl, requests[s->route], size);
  if (sent == size) {
    if (SSL_session_reused(s->ssl) != (kind == kResumed && s->had_ticket)) fail(fd);
  } else if (SSL_get_error(s->ssl, sent) == SSL_ERROR_WANT_READ) {
    s->is_waiting = 1;
  } else {
    fail(fd);
  }
}

static void ask(int fd) {
  struct Socket* s = &sockets[fd];
  s->have = 0;
  s->in_body = 0;
  s->route = route = route + 1 < routes ? route + 1 : 0;
  under_way++;
  send_request(fd);
}

static int keep_ticket(SSL* ssl, SSL_SESSION* ticket) {
  (void)ssl;
  if (kind != kResumed || ticket_count == kMaxTickets) return 0;
  tickets[ticket_count++] = ticket;
  return 1;
}

static void begin_tls(int fd) {
  struct Socket* s = &sockets[fd];
  s->ssl = SSL_new(context);
  SSL_set_fd(s->ssl, fd);
  SSL_set_tlsext_host_name(s->ssl, host);
  s->had_ticket = ticket_count != 0;
  if (s->had_ticket) {
    SSL_set_session(s->ssl, tickets[--ticket_count]);
    SSL_SESSION_free(tickets[ticket_count]);
  }
  SSL_set_connect_state(s->ssl);
}

static void dial(void) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (const struct sockaddr*)&proxy, sizeof(proxy)) != 0) {
    perror("connect");
    exit(1);
  }
  fcntl(fd, F_SETFL, O_NONBLOCK);
  no_delay(fd);
  adopt(fd, kClient);
  if (kind != kPlain) begin_tls(fd);
  ask(fd);
}

static void ended(int fd) {
  under_way--;
  done++;
  if (is_over || is_one_request_each()) drop(fd);
  if (is_over) return;
  if (is_one_request_each()) {
    dial();
  } else {
    ask(fd);
  }
}

static void hear(int fd) {
  struct Socket* s = &sockets[fd];
  if (s->is_waiting) return send_request(fd);
  if (!s->in_body) {
    const ssize_t got = receive(s, fd, s->head + s->have, kHeadMax - 1 - s->have);
    if (got == -1) return;
    if (got <= 0) return fail(fd);
    s->have += (size_t)got;
    s->head[s->have] = 0;
    const char* end = memmem(s->head, s->have, "\r\n\r\n", 4);
    if (end == NULL) {
      if (s->have == kHeadMax - 1) fail(fd);
      return;
    }
    const char* length = strcasestr(s->head, "\r\ncontent-length:");
    const size_t beyond = s->have - (size_t)(end + 4 - s->head);
    const uint64_t size = length == NULL ? 0 : strtoull(length + 17, NULL, 10);
    if (memcmp(s->head, "HTTP/1.1 200", 12) != 0 || size == 0 || beyond > size) return fail(fd);
    s->in_body = 1;
    s->left = size - beyond;
  }
  while (s->left != 0) {
    const ssize_t got = receive(s, fd, NULL, s->left);
    if (got == -1) return;
    if (got <= 0) return fail(fd);
    s->left -= (uint64_t)got;
  }
  if (is_one_request_each()) {
    const ssize_t got = receive(s, fd, NULL, 1);
    if (got == -1) return;
    if (got != 0) return fail(fd);
  }
  ended(fd);
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

// False: too long.
static int make_requests(int lines, char** line) {
  for (int i = 0; i < routes; i++) {
    int size = snprintf(requests[i], kRequestMax, "GET /svc%d/item HTTP/1.1\r\nHost: %s\r\n%s", i, host,
                        is_one_request_each() ? "Connection: close\r\n" : "");
    for (int l = 0; l < lines && size < kRequestMax; l++)
      size += snprintf(requests[i] + size, (size_t)(kRequestMax - size), "%s\r\n", line[l]);
    if (size < kRequestMax) size += snprintf(requests[i] + size, (size_t)(kRequestMax - size), "\r\n");
    if (size >= kRequestMax) return 0;
    request_sizes[i] = (size_t)size;
  }
  return 1;
}

static void make_context(void) {
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context, "X25519");
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, keep_ticket);
  // All that has come with one system call.
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, kScratch);
}

static void run(int port, int connections, int ms) {
  done = failed = under_way = 0;
  why[0] = 0;
  is_over = 0;
  while (ticket_count != 0) SSL_SESSION_free(tickets[--ticket_count]);
  proxy = local(port);
  for (int i = 0; i < connections; i++) dial();
  const uint64_t end = now_ns() + (uint64_t)ms * 1000000ull;
  while (now_ns() < end && under_way != 0) turn(0);
  is_over = 1;
  while (under_way != 0 && now_ns() < end + kGraceNs) turn(0);
  if (failed == 0 && under_way != 0) strcpy(why, "no answer in time");
  failed += under_way;
  for (int fd = 0; fd < kMaxFds; fd++) {
    if (sockets[fd].role == kClient) drop(fd);
  }
  printf("{\"requests\":%lu,\"failed\":%lu,\"why\":\"%s\"}\n", done, failed, why);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const size_t body = strtoul(argv[3], NULL, 10);
  host = argv[4];
  routes = atoi(argv[5]);
  if (body == 0 || routes < 1 || routes > kMaxRoutes) return 2;
  answer = malloc(256 + body);
  answer_size = (size_t)snprintf(answer, 256, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
  memset(answer + answer_size, 'x', body);
  answer_size += body;
  sockets = calloc(kMaxFds, sizeof(*sockets));
  poller = epoll_create1(0);
  make_context();
  for (int i = 0; i < atoi(argv[2]); i++) listen_on(atoi(argv[1]) + i);
  adopt(STDIN_FILENO, kInput);
  setvbuf(stdin, NULL, _IONBF, 0);
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (!turn(-1)) continue;
    char line[256], name[16];
    int port, connections, ms;
    if (fgets(line, sizeof(line), stdin) == NULL) return 0;
    if (sscanf(line, "%d %d %d %15s", &port, &connections, &ms, name) != 4) return 2;
    for (kind = kPlain; kind <= kFull && strcmp(name, kKinds[kind]) != 0;) kind++;
    if (kind > kFull || !make_requests(argc - 6, argv + 6)) return 2;
    run(port, connections, ms);
  }
}
