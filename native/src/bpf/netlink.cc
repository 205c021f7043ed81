// See netlink.h.
#include "bpf/netlink.h"

#include <sys/socket.h>

#include <cerrno>

#include "bpf/namespaces.h"

namespace weft::bpf {

NetlinkMessage::NetlinkMessage(uint16_t type, uint16_t flags) : type_(type) {
  nlmsghdr head{};
  head.nlmsg_type = type;
  head.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  append(&head, sizeof head);
}

void NetlinkMessage::append(const void* data, size_t length) {
  const char* from = static_cast<const char*>(data);
  bytes_.insert(bytes_.end(), from, from + length);
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
}

void NetlinkMessage::attribute(uint16_t type, const void* data, size_t length) {
  rtattr head{static_cast<unsigned short>(RTA_LENGTH(length)), type};
  append(&head, sizeof head);
  append(data, length);
}

size_t NetlinkMessage::open(uint16_t type) {
  size_t at = bytes_.size();
  rtattr head{0, type};
  append(&head, sizeof head);
  return at;
}

void NetlinkMessage::close(size_t nest) {
  uint16_t length = static_cast<uint16_t>(bytes_.size() - nest);
  memcpy(bytes_.data() + nest, &length, sizeof length);
}

nlmsghdr* NetlinkMessage::finish(uint32_t sequence) {
  nlmsghdr* head = reinterpret_cast<nlmsghdr*>(bytes_.data());
  head->nlmsg_len = static_cast<uint32_t>(bytes_.size());
  head->nlmsg_seq = sequence;
  return head;
}

NetlinkAttributes::NetlinkAttributes(const rtattr* first, int length) : first_(first), length_(length) {}

NetlinkAttributes NetlinkAttributes::of(const nlmsghdr* message, size_t header_length) {
  const char* start = static_cast<const char*>(NLMSG_DATA(message)) + NLMSG_ALIGN(header_length);
  return {reinterpret_cast<const rtattr*>(start), static_cast<int>(message->nlmsg_len - NLMSG_SPACE(header_length))};
}

const rtattr* NetlinkAttributes::find(uint16_t type) const {
  int left = length_;
  for (const rtattr* at = first_; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    if ((at->rta_type & NLA_TYPE_MASK) == type) return at;
  }
  return nullptr;
}

int64_t NetlinkAttributes::number(uint16_t type, int64_t missing) const {
  const rtattr* found = find(type);
  if (found == nullptr || RTA_PAYLOAD(found) < sizeof(int32_t)) return missing;
  int32_t value;
  memcpy(&value, RTA_DATA(found), sizeof value);
  return value;
}

std::string NetlinkAttributes::text(uint16_t type) const {
  const rtattr* found = find(type);
  if (found == nullptr) return {};
  const char* start = static_cast<const char*>(RTA_DATA(found));
  return {start, strnlen(start, RTA_PAYLOAD(found))};
}

Outcome NetlinkSocket::open(int there) { return open_route_socket(there, fd_); }

int NetlinkSocket::exchange(NetlinkMessage& message, const std::function<void(const nlmsghdr*)>& each) {
  nlmsghdr* head = message.finish(++sequence_);
  bool is_dump = (head->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  if (!is_dump) head->nlmsg_flags |= NLM_F_ACK;
  if (send(fd_.get(), head, head->nlmsg_len, 0) < 0) return errno;
  alignas(nlmsghdr) char buffer[32768];
  for (;;) {
    ssize_t received = recv(fd_.get(), buffer, sizeof buffer, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return errno;
    int left = static_cast<int>(received);
    for (const nlmsghdr* at = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
      if (at->nlmsg_seq != sequence_) continue;
      if (at->nlmsg_type == NLMSG_DONE) return 0;
      if (at->nlmsg_type == NLMSG_ERROR) return -static_cast<const nlmsgerr*>(NLMSG_DATA(at))->error;
      if (each) each(at);
    }
  }
}

}  // namespace weft::bpf
