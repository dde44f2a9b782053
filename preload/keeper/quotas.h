// How many connections each user may have with the broker, so that no user takes all there are. Room is kept for root and
// the host's owner, who are trusted here, and none of them counts against another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "stack/time/time.h"

namespace ustcp::keeper {

inline constexpr auto kIntroductionTime = 3s;  // between connecting and saying what for

class Quotas {
 public:
  // As many connections as `descriptors` allow, each of which may need three: its own, its process's, a queue's.
  explicit Quotas(size_t descriptors);

  // Null: it may, and is counted from now on. Otherwise what there is too much of.
  const char* Connect(uint32_t uid, bool trusted);
  // It was let in.
  void Introduced(uint32_t uid);
  void Disconnect(uint32_t uid, bool introduced);

 private:
  struct Use {
    size_t waiting = 0;
    size_t introduced = 0;
  };

  size_t room_;
  size_t all_ = 0;
  std::map<uint32_t, Use> users_;
};

}  // namespace ustcp::keeper
