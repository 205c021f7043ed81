// Until transcode_http1.cc is there: weak, so that it takes over by itself. To be removed then.
#include "core/http2/transcode.h"
#include "core/http2/match.h"
#define W __attribute__((weak))
namespace weft::http2 {
W http1::BodyFraming request_framing(const RequestSummary&, bool) { __builtin_trap(); }
W bool write_request_head(const HeaderBlock&, const RequestSummary&, const http1::RequestHeadOptions&, char*, size_t, size_t*) { __builtin_trap(); }
W void set_forwarded_framing(const ResponseSummary&, bool, http1::Method, uint8_t, http1::ResponseHeadOptions*) { __builtin_trap(); }
W bool write_response_head(const HeaderBlock&, const ResponseSummary&, int, const http1::ResponseHeadOptions&, char*, size_t, size_t*) { __builtin_trap(); }
W bool write_trailer_lines(const HeaderBlock&, char*, size_t, size_t*) { __builtin_trap(); }
}
