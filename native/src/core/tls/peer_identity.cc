// See peer_identity.h.
#include "core/tls/peer_identity.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <utility>

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

// The whole strings, so that a NUL in one can't hide a tail.
std::vector<std::string> alternative_names(X509* certificate, int type) {
  std::vector<std::string> found;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != type) continue;
    const ASN1_IA5STRING* text = name->d.ia5;
    found.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), static_cast<size_t>(ASN1_STRING_length(text)));
  }
  GENERAL_NAMES_free(names);
  return found;
}

// Can stand in a log, in a field's value and in a quoted string as it is.
bool is_plain(const std::string& name) {
  const auto is_odd = [](char c) { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\'; };
  return !name.empty() && std::none_of(name.begin(), name.end(), is_odd);
}

// RFC 2253, which escapes quotes, backslashes, control bytes and what is not ASCII.
std::string subject_of(X509* certificate) {
  BIO* memory = BIO_new(BIO_s_mem());
  if (memory == nullptr) return {};
  std::string subject;
  char* bytes = nullptr;
  if (X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
    const long size = BIO_get_mem_data(memory, &bytes);
    if (size > 0) subject.assign(bytes, static_cast<size_t>(size));
  }
  BIO_free(memory);
  return subject;
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
  const std::vector<std::string> uris = alternative_names(certificate, GEN_URI);
  return uris.size() == 1 && is_spiffe_id(uris[0]) ? uris[0] : std::string();
}

std::string name_of(X509* certificate) {
  for (const int type : {GEN_URI, GEN_DNS}) {
    for (const std::string& name : alternative_names(certificate, type)) {
      if (is_plain(name)) return name;
    }
  }
  return subject_of(certificate);
}

std::string forwarded_certificate(X509* certificate) {
  constexpr size_t kMost = 2048;
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  std::string element = "Hash=";
  if (X509_digest(certificate, EVP_sha256(), digest, &size) != 1) size = 0;
  for (unsigned i = 0; i < size; i++) {
    element += "0123456789abcdef"[digest[i] >> 4];
    element += "0123456789abcdef"[digest[i] & 15];
  }
  const std::string subject = subject_of(certificate);
  if (element.size() + subject.size() < kMost) element += ";Subject=\"" + subject + '"';
  for (const auto& [type, key] : {std::pair{GEN_URI, ";URI="}, std::pair{GEN_DNS, ";DNS="}}) {
    for (const std::string& name : alternative_names(certificate, type)) {
      if (!is_plain(name) || element.size() + name.size() >= kMost) continue;
      const bool quoted = name.find_first_of(",;=") != std::string::npos;
      element += key + (quoted ? '"' + name + '"' : name);
    }
  }
  return element;
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
