#include "preload/keeper/wakes.h"

#include <unistd.h>

#include "stack/sync/futex.h"

namespace ustcp::keeper {

namespace {
constexpr size_t kMostDescriptors = 8192;  // of all processes
}

Wakes::~Wakes() {
  for (auto& [key, fd] : descriptors_) close(fd);
}

void Wakes::Add(uint16_t process, int32_t number, int fd) {
  if (descriptors_.size() >= kMostDescriptors && !descriptors_.contains({process, number})) {
    close(fd);
    return;
  }
  auto [at, added] = descriptors_.try_emplace({process, number}, fd);
  if (added) return;
  close(at->second);
  at->second = fd;
}

void Wakes::Forget(uint16_t process) {
  for (auto at = descriptors_.begin(); at != descriptors_.end();) {
    if (at->first.first != process) {
      ++at;
      continue;
    }
    close(at->second);
    at = descriptors_.erase(at);
  }
  for (auto at = words_.begin(); at != words_.end();) at = at->first->process == process ? words_.erase(at) : ++at;
}

void Wakes::Wake(Waiter& waiter) {
  FutexWake(waiter.word);
  if (waiter.mode != Waiter::kDescriptor) return;
  auto at = descriptors_.find({waiter.process, waiter.wake_descriptor});
  if (at == descriptors_.end()) return;
  uint64_t one = 1;
  // Full means that it is readable already.
  [[maybe_unused]] ssize_t n = write(at->second, &one, sizeof(one));
}

void Wakes::WakeSignalled(Host& host) {
  if (descriptors_.empty()) return;
  for (Shard& shard : host.shards) {
    if (shard.random_state == 0) break;
    shard.waiters.ForEachLive([this](Waiter& waiter) {
      if (waiter.mode != Waiter::kDescriptor || waiter.state.load() != Waiter::kAsleep) return;
      uint32_t word = waiter.word.load();
      auto [at, added] = words_.try_emplace(&waiter, word);
      if (!added && at->second == word) return;
      at->second = word;
      Wake(waiter);
    });
  }
}

}  // namespace ustcp::keeper
