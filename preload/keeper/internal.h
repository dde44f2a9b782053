// What the keeper's two halves say to each other, over a socket pair made before they part.
#pragma once

#include <cstdint>

#include "io/member/keeper_protocol.h"

namespace ustcp::keeper {

enum class InternalKind : uint16_t {
  // Broker to driver.
  kQueue = 1,       // `shard` has this queue now (descriptor attached); `number` counts what was said about the shard
  kWakeDescriptor,  // of `process`, known there as `number` (attached)
  kLook,            // a member came or went: look at the process table
  kQueueClosed,     // as kQueueFreed asked: the driver's descriptor is the last one
  kEnd,             // whatever is left: the interface is gone
  // Driver to broker.
  kReady,       // the arena is there (descriptor attached)
  kFailed,      // error and message tell why there is none
  kQueueFreed,  // `shard` needs no queue any more: it is to be closed, unless `number` is out of date
  kNeedQueue,   // `shard` has traffic and no queue (after an adoption)
  kIdle,        // nothing is left to keep
  kBusy,        // not idle any more
};

struct InternalMessage {
  InternalKind kind{};
  uint16_t shard = 0;
  uint16_t process = 0;
  int32_t number = 0;
  int32_t error = 0;
  int32_t pid = 0;
  bool only = false;      // kQueue: the interface has no other
  bool announce = false;  // kQueue: the link is to be told where the host is
  QueueDescription queue;
  char message[224] = {};
};

}  // namespace ustcp::keeper
