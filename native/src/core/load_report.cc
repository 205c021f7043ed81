// See load_report.h. Source: https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto, gRFC A51, A58.
#include "core/load_report.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace weft {

namespace {

// Beyond it nobody's figure is meant: 100 times all of its CPU, a thousand million requests a second.
constexpr double kMaxUtilization = 100;
constexpr double kMaxRate = 1e9;
// Of JSON within JSON.
constexpr int kMaxDepth = 8;

// The fields that count, by their numbers in the message.
enum Metric : uint32_t { kCpu = 1, kRate = 6, kErrors = 7, kApplication = 9 };
constexpr uint32_t kMetrics = 10;

class Metrics {
 public:
  // False: no such number may be, or it was said before.
  bool set(uint32_t metric, double value) {
    if (metric != kCpu && metric != kRate && metric != kErrors && metric != kApplication) return true;
    const double most = metric == kCpu || metric == kApplication ? kMaxUtilization : kMaxRate;
    if (!std::isfinite(value) || value < 0 || value > most || said_[metric]) return false;
    said_[metric] = true;
    values_[metric] = value;
    return true;
  }

  bool finish(LoadReport* report) const {
    report->utilization = static_cast<float>(values_[kApplication] > 0 ? values_[kApplication] : values_[kCpu]);
    report->requests_per_second = static_cast<float>(values_[kRate]);
    report->errors_per_second = static_cast<float>(values_[kErrors]);
    return true;
  }

 private:
  std::array<double, kMetrics> values_{};
  std::array<bool, kMetrics> said_{};
};

struct MetricName {
  std::string_view name;
  std::string_view json;
  Metric metric;
};
constexpr MetricName kNames[] = {
    {"cpu_utilization", "cpuUtilization", kCpu},
    {"application_utilization", "applicationUtilization", kApplication},
    {"rps_fractional", "rpsFractional", kRate},
    {"eps", "eps", kErrors},
};

// 0: none that counts.
uint32_t metric_of(std::string_view name) {
  for (const MetricName& each : kNames)
    if (name == each.name || name == each.json) return each.metric;
  return 0;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool number_of(std::string_view text, double* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// "name=value,name=value"; older Envoys write "name:value".
bool parse_text(std::string_view value, LoadReport* report) {
  Metrics metrics;
  while (!value.empty()) {
    const size_t comma = value.find(',');
    const std::string_view entry = trimmed(value.substr(0, comma));
    value.remove_prefix(comma == std::string_view::npos ? value.size() : comma + 1);
    if (entry.empty()) continue;
    const size_t at = entry.find_first_of("=:");
    double number = 0;
    if (at == std::string_view::npos || !number_of(trimmed(entry.substr(at + 1)), &number)) return false;
    if (!std::isfinite(number) || !metrics.set(metric_of(trimmed(entry.substr(0, at))), number)) return false;
  }
  return metrics.finish(report);
}

// As much of JSON as it takes to read some numbers of an object and pass over everything else.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool read(Metrics* metrics) {
    if (!take('{')) return false;
    if (!take('}')) {
      do {
        std::string_view name;
        if (!read_string(&name) || !take(':') || !read_value(metric_of(name), metrics)) return false;
      } while (take(','));
      if (!take('}')) return false;
    }
    skip_space();
    return at_ == end_;
  }

 private:
  void skip_space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\r' || *at_ == '\n')) at_++;
  }

  bool take(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    at_++;
    return true;
  }

  // As it is written: names that count have no escapes.
  bool read_string(std::string_view* text) {
    if (!take('"')) return false;
    const char* start = at_;
    while (at_ < end_ && *at_ != '"') {
      if (*at_ == '\\' && ++at_ == end_) return false;
      at_++;
    }
    if (at_ == end_) return false;
    *text = {start, static_cast<size_t>(at_ - start)};
    at_++;
    return true;
  }

  // proto3's JSON has numbers in quotes, too.
  bool read_value(uint32_t metric, Metrics* metrics) {
    if (metric == 0) return skip_value(0);
    double number = 0;
    std::string_view text;
    skip_space();
    if (at_ < end_ && *at_ == '"') return read_string(&text) && number_of(text, &number) && metrics->set(metric, number);
    const auto [end, error] = std::from_chars(at_, end_, number);
    if (error != std::errc()) return false;
    at_ = end;
    return metrics->set(metric, number);
  }

