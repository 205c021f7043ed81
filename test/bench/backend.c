// A backend that costs next to nothing: answers every HTTP/1.1 request without a body with a fixed one. One thread, epoll.
// Usage: backend PORT COUNT [BODY_BYTES|none] (listens on 127.0.0.1, ports PORT … PORT+COUNT-1; 100 bytes by default; none: it takes
// all that comes and never answers). Prints "ready".
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

enum { kMaxFds = 65536, kMaxBatch = 64, kEnough = 64 * 1024 };
// How much of "\r\n\r\n" each connection has seen, and the bytes of answers it has not been sent yet.
static unsigned char seen[kMaxFds];
static uint64_t owed[kMaxFds];
static unsigned char waits_for_room[kMaxFds];
static unsigned char is_listener[kMaxFds];
static int never_answers;

// `answers`: several whole ones in a row, `length` each, `size` in all.
static int pay(int fd, const char* answers, size_t length, size_t size) {
  while (owed[fd] > 0) {
    const size_t from = (length - owed[fd] % length) % length;
    const size_t room = size - from;
    const ssize_t sent = send(fd, answers + from, owed[fd] < room ? owed[fd] : room, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    owed[fd] -= (uint64_t)sent;
  }
  return 0;
}

static int serve(int fd, size_t length) {
  char in[65536];
  // MSG_TRUNC: nothing is copied.
  const ssize_t got = recv(fd, in, sizeof(in), never_answers ? MSG_TRUNC : 0);
  if (got == 0) return -1;
  if (got < 0) return errno == EAGAIN ? 0 : -1;
  if (never_answers) return 0;
  for (ssize_t i = 0; i < got; i++) {
    const char expected = seen[fd] % 2 == 0 ? '\r' : '\n';
    seen[fd] = in[i] == expected ? seen[fd] + 1 : in[i] == '\r' ? 1 : 0;
    if (seen[fd] < 4) continue;
    seen[fd] = 0;
    owed[fd] += length;
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  never_answers = argc > 3 && strcmp(argv[3], "none") == 0;
  const size_t body = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  char head[256];
  const size_t head_size = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
  const size_t length = head_size + body;
  const size_t batch = length < kEnough ? (kEnough / length < kMaxBatch ? kEnough / length : kMaxBatch) : 1;
  char* answers = malloc(batch * length);
  for (size_t i = 0; i < batch; i++) {
    memcpy(answers + i * length, head, head_size);
    memset(answers + i * length + head_size, 'x', body);
  }
  const int poll = epoll_create1(0);
  for (int i = 0; i < atoi(argv[2]); i++) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]) + i), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr*)&name, sizeof(name)) != 0 || listen(fd, 1024) != 0) {
      perror("bind");
      return 1;
    }
    is_listener[fd] = 1;
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    const int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (!is_listener[fd]) {
        if (serve(fd, length) != 0 || pay(fd, answers, length, batch * length) != 0) {
          close(fd);
        } else if ((owed[fd] > 0) != waits_for_room[fd]) {
          waits_for_room[fd] = owed[fd] > 0;
          const uint32_t wanted = waits_for_room[fd] ? EPOLLIN | EPOLLOUT : EPOLLIN;
          epoll_ctl(poll, EPOLL_CTL_MOD, fd, &(struct epoll_event){.events = wanted, .data.fd = fd});
        }
        continue;
      }
      const int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
      if (client < 0) continue;
      if (client >= kMaxFds) {
        close(client);
        continue;
      }
      const int on = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      seen[client] = 0;
      owed[client] = 0;
      waits_for_room[client] = 0;
      epoll_ctl(poll, EPOLL_CTL_ADD, client, &(struct epoll_event){.events = EPOLLIN, .data.fd = client});
    }
  }
}
