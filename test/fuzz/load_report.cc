// Reports of load (ORCA) as endpoints write them: never read outside the input, no number that weights could not be made of, and the same
// by every way to the same form.
#include "core/load_report.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

using namespace weft;

namespace {

using Parse = bool (*)(std::string_view, LoadReport*);

// From memory that ends where the value does.
bool parse(Parse form, std::string_view value, LoadReport* report) {
  const std::unique_ptr<char[]> copy(new char[value.size()]);
  if (!value.empty()) memcpy(copy.get(), value.data(), value.size());
  return form({copy.get(), value.size()}, report);
}

bool is_figure(float value, float most) { return std::isfinite(value) && value >= 0 && value <= most; }

bool is_same(const LoadReport& a, const LoadReport& b) { return memcmp(&a, &b, sizeof(a)) == 0; }

void check(Parse form, std::string_view prefix, std::string_view value) {
  LoadReport report, again, prefixed;
  const bool is_read = parse(form, value, &report);
  if (is_read &&
      !(is_figure(report.utilization, 100) && is_figure(report.requests_per_second, 1e9F) && is_figure(report.errors_per_second, 1e9F)))
    abort();
  if (parse(form, value, &again) != is_read || (is_read && !is_same(report, again))) abort();
  const std::string whole = std::string(prefix).append(value);
  if (whole.size() > kMaxLoadReport) return;
  if (parse(parse_load_metrics, whole, &prefixed) != is_read || (is_read && !is_same(report, prefixed))) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view value(reinterpret_cast<const char*>(data), size);
  check(parse_load_metrics_json, "JSON ", value);
  check(parse_load_metrics_bin, "BIN ", value);
  LoadReport report, prefixed;
  const bool is_read = parse(parse_load_metrics, value, &report);
  // What has a prefix already is no text behind another one.
  for (const std::string_view prefix : {"BIN ", "JSON ", "TEXT "})
    if (value.substr(0, prefix.size()) == prefix) return 0;
  const std::string text = std::string("TEXT ").append(value);
  if (text.size() <= kMaxLoadReport && (parse(parse_load_metrics, text, &prefixed) != is_read || (is_read && !is_same(report, prefixed))))
    abort();
  return 0;
}
