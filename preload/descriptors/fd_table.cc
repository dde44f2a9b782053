#include "preload/descriptors/fd_table.h"

#include <sys/stat.h>

#include "io/member/member.h"
#include "preload/descriptors/private_lock.h"
#include "preload/descriptors/stale.h"
#include "preload/runtime/runtime.h"
#include "stack/socket/socket_ops.h"

namespace ustcp {

std::atomic<ProcessSlot*> g_own_process{nullptr};

namespace {

PrivateLock g_lock;

// One past the highest page that was ever used.
std::atomic<int> g_page_end{0};

Host& OwnHost() { return *runtime::AttachedHost(); }
ProcessSlot& Own() { return *g_own_process.load(std::memory_order_relaxed); }

// Says which object's count and entries may disagree while it exists.
class Intent {
 public:
  explicit Intent(uint64_t bits) { Own().intent.store(bits); }
  ~Intent() { Own().intent.store(0); }
};

// The page of an index, made when missing. Null when there is no memory.
FdPage* PageFor(ProcessSlot& process, int index) {
  if (index < kFdPages && index >= g_page_end.load(std::memory_order_relaxed)) g_page_end.store(index + 1);
  FdPage* page = process.pages[index].load(std::memory_order_acquire);
  if (page != nullptr) return page;
  SimpleLock guard(OwnHost().host_lock);
  page = OwnHost().fd_pages.Take();
  process.pages[index].store(page, std::memory_order_release);
  return page;
}

std::atomic<uint64_t>* EntryFor(int fd) {
  auto n = static_cast<unsigned>(fd);
  if (n >= kMaxFds) return nullptr;
  FdPage* page = PageFor(Own(), static_cast<int>(n / kFdsPerPage));
  return page != nullptr ? &page->entries[n % kFdsPerPage] : nullptr;
}

void RetainBits(uint64_t bits) {
  if (bits == 0) return;
  void* object = FdEntry::ObjectOf(bits);
  if (FdEntry::KindOf(bits) == FdEntry::kSocket) RetainSocket(*static_cast<Socket*>(object));
  if (FdEntry::KindOf(bits) == FdEntry::kEpoll) static_cast<EpollSet*>(object)->refs.fetch_add(1);
}

// Called without a lock of the arena.
void DropBits(uint64_t bits) {
  void* object = FdEntry::ObjectOf(bits);
  if (FdEntry::KindOf(bits) == FdEntry::kSocket) {
    auto& socket = *static_cast<Socket*>(object);
    if (!DropReference(socket)) return;
    runtime::Locked lock(socket);
    FinishClose(lock.ctx(), socket);
  } else if (FdEntry::KindOf(bits) == FdEntry::kEpoll) {
    ReleaseEpollSet(OwnHost(), *static_cast<EpollSet*>(object), runtime::Now());
  }
}

// Empties an entry. g_lock is held.
void Clear(std::atomic<uint64_t>& entry) {
  uint64_t bits = entry.load(std::memory_order_relaxed);
  if (bits == 0) return;
  Intent intent(bits);
  entry.store(0, std::memory_order_release);
  DropBits(bits);
}

// Calls visit(fd, entry) for the entries of `process` in [first, last] that hold something.
template <typename Visit>
void ForEachEntry(ProcessSlot& process, unsigned first, unsigned last, Visit&& visit) {
  if (last >= kMaxFds) last = kMaxFds - 1;
  for (unsigned p = first / kFdsPerPage; p <= last / kFdsPerPage; ++p) {
    FdPage* page = process.pages[p].load(std::memory_order_acquire);
    if (page == nullptr) continue;
    for (unsigned i = 0; i < static_cast<unsigned>(kFdsPerPage); ++i) {
      unsigned fd = p * kFdsPerPage + i;
      if (fd < first || fd > last) continue;
      if (page->entries[i].load(std::memory_order_relaxed) != 0) visit(static_cast<int>(fd), page->entries[i]);
    }
  }
}

}  // namespace

namespace fd_table {

void Use(ProcessSlot* process) noexcept {
  PrivateGuard guard(g_lock);
  if (g_own_process.load() == process) return;
  for (int i = kFdPages; i < kFdPagesPerProcess; ++i) PageFor(*process, i);
  for (int i = g_page_end.load(); i < kFdPages; ++i)
    if (process->pages[i].load(std::memory_order_relaxed) != nullptr) g_page_end.store(i + 1);
  g_own_process.store(process, std::memory_order_release);
}

bool Install(int fd, FdEntry::Kind kind, void* object) noexcept {
  PrivateGuard guard(g_lock);
  std::atomic<uint64_t>* entry = EntryFor(fd);
  if (entry == nullptr) return false;
  Clear(*entry);
  entry->store(FdEntry::Pack(kind, object), std::memory_order_release);
  if (kind == FdEntry::kSocket) static_cast<Socket*>(object)->taker.store(0, std::memory_order_release);
  return true;
}

bool Duplicate(int from, int to) noexcept {
  if (Load(from) == 0 && Load(to) == 0) return true;
  PrivateGuard guard(g_lock);
  uint64_t bits = Load(from);
  if (Load(to) != 0) Clear(*EntryFor(to));
  if (bits == 0) return true;
  std::atomic<uint64_t>* entry = EntryFor(to);
  if (entry == nullptr) return false;
  Intent intent(bits);
  RetainBits(bits);
  entry->store(bits, std::memory_order_release);
  return true;
}

void Remove(int fd) noexcept {
  if (Load(fd) == 0) return;
  PrivateGuard guard(g_lock);
  if (Load(fd) != 0) Clear(*EntryFor(fd));
}

void RemoveRange(unsigned first, unsigned last) noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return;
  PrivateGuard guard(g_lock);
  ForEachEntry(Own(), first, last, [](int, std::atomic<uint64_t>& entry) { Clear(entry); });
}

void RemoveAllOf(Socket& socket) noexcept {
  PrivateGuard guard(g_lock);
  uint64_t bits = FdEntry::Pack(FdEntry::kSocket, &socket);
  ForEachEntry(Own(), 0, kMaxFds - 1, [bits](int, std::atomic<uint64_t>& entry) {
    if (entry.load() == bits) Clear(entry);
  });
}

int FindEpoll(const EpollSet* set) noexcept {
  PrivateGuard guard(g_lock);
  uint64_t bits = FdEntry::Pack(FdEntry::kEpoll, set);
  int found = -1;
  ForEachEntry(Own(), 0, kMaxFds - 1, [&](int fd, std::atomic<uint64_t>& entry) {
    if (found < 0 && entry.load() == bits) found = fd;
  });
  return found;
}

int NextEntry(int from) noexcept {
  ProcessSlot* process = g_own_process.load(std::memory_order_relaxed);
  if (process == nullptr || from < 0) return -1;
  int end = g_page_end.load(std::memory_order_relaxed);
  for (int p = from / kFdsPerPage, i = from % kFdsPerPage; p < end; ++p, i = 0) {
    FdPage* page = process->pages[p].load(std::memory_order_acquire);
    if (page == nullptr) continue;
    for (; i < kFdsPerPage; ++i)
      if (page->entries[i].load(std::memory_order_relaxed) != 0) return p * kFdsPerPage + i;
  }
  return -1;
}

unsigned Extent() noexcept { return static_cast<unsigned>(g_page_end.load(std::memory_order_relaxed) * kFdsPerPage); }

bool RemoveIf(int fd, bool (*gone)(int fd, FdEntry::Kind kind)) noexcept {
  PrivateGuard guard(g_lock);
  uint64_t bits = Load(fd);
  if (bits == 0 || !gone(fd, FdEntry::KindOf(bits))) return false;
  Clear(*EntryFor(fd));
  return true;
}

void DropLostHolds() noexcept {
  PrivateGuard guard(g_lock);
  for (int i = kFdPages; i < kFdPagesPerProcess; ++i)
    if (FdPage* page = Own().pages[i].load())
      for (auto& entry : page->entries) Clear(entry);
}

ino_t InodeUnder(int fd) noexcept {
  struct stat s;
  return sys::Call(SYS_fstat, fd, sys::Arg(&s)) == 0 ? s.st_ino : 0;
}

Frozen::Frozen() noexcept {
  signals::Enter();
  g_lock.Lock();
}

Frozen::~Frozen() {
  g_lock.Unlock();
  signals::Leave();
}

void Frozen::ForEachSocket(void (*visit)(Frozen&, int, Socket&, void*), void* argument) noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return;
  ForEachEntry(Own(), 0, kMaxFds - 1, [&](int fd, std::atomic<uint64_t>& entry) {
    uint64_t bits = entry.load(std::memory_order_relaxed);
    if (FdEntry::KindOf(bits) == FdEntry::kSocket)
      visit(*this, fd, *static_cast<Socket*>(FdEntry::ObjectOf(bits)), argument);
  });
}

