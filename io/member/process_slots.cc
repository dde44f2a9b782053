// Slots of the host's process table, from the member's side.
#include <cerrno>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"
#include "io/member/member.h"
#include "stack/host/waiter.h"
#include "stack/sync/futex.h"

namespace ustcp {

uint64_t ProcessStartTime(int32_t pid) noexcept {
  char path[48];
  TextBuilder(path) << "/proc/" << pid << "/stat";
  int fd = sys::Open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[1024];
  ssize_t n = sys::Read(fd, text, sizeof(text));
  sys::Close(fd);
  if (n <= 0) return 0;
  // The second field is the program's name in brackets and may hold anything; the start time is the 20th after it.
  std::string_view rest(text, static_cast<size_t>(n));
  size_t bracket = rest.rfind(')');
  if (bracket == std::string_view::npos || bracket + 2 > rest.size()) return 0;
  rest.remove_prefix(bracket + 2);
  std::string_view field;
  for (int i = 0; i < 20; ++i)
    if (!NextPiece(&rest, ' ', &field)) return 0;
  int64_t ticks = 0;
  return ParseNumber(field, &ticks) ? static_cast<uint64_t>(ticks) : 0;
}

uint16_t TakeProcessSlot(Host& host, int32_t pid, uint64_t start_time, uint32_t uid, bool* found) noexcept {
  SimpleLock guard(host.host_lock);
  *found = false;
  uint16_t free_slot = kNoProcess;
  for (uint16_t i = 0; i < kMaxProcesses; ++i) {
    ProcessSlot& slot = host.processes[i];
    uint32_t state = slot.state.load();
    if (state == ProcessSlot::kLive && slot.pid == pid && slot.start_time == start_time) {
      *found = true;
      return i;
    }
    if (state == ProcessSlot::kFree && free_slot == kNoProcess) free_slot = i;
    if (NeverUsed(slot)) break;
  }
  if (free_slot == kNoProcess) return kNoProcess;
  ProcessSlot& slot = host.processes[free_slot];
  slot.pid = pid;
  slot.creator_pid = 0;
  slot.uid = uid;
  slot.start_time = start_time;
  slot.shard = kNoShard;
  slot.intent.store(0);
  slot.waking.store(0);
  // Last: the keeper looks at live slots without the lock.
  slot.state.store(ProcessSlot::kLive);
  return free_slot;
}

void NudgeKeeper(Host& host) noexcept {
  // The keeper says that it sleeps before it looks at the word once more: one of the two sees the other.
  host.keeper_word.fetch_add(1);
  if (host.keeper_asleep.load() != 0) FutexWake(host.keeper_word);
}

}  // namespace ustcp
