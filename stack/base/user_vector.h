// The program's buffers of one call, as one stream of bytes: a single buffer, or a vector that is read from the program's
// memory a few entries at a time, each once. After a fault it is used no more: a piece is copied whole or counts for
// nothing, as with the kernel.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace ustcp {

class UserVector {
 public:
  UserVector(const void* base, size_t bytes) noexcept
      : at_(const_cast<std::byte*>(static_cast<const std::byte*>(base))), here_(bytes), left_(bytes) {}
  // `total` bytes at most, which may be fewer than the entries add up to.
  UserVector(const iovec* vector, int count, size_t total) noexcept : left_(total), vector_(vector), entries_(count) {}

  size_t left() const noexcept { return left_ < window_left_ ? left_ : window_left_; }
  bool faulted() const noexcept { return faulted_; }

  // The next `n` bytes, at most left(). False: a fault.
  bool CopyIn(std::byte* to, size_t n) noexcept {
    return Copy(n, [&](std::byte* user, size_t piece, size_t done) { return In(to + done, user, piece); });
  }
  bool CopyOut(const std::byte* from, size_t n) noexcept {
    return Copy(n, [&](std::byte* user, size_t piece, size_t done) { return Out(user, from + done, piece); });
  }
  void Skip(size_t n) noexcept { Moved(n); }  // what nobody will ask for; the position is lost

  // Asks for the pages of the next `n` bytes, and makes them all that is left() for now: for processes in which that may
  // take another thread's work, so that nobody waits for it with a lock. True: more follows them.
  bool TouchNext(size_t n, bool to_write) noexcept;

 private:
  static constexpr int kWindow = 8;

  static bool In(std::byte* to, const std::byte* user, size_t n) noexcept;
  static bool Out(std::byte* user, const std::byte* from, size_t n) noexcept;
  bool Advance() noexcept;  // to the next entry that is not empty

  template <typename Piece>
  bool Copy(size_t n, Piece&& copy) noexcept {
    size_t done = 0;
    while (done < n) {
      if (here_ == 0 && !Advance()) return Fault();
      size_t piece = n - done < here_ ? n - done : here_;
      if (!copy(at_, piece, done)) return Fault();
      at_ += piece;
      here_ -= piece;
      done += piece;
    }
    Moved(n);
    return true;
  }
  void Moved(size_t n) noexcept {
    left_ -= n;
    window_left_ -= n;
  }
  bool Fault() noexcept {
    faulted_ = true;
    return false;
  }

  std::byte* at_ = nullptr;
  size_t here_ = 0;  // of the present entry
  size_t left_;
  size_t window_left_ = SIZE_MAX;  // far more than any call moves, but for TouchNext
  const iovec* vector_ = nullptr;  // the program's; behind the window
  int entries_ = 0;                // there
  int window_next_ = 0;
  int window_end_ = 0;
  bool faulted_ = false;
  iovec window_[kWindow];
};

}  // namespace ustcp
