// The C library's own idea of its thread, which fork() renews and a bare clone does not: the number by which it marks the
// arena's locks, and the list that tells the kernel of those held when the thread dies.
#pragma once

#include <sys/prctl.h>

#include "io/base/sys.h"

namespace ustcp {

// Made by the parent, before.
class ThreadIdentity {
 public:
  ThreadIdentity() noexcept {
    if (sys::Call(SYS_prctl, PR_GET_TID_ADDRESS, sys::Arg(&number_)) < 0) number_ = nullptr;
    if (sys::Call(SYS_get_robust_list, 0, sys::Arg(&list_), sys::Arg(&bytes_)) < 0) list_ = nullptr;
  }
  void RenewInChild() const noexcept {
    if (number_ != nullptr) *number_ = static_cast<int>(sys::Call(SYS_gettid));
    if (list_ != nullptr) sys::Call(SYS_set_robust_list, sys::Arg(list_), sys::Arg(bytes_));
  }

 private:
  int* number_ = nullptr;
  void* list_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ustcp
