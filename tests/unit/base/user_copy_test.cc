#include "stack/base/user_copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "stack/base/user_vector.h"

namespace ustcp {
namespace {

constexpr size_t kPage = 4096;

void OnFault(int, siginfo_t*, void* context) {
  greg_t& pc = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  uintptr_t next = UserCopyFixup(static_cast<uintptr_t>(pc));
  if (next == 0) std::abort();
  pc = static_cast<greg_t>(next);
}

class UserCopy : public testing::Test {
 protected:
  UserCopy() {
    struct sigaction action = {};
    action.sa_sigaction = OnFault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
    void* p = mmap(nullptr, kBytes + 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_ = static_cast<std::byte*>(p) + kPage;
    end_ = begin_ + kBytes;
    mprotect(p, kPage, PROT_NONE);
    mprotect(end_, kPage, PROT_NONE);
    for (size_t i = 0; i < kBytes; ++i) own_.push_back(static_cast<std::byte>(i * 7 + 3));
  }
  ~UserCopy() override {
    munmap(begin_ - kPage, kBytes + 2 * kPage);
    sigaction(SIGSEGV, &before_, nullptr);
  }
  void Fill() { std::copy(own_.begin(), own_.end(), begin_); }

  static constexpr size_t kBytes = 4 * kPage;
  struct sigaction before_;
  std::byte* begin_;
  std::byte* end_;
  std::vector<std::byte> own_;
};

std::vector<size_t> Sizes() {
  std::vector<size_t> sizes;
  for (size_t n = 0; n <= 600; ++n) sizes.push_back(n);
  for (size_t n : {1448u, 2047u, 2048u, 4000u, 4095u, 4096u, 4097u, 5000u, 8191u, 9000u}) sizes.push_back(n);
  return sizes;
}

TEST_F(UserCopy, CopiesEverySize) {
  for (size_t n : Sizes())
    for (size_t shift : {0u, 1u, 31u}) {
      std::vector<std::byte> to(n + shift + 2, std::byte{0xee});
      ASSERT_EQ(ustcp_user_copy(to.data() + shift + 1, own_.data() + shift, n), 0u);
      ASSERT_TRUE(std::equal(own_.begin() + static_cast<long>(shift), own_.begin() + static_cast<long>(shift + n),
                             to.begin() + static_cast<long>(shift) + 1))
          << n;
      ASSERT_EQ(to[shift], std::byte{0xee});
      ASSERT_EQ(to[shift + n + 1], std::byte{0xee});
    }
}

TEST_F(UserCopy, TellsWhatIsMissingOfASource) {
  Fill();
  for (size_t n : Sizes())
    for (size_t there : {size_t{0}, size_t{1}, n / 3, n / 2, n - 1}) {
      if (there >= n || n > kBytes) continue;
      std::vector<std::byte> to(n + 1, std::byte{0xee});
      ASSERT_EQ(ustcp_user_copy(to.data(), end_ - there, n), n - there) << n;
      ASSERT_TRUE(std::equal(to.begin(), to.begin() + static_cast<long>(there), end_ - there)) << n;
      ASSERT_EQ(to[n], std::byte{0xee});
    }
}

TEST_F(UserCopy, TellsWhatIsMissingOfATarget) {
  for (size_t n : Sizes())
    for (size_t there : {size_t{0}, size_t{1}, n / 3, n / 2, n - 1}) {
      if (there >= n) continue;
      ASSERT_EQ(ustcp_user_copy(end_ - there, own_.data(), n), n - there) << n;
      ASSERT_TRUE(std::equal(own_.begin(), own_.begin() + static_cast<long>(there), end_ - there)) << n;
    }
  // From a place before the first page nothing can be had.
  for (size_t n : {8u, 100u, 1000u, 5000u}) EXPECT_EQ(ustcp_user_copy(begin_ - 4, own_.data(), n), n);
}

TEST_F(UserCopy, SingleValues) {
  auto* p = reinterpret_cast<uint32_t*>(begin_);
  EXPECT_TRUE(PutUser(p, 17u));
  uint32_t value = 0;
  EXPECT_TRUE(GetUser(value, p));
  EXPECT_EQ(value, 17u);
  auto* bad = reinterpret_cast<uint32_t*>(end_ - 2);
  EXPECT_FALSE(PutUser(bad, 17u));
  EXPECT_FALSE(GetUser(value, bad));
  EXPECT_FALSE(PutUser(reinterpret_cast<uint16_t*>(end_), uint16_t{1}));
  EXPECT_FALSE(PutUser(reinterpret_cast<uint64_t*>(uintptr_t{0x8000'0000'0000'0000}), uint64_t{1}));
  EXPECT_FALSE(ustcp_user_touch_write(begin_));
  EXPECT_TRUE(ustcp_user_touch_write(end_));
  EXPECT_FALSE(ustcp_user_touch_read(begin_));
  EXPECT_TRUE(ustcp_user_touch_read(end_));
}

TEST_F(UserCopy, OtherCodeIsNone) {
  EXPECT_EQ(UserCopyFixup(0), 0u);
  EXPECT_EQ(UserCopyFixup(reinterpret_cast<uintptr_t>(&OnFault)), 0u);
  EXPECT_NE(UserCopyFixup(reinterpret_cast<uintptr_t>(&ustcp_user_copy)), 0u);
}

TEST_F(UserCopy, AVectorIsReadAsItIsUsed) {
  std::vector<iovec> pieces(40);
  for (size_t i = 0; i < pieces.size(); ++i) pieces[i] = {own_.data() + 10 * i, i % 3 == 0 ? 0 : size_t{10}};
  size_t total = 26 * 10;
  UserVector from(pieces.data(), 40, total);
  std::vector<std::byte> to(total);
  ASSERT_TRUE(from.CopyIn(to.data(), 13));
  ASSERT_TRUE(from.CopyIn(to.data() + 13, total - 13));
  EXPECT_EQ(from.left(), 0u);
  EXPECT_EQ(to[0], own_[10]);
  EXPECT_EQ(to[total - 1], own_[389]);
  // Fewer bytes than were said, since somebody changed the vector.
  UserVector shorter(pieces.data(), 40, total + 1);
  std::vector<std::byte> more(total + 1);
  EXPECT_FALSE(shorter.CopyIn(more.data(), total + 1));
  EXPECT_TRUE(shorter.faulted());
}

TEST_F(UserCopy, PagesThatWereAskedForAreAllThatIsLeft) {
  iovec pieces[2] = {{begin_, 100}, {begin_ + kPage, 3 * kPage}};
  UserVector from(pieces, 2, 100 + 3 * kPage);
  std::vector<std::byte> to(kBytes);
  EXPECT_TRUE(from.TouchNext(kPage, true));
  EXPECT_EQ(from.left(), kPage);
  ASSERT_TRUE(from.CopyIn(to.data(), 50));
  EXPECT_EQ(from.left(), kPage - 50);
  EXPECT_TRUE(from.TouchNext(kPage, false));
  EXPECT_EQ(from.left(), kPage);
  EXPECT_FALSE(from.TouchNext(kBytes, false));
  EXPECT_EQ(from.left(), 50 + 3 * kPage);
  ASSERT_TRUE(from.CopyIn(to.data(), from.left()));
  EXPECT_EQ(from.left(), 0u);
  // What is not there is for the copy to tell.
  UserVector beyond(end_ - 10, 20);
  EXPECT_FALSE(beyond.TouchNext(100, false));
  EXPECT_EQ(beyond.left(), 20u);
  EXPECT_FALSE(beyond.CopyIn(to.data(), 20));
}

TEST_F(UserCopy, AVectorThatIsNotThere) {
  auto* vector = reinterpret_cast<iovec*>(end_) - 9;
  for (int i = 0; i < 9; ++i) vector[i] = {own_.data(), 1};
  UserVector to(vector, 12, 12);
  std::byte byte[12] = {};
  EXPECT_TRUE(to.CopyOut(byte, 8));
  EXPECT_FALSE(to.CopyOut(byte, 1));
  EXPECT_TRUE(to.faulted());
}

}  // namespace
}  // namespace ustcp
