// RFC 9113 8.1 to 8.3: what a field list must be to be a request, a response or trailers.
#include <cstring>

#include "core/http1/ascii.h"
#include "core/http1/body.h"
#include "core/http2/header_block.h"

namespace weft::http2 {
namespace {

using http1::known_bit;
using http1::KnownHeader;

struct ErrorText {
  const char* name;
  int status;
};
constexpr ErrorText kErrors[] = {
#define WEFT_X(name, text, status) {text, status},
    WEFT_HTTP2_BLOCK_ERRORS(WEFT_X)
#undef WEFT_X
};

constexpr uint8_t bit(Pseudo pseudo) { return static_cast<uint8_t>(1u << static_cast<unsigned>(pseudo)); }
constexpr uint8_t kRequestPseudo =
    bit(Pseudo::kMethod) | bit(Pseudo::kScheme) | bit(Pseudo::kAuthority) | bit(Pseudo::kPath) | bit(Pseudo::kProtocol);
constexpr uint8_t kResponsePseudo = bit(Pseudo::kStatus);

/// The fields that a summary is made of; pseudo-header fields by Pseudo.
struct Survey {
  const HeaderField* pseudo[8] = {};
  const HeaderField* host = nullptr;
  const HeaderField* content_length = nullptr;
  uint8_t pseudo_present = 0;
  uint64_t present = 0;
  uint64_t repeated = 0;

  bool has(Pseudo which) const { return (pseudo_present & bit(which)) != 0; }
};

/// Which error a bad value is.
BlockError bad_value(const FieldTraits& traits) {
  switch (traits.pseudo) {
    case Pseudo::kMethod:
    case Pseudo::kProtocol:
      return BlockError::kMethod;
    case Pseudo::kScheme:
      return BlockError::kScheme;
    case Pseudo::kPath:
      return BlockError::kPath;
    case Pseudo::kAuthority:
      return BlockError::kAuthoritySyntax;
    case Pseudo::kStatus:
      return BlockError::kStatus;
    default:
      break;
  }
  if (traits.known == KnownHeader::kHost) return BlockError::kAuthoritySyntax;
  return traits.known == KnownHeader::kContentLength ? BlockError::kContentLengthSyntax : BlockError::kFieldValue;
}

BlockError bad_flags(const FieldTraits& traits) {
  if ((traits.flags & kFieldBadName) != 0) return BlockError::kFieldName;
  return (traits.flags & kFieldBadValue) != 0 ? bad_value(traits) : BlockError::kConnectionSpecific;
}

BlockError take_pseudo(const HeaderField& field, uint8_t allowed, bool regular_seen, Survey* survey) {
  const Pseudo pseudo = field.traits.pseudo;
  if (pseudo == Pseudo::kUnknown) return BlockError::kPseudoUnknown;
  if ((allowed & bit(pseudo)) == 0) return BlockError::kPseudoNotAllowed;
  if (regular_seen) return BlockError::kPseudoMisplaced;
  if (survey->has(pseudo)) return BlockError::kPseudoRepeated;
  survey->pseudo_present |= bit(pseudo);
  survey->pseudo[static_cast<size_t>(pseudo)] = &field;
  return BlockError::kNone;
}

/// One pass over all fields.
BlockError survey_fields(const HeaderBlock& block, uint8_t allowed_pseudo, Survey* survey) {
  if (block.too_long()) return BlockError::kListTooLong;
  if (block.too_many()) return BlockError::kTooManyFields;
  constexpr uint8_t kBad = kFieldBadName | kFieldBadValue | kFieldConnectionSpecific;
  bool regular_seen = false;
  for (const HeaderField& field : block) {
    if (field.traits.pseudo != Pseudo::kNone) {
      const BlockError error = take_pseudo(field, allowed_pseudo, regular_seen, survey);
      if (error != BlockError::kNone) return error;
    } else {
      regular_seen = true;
    }
    if ((field.traits.flags & kBad) != 0) return bad_flags(field.traits);
    if (field.traits.known == KnownHeader::kOther) continue;
    const uint64_t known = known_bit(field.traits.known);
    survey->repeated |= survey->present & known;
    survey->present |= known;
    if (field.traits.known == KnownHeader::kHost) survey->host = &field;
    if (field.traits.known == KnownHeader::kContentLength) survey->content_length = &field;
  }
  return BlockError::kNone;
}

BlockError summarise(const HeaderBlock& block, const Survey& survey, MessageSummary* summary) {
  summary->present = survey.present;
  summary->repeated = survey.repeated;
  if (survey.content_length == nullptr) return BlockError::kNone;
  if ((survey.repeated & known_bit(KnownHeader::kContentLength)) != 0) return BlockError::kContentLengthRepeated;
  summary->has_content_length = true;
  uint64_t length = 0;
  // Up to 18 digits, see with_value().
  for (const char c : block.value(*survey.content_length)) length = length * 10 + static_cast<uint64_t>(c - '0');
  summary->content_length = length;
  return BlockError::kNone;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++) {
    if (http1::lower(a[i]) != http1::lower(b[i])) return false;
  }
  return true;
}

/// RFC 9113 8.3.1: one of the two, and both the same.
BlockError take_authority(const HeaderBlock& block, const Survey& survey, RequestSummary* request) {
  const HeaderField* authority = survey.pseudo[static_cast<size_t>(Pseudo::kAuthority)];
  if ((survey.repeated & known_bit(KnownHeader::kHost)) != 0) return BlockError::kHostRepeated;
  if (authority == nullptr && survey.host == nullptr) return BlockError::kAuthorityMissing;
  request->authority_field = authority != nullptr ? authority : survey.host;
  request->authority = block.value(*request->authority_field);
  const bool both = authority != nullptr && survey.host != nullptr;
  return both && !equals_ignoring_case(request->authority, block.value(*survey.host)) ? BlockError::kHostDiffers : BlockError::kNone;
}

BlockError take_path(const HeaderBlock& block, const HeaderField& field, RequestSummary* request) {
  request->path_field = &field;
  request->target = block.value(field);
  request->path_is_ambiguous = (field.traits.flags & kFieldAmbiguousPath) != 0;
  request->is_asterisk = request->target == "*";
  if (request->is_asterisk && request->method != http1::Method::kOptions) return BlockError::kPath;
  const size_t mark = request->target.find('?');
  request->has_query = mark != std::string_view::npos;
  request->path = request->target.substr(0, mark);
  if (request->has_query) request->query = request->target.substr(mark + 1);
  return BlockError::kNone;
}

/// Which pseudo-header fields a request needs: RFC 9113 8.3.1, 8.5, RFC 8441 4.
BlockError check_pseudo(const Survey& survey, bool extended_connect, RequestSummary* request) {
  const bool is_connect = request->method == http1::Method::kConnect;
  request->is_extended_connect = is_connect && survey.has(Pseudo::kProtocol);
  if (survey.has(Pseudo::kProtocol) && (!is_connect || !extended_connect)) return BlockError::kPseudoNotAllowed;
  const bool has_target = survey.has(Pseudo::kScheme) && survey.has(Pseudo::kPath);
  if (is_connect && !request->is_extended_connect) {
    if (survey.has(Pseudo::kScheme) || survey.has(Pseudo::kPath)) return BlockError::kPseudoNotAllowed;
    return survey.has(Pseudo::kAuthority) ? BlockError::kNone : BlockError::kPseudoMissing;
  }
  return has_target ? BlockError::kNone : BlockError::kPseudoMissing;
}

BlockError check_expect(const HeaderBlock& block, bool end_stream, RequestSummary* request) {
  if (!request->has(KnownHeader::kExpect)) return BlockError::kNone;
  const bool repeated = (request->repeated & known_bit(KnownHeader::kExpect)) != 0;
  if (repeated || !http1::equals_lower(block.value(*block.find(KnownHeader::kExpect)), "100-continue"))
    return BlockError::kExpectUnsupported;
  request->expects_continue = !end_stream;
  return BlockError::kNone;
}

}  // namespace

