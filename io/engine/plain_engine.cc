#include "io/engine/plain_engine.h"

#include <sys/eventfd.h>

#include <cerrno>

#include "io/base/clock.h"
#include "io/base/owned_fds.h"
#include "io/base/sys.h"
#include "io/device/frame_io.h"

namespace ustcp {
namespace {

constexpr size_t kScratchBytes = kFrameOffset + kMaxFrameBytes;

// The pollfds of one wait: on the stack as a rule, in a mapping of their own when a program waits for very many.
class PollArray {
 public:
  explicit PollArray(size_t n) noexcept : count_(n) {
    if (n <= kInline) return;
    void* p = sys::Map(nullptr, n * sizeof(pollfd), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fds_ = sys::MapFailed(p) ? nullptr : static_cast<pollfd*>(p);
  }
  ~PollArray() {
    if (fds_ != inline_ && fds_ != nullptr) sys::Unmap(fds_, count_ * sizeof(pollfd));
  }
  PollArray(const PollArray&) = delete;
  PollArray& operator=(const PollArray&) = delete;
  pollfd* get() noexcept { return fds_; }

 private:
  static constexpr size_t kInline = 128;
  size_t count_;
  pollfd inline_[kInline];
  pollfd* fds_ = inline_;
};

}  // namespace

uint32_t PollNow(std::span<WaitPoll> polls) noexcept {
  if (polls.empty()) return 0;
  PollArray array(polls.size());
  pollfd* fds = array.get();
  if (fds == nullptr) return 0;
  for (size_t i = 0; i < polls.size(); ++i) fds[i] = {polls[i].fd, polls[i].events, 0};
  timespec none{};
  int r = sys::Ppoll(fds, polls.size(), &none, nullptr);
  for (size_t i = 0; i < polls.size(); ++i) polls[i].revents = r > 0 ? fds[i].revents : static_cast<short>(0);
  return r > 0 ? static_cast<uint32_t>(r) : 0;
}

PlainEngine::~PlainEngine() {
  if (own_wake_fd_) OwnedFds::Close(wake_fd_);
  if (scratch_ != nullptr) sys::Unmap(scratch_, kScratchBytes);
}

void PlainEngine::Open(int given, bool needs_wake_fd) noexcept {
  wake_fd_ = given;
  if (given >= 0 || !needs_wake_fd) return;
  int fd = sys::EventFd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd >= 0) fd = OwnedFds::Adopt(fd, OwnedFdKind::kEngine);
  if (fd < 0) return;
  wake_fd_ = fd;
  own_wake_fd_ = true;
}

std::byte* PlainEngine::Scratch() noexcept {
  if (scratch_ == nullptr) {
    void* p = sys::Map(nullptr, kScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sys::MapFailed(p)) scratch_ = static_cast<std::byte*>(p);
  }
  return scratch_;
}

void PlainEngine::DrainWakeFd() noexcept {
  if (wake_fd_ < 0) return;
  // An eventfd is empty after one read; a descriptor of the caller's may hold several messages.
  char bytes[64];
  for (int i = 0; i < 64 && sys::Read(wake_fd_, bytes, sizeof bytes) > 0 && !own_wake_fd_; ++i) {
  }
}

void PlainEngine::TransmitOne(QueueRef queue, const TxFrame& frame, TransmitResult* result) noexcept {
  iovec v[kMaxFrameIovecs];
  FlatFrame flat;
  size_t n = FillIovecs(queue, frame, v, flat);
  ssize_t r;
  do {
    ++stats_->plain_writes;
    r = n == 1 ? sys::Write(queue.fd, v[0].iov_base, v[0].iov_len) : sys::Writev(queue.fd, v, n);
  } while (r == -EINTR);
  if (r < 0) {
    CountFailure(stats_, result, static_cast<int>(-r));
    return;
  }
  ++result->sent;
  ++stats_->frames_out;
  stats_->bytes_out += frame.header_bytes + frame.payload_bytes;
}

void PlainEngine::Transmit(QueueRef queue, const TxBatch& batch, size_t first, TransmitResult* result) noexcept {
  for (size_t i = first; i < batch.count; ++i) TransmitOne(queue, batch.frames[i], result);
}

ReceiveResult PlainEngine::Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept {
  ReceiveResult result;
  // One buffer serves until the stack takes it, so small frames all land in the same few cache lines.
  Buf* b = nullptr;
  while (true) {
    if (result.frames >= max_frames) {
      result.more = true;
      break;
    }
    if (b == nullptr && (b = pool.Take(BufClass::kFrame)) == nullptr) ++stats_->out_of_buffers;
    std::byte* area = b != nullptr ? b->data() : Scratch();
    if (area == nullptr) break;
    ++stats_->plain_reads;
    ssize_t n = sys::Read(queue.fd, area + ReadOffset(queue), ReadBytes(queue));
    if (n == -EINTR) continue;
    if (n == -EAGAIN) break;
    if (n < 0) {
      ++stats_->errors_in;
      result.error = static_cast<int>(-n);
      break;
    }
    if (n == 0) {  // never from a TAP; the end of a socket that stands in for one
      result.error = EBADFD;
      break;
    }
    RxFrame frame;
    if (!DescribeFrame(queue, area, static_cast<size_t>(n), &frame)) {
      ++stats_->short_frames;
      continue;
    }
    ++result.frames;
    ++stats_->frames_in;
    stats_->bytes_in += frame.bytes.size();
    if (b == nullptr)
      sink(frame);
    else if (DeliverFromBuf(frame, b, true, sink))
      b = nullptr;
  }
  if (b != nullptr) pool.Give(b);
  return result;
}

WaitResult PlainEngine::Wait(const WaitRequest& request) noexcept {
  WaitResult result;
  // A waker of the word would not be noticed by ppoll without a descriptor. That is so only after a ring that could
  // wait on words has failed: look at the word often instead.
  constexpr Duration kLookAtWord = 5ms;
  bool slices = request.futex != nullptr && wake_fd_ < 0;
  size_t queues = request.queues.size();
  size_t polls = request.polls.size();
  size_t n = queues + polls + (wake_fd_ >= 0 ? 1 : 0);
  PollArray array(n);
  pollfd* fds = array.get();
  if (fds == nullptr) {
    result.error = ENOMEM;
    return result;
  }
  for (size_t i = 0; i < queues; ++i) fds[i] = {request.queues[i].fd, POLLIN, 0};
  for (size_t i = 0; i < polls; ++i) fds[queues + i] = {request.polls[i].fd, request.polls[i].events, 0};
  if (wake_fd_ >= 0) fds[n - 1] = {wake_fd_, POLLIN, 0};

  auto word_changed = [&] {
    return request.futex != nullptr && request.futex->load(std::memory_order_acquire) != request.futex_expected;
  };
  Instant spin_end = request.spin.count() > 0 ? MonotonicNow() + request.spin : Instant{};
  for (;;) {
    // A waker changes the word before it writes to wake_fd: what this look misses, ppoll sees.
    bool woken = word_changed();
    Instant now = request.deadline == kNever && request.spin.count() == 0 ? Instant{} : MonotonicNow();
    bool spinning = now < spin_end;
    bool poll_only = woken || spinning || request.deadline <= now;
    timespec time{};
    timespec* timeout = &time;
    if (!poll_only) {
      ++stats_->waits;
      if (slices && now == Instant{}) now = MonotonicNow();
      Instant until = slices && now + kLookAtWord < request.deadline ? now + kLookAtWord : request.deadline;
      if (until == kNever)
        timeout = nullptr;
      else
        time = TimeLeft(until, now);
    }
    int r = sys::Ppoll(fds, n, timeout, poll_only ? nullptr : request.signal_mask);
    if (r < 0) {
      if (r == -EINTR)
        result.interrupted = true;
      else
        result.error = -r;
      return result;
    }
    for (size_t i = 0; i < queues; ++i) result.frames |= fds[i].revents != 0;
    for (size_t i = 0; i < polls; ++i) {
      request.polls[i].revents = fds[queues + i].revents;
      result.ready_polls += fds[queues + i].revents != 0;
    }
    if (wake_fd_ >= 0 && fds[n - 1].revents != 0) {
      DrainWakeFd();
      woken = true;
    }
    result.woken = woken || word_changed();
    if (result.frames || result.woken || result.ready_polls != 0) return result;
    if (request.deadline != kNever && MonotonicNow() >= request.deadline) {
      result.timed_out = true;
      return result;
    }
    if (!poll_only && r > 0) return result;
  }
}

}  // namespace ustcp
