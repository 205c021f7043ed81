// See peer_identity.h.
#include "core/tls/peer_identity.h"

#include <openssl/x509v3.h>

#include "core/tables/tables.h"

namespace weft {

namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr size_t kMaxIdBytes = 2048;
constexpr size_t kMaxTrustDomainBytes = 255;

bool is_trust_domain_byte(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; }
bool is_path_byte(char c) { return is_trust_domain_byte(c) || (c >= 'A' && c <= 'Z'); }

bool is_path(std::string_view path) {
  while (!path.empty()) {
    if (path[0] != '/') return false;
    const size_t end = std::min(path.find('/', 1), path.size());
    const std::string_view segment = path.substr(1, end - 1);
    if (segment.empty() || segment == "." || segment == "..") return false;
    for (const char c : segment) {
      if (!is_path_byte(c)) return false;
    }
    path.remove_prefix(end);
  }
  return true;
}

std::string_view trust_domain_of(std::string_view id) {
  id.remove_prefix(kScheme.size());
  return id.substr(0, id.find('/'));
}

}  // namespace

bool is_spiffe_id(std::string_view text) {
  if (text.size() > kMaxIdBytes || !text.starts_with(kScheme)) return false;
  const std::string_view domain = trust_domain_of(text);
  if (domain.empty() || domain.size() > kMaxTrustDomainBytes) return false;
  for (const char c : domain) {
    if (!is_trust_domain_byte(c)) return false;
  }
  return is_path(text.substr(kScheme.size() + domain.size()));
}

std::string spiffe_id_of(X509* certificate) {
  if (certificate == nullptr || X509_check_ca(certificate) != 0) return {};
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  if (names == nullptr) return {};
  std::string id;
  int uris = 0;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
    // The whole string, so that a NUL in it can't hide a tail.
    if (uris++ == 0) id.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), static_cast<size_t>(ASN1_STRING_length(uri)));
  }
  GENERAL_NAMES_free(names);
  return uris == 1 && is_spiffe_id(id) ? id : std::string();
}

bool has_host(X509* certificate, const std::string& host) {
  if (host.empty()) return false;
  Address address;
  if (parse_address(host, &address)) return X509_check_ip_asc(certificate, host.c_str(), 0) == 1;
  constexpr unsigned kFlags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
  return X509_check_host(certificate, host.data(), host.size(), kFlags, nullptr) == 1;
}

bool has_identity(X509* certificate, const std::vector<PeerMatch>& accepted) {
  const std::string id = spiffe_id_of(certificate);
  for (const PeerMatch& match : accepted) {
    switch (match.kind) {
      case PeerMatch::Kind::kSpiffeId:
        if (!id.empty() && id == match.value) return true;
        break;
      case PeerMatch::Kind::kTrustDomain:
        if (!id.empty() && trust_domain_of(id) == match.value) return true;
        break;
      case PeerMatch::Kind::kDnsName:
        if (has_host(certificate, match.value)) return true;
        break;
    }
  }
  return false;
}

}  // namespace weft
