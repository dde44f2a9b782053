#include "io/base/parse.h"

#include <cerrno>
#include <limits>

#include "io/settings/settings.h"

namespace ustcp {

namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ParseV4(std::string_view text, uint8_t* out) {
  for (int i = 0; i < 4; ++i) {
    std::string_view part;
    if (i < 3) {
      size_t dot = text.find('.');
      if (dot == std::string_view::npos) return false;
      part = text.substr(0, dot);
      text.remove_prefix(dot + 1);
    } else {
      part = text;
    }
    // A leading zero would mean octal to some readers: refused, as inet_pton does.
    int64_t n;
    if (part.size() > 3 || (part.size() > 1 && part[0] == '0') || !ParseNumber(part, &n) || n > 255) return false;
    out[i] = static_cast<uint8_t>(n);
  }
  return true;
}

// RFC 4291 2.2: groups of up to four hex digits, one "::" for a run of zeros, the last 32 bits possibly dotted.
bool ParseV6(std::string_view text, uint8_t* out) {
  uint8_t head[16];
  size_t used = 0;
  size_t gap = 17;  // where "::" stood; 17: nowhere
  if (text.starts_with("::")) {
    gap = 0;
    text.remove_prefix(2);
  } else if (text.starts_with(":")) {
    return false;
  }
  while (!text.empty()) {
    size_t colon = text.find(':');
    std::string_view group = text.substr(0, colon);
    if (colon == std::string_view::npos && group.find('.') != std::string_view::npos) {
      if (used > 12 || !ParseV4(group, head + used)) return false;
      used += 4;
      break;
    }
    if (group.empty() || group.size() > 4 || used > 14) return false;
    int value = 0;
    for (char c : group) {
      int digit = HexDigit(c);
      if (digit < 0) return false;
      value = value * 16 + digit;
    }
    head[used++] = static_cast<uint8_t>(value >> 8);
    head[used++] = static_cast<uint8_t>(value);
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
    if (text.starts_with(":")) {
      if (gap <= 16) return false;
      gap = used;
      text.remove_prefix(1);
    } else if (text.empty()) {
      return false;
    }
  }
  if (gap > 16) {
    if (used != 16) return false;
    std::memcpy(out, head, 16);
    return true;
  }
  if (used > 14) return false;
  std::memset(out, 0, 16);
  std::memcpy(out, head, gap);
  std::memcpy(out + 16 - (used - gap), head + gap, used - gap);
  return true;
}

}  // namespace

std::string_view TrimText(std::string_view text) noexcept {
  constexpr std::string_view kBlank = " \t\r";
  size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool NextPiece(std::string_view* rest, char separator, std::string_view* piece) noexcept {
  if (rest->data() == nullptr) return false;
  size_t at = rest->find(separator);
  *piece = TrimText(rest->substr(0, at));
  if (at == std::string_view::npos) {
    *rest = {};
  } else {
    rest->remove_prefix(at + 1);
  }
  return true;
}

bool ParseNumber(std::string_view text, int64_t* out) noexcept {
  bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return false;
  int64_t n = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, c - '0', &n)) return false;
  }
  *out = negative ? -n : n;
  return true;
}

bool ParseBytes(std::string_view text, int64_t* out) noexcept {
  if (text.empty()) return false;
  int shift = 0;
  switch (text.back()) {
    case 'k':
    case 'K': shift = 10; break;
    case 'm':
    case 'M': shift = 20; break;
    case 'g':
    case 'G': shift = 30; break;
    case 't':
    case 'T': shift = 40; break;
    default: break;
  }
  if (shift != 0) text.remove_suffix(1);
  int64_t n;
  if (!ParseNumber(text, &n) || n < 0 || n > (std::numeric_limits<int64_t>::max() >> shift)) return false;
  *out = n << shift;
  return true;
}