void Frozen::PutUnder(int placed, const Socket& socket, int file) noexcept {
  uint64_t bits = FdEntry::Pack(FdEntry::kSocket, &socket);
  const ino_t old = InodeUnder(placed);
  if (old == 0 || g_own_process.load(std::memory_order_relaxed) == nullptr) return;
  ForEachEntry(Own(), 0, kMaxFds - 1, [&](int fd, std::atomic<uint64_t>& entry) {
    if (entry.load(std::memory_order_relaxed) != bits || InodeUnder(fd) != old) return;
    int flags = sys::Fcntl(fd, F_GETFD);
    if (flags >= 0) sys::Call(SYS_dup3, file, fd, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
  });
}

bool AnyOutlivesExec() noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return false;
  PrivateGuard guard(g_lock);
  bool any = false;
  ForEachEntry(Own(), 0, kMaxFds - 1, [&any](int fd, std::atomic<uint64_t>&) {
    if (any) return;
    int flags = sys::Fcntl(fd, F_GETFD);
    any = flags >= 0 && (flags & FD_CLOEXEC) == 0;
  });
  return any;
}

int PrepareFork(int* error) noexcept {
  *error = 0;
  ProcessSlot* parent = g_own_process.load();
  if (parent == nullptr) return -1;
  // Until one of the Finish functions: the table must not change while the child is made.
  signals::Enter();
  g_lock.Lock();
  Host& host = OwnHost();
  SimpleLock guard(host.host_lock);
  int slot = -1;
  for (int i = 0; i < kMaxProcesses && slot < 0; ++i)
    if (host.processes[i].state.load() == ProcessSlot::kFree) slot = i;
  if (slot < 0) {
    *error = EAGAIN;
    return -1;
  }
  ProcessSlot& child = host.processes[slot];
  child.pid = 0;
  child.creator_pid = parent->pid;
  child.uid = parent->uid;
  child.start_time = 0;
  child.shard = kNoShard;
  child.intent.store(0);
  child.waking.store(0);
  // From here on the references below are found by whoever cleans up after this process.
  child.state.store(ProcessSlot::kForking);
  for (int p = 0; p < kFdPages; ++p) {
    FdPage* from = parent->pages[p].load();
    if (from == nullptr) continue;
    FdPage* to = child.pages[p].load();
    if (to == nullptr) {
      to = host.fd_pages.Take();
      if (to == nullptr) {
        *error = ENOMEM;
        return slot;
      }
      child.pages[p].store(to);
    }
    for (int i = 0; i < kFdsPerPage; ++i) {
      uint64_t bits = from->entries[i].load();
      child.intent.store(bits);
      RetainBits(bits);
      to->entries[i].store(bits);
    }
    child.intent.store(0);
  }
  return slot;
}

