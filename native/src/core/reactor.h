// One thread's engine: epoll, the connections, the batch, the pools, the timers. run_once() is one tick:
// epoll → events into their tenants' queues → timers → turns in the scheduler's order (receive, parse, descriptors) → decide() → execute
// → further turns while there is time → flush → free what was closed. Turns and flushes that are left wait for the next tick.
// Knows no N-API and no libuv; a foreign descriptor may stand in its epoll set (see watch()).
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/access_log.h"
#include "core/batch.h"
#include "core/bpf_maps.h"
#include "core/connection.h"
#include "core/connection_limits.h"
#include "core/counters.h"
#include "core/deferrals.h"
#include "core/ended_call.h"
#include "core/hop_lines.h"
#include "core/http_exchange.h"
#include "core/listener.h"
#include "core/namespace_sockets.h"
#include "core/options.h"
#include "core/overload.h"
#include "core/slab.h"
#include "core/snapshot.h"
#include "core/tenant_accounts.h"
#include "core/tenant_scheduler.h"
#include "core/timer_wheel.h"
#include "core/upstream_pool.h"

namespace weft {

// For logs: why a connection came to nothing.
struct FailureNote {
  // Static.
  const char* reason = "";
  bool downstream = false;
  Peer peer;
  // Where a downstream peer wanted to go.
  Peer local;
  // OpenSSL's reason, or ours.
  std::string text;
};

// The last since the last call, at most kMost of each kind: the counters have them all.
struct FailureNotes {
  static constexpr size_t kMost = 64;
  std::vector<FailureNote> tls;
  std::vector<FailureNote> proxy_headers;
};

struct SharedListener {
  int32_t id = 0;
  // -1: in no pod.
  int64_t pod = -1;
  // -1: not registered.
  int64_t sockmap_key = -1;
  int fd = -1;
};

class Reactor {
 public:
  // Fills every decision of the batch; false if it could not. May call close().
  using Decide = bool (*)(void* context);

  static constexpr size_t kReadScratch = 256 * 1024;
  static constexpr size_t kHeadScratch = 160 * 1024;
  // Bodies up to this are copied behind their head: one range is cheaper to send than two.
  static constexpr size_t kCopyBelow = 8 * 1024;

  Reactor(const EngineOptions& options, Decide decide, void* context);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  // What the constructor could not do (heartbeat map, access log memory); empty if all is well.
  const std::string& start_error() const { return start_error_; }

  // The port, or -errno with the failing step in `error`.
  int listen(const ListenerSpec& spec, std::string* error);
  // Goes on with a socket that another process opened and registered as the spec says; it is the reactor's, whatever comes of it.
  // Both accept from it as long as both have it open. Result as of listen().
  int adopt_listener(const ListenerSpec& spec, int fd, std::string* error);
  // Duplicates, the caller's to close, of all listening sockets.
  std::vector<SharedListener> share_listeners() const;
  // Its waiting connections are accepted first; all of them leave with their next answer.
  void unlisten(int32_t id);
  // Nothing of the pod's namespace is held any more: its listeners close, and its connections are reset.
  void leave_pod(int64_t key);
  void use_tables(std::shared_ptr<const Tables> tables);
  // Accepts no more, has clients leave with their next answer, and closes connections that stay idle for `idle_ms`.
  void drain(uint32_t idle_ms);
  // In force until the next call. Each call at ShrinkIdle or above closes some of the connections that rest: call it again and again.
  void set_overload(OverloadLevel level, OverloadReason reason);
  // Closes every socket, and tells decide() what had not ended as well: Reason::LocalReset. Within decide(): when that has returned.
  // Idempotent.
  void close();
  // The listener's next connections use it; those that are open keep what they began with, and leave with their next answer where clients
  // are let in otherwise now. False: no such listener.
  bool set_listener(int32_t id, const ListenerSettings& settings);
  FailureNotes take_failures() { return std::exchange(failures_, {}); }
  bool is_closed() const { return closed_; }
  uint32_t open_downstream() const { return open_downstream_; }

  // Wakes run_once() when `fd` is readable; watched_ready() then says so until the next tick. -1: none.
  bool watch(int fd) { return watch(fd, kWatched); }
  bool watched_ready() const { return watched_ready_; }
  // Waits at most `timeout_ms` (-1: as long as nothing happens). Returns the events handled.
  int run_once(int timeout_ms);
  // Whether the last tick called decide().
  bool decided() const { return decided_; }

