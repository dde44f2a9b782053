// A reference to a callable that takes received frames: two words, no allocation. It must outlive the call it is given
// to.
#pragma once

#include <concepts>
#include <type_traits>

#include "stack/base/frame.h"

namespace ustcp {

class FrameSink {
 public:
  template <typename F>
  requires(!std::same_as<std::remove_cvref_t<F>, FrameSink> && std::invocable<F&, RxFrame&>) FrameSink(F&& f)
  noexcept  // NOLINT: implicit by design
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, RxFrame& frame) { (*static_cast<std::remove_reference_t<F>*>(object))(frame); }) {}

  void operator()(RxFrame& frame) const { call_(object_, frame); }

 private:
  void* object_;
  void (*call_)(void*, RxFrame&);
};

}  // namespace ustcp
