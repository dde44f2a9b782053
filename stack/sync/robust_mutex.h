// A process-shared lock in the arena that survives the death of its holder. Lock() tells whether the previous holder
// died: the caller then repairs what the lock guards before it goes on (docs/architecture.md, "kill -9").
//
// Lock order (a thread may take locks only downwards): shard > listener > port table > tuple stripe > neighbour table >
// epoll set > span allocator. A thread holds at most one shard lock, except that a second one may be taken by TryLock.
#pragma once

#include <pthread.h>

namespace ustcp {

enum class LockResult { kClean, kOwnerDied, kBusy };

class RobustMutex {
 public:
  // Must be called once, before the object is shared.
  void Init() noexcept;
  LockResult Lock() noexcept;
  // kBusy when somebody holds it.
  LockResult TryLock() noexcept;
  // After kOwnerDied and a completed repair.
  void MarkConsistent() noexcept { pthread_mutex_consistent(&mutex_); }
  void Unlock() noexcept { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

// Holds a lock whose guarded data needs no repair (each update of it is a single store, or the reader re-checks).
class SimpleLock {
 public:
  explicit SimpleLock(RobustMutex& m) noexcept : mutex_(m) {
    if (m.Lock() == LockResult::kOwnerDied) m.MarkConsistent();
  }
  ~SimpleLock() { mutex_.Unlock(); }
  SimpleLock(const SimpleLock&) = delete;
  SimpleLock& operator=(const SimpleLock&) = delete;

 private:
  RobustMutex& mutex_;
};

// The same for who must not wait: a holder may be stopped.
class TrySimpleLock {
 public:
  explicit TrySimpleLock(RobustMutex& m) noexcept : mutex_(m) {
    LockResult result = m.TryLock();
    held_ = result != LockResult::kBusy;
    if (result == LockResult::kOwnerDied) m.MarkConsistent();
  }
  ~TrySimpleLock() {
    if (held_) mutex_.Unlock();
  }
  explicit operator bool() const noexcept { return held_; }
  TrySimpleLock(const TrySimpleLock&) = delete;
  TrySimpleLock& operator=(const TrySimpleLock&) = delete;

 private:
  RobustMutex& mutex_;
  bool held_;
};

}  // namespace ustcp