  // For connections.
  const EngineOptions& options() const { return options_; }
  // In use once a listener for host processes is open.
  const HostFlows& host_flows() const { return host_flows_; }
  const EngineLimits& limits() const { return options_.limits; }
  static constexpr uint32_t kLeastBufferBytes = 16 * 1024;
  // What may wait for one slow reader of that tenant now; at most limits().max_buffered_bytes.
  uint32_t buffer_bytes(TenantId tenant) const {
    return buffers_are_full(tenant) ? std::min(buffer_bytes_, kLeastBufferBytes) : buffer_bytes_;
  }
  bool buffers_are_full(TenantId tenant) const {
    return accounts_.has_reached(tenant, TenantWord::BufferedBytes, limits().max_tenant_buffered_bytes);
  }
  // Of its queues.
  double* buffer_account(TenantId tenant) { return accounts_.word_of(tenant, TenantWord::BufferedBytes); }
  // One that drains takes what waits: nobody else will.
  bool accepts() const { return overload_ < OverloadLevel::StopAcceptingConnections || draining_; }
  bool accepts_requests() const { return overload_ < OverloadLevel::StopAcceptingRequests; }
  OverloadReason overload_reason() const { return overload_reason_; }
  void note_shed(Shed what, OverloadReason why) { counters_.add(shed_counter(what, why)); }
  // Whether nobody may keep the part of a head that has come, for the whole one would be refused; then it is counted as that.
  // `beside_others`: on its connection something is under way, which only its own tenant may be made to pay for.
  bool refuses_part_of_head(TenantId tenant, bool beside_others);
  // Out of descriptors: takes a connection from the listening socket and closes it. False, with errno: none was taken.
  bool refuse_connection(int listener);
  http1::HeadLimits head_limits() const { return {limits().max_head_bytes, limits().max_headers}; }
  Counters& counters() { return counters_; }
  TenantAccounts& tenants() { return accounts_; }
  UpstreamPool& pool() { return pool_; }
  Batch& batch() { return batch_; }
  // For one request more.
  bool has_batch_room() const { return batch_.has_room(tables_->match_words()); }
  // Puts the item's decision off. False: as many as may wait already do, or the token is no free one.
  bool defer(Deferrable* item, const Decision& decision);
  void end_deferral(Deferrable* item);
  // The request whose decision is put off under that token; null: it waits no more, or is none.
  HttpExchange* deferred(int32_t token) const;
  // Until when a deferred decision may take, ms.
  uint64_t deferral_deadline_ms(const Decision& decision) const;
  // Copies of requests that are under way.
  uint32_t mirrors() const { return mirrors_; }
  void count_mirrors(int32_t change) { mirrors_ += static_cast<uint32_t>(change); }
  // Calls of TypeScript's that are under way; those that have ended wait for the next batch.
  uint32_t calls() const { return calls_; }
  void count_calls(int32_t change) { calls_ += static_cast<uint32_t>(change); }
  void end_call(EndedCall call) {
    ended_calls_.push_back(std::move(call));
    completion_is_urgent_ = true;
  }
  std::vector<EndedCall> take_ended_calls() { return std::exchange(ended_calls_, {}); }
  Arena& arena() { return batch_.arena(); }
  const Snapshot& tables() const { return tables_; }
  bool is_draining() const { return draining_; }
  // A client's connection without a request.
  uint64_t idle_timeout_ms(bool leaves);
  uint64_t now_us() const { return now_us_; }
  uint64_t now_ms() const { return now_us_ / 1000; }
  // By now_ms(), when a delay that begins now is over: not a part of a millisecond before.
  uint64_t ms_after(uint64_t delay_ms) const { return (now_us_ + 999) / 1000 + delay_ms; }
  uint64_t random();
  // Told of each upstream connection but tunnels that ends before its exchange. True: this second has so many that it is to be reset. Each
  // that is closed leaves a port in TIME_WAIT, and where clients that give up have left as many as there are the kernel looks for a free
  // one for milliseconds.
  bool many_cut_off();
  // How much one connection may do in its turn: little while other tenants have work too, since a turn is what they wait for.
  size_t read_bytes() const { return is_shared() ? kSharedReadBytes : kReadScratch; }
  int reads_per_turn() const { return is_shared() ? 1 : 4; }
  int accepts_per_turn() const { return is_shared() ? 8 : 64; }
  // What one turn may send of what waits, or with one write.
  size_t send_bytes() const { return is_shared() ? kSharedSendBytes : SIZE_MAX; }
  // The time since the clock was last updated is the tenant's.
  void charge(TenantId tenant);
  // Asked once for each of many steps: whether the turn has become long.
  bool turn_is_long();
  uint8_t* read_scratch() { return read_scratch_.get(); }
  // For what relay_body() or frame_payload() make of so much; what is read at once has room in any case. Until it is asked for more.
  uint8_t* body_scratch(size_t input = 0);
  // Scratch of every TLS call; made with the first.
  TlsWire& tls_wire();
  // Whether handshakes are worked at beside the loop: while tenants share it.
  bool shakes_aside();
  // Frees it, but not while a step is taken beside the loop: OpenSSL makes and frees its objects under a lock of the process, for which
  // glibc may spin; of the thread, which gives way, that would be for long.
  void drop_tls(std::unique_ptr<TlsSession> session);
  // The next step of its handshake, with what input_left holds. It is told by an event.
  void shake_aside(Connection* connection);
  HopLines& hop_lines() { return hop_lines_; }
  ConnectionLimits& connection_limits() { return connection_limits_; }
  std::string_view date_line() { return hop_lines_.date(now_ms()); }
  http2::InternedField* date_field() { return hop_lines_.date_field(now_ms(), &interned_); }
  // Counts it, and keeps it for take_failures().
  void note_tls_failure(const Connection& connection);
  // The same of what failed before there was a session.
  void note_tls_failure(const Connection& connection, TlsFailure failure, const std::string& text);
  // The same of a PROXY header; `reason` is static.
  void note_refused_proxy_header(const Connection& connection, const char* reason);
  char* head_scratch() { return head_scratch_.get(); }
  http2::InternTable& interned() { return interned_; }
  http1::RequestHead& replay_head() { return *replay_head_; }
  http1::ResponseHead& response_head() { return *response_head_; }

