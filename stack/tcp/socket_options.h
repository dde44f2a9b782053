// The options of a socket as set by the program; an accepted socket starts with a copy of its listener's.
#pragma once

#include <cstdint>

#include "stack/tcp/cc/kind.h"

namespace ustcp {

struct SocketOptions {
  // SOL_SOCKET
  bool reuse_addr = false;
  bool reuse_port = false;
  bool keepalive = false;
  bool oob_inline = false;
  bool linger_on = false;
  int32_t linger_seconds = 0;
  int32_t rcvbuf = 0;  // bytes as getsockopt shows them (doubled); 0: automatic
  int32_t sndbuf = 0;
  int32_t rcvlowat = 1;
  int64_t rcvtimeo_us = 0;  // 0: none
  int64_t sndtimeo_us = 0;
  uint32_t mark = 0;
  int32_t priority = 0;
  int32_t busy_poll_us = 0;
  // IP
  uint8_t tos = 0;
  int16_t ttl = -1;  // -1: the host's default
  uint8_t tclass = 0;
  int16_t hop_limit = -1;
  bool v6only = false;
  uint8_t pmtu_discover = 1;  // IP_PMTUDISC_WANT
  bool freebind = false;
  // TCP
  bool nodelay = false;
  bool cork = false;
  bool quickack_locked = false;  // TCP_QUICKACK 0 was asked for
  uint16_t maxseg = 0;           // 0: from the path
  uint8_t syncnt = 0;            // 0: sysctl
  uint8_t keepcnt = 0;           // 0: sysctl
  int32_t keepidle_s = 0;        // 0: sysctl
  int32_t keepintvl_s = 0;
  int32_t linger2_s = 0;         // 0: sysctl, -1: no FIN_WAIT2 for orphans
  int32_t defer_accept_s = 0;    // rounded as Linux does, 0: off
  uint32_t user_timeout_ms = 0;  // 0: sysctl
  uint32_t window_clamp = 0;     // 0: none
  int32_t notsent_lowat = 0;     // 0: sysctl
  int32_t fastopen_queue = 0;
  CcKind congestion = CcKind::kCubic;
};

}  // namespace ustcp
