#include "stack/wire/tcp_options.h"

#include <algorithm>
#include <cstring>

namespace ustcp {
namespace {

enum OptionKind : uint8_t {
  kEnd = 0,
  kNop = 1,
  kMss = 2,
  kWindowScale = 3,
  kSackPermitted = 4,
  kSack = 5,
  kTimestamps = 8,
  kMd5 = 19,
  kAo = 29,
  kFastOpen = 34,
  kExperimental = 254,
};

constexpr uint16_t kFastOpenMagic = 0xf989;

// Linux: an odd length is as if the option were not there at all, an even one outside 4..16 withdraws an earlier
// option.
void ReadFastOpen(ConstBytes cookie, bool experimental, std::optional<FastOpenOption>& out) {
  if (cookie.size() % 2 != 0) return;
  if (cookie.size() > FastOpenOption::kMaxCookie || (!cookie.empty() && cookie.size() < FastOpenOption::kMinCookie)) {
    out.reset();
    return;
  }
  FastOpenOption& option = out.emplace();
  option.length = static_cast<uint8_t>(cookie.size());
  option.experimental = experimental;
  std::copy(cookie.begin(), cookie.end(), option.cookie.begin());
}

void ReadSynOption(uint8_t kind, ConstBytes body, TcpOptions& o) {
  switch (kind) {
    case kMss:
      if (body.size() == 2 && LoadBe16(body.data()) != 0) o.mss = LoadBe16(body.data());
      break;
    case kWindowScale:
      if (body.size() == 1) o.window_scale = std::min(Load8(body.data()), kMaxWindowScale);
      break;
    case kSackPermitted:
      if (body.empty()) o.sack_permitted = true;
      break;
    case kFastOpen: ReadFastOpen(body, false, o.fast_open); break;
    case kExperimental:
      if (body.size() >= 2 && LoadBe16(body.data()) == kFastOpenMagic) {
        ReadFastOpen(body.subspan(2), true, o.fast_open);
      }
      break;
    default: break;
  }
}

void ReadOption(uint8_t kind, ConstBytes body, bool syn, TcpOptions& o) {
  switch (kind) {
    case kTimestamps:
      if (body.size() == 8) o.timestamps = TcpTimestamps{LoadBe32(body.data()), LoadBe32(body.data() + 4)};
      break;
    case kSack:
      if (syn || body.empty() || body.size() % 8 != 0) break;
      o.sack_count = static_cast<uint8_t>(std::min(body.size() / 8, kMaxSackBlocks));
      for (size_t i = 0; i < o.sack_count; ++i) {
        o.sack[i] = {Seq(LoadBe32(body.data() + 8 * i)), Seq(LoadBe32(body.data() + 8 * i + 4))};
      }
      break;
    case kMd5:
      if (body.size() == 16) o.md5 = true;
      break;
    case kAo:
      if (body.size() >= 2) o.ao = true;
      break;
    default:
      if (syn) ReadSynOption(kind, body, o);
      break;
  }
}

size_t FastOpenBytes(const FastOpenOption& f) { return (f.experimental ? 4u : 2u) + f.length; }

std::byte* WriteFastOpen(std::byte* p, const FastOpenOption& f) {
  size_t length = FastOpenBytes(f);
  Store8(p, f.experimental ? kExperimental : kFastOpen);
  Store8(p + 1, static_cast<uint8_t>(length));
  if (f.experimental) StoreBe16(p + 2, kFastOpenMagic);
  std::memcpy(p + length - f.length, f.cookie.data(), f.length);
  for (; length % 4 != 0; ++length) Store8(p + length, kNop);
  return p + length;
}

}  // namespace

TcpOptions ParseTcpOptions(ConstBytes options, bool syn) noexcept {
  TcpOptions o;
  while (!options.empty()) {
    const uint8_t kind = Load8(options.data());
    if (kind == kEnd) break;
    if (kind == kNop) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2) break;
    const size_t length = Load8(options.data() + 1);
    if (length < 2 || length > options.size()) break;
    ReadOption(kind, options.subspan(2, length - 2), syn, o);
    options = options.subspan(length);
  }
  return o;
}

size_t WriteTcpOptions(std::byte* out, const TcpOptions& o) noexcept {
  std::byte* p = out;
  if (o.mss) {
    StoreBe32(p, uint32_t{kMss} << 24 | 4u << 16 | *o.mss);
    p += 4;
  }
  if (o.timestamps) {
    // SACK-permitted is two bytes long and takes the place of the padding.
    StoreBe16(p, o.sack_permitted ? uint16_t{kSackPermitted << 8 | 2} : uint16_t{kNop << 8 | kNop});
    StoreBe16(p + 2, uint16_t{kTimestamps << 8 | 10});
    StoreBe32(p + 4, o.timestamps->value);
    StoreBe32(p + 8, o.timestamps->echo);
    p += 12;
  } else if (o.sack_permitted) {
    StoreBe32(p, uint32_t{kNop} << 24 | uint32_t{kNop} << 16 | uint32_t{kSackPermitted} << 8 | 2);
    p += 4;
  }
  if (o.window_scale) {
    StoreBe32(p, uint32_t{kNop} << 24 | uint32_t{kWindowScale} << 16 | 3u << 8 | *o.window_scale);
    p += 4;
  }
  const auto room = [&] { return kMaxTcpOptionBytes - static_cast<size_t>(p - out); };
  const size_t blocks = std::min<size_t>({o.sack_count, kMaxSackBlocks, room() < 4 ? 0 : (room() - 4) / 8});
  if (blocks != 0) {
    StoreBe32(
        p, uint32_t{kNop} << 24 | uint32_t{kNop} << 16 | uint32_t{kSack} << 8 | static_cast<uint32_t>(2 + 8 * blocks));
    p += 4;
    for (size_t i = 0; i < blocks; ++i, p += 8) {
      StoreBe32(p, o.sack[i].begin.raw());
      StoreBe32(p + 4, o.sack[i].end.raw());
    }
  }
  if (o.fast_open && (FastOpenBytes(*o.fast_open) + 3) / 4 * 4 <= room()) p = WriteFastOpen(p, *o.fast_open);
  return static_cast<size_t>(p - out);
}

}  // namespace ustcp
