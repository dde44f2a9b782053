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

bool UserVector::TouchNext(size_t n, bool to_write) noexcept {
  size_t wanted = n < left_ ? n : left_;
  UserVector ahead = *this;
  for (size_t done = 0; done < wanted;) {
    if (ahead.here_ == 0 && !ahead.Advance()) break;
    size_t piece = std::min(wanted - done, ahead.here_);
    if (!TouchUser(ahead.at_, piece, to_write)) break;
    ahead.at_ += piece;
    ahead.here_ -= piece;
    done += piece;
  }
  window_left_ = wanted;
  return wanted < left_;
}

}  // namespace ustcp
