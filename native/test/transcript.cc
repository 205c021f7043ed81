// Keeps unconsumed bytes in a buffer of exactly kReadPastEnd spare bytes, so that ASan sees any read beyond the promise.
#include "transcript.h"

#include <cstring>
#include <memory>

namespace weft::test {

using namespace http1;

namespace {

class Reader {
 public:
  Reader(ClassifyFunction classify, const TranscriptOptions& options) : classify_(classify), options_(options) {}

  void piece(std::string_view bytes) {
    pending_.append(bytes);
    while (!stopped_ && step()) {
    }
  }

  std::string finish() {
    if (in_body_ && !stopped_) {
      flush_data();
      log_ += reader_.end_of_input_completes() ? "closed: end\n" : "closed: unexpected end\n";
    } else if (!stopped_ && !pending_.empty()) {
      log_ += "closed: incomplete head\n";
    }
    return log_;
  }

 private:
  /// Whether another step makes sense.
  bool step() { return in_body_ ? body_step() : head_step(); }

  bool head_step() {
    if (pending_.empty()) return false;
    // The parser's size plus the promised 64 bytes and not one more; the rest is poison of a fresh kind.
    const std::unique_ptr<uint8_t[]> copy(new uint8_t[pending_.size() + kReadPastEnd]);
    memcpy(copy.get(), pending_.data(), pending_.size());
    memset(copy.get() + pending_.size(), poison_ ^= 0xff, kReadPastEnd);
    RequestHead request;
    ResponseHead response;
    const bool is_request = options_.side == Side::kRequests;
    const ParseResult result = is_request ? parse_request_head(classify_, copy.get(), pending_.size(), options_.limits, &request)
                                          : parse_response_head(classify_, copy.get(), pending_.size(), options_.limits, &response);
    if (result.status == ParseStatus::kIncomplete) {
      return false;
    }
    if (result.status == ParseStatus::kInvalid) {
      log_ += std::string("error ") + head_error_name(result.error) + " " + std::to_string(head_error_status(result.error)) + "\n";
      stopped_ = true;
      return false;
    }
    is_request ? show_request(request, copy.get()) : show_response(response, copy.get());
    pending_.erase(0, is_request ? request.size : response.size);
    in_body_ = true;
    return true;
  }

  bool body_step() {
    const BodyStep step = reader_.next(reinterpret_cast<const uint8_t*>(pending_.data()), pending_.size());
    data_.append(pending_, step.consumed - step.payload_size, step.payload_size);
    pending_.erase(0, step.consumed);
    if (step.status == BodyStatus::kMore) return false;
    if (step.status == BodyStatus::kPayload) return true;
    flush_data();
    in_body_ = false;
    if (step.status == BodyStatus::kInvalid) {
      log_ += std::string("error ") + body_error_name(step.error) + "\n";
      stopped_ = true;
      return false;
    }
    if (!reader_.trailers().empty()) log_ += "trailers " + escaped(reader_.trailers()) + "\n";
    log_ += "end\n";
    return true;
  }

  void flush_data() {
    if (!data_.empty()) log_ += "data " + escaped(data_) + "\n";
    data_.clear();
  }

  void show_request(const RequestHead& head, const uint8_t* base) {
    log_ += "request " + std::string(head.method_token.in(base)) + " path " + std::string(head.path.in(base));
    if (head.form == TargetForm::kAsterisk) log_ += " asterisk";
    if (head.has_query) log_ += " query " + std::string(head.query.in(base));
    log_ += " authority " + std::string(head.authority.in(base)) + " 1." + std::to_string(head.minor);
    if (head.expects_continue) log_ += " continue";
    if (head.wants_upgrade) log_ += " upgrade";
    if (head.path_is_ambiguous) log_ += " ambiguous";
    show_block(head, base, request_body_framing(head));
  }

  void show_response(const ResponseHead& head, const uint8_t* base) {
    log_ += "response " + std::to_string(head.status) + " \"" + escaped(head.reason.in(base)) + "\" 1." + std::to_string(head.minor);
    const BodyFraming framing = response_body_framing(head, options_.request_method);
    if (!response_allows_reuse(head, framing.kind)) log_ += " no-reuse";
    show_block(head, base, framing);
  }

  void show_block(const FieldBlock& head, const uint8_t* base, BodyFraming framing) {
    static constexpr const char* kFramings[] = {"none", "length", "chunked", "until-close", "tunnel"};
    log_ += head.keep_alive ? " keep-alive" : " close";
    log_ += std::string(" body ") + kFramings[static_cast<size_t>(framing.kind)];
    if (framing.kind == Framing::kLength) log_ += " " + std::to_string(framing.length);
    log_ += "\n";
    for (size_t i = 0; i < head.field_count; i++) {
      const Field& field = head.fields[i];
      log_ +=
          "field " + std::string(field.name(base)) + ": " + escaped(field.value.in(base)) + (field.named_by_connection ? " (hop)\n" : "\n");
    }
    reader_ = BodyReader(framing);
  }

  const ClassifyFunction classify_;
  const TranscriptOptions& options_;
  std::string pending_, log_, data_;
  BodyReader reader_;
  bool in_body_ = false;
  bool stopped_ = false;
  uint8_t poison_ = '\n';
};

}  // namespace

std::string transcript(ClassifyFunction classify, std::string_view bytes, const std::vector<size_t>& cuts,
                       const TranscriptOptions& options) {
  Reader reader(classify, options);
  size_t begin = 0;
  for (const size_t cut : cuts) {
    reader.piece(bytes.substr(begin, cut - begin));
    begin = cut;
  }
  reader.piece(bytes.substr(begin));
  return reader.finish();
}

std::string escaped(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const unsigned char byte = static_cast<unsigned char>(c);
    char hex[5];
    if (c == '\r')
      text += "\\r";
    else if (c == '\n')
      text += "\\n";
    else if (c == '\t')
      text += "\\t";
    else if (c == '\\')
      text += "\\\\";
    else if (byte >= 0x20 && byte < 0x7f)
      text += c;
    else
      text.append(hex, static_cast<size_t>(snprintf(hex, sizeof(hex), "\\x%02x", byte)));
  }
  return text;
}

std::string unescaped(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\n') continue;
    if (text[i] != '\\' || i + 1 == text.size()) {
      bytes += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'r':
        bytes += '\r';
        break;
      case 'n':
        bytes += '\n';
        break;
      case 't':
        bytes += '\t';
        break;
      case 'x':
        bytes += static_cast<char>(strtol(std::string(text.substr(i + 1, 2)).c_str(), nullptr, 16));
        i += 2;
        break;
      default:
        bytes += text[i];
        break;
    }
  }
  return bytes;
}

}  // namespace weft::test
