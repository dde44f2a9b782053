// TCP options: reading what a peer sent, with the kernel's tolerance, and writing ours in the kernel's order and
// padding. RFC 9293 3.2 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 and 2883 (SACK), RFC 7413 (Fast Open).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "stack/base/bytes.h"
#include "stack/base/seq.h"
#include "stack/wire/tcp.h"

namespace ustcp {

inline constexpr uint8_t kMaxWindowScale = 14;  // RFC 7323 2.3
inline constexpr size_t kMaxSackBlocks = 4;
inline constexpr size_t kTimestampOptionBytes = 12;  // NOP NOP TS, the usual padding

struct TcpTimestamps {
  uint32_t value = 0;  // TSval
  uint32_t echo = 0;   // TSecr
  friend constexpr bool operator==(TcpTimestamps, TcpTimestamps) = default;
};

// A Fast Open option: a request has length 0, a cookie 4 to 16 bytes.
struct FastOpenOption {
  static constexpr size_t kMinCookie = 4;
  static constexpr size_t kMaxCookie = 16;
  uint8_t length = 0;
  bool experimental = false;  // option 254 with magic 0xF989 instead of option 34
  std::array<std::byte, kMaxCookie> cookie{};

  constexpr bool is_request() const { return length == 0; }
  ConstBytes bytes() const { return {cookie.data(), length}; }
};

// Everything the options of one segment say. `sack[0 .. sack_count)` are as sent: the first may be a D-SACK, and a
// block's end need not lie after its begin; whoever acts on a block checks it against what was sent.
struct TcpOptions {
  std::optional<uint16_t> mss;          // SYN only, never zero
  std::optional<uint8_t> window_scale;  // SYN only, at most kMaxWindowScale
  bool sack_permitted = false;          // SYN only
  bool md5 = false;                     // RFC 2385 signature present
  bool ao = false;                      // RFC 5925 present
  uint8_t sack_count = 0;               // not on SYN
  std::optional<TcpTimestamps> timestamps;
  std::optional<FastOpenOption> fast_open;  // SYN only
  std::array<SeqRange, kMaxSackBlocks> sack{};
};

// Reads options as Linux does: options that belong to a SYN are ignored elsewhere and the reverse, a known option of
// the wrong size is skipped, an impossible size (below two, beyond the end) ends the walk and keeps what was found, the
// last of duplicates counts, a window scale above 14 counts as 14, an MSS of zero as absent.
TcpOptions ParseTcpOptions(ConstBytes options, bool syn) noexcept;

// The common case in established connections: exactly NOP NOP TS. Empty when the bytes are anything else.
inline std::optional<TcpTimestamps> ParseLoneTimestamps(ConstBytes options) noexcept {
  if (options.size() != kTimestampOptionBytes || LoadBe32(options.data()) != 0x0101080a) return std::nullopt;
  return TcpTimestamps{LoadBe32(options.data() + 4), LoadBe32(options.data() + 8)};
}

// Writes the 12 bytes NOP NOP TS.
inline size_t WriteLoneTimestamps(std::byte* out, TcpTimestamps ts) noexcept {
  StoreBe32(out, 0x0101080a);
  StoreBe32(out + 4, ts.value);
  StoreBe32(out + 8, ts.echo);
  return kTimestampOptionBytes;
}

// Writes what `o` holds (md5 and ao are never written), at most kMaxTcpOptionBytes, always a multiple of four. SACK
// blocks that do not fit are left out from the end, a Fast Open option that does not fit is left out. Returns the bytes
// written. A SYN with everything reads <mss,sackOK,TS,nop,wscale>, then Fast Open.
size_t WriteTcpOptions(std::byte* out, const TcpOptions& o) noexcept;

// How many SACK blocks fit beside the timestamps of a data segment.
constexpr size_t MaxSackBlocks(bool timestamps) { return timestamps ? 3 : 4; }

// The size WriteTcpOptions gives on a data segment: timestamps and `sack_count` blocks.
constexpr size_t DataOptionBytes(bool timestamps, size_t sack_count) {
  if (sack_count > MaxSackBlocks(timestamps)) sack_count = MaxSackBlocks(timestamps);
  return (timestamps ? kTimestampOptionBytes : 0) + (sack_count != 0 ? 4 + 8 * sack_count : 0);
}

}  // namespace ustcp
