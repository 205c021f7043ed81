// Certificates for the tests, made anew in each process: an authority, and leaves with the SANs and validity a test asks for.
#pragma once
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

namespace weft::test {

inline std::string pem_of(void (*write)(BIO*, const void*), const void* what) {
  BIO* bio = BIO_new(BIO_s_mem());
  write(bio, what);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

struct Leaf {
  std::string chain;
  std::string key;
};

class Authority {
 public:
  explicit Authority(const char* name = "Test authority") : key_(EVP_EC_gen("P-256")) {
    certificate_ = make(name, key_, "", "critical,CA:TRUE", -3600, 86400);
  }
  ~Authority() {
    X509_free(certificate_);
    EVP_PKEY_free(key_);
  }
  Authority(const Authority&) = delete;

  std::string pem() const {
    return pem_of([](BIO* bio, const void* what) { PEM_write_bio_X509(bio, static_cast<const X509*>(what)); }, certificate_);
  }
  // `sans`: as openssl.cnf has them, "DNS:a.test,URI:spiffe://td/x".
  Leaf leaf(const std::string& sans, long from_s = -60, long to_s = 3600) const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = make("leaf", key, sans, "critical,CA:FALSE", from_s, to_s);
    Leaf made;
    made.chain = pem_of([](BIO* bio, const void* what) { PEM_write_bio_X509(bio, static_cast<const X509*>(what)); }, certificate);
    made.key = pem_of(
        [](BIO* bio, const void* what) {
          PEM_write_bio_PrivateKey(bio, static_cast<const EVP_PKEY*>(what), nullptr, nullptr, 0, nullptr, nullptr);
        },
        key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return made;
  }

 private:
  X509* make(const char* name, EVP_PKEY* key, const std::string& sans, const char* constraints, long from_s, long to_s) const {
    static long serial = 1;
    X509* certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from_s);
    X509_gmtime_adj(X509_getm_notAfter(certificate), to_s);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, reinterpret_cast<const uint8_t*>(name), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate_ != nullptr ? certificate_ : certificate));
    extend(certificate, NID_basic_constraints, constraints);
    if (!sans.empty()) extend(certificate, NID_subject_alt_name, sans.c_str());
    X509_sign(certificate, key_, EVP_sha256());
    return certificate;
  }
  static void extend(X509* certificate, int nid, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  EVP_PKEY* key_;
  X509* certificate_ = nullptr;
};

}  // namespace weft::test