const char* block_error_name(BlockError error) { return error < BlockError::kCount ? kErrors[static_cast<size_t>(error)].name : "?"; }
int block_error_status(BlockError error) { return error < BlockError::kCount ? kErrors[static_cast<size_t>(error)].status : 0; }

BlockError check_request(const HeaderBlock& block, bool end_stream, bool extended_connect, RequestSummary* summary) {
  *summary = {};
  Survey survey;
  BlockError error = survey_fields(block, kRequestPseudo, &survey);
  if (error != BlockError::kNone) return error;
  if (!survey.has(Pseudo::kMethod)) return BlockError::kPseudoMissing;
  summary->method_field = survey.pseudo[static_cast<size_t>(Pseudo::kMethod)];
  summary->method_token = block.value(*summary->method_field);
  summary->method = http1::method_of(summary->method_token);
  if ((error = check_pseudo(survey, extended_connect, summary)) != BlockError::kNone) return error;
  if (const HeaderField* scheme = survey.pseudo[static_cast<size_t>(Pseudo::kScheme)]) summary->scheme = block.value(*scheme);
  if (summary->is_extended_connect) {
    summary->method = http1::Method::kGet;
    summary->protocol = block.value(*survey.pseudo[static_cast<size_t>(Pseudo::kProtocol)]);
  }
  if (const HeaderField* path = survey.pseudo[static_cast<size_t>(Pseudo::kPath)]) error = take_path(block, *path, summary);
  if (error == BlockError::kNone) error = take_authority(block, survey, summary);
  if (error == BlockError::kNone && summary->is_plain_connect() && !http1::is_connect_authority(summary->authority))
    error = BlockError::kAuthoritySyntax;
  if (error == BlockError::kNone) error = summarise(block, survey, summary);
  if (error == BlockError::kNone && end_stream && summary->content_length > 0) error = BlockError::kContentLengthWithoutBody;
  if (error == BlockError::kNone) error = check_expect(block, end_stream, summary);
  return error;
}

BlockError check_response(const HeaderBlock& block, ResponseSummary* summary) {
  *summary = {};
  Survey survey;
  const BlockError error = survey_fields(block, kResponsePseudo, &survey);
  if (error != BlockError::kNone) return error;
  const HeaderField* status = survey.pseudo[static_cast<size_t>(Pseudo::kStatus)];
  if (status == nullptr) return BlockError::kPseudoMissing;
  const std::string_view digits = block.value(*status);
  summary->status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
  if (summary->status == 101) return BlockError::kStatus;
  return summarise(block, survey, summary);
}

BlockError check_trailers(const HeaderBlock& block) {
  Survey survey;
  const BlockError error = survey_fields(block, 0, &survey);
  if (error != BlockError::kNone) return error;
  return (survey.present & http1::kForbiddenTrailers) != 0 ? BlockError::kFieldName : BlockError::kNone;
}

}  // namespace weft::http2
