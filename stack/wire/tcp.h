// TCP headers (RFC 9293 3.1). TcpView checks lengths once; after that its accessors cannot fail. Checksums need the
// addresses and are verified with VerifyTransportChecksum; option bytes are read with ParseTcpOptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "stack/base/bytes.h"
#include "stack/base/seq.h"

namespace ustcp {

inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr size_t kTcpHeaderBytes = 20;
inline constexpr size_t kMaxTcpHeaderBytes = 60;
inline constexpr size_t kMaxTcpOptionBytes = 40;
inline constexpr size_t kTcpChecksumOffset = 16;

// The control bits, AE (RFC 9768, formerly NS) as bit 8 down to FIN as bit 0.
struct TcpFlags {
  uint16_t bits = 0;

  constexpr bool Has(TcpFlags f) const { return (bits & f.bits) == f.bits; }
  constexpr bool HasAny(TcpFlags f) const { return (bits & f.bits) != 0; }
  constexpr TcpFlags Without(TcpFlags f) const { return {static_cast<uint16_t>(bits & ~f.bits)}; }
  constexpr TcpFlags& operator|=(TcpFlags f) {
    bits = static_cast<uint16_t>(bits | f.bits);
    return *this;
  }
  friend constexpr TcpFlags operator|(TcpFlags a, TcpFlags b) { return {static_cast<uint16_t>(a.bits | b.bits)}; }
  friend constexpr bool operator==(TcpFlags, TcpFlags) = default;
};

inline constexpr TcpFlags kTcpFin{0x001};
inline constexpr TcpFlags kTcpSyn{0x002};
inline constexpr TcpFlags kTcpRst{0x004};
inline constexpr TcpFlags kTcpPsh{0x008};
inline constexpr TcpFlags kTcpAck{0x010};
inline constexpr TcpFlags kTcpUrg{0x020};
inline constexpr TcpFlags kTcpEce{0x040};
inline constexpr TcpFlags kTcpCwr{0x080};
inline constexpr TcpFlags kTcpAe{0x100};
inline constexpr uint16_t kTcpFlagMask = 0x1ff;

class TcpView {
 public:
  // `segment` is the IP payload. Empty when it is shorter than its header says or the data offset is below five words.
  static std::optional<TcpView> Parse(ConstBytes segment) noexcept {
    if (segment.size() < kTcpHeaderBytes) return std::nullopt;
    const size_t header = static_cast<size_t>(Load8(segment.data() + 12) >> 4) * 4;
    if (header < kTcpHeaderBytes || header > segment.size()) return std::nullopt;
    return TcpView(segment, header);
  }

  uint16_t source_port() const { return LoadBe16(p_); }
  uint16_t destination_port() const { return LoadBe16(p_ + 2); }
  Seq seq() const { return Seq(LoadBe32(p_ + 4)); }
  Seq ack() const { return Seq(LoadBe32(p_ + 8)); }  // meaningful with the ACK bit only
  size_t header_bytes() const { return header_bytes_; }
  TcpFlags flags() const { return {static_cast<uint16_t>(LoadBe16(p_ + 12) & kTcpFlagMask)}; }
  uint16_t window() const { return LoadBe16(p_ + 14); }  // unscaled
  uint16_t checksum() const { return LoadBe16(p_ + kTcpChecksumOffset); }
  uint16_t urgent_pointer() const { return LoadBe16(p_ + 18); }

  bool fin() const { return flags().Has(kTcpFin); }
  bool syn() const { return flags().Has(kTcpSyn); }
  bool rst() const { return flags().Has(kTcpRst); }
  bool psh() const { return flags().Has(kTcpPsh); }
  bool has_ack() const { return flags().Has(kTcpAck); }
  bool urg() const { return flags().Has(kTcpUrg); }
  bool ece() const { return flags().Has(kTcpEce); }
  bool cwr() const { return flags().Has(kTcpCwr); }
  bool ae() const { return flags().Has(kTcpAe); }

  ConstBytes options() const { return {p_ + kTcpHeaderBytes, header_bytes_ - kTcpHeaderBytes}; }
  ConstBytes payload() const { return {p_ + header_bytes_, size_ - header_bytes_}; }
  ConstBytes bytes() const { return {p_, size_}; }
  // SEG.LEN: payload plus one for SYN and one for FIN.
  uint32_t sequence_length() const {
    return static_cast<uint32_t>(size_ - header_bytes_) + (syn() ? 1u : 0u) + (fin() ? 1u : 0u);
  }

 private:
  TcpView(ConstBytes segment, size_t header)
      : p_(segment.data()),
        size_(static_cast<uint32_t>(segment.size())),
        header_bytes_(static_cast<uint32_t>(header)) {}

  const std::byte* p_;
  uint32_t size_;
  uint32_t header_bytes_;
};

struct TcpHeader {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  Seq seq{};
  Seq ack{};
  TcpFlags flags;
  uint16_t window = 0;  // unscaled
  uint16_t urgent_pointer = 0;
  uint8_t option_bytes = 0;  // already written, or to be written, behind the fixed header; a multiple of four
};

// Writes the fixed header with a zero checksum field; the caller fills that in (FillTransportChecksum,
// PartialChecksum). Returns the bytes of the whole header, options included.
inline size_t WriteTcp(std::byte* out, const TcpHeader& h) noexcept {
  const size_t header = kTcpHeaderBytes + h.option_bytes;
  StoreBe16(out, h.source_port);
  StoreBe16(out + 2, h.destination_port);
  StoreBe32(out + 4, h.seq.raw());
  StoreBe32(out + 8, h.ack.raw());
  StoreBe16(out + 12, static_cast<uint16_t>((header / 4) << 12 | (h.flags.bits & kTcpFlagMask)));
  StoreBe16(out + 14, h.window);
  StoreBe16(out + kTcpChecksumOffset, 0);
  StoreBe16(out + 18, h.urgent_pointer);
  return header;
}

}  // namespace ustcp
