// Settings from file and environment: any bytes in either are a setting within its bounds or one line of text.
//
// An input is a file and, after a zero byte each, variables of the environment.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "io/settings/settings.h"

namespace {

using namespace ustcp;

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "settings: %s\n", what);
  std::abort();
}

// One file for all inputs, where nobody else could have put it.
class ConfigurationFile {
 public:
  ConfigurationFile() {
    fd_ = mkstemp(path_);
    Require(fd_ >= 0, "no temporary file");
  }
  ~ConfigurationFile() { unlink(path_); }
  ConfigurationFile(const ConfigurationFile&) = delete;
  ConfigurationFile& operator=(const ConfigurationFile&) = delete;
  const char* Write(const std::string& text) {
    Require(ftruncate(fd_, 0) == 0 && pwrite(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
            "no room for a temporary file");
    return path_;
  }

 private:
  char path_[32] = "/tmp/ustcp-fuzz-XXXXXX";
  int fd_;
};

template <size_t N>
bool Ends(const char (&text)[N]) {
  return std::memchr(text, 0, N) != nullptr;
}

void CheckError(const IoError& error) {
  Require(error.code == EINVAL || error.code == EACCES, "an error with another code");
  Require(Ends(error.message) && *error.message != '\0', "an error without a line");
  for (const char* c = error.message; *c != '\0'; ++c)
    Require(static_cast<unsigned char>(*c) >= ' ' && *c != '\x7f', "control characters in a line");
}

// What was set reads as it is, and can be set again as it reads.
void CheckSysctls(const Sysctls& sysctls) {
  for (const SysctlInfo& info : kSysctlTable) {
    char text[64];
    FormatSysctl(info, sysctls, text);
    Sysctls again;
    again.ip_unprivileged_port_start = 0;
    again.ip_local_port_range[0] = 65535;
    again.tcp_max_reordering = INT32_MAX;
    Require(!SetSysctl(info, text, "", &again), "a sysctl that does not take its own value");
    char same[64];
    FormatSysctl(info, again, same);
    Require(std::strcmp(text, same) == 0, "a sysctl that reads differently when set again");
  }
  PortRange ports = EphemeralPorts(sysctls);
  Require(ports.first != 0 && ports.first <= ports.last, "an empty range of ports");
}

void CheckSettings(const Settings& settings) {
  const HostConfig& host = settings.host;
  Require(Ends(host.name) && *host.name != '\0' && std::strchr(host.name, '/') == nullptr, "host name");
  Require(Ends(host.interface) && *host.interface != '\0', "interface name");
  Require(host.address_count > 0 && host.address_count <= kMaxHostAddresses, "number of addresses");
  Require(host.route_count >= 0 && host.route_count <= 2, "number of gateways");
  for (int i = 0; i < host.address_count; ++i)
    Require(host.addresses[i].length <= (host.addresses[i].address.is_v4() ? 32 : 128), "length of a prefix");
  Require((host.device.mac[0] & 1) == 0, "MAC address");
  Require(host.tick_us >= 200 && host.tick_us <= 100'000, "tick_us");
  Require(settings.arena_bytes >= uint64_t{256} << 20 && settings.arena_bytes % (2 << 20) == 0, "arena_size");
  Require(settings.kernel_destination_count >= 0 && settings.kernel_destination_count <= kMaxKernelDestinations,
          "number of destinations");
  Require(settings.allowed_user_count >= 0 && settings.allowed_user_count <= kMaxAllowedUsers, "number of users");
  Require(Ends(settings.keeper_path) && Ends(settings.keeper_log) && Ends(settings.capture_path) &&
              Ends(settings.runtime_dir) && Ends(settings.config_path),
          "a path without an end");
  CheckSysctls(settings.sysctls);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static ConfigurationFile file;
  const std::string input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> pieces;
  for (size_t at = 0; at <= input.size();) {
    size_t end = std::min(input.find('\0', at), input.size());
    pieces.push_back(input.substr(at, end - at));
    at = end + 1;
  }
  std::vector<std::string> variables = {std::string("USTCP_CONFIG=") + file.Write(pieces[0])};
  for (size_t i = 1; i < pieces.size(); ++i)
    if (!pieces[i].starts_with("USTCP_CONFIG")) variables.push_back(pieces[i]);
  std::vector<const char*> environment;
  for (const std::string& variable : variables) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  Settings settings;
  if (IoError error = LoadSettings(environment.data(), &settings)) {
    CheckError(error);
  } else {
    CheckSettings(settings);
  }
  return 0;
}
