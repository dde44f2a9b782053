#include "stack/wire/ipv6.h"

namespace ustcp {
namespace {

enum Ipv6OptionType : uint8_t { kPad1 = 0, kPadN = 1, kRouterAlert = 5 };

// Options other than padding in one header that Linux tolerates (max_dst_opts_number, max_hbh_opts_number).
constexpr int kMaxOptions = 8;

Ipv6Fault Problem(DropReason reason, uint8_t code, size_t pointer) {
  return {reason, true, false, code, static_cast<uint32_t>(pointer)};
}

// RFC 8200 4.2: the two highest bits of an unknown option's type say what to do with the packet.
Ipv6Fault UnknownOption(uint8_t type, size_t pointer) {
  Ipv6Fault fault = Problem(DropReason::kIpv6Option, 2, pointer);
  switch (type >> 6) {
    case 0: return {};
    case 1: fault.answer = false; break;
    case 2: fault.answer_multicast = true; break;
    default: break;
  }
  return fault;
}

// The options [begin, end) of a hop-by-hop or destination options header.
Ipv6Fault CheckOptions(ConstBytes packet, size_t begin, size_t end) {
  int count = 0;
  for (size_t at = begin; at < end;) {
    const uint8_t type = Load8(packet.data() + at);
    if (type == kPad1) {
      ++at;
      continue;
    }
    if (end - at < 2) return {.reason = DropReason::kIpv6Extension};
    const size_t length = size_t{2} + Load8(packet.data() + at + 1);
    if (length > end - at) return {.reason = DropReason::kIpv6Extension};
    if (type != kPadN) {
      if (++count > kMaxOptions) return {.reason = DropReason::kIpv6Option};
      if (type != kRouterAlert) {
        const Ipv6Fault fault = UnknownOption(type, at);
        if (fault.reason != DropReason::kNone) return fault;
      }
    }
    at += length;
  }
  return {};
}

}  // namespace

std::optional<Ipv6Chain> WalkIpv6Extensions(ConstBytes packet, uint8_t next_header, uint32_t offset,
                                            uint32_t next_header_field, Ipv6Fault* fault) noexcept {
  const auto fail = [fault](const Ipv6Fault& f) -> std::optional<Ipv6Chain> {
    if (fault != nullptr) *fault = f;
    return std::nullopt;
  };
  if (fault != nullptr) *fault = {};
  if (offset > packet.size()) return fail({.reason = DropReason::kIpTruncated});

  Ipv6Chain chain{next_header, offset, next_header_field, std::nullopt};
  for (int count = 0;; ++count) {
    const size_t room = packet.size() - chain.offset;
    const std::byte* p = packet.data() + chain.offset;
    switch (chain.protocol) {
      case kIpv6Fragment:
        if (room < kIpv6FragmentHeaderBytes) return fail({.reason = DropReason::kFragmentHeader});
        chain.fragment = Ipv6Fragment{LoadBe16(p + 2) & 0xfff8u, LoadBe32(p + 4), (LoadBe16(p + 2) & 1) != 0, Load8(p)};
        chain.next_header_field = chain.offset;
        chain.offset += static_cast<uint32_t>(kIpv6FragmentHeaderBytes);
        return chain;
      case kIpv6HopByHop:
        // Allowed right behind the fixed header only (RFC 8200 4.1); elsewhere it is an unknown next header.
        if (chain.offset != kIpv6HeaderBytes) {
          return fail(Problem(DropReason::kIpv6Extension, 1, chain.next_header_field));
        }
        break;
      case kIpv6Routing:
      case kIpv6DestinationOptions: break;
      default: return chain;
    }
    if (count == kMaxIpv6Extensions) return fail({.reason = DropReason::kIpv6Extension});
    if (room < 8) return fail({.reason = DropReason::kIpv6Extension});
    const size_t length = (size_t{1} + Load8(p + 1)) * 8;
    if (length > room) return fail({.reason = DropReason::kIpv6Extension});
    if (chain.protocol == kIpv6Routing) {
      // Not a router, and no routing type is known: with segments left RFC 8200 4.4 asks for a parameter problem that
      // points at the routing type.
      if (Load8(p + 3) != 0) return fail(Problem(DropReason::kIpv6Extension, 0, chain.offset + 2));
    } else {
      const Ipv6Fault f = CheckOptions(packet, chain.offset + 2, chain.offset + length);
      if (f.reason != DropReason::kNone) return fail(f);
    }
    chain.protocol = Load8(p);
    chain.next_header_field = chain.offset;
    chain.offset += static_cast<uint32_t>(length);
  }
}

}  // namespace ustcp
