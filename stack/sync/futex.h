// Sleeping on and waking a word that processes share: the futex system call.
#pragma once

#include <atomic>
#include <cstdint>

namespace ustcp {

// FUTEX_WAKE of every sleeper on a process-shared word, those inside an engine's Wait included. Returns how many there were.
int FutexWake(std::atomic<uint32_t>& word) noexcept;
// FUTEX_WAIT on a process-shared word until it differs from `expected`, is woken or the deadline (ns of CLOCK_MONOTONIC,
// INT64_MAX for none) passes. Returns 0, ETIMEDOUT, EINTR or EAGAIN.
int FutexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t deadline_ns) noexcept;

}  // namespace ustcp
