#include "preload/keeper/quotas.h"

#include <algorithm>

namespace ustcp::keeper {

namespace {

constexpr size_t kMostConnections = 4096;
constexpr size_t kLeastConnections = 4;
constexpr size_t kOtherDescriptors = 24;  // sockets, the arena, the log, names
constexpr size_t kWaitingOfUser = 32;
constexpr size_t kIntroducedOfUser = 512;  // half of the processes that a host has

}  // namespace

Quotas::Quotas(size_t descriptors)
    : room_(std::clamp((descriptors - std::min(descriptors, kOtherDescriptors)) / 3, kLeastConnections,
                       kMostConnections)) {}

const char* Quotas::Connect(uint32_t uid, bool trusted) {
  // A quarter of the room is for those who are trusted.
  if (all_ >= (trusted ? room_ : room_ - room_ / 4)) return "the keeper has all the connections it can";
  auto at = users_.find(uid);
  if (!trusted && at != users_.end()) {
    if (at->second.waiting >= kWaitingOfUser) return "too many of the user's connections say nothing";
    if (at->second.waiting + at->second.introduced >= std::min(kIntroducedOfUser, room_ / 2))
      return "too many programs of the user's";
  }
  ++users_[uid].waiting;
  ++all_;
  return nullptr;
}

void Quotas::Introduced(uint32_t uid) {
  Use& use = users_[uid];
  --use.waiting;
  ++use.introduced;
}

void Quotas::Disconnect(uint32_t uid, bool introduced) {
  auto at = users_.find(uid);
  if (at == users_.end()) return;
  --(introduced ? at->second.introduced : at->second.waiting);
  --all_;
  if (at->second.introduced == 0 && at->second.waiting == 0) users_.erase(at);
}

}  // namespace ustcp::keeper
