#include "io/engine/uring.h"

#include <cerrno>
#include <cstring>

#include "io/base/owned_fds.h"
#include "io/base/sys.h"

#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif

namespace ustcp {
namespace {

// Linux 6.3: io_uring_register finds the ring in the thread's table too.
constexpr unsigned kRegisterUseRegisteredRing = 1u << 31;

}  // namespace

int Uring::Open(unsigned entries, uint32_t disabled) noexcept {
  io_uring_params params{};
  unsigned base = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = entries * 4;
  // Newest first: 6.1, 5.19, 5.11. Anything older lacks waits with a time limit and is not used.
  const unsigned attempts[] = {
      base | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
          IORING_SETUP_TASKRUN_FLAG,
      base | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
      base,
  };
  int r = -EINVAL;
  for (unsigned flags : attempts) {
    if ((flags & IORING_SETUP_DEFER_TASKRUN) != 0 && (disabled & kFeatureDeferTaskrun) != 0) continue;
    params = {};
    params.flags = flags;
    params.cq_entries = entries * 4;
    r = io_uring_queue_init_params(entries, &ring_, &params);
    if (r != -EINVAL) break;
  }
  if (r < 0) return r;
  open_ = true;
  failed_ = false;
  registered_ = false;
  features_ = 0;
  if ((params.flags & IORING_SETUP_DEFER_TASKRUN) != 0) features_ |= kFeatureDeferTaskrun;
  constexpr unsigned kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
  if ((params.features & kNeeded) != kNeeded) {
    Close();
    return -ENOSYS;
  }
  cq_mask_ = *ring_.cq.kring_mask;
  io_uring_ring_dontfork(&ring_);
  if ((disabled & kFeatureRegisteredRing) == 0) LeaveDescriptor();
  if (!registered_) {
    int fd = OwnedFds::Adopt(ring_.ring_fd, OwnedFdKind::kEngine);
    ring_.ring_fd = ring_.enter_ring_fd = fd;
    if (fd < 0) {
      Close();
      return fd;
    }
  }
  ProbeOpcodes(disabled);
  return 0;
}

// A ring that is registered with the thread works without a descriptor: no number for the program to close, nothing for
// a child to inherit, and it ends with the thread.
void Uring::LeaveDescriptor() noexcept {
  io_uring_rsrc_update slot{};
  slot.offset = -1U;  // any free place
  slot.data = static_cast<uint64_t>(ring_.ring_fd);
  if (sys::Call(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_RING_FDS, sys::Arg(&slot), 1) != 1) return;
  int index = static_cast<int>(slot.offset);
  // The kernel must also take registrations that way, or buffer rings could not be added any more.
  char probe[sizeof(io_uring_probe)] = {};
  if (sys::Call(SYS_io_uring_register, index, IORING_REGISTER_PROBE | kRegisterUseRegisteredRing, sys::Arg(probe), 0) <
      0) {
    sys::Call(SYS_io_uring_register, ring_.ring_fd, IORING_UNREGISTER_RING_FDS, sys::Arg(&slot), 1);
    return;
  }
  sys::Close(ring_.ring_fd);
  ring_.ring_fd = -1;
  ring_.enter_ring_fd = index;
  registered_ = true;
  features_ |= kFeatureRegisteredRing;
}

void Uring::ProbeOpcodes(uint32_t disabled) noexcept {
  constexpr unsigned kOps = 64;
  alignas(io_uring_probe) char memory[sizeof(io_uring_probe) + kOps * sizeof(io_uring_probe_op)] = {};
  auto* probe = reinterpret_cast<io_uring_probe*>(memory);
  if (Register(IORING_REGISTER_PROBE, probe, kOps) < 0) return;
  const auto* ops = reinterpret_cast<const io_uring_probe_op*>(memory + sizeof(io_uring_probe));
  auto supported = [&](uint8_t op) { return op < probe->ops_len && (ops[op].flags & IO_URING_OP_SUPPORTED) != 0; };
  // Without deferred task work, an armed read would take frames whenever this thread enters the kernel for anything,
  // and keep them while another thread drives.
  if (supported(kOpReadMultishot) && has(kFeatureDeferTaskrun)) features_ |= kFeatureMultishotRead;
  if (supported(kOpFutexWait)) features_ |= kFeatureFutexWait;
  features_ &= ~disabled;
}

void Uring::Close() noexcept {
  if (!open_) return;
  open_ = false;
  if (registered_) {
    io_uring_rsrc_update slot{};
    slot.offset = static_cast<uint32_t>(ring_.enter_ring_fd);
    Register(IORING_UNREGISTER_RING_FDS, &slot, 1);
  } else {
    OwnedFds::Close(ring_.ring_fd);
  }
  sys::Unmap(ring_.sq.sqes, ring_.sq.ring_entries * sizeof(io_uring_sqe));
  sys::Unmap(ring_.sq.ring_ptr, ring_.sq.ring_sz);
  if (ring_.cq.ring_ptr != nullptr && ring_.cq.ring_ptr != ring_.sq.ring_ptr)
    sys::Unmap(ring_.cq.ring_ptr, ring_.cq.ring_sz);
}

int Uring::Register(unsigned opcode, const void* arg, unsigned count) noexcept {
  if (registered_) opcode |= kRegisterUseRegisteredRing;
  int fd = registered_ ? ring_.enter_ring_fd : ring_.ring_fd;
  return static_cast<int>(sys::Call(SYS_io_uring_register, fd, opcode, sys::Arg(arg), count));
}

int Uring::RegisterBufferRing(uint16_t group, io_uring_buf_ring* memory, unsigned entries) noexcept {
  io_uring_buf_reg request{};
  request.ring_addr = reinterpret_cast<uint64_t>(memory);
  request.ring_entries = entries;
  request.bgid = group;
  return Register(IORING_REGISTER_PBUF_RING, &request, 1);
}

int Uring::UnregisterBufferRing(uint16_t group) noexcept {
  io_uring_buf_reg request{};
  request.bgid = group;
  return Register(IORING_UNREGISTER_PBUF_RING, &request, 1);
}

unsigned Uring::Flush() noexcept {
  io_uring_sq& sq = ring_.sq;
  unsigned tail = *sq.ktail;
  while (sq.sqe_head != sq.sqe_tail) {
    sq.array[tail & sq.ring_mask] = sq.sqe_head & sq.ring_mask;
    ++tail;
    ++sq.sqe_head;
  }
  __atomic_store_n(sq.ktail, tail, __ATOMIC_RELEASE);
  return tail - __atomic_load_n(sq.khead, __ATOMIC_ACQUIRE);
}

io_uring_sqe* Uring::Sqe(RingToken token) noexcept {
  io_uring_sq& sq = ring_.sq;
  if (sq.sqe_tail - __atomic_load_n(sq.khead, __ATOMIC_ACQUIRE) >= sq.ring_entries) {
    Enter(0);
    if (sq.sqe_tail - __atomic_load_n(sq.khead, __ATOMIC_ACQUIRE) >= sq.ring_entries) {
      failed_ = true;
      return nullptr;
    }
  }
  io_uring_sqe* sqe = &sq.sqes[sq.sqe_tail & sq.ring_mask];
  ++sq.sqe_tail;
  std::memset(sqe, 0, sizeof *sqe);
  sqe->user_data = token.Encode();
  return sqe;
}

void Uring::Reserve(unsigned count) noexcept {
  if (pending() + count > ring_.sq.ring_entries) Enter(0);
}

int Uring::Enter(unsigned min_complete, const timespec* timeout, const sigset_t* mask) noexcept {
  unsigned to_submit = Flush();
  unsigned flags = IORING_ENTER_GETEVENTS;
  if (registered_) flags |= IORING_ENTER_REGISTERED_RING;
  io_uring_getevents_arg arg{};
  const void* extra = nullptr;
  size_t extra_bytes = 0;
  if (timeout != nullptr || mask != nullptr) {
    arg.sigmask = reinterpret_cast<uint64_t>(mask);
    arg.sigmask_sz = sys::kSignalSetBytes;
    arg.ts = reinterpret_cast<uint64_t>(timeout);
    flags |= IORING_ENTER_EXT_ARG;
    extra = &arg;
    extra_bytes = sizeof arg;
  }
  ++enters_;
  int r = static_cast<int>(sys::Call(SYS_io_uring_enter, ring_.enter_ring_fd, to_submit, min_complete, flags,
                                     sys::Arg(extra), sys::Arg(extra_bytes)));
  if (r < 0 && r != -EINTR && r != -ETIME && r != -EBUSY && r != -EAGAIN) failed_ = true;
  return r;
}

}  // namespace ustcp
