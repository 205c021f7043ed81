// Replays goldens/http2/*.txt through the whole engine, each whole, at every split into two pieces and byte by byte. Requests: an HTTP/2
// client says them, an HTTP/1 upstream hears what becomes of them and answers. Responses: an HTTP/2 upstream says them to what an HTTP/1
// client has asked. The clock stands still: nothing here is a timeout's doing.
#include <algorithm>
#include <unordered_map>

#include "golden_file.h"
#include "http2_loopback.h"
#include "http2_notation.h"

namespace weft::test {
namespace {

/// Replayed at once: each needs four sockets.
constexpr size_t kAtOnce = 100;
/// Of a loop that waits for what comes over the loopback at once, unless the machine is busy.
constexpr int kTurns = 2'000;
/// After the first failure, so that all are told soon.
constexpr int kTurnsOnceFailed = 20;
constexpr const char* kGoldens[] = {WEFT_GOLDENS "/http2/requests.txt", WEFT_GOLDENS "/http2/responses.txt"};

/// Sections: frames, what the upstream hears, what the client hears. Options: "raw": the frames are all that is said, else the preface and
/// SETTINGS come before them, in one piece; "upstream any": what it hears depends on how far the engine was when an error came; "asks
/// METHOD": of the HTTP/1 client.
struct Golden {
  std::string where, title, frames, upstream, client;
  std::string method = "GET";
  bool is_response = false;
  bool is_raw = false;
  bool any_upstream = false;
};

std::vector<Golden> load(const std::filesystem::path& file) {
  std::vector<Golden> goldens;
  for (const GoldenText& text : load_goldens(file)) {
    Golden golden = {text.where, text.title, text.section(0), text.section(1), text.section(2)};
    golden.is_response = file.stem() == "responses";
    for (const auto& [word, value] : text.options) {
      if (word == "raw") golden.is_raw = true;
      if (word == "upstream") golden.any_upstream = true;
      if (word == "asks") golden.method = value;
    }
    goldens.push_back(std::move(golden));
  }
  return goldens;
}

/// A socket of the test's and what it has heard.
struct Ear {
  int fd = -1;
  std::string bytes;
  bool ended = false;

  void read() {
    char room[8192];
    ssize_t count;
    while ((count = recv(fd, room, sizeof(room), MSG_DONTWAIT)) > 0) bytes.append(room, static_cast<size_t>(count));
    ended = ended || count == 0;
  }
  std::string http1_text(Side side, const std::string& method) const {
    TranscriptOptions options;
    options.side = side;
    options.request_method = http1::method_of(method);
    std::string text = transcript(http1::classify_function(http1::ScannerKind::kScalar), bytes, {}, options);
    const size_t date = text.find("field date: ");
    if (date != std::string::npos) text.erase(date, text.find('\n', date) + 1 - date);
    return ended ? text + "closed\n" : text;
  }
  std::string http2_text(http2::Role role) const {
    FrameTranscript frames(role);
    frames.feed(bytes);
    return frames.text() + (ended ? "closed\n" : "");
  }
};

struct Replay {
  std::string how;
  std::vector<std::string> pieces;
  Ear client;
  /// In the order in which they were opened.
  std::vector<Ear> upstreams;
};

class GoldenBench {
 public:
  explicit GoldenBench(const Golden& golden) : golden_(golden) {
    // Of all 127.0.0.0/8: each client has an endpoint of its own, by address.
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    upstream_listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    bind(upstream_listener_, reinterpret_cast<sockaddr*>(&any), sizeof(any));
    ::listen(upstream_listener_, 1024);
    EngineOptions options;
    options.clock_ns = [] { return uint64_t{1'000'000'000'000}; };
    options.counters = counters_;
    options.outstanding = outstanding_;
    options.outstanding_count = kAtOnce;
    reactor_ = std::make_unique<Reactor>(options, decide, this);
    TableSpec spec;
    spec.hosts = {"a.test"};
    spec.paths = {"/"};
    for (size_t i = 0; i < kAtOnce; i++) {
      EndpointSpec endpoint;
      endpoint.id = static_cast<int32_t>(i);
      endpoint.address = "127.1.0." + std::to_string(i + 1);
      endpoint.port = port_of(upstream_listener_, getsockname);
      endpoint.protocol = golden.is_response ? Protocol::kHttp2 : Protocol::kHttp1;
      spec.endpoints.push_back(endpoint);
    }
    std::string error;
    reactor_->use_tables(Tables::build(spec, &error));
    ListenerSpec listener;
    listener.id = 1;
    parse_address("127.0.0.1", &listener.address);
    listener.protocol = golden.is_response ? Protocol::kHttp1 : Protocol::kHttp2;
    port_ = static_cast<uint16_t>(reactor_->listen(listener, &error));
  }
  ~GoldenBench() { ::close(upstream_listener_); }