  // Takes ownership and watches the socket.
  void adopt(Connection* connection);
  // Of one that has no socket.
  void adopt_bare(Connection* connection) { connection->handle_ = connections_.add(connection); }
  // Takes ownership of one without a socket, which connects as the options say: at once, or when its socket has come from weft-netns. What
  // fails later is an event. False: nothing was taken.
  bool dial(Connection* connection, const ConnectOptions& options);
  Connection* find(Handle handle) const { return connections_.get(handle); }
  // `to`, which is not adopted yet, goes on with the socket, its TLS session and what waits; `from`, which is_at_hand(), is closed.
  void succeed(Connection* from, Connection* to);
  void unwatch(const Connection* connection);
  void close(Connection* connection);
  void close_downstream(Connection* connection);
  void count_downstream(int32_t listener_id, TenantId tenant, int change);
  void schedule(Timer* timer, uint64_t after_ms) { schedule_at(timer, ms_after(after_ms)); }
  void schedule_at(Timer* timer, uint64_t deadline_ms) { timers_.schedule(timer, deadline_ms); }
  void cancel(Timer* timer) { timers_.cancel(timer); }
  // on_resume() soon, in a turn of its own: after the decisions of this round.
  void resume_later(Connection* connection);
  // on_events(EPOLLOUT) soon, in a turn of its own.
  void flush_in_next_turn(Connection* connection);
  // on_flush() once, when the tick has nothing more to say.
  void flush_later(Connection* connection);
  // Frees it when the tick ends: functions further up the stack may still look at it.
  void retire(std::unique_ptr<Retired> item) { retired_.push_back(std::move(item)); }
  // Subtracts a decision's endpoint from `outstanding`; -1: nothing.
  void give_back(int32_t target);
  // The exchange is over: completion, access log, counters, outstanding.
  void report(Exchange& exchange, Downstream& downstream, Reason reason);
  bool has_access_log() const { return access_log_.valid(); }
  // Of a request that was refused before anybody decided on it, nothing but its record. In every access log: no decision says in which.
  void log_undecided(const Exchange& exchange, Downstream& downstream, Reason reason);
  // The decision on a connection whose protocol was not known holds, or another one takes its place.
  void report_detection(Exchange& exchange, CompletionKind kind);
  // It will stand in a batch again, for another.
  void report_failed_attempt(Exchange& exchange);
  // Another one answered first.
  void report_given_up_attempt(Exchange& exchange);
  // For somebody who has gone since the batch was made.
  void abandon(const Decision& decision);
  // Whether idle connections to the target are worth keeping under the tables of now.
  bool still_wanted(const UpstreamTarget& target) const;
  // The same, looked up once for all requests.
  bool still_wanted(UpstreamGroup* group) const;

