// TAP queues: opening, adopting, making and deleting the device. Frames go through io/engine/engine.h.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>

#include "io/engine/engine_types.h"
#include "stack/time/time.h"

namespace ustcp {

// What went wrong and what helps, in one line without a newline. `code` is an errno number, 0 for success.
struct IoError {
  int code = 0;
  char message[224] = {};
  explicit operator bool() const { return code != 0; }
};

struct TapQueue {
  int fd = -1;  // non-blocking, close-on-exec; the caller's to close
  char name[16] = {};
  bool vnet = true;              // frames carry the 10-byte virtio header
  bool multi_queue = true;       // false: the device has one queue, and this is it
  bool checksum_offload = true;  // the kernel hands us partial checksums (and takes them in any case with vnet)
  bool tso4 = true;
  bool tso6 = true;
  bool up = false;
  uint32_t mtu = 1500;
  std::array<uint8_t, 6> kernel_mac{};  // of the kernel's end

  QueueRef ref(uint32_t generation = 0) const { return {fd, vnet, generation}; }
};

struct TapOpenOptions {
  const char* name = "ustcp0";
  bool must_exist = true;                       // false: make a device that goes when its last queue is closed
  Duration busy_retry = Duration{500'000'000};  // a dying process keeps its queue busy for a moment
};

IoError OpenTapQueue(const TapOpenOptions& options, TapQueue* out) noexcept;

// An already opened descriptor (USTCP_TAP_FD): must be a TAP (not a TUN) with the kernel's side attached. The
// descriptor is made non-blocking and close-on-exec; it stays the caller's when an error is returned.
IoError AdoptTapQueue(int fd, TapQueue* out) noexcept;

// The device stops choosing this queue, whoever else still has a descriptor of it; frames in it are dropped. Takes no right.
void DetachTapQueue(int fd) noexcept;

struct TapCreateOptions {
  const char* name = "ustcp0";
  bool multi_queue = true;
  bool has_owner = false;
  uid_t owner = 0;
  bool has_group = false;
  gid_t group = 0;
};

// A persistent device, of the caller's alone when neither owner nor group is given: one without either is everybody's. EEXIST
// when an interface of that name is there already.
IoError CreateTap(const TapCreateOptions& options) noexcept;
IoError DeleteTap(const char* name) noexcept;

}  // namespace ustcp
