// What TCP knows of the socket that uses it: the part of a Socket below the socket layer. Guarded by the lock of the shard in
// its header, but for `ready`.
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/host/port_table.h"
#include "stack/mem/slot_pool.h"
#include "stack/tcp/socket_options.h"

namespace ustcp {

struct Connection;
struct Listener;

struct TcpUser : SlotHeader {
  std::atomic<uint32_t> ready{0};  // EPOLLIN, OUT, RDHUP, HUP, ERR, PRI: the level right now
  int32_t error = 0;               // SO_ERROR: pending, cleared when read
  Connection* conn = nullptr;
  Listener* listener = nullptr;
  uint32_t uid = 0;     // creator, for bind conflicts and ss
  uint16_t family = 0;  // AF_INET or AF_INET6
  Endpoint local;
  Endpoint peer;
  BindNode bind;
  SocketOptions options;
};

}  // namespace ustcp
