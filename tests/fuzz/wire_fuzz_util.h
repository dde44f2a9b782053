// What the fuzz targets of wire formats share.
#pragma once

#include "stack/base/bytes.h"

namespace ustcp {

inline bool IsWithin(ConstBytes inner, ConstBytes outer) {
  return inner.empty() || (inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size());
}

// Reads every byte, so that a view beyond its input is found by AddressSanitizer.
inline void Touch(ConstBytes bytes) {
  std::byte all{};
  for (const std::byte b : bytes) all ^= b;
  volatile std::byte sink = all;
  (void)sink;
}

}  // namespace ustcp
