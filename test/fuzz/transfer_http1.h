// HTTP/1.1 ends of the transfer fuzz target. The reader takes only what a strict peer would: what the proxy writes has no excuse.
#pragma once

#include "transfer_ends.h"

namespace weft::fuzz {

/// Reads one direction of a connection, message after message.
class Http1Reader {
 public:
  /// Called with the head; says how it is framed beyond its own fields.
  enum class Framing { kByHead, kNone };
  std::function<Framing()> on_head;
  std::function<void(std::string_view)> on_body;
  std::function<void()> on_message;

  std::string start_line;
  std::map<std::string, std::string> fields;
  bool is_response = false;

  bool in_message() const { return state_ != State::kHead || !kept_.empty(); }
  bool until_end() const { return state_ == State::kUntilEnd; }

  void feed(std::string_view bytes) {
    kept_ += bytes;
    while (step()) {
    }
  }
  /// The connection ended in order: that is a message's end if it was told so.
  void finish() {
    if (state_ == State::kUntilEnd) end();
  }

 private:
  enum class State { kHead, kLength, kChunkSize, kChunk, kChunkEnd, kTrailers, kUntilEnd };

  bool line(std::string* out) {
    const size_t at = kept_.find("\r\n");
    if (at == std::string::npos) return false;
    *out = kept_.substr(0, at);
    kept_.erase(0, at + 2);
    return true;
  }
  bool step() {
    std::string text;
    switch (state_) {
      case State::kHead:
        return read_head();
      case State::kLength:
      case State::kChunk:
        return read_counted();
      case State::kUntilEnd:
        return read_counted(), false;
      case State::kChunkSize:
        if (!line(&text)) return false;
        require(!text.empty() && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos, "a chunk's size is plain");
        left_ = strtoull(text.c_str(), nullptr, 16);
        state_ = left_ == 0 ? State::kTrailers : State::kChunk;
        return true;
      case State::kChunkEnd:
        if (!line(&text)) return false;
        require(text.empty(), "a chunk ends with CRLF");
        state_ = State::kChunkSize;
        return true;
      case State::kTrailers:
        if (!line(&text)) return false;
        if (text.empty()) end();
        return true;
    }
    return false;
  }
  bool read_head() {
    const size_t at = kept_.find("\r\n\r\n");
    if (at == std::string::npos) return false;
    std::string head = kept_.substr(0, at + 2);
    kept_.erase(0, at + 4);
    size_t from = head.find("\r\n");
    start_line = head.substr(0, from);
    fields.clear();
    for (from += 2; from < head.size();) {
      const size_t to = head.find("\r\n", from), colon = head.find(':', from);
      require(colon < to, "a field has a name");
      std::string name = head.substr(from, colon - from);
      for (char& c : name) c = static_cast<char>(tolower(c));
      fields[name] = head.substr(colon + 2, to - colon - 2);
      from = to + 2;
    }
    const Framing framing = on_head();
    if (framing == Framing::kNone) return end(), true;
    if (fields.count("transfer-encoding") != 0) {
      state_ = State::kChunkSize;
    } else if (fields.count("content-length") != 0) {
      left_ = strtoull(fields["content-length"].c_str(), nullptr, 10);
      state_ = State::kLength;
      if (left_ == 0) end();
    } else if (is_response) {
      left_ = SIZE_MAX;
      state_ = State::kUntilEnd;
    } else {
      end();
    }
    return true;
  }
  bool read_counted() {
    if (kept_.empty()) return false;
    const size_t count = std::min<size_t>(left_, kept_.size());
    on_body(std::string_view(kept_).substr(0, count));
    kept_.erase(0, count);
    if (state_ == State::kUntilEnd) return false;
    left_ -= count;
    if (left_ != 0) return true;
    if (state_ == State::kChunk) {
      state_ = State::kChunkEnd;
    } else {
      end();
    }
    return true;
  }
  void end() {
    state_ = State::kHead;
    on_message();
  }

