#include "stack/sync/robust_mutex.h"

#include <cerrno>

#include "stack/base/check.h"

namespace ustcp {

void RobustMutex::Init() noexcept {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex_, &attr);
  pthread_mutexattr_destroy(&attr);
}

LockResult RobustMutex::Lock() noexcept {
  switch (pthread_mutex_lock(&mutex_)) {
    case 0: return LockResult::kClean;
    case EOWNERDEAD: return LockResult::kOwnerDied;
    default: USTCP_CHECK(!"arena lock unusable"); return LockResult::kClean;
  }
}

LockResult RobustMutex::TryLock() noexcept {
  switch (pthread_mutex_trylock(&mutex_)) {
    case 0: return LockResult::kClean;
    case EOWNERDEAD: return LockResult::kOwnerDied;
    case EBUSY: return LockResult::kBusy;
    default: USTCP_CHECK(!"arena lock unusable"); return LockResult::kBusy;
  }
}

}  // namespace ustcp
