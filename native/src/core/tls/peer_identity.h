// Who a certificate says its owner is. Reads certificates whose chain was verified by others.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/tls/tls_spec.h"

struct x509_st;

namespace weft {

// Whether the text is a well-formed SPIFFE ID (SPIFFE-ID 2): a trust domain, and a path without empty, "." or ".." segments.
bool is_spiffe_id(std::string_view text);
// The SPIFFE ID of an X.509-SVID; empty if it is none: not a leaf, not exactly one URI SAN, or not well formed (X509-SVID 2 and 4.1).
std::string spiffe_id_of(struct x509_st* certificate);
// What it calls its owner, for people: the first URI among its SANs, else the first DNS name, else the subject (RFC 2253).
std::string name_of(struct x509_st* certificate);
// An element of X-Forwarded-Client-Cert as Envoy writes it: Hash (SHA-256 of the DER), Subject, every URI and DNS name of the SANs. Names
// that could be read as anything else (quotes, control bytes, what is not ASCII) are left out, so are those beyond 2 KiB.
std::string forwarded_certificate(struct x509_st* certificate);
// Whether the certificate has one of the identities. Common names count for nothing.
bool has_identity(struct x509_st* certificate, const std::vector<PeerMatch>& accepted);
// DNS name or IP address among its SANs.
bool has_host(struct x509_st* certificate, const std::string& host);

}  // namespace weft