  void play() {
    const std::string bytes = FrameScript::bytes_of(golden_.frames);
    add("whole", {bytes});
    for (size_t cut = 1; cut < bytes.size(); cut++) add("cut at " + std::to_string(cut), {bytes.substr(0, cut), bytes.substr(cut)});
    play_together();
    std::vector<std::string> single;
    for (const char byte : bytes) single.emplace_back(1, byte);
    add("byte by byte", single);
    play_together();
  }

 private:
  template <typename Ask>
  static uint16_t port_of(int fd, Ask ask, in_addr* address = nullptr) {
    sockaddr_in name = {};
    socklen_t size = sizeof(name);
    ask(fd, reinterpret_cast<sockaddr*>(&name), &size);
    if (address != nullptr) *address = name.sin_addr;
    return ntohs(name.sin_port);
  }

  static bool decide(void* context) {
    auto* self = static_cast<GoldenBench*>(context);
    Batch& batch = self->reactor_->batch();
    for (int32_t i = 0; i < batch.size(); i++) {
      const int fd = self->reactor_->find(batch.pending(i).handle)->fd();
      Decision decision;
      decision.target = static_cast<int32_t>(self->by_port_[port_of(fd, getpeername)]);
      self->outstanding_[decision.target]++;
      memcpy(batch.memory() + Batch::layout().decisions + static_cast<size_t>(i) * sizeof(decision), &decision, sizeof(decision));
    }
    return true;
  }

  void add(const std::string& how, std::vector<std::string> pieces) {
    std::string opening = golden_.is_response ? "" : "PREFACE\n";
    opening = FrameScript::bytes_of(opening + "SETTINGS 0\n");
    if (!golden_.is_raw) pieces.insert(pieces.begin(), opening);
    replays_.push_back({how, std::move(pieces), {}, {}});
    if (replays_.size() == kAtOnce) play_together();
  }

  void play_together() {
    for (size_t i = 0; i < replays_.size(); i++) {
      replays_[i].client.fd = dial(port_);
      by_port_[port_of(replays_[i].client.fd, getsockname)] = i;
    }
    if (golden_.is_response) ask();
    for (size_t round = 0, most = 1; round < most; round++) {
      for (const Replay& replay : replays_) {
        most = std::max(most, replay.pieces.size());
        if (round < replay.pieces.size()) say(golden_.is_response ? replay.upstreams[0].fd : replay.client.fd, replay.pieces[round]);
      }
      settle();
    }
    if (!golden_.any_upstream) {
      expect("the upstream", golden_.upstream, [this](const Replay& replay) { return heard_by_upstream(replay); });
      if (!golden_.is_response) answer();
    }
    expect("the client", golden_.client, [this](const Replay& replay) { return heard_by_client(replay); });
    leave();
  }

