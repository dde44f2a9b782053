// What a script runs against: a host in plain memory with one shard, its virtual clock, and the link, on which neighbours
// answer at once. Script numbers (sequence numbers, timestamps) are translated to those on the wire here.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "stack/stack.h"
#include "tests/packet/wire.h"
#include "tests/support/test_host.h"

namespace ustcp::packet {

// How one four-tuple's script numbers relate to the wire's. Kept by the peer's port.
struct Mapping {
  uint16_t local_port = 0, peer_port = 0;
  uint32_t peer_offset = 0;  // wire - script of the peer's sequence numbers
  bool peer_known = false;
  uint32_t local_offset = 0;  // the same of ours, learned from our SYN
  bool local_known = false;
  bool relearn = false;    // a new incarnation has begun: our next SYN may have a new number
  uint32_t ts_offset = 0;  // wire - script of our timestamps
  bool ts_known = false;
  uint32_t peer_syn = 0;         // script number of the last SYN from the peer
  uint32_t peer_isn_script = 0;  // script number of the peer's first SYN
  uint32_t local_isn_script = 0;
};

class World {
 public:
  World(bool v6, const Sysctls& sysctls, bool neighbors_answer, bool offload);

  static constexpr uint16_t kLocalPort = 8080;
  static constexpr uint16_t kFirstPeerPort = 40000;

  Host& host() { return box_.host(); }
  Shard& shard() { return shard_; }
  const Ends& ends() const { return ends_; }
  Instant now() const { return now_; }
  int64_t elapsed() const { return ToNanos(now_ - start_); }
  Instant At(int64_t nanos) const { return start_ + Duration{nanos}; }

  // Runs f(Context&) with the shard locked, then collects what the stack wants to send.
  template <typename F>
  void Enter(F&& f) {
    {
      ShardLock lock(box_.host(), shard_, now_);
      DrainMailbox(lock.ctx);
      f(lock.ctx);
      Flush(lock.ctx);
    }
    AnswerNeighbors();
  }

  // A pending call wants to look again at that time.
  void WakeAt(Instant at) { wake_at_ = std::min(wake_at_, at); }
  // The next moment at which the stack, or a pending call, has something to do.
  Instant NextEvent();
  // Moves the clock forward and lets the timers due at that very time run. Requires: `to` is not before now.
  void AdvanceTo(Instant to);
  void Inject(std::vector<std::byte> frame);

  // Segments sent and not yet expected by the script, oldest first.
  std::deque<SentSegment>& sent() { return sent_; }
  // Broken invariants and malformed frames seen so far; empty when all is well.
  const std::string& fault() const { return fault_; }

  // The mapping of a packet's connection; 0: the default one (the port of the last connect(), or the first peer port).
  Mapping& MapOf(uint16_t peer_port);
  Mapping* FindMap(const SentSegment& s);
  // A connect() was made from a local port the runner does not know yet.
  void NoteConnect(uint16_t peer_port);

  uint64_t CounterSum(const std::string& name, bool* known);

  uint16_t default_port = kFirstPeerPort;
  int32_t isn_growth =
      0;  // from the initial sequence number of a connection to that of its successor on the same ports

 private:
  void Flush(Context& ctx);
  void Capture(const TxFrame& frame);
  void AnswerNeighbors();

  Instant start_;
  Instant now_;
  Instant wake_at_ = kNever;
  Ends ends_;
  test::TestHost box_;
  Shard& shard_;
  bool neighbors_answer_;
  std::deque<SentSegment> sent_;
  std::deque<std::vector<std::byte>> questions_;
  std::map<uint16_t, Mapping> maps_;
  std::string fault_;
};

// The data of both directions: the byte at a script sequence number (the first data byte has number 1).
constexpr std::byte PatternAt(uint32_t seq) { return static_cast<std::byte>((seq * 2654435761u) >> 24); }

}  // namespace ustcp::packet
