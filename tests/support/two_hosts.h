// Two hosts of one shard each on a link with delay and, when a test asks, loss; virtual time, no device. Frames are kept as
// bytes while they travel; segmentation offload stays on, so a frame may stand for many segments.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "stack/socket/socket_ops.h"
#include "stack/stack.h"
#include "stack/tcp/tcp.h"
#include "tests/support/test_host.h"

namespace ustcp::test {

class TwoHosts {
 public:
  struct Side {
    Side(HostConfig config, const Sysctls& sysctls, bool shared)
        : box(config, sysctls, TestHost::DefaultStart(), size_t{1} << 30, shared), shard(box.NewShard()) {}
    TestHost box;
    Shard& shard;
    IpAddress address;
  };
  struct InFlight {
    Instant at;
    uint64_t order;
    int to;
    std::vector<std::byte> bytes;
    VirtioNetHeader vnet;
  };

  explicit TwoHosts(Sysctls a = {}, Sysctls b = {}) : TwoHosts(ConfigOf(1), ConfigOf(2), a, b) {}
  // `shared`: child processes see the same hosts.
  TwoHosts(HostConfig config_a, HostConfig config_b, const Sysctls& a = {}, const Sysctls& b = {}, bool shared = false)
      : sides_{Side(config_a, a, shared), Side(config_b, b, shared)} {
    sides_[0].address = config_a.addresses[0].address;
    sides_[1].address = config_b.addresses[0].address;
  }

  static HostConfig ConfigOf(uint8_t n) {
    HostConfig config = TestHost::DefaultConfig();
    config.device.mac[5] = n;
    config.addresses[0].address = IpAddress::V4(192, 168, 0, n);
    config.addresses[1].address.bytes[15] = n;
    return config;
  }

  Side& side(int i) { return sides_[i]; }
  Instant now() const { return now_; }
  Duration delay = 1ms;
  // Returns true to lose the frame. Called once per frame, in order of transmission.
  std::function<bool(int from, ConstBytes frame)> lose;
  std::function<bool(int from)> duplicate;
  std::function<Duration(int from)> jitter;  // added to the delay
  std::function<void(int from, ConstBytes frame, Instant at)> observe;
  std::function<void(int from, Bytes frame)> corrupt;  // may change bytes on the way, after observe

  // Calls f(Context&) with the side's shard, then lets it transmit.
  template <typename F>
  auto On(int i, F&& f) {
    ShardLock lock(sides_[i].box.host(), sides_[i].shard, now_);
    if constexpr (std::is_void_v<decltype(f(lock.ctx))>) {
      f(lock.ctx);
      Transmit(i, lock.ctx);
    } else {
      auto result = f(lock.ctx);
      Transmit(i, lock.ctx);
      return result;
    }
  }

  // Lets everything happen that happens up to now + d.
  void Run(Duration d) {
    Instant end = now_ + d;
    for (;;) {
      Instant next = NextEvent();
      if (next > end) break;
      now_ = std::max(now_, next);
      Step();
    }
    now_ = end;
  }
  // Until the predicate holds or the time is up.
  template <typename P>
  bool RunUntil(P&& done, Duration limit) {
    Instant end = now_ + limit;
    while (!done()) {
      Instant next = NextEvent();
      if (next > end) {
        now_ = end;
        return done();
      }
      now_ = std::max(now_, next);
      Step();
    }
    return true;
  }

 private:
  Instant NextEvent() {
    Instant next = kNever;
    for (auto& f : wire_) next = std::min(next, f.at);
    for (int i = 0; i < 2; ++i) {
      ShardLock lock(sides_[i].box.host(), sides_[i].shard, now_);
      next = std::min(next, NextDeadline(lock.ctx));
    }
    return next;
  }
  void Step() {
    for (;;) {
      auto first = std::min_element(wire_.begin(), wire_.end(), [](const InFlight& a, const InFlight& b) {
        return a.at != b.at ? a.at < b.at : a.order < b.order;
      });
      if (first == wire_.end() || first->at > now_) break;
      InFlight f = std::move(*first);
      wire_.erase(first);
      On(f.to, [&](Context& ctx) {
        RxFrame frame;
        frame.vnet = f.vnet;
        frame.bytes = Bytes(f.bytes.data(), f.bytes.size());
        OnFrame(ctx, frame);
      });
    }
    for (int i = 0; i < 2; ++i) On(i, [](Context& ctx) { OnDeadline(ctx); });
  }
  void Transmit(int from, Context& ctx) {
    static TxBatch batch;
    bool more = true;
    while (more) {
      more = PollTransmit(ctx, batch);
      for (size_t i = 0; i < batch.count; ++i) Send(from, batch.frames[i]);
      ReleaseTransmitted(ctx, batch);
    }
  }
  void Send(int from, const TxFrame& frame) {
    InFlight f{now_ + delay, order_++, 1 - from, {}, frame.vnet};
    f.bytes.assign(frame.headers.begin(), frame.headers.begin() + frame.header_bytes);
    for (int i = 0; i < frame.piece_count; ++i) {
      auto* p = static_cast<const std::byte*>(frame.pieces[i].iov_base);
      f.bytes.insert(f.bytes.end(), p, p + frame.pieces[i].iov_len);
    }
    if (observe) observe(from, f.bytes, now_);
    if (corrupt) corrupt(from, f.bytes);
    if (lose && lose(from, f.bytes)) return;
    if (jitter) f.at += jitter(from);
    if (duplicate && duplicate(from)) {
      InFlight again = f;
      again.order = order_++;
      if (jitter) again.at += jitter(from);
      wire_.push_back(std::move(again));
    }
    wire_.push_back(std::move(f));
  }

  Instant now_ = TestHost::DefaultStart();
  Side sides_[2];
  std::vector<InFlight> wire_;
  uint64_t order_ = 0;
};

}  // namespace ustcp::test
