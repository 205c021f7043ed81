// An HTTP/2 backend that costs next to nothing: answers every request with a gRPC-shaped one (200, one message of BODY_BYTES, grpc-status 0
// in trailers), many a system call. Prior knowledge, one thread, epoll. Decodes no header block (it need not know what is asked), honours
// flow control. Usage: h2-backend PORT [BODY_BYTES] (127.0.0.1; 100 bytes by default). Prints "ready".
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
#include <unistd.h>

enum { kMaxFds = 4096, kMaxStreams = 2048, kFrameHeader = 9, kMaxFrame = 16384, kPreface = 24, kIn = 1 << 17, kOut = 1 << 20 };
enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

// A request that is answered as far as the windows allow.
struct stream {
  uint32_t id;
  int64_t window;
  uint32_t unsent;  // Of the message; its head has been sent.
};

struct connection {
  uint8_t in[kIn];
  size_t in_size;
  uint8_t out[kOut];
  size_t out_begin, out_end;
  int64_t window;
  int64_t initial_window;
  uint32_t consumed;  // Of request bodies, not yet given back.
  struct stream streams[kMaxStreams];
  size_t stream_count;
  int has_preface;
};

static struct connection* connections[kMaxFds];
static uint8_t message[1 << 20];
static uint32_t message_size;
// :status 200 (static table), content-type: application/grpc without indexing.
static const char kHead[] =
    "\x88\x0f\x10\x10"
    "application/grpc";
// grpc-status: 0 without indexing.
static const char kTrailers[] =
    "\x00\x0bgrpc-status\x01"
    "0";

static uint32_t read32(const uint8_t* at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void put_frame(struct connection* c, uint32_t size, uint8_t type, uint8_t flags, uint32_t id, const void* payload) {
  uint8_t* at = c->out + c->out_end;
  const uint8_t header[kFrameHeader] = {size >> 16, size >> 8, size, type, flags, id >> 24, id >> 16, id >> 8, id};
  memcpy(at, header, kFrameHeader);
  if (size != 0) memcpy(at + kFrameHeader, payload, size);
  c->out_end += kFrameHeader + size;
}

static void put_window(struct connection* c, uint32_t increment) {
  const uint8_t bytes[4] = {increment >> 24, increment >> 16, increment >> 8, increment};
  put_frame(c, 4, WINDOW_UPDATE, 0, 0, bytes);
}

static size_t room(const struct connection* c) { return kOut - c->out_end; }

// Whether the answer is whole.
static int answer(struct connection* c, struct stream* s) {
  while (s->unsent > 0) {
    uint32_t part = s->unsent < kMaxFrame ? s->unsent : kMaxFrame;
    if (part > c->window) part = c->window > 0 ? (uint32_t)c->window : 0;
    if (part > s->window) part = s->window > 0 ? (uint32_t)s->window : 0;
    if (part == 0 || room(c) < part + 256) return 0;
    put_frame(c, part, DATA, 0, s->id, message + (message_size - s->unsent));
    s->unsent -= part;
    c->window -= part;
    s->window -= part;
  }
  put_frame(c, sizeof(kTrailers) - 1, HEADERS, END_HEADERS | END_STREAM, s->id, kTrailers);
  return 1;
}

static void answer_waiting(struct connection* c) {
  size_t kept = 0;
  for (size_t i = 0; i < c->stream_count; i++) {
    struct stream s = c->streams[i];
    if (!answer(c, &s)) c->streams[kept++] = s;
  }
  c->stream_count = kept;
}

static int begin_answer(struct connection* c, uint32_t id) {
  if (c->stream_count == kMaxStreams || room(c) < 512) return -1;
  struct stream s = {id, c->initial_window, message_size};
  put_frame(c, sizeof(kHead) - 1, HEADERS, END_HEADERS, id, kHead);
  if (!answer(c, &s)) c->streams[c->stream_count++] = s;
  return 0;
}

static int on_frame(struct connection* c, uint8_t type, uint8_t flags, uint32_t id, const uint8_t* payload, uint32_t size) {
  switch (type) {
    case DATA:
      c->consumed += size;
      return flags & END_STREAM ? begin_answer(c, id) : 0;
    case HEADERS:
      return flags & END_STREAM ? begin_answer(c, id) : 0;
    case RST_STREAM:
      for (size_t i = 0; i < c->stream_count; i++) {
        if (c->streams[i].id == id) c->streams[i] = c->streams[--c->stream_count];
      }
      return 0;
    case SETTINGS:
      if (flags & ACK) return 0;
      for (uint32_t i = 0; i + 6 <= size; i += 6) {
        if ((payload[i] << 8 | payload[i + 1]) != 4) continue;
        const int64_t initial = read32(payload + i + 2);
        for (size_t k = 0; k < c->stream_count; k++) c->streams[k].window += initial - c->initial_window;
        c->initial_window = initial;
      }
      put_frame(c, 0, SETTINGS, ACK, 0, NULL);
      return 0;
    case PING:
      if (!(flags & ACK)) put_frame(c, size, PING, ACK, 0, payload);
      return 0;
    case GOAWAY:
      return -1;
    case WINDOW_UPDATE:
      if (id == 0) c->window += read32(payload);
      for (size_t i = 0; id != 0 && i < c->stream_count; i++) {
        if (c->streams[i].id == id) c->streams[i].window += read32(payload);
      }
      return 0;
    default:
      return 0;
  }
}

static int flush(int fd, struct connection* c) {
  while (c->out_begin < c->out_end) {
    const ssize_t sent = send(fd, c->out + c->out_begin, c->out_end - c->out_begin, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) return -1;
      memmove(c->out, c->out + c->out_begin, c->out_end - c->out_begin);
      c->out_end -= c->out_begin;
      c->out_begin = 0;
      return 0;
    }
    c->out_begin += (size_t)sent;
  }
  c->out_begin = c->out_end = 0;
  return 0;
}

