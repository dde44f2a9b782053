// Two hosts joined without a device, for benchmarks: what one transmits is copied into receive buffers of the other when
// the benchmark says so, on a clock that only moves when told. Nothing is lost, and nothing is measured but the stack.
#pragma once

#include <netinet/tcp.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/stack.h"
#include "tests/support/test_host.h"

namespace ustcp::bench {

// Set-up that fails would leave a benchmark of nothing.
inline void Must(Error error, int expected = 0) {
  if (error.code == expected) return;
  fprintf(stderr, "set-up failed: %d\n", error.code);
  abort();
}

class Link {
 public:
  struct Side {
    Side(uint8_t n, size_t arena_bytes)
        : box(Config(n), {}, test::TestHost::DefaultStart(), arena_bytes),
          shard(box.NewShard()),
          address(IpAddress::V4(192, 168, 0, n)) {}
    test::TestHost box;
    Shard& shard;
    IpAddress address;
    std::vector<Buf*> arriving;  // frames as a driver reads them, in buffers of this side
  };

  explicit Link(size_t arena_bytes = size_t{1} << 30)
      : sides_{{1, arena_bytes}, {2, arena_bytes}}, batch_(std::make_unique<TxBatch>()) {}

  Side& side(int i) { return sides_[i]; }
  Instant now() const { return now_; }

  // Calls f(Context&) with the side's lock held.
  template <typename F>
  auto On(int i, F&& f) {
    ShardLock lock(sides_[i].box.host(), sides_[i].shard, now_);
    return f(lock.ctx);
  }

  // What `from` has to say goes into the other side's buffers, where it waits for Deliver. Returns the frames.
  size_t Carry(int from) {
    size_t frames = 0;
    On(from, [&](Context& ctx) {
      bool more = true;
      while (more) {
        more = PollTransmit(ctx, *batch_);
        for (size_t i = 0; i < batch_->count; ++i) Copy(1 - from, batch_->frames[i]);
        frames += batch_->count;
        ReleaseTransmitted(ctx, *batch_);
      }
    });
    return frames;
  }

  // Hands the waiting frames to the stack. Requires the lock of side `to`.
  void Deliver(int to, Context& ctx) {
    for (Buf* b : sides_[to].arriving) {
      RxFrame frame;
      std::memcpy(&frame.vnet, b->begin() - sizeof(VirtioNetHeader), sizeof(VirtioNetHeader));
      frame.bytes = b->bytes();
      frame.buffer = b;
      OnFrame(ctx, frame);
      if (frame.buffer != nullptr) ctx.shard.bufs.Give(frame.buffer);
    }
    sides_[to].arriving.clear();
  }

  // Lets both sides talk until there is nothing left to say.
  void Settle() {
    for (size_t moved = 1; moved > 0;) {
      moved = 0;
      for (int i : {0, 1}) {
        moved += Carry(i);
        On(1 - i, [&](Context& ctx) { Deliver(1 - i, ctx); });
      }
    }
  }

  void Advance(Duration d) { now_ += d; }
  // Moves the clock and fires what is due, then settles.
  void Pass(Duration d) {
    Advance(d);
    for (int i : {0, 1}) On(i, [](Context& ctx) { OnDeadline(ctx); });
    Settle();
  }

  Socket* Open(int i) {
    return On(i, [](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      s->options.reuse_addr = true;
      int one = 1;
      Must(SetOption(ctx, *s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
      return s;
    });
  }
  Socket* Listen(uint16_t port, int backlog = 1024) {
    Socket* s = Open(1);
    On(1, [&](Context& ctx) {
      Must(BindSocket(ctx, *s, {IpAddress::AnyV4(), port}));
      Must(ListenSocket(ctx, *s, backlog));
    });
    return s;
  }
  // A connection from side 0 to side 1, accepted.
  void Connect(Socket* listening, Socket*& client, Socket*& server) {
    client = Open(0);
    Endpoint peer{sides_[1].address, listening->local.port};
    On(0, [&](Context& ctx) { Must(ConnectSocket(ctx, *client, peer), EINPROGRESS); });
    Settle();
    auto accepted = AcceptSocket(sides_[1].box.host(), *listening, 0);
    server = accepted.ok() ? *accepted : nullptr;
  }

  static size_t Send(Context& ctx, Socket& s, size_t bytes) {
    static std::byte data[1 << 17];
    auto r = SendSocket(ctx, s, UserVector(data, bytes), 0);
    return r.ok() ? *r : 0;
  }
  static size_t Receive(Context& ctx, Socket& s) {
    static std::byte data[1 << 18];
    auto r = ReceiveSocket(ctx, s, UserVector(data, sizeof data), 0);
    return r.ok() ? *r : 0;
  }

  TxBatch& batch() { return *batch_; }
  // A frame of `from`'s, for a benchmark that polls by itself.
  void Copy(int to, const TxFrame& frame) {
    Side& s = sides_[to];
    Buf* b = s.shard.bufs.Take(BufClass::kFrame);  // one thread, so without the lock
    b->offset = kFrameReadOffset + sizeof(VirtioNetHeader);
    std::memcpy(b->begin() - sizeof(VirtioNetHeader), &frame.vnet, sizeof(VirtioNetHeader));
    std::byte* at = b->begin();
    std::memcpy(at, frame.headers.data(), frame.header_bytes);
    at += frame.header_bytes;
    for (int i = 0; i < frame.piece_count; ++i) {
      std::memcpy(at, frame.pieces[i].iov_base, frame.pieces[i].iov_len);
      at += frame.pieces[i].iov_len;
    }
    b->length = static_cast<uint32_t>(at - b->begin());
    s.arriving.push_back(b);
  }

 private:
  static HostConfig Config(uint8_t n) {
    HostConfig config = test::TestHost::DefaultConfig();
    config.device.mac[5] = n;
    config.addresses[0].address = IpAddress::V4(192, 168, 0, n);
    config.addresses[1].address.bytes[15] = n;
    return config;
  }

  Instant now_ = test::TestHost::DefaultStart();
  Side sides_[2];
  std::unique_ptr<TxBatch> batch_;
};

}  // namespace ustcp::bench
