// gRPC-Web's bytes; whole exchanges are in test/integration/grpc-web.test.ts.
#include "core/grpc_web.h"

#include "check.h"

namespace weft {
namespace {

// Cut at `cut`; "!" if it is refused.
std::string decoded(const std::string& text, size_t cut = 0) {
  Base64Decoder decoder;
  std::string out;
  for (const std::string& part : {text.substr(0, cut), text.substr(cut)}) {
    uint8_t bytes[256];
    size_t size = 0;
    if (!decoder.decode(reinterpret_cast<const uint8_t*>(part.data()), part.size(), bytes, &size)) return "!";
    out.append(reinterpret_cast<const char*>(bytes), size);
  }
  return decoder.at_boundary() ? out : "!";
}

std::string encoded(const std::string& bytes) {
  std::string text(base64_size(bytes.size()), '\0');
  encode_base64(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), reinterpret_cast<uint8_t*>(text.data()));
  return text;
}

TEST("grpc-web: base64 is read and written as in RFC 4648 10, at every cut") {
  const char* pairs[][2] = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : pairs) {
    CHECK_EQ(encoded(bytes), std::string(text));
    for (size_t cut = 0; cut <= std::string(text).size(); cut++) CHECK_EQ(decoded(text, cut), std::string(bytes));
  }
}

TEST("grpc-web: padding may end any quantum, since every piece may be padded") {
  const std::string text = "Zg==Zm8=Zm9vZg==";
  for (size_t cut = 0; cut <= text.size(); cut++) CHECK_EQ(decoded(text, cut), std::string("ffofoof"));
}

TEST("grpc-web: what no encoder writes is refused, at every cut") {
  for (const std::string text :
       {"Z", "Zg", "Zg=", "Z===", "====", "Zg=v", "Zm9v=", "Zh==", "Zm9=", "Zm 9", "Zm9\n", "Zm-_", "Zm9v\r\nZm9v"}) {
    for (size_t cut = 0; cut <= text.size(); cut++) CHECK_EQ(decoded(text, cut), std::string("!"));
  }
}

TEST("grpc-web: content types are told apart, and keep their format") {
  CHECK_EQ(grpc_form_of("application/grpc"), GrpcForm::Native);
  CHECK_EQ(grpc_form_of("application/grpc+proto"), GrpcForm::Native);
  CHECK_EQ(grpc_form_of("Application/gRPC-Web"), GrpcForm::Web);
  CHECK_EQ(grpc_form_of("application/grpc-web+json"), GrpcForm::Web);
  CHECK_EQ(grpc_form_of("application/grpc-web-text; charset=utf-8"), GrpcForm::WebText);
  CHECK_EQ(grpc_form_of("application/grpc-website"), GrpcForm::None);
  CHECK_EQ(grpc_form_of("application/grpcx"), GrpcForm::None);
  CHECK_EQ(grpc_form_of("application/json"), GrpcForm::None);
  CHECK_EQ(grpc_type_line_for_web("application/grpc-web"), std::string("content-type: application/grpc+proto\r\n"));
  CHECK_EQ(grpc_type_line_for_web("application/grpc-web-text+json;q=+x"), std::string("content-type: application/grpc+json\r\n"));
  CHECK_EQ(grpc_web_type_line(GrpcForm::Web, "application/grpc"), std::string("content-type: application/grpc-web+proto\r\n"));
  CHECK_EQ(grpc_web_type_line(GrpcForm::WebText, "application/grpc+json"), std::string("content-type: application/grpc-web-text+json\r\n"));
}

TEST("grpc: a timeout is handed on in milliseconds, and beyond what eight digits of them say in whole seconds") {
  GrpcTimeoutLine line;
  CHECK_EQ(line.format(parse_grpc_timeout("99999999m")), "grpc-timeout: 99999999m\r\n");
  CHECK_EQ(line.format(parse_grpc_timeout("100000S")), "grpc-timeout: 100000S\r\n");
  CHECK_EQ(line.format(parse_grpc_timeout("48H")), "grpc-timeout: 172800S\r\n");
  CHECK_EQ(line.format(parse_grpc_timeout("48H") + 1), "grpc-timeout: 172801S\r\n");
  CHECK_EQ(line.format(parse_grpc_timeout("99999999H")), "grpc-timeout: 99999999S\r\n");
}

}  // namespace
}  // namespace weft
