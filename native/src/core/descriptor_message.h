// One message over a unix socket with the descriptors that go along (SCM_RIGHTS, unix(7)): sendmsg(2) and recvmsg(2), nothing more. In a
// header, for weft-netns has it too and nothing else of the core.
#pragma once
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace weft {

// The kernel allows 253 (SCM_MAX_FD).
inline constexpr size_t kMaxMessageDescriptors = 64;

// Room for one more than is allowed, so that the excess is seen.
union DescriptorControl {
  cmsghdr align;
  char bytes[CMSG_SPACE((kMaxMessageDescriptors + 1) * sizeof(int))];
};

struct ReceivedMessage {
  // Of the text; 0: the peer has closed, or said nothing; or -errno.
  ssize_t size = 0;
  // The text, or what came along, was more than there was room for.
  bool is_cut = false;
  // The receiver's to close.
  size_t count = 0;
  int descriptors[sizeof(DescriptorControl) / sizeof(int)];
};

inline void close_descriptors(const int* descriptors, size_t count) {
  for (size_t i = 0; i < count; i++) close(descriptors[i]);
}

// The bytes sent, or -errno. At most kMaxMessageDescriptors.
inline ssize_t send_with_descriptors(int fd, const void* text, size_t size, const int* descriptors, size_t count, int flags) {
  iovec range = {const_cast<void*>(text), size};
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  DescriptorControl control;
  if (count != 0) {
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(item), descriptors, count * sizeof(int));
  }
  const ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL | flags);
  return sent >= 0 ? sent : -errno;
}

inline void receive_with_descriptors(int fd, void* text, size_t room, int flags, ReceivedMessage* out) {
  iovec range = {text, room};
  DescriptorControl control;
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  out->size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | flags);
  out->count = 0;
  if (out->size < 0) {
    out->size = -errno;
    return;
  }
  out->is_cut = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  // The kernel makes one item of all the descriptors of a message.
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item == nullptr || item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) return;
  out->count = std::min(std::size(out->descriptors), (item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  memcpy(out->descriptors, CMSG_DATA(item), out->count * sizeof(int));
}

}  // namespace weft
