#include "stack/wire/ipv4.h"

namespace ustcp {
namespace {

enum Ipv4Option : uint8_t { kEnd = 0, kNop = 1, kLooseSourceRoute = 131, kStrictSourceRoute = 137 };

enum class Walk : uint8_t { kPlain, kSourceRoute, kMalformed };

Walk WalkOptions(ConstBytes options) {
  Walk result = Walk::kPlain;
  while (!options.empty()) {
    const uint8_t kind = Load8(options.data());
    if (kind == kEnd) break;
    size_t length = 1;
    if (kind != kNop) {
      if (options.size() < 2) return Walk::kMalformed;
      length = Load8(options.data() + 1);
      if (length < 2 || length > options.size()) return Walk::kMalformed;
      if (kind == kLooseSourceRoute || kind == kStrictSourceRoute) result = Walk::kSourceRoute;
    }
    options = options.subspan(length);
  }
  return result;
}

}  // namespace

bool Ipv4View::OptionsAreSound(ConstBytes options) noexcept { return WalkOptions(options) != Walk::kMalformed; }

bool Ipv4View::has_source_route() const noexcept { return WalkOptions(options()) == Walk::kSourceRoute; }

}  // namespace ustcp
