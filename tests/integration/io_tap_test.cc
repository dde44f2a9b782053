// The io layer on a real TAP, with the kernel's stack as the other end, in a network namespace of the test's own. Needs
// root (or CAP_NET_ADMIN and /dev/net/tun). Frames are made by hand: no stack takes part.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>

#include "io/base/clock.h"
#include "io/device/net_admin.h"
#include "io/device/segment.h"
#include "io/device/tap.h"
#include "io/engine/engine.h"
#include "tests/unit/io/frame_build.h"

namespace ustcp {
namespace {

constexpr uint8_t kKernelAddress[4] = {10, 9, 0, 1};
constexpr uint8_t kOurAddress[4] = {10, 9, 0, 2};
constexpr uint8_t kOurMac[6] = {2, 0, 0, 0, 0, 2};
constexpr const char* kName = "ustcptest0";

// Gives the calling process a /dev/net/tun of its own that everybody may open; the machine's may be root's alone and stays
// as it is.
bool TunNodeForEverybody() {
  return unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=755") == 0 &&
         mknod("/dev/net/tun", S_IFCHR, makedev(10, 200)) == 0 && chmod("/dev/net/tun", 0666) == 0;
}

class TapTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    // A namespace for each test: connections of the last one would go on asking for our address.
    bool possible = geteuid() == 0 && access("/dev/net/tun", R_OK | W_OK) == 0 && unshare(CLONE_NEWNET) == 0;
    if (!possible) GTEST_SKIP() << "needs root and /dev/net/tun";
    memory_ = mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    spans_.Init(memory_, static_cast<std::byte*>(memory_) + kMemory);
    pool_.Init(&spans_, 0);
    DeleteTap(kName);
  }
  void TearDown() override {
    if (engine_ != nullptr) {
      engine_->ReleaseQueue(ref_, pool_);
      Engine::Destroy(engine_);
    }
    if (tap_.fd >= 0) close(tap_.fd);
    if (memory_ != nullptr) {
      munmap(memory_, kMemory);
      DeleteTap(kName);
    }
  }

  void BringUp(uint32_t mtu = 1500) {
    IoError error = CreateTap({.name = kName});
    ASSERT_FALSE(error) << error.message;
    ASSERT_FALSE(SetLinkMtu(kName, mtu));
    ASSERT_FALSE(AddAddress(kName, kKernelAddress, 24));
    ASSERT_FALSE(SetLinkUp(kName, true));
    error = OpenTapQueue({.name = kName}, &tap_);
    ASSERT_FALSE(error) << error.message;
    ref_ = tap_.ref();
    engine_ = Engine::Create({.kind = GetParam(), .quiet = true});
    ASSERT_NE(engine_, nullptr);
  }

  // Receives until `done` says so about a frame; other frames (router solicitations, multicast) pass by.
  bool ReceiveUntil(const std::function<bool(RxFrame&)>& done) {
    Instant limit = MonotonicNow() + 5s;
    bool found = false;
    while (!found && MonotonicNow() < limit) {
      engine_->Receive(
          ref_, pool_, [&](RxFrame& f) { found = found || done(f); }, 64);
      if (!found) engine_->Wait({.queues = {&ref_, 1}, .deadline = limit});
    }
    return found;
  }

  TransmitResult Send(std::vector<FrameBytes>& frames, const TcpFields& t, const VirtioNetHeader& vnet) {
    auto batch = std::make_unique<TxBatch>();
    for (FrameBytes& f : frames) batch->frames[batch->count++] = AsTxFrame(f, t, vnet, 5);
    return engine_->Transmit(ref_, *batch);
  }
  TransmitResult SendRaw(const FrameBytes& f) {
    auto batch = std::make_unique<TxBatch>();
    TxFrame& frame = batch->frames[batch->count++];
    frame = TxFrame{};
    std::memcpy(frame.headers.data(), f.data(), f.size());
    frame.header_bytes = static_cast<uint16_t>(f.size());
    return engine_->Transmit(ref_, *batch);
  }

  // Answers the kernel's ARP request for our address.
  void AnswerArp() {
    FrameBytes reply;
    ASSERT_TRUE(ReceiveUntil([&](RxFrame& f) {
      if (LoadBe16(&f.bytes[12]) != 0x0806 || LoadBe16(&f.bytes[20]) != 1) return false;
      if (std::memcmp(&f.bytes[38], kOurAddress, 4) != 0) return false;
      reply.assign(f.bytes.begin(), f.bytes.begin() + 42);
      return true;
    }));
    std::memcpy(kernel_mac_, &reply[6], 6);
    std::memcpy(&reply[0], kernel_mac_, 6);
    std::memcpy(&reply[6], kOurMac, 6);
    StoreBe16(&reply[20], 2);
    std::memcpy(&reply[32], kernel_mac_, 6);
    std::memcpy(&reply[38], kKernelAddress, 4);
    std::memcpy(&reply[22], kOurMac, 6);
    std::memcpy(&reply[28], kOurAddress, 4);
    ASSERT_EQ(SendRaw(reply).sent, 1u);
  }

