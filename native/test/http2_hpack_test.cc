// HPACK: the examples of RFC 7541 C, the interoperability vectors, faults, bombs, and transcoding as a property.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

#include "check.h"
#include "core/http2/hpack_huffman.h"
#include "core/http2/hpack_integer.h"
#include "http2_support.h"

namespace weft::test {
namespace {

using namespace http2;

constexpr BlockLimits kWide{1u << 20, http1::kMaxFields};

/// Decodes hex in a decoder of its own.
HpackFault fault_of(std::string_view hex, uint32_t limit = 4096) {
  InternTable table;
  HpackDecoder decoder(&table);
  decoder.set_limit(limit);
  HeaderBlock block(&table);
  const std::string bytes = from_hex(hex);
  return decoder.decode(data_of(bytes), bytes.size(), kWide, &block);
}

struct Example {
  const char* wire;
  FieldList fields;
  uint32_t table_size;
};

void check_examples(const std::vector<Example>& examples, uint32_t limit) {
  InternTable table;
  HpackDecoder decoder(&table);
  if (limit != 4096) {  // The examples set it outside of the blocks.
    HeaderBlock empty(&table);
    uint8_t update[6];
    const size_t size = static_cast<size_t>(write_integer(0x20, 5, limit, update) - update);
    CHECK_EQ(decoder.decode(update, size, kWide, &empty), HpackFault::kNone);
  }
  for (const Example& example : examples) {
    HeaderBlock block(&table);
    const std::string bytes = from_hex(example.wire);
    CHECK_EQ(decoder.decode(data_of(bytes), bytes.size(), kWide, &block), HpackFault::kNone);
    CHECK_EQ(shown_list(list_of(block)), shown_list(example.fields));
    CHECK_EQ(decoder.table_size(), example.table_size);
  }
}

const FieldList kC3First = {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}};
const FieldList kC3Second = {
    {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}, {"cache-control", "no-cache"}};
const FieldList kC3Third = {
    {":method", "GET"}, {":scheme", "https"}, {":path", "/index.html"}, {":authority", "www.example.com"}, {"custom-key", "custom-value"}};
const FieldList kC5First = {
    {":status", "302"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}};
const FieldList kC5Second = {
    {":status", "307"}, {"cache-control", "private"}, {"date", "Mon, 21 Oct 2013 20:13:21 GMT"}, {"location", "https://www.example.com"}};
const FieldList kC5Third = {{":status", "200"},
                            {"cache-control", "private"},
                            {"date", "Mon, 21 Oct 2013 20:13:22 GMT"},
                            {"location", "https://www.example.com"},
                            {"content-encoding", "gzip"},
                            {"set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"}};

TEST("RFC 7541 C.1: integers, and their bounds") {
  const auto read = [](std::string_view hex, unsigned bits, uint32_t* value) {
    const std::string bytes = from_hex(hex);
    const uint8_t* at = data_of(bytes);
    return read_integer(&at, at + bytes.size(), bits, value);
  };
  uint32_t value = 0;
  CHECK(read("0a", 5, &value) == IntegerStatus::kGood && value == 10);
  CHECK(read("1f9a0a", 5, &value) == IntegerStatus::kGood && value == 1337);
  CHECK(read("2a", 8, &value) == IntegerStatus::kGood && value == 42);
  CHECK(read("1f9a", 5, &value) == IntegerStatus::kTruncated);
  CHECK(read("", 5, &value) == IntegerStatus::kTruncated);
  CHECK(read("ffffffff7f", 7, &value) == IntegerStatus::kGood && value == 127 + (1u << 28) - 1);
  CHECK(read("ffffffffff01", 7, &value) == IntegerStatus::kTooLarge);
  CHECK(read("ff8080808000", 7, &value) == IntegerStatus::kTooLarge);
  for (uint32_t number : {0u, 30u, 31u, 127u, 128u, 4096u, 1u << 27}) {
    uint8_t out[6];
    const uint8_t* at = out;
    CHECK(read_integer(&at, write_integer(0x20, 5, number, out), 5, &value) == IntegerStatus::kGood && value == number);
  }
}

TEST("RFC 7541 C.2: each representation") {
  check_examples({{"400a637573746f6d2d6b65790d637573746f6d2d686561646572", {{"custom-key", "custom-header"}}, 55}}, 4096);
  check_examples({{"040c2f73616d706c652f70617468", {{":path", "/sample/path"}}, 0}}, 4096);
  check_examples({{"100870617373776f726406736563726574", {{"password", "secret"}}, 0}}, 4096);
  check_examples({{"82", {{":method", "GET"}}, 0}}, 4096);
}

TEST("RFC 7541 C.3 and C.4: requests on one connection, plain and Huffman") {
  check_examples({{"828684410f7777772e6578616d706c652e636f6d", kC3First, 57},
                  {"828684be58086e6f2d6361636865", kC3Second, 110},
                  {"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", kC3Third, 164}},
                 4096);
  check_examples({{"828684418cf1e3c2e5f23a6ba0ab90f4ff", kC3First, 57},
                  {"828684be5886a8eb10649cbf", kC3Second, 110},
                  {"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", kC3Third, 164}},
                 4096);
}

TEST("RFC 7541 C.5 and C.6: responses in a table of 256 bytes, with evictions") {
  check_examples(
      {{"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578"
        "616d706c652e636f6d",
        kC5First, 222},
       {"4803333037c1c0bf", kC5Second, 222},
       {"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157"
        "454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        kC5Third, 215}},
      256);
  check_examples(
      {{"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3", kC5First, 222},
       {"4883640effc1c0bf", kC5Second, 222},
       {"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab27"
        "0fb5291f9587316065c003ed4ee5b1063d5007",
        kC5Third, 215}},
      256);
}

TEST("faults of compression are told") {
  CHECK_EQ(fault_of("80"), HpackFault::kIndex);
  CHECK_EQ(fault_of("be"), HpackFault::kIndex);
  CHECK_EQ(fault_of("7f00"), HpackFault::kIndex);
  CHECK_EQ(fault_of("ff8080808080"), HpackFault::kInteger);
  CHECK_EQ(fault_of("40"), HpackFault::kTruncated);
  CHECK_EQ(fault_of("400161"), HpackFault::kTruncated);
  CHECK_EQ(fault_of("40016105"), HpackFault::kTruncated);
  CHECK_EQ(fault_of("ff"), HpackFault::kTruncated);
  CHECK_EQ(fault_of("0001618 4ffffffff"), HpackFault::kHuffman);  // EOS
  CHECK_EQ(fault_of("00016181ff"), HpackFault::kHuffman);         // 8 bits of padding
  CHECK_EQ(fault_of("000161811e"), HpackFault::kHuffman);         // padding of zeros
  CHECK_EQ(fault_of("000161811f"), HpackFault::kNone);
  CHECK_EQ(fault_of("8220"), HpackFault::kTableSizeMisplaced);
  CHECK_EQ(fault_of("3fe21f"), HpackFault::kTableSizeTooLarge);
  CHECK_EQ(fault_of("3fe11f"), HpackFault::kNone);
  CHECK_EQ(fault_of("203fe11f82"), HpackFault::kNone);
  CHECK_EQ(fault_of("82", 100), HpackFault::kTableSizeMissing);
  CHECK_EQ(fault_of("3f4682", 100), HpackFault::kTableSizeTooLarge);
  CHECK_EQ(fault_of("3f4582", 100), HpackFault::kNone);
  CHECK_EQ(hpack_fault_code(HpackFault::kIndex), ErrorCode::kCompressionError);
}

TEST("Huffman: every text reads back, and every cut of padding is checked") {
  Random random(1);
  for (int round = 0; round < 3000; round++) {
    std::string text(random.below(60), 0);
    for (char& c : text) c = static_cast<char>(round % 3 == 0 ? random.below(256) : 32 + random.below(95));
    std::string encoded(huffman_encoded_size(text), 0);
    CHECK_EQ(huffman_encode(text, reinterpret_cast<uint8_t*>(encoded.data())) - data_of(encoded), static_cast<long>(encoded.size()));
    std::string decoded(huffman_decoded_bound(encoded.size()), 0);
    const int64_t size = huffman_decode(data_of(encoded), encoded.size(), decoded.data());
    CHECK(size >= 0 && decoded.substr(0, static_cast<size_t>(size)) == text);
    if (encoded.empty() || (encoded.back() & 1) == 0) continue;
    encoded += '\xff';
    CHECK_EQ(huffman_decode(data_of(encoded), encoded.size(), decoded.data()), -1);
  }
}

/// The strings of a JSON text, in order; the vectors hold nothing else of interest.
std::vector<std::string> json_strings(const std::string& text) {
  std::vector<std::string> strings;
  for (size_t at = text.find('"'); at != std::string::npos; at = text.find('"', at)) {
    std::string value;
    for (at++; text[at] != '"'; at++) {
      if (text[at] == '\\') at++;
      value += text[at];
    }
    at++;
    strings.push_back(value);
  }
  return strings;
}

/// Returns the cases that were checked.
size_t check_story(const std::filesystem::path& path, bool resizes) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  const std::vector<std::string> strings = json_strings(content.str());
  InternTable table;
  HpackDecoder decoder(&table);
  if (resizes) decoder.set_limit(1u << 16);
  size_t cases = 0;
  for (size_t i = 0; i < strings.size(); i++) {
    if (strings[i] != "wire") continue;
    const std::string wire = from_hex(strings[i + 1]);
    FieldList expected;
    for (i += 3; i + 1 < strings.size() && strings[i] != "seqno" && strings[i] != "wire" && strings[i] != "description"; i += 2) {
      if (strings[i] == "header_table_size") {
        i--;
        continue;
      }
      expected.emplace_back(strings[i], strings[i + 1]);
    }
    i--;
    HeaderBlock block(&table);
    CHECK_EQ(decoder.decode(data_of(wire), wire.size(), kWide, &block), HpackFault::kNone);
    CHECK_EQ(shown_list(list_of(block)), shown_list(expected));
    cases++;
  }
  return cases;
}

TEST("the interoperability vectors decode") {
  if (!std::filesystem::exists(WEFT_HPACK_VECTORS)) {
    skipped = "no " WEFT_HPACK_VECTORS;
    return;
  }
  size_t cases = 0;
  for (const char* folder : {"nghttp2", "nghttp2-change-table-size"}) {
    const std::filesystem::path path = std::filesystem::path(WEFT_HPACK_VECTORS) / folder;
    for (const auto& story : std::filesystem::directory_iterator(path)) cases += check_story(story.path(), folder[7] != 0);
  }
  printf("%zu blocks of the interoperability vectors\n", cases);
  CHECK(cases > 300);
}

TEST("a list over its limits is decoded on, not stored, and the tables stay in step") {
  InternTable table;
  HpackDecoder decoder(&table);
  HeaderBlock block(&table);
  const std::string first = from_hex("8286 400161 0162 400163 0164");
  CHECK_EQ(decoder.decode(data_of(first), first.size(), {1000, 3}, &block), HpackFault::kNone);
  CHECK(block.too_many() && block.size() == 3);
  block.clear();
  const std::string second = from_hex("be bf");
  CHECK_EQ(decoder.decode(data_of(second), second.size(), {100, 10}, &block), HpackFault::kNone);
  CHECK_EQ(shown_list(list_of(block)), "c: d\na: b\n");
  block.clear();
  CHECK_EQ(decoder.decode(data_of(second), second.size(), {34, 10}, &block), HpackFault::kNone);
  CHECK(block.too_long() && block.size() == 1);
}

TEST("bombs end the connection before they cost memory or time") {
  const auto begin = std::chrono::steady_clock::now();
  for (const char* again : {"be", "7e00", "0f2f00"}) {  // The long line, its name with a new entry, its name with a literal.
    InternTable table;
    HpackDecoder decoder(&table);
    HeaderBlock block(&table);
    // A name of 4,000 bytes, which just fits the table.
    std::string bytes = from_hex("407fa11e") + std::string(4000, 'n') + from_hex("0176");
    const std::string repeat = from_hex(again);
    while (bytes.size() < 64 * 1024) bytes += repeat;
    const HpackFault fault = decoder.decode(data_of(bytes), bytes.size(), {}, &block);
    CHECK(fault == HpackFault::kBomb);
    CHECK(table.bytes() < (4u << 20));
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
}

/// A connection's two ends and what a proxy between two connections does.
struct Hop {
  HpackEncoder encoder;
  HpackDecoder decoder;
  Hop(InternTable* sender, InternTable* receiver) : encoder(sender), decoder(receiver) {}

  void send(const HeaderBlock& from, HeaderBlock* to) {
    std::string wire(static_cast<size_t>(from.list_size()) + HpackEncoder::kMaxBeginBytes, 0);
    uint8_t* begin = reinterpret_cast<uint8_t*>(wire.data());
    uint8_t* at = encoder.begin(begin);
    for (const HeaderField& field : from) at = encoder.write(from, field, at);
    CHECK(static_cast<size_t>(at - begin) <= wire.size());
    CHECK_EQ(decoder.decode(begin, static_cast<size_t>(at - begin), kWide, to), HpackFault::kNone);
  }
  void resize(uint32_t bytes) {
    encoder.set_peer_limit(bytes);
    decoder.set_limit(bytes);
  }
};

TEST("what is transcoded reads the same under random table sizes, churn and secrets") {
  for (uint64_t seed = 1; seed <= 40; seed++) {
    Random random(seed);
    InternTable client, proxy({64, 8192}), server;
    Hop in(&client, &proxy), out(&proxy, &server);
    for (int round = 0; round < 200; round++) {
      if (random.below(10) == 0) in.resize(random.below(3) == 0 ? 0 : random.below(4097));
      if (random.below(10) == 0) out.resize(random.below(5000));
      HeaderBlock sent(&client);
      const uint32_t count = random.below(20);
      for (uint32_t i = 0; i < count; i++) {
        const std::string name = random.below(4) == 0 ? "content-type" : "x-" + std::to_string(random.below(30));
        const std::string value(random.below(random.below(8) == 0 ? 3000 : 20), static_cast<char>('a' + random.below(26)));
        if (random.below(4) != 0) {
          const Interned line = client.intern(name, value);
          sent.count_size(line.field->hpack_size());
          sent.add_interned(line.field, random.below(3) == 0);
        } else {
          add_text(name, value, random.below(3) == 0, &sent);
        }
      }
      HeaderBlock through(&proxy), received(&server);
      in.send(sent, &through);
      CHECK(list_of(through) == list_of(sent));
      const HeaderBlock kept = std::move(through);
      out.send(kept, &received);
      CHECK(list_of(received) == list_of(sent));
      for (size_t i = 0; i < sent.size(); i++) CHECK(!sent.begin()[i].never_indexed || received.begin()[i].never_indexed);
    }
    CHECK(out.encoder.table_size() == out.decoder.table_size() && in.encoder.table_count() == in.decoder.table_count());
  }
}

TEST("a line met before is an index from its second sending on, a fresh one takes no place") {
  InternTable table, peer;
  Hop hop(&table, &peer);
  uint8_t out[256];
  const auto size = [&] { return hop.encoder.write_text("x-tenant", "shop", Indexing::kAllowed, out) - out; };
  CHECK(size() > 10);
  CHECK_EQ(hop.encoder.table_count(), 0u);
  CHECK(size() > 10);
  CHECK_EQ(hop.encoder.table_count(), 1u);
  CHECK_EQ(size(), 1);
}

TEST("a literal that is not to be indexed and came twice running is held, and goes on as an index") {
  InternTable table, peer;
  HpackDecoder decoder(&table);
  Hop next(&table, &peer);
  // Whether it is held, and how many bytes it is for the next hop.
  const auto sent = [&](std::string_view hex) {
    const std::string bytes = from_hex(hex);
    HeaderBlock block(&table);
    CHECK(decoder.decode(data_of(bytes), bytes.size(), BlockLimits{}, &block) == HpackFault::kNone);
    CHECK_EQ(block.size(), 1u);
    uint8_t out[256];
    const auto size = next.encoder.write(block, *block.begin(), out) - out;
    return std::tuple(std::string(block.value(*block.begin())), block.begin()->interned != nullptr, size);
  };
  // ":path: /sample/path" and "password: secret" of RFC 7541 C.2.2 and C.2.3.
  const std::string_view path = "04 0c 2f73 616d 706c 652f 7061 7468", other = "04 0c 2f73 616d 706c 652f 7061 7469";
  const std::string_view secret = "10 08 7061 7373 776f 7264 06 7365 6372 6574";
  CHECK(sent(path) == std::tuple("/sample/path", false, 14));
  // Fresh.
  CHECK(sent(path) == std::tuple("/sample/path", true, 14));
  CHECK(sent(path) == std::tuple("/sample/path", true, 14));
  CHECK(sent(path) == std::tuple("/sample/path", true, 1));
  CHECK(sent(other) == std::tuple("/sample/pati", false, 14));
  CHECK(sent(path) == std::tuple("/sample/path", false, 14));
  for (int i = 0; i < 4; i++) CHECK(sent(secret) == std::tuple("secret", false, 17));
  const std::string long_value = "04 7f 21" + [] {
    std::string bytes;
    for (int i = 0; i < 160; i++) bytes += "61";
    return bytes;
  }();
  for (int i = 0; i < 4; i++) CHECK(!std::get<1>(sent(long_value)));
}

TEST("a literal whose name is an index of the peer's table is none that is held: the index may be another's by then") {
  InternTable table;
  HpackDecoder decoder(&table);
  const auto name = [&](std::string_view hex) {
    const std::string bytes = from_hex(hex);
    HeaderBlock block(&table);
    CHECK(decoder.decode(data_of(bytes), bytes.size(), BlockLimits{}, &block) == HpackFault::kNone);
    CHECK(block.begin()->interned == nullptr || hex.substr(0, 2) == "40");
    return std::string(block.name(*block.begin()));
  };
  const std::string_view literal = "0f 2f 01 31";
  name("40 01 61 01 30");
  for (int i = 0; i < 3; i++) CHECK_EQ(name(literal), "a");
  name("40 01 62 01 30");
  for (int i = 0; i < 3; i++) CHECK_EQ(name(literal), "b");
}

}  // namespace
}  // namespace weft::test
