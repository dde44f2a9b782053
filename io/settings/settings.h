// The settings of a member and of its host: declared once in settings.def, read from a file and the environment.
//
// Order of precedence: environment, then the file (USTCP_CONFIG, otherwise /etc/ustcp/HOST.conf when there is one), then
// the defaults of settings.def. A file has lines `key = value`, `#` starts a comment; `sysctl.net.ipv4.tcp_x = v` lines set
// single sysctls. Runs inside programs: no heap, no exceptions, no stdio, bounded in every input. An error is one line
// that says what is wrong, where (file:line or variable), and what helps; its code is EINVAL (EACCES for an unreadable file).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/device/tap.h"
#include "stack/base/sysctl.h"
#include "stack/host/config.h"

namespace ustcp {

inline constexpr int kMaxKernelDestinations = 16;
inline constexpr int kMaxAllowedUsers = 16;
inline constexpr size_t kMaxSettingPath = 256;

enum class SettingId : uint8_t {
#define SETTING(id, key, env, type, def, range, doc) k##id,
#include "io/settings/settings.def"
#undef SETTING
  kCount
};
inline constexpr size_t kSettingCount = static_cast<size_t>(SettingId::kCount);

enum class SettingType : uint8_t {
  kName,       // letters, digits, '-', '_', '.'
  kPrefixes,   // comma-separated address/length
  kAddresses,  // comma-separated addresses
  kMac,
  kNumber,  // within the range
  kBytes,   // a number with an optional suffix K, M, G or T, within the range
  kChoice,  // one of the range's words
  kPath,
  kUsers,  // comma-separated numeric user ids
};

struct SettingInfo {
  SettingId id;
  const char* key;  // in the file
  const char* env;  // in the environment
  SettingType type;
  const char* fallback;  // as it would be written in the file; "" where the value is found out otherwise
  const char* range;     // "least..most" of numbers, "a|b|c" of choices
  const char* doc;
};

inline constexpr SettingInfo kSettingTable[] = {
#define SETTING(id, key, env, type, def, range, doc) \
  {SettingId::k##id, key, env, SettingType::k##type, def, range, doc},
#include "io/settings/settings.def"
#undef SETTING
};

enum class SysctlSeed : uint8_t {
  kDefault,           // the defaults of stack/base/sysctl.def
  kKernel,            // /proc/sys/net of the keeper's network namespace, once, when the host is created
  kKernelEachSocket,  // the same again whenever a member creates a socket
};

enum class ProgramUring : uint8_t {
  kAuto,  // off for programs that register descriptors with epoll through it
  kOn,
  kOff,
};

struct Settings {
  HostConfig host;         // name, interface, addresses, routes, tick, busy polling, engine, loopback
  uint32_t mtu = 0;        // 0: the interface's
  bool mac_given = false;  // host.device.mac was configured; otherwise it follows from the name
  Sysctls sysctls;         // defaults and the file's sysctl lines; seeding from the kernel is SeedSysctls' job
  std::array<uint64_t, 4> sysctl_given{};  // bit per row of kSysctlTable that a sysctl line set
  SysctlSeed sysctl_seed = SysctlSeed::kDefault;
  ProgramUring program_uring = ProgramUring::kAuto;
  int kernel_destination_count = 0;
  std::array<IpPrefix, kMaxKernelDestinations> kernel_destinations;
  uint64_t arena_bytes = 0;
  int tap_fd = -1;
  char keeper_path[kMaxSettingPath] = {};  // empty: search
  char keeper_log[kMaxSettingPath] = {};   // empty: none
  int allowed_user_count = 0;
  std::array<uint32_t, kMaxAllowedUsers> allowed_users{};
  char capture_path[kMaxSettingPath] = {};  // empty: no capture
  char runtime_dir[kMaxSettingPath] = {};   // empty: by user, see RuntimeDirectory
  char config_path[kMaxSettingPath] = {};   // the file that was read, empty when none
  uint32_t given = 0;                       // bit per SettingId set by file or environment

  bool Given(SettingId id) const { return (given >> static_cast<unsigned>(id) & 1) != 0; }
};
static_assert(kSettingCount <= 32);
static_assert(sizeof(kSysctlTable) / sizeof(kSysctlTable[0]) <= 256);

// Reads file and environment. `environment` is a null-terminated array of NAME=value, as `environ`.
IoError LoadSettings(const char* const* environment, Settings* out) noexcept;

// Applies one setting as if `where` ("USTCP_ADDR", "/etc/ustcp/x.conf:3") had said so.
IoError ApplySetting(SettingId id, std::string_view value, const char* where, Settings* out) noexcept;

// Reads the values that /proc/sys/net has in the caller's network namespace into `out`, leaving rows alone that the kernel
// does not know or that `given` (may be null) marks. Values outside a row's bounds are clamped.
void SeedSysctls(Sysctls* out, const std::array<uint64_t, 4>* given) noexcept;

// Writes `text` ("4096 131072 6291456") into a sysctl, or says in one line why the kernel would not take it either: EINVAL,
// and nothing has changed. `where` as in ApplySetting; may be empty.
IoError SetSysctl(const SysctlInfo& info, std::string_view text, const char* where, Sysctls* out) noexcept;
// A sysctl as /proc/sys shows it, without a newline.
void FormatSysctl(const SysctlInfo& info, const Sysctls& sysctls, char (&out)[64]) noexcept;
// The row of "net.ipv4.tcp_x" or "net/ipv4/tcp_x"; null when there is none.
const SysctlInfo* FindSysctl(std::string_view name) noexcept;

// Where the sockets and locks of this user's hosts live: settings.runtime_dir, /run/ustcp for root,
// $XDG_RUNTIME_DIR/ustcp, or /tmp/ustcp-UID. Written to `out` without checking that it exists.
void RuntimeDirectory(const Settings& settings, const char* const* environment, char (&out)[kMaxSettingPath]) noexcept;

// Where a keeper that root runs for another user has its socket: a directory of root's, so that nobody squats it.
void UserDirectory(uint32_t uid, char (&out)[kMaxSettingPath]) noexcept;

// Addresses as text. Format writes at most 64 bytes including the terminating zero.
bool ParseAddress(std::string_view text, IpAddress* out) noexcept;
bool ParsePrefix(std::string_view text, IpPrefix* out) noexcept;
void FormatAddress(const IpAddress& address, char (&out)[64]) noexcept;
void FormatPrefix(const IpPrefix& prefix, char (&out)[64]) noexcept;

}  // namespace ustcp
