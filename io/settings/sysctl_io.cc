// Sysctls as text: lines of the configuration, `ustcp sysctl`, and /proc/sys/net.
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"
#include "io/settings/settings.h"
#include "stack/tcp/cc/kind.h"

namespace ustcp {

namespace {

// The stored words, as they are: what a member put there past every check is not in bounds.
uint32_t WordOf(const SysctlInfo& info, const Sysctls& sysctls, int i) {
  uint32_t word;
  std::memcpy(&word, reinterpret_cast<const std::byte*>(&sysctls) + info.offset + sizeof(word) * static_cast<size_t>(i),
              sizeof(word));
  return word;
}

void StoreWord(const SysctlInfo& info, Sysctls* sysctls, int i, int64_t value) {
  auto* words = reinterpret_cast<uint32_t*>(reinterpret_cast<std::byte*>(sysctls) + info.offset);
  __atomic_store_n(words + i, static_cast<uint32_t>(value), __ATOMIC_RELAXED);
}

int64_t ValueOf(const SysctlInfo& info, uint32_t word) {
  return info.max > INT32_MAX ? int64_t{word} : int64_t{static_cast<int32_t>(word)};
}

template <typename Field>
bool Is(const SysctlInfo& info, Field Sysctls::*field) {
  static const Sysctls kAny;
  return &reinterpret_cast<const std::byte&>(kAny) + info.offset == &reinterpret_cast<const std::byte&>(kAny.*field);
}

// "net_ipv4" + "tcp_x" as the path the kernel has it under, with `separator`.
void WriteName(const SysctlInfo& info, char separator, TextBuilder& text) {
  for (const char* p = info.group; *p != '\0'; ++p) text << std::string_view(*p == '_' ? &separator : p, 1);
  text << std::string_view(&separator, 1) << info.name;
}

bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Rows that the kernel keeps in a byte or an unsigned number refuse a sign, that of -0 too.
bool IsUnsigned(const SysctlInfo& info) { return (info.min >= 0 && info.max <= 255) || info.max > INT32_MAX; }

// The next number of a list, as proc_dointvec reads it: blanks before it, a minus sign, 0x or 0 for another base, at most 20
// characters, and a blank, tab or newline after it.
bool NextNumber(const SysctlInfo& info, std::string_view* rest, int64_t* out) {
  constexpr size_t kTooLong = 21;
  while (!rest->empty() && IsBlank(rest->front())) rest->remove_prefix(1);
  size_t length = rest->find_first_of(" \t\n");
  std::string_view text = rest->substr(0, length);
  rest->remove_prefix(text.size());
  if (text.size() >= kTooLong) return false;
  bool negative = text.starts_with('-');
  if (negative && IsUnsigned(info)) return false;
  if (negative) text.remove_prefix(1);
  int64_t base = 10;
  if (text.size() > 2 && (text.starts_with("0x") || text.starts_with("0X"))) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  if (text.empty()) return false;
  int64_t n = 0;
  for (char c : text) {
    int64_t digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 16;
    if (digit >= base || __builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n)) return false;
  }
  *out = negative ? -n : n;
  return true;
}

IoError Refuse(const SysctlInfo& info, const char* where, std::string_view text, const char* why, int64_t bound) {
  IoError error;
  error.code = EINVAL;
  TextBuilder line(error.message);
  if (*where != '\0') line << where << ": ";
  line.Quote(text) << " does not fit ";
  WriteName(info, '.', line);
  line << ": " << why;
  if (bound >= 0) line << " (" << bound << ")";
  return error;
}

// Rules that join several sysctls, as the kernel checks them before it takes a new value.
IoError CheckTogether(const SysctlInfo& info, const char* where, std::string_view text, const int64_t* values,
                      const Sysctls& now) {
  if (Is(info, &Sysctls::ip_local_port_range)) {
    if (values[0] > values[1]) return Refuse(info, where, text, "write the lower port first", -1);
    if (values[0] < now.ip_unprivileged_port_start)
      return Refuse(info, where, text, "begin at ip_unprivileged_port_start", now.ip_unprivileged_port_start);
  }
  if (Is(info, &Sysctls::ip_unprivileged_port_start) && values[0] > now.ip_local_port_range[0])
    return Refuse(info, where, text, "at most where ip_local_port_range begins", now.ip_local_port_range[0]);
  if (Is(info, &Sysctls::tcp_reordering) && values[0] > now.tcp_max_reordering)
    return Refuse(info, where, text, "at most tcp_max_reordering", now.tcp_max_reordering);
  return {};
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

IoError SetSysctl(const SysctlInfo& info, std::string_view text, const char* where, Sysctls* out) noexcept {
  if (Is(info, &Sysctls::tcp_congestion_control)) {
    text = TrimText(text);
    if (CcKind kind; CcFromName(text, kind)) {
      StoreWord(info, out, 0, static_cast<int64_t>(kind));
      return {};
    }
    return Refuse(info, where, text, "write reno or cubic", -1);
  }
  int64_t values[3];
  std::string_view rest = text;
  for (int i = 0; i < info.count; ++i) {
    // As in the kernel: fewer numbers than there are leave the others alone, further ones are not looked at.
    if (i != 0 && TrimText(rest).find_first_not_of('\n') == std::string_view::npos) {
      values[i] = ValueOf(info, WordOf(info, *out, i));
      continue;
    }
    if (!NextNumber(info, &rest, &values[i]) || values[i] < info.min || values[i] > info.max) {
      char why[96];
      TextBuilder(why) << "write " << info.count << " number(s) in " << info.min << ".." << info.max;
      return Refuse(info, where, text, why, -1);
    }
  }
  if (IoError error = CheckTogether(info, where, text, values, *out)) return error;
  for (int i = 0; i < info.count; ++i) StoreWord(info, out, i, values[i]);
  return {};
}

void FormatSysctl(const SysctlInfo& info, const Sysctls& sysctls, char (&out)[64]) noexcept {
  TextBuilder text(out);
  if (Is(info, &Sysctls::tcp_congestion_control)) {
    text << CcName(static_cast<CcKind>(static_cast<int32_t>(sysctls.tcp_congestion_control)));
    return;
  }
  for (int i = 0; i < info.count; ++i) text << (i != 0 ? "\t" : "") << ValueOf(info, WordOf(info, sysctls, i));
}

void SeedSysctls(Sysctls* out, const std::array<uint64_t, 4>* given) noexcept {
  for (size_t row = 0; row < sizeof(kSysctlTable) / sizeof(kSysctlTable[0]); ++row) {
    const SysctlInfo& info = kSysctlTable[row];
    if (given != nullptr && ((*given)[row / 64] >> (row % 64) & 1) != 0) continue;
    char path[128];
    TextBuilder text(path);
    if (Is(info, &Sysctls::hop_limit)) {
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
    if (Is(info, &Sysctls::tcp_congestion_control)) {
      (void)SetSysctl(info, rest, "", out);  // one we do not have (bbr): ours stays
      continue;
    }
    int64_t number;
    for (int i = 0; i < info.count && NextNumber(info, &rest, &number); ++i)
      StoreWord(info, out, i, number > info.max ? info.max : number < info.min ? info.min : number);
  }
}

}  // namespace ustcp
