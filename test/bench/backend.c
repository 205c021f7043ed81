// A backend that costs next to nothing: answers every HTTP/1.1 request without a body with a fixed 100-byte one. One thread, epoll.
// Usage: backend PORT COUNT (listens on 127.0.0.1, ports PORT … PORT+COUNT-1). Prints "ready".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kMaxFds = 65536, kMaxBatch = 64 };
// How much of "\r\n\r\n" each connection has seen.
static unsigned char seen[kMaxFds];
static unsigned char is_listener[kMaxFds];

static int serve(int fd, const char* answer, size_t length, char* out) {
  char in[65536];
  const ssize_t got = recv(fd, in, sizeof(in), 0);
  if (got == 0) return -1;
  if (got < 0) return errno == EAGAIN ? 0 : -1;
  int requests = 0;
  for (ssize_t i = 0; i < got; i++) {
    const char expected = seen[fd] % 2 == 0 ? '\r' : '\n';
    seen[fd] = in[i] == expected ? seen[fd] + 1 : in[i] == '\r' ? 1 : 0;
    if (seen[fd] < 4) continue;
    seen[fd] = 0;
    if (requests < kMaxBatch) memcpy(out + requests++ * length, answer, length);
  }
  // Answers are small and the peer reads: the socket buffer always has room for a batch.
  if (requests > 0 && send(fd, out, requests * length, MSG_NOSIGNAL) != (ssize_t)(requests * length)) return -1;
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  char body[101];
  memset(body, 'x', 100);
  body[100] = 0;
  char answer[512];
  const size_t length =
      snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n%s", body);
  char* out = malloc(kMaxBatch * length);
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
        if (serve(fd, answer, length, out) != 0) close(fd);
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
      epoll_ctl(poll, EPOLL_CTL_ADD, client, &(struct epoll_event){.events = EPOLLIN, .data.fd = client});
    }
  }
}
