// Goldens as files of text: "=== title", options, "---", what is said, "---", what is seen of it (and more such sections).
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace weft::test {

struct GoldenText {
  std::string where, title;
  /// A word and what follows it.
  std::vector<std::pair<std::string, std::string>> options;
  /// Without empty lines.
  std::vector<std::string> sections;

  std::string section(size_t index) const { return index < sections.size() ? sections[index] : ""; }
};

inline std::vector<GoldenText> load_goldens(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<GoldenText> goldens;
  std::string line;
  for (int number = 1; std::getline(in, line); number++) {
    if (line.rfind("=== ", 0) == 0) {
      goldens.push_back({file.filename().string() + ":" + std::to_string(number), line.substr(4), {}, {}});
    } else if (line == "---") {
      goldens.back().sections.emplace_back();
    } else if (goldens.empty() || line.empty()) {
      continue;
    } else if (goldens.back().sections.empty()) {
      std::istringstream words(line);
      std::string word, rest;
      words >> word >> rest;
      goldens.back().options.emplace_back(word, rest);
    } else {
      goldens.back().sections.back() += line + "\n";
    }
  }
  return goldens;
}

}  // namespace weft::test
