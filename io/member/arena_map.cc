#include "io/member/arena_map.h"

#include <linux/memfd.h>
#include <sys/stat.h>

#include <cerrno>

#include "io/base/parse.h"
#include "io/base/sys.h"
#include "io/member/address_limit.h"
#include "stack/mem/arena.h"

namespace ustcp {

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

IoError Fail(int code, const char* what, int cause, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder text(error.message);
  text << what;
  if (cause != 0) text << " (" << ErrnoText(cause) << ", errno " << cause << ")";
  if (*remedy != '\0') text << "; " << remedy;
  return error;
}

bool LimitedTo(int resource, uint64_t wanted, uint64_t* limit_bytes) {
  rlimit limit{};
  if (sys::Call(SYS_prlimit64, 0, resource, 0, sys::Arg(&limit)) != 0) return false;
  *limit_bytes = limit.rlim_cur;
  return limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < wanted;
}

IoError Map(int fd, uint64_t bytes, bool writable) noexcept {
  // In a program that called mlockall(MCL_FUTURE) a readable mapping would be populated and locked on the spot. Without
  // access there is nothing to populate: reserve first, unlock, then allow access.
  void* base = reinterpret_cast<void*>(kArenaBase);
  void* at = sys::Map(base, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, 0);
  if (sys::MapFailed(at)) {
    int cause = static_cast<int>(-reinterpret_cast<intptr_t>(at));
    uint64_t limit = 0;
    char what[128];
    if (cause == EEXIST) {
      return Fail(ENETDOWN, "the arena's address range is in use in this program", 0,
                  "report the program; setarch -R may help meanwhile");
    }
    if (cause == EAGAIN) {
      return Fail(ENETDOWN, "the program locks its memory (mlockall) and RLIMIT_MEMLOCK is smaller than the arena", 0,
                  "raise `ulimit -l` or set arena_size (USTCP_ARENA_SIZE) lower");
    }
    if (cause == ENOMEM && LimitedTo(RLIMIT_AS, bytes, &limit)) {
      TextBuilder(what) << "an arena of " << static_cast<int64_t>(bytes >> 20) << " MiB does not fit RLIMIT_AS ("
                        << static_cast<int64_t>(limit >> 20) << " MiB)";
      return Fail(ENETDOWN, what, 0, "raise `ulimit -v` or set arena_size (USTCP_ARENA_SIZE) lower");
    }
    return Fail(ENETDOWN, "the arena cannot be mapped", cause, "set arena_size (USTCP_ARENA_SIZE) lower");
  }
  if (at != base) {  // a kernel before 4.17 takes the address for a hint
    sys::Unmap(at, bytes);
    return Fail(ENETDOWN, "the arena's address range is in use in this program", 0, "a newer kernel is needed");
  }
  sys::Call(SYS_munlock, sys::Arg(base), static_cast<long>(bytes));
  sys::Advise(base, bytes, MADV_DONTDUMP);
  long result =
      sys::Call(SYS_mprotect, sys::Arg(base), static_cast<long>(bytes), writable ? PROT_READ | PROT_WRITE : PROT_READ);
  if (result != 0) {
    sys::Unmap(base, bytes);
    return Fail(ENETDOWN, "the arena cannot be made accessible", static_cast<int>(-result),
                "see RLIMIT_AS and RLIMIT_DATA");
  }
  return {};
}

}  // namespace

IoError CreateArenaFile(const char* host_name, uint64_t bytes, int* fd) noexcept {
  char name[96];
  TextBuilder(name) << "ustcp-" << host_name;
  int made = static_cast<int>(sys::Call(SYS_memfd_create, sys::Arg(name), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (made < 0)
    return Fail(ENETDOWN, "no memory file for the arena", -made, "check /proc/sys/fs/file-max and RLIMIT_NOFILE");
  // RLIMIT_FSIZE counts for memory files too, and would come as a deadly signal.
  uint64_t limit;
  if (LimitedTo(RLIMIT_FSIZE, bytes, &limit)) {
    sys::Close(made);
    return Fail(ENETDOWN, "RLIMIT_FSIZE is smaller than the arena", 0,
                "raise `ulimit -f` or set USTCP_ARENA_SIZE lower");
  }
  // Memory files are made accessible to all; this one is its user's, whoever else may look into /proc/PID/fd.
  long result = sys::Call(SYS_fchmod, made, 0600);
  if (result == 0) result = sys::Call(SYS_ftruncate, made, static_cast<long>(bytes));
  if (result == 0) result = sys::Fcntl(made, F_ADD_SEALS, kSeals);
  if (result != 0) {
    sys::Close(made);
    return Fail(ENETDOWN, "the arena's memory file cannot be sized", static_cast<int>(-result),
                "set USTCP_ARENA_SIZE lower");
  }
  *fd = made;
  return {};
}

IoError InspectArenaFile(int fd, ArenaFile* out) noexcept {
  struct stat status {};
  int mode = sys::Fcntl(fd, F_GETFL);
  if (mode < 0 || sys::Fcntl(fd, F_GET_SEALS) != kSeals || sys::Call(SYS_fstat, fd, sys::Arg(&status)) != 0)
    return Fail(ENETDOWN, "the descriptor handed over as arena is none", 0, "restart the keeper and the program");
  out->bytes = static_cast<uint64_t>(status.st_size);
  out->identity = {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
  out->owner = status.st_uid;
  out->writable = (mode & O_ACCMODE) == O_RDWR;
  return {};
}

IoError MapArena(int fd, uint64_t bytes, bool writable) noexcept {
  const rlimit before = address_limit::Raise(bytes);
  IoError error = Map(fd, bytes, writable);
  if (error) address_limit::Restore(before);
  return error;
}

void UnmapArena(uint64_t bytes) noexcept {
  sys::Unmap(reinterpret_cast<void*>(kArenaBase), bytes);
  address_limit::Lower(bytes);
}

}  // namespace ustcp