  State state_ = State::kHead;
  size_t left_ = 0;
  std::string kept_;
};

/// A body in chunks of the size that `form` chooses.
inline std::string chunked(const std::string& body, uint8_t form, bool trailers) {
  static const size_t sizes[] = {1000, 16384, 7, 100'000};
  const size_t size = body.size() > 20'000 ? std::max<size_t>(sizes[form & 3], 1000) : sizes[form & 3];
  std::string out;
  char line[32];
  for (size_t at = 0; at < body.size(); at += size) {
    const size_t count = std::min(size, body.size() - at);
    snprintf(line, sizeof(line), "%zx\r\n", count);
    out.append(line).append(body, at, count).append("\r\n");
  }
  return out + (trailers ? "0\r\nx-end: 1\r\n\r\n" : "0\r\n\r\n");
}

class Http1Client : public End {
 public:
  Http1Client(int fd, const EndEvents& events, const EndpointTls* tls) : End(fd, events, tls) {
    reader_.is_response = true;
    reader_.on_head = [this] { return read_head(); };
    reader_.on_body = [this](std::string_view bytes) {
      if (status_ == 200) body_.add(*waiting_.front(), true, bytes);
    };
    reader_.on_message = [this] {
      if (status_ < 200) return;
      Transfer* exchange = waiting_.front();
      waiting_.pop_front();
      events_.on_outcome(exchange, status_, body_.at);
      body_ = {};
    };
  }

  // `up`: 1 chunked, 2 Expect, 4 with trailers, 8 Connection: close.
  void ask(Transfer* exchange) override {
    const Transfer& e = *exchange;
    const bool has_body = e.up_size != 0;
    std::string head = (e.is_head  ? "HEAD"
                        : has_body ? "POST"
                                   : "GET") +
                       std::string(" /t HTTP/1.1\r\nHost: a.test\r\nX-Id: ") + std::to_string(e.id) + "\r\n";
    if ((e.up & 8) != 0) head += "Connection: close\r\n", last_asked_ = true;
    const std::string body = body_of(e, false, 0, e.up_size);
    if (has_body && (e.up & 2) != 0) head += "Expect: 100-continue\r\n";
    if (has_body && (e.up & 1) != 0) {
      wire.out += head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, e.up >> 4, (e.up & 4) != 0);
    } else {
      wire.out += head + (has_body ? "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" : "\r\n") + body;
    }
    waiting_.push_back(exchange);
    if (tainted) exchange->spoiled = true;
    // An answer before the request's end may cost the connection, and what is asked behind it.
    if (has_body && (e.down & 1) != 0) tainted = true;
  }
  bool may_ask() const override { return !last_asked_ && !told_end_ && !wire.finishes && waiting_.size() < 8; }
  std::vector<Transfer*> open() const override { return {waiting_.begin(), waiting_.end()}; }

 protected:
  void on_bytes(std::string_view bytes) override { reader_.feed(bytes); }
  void on_end(bool in_order) override {
    if (in_order) reader_.finish();
    while (!waiting_.empty()) {
      Transfer* exchange = waiting_.front();
      waiting_.pop_front();
      events_.on_outcome(exchange, 0, 0);
    }
  }

 private:
  Http1Reader::Framing read_head() {
    require(reader_.start_line.size() >= 12, "a status line is whole");
    status_ = atoi(reader_.start_line.c_str() + 9);
    if (status_ < 200) return Http1Reader::Framing::kNone;
    require(!waiting_.empty(), "no answer without a request");
    const Transfer& exchange = *waiting_.front();
    if (status_ == 200) require(reader_.fields["x-id"] == std::to_string(exchange.id), "an answer is its own request's");
    return exchange.is_head ? Http1Reader::Framing::kNone : Http1Reader::Framing::kByHead;
  }

  Http1Reader reader_;
  std::deque<Transfer*> waiting_;
  Checked body_;
  int status_ = 0;
  bool last_asked_ = false;
};

class Http1Server : public End {
 public:
  Http1Server(int fd, const EndEvents& events) : End(fd, events) {
    reader_.on_head = [this] {
      current_ = events_.find(static_cast<uint32_t>(atoi(reader_.fields["x-id"].c_str())));
      require(current_ != nullptr, "no request that nobody made");
      body_ = {};
      if ((current_->down & 1) != 0) answer(*current_);
      return Http1Reader::Framing::kByHead;
    };
    reader_.on_body = [this](std::string_view bytes) { body_.add(*current_, false, bytes); };
    reader_.on_message = [this] {
      require(body_.at == current_->up_size, "a request that ended in order is whole");
      if ((current_->down & 1) == 0) answer(*current_);
      current_ = nullptr;
    };
  }
  std::vector<Transfer*> open() const override { return current_ == nullptr ? std::vector<Transfer*>{} : std::vector{current_}; }

 protected:
  void on_bytes(std::string_view bytes) override {
    if (!wire.finishes) return reader_.feed(bytes);
  }
  void on_end(bool) override { wire.finishes = true; }

 private:
  // `down`: 1 early, 2 after an interim answer, 4 Connection: close; two bits above: by length, chunked, with trailers, until the end.
  void answer(const Transfer& e) {
    const std::string body = body_of(e, true, 0, e.down_size), id = "X-Id: " + std::to_string(e.id) + "\r\n";
    const bool has_body = !e.is_head;
    const int form = e.down >> 3 & 3;
    std::string head = (e.down & 2) != 0 ? "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" : "";
    head += "HTTP/1.1 200 OK\r\n" + id;
    const bool closes = (e.down & 4) != 0 || form == 3;
    if (closes) head += "Connection: close\r\n";
    if (form == 0) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    if (form == 1 || form == 2) head += "Transfer-Encoding: chunked\r\n";
    wire.out += head + "\r\n";
    if (has_body) wire.out += form == 1 || form == 2 ? chunked(body, e.down >> 5, form == 2) : body;
    if (closes) wire.finishes = true;
  }

  Http1Reader reader_;
  Transfer* current_ = nullptr;
  Checked body_;
};

}  // namespace weft::fuzz
