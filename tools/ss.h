// What `ustcp ss` knows of one socket, collected from the arena while its owners go on: every number is read once, lists are
// not followed (pools are walked slot by slot), so that a torn read costs one odd line at worst.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stack/host/host.h"
#include "stack/tcp/tcb.h"
#include "tools/confined.h"

namespace ustcp::tool {

struct SocketUser {
  std::string program;
  int32_t pid = 0;
  int fd = -1;
};

struct SocketRow {
  TcpState state = TcpState::kClosed;
  uint64_t recv_queue = 0;
  uint64_t send_queue = 0;
  Endpoint local;
  Endpoint peer;
  bool v6_socket = false;  // an AF_INET6 socket: a wildcard shows as [::] or *
  bool v6only = false;
  std::vector<SocketUser> users;
  std::string timer;  // "keepalive,59sec,0"
  uint32_t uid = 0;
  uint64_t inode = 0;
  std::string information;  // -i
  std::string memory;       // -m
  uint16_t shard = 0;
};

std::vector<SocketRow> CollectSockets(View& view, bool information, bool memory);

// Name as ss prints it: "ESTAB", "SYN-RECV".
const char* StateText(TcpState state);

}  // namespace ustcp::tool
