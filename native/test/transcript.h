// Reads a byte stream of HTTP/1 messages as the engine would, in the pieces it is given, and writes down what it saw.
// The text is the same for every way to cut the stream: goldens, differential tests and fuzzers compare it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/http1/body.h"
#include "core/http1/head.h"

namespace weft::test {

enum class Side { kRequests, kResponses };

struct TranscriptOptions {
  Side side = Side::kRequests;
  /// What the responses answer.
  http1::Method request_method = http1::Method::kGet;
  http1::HeadLimits limits;
};

/// `cuts`: ascending offsets at which a piece ends and the next begins.
std::string transcript(http1::ClassifyFunction classify, std::string_view bytes, const std::vector<size_t>& cuts,
                       const TranscriptOptions& options);

/// As C would write it: \r \n \t \\ and \xHH.
std::string escaped(std::string_view bytes);
/// The opposite; line ends of the text itself are left out.
std::string unescaped(std::string_view text);

}  // namespace weft::test
