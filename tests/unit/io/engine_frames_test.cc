// Frames through both engines and through the ring as older kernels have it (issue "io/": io_uring with multishot reads
// and provided buffers, batched writes, plain calls as the fall-back).
#include <fcntl.h>
#include <sys/wait.h>

#include <numeric>

#include "tests/unit/io/engine_fixture.h"

namespace ustcp {
namespace {

class EngineFrames : public EngineTest {};
INSTANTIATE_TEST_SUITE_P(Variants, EngineFrames, ::testing::ValuesIn(kEngineVariants), VariantName);

std::vector<uint32_t> Range(uint32_t from, uint32_t to) {
  std::vector<uint32_t> v(to - from);
  std::iota(v.begin(), v.end(), from);
  return v;
}

void Append(TxBatch& batch, std::string_view headers, std::vector<std::string>& pieces) {
  TxFrame& f = batch.frames[batch.count++];
  f = TxFrame{};
  f.vnet.gso_size = 7;
  std::memcpy(f.headers.data(), headers.data(), headers.size());
  f.header_bytes = static_cast<uint16_t>(headers.size());
  for (std::string& piece : pieces) {
    f.pieces[f.piece_count++] = {piece.data(), piece.size()};
    f.payload_bytes += static_cast<uint32_t>(piece.size());
  }
}

TEST_P(EngineFrames, ReceivesNothingFromAnEmptyQueue) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  EXPECT_TRUE(ReceiveNumbers().empty());
  EXPECT_EQ(engine_->stats().frames_in, 0u);
}

TEST_P(EngineFrames, HandsOutFramesInOrderWithTheirVirtioHeader) {
  ASSERT_TRUE(queue_.Inject(1, 60));
  ASSERT_TRUE(queue_.Inject(2, 1514));
  std::vector<size_t> sizes;
  auto r = engine_->Receive(
      queue_.ref(), memory_.pool(),
      [&](RxFrame& f) {
        EXPECT_EQ(f.vnet.flags, VirtioNetHeader::kDataValid);
        EXPECT_EQ(f.vnet.gso_size, NumberOf(f));
        ASSERT_NE(f.buffer, nullptr);
        EXPECT_EQ(f.buffer->bytes().data(), f.bytes.data());
        EXPECT_EQ(f.buffer->length, f.bytes.size());
        EXPECT_EQ(f.buffer->flags & kBufInEngine, 0);
        // The IP header is 16-byte aligned.
        EXPECT_EQ(reinterpret_cast<uintptr_t>(f.bytes.data() + 14) % 16, 0u);
        sizes.push_back(f.bytes.size());
      },
      100);
  EXPECT_EQ(r.frames, 2u);
  EXPECT_EQ(r.error, 0);
  EXPECT_FALSE(r.more);
  EXPECT_EQ(sizes, (std::vector<size_t>{60, 1514}));
  EXPECT_EQ(engine_->stats().bytes_in, 60u + 1514u);
}

// More frames than buffers: the ring runs dry (ENOBUFS) and goes on.
TEST_P(EngineFrames, BurstLargerThanTheBufferRingArrivesWholeAndInOrder) {
  for (int round = 0; round < 5; ++round) {
    uint32_t n = 0;
    while (n < 100 && queue_.Inject(n)) ++n;
    ASSERT_GT(n, 8u);
    EXPECT_EQ(ReceiveNumbers(), Range(0, n)) << "round " << round;
  }
}

TEST_P(EngineFrames, StopsAtMaxFramesAndGoesOnWhereItStopped) {
  for (uint32_t i = 0; i < 10; ++i) ASSERT_TRUE(queue_.Inject(i));
  std::vector<uint32_t> got;
  auto r = engine_->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { got.push_back(NumberOf(f)); }, 4);
  EXPECT_TRUE(r.more);
  EXPECT_EQ(got, Range(0, 4));
  EXPECT_EQ(ReceiveNumbers(), Range(4, 10));
}

TEST_P(EngineFrames, LargestFrameFits) {
  ASSERT_TRUE(queue_.Inject(9, kMaxFrameBytes));
  size_t size = 0;
  engine_->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { size = f.bytes.size(); }, 10);
  EXPECT_EQ(size, kMaxFrameBytes);
}

