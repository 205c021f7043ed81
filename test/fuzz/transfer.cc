// Whole exchanges between ends that keep the rules: HTTP/1, HTTP/2 and TLS clients, HTTP/1 and HTTP/2 servers, a reactor between them. The
// input is the schedule: who asks, sends or hears how much and when, who resets, half-closes or says GOAWAY, when the configuration changes
// and time passes. Whatever it is: every byte of every body arrives once and in order, what looks whole is whole, an answer is its own
// request's, an exchange that nobody spoiled succeeds, and once everybody goes on, every exchange ends with no timeout's help. Time is the
// input's alone. (Ends that break the rules: exchange.cc.)
#include <signal.h>
#include <sys/socket.h>

#include <deque>
#include <vector>

#include "loopback.h"
#include "tls_pki.h"
#include "transfer_http1.h"
#include "transfer_http2.h"

using namespace weft;
using namespace weft::fuzz;

namespace {

constexpr size_t kClients = 4;
constexpr size_t kSteps = 256;
constexpr size_t kExchanges = 64;
/// What is under way ends within as many turns where the kernel delivers at once; on a busy machine it is late, and the turns after them
/// wait.
constexpr int kQuickTurns = 2'000;
constexpr int kLastTurns = kQuickTurns + 5'000;
constexpr int kPatienceMs = 1;
/// In which a server's last words are sent, unless the proxy is to leave them unread.
constexpr int kTellTurns = 50;
constexpr uint32_t kRefill = 10'000;
/// Beyond every limit of the bench's.
constexpr uint64_t kLongNs = 200'000'000'000;

uint64_t clock_ns = 0;

/// One certificate for all runs.
struct Pki {
  std::shared_ptr<const ListenerTls> server;
  /// By protocol: HTTP/1, HTTP/2.
  EndpointTls clients[2];
  Pki() {
    const test::Authority authority;
    const test::Leaf leaf = authority.leaf("DNS:a.test");
    TlsContextSpec spec;
    std::string error;
    spec.certificates = {{{}, leaf.chain, leaf.key}};
    spec.alpn = {"h2", "http/1.1"};
    server = std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(spec, &error)});
    TlsContextSpec client_spec;
    client_spec.role = TlsRole::kClient;
    client_spec.trust = authority.pem();
    for (int i = 0; i < 2; i++) {
      client_spec.alpn = {spec.alpn[1 - i]};
      clients[i] = EndpointTls{TlsContext::build(client_spec, &error), "a.test", {}, 0};
      clients[i].set_key();
    }
  }
};

class World {
 public:
  World(const uint8_t* data, size_t size) : data_(data), size_(size) {
    EngineOptions options;
    options.clock_ns = [] { return clock_ns; };
    options.limits.max_buffered_bytes = 8192;
    options.limits.max_head_bytes = 4096;
    options.counters = counters_;
    options.outstanding = outstanding_;
    options.outstanding_count = 4;
    reactor_ = std::make_unique<Reactor>(options, decide, this);
    for (int i = 0; i < 2; i++) {
      upstream_listeners_[i] = test::bound_socket(&upstream_ports_[i]);
      ::listen(upstream_listeners_[i], 64);
    }
    configure(0);
    port_ = listen(1, nullptr);
    tls_port_ = listen(2, pki().server);
    events_.find = [this](uint32_t id) { return id < exchanges_.size() ? &exchanges_[id] : nullptr; };
    events_.on_outcome = [this](Transfer* exchange, int status, size_t bytes) { judge(exchange, status, bytes); };
  }
  ~World() {
    for (const int fd : upstream_listeners_) ::close(fd);
  }

  void run() {
    for (size_t step = 0; step < kSteps && at_ < size_; step++) {
      act();
      collect();
    }
    settle();
    for (auto& client : clients_) {
      if (client != nullptr) client->wire.reset();
    }
    for (auto& server : servers_) server->wire.reset();
    for (int i = 0; i < kLastTurns && reactor_->open_downstream() != 0; i++) turn(i < kQuickTurns ? 0 : kPatienceMs);
    require(reactor_->open_downstream() == 0, "no client connection outlives its client");
    clock_ns += 1'000'000'000;
    turn();
    require(decided_ == completed_, "one completion a decision");
    require(counter(Counter::Requests) == static_cast<double>(ended_), "one end an exchange");
    reactor_->close();
    for (const int32_t left : outstanding_) require(left == 0, "outstanding is given back exactly once");
    for (const Counter gauge : {Counter::DownstreamOpen, Counter::UpstreamOpen, Counter::Http2StreamsOpen})
      require(counter(gauge) == 0, "gauges return to 0");
  }

