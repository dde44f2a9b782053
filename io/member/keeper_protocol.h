// What members and the keeper say to each other over its SOCK_SEQPACKET socket: one request, one reply, in order. Fixed
// structs of one machine and one version; a program of another version is told so instead of being misread, which is why
// magic, version, kind and error keep their places for ever. Who the sender is stands in no message: the kernel says it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ustcp {

inline constexpr uint32_t kKeeperMagic = 0x7573'6b70;  // "uskp"
inline constexpr uint16_t kKeeperVersion = 2;

enum class KeeperRequestKind : uint16_t {
  // Answer: the arena's descriptor. With a descriptor of the arena attached, the sender shows that it is a member already
  // (and may join whatever its user id has become).
  kAttach = 1,
  kObserve,         // the same for tools, to read only: allowed to the owner and root, does not keep the keeper alive
  kQueue,           // for `shard`: its TAP queue's descriptor; the one it has, or a new one
  kReopenQueue,     // the queue it has is dead: a new one
  kOfferQueue,      // after a keeper was lost: the queue's descriptor is attached, the keeper takes a copy
  kWakeDescriptor,  // of `process`: the eventfd attached, there known as `number`
  kStatus,          // answer: the message tells what the keeper holds
  kExec,            // the sender is about to exec and takes sockets along: its next program may attach, once
  kAdjust,          // as kObserve, to write too
};

// Whose a queue is that a member was given.
enum class QueueShare : uint8_t {
  kOwn = 0,   // the shard's: its process reads it
  kOnly,      // the interface has no other: everybody writes, Host::queue_reader reads
  kBorrowed,  // another shard's, since no further one could be opened: to write only
};

struct KeeperRequest {
  uint32_t magic = kKeeperMagic;
  uint16_t version = kKeeperVersion;
  KeeperRequestKind kind = KeeperRequestKind::kStatus;
  uint64_t layout_hash = 0;
  uint32_t reserved0 = 0;
  uint16_t shard = 0;
  uint16_t process = 0;
  int32_t number = 0;  // kWakeDescriptor: the descriptor's number in the member. kOfferQueue: a QueueShare
  uint32_t reserved1 = 0;
};
static_assert(sizeof(KeeperRequest) == 32);

// A queue's properties, as io/device/tap.h has them; kept apart so that the wire does not change with it.
struct QueueDescription {
  char name[16] = {};
  uint32_t mtu = 0;
  uint8_t kernel_mac[6] = {};
  uint8_t vnet = 0;
  uint8_t multi_queue = 0;
  uint8_t checksum_offload = 0;
  uint8_t tso4 = 0;
  uint8_t tso6 = 0;
  uint8_t up = 0;
};

struct KeeperReply {
  uint32_t magic = kKeeperMagic;
  uint16_t version = kKeeperVersion;
  uint16_t reserved0 = 0;
  int32_t error = 0;  // errno number, 0: done
  int32_t keeper_pid = 0;
  uint64_t layout_hash = 0;  // of the keeper
  uint64_t arena_bytes = 0;
  QueueDescription queue;
  uint8_t has_descriptor = 0;           // one is attached
  QueueShare share = QueueShare::kOwn;  // kQueue, kReopenQueue
  uint8_t stays = 0;                    // kStatus: until it is told to end
  uint8_t reserved1[5] = {};
  char message[224] = {};  // one line without newline when error is set; a warning when not
};
static_assert(std::is_trivially_copyable_v<KeeperReply>);
static_assert(sizeof(KeeperReply) == 296);

// Descriptors the member's child passes to a keeper it starts, by number: everything else is closed before exec.
inline constexpr int kKeeperReadyFd = 3;  // one KeeperReply is written here when it serves, or when it cannot
inline constexpr int kKeeperArenaFd = 4;  // an arena to adopt (--adopt)
inline constexpr int kKeeperTapFd = 5;    // a TAP descriptor handed in (--tap)

}  // namespace ustcp