TEST_P(EngineFrames, FramesThatEndWithinTheirHeadersAreDroppedAndCounted) {
  char raw[sizeof(VirtioNetHeader) + 13] = {};
  ASSERT_EQ(write(queue_.peer(), raw, sizeof raw), static_cast<ssize_t>(sizeof raw));
  ASSERT_EQ(write(queue_.peer(), raw, 3), 3);
  ASSERT_TRUE(queue_.Inject(5));
  EXPECT_EQ(ReceiveNumbers(), Range(5, 6));
  EXPECT_EQ(engine_->stats().short_frames, 2u);
}

// The stack takes large in-order payload by taking the buffer (design: "RX").
TEST_P(EngineFrames, BuffersTheSinkTakesAreReplaced) {
  std::vector<Buf*> taken;
  for (uint32_t i = 0; i < 40; ++i) ASSERT_TRUE(queue_.Inject(i) || i > 8);
  auto r = engine_->Receive(
      queue_.ref(), memory_.pool(),
      [&](RxFrame& f) {
        taken.push_back(f.buffer);
        f.buffer = nullptr;
      },
      1000);
  ASSERT_EQ(r.frames, taken.size());
  ASSERT_GT(taken.size(), 8u);
  for (uint32_t i = 0; i < taken.size(); ++i) {
    uint32_t number;
    std::memcpy(&number, taken[i]->begin() + 14, sizeof number);
    EXPECT_EQ(number, i) << "a buffer was used again while the stack held it";
    EXPECT_EQ(taken[i]->flags, 0);
    memory_.pool().Give(taken[i]);
  }
  engine_->ReleaseQueue(queue_.ref(), memory_.pool());
  EXPECT_EQ(memory_.pool().bytes_taken(), 0u);
}

// Hazard "Memory": out of memory must not stop the queue.
TEST_P(EngineFrames, WithoutBuffersFramesComeToBeCopied) {
  std::vector<Buf*> hoard;
  while (Buf* b = memory_.pool().Take(BufClass::kFrame)) hoard.push_back(b);
  for (uint32_t i = 0; i < 9; ++i) ASSERT_TRUE(queue_.Inject(i));
  std::vector<uint32_t> got;
  auto sink = [&](RxFrame& f) {
    EXPECT_EQ(f.buffer, nullptr);
    got.push_back(NumberOf(f));
  };
  engine_->Receive(queue_.ref(), memory_.pool(), sink, 100);
  EXPECT_EQ(got, Range(0, 9));
  EXPECT_GT(engine_->stats().out_of_buffers, 0u);
  // Memory comes back: so do buffers.
  for (Buf* b : hoard) memory_.pool().Give(b);
  ASSERT_TRUE(queue_.Inject(50));
  Buf* buffer = nullptr;
  engine_->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { buffer = f.buffer; }, 100);
  EXPECT_NE(buffer, nullptr);
}

TEST_P(EngineFrames, SomeBuffersButNoReplacementStillReceives) {
  std::vector<Buf*> hoard;
  while (Buf* b = memory_.pool().Take(BufClass::kFrame)) hoard.push_back(b);
  for (int i = 0; i < 4; ++i) {
    memory_.pool().Give(hoard.back());
    hoard.pop_back();
  }
  std::vector<Buf*> taken;
  uint32_t seen = 0;
  for (uint32_t round = 0; round < 4; ++round) {
    for (uint32_t i = 0; i < 9; ++i) ASSERT_TRUE(queue_.Inject(seen + i));
    engine_->Receive(
        queue_.ref(), memory_.pool(),
        [&](RxFrame& f) {
          EXPECT_EQ(NumberOf(f), seen++);
          if (f.buffer != nullptr) taken.push_back(std::exchange(f.buffer, nullptr));
        },
        100);
  }
  EXPECT_EQ(seen, 36u);
  EXPECT_LE(taken.size(), 4u);
  for (Buf* b : taken) memory_.pool().Give(b);
  for (Buf* b : hoard) memory_.pool().Give(b);
}

