#include "tools/confined.h"

namespace ustcp::tool {

namespace {

// The bytes of the UTF-8 character that begins at `at`; 0 when none does, or one that a terminal takes for a command.
size_t CharacterAt(const std::string& text, size_t at) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  unsigned first = byte(at);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                  : (first & 0xf0) == 0xe0         ? 3
                  : first >= 0xf0 && first <= 0xf4 ? 4
                                                   : 0;
  unsigned code = length == 0 ? 0 : first & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(at + i) & 0x3f);
  }
  constexpr unsigned kLeast[] = {0, 0, 0xa0, 0x800, 0x10000};  // U+0080 to U+009F are control characters
  return code >= kLeast[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? length : 0;
}

}  // namespace

std::string Printable(const std::string& text, bool lines) {
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    size_t length = CharacterAt(text, at);
    if (length == 0 && lines && (text[at] == '\n' || text[at] == '\t')) length = 1;
    if (length == 0)
      shown += '?';
    else
      shown.append(text, at, length);
    at += length == 0 ? 1 : length;
  }
  return shown;
}

}  // namespace ustcp::tool
