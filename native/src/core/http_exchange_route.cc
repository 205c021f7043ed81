// What a route wants of a request beside a target: texts written anew, answers of its own, copies for mirrors.
#include <algorithm>
#include <utility>

#include "core/http2/transcode.h"
#include "core/http_exchange.h"
#include "core/mirror.h"
#include "core/reactor.h"
#include "core/request_view.h"

namespace weft {

// Of the head that is kept.
RequestView HttpExchange::view() {
  return http2 != nullptr ? view_of(sent_http2().block, sent_http2().summary) : view_of(parse_kept_head(), sent_head().data());
}

// Texts that the decision asks for.
void HttpExchange::prepare_changes() {
  if (changes != nullptr) answer_lines = changes->answer_lines;
  if (!decision.has(kExtended)) return;
  if (decision.answer_lines != 0) answer_lines += reactor_->batch().text(decision.answer_lines);
  const RewriteSpec* rewrite = tables->rewrite(decision.rewrite);
  const CorsLines* cors = tables->cors(decision.cors);
  const bool is_written = changes != nullptr && changes->path;
  const bool changes_path = !is_written && (decision.text != 0 || (rewrite != nullptr && rewrite->path.changes()));
  if (!changes_path && cors == nullptr) return;
  const RequestView request = view();
  if (changes_path && !request.path.empty()) {
    const PathChange decided{std::string(reactor_->batch().text(decision.text)), 0, false};
    target = changed_target(decision.text != 0 ? decided : rewrite->path, request.path, request.query, request.has_query);
  }
  if (cors != nullptr) {
    answer_lines += decision.is_local() ? cors->of_preflight(request.origin, request.preflight) : cors->of_answer(request.origin);
  }
}

std::string HttpExchange::lines_of_answer(const ResponseForm& response) const {
  const CorsLines* cors = answer_lines.empty() ? nullptr : tables->cors(decision.cors);
  if (cors == nullptr || !cors->names_exposed()) return answer_lines;
  std::string names;
  const auto add = [&names](std::string_view name) { names.append(names.empty() ? "" : ", ").append(name); };
  if (response.head != nullptr) {
    for (uint32_t i = 0; i < response.head->field_count; i++) add(response.head->fields[i].name(response.base));
  } else {
    for (const http2::HeaderField& field : *response.block) add(response.block->name(field));
  }
  return names.empty() ? answer_lines : answer_lines + "access-control-expose-headers: " + names + "\r\n";
}

std::string_view HttpExchange::authority_to_send() const {
  if (changes != nullptr && changes->authority) return {};
  const RewriteSpec* rewrite = tables->rewrite(decision.rewrite);
  return rewrite != nullptr ? std::string_view(rewrite->authority) : std::string_view();
}

int HttpExchange::grpc_status_in_place_of(int answer_status, Reason reason) const {
  const bool has_reply = decision.is_local() && changes != nullptr && changes->has_reply;
  const LocalReply* reply = decision.is_local() ? tables->local_reply(decision.local_reply) : nullptr;
  const int32_t said = has_reply ? changes->grpc_status : reply != nullptr ? reply->grpc_status : -1;
  return said >= 0 ? said : grpc_status_of(answer_status, reason);
}

void HttpExchange::answer_as_decided() {
  if (decision.target == kTargetUndecided) return fail(503, Reason::LocalReset);
  reactor_->counters().add(Counter::LocalReplies);
  const LocalReply* reply = tables->local_reply(decision.local_reply);
  const int answer_status = std::clamp(-decision.target, 200, 599);
  if (reply == nullptr && changes != nullptr && changes->has_reply)
    return reply_local(answer_status, changes->lines + answer_lines, changes->body, Reason::None);
  if (reply == nullptr) return reply_local(answer_status, answer_lines, {}, Reason::None);
  if (!reply->redirect && answer_lines.empty()) return reply_local(answer_status, reply->lines, reply->body, reply->reason);
  std::string lines = reply->lines + answer_lines;
  if (reply->redirect) {
    const RequestView request = view();
    // HTTP/1.0 without Host: there is nothing to send it to.
    if (reply->redirect->host.empty() && request.authority.empty()) return reply_local(400, {}, {}, Reason::DownstreamProtocol);
    lines += location_line(*reply->redirect, request.authority, request.path, request.query, request.has_query);
  }
  reply_local(answer_status, lines, reply->body, reply->reason);
}

void HttpExchange::take_mirrors() {
  if (tunnel != Tunnel::None) return;
  mirrors_ = decision.mirrors;
  mirror_mask_ = decision.mirror_mask;
  mirrors_of_ = tables->serial();
}

// The copies are the engine's own from here on: whatever becomes of them, the request knows nothing of it. Of HTTP/2 they are HTTP/1's.
void HttpExchange::mirror_whole_request() {
  // Other tables have other mirrors in these rows.
  if (mirrors_of_ != reactor_->tables()->serial()) return drop_mirrors();
  const DownstreamOrigin& origin = connection_->origin();
  // Where that is not what is kept.
  std::string text;
  if (http2 != nullptr) {
    http1::RequestHeadOptions options;
    options.framing = {raw.size() != 0 ? http1::Framing::kLength : http1::Framing::kNone, raw.size()};
    char* head = reactor_->head_scratch();
    size_t head_size_of_copy = 0;
    const Http2Request& sent = sent_http2();
    if (!http2::write_request_head(sent.block, sent.summary, options, head, Reactor::kHeadScratch, &head_size_of_copy))
      return drop_mirrors();
    text.assign(head, head_size_of_copy);
    if (raw.size() != 0) text.append(reinterpret_cast<const char*>(raw.data()), raw.size());
  } else if (&sent_head() != &raw) {
    text.assign(reinterpret_cast<const char*>(sent_head().data()), sent_head().size());
    text.append(reinterpret_cast<const char*>(raw.data()) + head_size, raw.size() - head_size);
  }
  const size_t size = text.empty() ? raw.size() : text.size();
  // The parser reads past its end.
  if (!text.empty()) text.append(http1::kReadPastEnd, '\0');
  const uint8_t* bytes = text.empty() ? raw.data() : reinterpret_cast<const uint8_t*>(text.data());
  const uint32_t mask = static_cast<uint32_t>(std::exchange(mirror_mask_, 0));
  for (int32_t i = 0; mask >> i != 0; i++) {
    if ((mask >> i & 1) != 0) Mirror::send(reactor_, origin, mirrors_ + i, bytes, size);
  }
}

// It was not whole in time, or is too large to be kept, or what it was for is gone.
void HttpExchange::drop_mirrors() {
  if (mirror_mask_ == 0) return;
  reactor_->counters().add(Counter::MirrorsDropped, __builtin_popcount(static_cast<uint32_t>(std::exchange(mirror_mask_, 0))));
}

}  // namespace weft