TEST_P(EngineFrames, TransmitGathersHeadersAndPieces) {
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none, two{"hello ", "world"};
  std::string many_text;
  std::vector<std::string> many;
  // Too much for one piece.
  for (size_t i = 0; i < TxFrame::kMaxPieces; ++i) many.push_back(std::string(20 + i, static_cast<char>('a' + i)));
  for (auto& s : many) many_text += s;
  Append(*batch, "HEADERS-OF-FRAME-1", two);
  auto r = engine_->Transmit(queue_.ref(), *batch);  // one frame: by writev
  EXPECT_EQ(r.sent, 1u);
  Append(*batch, "HEADERS-OF-FRAME-2", none);
  Append(*batch, "HEADERS-OF-FRAME-3", many);
  r = engine_->Transmit(queue_.ref(), *batch);
  EXPECT_EQ(r.sent, 3u);
  EXPECT_EQ(r.failed, 0u);
  VirtioNetHeader vnet{.gso_size = 7};
  std::string prefix(reinterpret_cast<char*>(&vnet), sizeof vnet);
  EXPECT_EQ(queue_.Take(), prefix + "HEADERS-OF-FRAME-1hello world");
  EXPECT_EQ(queue_.Take(), prefix + "HEADERS-OF-FRAME-1hello world");
  EXPECT_EQ(queue_.Take(), prefix + "HEADERS-OF-FRAME-2");
  EXPECT_EQ(queue_.Take(), prefix + "HEADERS-OF-FRAME-3" + many_text);
  EXPECT_EQ(queue_.Take(), "");
  EXPECT_EQ(engine_->stats().frames_out, 4u);
}

TEST_P(EngineFrames, FullBatchKeepsItsOrder) {
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none;
  std::vector<std::string> names;
  // A datagram socket queues few messages (net.unix.max_dgram_qlen); a sequenced one is bounded by bytes.
  FakeQueue queue(SOCK_SEQPACKET);
  for (size_t i = 0; i < TxBatch::kCapacity; ++i) names.push_back("frame number " + std::to_string(100 + i));
  for (auto& name : names) Append(*batch, name, none);
  auto r = engine_->Transmit(queue.ref(), *batch);
  EXPECT_EQ(r.sent, TxBatch::kCapacity);
  for (auto& name : names) EXPECT_EQ(queue.Take().substr(sizeof(VirtioNetHeader)), name);
  if (engine_->is_uring()) {
    EXPECT_EQ(engine_->stats().ring_frames_out, TxBatch::kCapacity);
    EXPECT_LE(engine_->stats().ring_enters, 2u);
  }
}

// Small batches cost less by writev; when frames wait to be read, one io_uring_enter does both.
TEST_P(EngineFrames, SmallBatchesUseTheRingOnlyTogetherWithReads) {
  Engine* engine = Engine::Create({.kind = GetParam().kind, .disabled_features = GetParam().disabled, .quiet = true});
  ASSERT_NE(engine, nullptr);
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none;
  Append(*batch, "HEADERS-OF-FRAME", none);
  auto receive = [&] {
    return engine
        ->Receive(
            queue_.ref(), memory_.pool(), [](RxFrame&) {}, 100)
        .frames;
  };
  EXPECT_EQ(receive(), 0u);
  EXPECT_EQ(engine->Transmit(queue_.ref(), *batch).sent, 1u);
  EXPECT_EQ(engine->stats().ring_frames_out, 0u);
  // Frames come several at a time.
  for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(queue_.Inject(i));
  EXPECT_EQ(receive(), 4u);
  ASSERT_TRUE(queue_.Inject(1));
  uint64_t enters = engine->stats().ring_enters;
  EXPECT_EQ(engine->Transmit(queue_.ref(), *batch).sent, 1u);
  EXPECT_EQ(receive(), 1u);
  if ((engine->features() & kFeatureMultishotRead) != 0) {
    EXPECT_EQ(engine->stats().ring_frames_out, 1u);
    EXPECT_EQ(engine->stats().ring_enters, enters + 1) << "written and read in one";
  }
  EXPECT_EQ(queue_.Take(), queue_.Take());
  engine->ReleaseQueue(queue_.ref(), memory_.pool());
  Engine::Destroy(engine);
}