  bool skip_value(int depth) {
    std::string_view text;
    skip_space();
    if (at_ == end_ || depth > kMaxDepth) return false;
    if (*at_ == '"') return read_string(&text);
    if (*at_ == '{' || *at_ == '[') return skip_members(*at_, depth);
    const char* start = at_;
    while (at_ < end_ &&
           (std::strchr("+-.", *at_) != nullptr || (*at_ >= '0' && *at_ <= '9') || (*at_ >= 'a' && *at_ <= 'z') || *at_ == 'E'))
      at_++;
    return at_ > start;
  }

  bool skip_members(char open, int depth) {
    at_++;
    const char close = open == '{' ? '}' : ']';
    if (take(close)) return true;
    do {
      std::string_view name;
      if (open == '{' && (!read_string(&name) || !take(':'))) return false;
      if (!skip_value(depth + 1)) return false;
    } while (take(','));
    return take(close);
  }

  const char* at_;
  const char* end_;
};

// -1: malformed.
int base64_digit(char digit) {
  if (digit >= 'A' && digit <= 'Z') return digit - 'A';
  if (digit >= 'a' && digit <= 'z') return digit - 'a' + 26;
  if (digit >= '0' && digit <= '9') return digit - '0' + 52;
  return digit == '+' ? 62 : digit == '/' ? 63 : -1;
}

// Returns the size; -1: malformed.
int64_t decode_base64(std::string_view text, uint8_t* out) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  if (text.size() % 4 == 1) return -1;
  uint32_t bits = 0;
  int count = 0;
  const uint8_t* start = out;
  for (const char each : text) {
    const int digit = base64_digit(each);
    if (digit < 0) return -1;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    *out++ = static_cast<uint8_t>(bits >> count);
  }
  return out - start;
}

// Protocol buffers' wire format, of a message whose fields that count are doubles.
class WireReader {
 public:
  WireReader(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  bool read(Metrics* metrics) {
    while (at_ < end_) {
      uint64_t tag = 0;
      if (!read_varint(&tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return false;
      const auto field = static_cast<uint32_t>(tag >> 3);
      uint64_t size = 0;
      switch (tag & 7) {
        case 0:
          if (!read_varint(&size)) return false;
          break;
        case 1: {
          if (end_ - at_ < 8) return false;
          double value = 0;
          memcpy(&value, at_, sizeof(value));
          at_ += 8;
          if (field < kMetrics && !metrics->set(field, value)) return false;
          break;
        }
        case 2:
          if (!read_varint(&size) || !skip(size)) return false;
          break;
        case 5:
          if (!skip(4)) return false;
          break;
        default:
          return false;
      }
    }
    return true;
  }

 private:
  bool skip(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) return false;
    at_ += size;
    return true;
  }

  bool read_varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const uint8_t byte = *at_++;
      *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

bool take_prefix(std::string_view* value, std::string_view prefix) {
  if (value->substr(0, prefix.size()) != prefix) return false;
  value->remove_prefix(prefix.size());
  return true;
}

}  // namespace

bool parse_load_metrics(std::string_view value, LoadReport* report) {
  if (value.size() > kMaxLoadReport) return false;
  if (take_prefix(&value, "BIN ")) return parse_load_metrics_bin(value, report);
  if (take_prefix(&value, "JSON ")) return parse_load_metrics_json(value, report);
  take_prefix(&value, "TEXT ");
  return parse_text(value, report);
}

bool parse_load_metrics_json(std::string_view value, LoadReport* report) {
  Metrics metrics;
  return value.size() <= kMaxLoadReport && JsonReader(value).read(&metrics) && metrics.finish(report);
}

bool parse_load_metrics_bin(std::string_view value, LoadReport* report) {
  if (value.size() > kMaxLoadReport) return false;
  uint8_t bytes[kMaxLoadReport / 4 * 3 + 3];
  const int64_t size = decode_base64(value, bytes);
  Metrics metrics;
  return size >= 0 && WireReader(bytes, bytes + size).read(&metrics) && metrics.finish(report);
}

}  // namespace weft
