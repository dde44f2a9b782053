// Neighbours on the link: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) share one table per host. States and
// times are those of Linux's neighbour table: a new address is asked for three times, one second apart; a confirmed one
// is good for about 30 s, then the next packet starts a check that succeeds by itself when TCP makes progress.
//
// The answer that the data path needs, the MAC address, is one atomic word per entry. Frames that wait for a resolution
// hang on the entry under the table's lock; they leave through whichever shard's driver sees the answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "stack/mem/slot_pool.h"
#include "stack/net/address.h"
#include "stack/sync/robust_mutex.h"
#include "stack/time/time.h"

namespace ustcp {

struct Buf;
struct Context;
struct Path;

// An entry is free when its kind is kFree; all-zero memory is a table of free entries. Everything but the atomics is
// guarded by the table's lock; `generation` is read without it and grows before an entry changes hands.
struct Neighbor : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kNeighbor;
  enum State : uint8_t { kNone, kIncomplete, kReachable, kStale, kDelay, kProbe, kFailed };

  IpAddress address;
  std::atomic<uint64_t> mac{0};           // 48 bits, and kMacValid when usable
  std::atomic<int64_t> confirmed_ns{0};   // when the peer last proved that it hears us
  std::atomic<int64_t> look_again_ns{0};  // a sender later than this takes the lock and looks at the state
  State state = kNone;
  uint8_t probes = 0;             // sent in this state
  Instant updated = Instant{};    // when the MAC address was last learnt
  Instant used = Instant{};       // when a path was last made through it: the longest unused is evicted
  int64_t reachable_time_ns = 0;  // randomised each time it becomes reachable
  Instant deadline = kNever;
  Buf* waiting_head = nullptr;  // whole frames without destination MAC, oldest first
  Buf* waiting_tail = nullptr;
  uint32_t waiting_count = 0;

  static constexpr uint64_t kMacValid = uint64_t{1} << 48;
};

struct NeighborTable {
  static constexpr int kEntries = 512;
  // An address may live in this many entries, from its hash on.
  static constexpr int kWindow = 16;
  RobustMutex lock;
  Neighbor entries[kEntries];
  std::atomic<int64_t> next_deadline_ns;  // earliest of the entries' deadlines, INT64_MAX: none
};

// Holds the table's lock. A holder that died may have left a queue's tail and the earliest deadline behind the truth;
// both are made anew. A frame that was between two queues is lost, as frames may be.
class NeighborLock {
 public:
  explicit NeighborLock(NeighborTable& table) noexcept;
  ~NeighborLock() { table_.lock.Unlock(); }
  NeighborLock(const NeighborLock&) = delete;
  NeighborLock& operator=(const NeighborLock&) = delete;

 private:
  NeighborTable& table_;
};

// Frames that may wait for one neighbour (unres_qlen); beyond it the oldest is dropped.
inline constexpr uint32_t kMaxWaitingFrames = 101;

// Finds or adds the entry for an on-link address and stores it in the path. False: every place for it is taken by
// entries that cannot be given up.
bool AttachNeighbor(Context& ctx, const IpAddress& address, Path& path) noexcept;

// The MAC address to send to now, and the state change that sending brings. Empty: not known, see WaitForNeighbor.
std::optional<MacAddress> NeighborMac(Context& ctx, const Path& path) noexcept;

// Takes a frame (Ethernet header at begin()) that has to wait for the neighbour's address, and asks for the address
// unless that is under way. Sends the frame when the address has become known meanwhile. False: the entry changed
// hands; the frame was dropped.
bool WaitForNeighbor(Context& ctx, const Path& path, Buf* frame) noexcept;

// What a message said about a neighbour.
struct NeighborNews {
  IpAddress address;
  std::optional<MacAddress> mac;    // empty: an advertisement without the option
  bool create = false;              // make an entry when there is none
  bool reachable = false;           // it answers us; otherwise it is stale
  bool override_mac = false;        // a different MAC address replaces the known one ...
  bool override_when_old = false;   // ... or does so when the known one is older than a second (ARP)
  bool weaken_on_conflict = false;  // a different address that may not override makes the entry stale (RFC 4861 7.2.5)
};
void OnNeighborNews(Context& ctx, const NeighborNews& news) noexcept;

// Sends probes that are due, gives up on those unanswered.
void NeighborTimers(Context& ctx) noexcept;

// --- the two protocols, called by the table: sends one question, to the group or to the neighbour itself ---

// `source_hint`: the source of a packet that waits, or any-address.
void SendArpRequest(Context& ctx, const IpAddress& target, const IpAddress& source_hint,
                    const std::optional<MacAddress>& unicast) noexcept;
void SendNeighborSolicitation(Context& ctx, const IpAddress& target, const IpAddress& source_hint,
                              const std::optional<MacAddress>& unicast) noexcept;

// Tells the link where our addresses are (RFC 5227 2.3, RFC 9131): for a host that starts or whose link came back.
void AnnounceAddresses(Context& ctx) noexcept;

}  // namespace ustcp
