// Segment sizes that are taken for granted.
#pragma once

#include <cstdint>

namespace ustcp {

inline constexpr uint16_t kDefaultMss = 536;     // RFC 9293 3.7.1, IPv4; Linux: TCP_MSS_DEFAULT
inline constexpr uint16_t kDefaultMssV6 = 1220;  // RFC 9293 3.7.1, IPv6
inline constexpr uint16_t kMinMss = 88;          // Linux: TCP_MIN_MSS
inline constexpr uint16_t kEthernetMss = 1460;   // IPv4 over Ethernet, before the path is known

// The MSS of a peer whose SYN has no such option.
constexpr uint16_t DefaultPeerMss(bool v4) { return v4 ? kDefaultMss : kDefaultMssV6; }

}  // namespace ustcp
