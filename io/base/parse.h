// Small parsers and a bounded text builder for code that lives inside programs: no heap, no locale, no stdio.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ustcp {

// Text without blanks, tabs and carriage returns at its ends.
std::string_view TrimText(std::string_view text) noexcept;

// Cuts the next piece off `rest` at `separator`. False when `rest` was used up.
bool NextPiece(std::string_view* rest, char separator, std::string_view* piece) noexcept;

// A decimal number, the whole text. False on anything else or overflow.
bool ParseNumber(std::string_view text, int64_t* out) noexcept;
// With an optional suffix K, M, G, T (powers of 1024).
bool ParseBytes(std::string_view text, int64_t* out) noexcept;
bool ParseMac(std::string_view text, uint8_t (&out)[6]) noexcept;

// Appends text and numbers to an array and keeps it terminated; what does not fit is cut off.
class TextBuilder {
 public:
  TextBuilder(char* to, size_t capacity) noexcept : to_(to), capacity_(capacity) { to_[0] = '\0'; }
  template <size_t N>
  explicit TextBuilder(char (&to)[N]) noexcept : TextBuilder(to, N) {}

  TextBuilder& operator<<(std::string_view text) noexcept {
    size_t n = text.size() < capacity_ - 1 - used_ ? text.size() : capacity_ - 1 - used_;
    if (n < text.size()) cut_ = true;
    std::memcpy(to_ + used_, text.data(), n);
    used_ += n;
    to_[used_] = '\0';
    return *this;
  }
  TextBuilder& operator<<(const char* text) noexcept { return *this << std::string_view(text); }
  TextBuilder& operator<<(int64_t number) noexcept;
  TextBuilder& operator<<(int number) noexcept { return *this << static_cast<int64_t>(number); }
  TextBuilder& operator<<(uint32_t number) noexcept { return *this << static_cast<int64_t>(number); }
  // In quotes, as a message shows what somebody wrote: its beginning only, and on one line whatever it holds.
  TextBuilder& Quote(std::string_view text) noexcept;
  size_t size() const noexcept { return used_; }
  bool cut() const noexcept { return cut_; }  // something did not fit

 private:
  char* to_;
  size_t capacity_;
  size_t used_ = 0;
  bool cut_ = false;
};

// "EACCES"-like names for the errno numbers that our messages meet, "errno N" text is the caller's for the rest.
const char* ErrnoText(int code) noexcept;

}  // namespace ustcp
