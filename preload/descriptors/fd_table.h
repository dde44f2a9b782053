// Which of this process's descriptors are ustcp's. The table lives in the arena (stack/host/process_table.h), one page of
// entries per 504 descriptors, so that fork can copy it, exec can find it again, and the keeper can drop the references of
// a process that died. A descriptor without an entry belongs to the kernel.
//
// Looking up takes two loads and no lock. Changes are made under a private lock of the process, with the object named in
// ProcessSlot::intent while its count and the entry may disagree: whoever cleans up after a process that died with an
// intent counts the references of that object anew, over all tables.
//
// Lifetime: a lookup counts nothing. A slot keeps its type for ever and counts its uses (generation), so a call takes the
// socket's shard lock and asks Current() before it touches the socket: a close() in another thread shows there. A call
// that is going to sleep takes a Hold: an entry in the last pages of the table, beyond all possible descriptors, so that
// its reference too is dropped when the process dies.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "stack/host/host.h"
#include "stack/host/process_table.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"

namespace ustcp {

inline constexpr int kHoldPages = 2;
inline constexpr int kFdPages = kFdPagesPerProcess - kHoldPages;
// Every descriptor a process can have with the kernel's usual fs.nr_open.
inline constexpr unsigned kMaxFds = kFdPages * kFdsPerPage;
static_assert(kMaxFds >= 1 << 20);

// Set in Socket::status_flags when routing gave the socket to the kernel: other descriptors that still stand for it
// (after a fork) are the kernel's from now on. No file status flag has this bit.
inline constexpr uint32_t kGivenToKernel = 1u << 31;

// This process's slot while it is attached.
extern std::atomic<ProcessSlot*> g_own_process;

struct SocketRef {
  Socket* socket = nullptr;
  uint32_t generation = 0;

  explicit operator bool() const { return socket != nullptr; }
  Socket* operator->() const { return socket; }
  Socket& operator*() const { return *socket; }
};

namespace fd_table {

inline uint64_t Load(int fd) noexcept {
  ProcessSlot* process = g_own_process.load(std::memory_order_relaxed);
  if (__builtin_expect(process == nullptr, 1)) return 0;
  auto n = static_cast<unsigned>(fd);
  if (n >= kMaxFds) return 0;
  FdPage* page = process->pages[n / kFdsPerPage].load(std::memory_order_acquire);
  if (page == nullptr) return 0;
  return page->entries[n % kFdsPerPage].load(std::memory_order_acquire);
}

// Attached for the first time, or again in the child of a fork.
void Use(ProcessSlot* process) noexcept;

// `fd` stands for `object` from now on; takes over one reference of the caller's. What it stood for before (a descriptor
// that was closed past us) is let go. False when there is no memory or the number is beyond the table: the caller keeps
// its reference.
bool Install(int fd, FdEntry::Kind kind, void* object) noexcept;
// After dup: `to` stands for what `from` stands for, be it nothing. False: no memory; `to` stands for nothing.
bool Duplicate(int from, int to) noexcept;
// `fd` was or is about to be closed. The last reference of an object closes it.
void Remove(int fd) noexcept;
// Removes every entry in [first, last].
void RemoveRange(unsigned first, unsigned last) noexcept;
// All descriptors of this process that stand for the socket stand for nothing any more.
void RemoveAllOf(Socket& socket) noexcept;
// The descriptor of an epoll set, -1 when it has none here.
int FindEpoll(const EpollSet* set) noexcept;
// The lowest number from `from` on that stands for something; -1 when there is none.
int NextEntry(int from) noexcept;
// No number at or above this one stands for anything.
unsigned Extent() noexcept;
// Removes the entry if `gone` says so, which is asked with the table locked.
bool RemoveIf(int fd, bool (*gone)(int fd, FdEntry::Kind kind)) noexcept;
// After exec: drops the holds of threads that are no more.
void DropLostHolds() noexcept;

// The inode of the kernel's file under a number; 0 when there is none.
ino_t InodeUnder(int fd) noexcept;

// While one exists, no entry changes and so none of the descriptors that stand for a socket is closed by another thread.
// Must be taken without a lock of the arena.
class Frozen {
 public:
  Frozen() noexcept;
  ~Frozen();
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;
  // Every descriptor of this process that stands for a socket.
  void ForEachSocket(void (*visit)(Frozen& table, int fd, Socket& socket, void* argument), void* argument) noexcept;
  // Puts an open file in the place of what lies under `fd`: there, and under every other descriptor of this process that
  // stands for the same socket. Which of them are close-on-exec stays, and so does what a dup2() that is not in the table yet
  // has just put under one of them.
  void PutUnder(int fd, const Socket& socket, int file) noexcept;
};

// Whether an exec hands a socket on.
bool AnyOutlivesExec() noexcept;

// fork. Prepare takes the table's lock and copies the table into a free process slot; its index, -1 when this process is
// not attached or all slots are taken (*error is then set). One of the Finish functions must follow.
int PrepareFork(int* error) noexcept;
void FinishForkParent() noexcept;
void FinishForkFailed(int slot) noexcept;
void FinishForkChild(int slot) noexcept;

}  // namespace fd_table

// What a descriptor stands for, if it is one of ours.
SocketRef FindSocketSlow(int fd, uint64_t bits) noexcept;
inline SocketRef FindSocket(int fd) noexcept {
  uint64_t bits = fd_table::Load(fd);
  if (__builtin_expect(FdEntry::KindOf(bits) != FdEntry::kSocket, 1)) return {};
  return FindSocketSlow(fd, bits);
}

inline EpollSet* FindEpollSet(int fd) noexcept {
  uint64_t bits = fd_table::Load(fd);
  return FdEntry::KindOf(bits) == FdEntry::kEpoll ? static_cast<EpollSet*>(FdEntry::ObjectOf(bits)) : nullptr;
}

// With the lock of the socket's shard held: is it still the socket that was looked up?
inline bool Current(const SocketRef& ref) noexcept {
  return ref->kind == SlotKind::kSocket && ref->generation == ref.generation;
}

// Keeps an object alive during a sleep. Does nothing when all holds are taken: then a close() in another thread ends the
// call early (EBADF).
class Hold {
 public:
  Hold() = default;
  ~Hold() { Release(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  // Requires: the socket is current and its shard's lock is held.
  void Take(Socket& socket) noexcept;
  // Requires: the caller's descriptor still stands for the set.
  void Take(EpollSet& set) noexcept;
  // Must be called without a lock of the arena.
  void Release() noexcept;

 private:
  void Place(FdEntry::Kind kind, void* object) noexcept;
  std::atomic<uint64_t>* entry_ = nullptr;
};

}  // namespace ustcp