// A frame at a time is what a request and its answer are: read and written past the ring, without an enter.
TEST_P(EngineFrames, LoneFramesNeedNoEnter) {
  Engine* engine = Engine::Create({.kind = GetParam().kind, .disabled_features = GetParam().disabled, .quiet = true});
  ASSERT_NE(engine, nullptr);
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none;
  Append(*batch, "HEADERS-OF-FRAME", none);
  auto receive = [&] {
    return engine
        ->Receive(
            queue_.ref(), memory_.pool(), [](RxFrame&) {}, 100)
        .frames;
  };
  EXPECT_EQ(receive(), 0u);  // arms the read
  EngineStats before = engine->stats();
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(queue_.Inject(i));
    ASSERT_EQ(receive(), 1u);
    ASSERT_EQ(engine->Transmit(queue_.ref(), *batch).sent, 1u);
    ASSERT_FALSE(queue_.Take().empty());
  }
  if ((engine->features() & kFeatureMultishotRead) != 0) {
    EXPECT_EQ(engine->stats().ring_enters, before.ring_enters);
    EXPECT_LE(engine->stats().plain_reads, before.plain_reads + 130) << "now and then a look for a second one";
  }
  engine->ReleaseQueue(queue_.ref(), memory_.pool());
  Engine::Destroy(engine);
}

// Whatever is read past the ring and whatever through it: nothing overtakes, and what is left behind ends the next wait.
TEST_P(EngineFrames, LoneFramesAndBurstsKeepTheirOrder) {
  uint32_t sent = 0, seen = 0, random = 7;
  auto next = [&random] { return (random = random * 1664525 + 1013904223) >> 20; };
  for (int round = 0; round < 2000; ++round) {
    uint32_t burst = next() % 4 != 0 ? 1 : next() % 9;
    for (uint32_t i = 0; i < burst && queue_.Inject(sent); ++i) ++sent;
    if (seen < sent && next() % 3 == 0) {
      WaitResult woken = engine_->Wait(Request());
      ASSERT_TRUE(woken.frames) << "round " << round;
    }
    for (uint32_t number : ReceiveNumbers(1 + next() % 8)) ASSERT_EQ(number, seen++) << "round " << round;
  }
  while (seen < sent) {
    ASSERT_TRUE(engine_->Wait(Request()).frames);
    for (uint32_t number : ReceiveNumbers()) ASSERT_EQ(number, seen++);
  }
  EXPECT_TRUE(ReceiveNumbers().empty());
}

// Payload belongs to send queues that may be reused as soon as Transmit returns.
TEST_P(EngineFrames, PayloadHasBeenReadWhenTransmitReturns) {
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> piece{std::string(30000, 'x')};
  for (int i = 0; i < 8; ++i) Append(*batch, "HEADERS-OF-FRAME", piece);
  FakeQueue queue(SOCK_SEQPACKET);
  auto r = engine_->Transmit(queue.ref(), *batch);
  std::memset(piece[0].data(), 'y', piece[0].size());
  EXPECT_GT(r.sent, 0u);
  for (uint32_t i = 0; i < r.sent; ++i) EXPECT_EQ(queue.Take().find('y'), std::string::npos);
}

TEST_P(EngineFrames, FullDeviceIsAFailureNotAWait) {
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none;
  for (size_t i = 0; i < TxBatch::kCapacity; ++i) Append(*batch, "HEADERS-OF-FRAME", none);
  uint32_t sent = 0;
  TransmitResult r;
  for (int i = 0; i < 200000 && r.failed == 0; ++i) {
    r = engine_->Transmit(queue_.ref(), *batch);
    sent += r.sent;
  }
  ASSERT_GT(r.failed, 0u);
  EXPECT_EQ(r.error, EAGAIN);
  EXPECT_EQ(engine_->stats().errors_out, r.failed);
  for (uint32_t i = 0; i < sent; ++i) ASSERT_FALSE(queue_.Take().empty());
  EXPECT_TRUE(queue_.Take().empty()) << "a frame was sent after Transmit had given it up";
}

TEST_P(EngineFrames, VanishedDeviceIsReported) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  FakeQueue queue(SOCK_SEQPACKET);
  queue.ClosePeer();
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> none;
  Append(*batch, "HEADERS-OF-FRAME", none);
  Append(*batch, "HEADERS-OF-FRAME", none);
  // The kernel raises SIGPIPE for sockets, never for a TAP.
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(engine_->Transmit(queue.ref(), *batch).failed, 2u);
  auto r = engine_->Receive(
      queue.ref(), memory_.pool(), [](RxFrame&) {}, 10);
  EXPECT_NE(r.error, 0);
  engine_->ReleaseQueue(queue.ref(), memory_.pool());
}

