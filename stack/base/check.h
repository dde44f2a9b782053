// Run-time checks. CHECK is for conditions whose failure makes going on unsafe; BUG is for our own mistakes that a
// single connection can be made to pay for: it aborts where assertions are built in (tests, the dev preset) and is
// counted elsewhere, because in production we live inside somebody else's process.
#pragma once

#include <atomic>
#include <cstdint>

namespace ustcp {

// Prints one line to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* what) noexcept;

// Number of BUGs met by this process since it started (builds without assertions).
extern std::atomic<uint64_t> g_bug_count;

// Reports one of our own mistakes: aborts with assertions, counts without.
void ReportBug(const char* file, int line, const char* what) noexcept;

}  // namespace ustcp

#define USTCP_CHECK(cond) (__builtin_expect(!!(cond), 1) ? (void)0 : ::ustcp::CheckFailed(__FILE__, __LINE__, #cond))

#define USTCP_BUG(what) ::ustcp::ReportBug(__FILE__, __LINE__, what)

#if defined(USTCP_ASSERTIONS)
#define USTCP_DCHECK(cond) USTCP_CHECK(cond)
#else
#define USTCP_DCHECK(cond) ((void)sizeof(!(cond)))
#endif
