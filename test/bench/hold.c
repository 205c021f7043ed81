// Holds idle keep-alive connections: opens them, sends one request on each, reads the answer, prints "ready", and waits for SIGTERM.
// Usage: hold PORT HOST COUNT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int exchange(int port, const char* request) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(fd, (struct sockaddr*)&name, sizeof(name)) != 0) return -1;
  if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) return -1;
  char answer[16384];
  size_t have = 0;
  while (have < sizeof(answer) - 1) {
    const ssize_t got = recv(fd, answer + have, sizeof(answer) - 1 - have, 0);
    if (got <= 0) return -1;
    have += (size_t)got;
    answer[have] = 0;
    const char* end = strstr(answer, "\r\n\r\n");
    const char* length = strcasestr(answer, "\r\ncontent-length:");
    if (end != NULL && length != NULL && have >= (size_t)(end + 4 - answer) + (size_t)atol(length + 17)) break;
  }
  return strncmp(answer, "HTTP/1.1 200", 12) == 0 ? fd : -1;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  char request[512];
  snprintf(request, sizeof(request), "GET /svc0/item HTTP/1.1\r\nHost: %s\r\n\r\n", argv[2]);
  for (int i = 0; i < atoi(argv[3]); i++) {
    if (exchange(atoi(argv[1]), request) >= 0) continue;
    fprintf(stderr, "connection %d got no answer\n", i);
    return 1;
  }
  puts("ready");
  fflush(stdout);
  pause();
  return 0;
}