bool ParseMac(std::string_view text, uint8_t (&out)[6]) noexcept {
  if (text.size() != 17) return false;
  for (int i = 0; i < 6; ++i) {
    int high = HexDigit(text[i * 3]);
    int low = HexDigit(text[i * 3 + 1]);
    if (high < 0 || low < 0 || (i < 5 && text[i * 3 + 2] != ':')) return false;
    out[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

TextBuilder& TextBuilder::operator<<(int64_t number) noexcept {
  char digits[24];
  size_t at = sizeof(digits);
  uint64_t n = number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  do {
    digits[--at] = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  if (number < 0) digits[--at] = '-';
  return *this << std::string_view(digits + at, sizeof(digits) - at);
}

TextBuilder& TextBuilder::Quote(std::string_view text) noexcept {
  constexpr size_t kShown = 60;
  *this << "'";
  for (char c : text.substr(0, kShown)) {
    bool control = static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    *this << std::string_view(control ? "?" : &c, 1);
  }
  return *this << (text.size() > kShown ? "...'" : "'");
}

const char* ErrnoText(int code) noexcept {
  switch (code) {
    case EPERM: return "operation not permitted";
    case ENOENT: return "no such file or directory";
    case EACCES: return "permission denied";
    case EBUSY: return "device or resource busy";
    case EEXIST: return "already there";
    case ENODEV: return "no such device";
    case EINVAL: return "invalid argument";
    case ENOMEM: return "out of memory";
    case EMFILE: return "too many open files";
    case ENFILE: return "too many open files in the system";
    case ENOTDIR: return "not a directory";
    case EROFS: return "read-only file system";
    case ENOSPC: return "no space left";
    case EPIPE: return "connection lost";
    case ECONNREFUSED: return "nobody listens";
    case ETIMEDOUT: return "timed out";
    case ENOEXEC: return "not a program";
    default: return "failed";
  }
}

bool ParseAddress(std::string_view text, IpAddress* out) noexcept {
  uint8_t bytes[16];
  if (text.find(':') == std::string_view::npos) {
    if (!ParseV4(text, bytes)) return false;
    *out = IpAddress::FromV4Bytes(bytes);
    return true;
  }
  if (!ParseV6(text, bytes)) return false;
  *out = IpAddress::FromV6Bytes(bytes);
  return !out->is_v4();  // ::ffff:a.b.c.d would be taken for IPv4 from here on
}

bool ParsePrefix(std::string_view text, IpPrefix* out) noexcept {
  size_t slash = text.find('/');
  if (!ParseAddress(text.substr(0, slash), &out->address)) return false;
  int most = out->address.is_v4() ? 32 : 128;
  int64_t length = most;
  if (slash != std::string_view::npos && !ParseNumber(text.substr(slash + 1), &length)) return false;
  if (length < 0 || length > most) return false;
  out->length = static_cast<uint8_t>(length);
  return true;
}

void FormatAddress(const IpAddress& address, char (&out)[64]) noexcept {
  TextBuilder text(out);
  if (address.is_v4()) {
    for (int i = 0; i < 4; ++i) text << (i == 0 ? "" : ".") << int{address.v4()[i]};
    return;
  }
  // RFC 5952: the longest run of at least two zero groups becomes "::", the first of equals.
  auto group = [&](int i) { return address.bytes[i * 2] << 8 | address.bytes[i * 2 + 1]; };
  int best = -1;
  int best_length = 1;
  for (int i = 0; i < 8;) {
    int n = 0;
    while (i + n < 8 && group(i + n) == 0) ++n;
    if (n > best_length) {
      best = i;
      best_length = n;
    }
    i += n + 1;
  }
  for (int i = 0; i < 8; ++i) {
    if (i == best) {
      text << "::";
      i += best_length - 1;
      continue;
    }
    if (i != 0 && !(best >= 0 && i == best + best_length)) text << ":";
    char digits[4];
    size_t used = 0;
    for (int shift = 12; shift >= 0; shift -= 4) {
      int digit = group(i) >> shift & 15;
      if (digit != 0 || used != 0 || shift == 0) digits[used++] = "0123456789abcdef"[digit];
    }
    text << std::string_view(digits, used);
  }
}

void FormatPrefix(const IpPrefix& prefix, char (&out)[64]) noexcept {
  FormatAddress(prefix.address, out);
  size_t n = std::strlen(out);
  TextBuilder(out + n, sizeof(out) - n) << "/" << int{prefix.length};
}

}  // namespace ustcp
