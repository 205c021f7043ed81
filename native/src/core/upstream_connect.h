// One way to an upstream for an exchange, whatever the upstream speaks: a pooled connection, a new one, a stream of one that is there.
#pragma once
#include "core/streams.h"
#include "core/upstream_target.h"

namespace weft {

class CountedConnection;
class Reactor;
struct UpstreamGroup;

// Checked: only a pooled HTTP/1 connection whose end has not arrived yet, for requests that must not be sent twice. It costs a system
// call. Never: a new HTTP/1 connection. Streams of HTTP/2 are opened on what is there: their peer says which it did not process.
enum class Reuse : uint8_t { Never, Unchecked, Checked };

// Waiting: the exchange hears on_upstream_available(), or a failed attempt. Full: no more may wait. Unsupported: the server does not take
// such a request.
enum class Acquired : uint8_t { Stream, Waiting, Failed, Full, Unsupported };

// Of a new connection of the group. False: it would be beyond a limit, or it is others' turn.
bool takes_place(Reactor* reactor, UpstreamGroup* group, CountedConnection* place);
// Then the exchange waits for another's end, if it may.
Acquired wait_for_connection(Reactor* reactor, UpstreamGroup* group, HttpExchange* exchange);
uint32_t connect_timeout_ms(const Reactor* reactor, const UpstreamTarget& target);
// Of a pooled connection without a request.
uint32_t idle_timeout_ms(const Reactor* reactor, const UpstreamTarget& target);
// How long a connection opened then may yet be used; UINT64_MAX: as long as it lasts.
uint64_t duration_left_ms(const Reactor* reactor, const UpstreamTarget& target, uint64_t opened_ms);
// As a timer for a connection that begins to rest.
uint64_t resting_ms(const Reactor* reactor, const UpstreamTarget& target, uint64_t opened_ms);
Acquired acquire_upstream(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, Reuse reuse, UpstreamStream** stream);

}  // namespace weft
