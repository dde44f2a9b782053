#include "stack/base/user_vector.h"

#include <algorithm>

#include "stack/base/user_copy.h"

namespace ustcp {

bool UserVector::In(std::byte* to, const std::byte* user, size_t n) noexcept { return CopyFromUser(to, user, n) == 0; }

bool UserVector::Out(std::byte* user, const std::byte* from, size_t n) noexcept {
  return CopyToUser(user, from, n) == 0;
}

bool UserVector::Advance() noexcept {
  while (here_ == 0) {
    if (window_next_ == window_end_) {
      if (entries_ <= 0) return false;
      window_next_ = 0;
      window_end_ = std::min(entries_, kWindow);
      if (CopyFromUser(window_, vector_, static_cast<size_t>(window_end_) * sizeof *window_) != 0) return false;
      vector_ += window_end_;
      entries_ -= window_end_;
    }
    at_ = static_cast<std::byte*>(window_[window_next_].iov_base);
    here_ = window_[window_next_].iov_len;
    ++window_next_;
  }
  return true;
}

}  // namespace ustcp
