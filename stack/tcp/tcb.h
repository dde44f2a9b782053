// The connection record (TCB), the half-open record and the TIME_WAIT record: slots of the shard they belong to.
#pragma once

#include <cstdint>

#include "stack/host/port_table.h"
#include "stack/host/tuple_table.h"
#include "stack/mem/buf.h"
#include "stack/net/ip.h"
#include "stack/socket/socket_options.h"
#include "stack/time/timer_wheel.h"

namespace ustcp {

struct Listener;
struct Socket;

// RFC 9293 3.3.2, named and numbered as Linux does (tcp_info.tcpi_state, ss).
enum class TcpState : uint8_t {
  kEstablished = 1, kSynSent, kSynRecv, kFinWait1, kFinWait2, kTimeWait, kClosed, kCloseWait, kLastAck, kListen, kClosing,
};

struct TxSegment : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kTxSegment;
  TxSegment* next = nullptr;
  TxSegment* prev = nullptr;
};

struct Connection : TupleNode {
  static constexpr SlotKind kSlotKind = SlotKind::kConnection;
  Socket* socket = nullptr;            // null for orphans
  TcpState state = TcpState::kClosed;
  Connection* tx_next = nullptr;       // shard's transmit list
  bool tx_listed = false;
  TimerNode timer;
  BindNode bind;
  Path path;
};

struct HalfOpen : TupleNode {
  static constexpr SlotKind kSlotKind = SlotKind::kHalfOpen;
  Listener* listener = nullptr;
  uint32_t listener_generation = 0;
  TimerNode timer;
};

struct TimeWait : TupleNode {
  static constexpr SlotKind kSlotKind = SlotKind::kTimeWait;
  TimerNode timer;
  BindNode bind;
};

}  // namespace ustcp
