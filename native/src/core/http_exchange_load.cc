// What answers say of their endpoints' load: found in heads and trailers, as far as the decision asks for it. From upstreams alone; it is
// passed on as it came.
#include <algorithm>

#include "core/http1/ascii.h"
#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

namespace {

// Of complete lines, the value of the first with that name; empty: there is none.
std::string_view value_in(std::string_view lines, std::string_view lower_name) {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find("\r\n"), lines.size());
    const std::string_view line = lines.substr(0, end);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && http1::equals_lower(line.substr(0, colon), lower_name)) {
      std::string_view value = line.substr(colon + 1);
      while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
      return value;
    }
    lines.remove_prefix(std::min(end + 2, lines.size()));
  }
  return {};
}

// `value_of`: of the field with a name; empty: there is none.
template <typename ValueOf>
void read(Counters* counters, LoadReport* load, ValueOf value_of) {
  bool (*parse)(std::string_view, LoadReport*) = parse_load_metrics_bin;
  std::string_view value = value_of(kLoadMetricsBin);
  if (value.empty()) {
    parse = parse_load_metrics;
    value = value_of(kLoadMetrics);
  }
  if (value.empty()) {
    parse = parse_load_metrics_json;
    value = value_of(kLoadMetricsJson);
  }
  if (value.empty()) return;
  LoadReport report;
  counters->add(Counter::LoadReports);
  if (parse(value, &report) && report.is_usable()) {
    *load = report;
  } else {
    counters->add(Counter::LoadReportsUnusable);
  }
}

}  // namespace

void HttpExchange::read_load(const ResponseForm& response) {
  read(&reactor_->counters(), &load, [&](std::string_view name) { return response.value_of(name); });
}

void HttpExchange::read_load(const http2::HeaderBlock& trailers) {
  read(&reactor_->counters(), &load, [&](std::string_view name) { return trailers.value_of(name); });
}

void HttpExchange::read_load(std::string_view trailer_lines) {
  read(&reactor_->counters(), &load, [&](std::string_view name) { return value_in(trailer_lines, name); });
}

}  // namespace weft
