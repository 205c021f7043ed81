// Compiles a mutation set: what it drops, and the lines it appends.
#include <algorithm>

#include "core/http1/ascii.h"
#include "core/http1/serialize.h"

namespace weft::http1 {
namespace {

constexpr uint64_t kManaged = known_bit(KnownHeader::kHost) | known_bit(KnownHeader::kContentLength) |
                              known_bit(KnownHeader::kTransferEncoding) | known_bit(KnownHeader::kConnection) |
                              known_bit(KnownHeader::kKeepAlive) | known_bit(KnownHeader::kTe) | known_bit(KnownHeader::kTrailer) |
                              known_bit(KnownHeader::kUpgrade) | known_bit(KnownHeader::kProxyConnection);

std::string lowered(std::string_view name) {
  std::string copy(name);
  std::transform(copy.begin(), copy.end(), copy.begin(), lower);
  return copy;
}

}  // namespace

bool is_managed_header(std::string_view name) {
  if (!is_token(name)) return false;
  const KnownHeader known = known_header(name);
  return known != KnownHeader::kOther && (kManaged & known_bit(known)) != 0;
}

bool MutationSet::check(std::string_view name, std::string_view value, std::string* error) const {
  const char* what = nullptr;
  if (!is_token(name)) {
    what = "is not a header name (RFC 9110 5.6.2)";
  } else if (is_managed_header(name)) {
    what = "is managed by the engine and cannot be changed";
  } else if (!is_field_value(value)) {
    what = "has a value with control bytes";
  }
  if (what != nullptr) *error = "\"" + std::string(name) + "\" " + what;
  return what == nullptr;
}

bool MutationSet::compile(const std::vector<std::string>& remove, const std::vector<Pair>& set, const std::vector<Pair>& add,
                          std::string* error) {
  const auto drop = [this](std::string_view name) {
    drop_.push_back(lowered(name));
    sizes_ |= 1ull << (name.size() & 63);
  };
  const auto append = [this](const Pair& pair) { lines_ += lowered(pair.first) + ": " + std::string(trim(pair.second)) + "\r\n"; };
  for (const std::string& name : remove) {
    if (!check(name, "", error)) return false;
    drop(name);
  }
  for (size_t i = 0; i < set.size(); i++) {
    if (!check(set[i].first, set[i].second, error)) return false;
    drop(set[i].first);
    // The last of one name wins.
    const bool overridden = std::any_of(set.begin() + static_cast<std::ptrdiff_t>(i) + 1, set.end(),
                                        [&](const Pair& later) { return lowered(later.first) == drop_.back(); });
    if (!overridden) append(set[i]);
  }
  for (const Pair& pair : add) {
    if (!check(pair.first, pair.second, error)) return false;
    append(pair);
  }
  return true;
}

bool MutationSet::drops(std::string_view name) const {
  if ((sizes_ >> (name.size() & 63) & 1) == 0) return false;
  return std::any_of(drop_.begin(), drop_.end(), [&](const std::string& dropped) { return equals_lower(name, dropped); });
}

}  // namespace weft::http1
