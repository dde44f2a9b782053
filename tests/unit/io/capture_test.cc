// Capture files, read back field by field (issue "io/": decorators; O-series tools read them with tcpdump and tshark).
#include "io/device/capture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "io/base/owned_fds.h"
#include "tests/unit/io/frame_build.h"

namespace ustcp {
namespace {

struct Record {
  uint32_t seconds, nanoseconds, kept, whole;
  FrameBytes bytes;
};

class CaptureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = memfd_create("capture", MFD_CLOEXEC);
    ASSERT_GE(file_, 0);
  }
  void TearDown() override { close(file_); }

  void Start(CaptureOptions options = {}) { ASSERT_FALSE(capture_.OpenFd(dup(file_), options)); }

  std::vector<Record> ReadBack(uint32_t* snap = nullptr) {
    std::vector<Record> records;
    std::string raw(static_cast<size_t>(lseek(file_, 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(file_, raw.data(), raw.size(), 0), static_cast<ssize_t>(raw.size()));
    auto word = [&](size_t at) {
      uint32_t v;
      std::memcpy(&v, raw.data() + at, 4);
      return v;
    };
    EXPECT_GE(raw.size(), 24u);
    EXPECT_EQ(word(0), 0xa1b23c4d) << "nanosecond pcap";
    EXPECT_EQ(word(4), 2u | 4u << 16);
    EXPECT_EQ(word(20), 1u) << "Ethernet";
    if (snap != nullptr) *snap = word(16);
    size_t at = 24;
    while (at + 16 <= raw.size()) {
      Record r{word(at), word(at + 4), word(at + 8), word(at + 12), {}};
      auto* data = reinterpret_cast<std::byte*>(raw.data()) + at + 16;
      r.bytes.assign(data, data + r.kept);
      records.push_back(r);
      at += 16 + r.kept;
    }
    EXPECT_EQ(at, raw.size()) << "the file ends within a record";
    return records;
  }

  RxFrame Received(FrameBytes& f, const VirtioNetHeader& vnet = {}) { return {vnet, f, nullptr}; }

  int file_ = -1;
  Capture capture_;
};

TEST_F(CaptureTest, WritesBothDirectionsWithCompleteChecksums) {
  Start();
  TcpFields t{.payload_bytes = 333};
  FrameBytes partial = BuildTcp(t, true), complete = BuildTcp(t, false);
  capture_.OnReceive(Received(partial, PartialChecksum(t)), Instant{1s});
  capture_.OnTransmit(AsTxFrame(partial, t, PartialChecksum(t)), Instant{1s + 2ns});
  EXPECT_EQ(partial, BuildTcp(t, true)) << "the frame itself was changed";
  capture_.Close();
  std::vector<Record> records = ReadBack();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].bytes, complete);
  EXPECT_EQ(records[1].bytes, complete);
  EXPECT_EQ(records[0].whole, complete.size());
  int64_t apart = (int64_t{records[1].seconds} - records[0].seconds) * 1'000'000'000 + records[1].nanoseconds -
                  records[0].nanoseconds;
  EXPECT_EQ(apart, 2);
  EXPECT_LT(records[0].nanoseconds, 1'000'000'000u);
  EXPECT_EQ(capture_.frames_written(), 2u);
}

// As on a device with offloads: 64 KiB in one record.
TEST_F(CaptureTest, SegmentationFramesStayWhole) {
  Start();
  TcpFields t{.payload_bytes = 65000};
  FrameBytes f = BuildTcp(t, true);
  for (int i = 0; i < 40; ++i) capture_.OnTransmit(AsTxFrame(f, t, PartialChecksum(t, 1448), 20), Instant{});
  capture_.Flush();
  std::vector<Record> records = ReadBack();
  ASSERT_EQ(records.size(), 40u);
  for (Record& r : records) EXPECT_EQ(r.bytes, BuildTcp(t, false));
}

TEST_F(CaptureTest, SnapLengthCutsTheRecordAndKeepsTheLength) {
  Start({.snap_bytes = 64});
  TcpFields t{.payload_bytes = 1000};
  FrameBytes f = BuildTcp(t, true);
  capture_.OnReceive(Received(f, PartialChecksum(t)), Instant{});
  FrameBytes tiny(20, std::byte{1});
  capture_.OnReceive(Received(tiny), Instant{});
  capture_.Close();
  uint32_t snap = 0;
  std::vector<Record> records = ReadBack(&snap);
  EXPECT_EQ(snap, 64u);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].kept, 64u);
  EXPECT_EQ(records[0].whole, f.size());
  FrameBytes complete = BuildTcp(t, false);
  EXPECT_EQ(records[0].bytes, FrameBytes(complete.begin(), complete.begin() + 64)) << "the checksum is that of it all";
  EXPECT_EQ(records[1].bytes, tiny);
}

TEST_F(CaptureTest, BoundedFileEndsAtAWholeRecord) {
  Start({.max_bytes = 3000});
  FrameBytes f(1000, std::byte{3});
  for (int i = 0; i < 5; ++i) capture_.OnReceive(Received(f), Instant{});
  capture_.Close();
  EXPECT_EQ(ReadBack().size(), 2u);
  EXPECT_EQ(capture_.frames_left_out(), 3u);
}

TEST_F(CaptureTest, DescriptorIsOwnedWhileOpen) {
  Start();
  int owned = 0;
  OwnedFds::ForEach([&](int, OwnedFdKind) { ++owned; });
  EXPECT_EQ(owned, 1);
  capture_.Close();
  capture_.Close();
  owned = 0;
  OwnedFds::ForEach([&](int, OwnedFdKind) { ++owned; });
  EXPECT_EQ(owned, 0);
}

TEST_F(CaptureTest, FailedWriteEndsTheCaptureAndIsReported) {
  int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  ASSERT_FALSE(capture_.OpenFd(full, {}));
  FrameBytes f(1000, std::byte{3});
  capture_.OnReceive(Received(f), Instant{});
  capture_.Flush();
  EXPECT_EQ(capture_.error(), ENOSPC);
  capture_.OnReceive(Received(f), Instant{});
  EXPECT_EQ(capture_.frames_left_out(), 1u);
}

TEST_F(CaptureTest, UnwritablePathNamesIt) {
  IoError error = capture_.Open("/nonexistent/dir/file.pcap", {});
  EXPECT_EQ(error.code, ENOENT);
  EXPECT_NE(std::string(error.message).find("/nonexistent/dir/file.pcap"), std::string::npos);
  EXPECT_FALSE(capture_.is_open());
}

}  // namespace
}  // namespace ustcp