  // A TCP connection between the kernel's socket `accepted_` and frames made here.
  void Connect() {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    // A port of its own for each connection: the last one's may be in TIME_WAIT.
    static uint16_t port = 8000;
    tcp_.destination_port = ++port;
    address.sin_port = htons(port);
    std::memcpy(&address.sin_addr, kKernelAddress, 4);
    ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener, 1), 0);
    LinkState link;
    ASSERT_FALSE(ReadLink(kName, &link));
    std::memcpy(tcp_.ether_destination, link.mac.data(), 6);
    std::memcpy(tcp_.ether_source, kOurMac, 6);
    tcp_.seq = 1000;
    tcp_.flags = 0x02;
    tcp_.window = 65535;
    std::vector<FrameBytes> syn{BuildTcp(tcp_, true)};
    ASSERT_EQ(Send(syn, tcp_, PartialChecksum(tcp_)).sent, 1u);
    // The kernel asks who we are before it answers.
    AnswerArp();
    ASSERT_TRUE(ReceiveUntil([&](RxFrame& f) {
      if (LoadBe16(&f.bytes[12]) != 0x0800 || Load8(&f.bytes[23]) != 6) return false;
      EXPECT_EQ(Load8(&f.bytes[34 + 13]), 0x12) << "SYN and ACK";
      tcp_.ack = LoadBe32(&f.bytes[34 + 4]) + 1;
      return true;
    }));
    tcp_.seq = 1001;
    tcp_.flags = 0x10;
    std::vector<FrameBytes> ack{BuildTcp(tcp_, true)};
    ASSERT_EQ(Send(ack, tcp_, PartialChecksum(tcp_)).sent, 1u);
    accepted_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    ASSERT_GE(accepted_, 0);
    close(listener);
  }

  static constexpr size_t kMemory = 16 << 20;
  void* memory_ = nullptr;
  SpanAllocator spans_;
  BufPool pool_;
  TapQueue tap_;
  QueueRef ref_;
  Engine* engine_ = nullptr;
  uint8_t kernel_mac_[6] = {};
  TcpFields tcp_;
  int accepted_ = -1;
};
INSTANTIATE_TEST_SUITE_P(Engines, TapTest, ::testing::Values(EngineKind::kUring, EngineKind::kPlain),
                         [](auto& kind) { return kind.param == EngineKind::kUring ? "ring" : "plain"; });

