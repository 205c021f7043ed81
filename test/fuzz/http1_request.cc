// Requests: the same at any cut and with every scanner; and whatever is forwarded reads back as one request with the same meaning.
#include <cstring>
#include <memory>

#include "core/http1/serialize.h"
#include "core/tables/tables.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http1;

namespace {

std::shared_ptr<const Tables> make_tables() {
  TableSpec spec;
  spec.hosts = {"a", "*.example.com", "*"};
  spec.paths = {"/", "/a", "/a/b"};
  spec.predicates = {{PredicateKind::kHeader, "x", "1"}, {PredicateKind::kQuery, "q", "1"}, {PredicateKind::kMethod, "", "GET"}};
  spec.mutations = {{{"x"}, {{"y", "1"}}, {{"z", "2"}}}};
  std::string error;
  return Tables::build(spec, &error);
}

void check_forwarded(const RequestHead& head, const uint8_t* base, const Tables& tables) {
  uint32_t words[1];
  tables.host(head.authority.in(base));
  tables.path(head.path.in(base));
  weft::MatchedValues values;
  tables.match_predicates(head, base, words, &values);
  RequestHeadOptions options;
  options.framing = request_body_framing(head);
  if (head.authority.size == 0) options.authority = "fallback";
  options.mutations = tables.mutation(0);
  options.forwarded_for = "10.0.0.1";
  const size_t capacity = size_t{head.size} + 4096;
  const std::unique_ptr<char[]> out(new char[capacity]);
  size_t size = 0;
  fuzz::require(write_request_head(head, base, options, out.get(), capacity, &size), "a head plus 4 KiB fits");
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size + kReadPastEnd]());
  memcpy(copy.get(), out.get(), size);
  RequestHead again;
  HeadLimits wide{static_cast<uint32_t>(capacity), kMaxFields};
  const ParseResult result = parse_request_head(copy.get(), size, wide, &again);
  if (result.error == HeadError::kTooManyFields) return;  // Ours came on top.
  fuzz::require(result.status == ParseStatus::kComplete && again.size == size, "what we forward is one whole head");
  fuzz::require(again.method == head.method && again.chunked == head.chunked && again.content_length == head.content_length,
                "same framing");
  fuzz::require(again.path.in(copy.get()) == head.path.in(base) || head.form == TargetForm::kAsterisk, "same path");
  fuzz::require(again.query.in(copy.get()) == head.query.in(base), "same query");
  fuzz::require(!again.connection_names_fields, "no field of the last hop is named");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const Tables> tables = make_tables();
  fuzz::compare_transcripts(data, size, {});
  if (size < 2) return 0;
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size - 1 + kReadPastEnd]());
  memcpy(copy.get(), data + 1, size - 1);
  RequestHead head;
  if (parse_request_head(copy.get(), size - 1, {}, &head).status == ParseStatus::kComplete) check_forwarded(head, copy.get(), *tables);
  return 0;
}
