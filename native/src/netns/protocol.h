// What is asked of weft-netns: one message (SOCK_SEQPACKET) a request, one an answer, in the order of the requests. Both ends are of one
// build: whoever asks was started by it, or started it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace weft::netns {

// All that there is. "There": the network namespace whose descriptor comes first with the request. An answer without an error brings
// descriptors: one where nothing else is said.
enum class Operation : uint8_t {
  // `count` TCP sockets of `family`, there.
  kOpen = 1,
  // The descriptor that comes along is a channel like this one. Not answered.
  kJoin = 2,
  // The rest is for the agent alone.
  // The network namespace of process `number`.
  kOfProcess = 3,
  // A new network namespace, without a name.
  kCreate = 4,
  // A socket of rtnetlink, or of nfnetlink, there.
  kRoute = 5,
  kNetfilter = 6,
  // The file of xt_recent there, opened for writing, that is the beat of `family`, or with `number` 1 holds its first connections.
  kRecent = 7,
  // A link (tcx, `family`: kIngress or kEgress) of the program whose descriptor comes second to interface `number` there.
  kAttach = 8,
  // What the mesh namespace needs of /proc/sys, there. Refused for the namespace that weft-netns was started in. No descriptor.
  kSysctls = 9,
  // A network namespace mounted at `path`, new where there is none; and the reverse, without a descriptor. Refused for another path than
  // weft-netns was started for.
  kMount = 10,
  kUnmount = 11,
  // Runs kCommands[number] there, with CAP_NET_ADMIN alone; the next three descriptors are its standard ones. Answered when it has ended.
  // No descriptor.
  kRun = 12,
  // A bpffs at /sys/fs/bpf, where there is none. No descriptor.
  kBpffs = 13,
};

// AF_INET and AF_INET6 as they go over the channel.
inline constexpr uint8_t kFamilyV4 = 4;
inline constexpr uint8_t kFamilyV6 = 6;

inline constexpr uint8_t kIngress = 0;
inline constexpr uint8_t kEgress = 1;

// The path, if the operation has one, follows.
struct Request {
  Operation operation = Operation::kOpen;
  uint8_t family = 0;
  uint8_t count = 1;
  uint8_t reserved = 0;
  uint32_t number = 0;
};
static_assert(sizeof(Request) == 8);

// Descriptors come along: all or none.
struct Answer {
  // 0, or errno.
  int32_t error = 0;
  // Of kRun: as a shell has it.
  int32_t status = 0;
};

// agent/native/capture.ts has the same list. Rules are read from standard input.
inline constexpr const char* kCommands[][8] = {
    {"nft", "-f", "-"},
    {"nft", "list", "table", "inet", "weft"},
    {"nft", "-j", "list", "counters", "table", "inet", "weft"},
    {"iptables-restore", "--noflush"},
    {"ip6tables-restore", "--noflush"},
    {"iptables-save", "-c"},
    {"ip6tables-save", "-c"},
    {"cat", "/proc/net/ip_tables_names"},
};
inline constexpr uint32_t kMaxCommandSeconds = 10;

inline constexpr size_t kMaxPath = 255;
inline constexpr uint8_t kMaxSockets = 8;
// Beyond which a channel that does not read is given up.
inline constexpr int kMaxInFlight = 64;
inline constexpr int kMaxChannels = 1024;

// Of enum bpf_attach_type of kernel 6.6; the headers of Debian 12 are older, the system call is not.
inline constexpr int kTcxIngress = 46;
inline constexpr int kTcxEgress = 47;

}  // namespace weft::netns
