// Replays test/goldens/*.txt: every message, at every split into two pieces and byte by byte, with every scanner.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "check.h"
#include "transcript.h"

namespace weft::test {
namespace {

using namespace http1;

struct Golden {
  std::string where, title, input, expected;
  TranscriptOptions options;
};

/// "=== title", "requests" or "responses METHOD" (and "max-bytes N", "max-fields N"), "---", escaped input, "---", the transcript.
std::vector<Golden> load(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<Golden> goldens;
  std::string line;
  int section = 0;
  for (int number = 1; std::getline(in, line); number++) {
    if (line.rfind("=== ", 0) == 0) {
      goldens.push_back({file.filename().string() + ":" + std::to_string(number), line.substr(4), "", "", {}});
      section = 0;
    } else if (line == "---") {
      section++;
    } else if (goldens.empty() || (line.empty() && section != 1)) {
      continue;
    } else if (section == 0) {
      std::istringstream words(line);
      std::string word, value;
      words >> word >> value;
      TranscriptOptions& options = goldens.back().options;
      if (word == "responses") {
        options.side = Side::kResponses;
        options.request_method = method_of(value);
      } else if (word == "max-bytes") {
        options.limits.max_bytes = static_cast<uint32_t>(atoi(value.c_str()));
      } else if (word == "max-fields") {
        options.limits.max_fields = static_cast<uint32_t>(atoi(value.c_str()));
      }
    } else {
      (section == 1 ? goldens.back().input : goldens.back().expected) += line + "\n";
    }
  }
  for (Golden& golden : goldens) golden.input = unescaped(golden.input);
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
  for (const auto& entry : std::filesystem::directory_iterator(WEFT_GOLDENS)) {
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
