// CUBIC (RFC 9438) with HyStart, in the arithmetic of Linux: a window that follows C (t - K)^3 + W_max in real time,
// never below what Reno would have (the Reno-friendly region), at most 1.5-fold per round trip. beta = 717/1024,
// C = 410/1024.
#pragma once

#include <cstdint>

namespace ustcp {

struct Sender;
struct SenderEnv;

void CubicInit(const SenderEnv& env, Sender& s) noexcept;
void CubicOnAck(const SenderEnv& env, Sender& s, uint32_t acked) noexcept;
void CubicOnSample(const SenderEnv& env, Sender& s, int64_t rtt_us) noexcept;
uint32_t CubicSsthresh(const SenderEnv& env, Sender& s) noexcept;
void CubicOnRto(const SenderEnv& env, Sender& s) noexcept;
// Transmission starts after an idle period: the time without traffic must not count as time of the curve.
void CubicOnTransmitStart(const SenderEnv& env, Sender& s) noexcept;

// The integer cube root, rounded down; exact for every argument.
uint32_t CubeRoot(uint64_t value) noexcept;

}  // namespace ustcp
