// Replays goldens/http1/*.txt: every message, at every split into two pieces and byte by byte, with every scanner.
#include <cstdlib>
#include <numeric>

#include "check.h"
#include "golden_file.h"
#include "transcript.h"

namespace weft::test {
namespace {

using namespace http1;

struct Golden {
  std::string where, title, input, expected;
  TranscriptOptions options;
};

/// Options: "requests" or "responses METHOD", "max-bytes N", "max-fields N".
std::vector<Golden> load(const std::filesystem::path& file) {
  std::vector<Golden> goldens;
  for (const GoldenText& text : load_goldens(file)) {
    Golden golden = {text.where, text.title, unescaped(text.section(0)), text.section(1), {}};
    for (const auto& [word, value] : text.options) {
      if (word == "responses") {
        golden.options.side = Side::kResponses;
        golden.options.request_method = method_of(value);
      } else if (word == "max-bytes") {
        golden.options.limits.max_bytes = static_cast<uint32_t>(atoi(value.c_str()));
      } else if (word == "max-fields") {
        golden.options.limits.max_fields = static_cast<uint32_t>(atoi(value.c_str()));
      }
    }
    goldens.push_back(std::move(golden));
  }
  return goldens;
}

void replay(const Golden& golden, ScannerKind kind) {
  const ClassifyFunction classify = classify_function(kind);
  if (classify == nullptr) return;
  const auto expect = [&](const std::vector<size_t>& cuts, const std::string& how) {
    const std::string actual = transcript(classify, golden.input, cuts, golden.options);
    if (actual == golden.expected) return true;
    fail(golden.where.c_str(), 0,
         golden.title + " (" + how + ", " + scanner_name(kind) + ")\n--- is\n" + actual + "--- expected\n" + golden.expected);
    return false;
  };
  if (!expect({}, "whole")) return;
  for (size_t cut = 1; cut < golden.input.size(); cut++) {
    if (!expect({cut}, "cut at " + std::to_string(cut))) return;
  }
  if (golden.input.empty()) return;
  std::vector<size_t> every(golden.input.size() - 1);
  std::iota(every.begin(), every.end(), 1);
  expect(every, "byte by byte");
}

TEST("goldens read the same at every byte split and with every scanner") {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(WEFT_GOLDENS "/http1")) {
    for (const Golden& golden : load(entry.path())) {
      count++;
      for (const ScannerKind kind : kScannerKinds) replay(golden, kind);
    }
  }
  CHECK(count > 50);
  printf("%zu goldens\n", count);
}

}  // namespace
}  // namespace weft::test