// One read's worth of frames; 1: there may be more to read.
static int take(int fd, struct connection* c) {
  const size_t wanted = kIn - c->in_size;
  const ssize_t got = recv(fd, c->in + c->in_size, wanted, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN)) return -1;
  if (got > 0) c->in_size += (size_t)got;
  size_t at = 0;
  if (!c->has_preface) {
    if (c->in_size < kPreface) return 0;
    c->has_preface = 1;
    at = kPreface;
    // MAX_CONCURRENT_STREAMS 1000, INITIAL_WINDOW_SIZE 1 MiB.
    static const uint8_t kSettings[] = {0, 3, 0, 0, 3, 232, 0, 4, 0, 16, 0, 0};
    put_frame(c, sizeof(kSettings), SETTINGS, 0, 0, kSettings);
    put_window(c, 1 << 24);
  }
  while (c->in_size - at >= kFrameHeader) {
    const uint8_t* header = c->in + at;
    const uint32_t size = (uint32_t)header[0] << 16 | header[1] << 8 | header[2];
    if (size > kMaxFrame) return -1;
    if (c->in_size - at < kFrameHeader + size) break;
    if (on_frame(c, header[3], header[4], read32(header + 5) & 0x7fffffff, header + kFrameHeader, size) != 0) return -1;
    at += kFrameHeader + size;
  }
  memmove(c->in, c->in + at, c->in_size - at);
  c->in_size -= at;
  return (size_t)(got > 0 ? got : 0) == wanted;
}

static int serve(int fd, struct connection* c) {
  int more;
  while ((more = take(fd, c)) > 0) continue;
  if (more < 0) return -1;
  if (c->consumed > 1 << 20) {
    put_window(c, c->consumed);
    c->consumed = 0;
  }
  answer_waiting(c);
  return flush(fd, c);
}

static void forget(int fd) {
  free(connections[fd]);
  connections[fd] = NULL;
  close(fd);
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const uint32_t body = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100;
  if (body + 5 > sizeof(message)) return 2;
  message_size = body + 5;
  memset(message, 'x', message_size);
  const uint8_t prefix[5] = {0, body >> 24, body >> 16, body >> 8, body};
  memcpy(message, prefix, sizeof(prefix));
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, epoll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (bind(listener, (struct sockaddr*)&name, sizeof(name)) != 0 || listen(listener, 1024) != 0) return 1;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    const int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd != listener) {
        if (serve(fd, connections[fd]) != 0) forget(fd);
        continue;
      }
      const int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (accepted < 0) continue;
      if (accepted >= kMaxFds || (connections[accepted] = calloc(1, sizeof(struct connection))) == NULL) {
        close(accepted);
        continue;
      }
      connections[accepted]->window = connections[accepted]->initial_window = 65535;
      event = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = accepted};
      epoll_ctl(epoll, EPOLL_CTL_ADD, accepted, &event);
    }
  }
}
