// Shared by the engine tests: the variants of the engine, a stand-in for a TAP queue (a packet socket pair, no
// privilege needed), a buffer pool in shared memory, and frames with recognisable contents.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "io/base/clock.h"
#include "io/engine/engine.h"

namespace ustcp {

struct EngineVariant {
  const char* name;
  EngineKind kind;
  uint32_t disabled;
};

// What kernels of different ages, and sandboxes, leave of the engine.
inline constexpr EngineVariant kEngineVariants[] = {
    {"ring", EngineKind::kUring, 0},
    {"ring_with_descriptor", EngineKind::kUring, kFeatureRegisteredRing},
    {"ring_without_futex", EngineKind::kUring, kFeatureFutexWait},
    {"ring_as_in_6_1", EngineKind::kUring, kFeatureFutexWait | kFeatureMultishotRead | kFeatureRegisteredRing},
    {"ring_as_in_5_19", EngineKind::kUring,
     kFeatureFutexWait | kFeatureMultishotRead | kFeatureRegisteredRing | kFeatureDeferTaskrun},
    {"plain", EngineKind::kPlain, 0},
};

inline bool UringPermitted() {
  Engine* engine = Engine::Create({.kind = EngineKind::kUring, .quiet = true});
  Engine::Destroy(engine);
  return engine != nullptr;
}

// A pool over anonymous memory shared with children.
class SharedPool {
 public:
  explicit SharedPool(size_t bytes = 16 << 20) : bytes_(bytes) {
    memory_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    spans_.Init(memory_, static_cast<std::byte*>(memory_) + bytes);
    pool_.Init(&spans_, 0);
  }
  ~SharedPool() { munmap(memory_, bytes_); }
  BufPool& pool() { return pool_; }
  // A word in the same shared memory, at its very end.
  std::atomic<uint32_t>* word(size_t i = 0) {
    return reinterpret_cast<std::atomic<uint32_t>*>(static_cast<std::byte*>(memory_) + bytes_ - 64 * (i + 1));
  }
  // Buffers marked as held by an engine with this tag, found as a sweeper finds them.
  size_t CountHeld(uint64_t tag) {
    size_t held = 0;
    for (SpanHeader* span = pool_.spans(); span != nullptr; span = span->next)
      for (uint32_t i = 0; i < span->slot_count; ++i) {
        auto* b = reinterpret_cast<Buf*>(reinterpret_cast<std::byte*>(span) + kSpanHeaderBytes + i * span->slot_bytes);
        held += b->kind == SlotKind::kBuf && (b->flags & kBufInEngine) != 0 && b->tag == tag;
      }
    return held;
  }

 private:
  size_t bytes_;
  void* memory_;
  SpanAllocator spans_;
  BufPool pool_;
};

// queue() stands for the TAP queue; the test is the kernel's side.
class FakeQueue {
 public:
  explicit FakeQueue(int type = SOCK_DGRAM) {
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds_), 0);
    int bytes = 4 << 20;
    for (int fd : fds_) setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  }
  ~FakeQueue() {
    for (int fd : fds_)
      if (fd >= 0) close(fd);
  }
  QueueRef ref() const { return {fds_[0], true, 0}; }
  int peer() const { return fds_[1]; }
  void ClosePeer() {
    close(fds_[1]);
    fds_[1] = -1;
  }

  // A frame of `bytes` whose payload tells its number.
  bool Inject(uint32_t number, size_t bytes = 100) { return InjectThrough(fds_[1], number, bytes); }
  static bool InjectThrough(int fd, uint32_t number, size_t bytes = 100) {
    std::vector<std::byte> raw(sizeof(VirtioNetHeader) + bytes, std::byte{0x5a});
    VirtioNetHeader vnet{.flags = VirtioNetHeader::kDataValid, .gso_size = static_cast<uint16_t>(number)};
    std::memcpy(raw.data(), &vnet, sizeof vnet);
    std::memcpy(raw.data() + sizeof vnet + 14, &number, sizeof number);
    return write(fd, raw.data(), raw.size()) == static_cast<ssize_t>(raw.size());
  }
  // The next frame the engine wrote, virtio header included; empty when there is none.
  std::string Take() {
    std::string raw(70000, '\0');
    ssize_t n = read(fds_[1], raw.data(), raw.size());
    raw.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return raw;
  }

 private:
  int fds_[2] = {-1, -1};
};

inline uint32_t NumberOf(const RxFrame& frame) {
  uint32_t number = 0;
  std::memcpy(&number, frame.bytes.data() + 14, sizeof number);
  return number;
}

class EngineTest : public ::testing::TestWithParam<EngineVariant> {
 protected:
  static constexpr uint64_t kTag = 77;

  void SetUp() override {
    if (GetParam().kind == EngineKind::kUring && !UringPermitted()) GTEST_SKIP() << "io_uring is not permitted here";
    engine_ = Create();
    ASSERT_NE(engine_, nullptr);
  }
  void TearDown() override { Engine::Destroy(engine_); }

  Engine* Create(uint32_t read_buffers = 8) {
    return Engine::Create({.kind = GetParam().kind,
                           .owner_tag = kTag,
                           .read_buffers = read_buffers,
                           .ring_batch = 2,
                           .disabled_features = GetParam().disabled,
                           .quiet = true});
  }
  // Numbers of the frames Receive hands out.
  std::vector<uint32_t> ReceiveNumbers(uint32_t max_frames = 1000) {
    std::vector<uint32_t> numbers;
    engine_->Receive(
        queue_.ref(), memory_.pool(), [&](RxFrame& f) { numbers.push_back(NumberOf(f)); }, max_frames);
    return numbers;
  }
  // A wait that fails the test rather than hanging it.
  WaitRequest Request(Duration limit = 5s) {
    WaitRequest request;
    request.queues = {&ref_, 1};
    request.deadline = MonotonicNow() + limit;
    return request;
  }

  SharedPool memory_;
  FakeQueue queue_;
  QueueRef ref_ = queue_.ref();
  Engine* engine_ = nullptr;
};

inline std::string VariantName(const ::testing::TestParamInfo<EngineVariant>& info) { return info.param.name; }

}  // namespace ustcp
