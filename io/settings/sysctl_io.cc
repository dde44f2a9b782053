// Sysctls as text: lines of the configuration, `ustcp sysctl`, and /proc/sys/net.
#include <cerrno>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"
#include "io/settings/settings.h"
#include "stack/tcp/socket_options.h"

namespace ustcp {

namespace {

int32_t* FieldOf(const SysctlInfo& info, Sysctls* sysctls) {
  return reinterpret_cast<int32_t*>(reinterpret_cast<std::byte*>(sysctls) + info.offset);
}

// "net_ipv4" + "tcp_x" as the path the kernel has it under, with `separator`.
void WriteName(const SysctlInfo& info, char separator, TextBuilder& text) {
  for (const char* p = info.group; *p != '\0'; ++p) text << std::string_view(*p == '_' ? &separator : p, 1);
  text << std::string_view(&separator, 1) << info.name;
}

// The next number of a list separated by blanks.
bool NextNumber(std::string_view* rest, int64_t* out) {
  *rest = TrimText(*rest);
  size_t n = 0;
  while (n < rest->size() && (*rest)[n] != ' ' && (*rest)[n] != '\t' && (*rest)[n] != '\n') ++n;
  if (!ParseNumber(rest->substr(0, n), out)) return false;
  rest->remove_prefix(n);
  return true;
}

}  // namespace

const SysctlInfo* FindSysctl(std::string_view name) noexcept {
  for (const SysctlInfo& info : kSysctlTable) {
    char dotted[96];
    TextBuilder text(dotted);
    WriteName(info, '.', text);
    if (name.size() != text.size()) continue;
    bool same = true;
    for (size_t i = 0; i < name.size() && same; ++i) same = (name[i] == '/' ? '.' : name[i]) == dotted[i];
    if (same) return &info;
  }
  return nullptr;
}

bool ParseSysctl(const SysctlInfo& info, std::string_view text, Sysctls* out) noexcept {
  // A congestion control goes by its name everywhere else.
  int32_t* field = FieldOf(info, out);
  if (field == &out->tcp_congestion_control) {
    text = TrimText(text);
    if (CcKind kind; CcFromName(text, kind)) {
      *field = static_cast<int32_t>(kind);
      return true;
    }
  }
  int64_t values[3];
  for (int i = 0; i < info.count; ++i)
    if (!NextNumber(&text, &values[i]) || values[i] < info.min || values[i] > info.max) return false;
  if (!TrimText(text).empty()) return false;
  for (int i = 0; i < info.count; ++i) field[i] = static_cast<int32_t>(values[i]);
  return true;
}

void SeedSysctls(Sysctls* out, const std::array<uint64_t, 4>* given) noexcept {
  for (size_t row = 0; row < sizeof(kSysctlTable) / sizeof(kSysctlTable[0]); ++row) {
    const SysctlInfo& info = kSysctlTable[row];
    if (given != nullptr && ((*given)[row / 64] >> (row % 64) & 1) != 0) continue;
    int32_t* field = FieldOf(info, out);
    char path[128];
    TextBuilder text(path);
    if (field == &out->tcp_congestion_control) {
      text << "/proc/sys/net/ipv4/tcp_congestion_control";
    } else if (field == &out->hop_limit) {
      text << "/proc/sys/net/ipv6/conf/default/hop_limit";
    } else if (std::strcmp(info.group, "ustcp") == 0) {
      continue;
    } else {
      text << "/proc/sys/";
      WriteName(info, '/', text);
    }
    int fd = sys::Open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    char value[128];
    ssize_t n = sys::Read(fd, value, sizeof(value));
    sys::Close(fd);
    if (n <= 0) continue;
    while (n > 0 && value[n - 1] == '\n') --n;
    std::string_view rest(value, static_cast<size_t>(n));
    if (field == &out->tcp_congestion_control) {
      ParseSysctl(info, rest, out);  // one we do not have (bbr): ours stays
      continue;
    }
    int64_t number;
    for (int i = 0; i < info.count && NextNumber(&rest, &number); ++i) {
      if (number > info.max) number = info.max;
      if (number < info.min) number = info.min;
      field[i] = static_cast<int32_t>(number);
    }
  }
}

}  // namespace ustcp
