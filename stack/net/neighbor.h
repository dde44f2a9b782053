// Neighbours on the link: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) share one table per host. States and
// times are those of Linux's neighbour table: a new address is asked for three times, one second apart; a confirmed one
// is good for about 30 s, then the next packet starts a check that succeeds by itself when TCP makes progress.
//
// The answer that the data path needs, the MAC address, is one atomic word per entry. Frames that wait for a resolution
// hang on the entry under the table's lock; they leave through whichever shard's driver sees the answer.
#pragma once

#include <cstdint>
#include <optional>

#include "stack/base/address.h"
#include "stack/host/neighbor_table.h"

namespace ustcp {

struct Buf;
struct Context;
struct Path;

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
