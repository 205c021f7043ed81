// rtnetlink requests and dumps on one socket, of any network namespace. Knows no object of the mesh.
// Own code and not `ip`: the agent's image needs no iproute2, every object reports its own errno, and set-up takes milliseconds.
#pragma once
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bpf/descriptor.h"
#include "bpf/outcome.h"

namespace weft::bpf {

class NetlinkMessage {
 public:
  NetlinkMessage(uint16_t type, uint16_t flags);

  template <typename Header>
  void header(const Header& value) {
    append(&value, sizeof value);
  }
  void attribute(uint16_t type, const void* data, size_t length);
  void attribute(uint16_t type, const std::string& text) { attribute(type, text.c_str(), text.size() + 1); }
  void number(uint16_t type, uint32_t value) { attribute(type, &value, sizeof value); }
  void byte(uint16_t type, uint8_t value) { attribute(type, &value, sizeof value); }
  // Between open() and close() what is appended lies within the attribute.
  size_t open(uint16_t type);
  void close(size_t nest);
  // Bytes as they are: a header within a nest (veth's peer).
  void append(const void* data, size_t length);

  nlmsghdr* finish(uint32_t sequence);
  uint16_t type() const { return type_; }

 private:
  std::vector<char> bytes_;
  uint16_t type_;
};

// The attributes of a message by type; pointers are valid while the message is.
class NetlinkAttributes {
 public:
  NetlinkAttributes(const rtattr* first, int length);
  // The attributes after `header_length` bytes of family header.
  static NetlinkAttributes of(const nlmsghdr* message, size_t header_length);
  const rtattr* find(uint16_t type) const;
  // `missing` where there is none.
  int64_t number(uint16_t type, int64_t missing) const;
  std::string text(uint16_t type) const;

 private:
  const rtattr* first_;
  int length_;
};

class NetlinkSocket {
 public:
  // Of the namespace `there`.
  Outcome open(int there);
  // 0, or a positive errno. `each` gets every message of the answer that is not an acknowledgement.
  int exchange(NetlinkMessage& message, const std::function<void(const nlmsghdr*)>& each = {});

 private:
  Descriptor fd_;
  uint32_t sequence_ = 0;
};

}  // namespace weft::bpf