 private:
  static const Pki& pki() {
    static const Pki pki;
    return pki;
  }
  double counter(Counter which) const { return counters_[static_cast<size_t>(which)]; }
  uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }

  /// The same endpoints in every generation: nothing under way may notice.
  void configure(uint8_t generation) {
    TableSpec spec;
    spec.hosts = {"a.test", "b" + std::to_string(generation) + ".test"};
    spec.paths = {"/", "/" + std::to_string(generation)};
    for (int32_t i = 0; i < 2; i++) {
      EndpointSpec endpoint;
      endpoint.id = i;
      endpoint.address = "127.0.0.1";
      endpoint.port = upstream_ports_[i];
      endpoint.protocol = i == 0 ? Protocol::kHttp1 : Protocol::kHttp2;
      spec.endpoints.push_back(endpoint);
    }
    std::string error;
    reactor_->use_tables(Tables::build(spec, &error));
  }
  uint16_t listen(int32_t id, std::shared_ptr<const ListenerTls> tls) {
    ListenerSpec spec;
    spec.id = id;
    parse_address("127.0.0.1", &spec.address);
    spec.protocol = Protocol::kHttp;
    spec.tls = std::move(tls);
    std::string error;
    return static_cast<uint16_t>(reactor_->listen(spec, &error));
  }

  static bool decide(void* context) {
    auto* self = static_cast<World*>(context);
    uint8_t* memory = self->reactor_->batch().memory();
    const Batch::Layout at = Batch::layout();
    const auto* header = reinterpret_cast<int32_t*>(memory + at.header);
    const auto* completions = reinterpret_cast<const Completion*>(memory + at.completions);
    for (int32_t i = 0; i < header[static_cast<int32_t>(HeaderWord::CompletionCount)]; i++) {
      // An exchange that ends while it waits for another decision names no target: its attempt was completed before.
      self->completed_ += completions[i].target != kTargetOriginal ? 1 : 0;
      self->ended_ += completions[i].kind == CompletionKind::Ended ? 1 : 0;
    }
    self->decided_ += static_cast<uint64_t>(header[0]);
    for (int32_t i = 0; i < header[0]; i++) {
      Decision decision;
      decision.target = static_cast<int32_t>(self->choice_++ >> 1 & 1);
      decision.flags = kRetry;
      self->outstanding_[decision.target]++;
      memcpy(memory + at.decisions + static_cast<size_t>(i) * sizeof(decision), &decision, sizeof(decision));
    }
    return true;
  }

  void judge(Transfer* exchange, int status, size_t bytes) {
    require(!exchange->over, "an exchange ends once");
    exchange->over = true;
    const size_t whole = exchange->is_head ? 0 : exchange->down_size;
    if (status == 200) return require(bytes == whole, "an answer that looks whole is whole");
    if (!exchange->spoiled) fprintf(stderr, "exchange %u: status %d\n", exchange->id, status);
    require(exchange->spoiled, "an exchange that nobody spoiled succeeds");
  }

  void spoil_all() {
    for (Transfer& exchange : exchanges_) exchange.spoiled = true;
  }
  /// A connection that was treated badly: what is on it is spoiled, and what it will be asked.
  static void taint(End& end) {
    end.tainted = true;
    for (Transfer* exchange : end.open()) exchange->spoiled = true;
  }

  /// An exchange that its server gives up may cost an HTTP/1 client the connection, and what it asked behind it.
  void taint_http1_behind_spoiled() {
    for (size_t i = 0; i < kClients; i += 2) {
      if (clients_[i] == nullptr) continue;
      for (const Transfer* exchange : clients_[i]->open()) {
        if (!exchange->spoiled) continue;
        taint(*clients_[i]);
        break;
      }
    }
  }

  void turn(int wait_ms = 0) {
    reactor_->run_once(wait_ms);
    for (int i = 0; i < 2; i++) {
      const int fd = accept4(upstream_listeners_[i], nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) continue;
      if (i == 0) {
        servers_.push_back(std::make_unique<Http1Server>(fd, events_));
      } else {
        servers_.push_back(std::make_unique<Http2End>(fd, events_, http2::Role::kServer, choice_));
      }
    }
  }
  /// Ends that have seen the end leave; a server after its last word.
  void collect() {
    for (auto& client : clients_) {
      if (client != nullptr && client->is_over()) client.reset();
    }
    std::erase_if(servers_, [](const auto& server) { return server->is_over() && (server->wire.broken || server->wire.is_idle()); });
  }

  End& client(size_t index) {
    auto& client = clients_[index];
    if (client != nullptr) return *client;
    const bool tls = index >= 2;
    const int fd = test::Peer1::dial(tls ? tls_port_ : port_);
    const EndpointTls* endpoint = tls ? &pki().clients[index % 2] : nullptr;
    if (index % 2 == 0) {
      client = std::make_unique<Http1Client>(fd, events_, endpoint);
    } else {
      client = std::make_unique<Http2End>(fd, events_, http2::Role::kClient, choice_, endpoint);
    }
    return *client;
  }
  End* server(size_t index) { return servers_.empty() ? nullptr : servers_[index % servers_.size()].get(); }

  static uint32_t size_of(uint8_t choice) {
    static const uint32_t sizes[] = {0, 1, 5, 100, 4096, 8192, 8193, 20'000, 65'535, 70'001};
    return choice < 10 ? sizes[choice] : choice < 128 ? 0 : (choice - 128u) * 97;
  }

  void ask(size_t index) {
    const uint8_t up = byte(), down = byte(), up_size = byte(), down_size = byte();
    if (exchanges_.size() >= kExchanges || !client(index).may_ask()) return;
    Transfer exchange;
    exchange.id = static_cast<uint32_t>(exchanges_.size());
    exchange.up = up;
    exchange.down = down;
    exchange.up_size = size_of(up_size);
    exchange.down_size = size_of(down_size);
    exchange.is_head = exchange.up_size == 0 && (up & 16) != 0;
    exchanges_.push_back(exchange);
    client(index).ask(&exchanges_.back());
  }

  void act() {
    const uint8_t verb = byte();
    const size_t who = verb >> 4;
    if ((verb & 15) <= 2) return ask(who % kClients);
    const uint8_t detail = byte();
    const size_t amount = detail < 32 ? detail + 1u : detail * 256u;
    End* near = clients_[who % kClients].get();
    End* far = server(who);
    switch (verb & 15) {
      case 3:
        return near == nullptr ? void() : near->push(amount);
      case 4:
        return near == nullptr ? void() : near->pull(amount);
      case 5:
        return far == nullptr ? void() : far->push(amount);
      case 6:
        return far == nullptr ? void() : far->pull(amount);
      case 7:
        return near == nullptr ? void() : near->open_windows(detail * 64u);
      case 8:
        return far == nullptr ? void() : far->open_windows(detail * 64u);
      case 9:
        return near == nullptr ? void() : maltreat_client(*near, detail);
      case 10:
        return far == nullptr ? void() : maltreat_server(*far, detail);
      case 11:
        return pass_time(detail);
      case 12:
        return configure(detail);
      case 13:
        choice_ = detail;
        return;
      default:
        for (int i = 0; i < detail % 8 + 1; i++) turn();
        return;
    }
  }

  void maltreat_client(End& end, uint8_t detail) {
    if (detail % 4 == 1 && end.reset_one(detail >> 2)) return;
    taint(end);
    if (detail % 4 == 0) end.wire.reset();
    if (detail % 4 != 0) end.wire.finishes = true;
  }
  void maltreat_server(End& end, uint8_t detail) {
    if (detail % 4 == 1 && end.reset_one(detail >> 2)) return taint_http1_behind_spoiled();
    // What is on its way to it is not known.
    spoil_all();
    taint_http1_behind_spoiled();
    if (detail % 4 == 0) end.wire.reset();
    if (detail % 4 == 2) end.refuse_more();
    if (detail % 4 == 3) end.wire.finishes = true;
    // From now on the proxy knows: what stands before it may be more than the socket takes at once.
    for (int i = 0; i < kTellTurns && (i == 0 || !end.wire.is_idle()); i++) {
      end.push(1 << 20);
      turn();
    }
  }
  void pass_time(uint8_t detail) {
    if (detail < 128) {
      clock_ns += detail * 1'000'000u;
      return;
    }
    clock_ns += kLongNs;
    spoil_all();
    for (auto& client : clients_) {
      if (client != nullptr) taint(*client);
    }
    turn();
    turn();
  }

  /// Everybody goes on, and the clock stands still: whatever is under way ends.
  void settle() {
    for (int i = 0; i < kLastTurns; i++) {
      const auto move = [](End& end) {
        end.refill(kRefill);
        end.push(1 << 20);
        end.pull(65536);
      };
      for (auto& client : clients_) {
        if (client != nullptr) move(*client);
      }
      for (auto& server : servers_) move(*server);
      turn(i < kQuickTurns ? 0 : kPatienceMs);
      collect();
      bool left = false;
      for (const Transfer& exchange : exchanges_) left = left || !exchange.over;
      if (!left) return;
    }
    for (const Transfer& exchange : exchanges_) {
      if (!exchange.over) fprintf(stderr, "exchange %u is stuck\n", exchange.id);
    }
    require(false, "every exchange ends once everybody goes on");
  }

  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
  double counters_[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding_[4] = {};
  uint16_t upstream_ports_[2] = {};
  int upstream_listeners_[2] = {-1, -1};
  uint16_t port_ = 0;
  uint16_t tls_port_ = 0;
  uint64_t decided_ = 0;
  uint64_t completed_ = 0;
  uint64_t ended_ = 0;
  uint8_t choice_ = 0;
  EndEvents events_;
  std::deque<Transfer> exchanges_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<End> clients_[kClients];
  std::vector<std::unique_ptr<End>> servers_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool once = signal(SIGPIPE, SIG_IGN) != SIG_ERR;
  (void)once;
  clock_ns = 1'000'000'000'000;
  World(data, size).run();
  return 0;
}
