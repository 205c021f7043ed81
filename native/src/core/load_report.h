// What an endpoint says of its load with an answer: ORCA (xds.data.orca.v3.OrcaLoadReport), in a header or trailer, in the forms that Envoy
// and gRPC write (gRFC A51). Pure; reads what weights are made of and passes over the rest.
#pragma once
#include <cstddef>
#include <string_view>

namespace weft {

/// Each at least 0 and finite, so that nothing made of them is neither.
struct LoadReport {
  /// What the application says of itself, else of its CPU. May be above 1.
  float utilization = 0;
  float requests_per_second = 0;
  float errors_per_second = 0;

  /// Nothing is known of whoever serves nothing, or says not how busy it is (gRFC A58).
  bool is_usable() const { return utilization > 0 && requests_per_second > 0; }
};

/// Names of the fields that carry one.
inline constexpr std::string_view kLoadMetrics = "endpoint-load-metrics";
inline constexpr std::string_view kLoadMetricsJson = "endpoint-load-metrics-json";
inline constexpr std::string_view kLoadMetricsBin = "endpoint-load-metrics-bin";
/// A longer one is not read.
inline constexpr size_t kMaxLoadReport = 8192;

/// Of `endpoint-load-metrics`: "cpu_utilization=0.3,rps_fractional=50", behind "TEXT " or by itself, "JSON {…}" or "BIN <base64>". False:
/// it is malformed, or out of bounds; `report` is then undefined.
bool parse_load_metrics(std::string_view value, LoadReport* report);
/// The message as JSON.
bool parse_load_metrics_json(std::string_view value, LoadReport* report);
/// The message in base64, padded or not.
bool parse_load_metrics_bin(std::string_view value, LoadReport* report);

}  // namespace weft