// A queue without the virtio header: a TAP made by others and handed in.
TEST_P(EngineFrames, QueueWithoutVirtioHeader) {
  QueueRef bare = queue_.ref();
  bare.vnet = false;
  std::string raw = "fourteen-bytes" + std::string("payload");
  ASSERT_EQ(write(queue_.peer(), raw.data(), raw.size()), static_cast<ssize_t>(raw.size()));
  std::string got;
  engine_->Receive(
      bare, memory_.pool(),
      [&](RxFrame& f) {
        EXPECT_EQ(f.vnet.flags, 0);
        got.assign(reinterpret_cast<char*>(f.bytes.data()), f.bytes.size());
      },
      10);
  EXPECT_EQ(got, raw);
  auto batch = std::make_unique<TxBatch>();
  std::vector<std::string> piece{"tail"};
  Append(*batch, "HEADERS-OF-FRAME", piece);
  Append(*batch, "HEADERS-OF-OTHER", piece);
  engine_->Transmit(bare, *batch);
  EXPECT_EQ(queue_.Take(), "HEADERS-OF-FRAMEtail");
  EXPECT_EQ(queue_.Take(), "HEADERS-OF-OTHERtail");
}

TEST_P(EngineFrames, ReleaseGivesEveryBufferBackAndDropsWhatWasRead) {
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(queue_.Inject(i));
  EXPECT_EQ(ReceiveNumbers(1), Range(0, 1));
  engine_->ReleaseQueue(queue_.ref(), memory_.pool());
  EXPECT_EQ(memory_.pool().bytes_taken(), 0u);
  EXPECT_EQ(memory_.CountHeld(kTag), 0u);
  // The queue can be used again, by this engine or another.
  ASSERT_TRUE(queue_.Inject(20));
  std::vector<uint32_t> rest = ReceiveNumbers();
  ASSERT_FALSE(rest.empty());
  EXPECT_EQ(rest.back(), 20u);
}

// Hazard "TAP deleted under us": the same descriptor number, another queue behind it.
TEST_P(EngineFrames, ReopenedQueueUnderTheSameNumber) {
  EXPECT_TRUE(ReceiveNumbers().empty());  // arms a read on the old one
  FakeQueue other;
  QueueRef again = queue_.ref();
  ASSERT_EQ(dup3(other.ref().fd, again.fd, O_CLOEXEC), again.fd);
  again.generation = 1;
  ASSERT_TRUE(FakeQueue::InjectThrough(other.peer(), 3));
  uint32_t got = 0;
  engine_->Receive(
      again, memory_.pool(), [&](RxFrame& f) { got = NumberOf(f); }, 10);
  EXPECT_EQ(got, 3u);
  // Nothing holds the old file open: its peer notices that it is gone.
  char byte = 0;
  EXPECT_EQ(write(queue_.peer(), &byte, 1), -1);
}

// Two threads (here: two engines) share a shard's queue; what one armed must not swallow the other's frames.
TEST_P(EngineFrames, ArmedReadOfAnIdleEngineTakesNothing) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  Engine* other = Create();
  for (uint32_t i = 0; i < 6; ++i) ASSERT_TRUE(queue_.Inject(i));
  std::vector<uint32_t> got;
  other->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { got.push_back(NumberOf(f)); }, 100);
  EXPECT_EQ(got, Range(0, 6));
  EXPECT_TRUE(ReceiveNumbers().empty());
  other->ReleaseQueue(queue_.ref(), memory_.pool());
  Engine::Destroy(other);
}

// A thread that read the queue earlier writes while another one reads it now.
TEST_P(EngineFrames, WriterThatIsNotToPickUpTakesNothing) {
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(queue_.Inject(i));
  EXPECT_EQ(ReceiveNumbers(), Range(0, 3));
  Engine* other = Create();
  for (uint32_t i = 3; i < 6; ++i) ASSERT_TRUE(queue_.Inject(i));
  TxBatch batch;
  std::vector<std::string> none;
  for (uint32_t count : {1u, 20u}) {
    batch.count = 0;
    for (uint32_t i = 0; i < count; ++i) Append(batch, std::string(60, 'x'), none);
    EXPECT_EQ(engine_->Transmit(queue_.ref(), batch, false).sent, count);
    EXPECT_EQ(engine_->HeldFrames(queue_.ref()), 0u);
  }
  std::vector<uint32_t> got;
  other->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { got.push_back(NumberOf(f)); }, 100);
  EXPECT_EQ(got, Range(3, 6));
  other->ReleaseQueue(queue_.ref(), memory_.pool());
  Engine::Destroy(other);
}

