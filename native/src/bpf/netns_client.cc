// See netns_client.h.
#include "bpf/netns_client.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/message_socket.h"
#include "core/wait_for.h"

extern char** environ;

namespace weft::bpf {
namespace {

// Longer than any command may take.
constexpr int kPatienceMs = (netns::kMaxCommandSeconds + 5) * 1000;
// Where a weft-netns that this process starts finds its channel.
constexpr int kServed = 3;

// weft-netns lies beside the addon.
std::string program() {
  Dl_info info;
  static const char anchor = 0;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return "weft-netns";
  const std::string addon = info.dli_fname;
  return addon.substr(0, addon.rfind('/') + 1) + "weft-netns";
}

int spawn(const std::string& path, int channel) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, channel, kServed);
  // Node has marked it as its own; what went wrong is said there.
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDERR_FILENO);
  std::string name = path, flag = "--serve=" + std::to_string(kServed);
  char* const words[] = {name.data(), flag.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawn(&child, path.c_str(), &actions, nullptr, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return error;
  // What serves is a child of its own.
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace

NetnsClient& NetnsClient::instance() {
  static NetnsClient client;
  return client;
}

Outcome NetnsClient::use(int channel) {
  int channels[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels) != 0) return failure(errno, "cannot make a channel to weft-netns");
  Descriptor near(channels[0]), far(channels[1]);
  netns::Request request;
  request.operation = netns::Operation::kJoin;
  const int error = send_message(channel, {reinterpret_cast<const char*>(&request), sizeof request}, {far.get()});
  if (error != 0) return failure(error, "weft-netns has gone");
  const std::lock_guard lock(mutex_);
  channel_ = std::move(near);
  return {};
}

Outcome NetnsClient::start() {
  int channels[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels) != 0) return failure(errno, "cannot make a channel to weft-netns");
  Descriptor near(channels[0]), far(fcntl(channels[1], F_DUPFD_CLOEXEC, kServed + 1));
  close(channels[1]);
  const std::string path = program();
  const int error = spawn(path, far.get());
  if (error != 0) return failure(error, "cannot start " + path);
  channel_ = std::move(near);
  return {};
}

Outcome NetnsClient::exchange(const netns::Request& request, std::initializer_list<int> descriptors, const std::string& path,
                              netns::Answer* answer, std::vector<int>* received) {
  const std::lock_guard lock(mutex_);
  if (!channel_) WEFT_TRY(start());
  const std::string text = std::string(reinterpret_cast<const char*>(&request), sizeof request) + path;
  const auto gone = [this](int error) {
    channel_ = Descriptor();
    return failure(error,
                   "weft-netns, which enters network namespaces, has gone: it needs CAP_SYS_ADMIN, and CAP_SETPCAP to give up others");
  };
  if (send_message(channel_.get(), text, descriptors) != 0) return gone(EPIPE);
  if (!wait_for(channel_.get(), POLLIN, kPatienceMs)) return gone(ETIMEDOUT);
  Message message;
  const int result = receive_message(channel_.get(), &message);
  received->swap(message.descriptors);
  if (result != 1 || message.text.size() != sizeof *answer) return gone(EPIPE);
  memcpy(answer, message.text.data(), sizeof *answer);
  return {};
}

Outcome NetnsClient::ask(const netns::Request& request, std::initializer_list<int> descriptors, Descriptor& result,
                         const std::string& path) {
  netns::Answer answer;
  std::vector<int> received;
  Outcome outcome = exchange(request, descriptors, path, &answer, &received);
  if (!received.empty()) result = Descriptor(received.front());
  for (size_t i = 1; i < received.size(); i++) close(received[i]);
  if (outcome) return outcome;
  if (answer.error != 0) return failure(answer.error, "weft-netns cannot do it");
  // Out of descriptors the kernel drops what came along.
  return received.empty() ? failure(EMFILE, "no descriptor is left") : Outcome{};
}

Outcome NetnsClient::tell(const netns::Request& request, std::initializer_list<int> descriptors, const std::string& path, int* status) {
  netns::Answer answer;
  std::vector<int> received;
  Outcome outcome = exchange(request, descriptors, path, &answer, &received);
  for (const int fd : received) close(fd);
  if (outcome) return outcome;
  if (answer.error != 0) return failure(answer.error, "weft-netns cannot do it");
  if (status != nullptr) *status = answer.status;
  return {};
}

}  // namespace weft::bpf