void FinishForkParent() noexcept {
  if (g_own_process.load() == nullptr) return;
  g_lock.Unlock();
  signals::Leave();
}

void FinishForkFailed(int slot) noexcept {
  if (g_own_process.load() == nullptr) return;
  if (slot >= 0) {
    ProcessSlot& child = OwnHost().processes[slot];
    ForEachEntry(child, 0, kMaxFds - 1, [&child](int, std::atomic<uint64_t>& entry) {
      uint64_t bits = entry.load();
      child.intent.store(bits);
      entry.store(0);
      DropBits(bits);
      child.intent.store(0);
    });
    child.state.store(ProcessSlot::kFree);
  }
  FinishForkParent();
}

void FinishForkChild(int slot) noexcept {
  if (g_own_process.load() == nullptr) return;
  g_lock.Reset();
  signals::Leave();
  if (slot >= 0) {
    Use(&OwnHost().processes[slot]);
  } else {
    g_own_process.store(nullptr);
  }
}

}  // namespace fd_table

SocketRef FindSocketSlow(int fd, uint64_t bits) noexcept {
  if (__builtin_expect(stale::Due(), 0)) {
    stale::LookAtSome();
    bits = fd_table::Load(fd);
  }
  for (;;) {
    if (FdEntry::KindOf(bits) != FdEntry::kSocket) return {};
    auto* socket = static_cast<Socket*>(FdEntry::ObjectOf(bits));
    uint32_t generation = __atomic_load_n(&socket->generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect((socket->status_flags.load(std::memory_order_relaxed) & kGivenToKernel) != 0, 0)) {
      fd_table::Remove(fd);
      return {};
    }
    // The entry was there after the generation was read: the slot had not been given to another socket by then.
    uint64_t again = fd_table::Load(fd);
    if (again == bits) return {socket, generation};
    bits = again;
  }
}

void Hold::Place(FdEntry::Kind kind, void* object) noexcept {
  if (entry_ != nullptr) return;
  uint64_t bits = FdEntry::Pack(kind, object);
  static thread_local uint32_t start = 0;
  if (start == 0) start = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&start) >> 6) | 1;
  for (uint32_t i = 0; i < kHoldPages * kFdsPerPage; ++i) {
    uint32_t n = (start + i) % (kHoldPages * kFdsPerPage);
    FdPage* page = Own().pages[kFdPages + static_cast<int>(n / kFdsPerPage)].load(std::memory_order_relaxed);
    if (page == nullptr) return;
    std::atomic<uint64_t>& entry = page->entries[n % kFdsPerPage];
    uint64_t empty = 0;
    if (entry.load(std::memory_order_relaxed) != 0 || !entry.compare_exchange_strong(empty, bits)) continue;
    RetainBits(bits);
    entry_ = &entry;
    start = n;
    return;
  }
}

void Hold::Take(Socket& socket) noexcept { Place(FdEntry::kSocket, &socket); }

void Hold::Take(EpollSet& set) noexcept { Place(FdEntry::kEpoll, &set); }

void Hold::Release() noexcept {
  if (entry_ == nullptr) return;
  uint64_t bits = entry_->exchange(0);
  entry_ = nullptr;
  DropBits(bits);
}

}  // namespace ustcp