  void ask() {
    const std::string body = golden_.method == "POST" ? "Content-Length: 4\r\n\r\nbody" : "\r\n";
    for (const Replay& replay : replays_) say(replay.client.fd, golden_.method + " /p HTTP/1.1\r\nHost: a.test\r\n" + body);
    const auto has_asked = [](const Replay& replay) {
      if (replay.upstreams.empty()) return false;
      FrameTranscript frames(http2::Role::kServer);
      frames.feed(replay.upstreams[0].bytes);
      return frames.has_request();
    };
    CHECK(wait([&] { return std::all_of(replays_.begin(), replays_.end(), has_asked); }));
  }

  void answer() {
    for (const Replay& replay : replays_) {
      for (const Ear& upstream : replay.upstreams) {
        const bool is_head = upstream.bytes.rfind("HEAD ", 0) == 0;
        say(upstream.fd, std::string("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") + (is_head ? "" : "ok"));
      }
    }
  }

  std::string heard_by_upstream(const Replay& replay) const {
    std::string text;
    for (const Ear& each : replay.upstreams)
      text += golden_.is_response ? each.http2_text(http2::Role::kServer) : each.http1_text(Side::kRequests, "");
    return text;
  }
  std::string heard_by_client(const Replay& replay) const {
    return golden_.is_response ? replay.client.http1_text(Side::kResponses, golden_.method)
                               : replay.client.http2_text(http2::Role::kClient);
  }

  template <typename Text>
  void expect(const char* who, const std::string& expected, Text text) {
    const auto is_right = [&](const Replay& replay) { return text(replay) == expected; };
    wait([&] { return std::all_of(replays_.begin(), replays_.end(), is_right); });
    // Nothing more comes.
    settle();
    hear();
    for (const Replay& replay : replays_) {
      if (is_right(replay)) continue;
      return fail(golden_.where.c_str(), 0,
                  golden_.title + " (" + replay.how + ")\n--- heard by " + who + "\n" + text(replay) + "--- expected\n" + expected);
    }
  }

  static void say(int fd, const std::string& bytes) { (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  void hear() {
    in_addr address = {};
    for (int fd; (fd = accept4(upstream_listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      send_at_once(fd);
      port_of(fd, getsockname, &address);
      replays_[(ntohl(address.s_addr) & 0xff) - 1].upstreams.push_back({fd, {}, false});
    }
    for (Replay& replay : replays_) {
      replay.client.read();
      for (Ear& upstream : replay.upstreams) upstream.read();
    }
  }
  void settle() {
    while (reactor_->run_once(0) != 0) {
    }
  }
  template <typename Done>
  bool wait(Done done) {
    for (int turn = 0; turn < (failures == 0 ? kTurns : kTurnsOnceFailed); turn++) {
      settle();
      hear();
      if (done()) return true;
      reactor_->run_once(1);
    }
    return false;
  }

  void leave() {
    for (const Replay& replay : replays_) {
      ::close(replay.client.fd);
      for (const Ear& upstream : replay.upstreams) ::close(upstream.fd);
    }
    replays_.clear();
    by_port_.clear();
    const auto open = [&](Counter which) { return counters_[static_cast<size_t>(which)]; };
    CHECK(wait([&] { return open(Counter::DownstreamOpen) == 0 && open(Counter::UpstreamOpen) == 0; }));
    CHECK_EQ(open(Counter::Http2StreamsOpen), 0.0);
    for (const int32_t left : outstanding_) CHECK_EQ(left, 0);
  }

  const Golden& golden_;
  double counters_[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding_[kAtOnce] = {};
  std::unique_ptr<Reactor> reactor_;
  int upstream_listener_ = -1;
  uint16_t port_ = 0;
  std::vector<Replay> replays_;
  std::unordered_map<uint16_t, size_t> by_port_;
};

TEST("HTTP/2 goldens: the engine hears and says the same at every byte split, as a server and as a client") {
  size_t count = 0;
  for (const char* file : kGoldens) {
    for (const Golden& golden : load(file)) {
      count++;
      GoldenBench(golden).play();
    }
  }
  CHECK(count >= 50);
  printf("%zu HTTP/2 goldens\n", count);
}

}  // namespace
}  // namespace weft::test
