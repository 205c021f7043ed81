// See dns_listener.h.
#include "core/dns_listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "core/reactor.h"
#include "core/sniff/dns.h"
#include "core/socket.h"

namespace weft {

namespace {

constexpr int kQueriesPerTurn = 32;
// Of what is understood and of what is passed on: the largest that EDNS names, and more than any query is.
constexpr size_t kMaxQuery = 4096;

}  // namespace

int DnsListener::open(const Address& address, uint16_t port) { return open_datagram_listener({address, port}, kMarkValueDeliver); }

void DnsListener::on_events(uint32_t) { on_resume(); }

void DnsListener::on_resume() {
  for (int i = 0; i < kQueriesPerTurn; i++) {
    if (!serve_one()) return;
  }
  reactor_->resume_later(this);
}

void DnsListener::stop() {
  for (int i = 0; i < kQueriesPerTurn && serve_one(); i++) {
  }
  reactor_->close(this);
}

bool DnsListener::serve_one() {
  uint8_t query[kMaxQuery];
  Peer client, resolver;
  const ssize_t size = receive_datagram(fd_, query, sizeof(query), &client, &resolver);
  // Also for what an earlier answer met: port unreachable, and the like.
  if (size < 0) return errno != EAGAIN;
  Counters& counters = reactor_->counters();
  counters.add(Counter::DnsQueries);
  DnsQuestion question;
  const std::vector<Address>* addresses = nullptr;
  if (parse_dns_question(query, static_cast<size_t>(size), &question)) addresses = reactor_->tables()->addresses_of(question.name());
  if (addresses != nullptr) {
    uint8_t answer[kMaxDnsAnswer];
    const size_t answer_size = write_dns_answer(query, question, *addresses, answer);
    const bool is_sent = send_datagram(fd_, answer, answer_size, client, resolver.address);
    counters.add(is_sent ? Counter::DnsAnswered : Counter::DnsFailures);
  } else {
    const bool is_sent = static_cast<size_t>(size) <= sizeof(query) &&
                         forward_datagram(query, static_cast<size_t>(size), client, resolver, kMarkValueInject);
    counters.add(is_sent ? Counter::DnsForwarded : Counter::DnsFailures);
  }
  const TenantId tenant = TenantScheduler::checked(reactor_->tables()->source_tenant(reactor_->tables()->source(client.address)));
  reactor_->charge(tenant);
  return true;
}

}  // namespace weft