 private:
  // What epoll says of descriptors that are no connection's: no handle has such a generation.
  static constexpr uint64_t kWatched = UINT64_MAX;
  static constexpr uint64_t kNamespaceSockets = UINT64_MAX - 1;
  static constexpr uint64_t kHandshakeTaken = UINT64_MAX - 2;
  // The scope of a listener that is not in this thread's own namespace; 0 or -errno.
  int open_scope(const ListenerSpec& spec, SharedScope* scope, std::string* error);
  // A socket that listens there, or -errno.
  int listen_in(const SocketScope& scope, const ListenOptions& options) const;
  bool watch(int fd, uint64_t as) const;
  void watch(const Connection* connection, int operation) const;
  void queue_turn(Connection* connection);
  void take_namespace_sockets();
  void begin_next_handshake();
  void retire_connections(int32_t listener_id);
  void take_handshake();
  void set_weights(TenantScheduler* scheduler) const;
  static constexpr size_t kSharedReadBytes = 32 * 1024;
  // More than what one read makes a connection write: that is not to be cut in two.
  static constexpr size_t kSharedSendBytes = 64 * 1024;
  // More than one tenant had a turn not long ago.
  bool is_shared() const { return now_ns_ < shared_until_ns_; }
  uint64_t tick_ns() const;
  int32_t shared_batch() const;
  void note_decision_cost(uint64_t ns);
  int add_listener(const ListenerSpec& spec, int fd, SharedScope scope);
  int listen_dns(const ListenerSpec& spec, std::string* error);
  void update_clock();
  void charge(TenantId tenant, uint64_t ns);
  void charge_turns();
  void fire_timers();
  int wait_ms(int timeout_ms) const;
  void take_answered();
  void queue_events(int count);
  void queue_resumes();
  void serve();
  void serve_round(uint64_t until_ns);
  void give_turn(const TenantScheduler::Turn& turn);
  void decide_batch();
  void execute_decisions(int32_t count, bool made);
  void flush(Connection* connection);
  void flush_connections();
  void reap();
  void beat();
  void close_everything();
  void close_idle_connections();
  void keep_reserve();
  void complete(const Decision& decision, CompletionKind kind, int32_t first_byte_us = -1);
  void add_completion(const Completion& completion, bool is_urgent);
  void write_access_log(const Exchange& exchange, Downstream& downstream, Reason reason);

  EngineOptions options_;
  Decide decide_;
  void* context_;
  std::string start_error_;
  int epoll_ = -1;
  uint64_t now_ns_ = 0;
  uint64_t now_us_ = 0;
  uint64_t cut_off_second_ = 0;
  uint32_t cut_offs_ = 0;
  uint64_t turn_began_ns_ = 0;
  uint64_t shared_until_ns_ = 0;
  // What a request of the last batches took from the call on, about.
  uint64_t decision_ns_ = 0;
  uint32_t steps_ = 0;
  TenantId last_tenant_ = 0;
  // Turns that were given and not charged yet, of one tenant, and how many may be.
  TenantId turns_of_ = 0;
  uint64_t turns_due_ = 0;
  uint64_t turns_per_look_ = 1;
  TenantScheduler scheduler_;
  TenantAccounts accounts_;
  uint64_t random_state_[2];
  Batch batch_;
  Counters counters_;
  AccessLog access_log_;
  Heartbeat heartbeat_;
  // With the first scope.
  std::unique_ptr<NamespaceSockets> namespace_sockets_;
  SharedScope host_scope_;
  std::vector<std::pair<int64_t, SharedScope>> pods_;
  HostFlows host_flows_;
  uint64_t next_beat_ms_ = 0;
  uint64_t completions_due_ms_ = 0;
  bool completion_is_urgent_ = false;
  Snapshot tables_;
  TimerWheel timers_;
  UpstreamPool pool_;
  ConnectionLimits connection_limits_;
  // Before the connections that refer to them.
  http2::InternTable interned_;
  Deferrals deferrals_;
  Slab<Connection> connections_;
  std::vector<Listener*> listeners_;
  std::vector<class DnsListener*> dns_listeners_;
  std::vector<Handle> resumes_;
  std::vector<Handle> flushes_;
  std::vector<std::unique_ptr<Retired>> retired_;
  std::unique_ptr<struct EventBuffer> events_;
  std::unique_ptr<uint8_t[]> read_scratch_;
  size_t body_scratch_bytes_;
  std::unique_ptr<uint8_t[]> body_scratch_;
  std::unique_ptr<char[]> head_scratch_;
  std::unique_ptr<http1::RequestHead> replay_head_;
  std::unique_ptr<http1::ResponseHead> response_head_;
  std::unique_ptr<TlsWire> tls_wire_;
  // From the first handshake on that tenants share the loop with.
  std::unique_ptr<struct HandshakesAside> handshakes_;
  HopLines hop_lines_{options_.via};
  FailureNotes failures_;
  uint32_t mirrors_ = 0;
  uint32_t calls_ = 0;
  std::vector<EndedCall> ended_calls_;
  uint32_t open_downstream_ = 0;
  uint32_t drain_idle_ms_ = 0;
  uint32_t buffer_bytes_ = 0;
  // A descriptor to be given up when there is no other; -1: none.
  int reserve_ = -1;
  OverloadLevel overload_ = OverloadLevel::None;
  OverloadReason overload_reason_ = OverloadReason::Memory;
  bool draining_ = false;
  bool deciding_ = false;
  bool decided_ = false;
  bool close_wanted_ = false;
  bool closed_ = false;
  bool watched_ready_ = false;
};

}  // namespace weft