TEST_P(EngineFrames, WhatAWriterPickedUpIsHeldForIt) {
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(queue_.Inject(i));
  EXPECT_EQ(ReceiveNumbers(), Range(0, 3));
  for (uint32_t i = 3; i < 6; ++i) ASSERT_TRUE(queue_.Inject(i));
  TxBatch batch;
  std::vector<std::string> none;
  for (uint32_t i = 0; i < 20; ++i) Append(batch, std::string(60, 'x'), none);
  engine_->Transmit(queue_.ref(), batch);
  const uint32_t held = engine_->HeldFrames(queue_.ref());
  if (held != 0) {
    // A wait for something else does not sleep on them.
    WaitRequest request;
    request.deadline = MonotonicNow() + 5s;
    EXPECT_TRUE(engine_->Wait(request).frames);
  }
  EXPECT_EQ(ReceiveNumbers(), Range(3, 6));
  EXPECT_EQ(engine_->HeldFrames(queue_.ref()), 0u);
}

TEST_P(EngineFrames, SeveralQueuesAndMoreThanTheRingKeeps) {
  std::vector<std::unique_ptr<FakeQueue>> queues;
  for (int i = 0; i < 20; ++i) queues.push_back(std::make_unique<FakeQueue>());
  for (int round = 0; round < 3; ++round)
    for (uint32_t i = 0; i < queues.size(); ++i) {
      ASSERT_TRUE(queues[i]->Inject(i));
      uint32_t got = 99;
      engine_->Receive(
          queues[i]->ref(), memory_.pool(), [&](RxFrame& f) { got = NumberOf(f); }, 10);
      EXPECT_EQ(got, i);
    }
  for (auto& queue : queues) engine_->ReleaseQueue(queue->ref(), memory_.pool());
  EXPECT_EQ(memory_.pool().bytes_taken(), 0u);
}

// Hazard "Memory", death of a process: a sweeper finds what its engine held by walking the pool.
TEST_P(EngineFrames, BuffersOfADeadProcessAreFoundByTag) {
  size_t before = memory_.CountHeld(kTag);
  EXPECT_TRUE(ReceiveNumbers().empty());
  size_t held = memory_.CountHeld(kTag);
  if (engine_->is_uring())
    EXPECT_EQ(held, 9u);  // eight to read into, one spare
  else
    EXPECT_EQ(held, before);
  EXPECT_EQ(held * kBufBytes[3], memory_.pool().bytes_taken()) << "a held buffer without its mark";
  engine_->ReleaseQueue(queue_.ref(), memory_.pool());
  EXPECT_EQ(memory_.CountHeld(kTag), 0u);
}

TEST_P(EngineFrames, ChildAbandonsTheParentsEngineAndMakesItsOwn) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  ASSERT_TRUE(queue_.Inject(1));
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Engine::AbandonInChild();
    auto r = engine_->Receive(
        queue_.ref(), memory_.pool(), [](RxFrame&) {}, 10);
    if (r.error != ESTALE) _exit(1);
    Engine* own = Create();
    if (own == nullptr) _exit(2);
    uint32_t number = 0;
    own->Receive(
        queue_.ref(), memory_.pool(), [&](RxFrame& f) { number = NumberOf(f); }, 10);
    if (number != 1) _exit(3);
    own->ReleaseQueue(queue_.ref(), memory_.pool());
    Engine::Destroy(own);
    Engine::Destroy(engine_);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // The parent's ring works on.
  ASSERT_TRUE(queue_.Inject(2));
  EXPECT_EQ(ReceiveNumbers(), Range(2, 3));
}

TEST_P(EngineFrames, IdleQueueIsKnownToBeIdleWithoutASystemCall) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  bool can_tell = (engine_->features() & kFeatureMultishotRead) != 0;
  EXPECT_EQ(engine_->CertainlyIdle(queue_.ref()), can_tell);
  uint64_t enters = engine_->stats().ring_enters;
  if (can_tell) {
    EXPECT_TRUE(ReceiveNumbers().empty());
    EXPECT_EQ(engine_->stats().ring_enters, enters);
  }
  ASSERT_TRUE(queue_.Inject(1));
  EXPECT_FALSE(engine_->CertainlyIdle(queue_.ref()));
  EXPECT_EQ(ReceiveNumbers(), Range(1, 2));
}

}  // namespace
}  // namespace ustcp
