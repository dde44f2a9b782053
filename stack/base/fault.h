// Places where a process may be killed. Each stands between two stores of an update that spans several, in the order in
// which another process would find them: with assertions built in, a test's hook decides there whether to die; always, the
// compiler keeps the stores on their sides (the processor does so by itself: the memory is coherent).
#pragma once

#include <atomic>

#if defined(USTCP_ASSERTIONS)
namespace ustcp {
extern void (*g_fault_hook)() noexcept;  // null: none
inline void FaultPoint() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (g_fault_hook != nullptr) [[unlikely]]
    g_fault_hook();
}
}  // namespace ustcp
#define USTCP_FAULT_POINT() ::ustcp::FaultPoint()
#else
#define USTCP_FAULT_POINT() ::std::atomic_signal_fence(::std::memory_order_seq_cst)
#endif
