#include "stack/wire/checksum.h"

#include <immintrin.h>

namespace ustcp {
namespace {

// Below this the vector loop saves nothing (measured: both ways take 9 to 13 ns from 128 to 200 bytes; at 1460 bytes it
// is 46 ns against 129 ns).
constexpr size_t kVectorThreshold = 256;

uint64_t Load64(const std::byte* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// 2^16 is 1 modulo 0xffff, hence any split of a wide sum into 16-bit parts may be added up; 32-bit halves of 64-bit
// words are summed in 64-bit accumulators, which cannot overflow for any length a span of wire bytes has.
uint64_t SumScalar(const std::byte* p, size_t n) {
  uint64_t low = 0;
  uint64_t high = 0;
  for (; n >= 32; p += 32, n -= 32) {
    const uint64_t a = Load64(p);
    const uint64_t b = Load64(p + 8);
    const uint64_t c = Load64(p + 16);
    const uint64_t d = Load64(p + 24);
    low += (a & 0xffffffff) + (b & 0xffffffff) + (c & 0xffffffff) + (d & 0xffffffff);
    high += (a >> 32) + (b >> 32) + (c >> 32) + (d >> 32);
  }
  for (; n >= 4; p += 4, n -= 4) {
    uint32_t v;
    std::memcpy(&v, p, sizeof v);
    low += v;
  }
  if ((n & 2) != 0) {
    uint16_t v;
    std::memcpy(&v, p, sizeof v);
    low += v;
    p += 2;
  }
  if ((n & 1) != 0) low += Load8(p);
  return low + high;
}

__attribute__((target("avx2"))) uint64_t SumAvx2(const std::byte* p, size_t n) {
  const __m256i mask = _mm256_set1_epi64x(0xffffffff);
  __m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (; n >= 64; p += 64, n -= 64) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
    acc[0] = _mm256_add_epi64(acc[0], _mm256_and_si256(a, mask));
    acc[1] = _mm256_add_epi64(acc[1], _mm256_srli_epi64(a, 32));
    acc[2] = _mm256_add_epi64(acc[2], _mm256_and_si256(b, mask));
    acc[3] = _mm256_add_epi64(acc[3], _mm256_srli_epi64(b, 32));
  }
  const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(acc[0], acc[1]), _mm256_add_epi64(acc[2], acc[3]));
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  // GCC 12 leaves the upper halves dirty here, and the SSE code that follows then stalls: 300 ns instead of 46 for 1460
  // bytes.
  _mm256_zeroupper();
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + SumScalar(p, n);
}

}  // namespace

uint64_t SumNativeWords(ConstBytes bytes) noexcept {
  // The CPU model is filled in by a constructor of the compiler's run-time; a call before that only takes the slow way.
  if (bytes.size() >= kVectorThreshold && __builtin_cpu_supports("avx2")) return SumAvx2(bytes.data(), bytes.size());
  return SumScalar(bytes.data(), bytes.size());
}

InternetSum PseudoHeaderSum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                            uint32_t transport_bytes) noexcept {
  InternetSum sum;
  const auto* s = reinterpret_cast<const std::byte*>(source.bytes.data());
  const auto* d = reinterpret_cast<const std::byte*>(destination.bytes.data());
  const bool v4 = source.is_v4();
  const size_t skip = v4 ? 12 : 0;
  sum.Add(ConstBytes(s + skip, 16 - skip));
  sum.Add(ConstBytes(d + skip, 16 - skip));
  sum.AddBe16(protocol);
  sum.AddBe32(transport_bytes);
  return sum;
}

bool VerifyTransportChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                             ConstBytes transport) noexcept {
  InternetSum sum = PseudoHeaderSum(source, destination, protocol, static_cast<uint32_t>(transport.size()));
  sum.Add(transport);
  return sum.Verifies();
}

void FillTransportChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol, Bytes transport,
                           size_t checksum_offset) noexcept {
  StoreBe16(transport.data() + checksum_offset, 0);
  InternetSum sum = PseudoHeaderSum(source, destination, protocol, static_cast<uint32_t>(transport.size()));
  sum.Add(transport);
  StoreBe16(transport.data() + checksum_offset, sum.Complement());
}

uint16_t PartialChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                         uint32_t transport_bytes) noexcept {
  return PseudoHeaderSum(source, destination, protocol, transport_bytes).Fold();
}

uint16_t ComputeChecksum(ConstBytes bytes) noexcept {
  InternetSum sum;
  sum.Add(bytes);
  return sum.Complement();
}

bool VerifyChecksum(ConstBytes bytes) noexcept {
  InternetSum sum;
  sum.Add(bytes);
  return sum.Verifies();
}

}  // namespace ustcp
