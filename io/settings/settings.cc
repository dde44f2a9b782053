#include "io/settings/settings.h"

#include <cerrno>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"
#include "io/base/trusted_file.h"

namespace ustcp {

namespace {

constexpr char kRootDirectory[] = "/run/ustcp";

constexpr size_t kMaxLine = 1024;
constexpr int64_t kMaxFileBytes = 1 << 20;

const SettingInfo& InfoOf(SettingId id) { return kSettingTable[static_cast<size_t>(id)]; }

IoError Fail(int code, const char* where, std::string_view value, const char* what) {
  IoError error;
  error.code = code;
  TextBuilder text(error.message);
  text << where << ": ";
  if (value.data() != nullptr) text.Quote(value) << " ";
  text << what;
  return error;
}

bool ValidName(std::string_view value) {
  if (value.empty() || value[0] == '.' || value[0] == '-') return false;
  for (char c : value) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

template <size_t N>
bool CopyText(std::string_view value, char (&to)[N]) {
  if (value.size() >= N) return false;
  std::memset(to, 0, N);
  std::memcpy(to, value.data(), value.size());
  return true;
}

// "least..most" of a table row.
void RangeOf(const SettingInfo& info, int64_t* least, int64_t* most) {
  std::string_view range = info.range;
  size_t dots = range.find("..");
  ParseBytes(range.substr(0, dots), least);
  ParseBytes(range.substr(dots + 2), most);
}

// The index of `value` among "a|b|c", or -1.
int ChoiceOf(const SettingInfo& info, std::string_view value) {
  std::string_view rest = info.range;
  std::string_view word;
  for (int i = 0; NextPiece(&rest, '|', &word); ++i)
    if (word == value) return i;
  return -1;
}

IoError OutOfRange(const SettingInfo& info, const char* where, std::string_view value) {
  char what[128];
  TextBuilder text(what);
  if (info.type == SettingType::kChoice) {
    text << "is not one of " << info.range;
  } else {
    text << "is not a number in " << info.range;
  }
  return Fail(EINVAL, where, value, what);
}

IoError TakeAddresses(std::string_view value, const char* where, Settings* out) {
  out->host.address_count = 0;
  std::string_view piece;
  for (std::string_view rest = value; NextPiece(&rest, ',', &piece);) {
    IpPrefix prefix;
    if (!ParsePrefix(piece, &prefix)) return Fail(EINVAL, where, piece, "is not address/length; write 10.117.0.2/24");
    if (prefix.address.is_any() || prefix.address.is_multicast() || prefix.address.is_loopback())
      return Fail(EINVAL, where, piece, "cannot be a host's address; choose a unicast address");
    if (out->host.address_count == kMaxHostAddresses)
      return Fail(EINVAL, where, piece, "is one address too many; a host has at most 8");
    for (int i = 0; i < out->host.address_count; ++i)
      if (out->host.addresses[i].address == prefix.address)
        return Fail(EINVAL, where, piece, "is listed twice; name each address once");
    out->host.addresses[out->host.address_count++] = prefix;
  }
  if (out->host.address_count == 0) return Fail(EINVAL, where, value, "names no address; write 10.117.0.2/24");
  return {};
}

IoError TakeGateways(std::string_view value, const char* where, Settings* out) {
  out->host.route_count = 0;
  if (value.empty()) return {};
  std::string_view piece;
  for (std::string_view rest = value; NextPiece(&rest, ',', &piece);) {
    IpAddress gateway;
    if (!ParseAddress(piece, &gateway) || gateway.is_any() || gateway.is_multicast() || gateway.is_loopback())
      return Fail(EINVAL, where, piece, "is not a gateway's address; write 10.117.0.1");
    for (int i = 0; i < out->host.route_count; ++i)
      if (out->host.routes[i].gateway.is_v4() == gateway.is_v4())
        return Fail(EINVAL, where, piece, "is a second gateway of its family; name one of each");
    RouteRule& rule = out->host.routes[out->host.route_count++];
    rule.destination = {gateway.is_v4() ? IpAddress::AnyV4() : IpAddress::AnyV6(), 0};
    rule.gateway = gateway;
  }
  return {};
}

IoError TakeKernelDestinations(std::string_view value, const char* where, Settings* out) {
  out->kernel_destination_count = 0;
  if (value.empty()) return {};
  std::string_view piece;
  for (std::string_view rest = value; NextPiece(&rest, ',', &piece);) {
    IpPrefix prefix;
    if (!ParsePrefix(piece, &prefix)) return Fail(EINVAL, where, piece, "is not address/length; write 192.0.2.0/24");
    if (out->kernel_destination_count == kMaxKernelDestinations)
      return Fail(EINVAL, where, piece, "is one destination too many; at most 16 are allowed");
    out->kernel_destinations[out->kernel_destination_count++] = prefix;
  }
  return {};
}

IoError TakeUsers(std::string_view value, const char* where, Settings* out) {
  out->allowed_user_count = 0;
  if (value.empty()) return {};
  std::string_view piece;
  for (std::string_view rest = value; NextPiece(&rest, ',', &piece);) {
    int64_t uid;
    if (!ParseNumber(piece, &uid) || uid < 0 || uid > 0xffff'fffe)
      return Fail(EINVAL, where, piece, "is no numeric user id; `id -u NAME` prints it");
    if (out->allowed_user_count == kMaxAllowedUsers)
      return Fail(EINVAL, where, piece, "is one user too many; at most 16 are allowed");
    out->allowed_users[out->allowed_user_count++] = static_cast<uint32_t>(uid);
  }
  return {};
}

}  // namespace

IoError ApplySetting(SettingId id, std::string_view value, const char* where, Settings* out) noexcept {
  const SettingInfo& info = InfoOf(id);
  value = TrimText(value);
  int64_t number = 0;
  int choice = 0;
  if (info.type == SettingType::kNumber || info.type == SettingType::kBytes) {
    int64_t least = 0;
    int64_t most = 0;
    RangeOf(info, &least, &most);
    bool well = info.type == SettingType::kBytes ? ParseBytes(value, &number) : ParseNumber(value, &number);
    if (!well || number < least || number > most) return OutOfRange(info, where, value);
  } else if (info.type == SettingType::kChoice) {
    choice = ChoiceOf(info, value);
    if (choice < 0) return OutOfRange(info, where, value);
  }

  switch (id) {
    case SettingId::kHost:
      if (!ValidName(value) || !CopyText(value, out->host.name))
        return Fail(EINVAL, where, value, "is no host name; use at most 63 letters, digits, '-', '_' or '.'");
      break;
    case SettingId::kInterface:
      if (!ValidName(value) || !CopyText(value, out->host.interface))
        return Fail(EINVAL, where, value, "is no interface name; use at most 15 letters, digits, '-', '_' or '.'");
      break;
    case SettingId::kAddresses:
      if (IoError e = TakeAddresses(value, where, out)) return e;
      break;
    case SettingId::kGateways:
      if (IoError e = TakeGateways(value, where, out)) return e;
      break;
    case SettingId::kMac: {
      uint8_t mac[6];
      if (!ParseMac(value, mac) || (mac[0] & 1) != 0)
        return Fail(EINVAL, where, value, "is no unicast MAC address; write 02:00:00:00:00:01");
      std::memcpy(out->host.device.mac.data(), mac, 6);
      out->mac_given = true;
      break;
    }
    case SettingId::kMtu: out->mtu = static_cast<uint32_t>(number); break;
    case SettingId::kEngine: out->host.engine = static_cast<uint8_t>(choice); break;
    case SettingId::kTapFd: out->tap_fd = static_cast<int>(number); break;
    case SettingId::kKeeper:
    case SettingId::kKeeperLog:
    case SettingId::kRuntimeDir:
    case SettingId::kCapture: {
      auto& path = id == SettingId::kKeeper      ? out->keeper_path
                   : id == SettingId::kKeeperLog ? out->keeper_log
                   : id == SettingId::kCapture   ? out->capture_path
                                                 : out->runtime_dir;
      if (value.empty() || !CopyText(value, path))
        return Fail(EINVAL, where, value, "is no path; write 1 to 255 characters");
      break;
    }
    case SettingId::kArenaSize:
      // Whole huge pages, so that the end of the mapping is nobody's business.
      out->arena_bytes = static_cast<uint64_t>(number) & ~uint64_t{(2 << 20) - 1};
      break;
    case SettingId::kTickUs: out->host.tick_us = static_cast<uint32_t>(number); break;
    case SettingId::kBusyPollUs: out->host.busy_poll_us = static_cast<uint32_t>(number); break;
    case SettingId::kLoopback: out->host.loopback_inside = choice == 1; break;
    case SettingId::kKernelDestinations:
      if (IoError e = TakeKernelDestinations(value, where, out)) return e;
      break;
    case SettingId::kAllow:
      if (IoError e = TakeUsers(value, where, out)) return e;
      break;
    case SettingId::kProgramUring: out->program_uring = static_cast<ProgramUring>(choice); break;
    case SettingId::kSysctls: out->sysctl_seed = static_cast<SysctlSeed>(choice); break;
    case SettingId::kCount: break;
  }
  return {};
}

namespace {

const char* FindVariable(const char* const* environment, const char* name) {
  size_t n = std::strlen(name);
  for (; environment != nullptr && *environment != nullptr; ++environment)
    if (std::strncmp(*environment, name, n) == 0 && (*environment)[n] == '=') return *environment + n + 1;
  return nullptr;
}

// The closest key of the table: what somebody who mistyped one meant. Null when none is close.
const char* SimilarKey(std::string_view key) {
  for (const SettingInfo& info : kSettingTable) {
    std::string_view known = info.key;
    size_t same = 0;
    while (same < known.size() && same < key.size() && known[same] == key[same]) ++same;
    if (same >= 4 || (same >= 3 && known.size() <= 4)) return info.key;
  }
  return nullptr;
}

IoError ApplyLine(std::string_view line, const char* where, Settings* out) {
  line = TrimText(line.substr(0, line.find('#')));
  if (line.empty()) return {};
  size_t equals = line.find('=');
  if (equals == std::string_view::npos) return Fail(EINVAL, where, line, "has no '='; write key = value");
  std::string_view key = TrimText(line.substr(0, equals));
  std::string_view value = TrimText(line.substr(equals + 1));
  if (key.starts_with("sysctl.")) {
    const SysctlInfo* info = FindSysctl(key.substr(7));
    if (info == nullptr) return Fail(EINVAL, where, key, "is no sysctl of a host; `ustcp sysctl -a` lists them");
    if (IoError e = SetSysctl(*info, value, where, &out->sysctls)) return e;
    size_t row = static_cast<size_t>(info - kSysctlTable);
    out->sysctl_given[row / 64] |= uint64_t{1} << (row % 64);
    return {};
  }
  for (const SettingInfo& info : kSettingTable) {
    if (key != info.key) continue;
    if (IoError e = ApplySetting(info.id, value, where, out)) return e;
    out->given |= 1u << static_cast<unsigned>(info.id);
    return {};
  }
  char what[96];
  TextBuilder text(what);
  if (const char* similar = SimilarKey(key)) {
    text << "is no setting; did you mean " << similar << "?";
  } else {
    text << "is no setting; `ustcp settings` lists them";
  }
  return Fail(EINVAL, where, key, what);
}

// Reads a whole file line by line through one buffer on the stack.
IoError ReadFile(const char* path, int fd, Settings* out) {
  char buffer[kMaxLine];
  size_t filled = 0;
  int line_number = 0;
  int64_t total = 0;
  char where[kMaxSettingPath + 16];
  bool at_end = false;
  while (!at_end || filled != 0) {
    if (!at_end) {
      ssize_t n = sys::Read(fd, buffer + filled, sizeof(buffer) - filled);
      if (n == -EINTR) continue;
      if (n < 0) return Fail(EACCES, path, {}, "cannot be read; check that it is a file");
      if (n == 0) at_end = true;
      filled += static_cast<size_t>(n);
      total += n;
    }
    size_t used = 0;
    while (used < filled) {
      const char* begin = buffer + used;
      const void* newline = std::memchr(begin, '\n', filled - used);
      size_t length =
          newline != nullptr ? static_cast<size_t>(static_cast<const char*>(newline) - begin) : filled - used;
      if (newline == nullptr && !at_end) break;
      ++line_number;
      TextBuilder(where) << path << ":" << line_number;
      if (IoError e = ApplyLine({begin, length}, where, out)) return e;
      used += length + (newline != nullptr ? 1 : 0);
    }
    std::memmove(buffer, buffer + used, filled - used);
    filled -= used;
    if (filled == sizeof(buffer) || total > kMaxFileBytes) {
      TextBuilder(where) << path << ":" << (line_number + 1);
      return Fail(EINVAL, where, {}, "is too long; lines have at most 1023 characters, files 1 MiB");
    }
  }
  return {};
}

IoError ReadConfiguration(const char* const* environment, Settings* out) {
  const char* chosen = FindVariable(environment, "USTCP_CONFIG");
  char path[kMaxSettingPath];
  TextBuilder text(path);
  if (chosen != nullptr && *chosen != '\0') {
    text << chosen;
    if (text.cut()) return Fail(EINVAL, "USTCP_CONFIG", chosen, "is too long; use a path of at most 255 characters");
  } else {
    text << "/etc/ustcp/" << out->host.name << ".conf";
    if (text.cut()) return {};
    chosen = nullptr;
  }
  int fd = -1;
  if (IoError e = OpenConfiguration(path, &fd)) {
    // Nobody asked for one.
    if (chosen == nullptr && e.code == ENOENT) return {};
    if (e.code != ENOENT) return e;
    return Fail(EINVAL, path, {}, "cannot be opened (no such file or directory); correct or unset USTCP_CONFIG");
  }
  IoError error = ReadFile(path, fd, out);
  sys::Close(fd);
  if (!error) CopyText(path, out->config_path);
  return error;
}

// A locally administered address that two hosts on one link do not share.
void DeriveMac(Settings* out) {
  uint64_t h = 0xcbf2'9ce4'8422'2325;
  auto mix = [&h](const void* p, size_t n) {
    for (size_t i = 0; i < n; ++i) h = (h ^ static_cast<const uint8_t*>(p)[i]) * 0x100'0000'01b3;
  };
  mix(out->host.name, std::strlen(out->host.name));
  for (int i = 0; i < out->host.address_count; ++i) mix(out->host.addresses[i].address.bytes.data(), 16);
  h ^= h >> 29;
  out->host.device.mac = {0x02,
                          static_cast<uint8_t>(h),
                          static_cast<uint8_t>(h >> 8),
                          static_cast<uint8_t>(h >> 16),
                          static_cast<uint8_t>(h >> 24),
                          static_cast<uint8_t>(h >> 32)};
}

// A gateway must be reached on the link; the default ones are dropped with the default addresses.
IoError CheckGateways(Settings* out) {
  HostConfig& host = out->host;
  for (int i = 0; i < host.route_count;) {
    bool on_link = host.routes[i].gateway.is_link_local();
    for (int j = 0; j < host.address_count; ++j) on_link |= host.addresses[j].Contains(host.routes[i].gateway);
    if (on_link) {
      ++i;
      continue;
    }
    if (out->Given(SettingId::kGateways)) {
      char text[64];
      FormatAddress(host.routes[i].gateway, text);
      return Fail(EINVAL, "gateways (USTCP_GATEWAY)", text, "is not on a link of the host; name one within addresses");
    }
    host.routes[i] = host.routes[--host.route_count];
  }
  return {};
}

}  // namespace

IoError LoadSettings(const char* const* environment, Settings* out) noexcept {
  *out = Settings{};
  if (StartedWithMoreRights()) environment = nullptr;
  for (const SettingInfo& info : kSettingTable) {
    if (*info.fallback == '\0') continue;
    if (IoError e = ApplySetting(info.id, info.fallback, info.key, out)) return e;
  }
  // The host's name decides which file is read, so its variable comes first.
  const char* host = FindVariable(environment, InfoOf(SettingId::kHost).env);
  if (host != nullptr && *host != '\0')
    if (IoError e = ApplySetting(SettingId::kHost, host, InfoOf(SettingId::kHost).env, out)) return e;
  if (IoError e = ReadConfiguration(environment, out)) return e;
  for (const SettingInfo& info : kSettingTable) {
    const char* value = FindVariable(environment, info.env);
    if (value == nullptr || *value == '\0') continue;  // set but empty: as if it were not set
    if (IoError e = ApplySetting(info.id, value, info.env, out)) return e;
    out->given |= 1u << static_cast<unsigned>(info.id);
  }
  if (!out->mac_given) DeriveMac(out);
  return CheckGateways(out);
}

void RuntimeDirectory(const Settings& settings, const char* const* environment, char (&out)[kMaxSettingPath]) noexcept {
  TextBuilder text(out);
  if (settings.runtime_dir[0] != '\0') {
    text << settings.runtime_dir;
    return;
  }
  uint32_t uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  if (StartedWithMoreRights()) environment = nullptr;
  const char* session = FindVariable(environment, "XDG_RUNTIME_DIR");
  if (uid == 0) {
    text << kRootDirectory;
  } else if (session != nullptr && *session == '/' && std::strlen(session) < 100) {
    text << session << "/ustcp";
  } else {
    text << "/tmp/ustcp-" << uid;
  }
}

void UserDirectory(uint32_t uid, char (&out)[kMaxSettingPath]) noexcept {
  TextBuilder(out) << kRootDirectory << "/" << uid;
}

}  // namespace ustcp
