// Result<T>: a value or the kernel's errno. User errors travel as values; only preload/ turns them into errno.
#pragma once

#include <cerrno>
#include <cstdint>
#include <type_traits>

namespace ustcp {

// An errno value as the kernel would return it; 0 means success.
struct [[nodiscard]] Error {
  int code = 0;
  constexpr explicit operator bool() const { return code != 0; }
  friend constexpr bool operator==(Error, Error) = default;
};

inline constexpr Error kOk{0};

template <typename T>
class [[nodiscard]] Result {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  constexpr Result(T value) : value_(value), error_{} {}      // NOLINT: implicit by design
  constexpr Result(Error error) : value_{}, error_(error) {}  // NOLINT: implicit by design
  constexpr bool ok() const { return error_.code == 0; }
  constexpr explicit operator bool() const { return ok(); }
  constexpr Error error() const { return error_; }
  constexpr T value() const { return value_; }
  constexpr T operator*() const { return value_; }
  constexpr T operator->() const requires std::is_pointer_v<T> { return value_; }

 private:
  T value_;
  Error error_;
};

}  // namespace ustcp
