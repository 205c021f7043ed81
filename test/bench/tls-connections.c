// Opens TLS 1.3 connections without end, each with a full handshake: no session is offered, and one that was resumed is a fault. On each
// one request with "Connection: close", read until the server has closed. So many at once, a thread each.
// Usage: tls-connections PORT HOST CONCURRENT SECONDS. Prints one JSON line: {"count","resumed","faults"}. The certificate is not verified.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMaxConcurrent = 1024 };

static SSL_CTX* context;
static struct sockaddr_in server;
static const char* host;
static char request[512];
static uint64_t end_ns;
static atomic_ulong count, resumed, faults;

static uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec;
}

// False: no whole answer with status 200.
static int exchange(SSL* ssl) {
  char answer[4096];
  const int size = (int)strlen(request);
  if (SSL_connect(ssl) != 1 || SSL_version(ssl) != TLS1_3_VERSION || SSL_write(ssl, request, size) != size) return 0;
  int total = 0, got;
  while ((got = SSL_read(ssl, answer + total, (int)sizeof(answer) - total)) > 0) total += got;
  // Ended by close_notify, not cut.
  return total > 12 && strncmp(answer, "HTTP/1.1 200", 12) == 0 && SSL_get_error(ssl, got) == SSL_ERROR_ZERO_RETURN;
}

static void* run(void* argument) {
  (void)argument;
  while (now_ns() < end_ns) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (struct sockaddr*)&server, sizeof(server)) != 0) {
      perror("connect");
      exit(1);
    }
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, host);
    if (!exchange(ssl)) faults++;
    if (SSL_session_reused(ssl)) resumed++;
    count++;
    SSL_free(ssl);
    close(fd);
  }
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 5 || atoi(argv[3]) > kMaxConcurrent) return 2;
  signal(SIGPIPE, SIG_IGN);
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  host = argv[2];
  snprintf(request, sizeof(request), "GET /item HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  end_ns = now_ns() + (uint64_t)(atof(argv[4]) * 1e9);
  const int concurrent = atoi(argv[3]);
  pthread_t threads[kMaxConcurrent];
  for (int i = 0; i < concurrent; i++) pthread_create(&threads[i], NULL, run, NULL);
  for (int i = 0; i < concurrent; i++) pthread_join(threads[i], NULL);
  printf("{\"count\":%lu,\"resumed\":%lu,\"faults\":%lu}\n", count, resumed, faults);
  return 0;
}