TEST_P(TapTest, QueueTellsWhatTheDeviceCanDo) {
  BringUp(4000);
  EXPECT_STREQ(tap_.name, kName);
  EXPECT_TRUE(tap_.vnet && tap_.multi_queue && tap_.checksum_offload && tap_.tso4 && tap_.tso6 && tap_.up);
  EXPECT_EQ(tap_.mtu, 4000u);
  EXPECT_EQ(fcntl(tap_.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(fcntl(tap_.fd, F_GETFD), FD_CLOEXEC);
}

TEST_P(TapTest, AnswersArpAndPing) {
  BringUp();
  int icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
  ASSERT_GE(icmp, 0);
  FrameBytes request(24, std::byte{0});
  Store8(&request[0], 8);
  StoreBe16(&request[4], 0x1234);
  StoreBe16(&request[2], static_cast<uint16_t>(~SumOf(request, 0, request.size())));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  std::memcpy(&to.sin_addr, kOurAddress, 4);
  ASSERT_EQ(sendto(icmp, request.data(), request.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to), 24);
  AnswerArp();
  FrameBytes echo;
  ASSERT_TRUE(ReceiveUntil([&](RxFrame& f) {
    if (LoadBe16(&f.bytes[12]) != 0x0800 || Load8(&f.bytes[23]) != 1) return false;
    echo.assign(f.bytes.begin(), f.bytes.end());
    return true;
  }));
  ASSERT_LE(echo.size(), TxFrame::kMaxHeaderBytes);
  std::swap_ranges(echo.begin(), echo.begin() + 6, echo.begin() + 6);
  std::swap_ranges(echo.begin() + 26, echo.begin() + 30, echo.begin() + 30);
  Store8(&echo[34], 0);
  StoreBe16(&echo[36], 0);
  StoreBe16(&echo[36], static_cast<uint16_t>(~SumOf(echo, 34, echo.size())));
  ASSERT_EQ(SendRaw(echo).sent, 1u);
  pollfd answer{icmp, POLLIN, 0};
  ASSERT_EQ(poll(&answer, 1, 5000), 1) << "the kernel took no answer";
  std::byte packet[64];
  ASSERT_EQ(recv(icmp, packet, sizeof packet, 0), 20 + 24);
  EXPECT_EQ(Load8(&packet[20]), 0) << "echo reply";
  EXPECT_EQ(LoadBe16(&packet[24]), 0x1234);
  close(icmp);
}

// 64 KiB in one frame: the kernel takes it as one, and gives us merged frames with partial checksums.
TEST_P(TapTest, SegmentationOffloadBothWays) {
  BringUp();
  Connect();
  TcpFields data = tcp_;
  data.payload_bytes = 30000;  // within the window the kernel opened
  std::vector<FrameBytes> frames{BuildTcp(data, true)};
  ASSERT_EQ(Send(frames, data, PartialChecksum(data, 1460)).sent, 1u);
  FrameBytes got(data.payload_bytes);
  ASSERT_EQ(recv(accepted_, got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, FrameBytes(frames[0].begin() + 54, frames[0].end()));

  int bytes = 1 << 20;
  setsockopt(accepted_, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  FrameBytes answer(65000);
  for (size_t i = 0; i < answer.size(); ++i) answer[i] = std::byte{static_cast<uint8_t>(i * 13)};
  ASSERT_EQ(send(accepted_, answer.data(), answer.size(), MSG_DONTWAIT), static_cast<ssize_t>(answer.size()));
  FrameBytes received;
  size_t largest = 0;
  uint32_t next = tcp_.ack;
  ASSERT_TRUE(ReceiveUntil([&](RxFrame& f) {
    if (LoadBe16(&f.bytes[12]) != 0x0800 || Load8(&f.bytes[23]) != 6) return false;
    size_t header = 34 + (Load8(&f.bytes[46]) >> 4) * 4u;
    size_t payload = LoadBe16(&f.bytes[16]) + 14u - header;
    if (payload == 0 || LoadBe32(&f.bytes[38]) != next) return false;
    EXPECT_TRUE(f.vnet.flags & VirtioNetHeader::kNeedsChecksum);
    if (payload > 1460) {
      EXPECT_EQ(f.vnet.gso_type & 0x7f, VirtioNetHeader::kGsoTcpV4);
    }
    largest = std::max(largest, payload);
    received.insert(received.end(), f.bytes.begin() + static_cast<long>(header),
                    f.bytes.begin() + static_cast<long>(header + payload));
    next += static_cast<uint32_t>(payload);
    // Acknowledge, or the kernel stops at its congestion window.
    TcpFields ack = tcp_;
    ack.seq += 30000;
    ack.ack = next;
    std::vector<FrameBytes> acks{BuildTcp(ack, true)};
    EXPECT_EQ(Send(acks, ack, PartialChecksum(ack)).sent, 1u);
    return received.size() == answer.size();
  }));
  EXPECT_EQ(received, answer);
  EXPECT_GT(largest, 4000u) << "the kernel cut its segments itself";
  close(accepted_);
}

// The same payload cut by FrameSegmenter, with checksums the kernel verifies: no offload asked for.
TEST_P(TapTest, SoftwareSegmentsPassTheKernelsChecks) {
  BringUp();
  Connect();
  TcpFields data = tcp_;
  data.payload_bytes = 20001;
  FrameBytes whole = BuildTcp(data, true);
  FrameSegmenter segmenter(PartialChecksum(data, 1460), whole);
  std::vector<FrameBytes> pieces;
  FrameBytes scratch(2000);
  while (size_t n = segmenter.Next(scratch))
    pieces.emplace_back(scratch.begin(), scratch.begin() + static_cast<long>(n));
  ASSERT_EQ(Send(pieces, data, VirtioNetHeader{}).sent, pieces.size());
  FrameBytes got(data.payload_bytes);
  ASSERT_EQ(recv(accepted_, got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, FrameBytes(whole.begin() + 54, whole.end()));
  if (GetParam() == EngineKind::kUring) {
    EXPECT_GE(engine_->stats().ring_frames_out, pieces.size());
  }
  close(accepted_);
}

// Hazards "the interface going down and coming back, the TAP deleted under us".
TEST_P(TapTest, InterfaceDownAndUpAgain) {
  BringUp();
  Connect();
  ASSERT_FALSE(SetLinkUp(kName, false));
  TcpFields data = tcp_;
  data.payload_bytes = 10;
  std::vector<FrameBytes> frames{BuildTcp(data, true), BuildTcp(data, true)};
  TransmitResult r = Send(frames, data, PartialChecksum(data));
  EXPECT_EQ(r.failed, 2u);
  EXPECT_EQ(r.error, EIO);
  ReceiveResult in = engine_->Receive(
      ref_, pool_, [](RxFrame&) {}, 100);
  EXPECT_EQ(in.error, 0) << "a queue of an interface that is down is still a queue";
  // No spin while it is down.
  uint64_t waits = engine_->stats().waits;
  WaitResult w = engine_->Wait({.queues = {&ref_, 1}, .deadline = MonotonicNow() + 5ms});
  EXPECT_TRUE(w.timed_out);
  EXPECT_LE(engine_->stats().waits, waits + 2);
  ASSERT_FALSE(SetLinkUp(kName, true));
  EXPECT_EQ(Send(frames, data, PartialChecksum(data)).sent, 2u);
  char got[10];
  EXPECT_EQ(recv(accepted_, got, sizeof got, MSG_WAITALL), 10);
  close(accepted_);
}

TEST_P(TapTest, DeletedDeviceIsAnErrorAndCanBeMadeAgain) {
  BringUp();
  engine_->Receive(
      ref_, pool_, [](RxFrame&) {}, 100);
  IoError gone = DeleteTap(kName);
  ASSERT_FALSE(gone) << gone.message;
  WaitResult w = engine_->Wait({.queues = {&ref_, 1}, .deadline = MonotonicNow() + 5s});
  EXPECT_TRUE(w.frames) << "the wait slept through it";
  ReceiveResult r;
  for (int i = 0; i < 3 && r.error == 0; ++i)
    r = engine_->Receive(
        ref_, pool_, [](RxFrame&) {}, 100);
  EXPECT_NE(r.error, 0);
  FrameBytes frame(60, std::byte{1});
  EXPECT_EQ(SendRaw(frame).failed, 1u);
  engine_->ReleaseQueue(ref_, pool_);
  EXPECT_EQ(pool_.bytes_taken(), 0u);
  EXPECT_EQ(OpenTapQueue({.name = kName}, &tap_).code, ENODEV);
  // Back again under the same descriptor number, as another generation.
  ASSERT_FALSE(CreateTap({.name = kName}));
  TapQueue again;
  ASSERT_FALSE(OpenTapQueue({.name = kName}, &again));
  ASSERT_EQ(dup3(again.fd, tap_.fd, O_CLOEXEC), tap_.fd);
  close(again.fd);
  ref_ = {tap_.fd, true, 1};
  ASSERT_FALSE(AddAddress(kName, kKernelAddress, 24));
  ASSERT_FALSE(SetLinkUp(kName, true));
  Connect();
  close(accepted_);
}

// Hazard "a TAP queue opened by a dying process stays busy until its io_uring is torn down".
TEST_P(TapTest, SingleQueueIsFreeSoonAfterItsHolderWasKilled) {
  ASSERT_FALSE(CreateTap({.name = kName, .multi_queue = false}));
  ASSERT_FALSE(SetLinkUp(kName, true));
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    if (OpenTapQueue({.name = kName}, &tap_)) _exit(1);
    engine_ = Engine::Create({.kind = GetParam(), .quiet = true});
    engine_->Receive(
        tap_.ref(), pool_, [](RxFrame&) {}, 10);
    (void)!write(ready[1], "r", 1);
    for (;;) pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  IoError busy = OpenTapQueue({.name = kName, .busy_retry = Duration{0}}, &tap_);
  EXPECT_EQ(busy.code, EBUSY);
  kill(child, SIGKILL);
  IoError error = OpenTapQueue({.name = kName}, &tap_);
  EXPECT_FALSE(error) << error.message;
  EXPECT_FALSE(tap_.multi_queue);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST_P(TapTest, SeveralQueuesOfOneDevice) {
  BringUp();
  TapQueue second;
  ASSERT_FALSE(OpenTapQueue({.name = kName}, &second));
  EXPECT_TRUE(second.multi_queue);
  close(second.fd);
}

TEST_P(TapTest, AdoptsAnOpenedDescriptor) {
  BringUp();
  int handed = open("/dev/net/tun", O_RDWR);
  ifreq request{};
  strncpy(request.ifr_name, kName, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
  ASSERT_EQ(ioctl(handed, TUNSETIFF, &request), 0);
  TapQueue adopted;
  IoError error = AdoptTapQueue(handed, &adopted);
  ASSERT_FALSE(error) << error.message;
  EXPECT_TRUE(adopted.vnet && adopted.multi_queue);
  EXPECT_STREQ(adopted.name, kName);
  EXPECT_EQ(fcntl(handed, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  close(handed);
}

TEST_P(TapTest, AdoptedDeviceWithoutVirtioHeader) {
  int handed = open("/dev/net/tun", O_RDWR);
  ifreq request{};
  strncpy(request.ifr_name, kName, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  ASSERT_EQ(ioctl(handed, TUNSETIFF, &request), 0);
  ASSERT_FALSE(AdoptTapQueue(handed, &tap_));
  EXPECT_FALSE(tap_.vnet || tap_.checksum_offload || tap_.tso4 || tap_.tso6 || tap_.multi_queue);
  ref_ = tap_.ref();
  engine_ = Engine::Create({.kind = GetParam(), .quiet = true});
  ASSERT_FALSE(AddAddress(kName, kKernelAddress, 24));
  ASSERT_FALSE(SetLinkUp(kName, true));
  int udp = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  std::memcpy(&to.sin_addr, kOurAddress, 4);
  ASSERT_EQ(sendto(udp, "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to), 1);
  AnswerArp();
  EXPECT_TRUE(ReceiveUntil([](RxFrame& f) { return LoadBe16(&f.bytes[12]) == 0x0800 && Load8(&f.bytes[23]) == 17; }));
  close(udp);
}

TEST_P(TapTest, RefusesWhatIsNoTap) {
  TapQueue out;
  int null = open("/dev/null", O_RDWR);
  EXPECT_EQ(AdoptTapQueue(null, &out).code, ENOTTY);
  close(null);
  EXPECT_EQ(AdoptTapQueue(null, &out).code, EBADF);
  int unattached = open("/dev/net/tun", O_RDWR);
  EXPECT_EQ(AdoptTapQueue(unattached, &out).code, EBADFD);
  ifreq request{};
  strncpy(request.ifr_name, kName, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  ASSERT_EQ(ioctl(unattached, TUNSETIFF, &request), 0);
  EXPECT_EQ(AdoptTapQueue(unattached, &out).code, EINVAL);
  EXPECT_EQ(OpenTapQueue({.name = kName}, &out).code, EINVAL) << "a TUN of that name";
  close(unattached);
  EXPECT_EQ(OpenTapQueue({.name = "lo"}, &out).code, EINVAL);
  EXPECT_EQ(OpenTapQueue({.name = "a-name-that-is-too-long"}, &out).code, EINVAL);
  EXPECT_EQ(DeleteTap("lo").code, EINVAL) << "would have deleted a device that is no TAP";
}

TEST_P(TapTest, ErrorsNameTheRemedy) {
  TapQueue out;
  EXPECT_NE(strstr(OpenTapQueue({.name = kName}, &out).message, "ustcp net up"), nullptr);
  ASSERT_FALSE(CreateTap({.name = kName}));
  EXPECT_EQ(CreateTap({.name = kName}).code, EEXIST);
}

// A device owned by a user may be opened by that user, and by no other.
TEST_P(TapTest, OwnerMayOpenOthersMayNot) {
  ASSERT_FALSE(CreateTap({.name = kName, .has_owner = true, .owner = 12345}));
  for (uid_t uid : {12345u, 12346u}) {
    pid_t child = fork();
    if (child == 0) {
      if (!TunNodeForEverybody()) _exit(102);
      if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) _exit(100);
      IoError error = OpenTapQueue({.name = kName}, &tap_);
      if (error.code == EPERM && strstr(error.message, "--owner") == nullptr) _exit(101);
      _exit(error.code);
    }
    int status;
    waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), uid == 12345 ? 0 : EPERM);
  }
}

TEST_P(TapTest, AddressesOfBothFamilies) {
  BringUp();
  constexpr uint8_t kV6[16] = {0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  ASSERT_FALSE(AddAddress(kName, kV6, 64));
  EXPECT_FALSE(AddAddress(kName, kV6, 64)) << "adding it twice is no error";
  // Usable at once: no duplicate address detection under way.
  int s = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, kV6, 16);
  EXPECT_EQ(bind(s, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(s);
  EXPECT_FALSE(RemoveAddress(kName, kV6, 64));
  EXPECT_TRUE(RemoveAddress(kName, kV6, 64));
  EXPECT_EQ(AddAddress("nosuchdevice", kV6, 64).code, ENODEV);
  EXPECT_EQ(SetLinkMtu(kName, 20).code, EINVAL);
}

}  // namespace
}  // namespace ustcp
